"""Each wrong version of the plant is found by the simulator within fifty seeds."""

import pytest
from tests.testing.mutants import MUTANTS, ROOT, hunt, mutated

SEEDS_MOST = 50


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_each_mutant_still_applies(mutant):
    assert mutant.new in mutated(mutant)


@pytest.mark.proof
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_each_mutant_is_found(mutant):
    found = hunt(mutant, ROOT / "target" / "mutants", SEEDS_MOST)
    assert found is not None, mutant.name
    print(f"{mutant.name}: seed {found[0]}, {', '.join(found[1])}")

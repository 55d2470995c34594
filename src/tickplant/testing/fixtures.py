"""pytest fixtures: `pytest_plugins = ["tickplant.testing.fixtures"]` in your conftest.py."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Protocol

import pytest

from tickplant.testing.world import World, world


class MakeWorld(Protocol):
    """Makes worlds that live as long as the test; the arguments are those of `tickplant.testing.world`."""

    def __call__(self, *, seed: int = 0, **options: Any) -> World: ...


@pytest.fixture
def sim_world() -> Iterator[MakeWorld]:
    """Worlds in virtual time for one test: `sim_world(seed=7, faults="flaky", venues=["kraken"])`.

    After a test that went well each world is settled, closed and proven: what does not hold fails the test, and the
    message names it. Close a world yourself (`settle()`, `close()`) where you want to look at its end.
    """
    with contextlib.ExitStack() as stack:
        made: list[World] = []

        def make(*, seed: int = 0, **options: Any) -> World:
            made.append(stack.enter_context(world(seed=seed, **options)))
            return made[-1]

        yield make
        for simulated in made:
            if not simulated.closed:
                simulated.settle()
                simulated.close()
            if simulated.violations:
                pytest.fail("\n".join(str(violation) for violation in simulated.violations[:10]), pytrace=False)

"""A power cut leaves what was there: where it does not, the check says so."""

import pytest

from tickplant.records import Kind
from tickplant.testing import world

LIES = {
    "none": ([], []),
    "a record more": ([(Kind.TRADE, 0, bytes(64))], ["what a power cut left is not what was there"]),
    "a mark more": ([(Kind.CUT, 0, bytes(64))], ["a power cut left 1 marks, and there were 1"]),
}


@pytest.mark.parametrize(("lie", "told"), LIES.values(), ids=LIES)
def test_what_a_power_cut_left_is_compared(lie, told):
    with world(seed=4, venues=["kraken"]) as cut:
        cut.run(20)
        station = cut.stations[0]
        assert "bytes of records" in station.lose_power()
        station._power_cut._before[:0] = lie
        station.start()
        cut.run(20)
        cut.settle()
        cut.close()
        assert [violation.what for violation in cut.violations] == told

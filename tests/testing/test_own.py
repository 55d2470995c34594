"""A user's own venue in the simulated world: the example holds, and what its numbers tell is heeded."""

import pytest

from tickplant.errors import ConfigError
from tickplant.records import Reason
from tickplant.sim import build_venue
from tickplant.testing import simulate, world

OWN = "examples.own_venue:PitExchange"


def test_a_lost_message_makes_every_book_of_its_connection_suspect():
    with world(seed=3, venues=[OWN]) as hurt:
        hurt.run(20)
        hurt.inject("drop", "pit")
        hurt.run(20)
        hurt.settle()
        hurt.close()
        assert hurt.violations == []
        gaps = [gap for batch in hurt.log.records(schema="gap") for gap in batch if gap.cause == Reason.SEQUENCE_GAP]
        assert [gap.instrument for gap in gaps] == ["BTC/USD.PIT", "ETH/USD.PIT"]
        assert len({(gap.sequence, gap.last) for gap in gaps}) == 1


def test_a_seed_is_one_run_and_names_the_class():
    first, second = (simulate(5, venues=[OWN], minutes=1) for _ in range(2))
    assert first == second
    assert first.fired
    assert f"--venues {OWN} " in first.command


@pytest.mark.parametrize("name", ["no.such:Venue", "examples.own_venue:Nothing", "examples.own_venue:Pit"])
def test_a_class_that_is_no_venue_is_refused(name):
    with pytest.raises(ConfigError, match=name):
        build_venue(name, seed=1, start_ns=0)

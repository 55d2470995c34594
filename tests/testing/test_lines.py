"""Redundant lines in a simulated world: one line's death costs nothing, storms hurt no more than without, and
connections make place for new ones before the venue ends them."""

import pytest

from tickplant.records import BookState
from tickplant.sim.presets import VENUES
from tickplant.testing import simulate, world
from tickplant.testing.reports.report import report_text


class Watch:
    """Counts the moves of books out of LIVE, for the rest of the world's life."""

    def __init__(self, watched):
        self.left = []
        for station in watched.stations:
            for checked in station.checked.values():
                assert checked.state == BookState.LIVE, checked.name
            self._wrap(station.checker)

    def _wrap(self, checker):
        before = {id_: checked.since_ns for id_, checked in checker.instruments.items()}
        take = checker.take

        def watching(now_ns, records, meaning):
            take(now_ns, records, meaning)
            for id_, checked in checker.instruments.items():
                if checked.since_ns != before[id_]:
                    before[id_] = checked.since_ns
                    self.left.append((now_ns, checked.name, BookState(checked.state).name))

        checker.take = watching


LONG = pytest.mark.proof


@pytest.mark.parametrize(("seed", "minutes"), [(1, 4), *(pytest.param(seed, 30, marks=LONG) for seed in range(2, 12))])
def test_one_dead_line_costs_nothing(seed, minutes):
    with world(seed=seed, faults="one-line-dead") as hurt:
        hurt.run(20)
        watch = Watch(hurt)
        hurt.run(60 * minutes)
        hurt.settle()
        hurt.close()
        assert {fired.name for fired in hurt.fired} == {"line_dead"}
        assert len(hurt.fired) > 2
        assert hurt.violations == []
        assert watch.left == []
        assert [station.checker.counts["gaps"] for station in hurt.stations] == [0] * len(VENUES)


@pytest.mark.parametrize(
    ("faults", "seed", "minutes"),
    [("storm", 4, 2)]
    + [pytest.param(faults, seed, 30, marks=LONG) for faults in ("flaky", "storm") for seed in range(5, 15)],
)
def test_faults_on_two_lines_violate_nothing(faults, seed, minutes):
    report = simulate(seed, faults=faults, minutes=minutes, lines=2)
    assert report.violations == [], report_text(report)
    assert report.counts["book_messages"] > 1000 * minutes


@pytest.mark.parametrize("lines", [1, 2])
def test_cuts_of_age_and_announced_ones_cost_nothing(lines):
    """Connections are replaced each minute and the venue cuts those that are older, and those that it warned."""
    venues = ["binance", "binance_usdm"]
    with world(seed=5, venues=venues, lines=lines, rotate_every_s=60) as turned:
        turned.run(20)
        watch = Watch(turned)
        for fault in ("day_cut", "maintenance", "day_cut"):
            for venue in venues:
                turned.inject(fault, venue)
            turned.run(70)
        turned.settle()
        turned.close()
        assert [fired.name for fired in turned.fired] == ["day_cut"] * 2 + ["maintenance"] * 2 + ["day_cut"] * 2
        assert turned.violations == []
        assert watch.left == []
        assert [station.checker.counts["gaps"] for station in turned.stations] == [0, 0]
        assert all(station.attempts > 3 * lines for station in turned.stations)


def test_a_single_line_is_hurt_by_what_two_survive():
    """The watch sees something: the same cut on one line is a gap."""
    with world(seed=5, venues=["binance"], lines=1, rotate_every_s=0) as cut:
        cut.run(20)
        watch = Watch(cut)
        cut.inject("day_cut", "binance")
        cut.run(100)
        assert watch.left

"""A world in virtual time: the same seed is the same run, calm ones are clean, and the checkers see what is wrong."""

import dataclasses

import pytest

from tickplant.clock import SECOND_NS
from tickplant.errors import ConfigError
from tickplant.sim.presets import VENUES
from tickplant.testing import FAULTS, PRESETS, load_faults, simulate, world
from tickplant.testing.faults import check_faults
from tickplant.testing.reports.report import report_text
from tickplant.testing.reports.shrink import shrink


@pytest.mark.parametrize("faults", ["calm", "storm"])
def test_a_seed_is_one_run(faults):
    first, second = (simulate(5, faults=faults, minutes=2) for _ in range(2))
    assert first == second
    assert first.counts["book_messages"] > 1000
    assert first.counts["trades"] > 500
    other = simulate(6, faults=faults, minutes=2)
    assert other.hash != first.hash


def test_a_calm_world_is_clean_and_every_book_is_compared():
    with world(seed=1) as calm:
        calm.run(60)
        calm.settle()
        for station in calm.stations:
            assert all(checked.messages > 100 for checked in station.checked.values()), station.lane
        calm.close()
        assert calm.violations == []
        assert calm.fired == []


@pytest.mark.parametrize("venue", VENUES)
def test_a_book_that_differs_in_one_level_is_seen(venue):
    with world(seed=2, venues=[venue]) as lied_to:
        lied_to.run(20)
        checked = next(iter(lied_to.stations[0].checked.values()))
        key = min(checked.held)
        checked.held[key] += 1
        checked.set_level(ord("M"), ord("A" if key[0] else "B"), key[1], checked.held[key])
        lied_to.run(20)
        assert {violation.rule for violation in lied_to.violations} == {"books"}


def test_a_lost_or_repeated_trade_is_seen():
    with world(seed=2, venues=["kraken"]) as lied_to:
        lied_to.run(60)
        checked = next(iter(lied_to.stations[0].checked.values()))
        middle = sorted(checked.trades)[len(checked.trades) // 2]
        checked.trades.remove(middle)
        checked.trades.add(checked.trade_last + 1)
        lied_to.settle()
        told = " ".join(violation.what for violation in lied_to.violations)
        assert str(middle) in told
        assert "twice" in told


def test_a_subscription_that_is_not_there_is_seen():
    with world(seed=2, venues=["binance"]) as lied_to:
        lied_to.run(20)
        station = lied_to.stations[0]
        wire = next(iter(station.by_number.values()))
        key = station.venue.subscriptions(wire.number)[1]
        station.venue._subscribers.remove(key, wire.number)
        # At once: a stream that falls silent is soon subscribed anew.
        station.at_rest()
        assert "intended" in {violation.rule for violation in lied_to.violations}


def test_faults_are_named_in_files_and_mistakes_are_told(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('[faults]\npreset = "flaky"\ndrop = 0.5\n')
    assert load_faults(str(path)) == {**PRESETS["flaky"], "drop": 0.5}
    assert load_faults("preset=flaky, drop=0.5") == {**PRESETS["flaky"], "drop": 0.5}
    for text in ("dorp=0.1", "drop=2", "drop=often", "drop=0.1,"):
        with pytest.raises(ConfigError, match="--faults"):
            load_faults(text)
    for table, what in [({"dorp": 0.1}, "dorp"), ({"drop": 2}, "drop"), ({"preset": "gale"}, "gale")]:
        with pytest.raises(ConfigError, match=what):
            check_faults(table)
    with pytest.raises(ConfigError, match="nowhere"):
        load_faults("nowhere")
    assert all(name in {fault.name for fault in FAULTS} for preset in PRESETS.values() for name in preset)


def test_a_failing_seed_is_shrunk_to_the_faults_that_it_takes():
    asked = []

    def fails(names):
        asked.append(names)
        return {"b", "e"} <= set(names)

    assert shrink(list("abcdefgh"), fails) == ["b", "e"]
    assert len(asked) < 20
    assert shrink(["x"], lambda names: True) == []


def test_faults_that_are_left_out_do_not_fire():
    faults = dict.fromkeys(("truncate", "rst", "drop", "delay"), 0.01)
    some = simulate(5, minutes=1, venues=["kraken"], faults=faults, only=["truncate", "rst"], lines=2)
    assert set(some.histogram) <= {"truncate", "rst"}
    assert some.fired
    assert some.command.endswith("--lines 2 --only rst,truncate")


def test_a_clock_that_is_set_while_the_plant_is_down_wakes_nobody():
    with world(seed=3, venues=["kraken"]) as hurt:
        (station,) = hurt.stations
        hurt.run(10)
        station.kill()
        station.set_clock(SECOND_NS)
        hurt.run(30)
        station.start()
        hurt.run(30)
        hurt.settle()
        hurt.close()
        assert hurt.violations == []


def test_a_report_names_the_command_that_plays_it_again():
    with world(seed=3, venues=["kraken"]) as broken:
        broken.run(5)
        broken.stations[0].checker.say(broken.now_ns, "books", 1, "made up")
        violations = broken.violations
    report = dataclasses.replace(simulate(3, faults="calm", minutes=0.1, venues=["kraken"]), violations=violations)
    assert "again: tickplant sim --seed 3 --faults calm" in report_text(report)
    assert "VIOLATION 14:13:25.000 books: BTC/USD.KRAKEN: made up" in report_text(report)


def test_trades_that_were_missed_are_fetched_until_none_is_missing():
    """After dead connections and a restart of the plant no id is missing in the end, though each hole was told."""
    with world(seed=4) as hurt:
        hurt.run(20)
        for fault in ("half_open", "restart"):
            for station in hurt.stations:
                hurt.inject(fault, station.venue.name)
            hurt.run(70)
        hurt.settle()
        hurt.close()
        assert hurt.violations == []
        for station in hurt.stations:
            assert station.checker.counts["trades_backfilled"] > 0, station.lane
            for checked in station.checked.values():
                assert checked.trades == set(range(checked.trade_first, checked.trade_last + 1)), checked.name


def test_a_trade_that_was_fetched_wrongly_is_seen():
    with world(seed=4, venues=["binance"]) as lied_to:
        lied_to.run(20)
        station = lied_to.stations[0]
        id_, checked = next(iter(station.checked.items()))
        first, *_, last = sorted(checked.trades)
        instrument, truth = checked.listing.instrument, checked.truth.trades
        trade = truth[last]
        printed = (trade.price, instrument.price_scale), (trade.size * 10, instrument.size_scale + 1)
        assert checked.is_as_traded(last, *printed)
        assert not checked.is_as_traded(last, (1, 0), printed[1])
        assert not checked.is_as_traded(first - 1, *printed)
        checked.gaps.append((first - 9, first - 5))
        for number in (first - 7, first - 8, last):
            station.checker._fill(lied_to.now_ns, id_, checked, number)
        told = [violation.what for violation in lied_to.violations]
        assert told == [
            f"trade {first - 8} was fetched after {first - 7}",
            f"trade {last} was fetched and nothing said that it was missing",
        ]

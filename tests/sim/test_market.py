"""The market: the same seed gives the same steps, ids have no holes, and the past can be had."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tickplant.clock import SECOND_NS
from tickplant.sim.market import Market, Step
from tickplant.sim.matching import ASK, BID
from tickplant.sim.presets import MOST_INSTRUMENTS, VENUES, instruments


def market(seed: int = 7, **settings: int) -> Market:
    return Market(instruments("kraken", 3), seed, rate=2000, **settings)


def test_the_seed_decides_everything_and_the_turns_nothing() -> None:
    once = market().advance(2 * SECOND_NS)
    many = market()
    pieces: list[Step] = []
    for until in range(0, 2 * SECOND_NS + 1, 37_000_000):
        pieces += many.advance(until)
    pieces += many.advance(2 * SECOND_NS)
    assert pieces == once
    assert market(8).advance(2 * SECOND_NS) != once


def test_rate_bursts_trades_and_an_uncrossed_book() -> None:
    subject = market()
    steps = subject.advance(30 * SECOND_NS)
    assert 0.85 < len(steps) / 60_000 < 1.15
    assert all(a.time_ns < b.time_ns for a, b in pairwise(steps))
    distances = sorted(b.time_ns - a.time_ns for a, b in pairwise(steps))
    assert distances[len(distances) // 10] * 10 < sum(distances) / len(distances), "bursts make many short distances"
    assert sum(bool(step.trades) for step in steps) > 3000
    for listing in subject.listings:
        bid, ask = listing.book.best(BID), listing.book.best(ASK)
        assert bid is not None
        assert ask is not None
        assert bid < ask
        assert listing.book.depth(BID) > 20 < listing.book.depth(ASK)


@pytest.mark.parametrize("shared", [False, True])
def test_ids_have_no_holes(shared: bool) -> None:
    subject = market(shared_ids=shared)
    last_update = {i: listing.update_id for i, listing in enumerate(subject.listings)}
    last_trade = {i: listing.trade_id for i, listing in enumerate(subject.listings)}
    shared_id = max(last_update.values())
    for step in subject.advance(3 * SECOND_NS):
        if step.changes:
            assert step.first_id == (shared_id if shared else last_update[step.instrument]) + 1
            assert step.last_id == step.first_id + len(step.changes) - 1
        else:
            assert step.first_id == step.last_id == last_update[step.instrument]
        shared_id = max(shared_id, step.last_id)
        last_update[step.instrument] = step.last_id
        for trade in step.trades:
            assert trade.id == last_trade[step.instrument] + 1
            last_trade[step.instrument] = trade.id


def test_the_past_is_exact_and_says_where_it_ends() -> None:
    subject = market(history=500)
    listing = subject.listings[0]
    seen = {}
    for step in subject.steps(2 * SECOND_NS):
        if step.instrument == 0:
            seen[step.last_id] = (listing.book.levels(BID), listing.book.levels(ASK))
    kept = [update_id for update_id in seen if update_id > listing.update_id - 400]
    assert len(kept) > 100
    for update_id in kept:
        assert listing.levels_at(update_id) == seen[update_id]
    with pytest.raises(LookupError, match="too old"):
        listing.levels_at(listing.update_id - 501)
    with pytest.raises(LookupError, match="not come yet"):
        listing.levels_at(listing.update_id + 1)


def test_a_market_that_stands_still_goes_on_where_it_was() -> None:
    subject = market()
    subject.advance(SECOND_NS)
    due = subject.next_ns - SECOND_NS
    subject.running = False
    assert subject.advance(5 * SECOND_NS) == []
    subject.running = True
    assert subject.next_ns == 5 * SECOND_NS + due


@pytest.mark.parametrize("venue", VENUES)
def test_presets_are_distinct_and_tradable(venue: str) -> None:
    listed = instruments(venue, MOST_INSTRUMENTS)
    assert len({instrument.symbol for instrument in listed}) == MOST_INSTRUMENTS >= 50
    assert all(instrument.price >= 5000 and instrument.lot >= 1 for instrument in listed)
    Market(listed, 1, rate=5000).advance(SECOND_NS)
    with pytest.raises(ValueError, match="can be had"):
        instruments(venue, 0)

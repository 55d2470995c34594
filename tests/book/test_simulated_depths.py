"""Books of the simulated Kraken at every depth that it serves: each message's checksum holds."""

import json

import pytest

from tickplant import _native
from tickplant.cli.imports import import_plan
from tickplant.clock import MILLISECOND_NS, SECOND_NS
from tickplant.sim import build_venue
from tickplant.venues.settings import VenueSettings
from tickplant.venues.table import VENUES

START_NS = 1_800_000_000 * SECOND_NS
STEP_NS = 100 * MILLISECOND_NS
DEPTHS = (10, 25, 100, 500, 1000)


def run(messages: int) -> dict[int, tuple[int, int]]:
    """Checksums passed and failed by depth, after so many messages over all depths of one market."""
    venue = build_venue("kraken", seed=11, start_ns=START_NS, rate=4000, instrument_count=2, depth=1200)
    feeds = {}
    for depth in DEPTHS:
        settings = VenueSettings(depth=depth, streams=["book"])
        plan = import_plan(VENUES["KRAKEN"], {symbol: at for at, symbol in enumerate(venue.symbols, 1)}, settings)
        feeds[depth] = _native.BookFeed(json.dumps(plan).encode())
        params = {"channel": "book", "depth": depth, "symbol": venue.symbols}
        said = venue.connect(depth, START_NS, "/v2")
        said += venue.receive(depth, json.dumps({"method": "subscribe", "params": params}), START_NS)
        feeds[depth].feed([str(text).encode() for text in said])
    now, taken = START_NS, 0
    while taken < messages:
        now += STEP_NS
        batches: dict[int, list[bytes]] = {depth: [] for depth in DEPTHS}
        for depth, message in venue.advance(now):
            batches[depth].append(str(message).encode())
        for depth, frames in batches.items():
            feeds[depth].feed(frames)
            taken += len(frames)
    return {depth: feed.proofs() for depth, feed in feeds.items()}


def check(messages: int) -> None:
    proofs = run(messages)
    assert all(failed == 0 for _, failed in proofs.values()), proofs
    # A deeper window sees more of the same market.
    passed = [proofs[depth][0] for depth in DEPTHS]
    assert passed == sorted(passed), proofs
    assert sum(passed) > 0.95 * messages, proofs


def test_a_hundred_thousand_checksums_hold():
    check(100_000)


@pytest.mark.proof
def test_a_million_checksums_hold():
    check(1_000_000)

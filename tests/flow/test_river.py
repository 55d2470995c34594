"""Real sockets, real protocols, all four venues: books equal the venues' own; the journal gives the same records."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path

import pytest
from tests.conftest import WITHIN_S

from tickplant import BookState, ConnectionState, Log, Plant, Status, Subject, _native
from tickplant.venues.base import venue_code

from .conftest import VENUES, all_live, exact, rows, settings_for, simulated, until


async def equal_books(server, plant: Plant) -> None:
    """Stops the markets; every book of the log must then come to be the venue's own."""
    server.running(False)
    for name in server.addresses:
        for symbol in server.venue(name).symbols:
            await until(lambda name=name, symbol=symbol: is_equal(server, plant, name, symbol))


def is_equal(server, plant: Plant, name: str, symbol: str) -> bool:
    """Whether a book is live and, as deep as it goes, the one that its venue published last."""
    book, venue = plant.log.book(f"{symbol}.{venue_code(name)}"), server.venue(name)
    bids, asks = venue.book(symbol, venue.published(symbol))
    depth = 10 if name == "kraken" else max(len(book.bids), len(book.asks), 1)
    return (
        book.state.name == "LIVE"
        and exact(book.bids) == exact(bids[:depth])[: len(book.bids)]
        and exact(book.asks) == exact(asks[:depth])[: len(book.asks)]
        and len(book.bids) >= min(10, len(bids))
    )


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_all_venues_give_the_venues_own_books(tmp_path: Path, tls: bool) -> None:
    async with simulated(VENUES, tls=tls) as server, Plant(settings_for(server, VENUES, tmp_path)) as plant:
        summary = await until(lambda: all_live(plant, 8))
        await equal_books(server, plant)
        for name, row in rows(summary).items():
            assert (row["gaps"], row["resyncs"], row["checksums_failed"]) == (0, 0, 0), name
            if name.endswith("KRAKEN"):
                assert row["checksums_passed"] > 0
                assert row["checksums_absent"] == 0
    for lane in VENUES:
        found = json.loads(_native.rebuild(str(tmp_path), lane))
        assert found["first_difference"] is None, lane
        assert found["same"] > 100


async def test_kraken_v1_gives_the_same_books_proven_by_checksums(tmp_path: Path) -> None:
    """Instruments keep their names while the wire says XBT; only snapshots come without a checksum."""
    async with simulated(["kraken"], rate=400) as server:
        url = server.addresses["kraken"].websocket.removesuffix("/v2") + "/"
        flags = {"venue__kraken__protocol": "v1", "venue__kraken__url": url}
        async with Plant(settings_for(server, ["kraken"], tmp_path, **flags)) as plant:
            await until(lambda: all_live(plant, 2, messages=300))
            await equal_books(server, plant)
            summary = await plant.summary()
    assert set(rows(summary)) == {f"{symbol}.KRAKEN" for symbol in server.venue("kraken").symbols}
    for row in rows(summary).values():
        assert (row["gaps"], row["resyncs"], row["checksums_failed"], row["checksums_absent"]) == (0, 0, 0, 1)
        assert row["checksums_passed"] > 100
        assert row["trades"] > 0
    quotes = [record for batch in Log.open(tmp_path).records(schema="ticker") for record in batch]
    assert len(quotes) > 10
    assert json.loads(_native.rebuild(str(tmp_path), "kraken"))["first_difference"] is None


async def test_every_venue_defines_its_instruments(tmp_path: Path) -> None:
    async with simulated(VENUES) as server, Plant(settings_for(server, VENUES, tmp_path)) as plant:

        def definitions(name: str) -> list:
            return [record for batch in plant.log.records(name, schema="definition") for record in batch]

        for code in VENUES:
            for symbol in server.venue(code).symbols:
                name = f"{symbol}.{venue_code(code)}"
                [record] = await until(lambda name=name: definitions(name))
                assert record.tick > 0, name
                assert record.aux == 1, "the venue trades it"
        await until(lambda: all_live(plant, 8))


async def test_dropped_connections_heal(tmp_path: Path) -> None:
    async with simulated(VENUES) as server:
        flags = {f"venue__{name}__backoff_first_s": 0.05 for name in VENUES}
        async with Plant(settings_for(server, VENUES, tmp_path, **flags)) as plant:
            await until(lambda: all_live(plant, 8))
            for name in VENUES:
                assert server.drop_connections(name) == 1
            await until(lambda: closed(plant.log) == {"PEER_CLOSED": len(VENUES)})
            await until(lambda: all_live(plant, 8, messages=60))
            await equal_books(server, plant)


def closed(log: Log) -> dict[str, int]:
    """Why connections were lost, and how often."""
    records = [record for batch in log.records(schema="status") for record in batch]
    return Counter(
        record.reason.name
        for record in records
        if record.subject is Subject.CONNECTION
        and record.previous is ConnectionState.LIVE
        and record.current is ConnectionState.WAITING
    )


async def test_shares_of_a_venue_hold_the_same_books(tmp_path: Path) -> None:
    options = {"instrument_count": 8}
    async with simulated(["kraken"], **options) as server:
        settings = settings_for(server, ["kraken"], tmp_path, venue__kraken__loops=4)
        async with Plant(settings) as plant:
            await until(lambda: all_live(plant, 8))
            assert server.connections("kraken") == len(plant.log.lanes()) > 1
            await equal_books(server, plant)


async def test_subscriptions_change_at_run_time(tmp_path: Path) -> None:
    async with simulated(["kraken"], instrument_count=4) as server:
        settings = settings_for(server, ["kraken"], tmp_path, venue__kraken__instruments=["BTC/USD"])
        async with Plant(settings) as plant:
            await until(lambda: all_live(plant, 1))
            plant.subscribe("ETH/USD.KRAKEN", "SOL/USD.KRAKEN")
            await until(lambda: all_live(plant, 3))
            plant.unsubscribe("ETH/USD.KRAKEN")

            async def left() -> bool:
                return rows(await plant.summary())["ETH/USD.KRAKEN"]["state"] == "CLOSED"

            await until(left)
            assert (await all_live(plant, 2)) is not None


async def test_one_unknown_symbol_leaves_the_others_alone(tmp_path: Path) -> None:
    async with simulated(VENUES) as server:
        flags = {
            f"venue__{name}__instruments": [*server.venue(name).symbols, unknown]
            for name, unknown in zip(VENUES, ["NO/SUCH", "NOSUCH", "NOSUCH", "NO-SUCH"], strict=True)
        }
        async with Plant(settings_for(server, VENUES, tmp_path, **flags)) as plant:
            await until(lambda: all_live(plant, 8))
            refused = {row["instrument"] for row in (await plant.summary())["instruments"] if row["state"] != "LIVE"}
            assert refused == {"NO/SUCH.KRAKEN", "NOSUCH.BINANCE", "NOSUCH.BINANCE_USDM", "NO-SUCH.COINBASE"}


async def test_records_and_callbacks_follow_live(tmp_path: Path) -> None:
    async with simulated(["kraken"]) as server, Plant(settings_for(server, ["kraken"], tmp_path)) as plant:
        seen: list[int] = []
        plant.on_records(lambda batch: seen.append(len(batch)), schema="trades")
        states: list[Status] = []
        plant.on_status(states.append, "BTC/USD.KRAKEN")
        rows_seen = 0
        async for batch in plant.records("BTC/USD.KRAKEN", schema="mbp-10"):
            rows_seen += len(batch)
            if rows_seen > 20:
                break
        await until(lambda: sum(seen) > 5)
        await until(lambda: BookState.LIVE in [state.current for state in states if state.subject is Subject.BOOK])
        assert {state.instrument for state in states} == {"BTC/USD.KRAKEN"}


async def test_a_callback_that_raises_ends_the_plant(tmp_path: Path) -> None:
    def fail(batch: object) -> None:
        raise ValueError("no")

    async with simulated(["kraken"]) as server, Plant(settings_for(server, ["kraken"], tmp_path)) as plant:
        plant.on_records(fail, schema="trades")
        with pytest.raises(Exception, match="a callback raised ValueError: no"):
            await asyncio.wait_for(plant.wait(), WITHIN_S)

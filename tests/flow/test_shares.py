"""A venue in shares: four loops, or two processes, give what one loop gives."""

from __future__ import annotations

import asyncio
import contextlib
import json
from asyncio.subprocess import Process
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from tickplant import Log, Plant, _native
from tickplant.log import Log as LogType
from tickplant.plant.control import send_command
from tickplant.records import F_LAST, Action, Level, Trade

from .conftest import all_live, exact, process, rows, settings_for, simulated, until

INSTRUMENTS = 8

SHARE = """
import asyncio, sys
import msgspec
from tickplant import Plant, config
from tickplant.plant.river import Only

async def main() -> None:
    settings = config.load(flags=msgspec.json.decode(sys.argv[1]))
    async with Plant(settings, only=Only(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))) as plant:
        await plant.wait()

asyncio.run(main())
"""


def trades(log: LogType, name: str) -> dict[int, tuple[Any, ...]]:
    """An instrument's trades by their id."""
    found: dict[int, tuple[Any, ...]] = {}
    for batch in log.records(name, schema="trades"):
        for trade in batch:
            assert isinstance(trade, Trade)
            assert trade.ref not in found
            found[trade.ref] = (trade.ts_event, trade.price_text, trade.size_text, trade.side, trade.instrument)
    return found


def books(log: LogType, name: str) -> list[tuple[Any, ...]]:
    """The book after each message: its event time and all levels."""
    sides: dict[str, dict[str, str]] = {"BID": {}, "ASK": {}}
    found = []
    for batch in log.records(name, schema="levels"):
        for level in batch:
            assert isinstance(level, Level)
            match level.action:
                case Action.CLEAR:
                    sides = {"BID": {}, "ASK": {}}
                case Action.CANCEL:
                    del sides[level.side.name][level.price_text]
                case Action.ADD | Action.MODIFY:
                    sides[level.side.name][level.price_text] = level.size_text
            if level.flags & F_LAST:
                found.append((level.ts_event, *(tuple(sorted(side.items())) for side in sides.values())))
    return found


async def test_four_loops_give_the_records_of_one(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(simulated(["kraken"], instrument_count=INSTRUMENTS, rate=400))
        plants = []
        for loops in (1, 4):
            settings = settings_for(server, ["kraken"], tmp_path / str(loops), venue__kraken__loops=loops)
            plants.append(await stack.enter_async_context(Plant(settings)))
        for plant in plants:
            await until(lambda plant=plant: all_live(plant, INSTRUMENTS))
        # Both have been live for a while on every instrument.
        for plant in plants:
            await until(lambda plant=plant: all_live(plant, INSTRUMENTS, messages=100))
        server.running(False)
        names = [f"{symbol}.KRAKEN" for symbol in server.venue("kraken").symbols]

        async def equal_ends() -> bool:
            one, four = [rows(await plant.summary()) for plant in plants]
            ends = [[plant.log.book(name).ts_event for name in names] for plant in plants]
            return ends[0] == ends[1] and all(row["checksums_failed"] == 0 for row in [*one.values(), *four.values()])

        await until(equal_ends)
        one, four = (plant.log for plant in plants)
        assert [len(log.lanes()) for log in (one, four)] == [1, 4]
        compared = 0
        for name in names:
            first, second = trades(one, name), trades(four, name)
            start = max(min(first, default=0), min(second, default=0))
            first, second = ({i: t for i, t in found.items() if i >= start} for found in (first, second))
            assert first == second
            compared += len(first)
            states = [books(log, name) for log in (one, four)]
            # Each subscribed at its own moment; from the first message that both had, all are the same.
            begin = max(found[1][0] for found in states)
            tails = [[state for state in found[1:] if state[0] >= begin] for found in states]
            assert len(tails[0]) > 50
            assert tails[0] == tails[1]
            compared += len(tails[0])
        assert compared > 100 * INSTRUMENTS


def share_process(flags: dict[str, object], share: int, shares: int) -> AbstractAsyncContextManager[Process]:
    return process("-c", SHARE, json.dumps(flags), "KRAKEN", str(share), str(shares))


async def test_two_processes_share_one_log(tmp_path: Path) -> None:
    async with simulated(["kraken"], instrument_count=INSTRUMENTS) as server:
        venue, address = server.venue("kraken"), server.addresses["kraken"]
        flags = {
            "log.path": str(tmp_path),
            "log.segment_bytes": 1 << 20,
            "log.hot_bytes_max": 32 << 20,
            "venue.kraken.url": address.websocket,
            "venue.kraken.instruments": list(venue.symbols),
        }
        doors = [tmp_path / f"plant-kraken-{share}.sock" for share in (0, 1)]
        async with share_process(flags, 0, 2) as first, share_process(flags, 1, 2) as second:
            await until(lambda: all(door.exists() for door in doors))

            async def all_are_live() -> list[dict[str, Any]] | None:
                found = [await asyncio.to_thread(send_command, door, {"do": "summary"}) for door in doors]
                live = [
                    row
                    for part in found
                    for row in part["instruments"]
                    if row["state"] == "LIVE" and row["messages"] > 20
                ]
                return found if len(live) == INSTRUMENTS else None

            parts = await until(all_are_live)
            held = [{row["instrument"] for row in part["instruments"]} for part in parts]
            assert all(held)
            assert not held[0] & held[1]
            assert held[0] | held[1] == {f"{symbol}.KRAKEN" for symbol in venue.symbols}
            server.running(False)
            log = Log.open(tmp_path)

            def equal() -> bool:
                for symbol in venue.symbols:
                    book, (bids, asks) = log.book(f"{symbol}.KRAKEN"), venue.book(symbol, venue.published(symbol))
                    if (exact(book.bids), exact(book.asks)) != (exact(bids[:10]), exact(asks[:10])):
                        return False
                return True

            await until(equal)
            # Ids are one registry's: no two instruments share one.
            assert len(set(log.instruments())) == INSTRUMENTS == len(log.instruments())
            for door in doors:
                await asyncio.to_thread(send_command, door, {"do": "drain"})
            assert [await first.wait(), await second.wait()] == [0, 0]
    for lane in log.lanes():
        assert json.loads(_native.rebuild(str(tmp_path), lane))["first_difference"] is None

"""The load server: its cycles close, every checksum on the way holds, and a client on a socket can follow."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import signal
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.conftest import WITHIN_S
from tests.sim.plain import PlainBook, parsed

from tickplant.sim import build_venue
from tickplant.sim.venues.kraken_book import checksum

SCRIPT = Path(__file__).parents[2] / "bench" / "blaster.py"


@pytest.fixture(scope="module")
def blaster() -> Any:
    spec = importlib.util.spec_from_file_location("blaster", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["blaster"] = module
    spec.loader.exec_module(module)
    return module


class ProvenBook:
    """A client's book of depth 10 that checks every message."""

    def __init__(self) -> None:
        self.book = PlainBook()
        self.messages = 0

    def follow(self, message: Any) -> None:
        (data,) = message["data"]
        sides = [[(row["price"], row["qty"]) for row in data[side]] for side in ("bids", "asks")]
        (self.book.load if message["type"] == "snapshot" else self.book.apply)(*sides)
        self.book.truncate(10)
        bids, asks = ([(f"{price:f}", f"{size:f}") for price, size in side] for side in self.book.levels())
        assert str(checksum(asks, bids)) == data["checksum"]
        self.messages += 1


def test_a_cycle_closes_and_proves_itself_twice_around(blaster: Any) -> None:
    venue = build_venue("kraken", seed=5, start_ns=0, instrument_count=3, rate=10_000)
    for symbol, walked in blaster.states(venue, 300).items():
        messages = blaster.cycle(symbol, walked)
        assert len(messages) == 2 * (300 - 1)
        first = walked[0]
        client = ProvenBook()
        client.follow(parsed(blaster.book_text(symbol, "snapshot", first, checksum(first[1], first[0]))))
        start = client.book.levels()
        for message in messages * 2:
            client.follow(parsed(message))
        assert client.book.levels() == start


def test_a_tape_stamps_each_frame_with_its_schedule(blaster: Any) -> None:
    cycles = [[blaster.book_text("BTC/USD", "update", ([], []), number) for number in range(5)] for _ in range(2)]
    tape = blaster.Tape(cycles, blaster.seeded("x"))
    count, data = tape.take(100, 1_800_000_000 * 10**9 + 999_000_000, 500_000)
    assert count == len(tape) == 10
    assert tape.position == 0
    stamps = [part.split(b'"')[0] for part in data.split(b'"timestamp":"')[1:]]
    assert stamps[:3] == [
        b"2027-01-15T08:00:00.999000Z",
        b"2027-01-15T08:00:00.999500Z",
        b"2027-01-15T08:00:01.000000Z",
    ]


async def test_clients_follow_the_load_and_end_where_they_began() -> None:
    arguments = ["--connections", "2", "--instruments", "4", "--rate", "4000", "--seconds", "1", "--steps", "50"]
    process = await asyncio.create_subprocess_exec(sys.executable, SCRIPT, *arguments, stdout=asyncio.subprocess.PIPE)
    assert process.stdout
    facts = json.loads(await asyncio.wait_for(process.stdout.readline(), WITHIN_S))
    books = {symbol: ProvenBook() for symbol in facts["symbols"]}
    firsts: dict[str, Any] = {}
    progress = asyncio.Event()

    async def all_read(messages: int) -> None:
        while sum(book.messages for book in books.values()) < messages:
            progress.clear()
            await progress.wait()

    async def read(socket: aiohttp.ClientWebSocketResponse) -> None:
        async for frame in socket:
            message = parsed(frame.data)
            if message.get("channel") == "book":
                symbol = message["data"][0]["symbol"]
                books[symbol].follow(message)
                firsts.setdefault(symbol, books[symbol].book.levels())
                progress.set()

    async with aiohttp.ClientSession() as session:
        async with session.get(facts["http"] + "/0/public/AssetPairs") as reply:
            assert len((await reply.json())["result"]) == 4
        readers = []
        for symbols in (facts["symbols"][:2], facts["symbols"][2:]):
            socket = await session.ws_connect(facts["websocket"])
            params = {"channel": "book", "symbol": symbols, "depth": 10}
            await socket.send_json({"method": "subscribe", "params": params})
            readers.append(asyncio.create_task(read(socket)))
        report = json.loads(await asyncio.wait_for(process.stdout.readline(), WITHIN_S))
        # It cannot be early; how late it is depends on the machine.
        assert report["messages"] > 1000
        assert report["messages_per_second"] < 5000
        assert report["connections"] == 2
        async with asyncio.timeout(WITHIN_S):
            await all_read(report["messages"] + len(books))
        assert {symbol: book.book.levels() for symbol, book in books.items()} == firsts
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), WITHIN_S) == 0
        await asyncio.gather(*readers)

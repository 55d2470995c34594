"""Simulated venues in a process of their own, for `demo`: started, asked to stand still, asked for their own books.

The child prints one JSON line with its addresses, then answers one line for each line that it reads: `freeze` stops the
markets (heartbeats go on) and gives every book as it was last told to subscribers. It ends when its input ends, so it
never outlives its parent.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from tickplant import clock
from tickplant.errors import PlantError
from tickplant.venues.base import venue_code

START_WITHIN_S = 30.0
ANSWER_WITHIN_S = 10.0
# A batch that a venue has promised to its subscribers goes out within its longest rhythm.
SETTLE_S = 0.5
LINE_BYTES_MOST = 256 * 1024 * 1024

Side = list[tuple[str, str]]


@dataclass(frozen=True)
class Simulated:
    """The running child: where its venues listen, what they list, and a way to ask."""

    websocket: dict[str, str]
    http: dict[str, str]
    symbols: dict[str, list[str]]
    _process: asyncio.subprocess.Process

    async def freeze(self) -> dict[str, tuple[Side, Side]]:
        """Stops the markets and gives every instrument's true book: bids and asks, best first, as printed."""
        process = self._process
        if process.stdin is None:
            raise PlantError("the simulated venues have no input")
        process.stdin.write(b"freeze\n")
        answer = await _line(process, ANSWER_WITHIN_S)
        return {
            name: ([(p, s) for p, s in book["bids"]], [(p, s) for p, s in book["asks"]])
            for name, book in answer.items()
        }


@contextlib.asynccontextmanager
async def simulated_venues(*, seed: int, instruments: int, rate: int, venues: list[str]) -> AsyncIterator[Simulated]:
    """Starts the child and ends it. Raises PlantError with the child's own words where it does not come up."""
    arguments = {"seed": seed, "instruments": instruments, "rate": rate, "venues": venues}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tickplant.cli.simulated",
        json.dumps(arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=LINE_BYTES_MOST,
        # Ctrl-C in a terminal goes to the whole group: the child is to end after the plant, not with it.
        start_new_session=True,
    )
    try:
        facts = await _line(process, START_WITHIN_S)
        yield Simulated(
            websocket={code: venue["websocket"] for code, venue in facts.items()},
            http={code: venue["http"] for code, venue in facts.items()},
            symbols={code: venue["symbols"] for code, venue in facts.items()},
            _process=process,
        )
    finally:
        if process.stdin is not None:
            process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), ANSWER_WITHIN_S)
        except TimeoutError:
            process.kill()
            await process.wait()


async def _line(process: asyncio.subprocess.Process, within_s: float) -> dict[str, Any]:
    if process.stdout is None:
        raise PlantError("the simulated venues have no output")
    try:
        text = await asyncio.wait_for(process.stdout.readline(), within_s)
    except TimeoutError:
        text = b""
    if not text:
        raise PlantError(
            "the simulated venues do not answer", where="their process", hint="their own words stand above"
        )
    answer: dict[str, Any] = json.loads(text)
    return answer


async def _serve(arguments: dict[str, Any]) -> None:
    """The child's side."""
    from tickplant.sim import SimServer, build_venues

    venues = build_venues(
        arguments["venues"],
        seed=arguments["seed"],
        start_ns=clock.wall_ns(),
        instrument_count=arguments["instruments"],
        rate=arguments["rate"],
    )
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with SimServer(venues) as server:
        _print(
            {
                venue_code(venue.name): {
                    "websocket": server.addresses[venue.name].websocket,
                    "http": server.addresses[venue.name].http,
                    "symbols": venue.symbols,
                }
                for venue in venues
            }
        )
        while await reader.readline():
            server.running(False)
            await clock.sleep(SETTLE_S)
            books = {}
            for venue in venues:
                for symbol in venue.symbols:
                    bids, asks = venue.book(symbol, venue.published(symbol))
                    books[f"{symbol}.{venue_code(venue.name)}"] = {"bids": bids, "asks": asks}
            _print(books)


def _print(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(_serve(json.loads(sys.argv[1])))

"""Processes that are the lines of a venue: a reader of their log sees one stream, whichever of them is killed.

The processes get SIGKILL in turn while a reader follows. What it was given, and what is read of the log afterwards in
either order, is held against the log of a plant that was left alone on the same venues: the same trades once each, no
state of a book that the venue did not have, no gap and no word of a book that is not live.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import signal
from asyncio.subprocess import Process
from collections import Counter
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal

import pytest
from tests.flow.conftest import all_live, process, settings_for, simulated, until
from tests.flow.lines.streams import SCHEMAS, Stream, compare

from tickplant import Log, Plant
from tickplant.clock import SECOND_NS
from tickplant.log import Log as LogType
from tickplant.records import F_LAST
from tickplant.sim import SimServer

CODES = ["kraken", "binance"]
BATCHES_A_PIECE = 40


def line_process(
    settings: dict[str, object], line: str, said: IO[bytes] | None = None
) -> AbstractAsyncContextManager[Process]:
    """`tickplant run --line i/n`; `said` gets the changes that it tells."""
    options = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    command = ["-m", "tickplant", "run", "--line", line, *options]
    return process(*command, stdout=asyncio.subprocess.DEVNULL, stderr=said)


def line_settings(server: SimServer, codes: list[str], log: Path) -> dict[str, object]:
    """What all processes are told."""
    given: dict[str, object] = {"log.path": log, "log.segment_bytes": 1 << 18, "log.hot_bytes_max": 8 << 20}
    for code in codes:
        given |= {
            f"venue.{code}.url": server.addresses[code].websocket,
            f"venue.{code}.rest_url": server.addresses[code].http,
            f"venue.{code}.instruments": ",".join(server.venue(code).symbols),
        }
    return given | {"metrics.port": 0}


def speaks(log: Path, lanes: list[str], since: dict[str, int], names: list[str]) -> bool:
    """A line gave each book, and some messages behind it."""
    if not (log / "log.json").exists() or not {*lanes} <= {*Log.open(log).lanes()}:
        return False
    start = {lane: since.get(lane, 0) for lane in lanes}
    batches = Log.open(log).records(schema="levels", start=start, lanes=lanes)
    seen = Counter(record.instrument for batch in batches for record in batch if record.flags & F_LAST)
    return all(seen[name] > 3 for name in names)


async def overlap(log: Path, lines: Iterable[list[str]], since: dict[str, int], names: list[str]) -> None:
    """Until every line gave each book since then, and all went on behind that: now any of them may be killed."""
    for _ in range(2):
        for lanes in lines:
            await until(lambda lanes=lanes, since=since: speaks(log, lanes, since, names))
        since = Log.open(log).position()


async def run_line_kills(path: Path, kills: int, codes: list[str], count: int = 2) -> dict[str, Any]:
    """Kills the lines in turn while a reader follows, and starts each again but the last."""
    chance, log = random.Random(kills), path / "log"
    lanes = {line: [f"{code}-line{line}of{count}" for code in codes] for line in range(1, count + 1)}
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(simulated(codes, rate=200))
        names = [f"{symbol}.{code.upper()}" for code in codes for symbol in server.venue(code).symbols]
        lone = await stack.enter_async_context(Plant(settings_for(server, codes, path / "alone")))
        await until(lambda: all_live(lone, len(names)))
        given = line_settings(server, codes, log)
        lines = {line: await stack.enter_async_context(line_process(given, f"{line}/{count}")) for line in lanes}
        await overlap(log, lanes.values(), {}, names)
        live, records = Stream(), Log.open(log).records(schema=SCHEMAS, follow=True)

        async def tail() -> None:
            async for batch in records:
                live.take([batch])

        tailing = asyncio.create_task(tail())
        for kill in range(kills):
            line = kill % count + 1
            lines[line].send_signal(signal.SIGKILL)
            await lines[line].wait()
            since = Log.open(log).position()
            if kill == kills - 1:
                break
            await asyncio.sleep(chance.uniform(0, 0.2))
            lines[line] = await stack.enter_async_context(line_process(given, f"{line}/{count}"))
            await overlap(log, lanes.values(), since, names)
        server.running(False)

        async def is_quiet() -> bool:
            ends = [[books_of(of, name) for name in names] for of in (lone.log, Log.open(log))]
            shown = [[list(side) for side in live.states[name][-1]] for name in names]
            wanted = [[sorted((x.price, x.size) for x in side) for side in sides] for _, *sides in ends[0]]
            return ends[0] == ends[1] and shown == wanted and records.position() == Log.open(log).position()

        await until(is_quiet)
        assert not tailing.done(), tailing.exception()
        tailing.cancel()
        assert live.lanes == {lane for of_line in lanes.values() for lane in of_line}
        avoided = [sum(Log.open(log).coverage(name).gap_avoided_ns.values()) for name in names]
        assert all(avoided)
        return {
            "kills": kills,
            "compared": compare_all(live, lone.log, Log.open(log), names),
            "gap_avoided_s": round(sum(avoided) / SECOND_NS, 1),
        }


def books_of(log: LogType, name: str) -> tuple[Any, ...]:
    """How a book is now."""
    book = log.book(name)
    return book.state, book.bids, book.asks


def in_pieces(log: LogType) -> Iterable[Any]:
    """The log's batches by one reader after another, each beginning at the position where the last one ended."""
    position: dict[str, int] | None = None
    while True:
        records = log.records(schema=SCHEMAS, start=position)
        taken = list(islice(records, BATCHES_A_PIECE))
        yield from taken
        if len(taken) < BATCHES_A_PIECE:
            return
        position = records.position()


def compare_all(live: Stream, lone: LogType, log: LogType, names: list[str]) -> dict[str, int]:
    """What the reader was given, and what the log gives afterwards, against the plant that was left alone."""
    true = Stream().take(lone.records(schema=SCHEMAS))
    orders: tuple[Literal["arrival", "ts_recv"], ...] = ("arrival", "ts_recv")
    compared = {
        order: compare(Stream().take(log.records(schema=SCHEMAS, order=order)), true, names) for order in orders
    }
    resumed = compare(Stream().take(in_pieces(log)), true, names)
    return compared | {"live": compare(live, true, names), "resumed": resumed}


async def test_two_kills_of_lines(tmp_path: Path) -> None:
    figures = await run_line_kills(tmp_path, 2, CODES)
    assert min(figures["compared"].values()) > 200


async def test_a_process_tells_the_changes_of_its_own_lane(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(simulated(["kraken"]))
        given = line_settings(server, ["kraken"], tmp_path / "log")
        files = [tmp_path / f"{line}.txt" for line in (1, 2)]
        for line, file in enumerate(files, 1):
            said = stack.enter_context(file.open("wb"))
            await stack.enter_async_context(line_process(given, f"{line}/2", said))
        symbols = server.venue("kraken").symbols
        for line, file in enumerate(files, 1):
            # Each tells its books, also where the stream of both was live before.
            wanted = [rf"book +{symbol}\.KRAKEN +LIVE" for symbol in symbols] + [rf"kraken-line{line}of2 .* LIVE"]
            await until(lambda file=file, wanted=wanted: all(re.search(one, file.read_text()) for one in wanted))
        for line, file in enumerate(files, 1):
            assert f"kraken-line{3 - line}of2" not in file.read_text()


@pytest.mark.proof
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("kills", "codes", "count"), [(20, CODES, 2), (9, ["kraken", "binance_usdm"], 3)], ids=["two", "three"]
)
async def test_many_kills_of_lines(
    tmp_path: Path, kills: int, codes: list[str], count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = await run_line_kills(tmp_path, kills, codes, count)
    with capsys.disabled():
        print(json.dumps({"test": f"kills of {count} lines", "venues": codes, **figures}))

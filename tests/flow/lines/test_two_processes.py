"""Two processes that are the lines of a venue: a reader of their log sees one stream, whichever of them is killed.

The processes get SIGKILL in turn while a reader follows. What it was given, and what is read of the log afterwards in
either order, is held against the log of a plant that was left alone on the same venues: the same trades once each, no
state of a book that the venue did not have, no gap and no word of a book that is not live.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
from asyncio.subprocess import Process
from collections import Counter, defaultdict
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import pytest
from tests.flow.conftest import all_live, process, settings_for, simulated, until

from tickplant import Log, Plant
from tickplant.log import Log as LogType
from tickplant.records import F_LAST, F_SNAPSHOT, Action, BookState, Gap, Level, Status, Subject, Trade
from tickplant.sim import SimServer

NAMES = ["kraken", "binance"]
BATCHES_A_PIECE = 40
SCHEMAS = ("trades", "levels", "status", "gap")
BookText = tuple[tuple[tuple[str, str], ...], ...]


def line_process(settings: dict[str, object], line: int) -> AbstractAsyncContextManager[Process]:
    """`tickplant run --line i/2`."""
    options = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    command = ["-m", "tickplant", "run", "--line", f"{line}/2", *options]
    return process(*command, stdout=asyncio.subprocess.DEVNULL)


class Stream:
    """What a reader was given, by instrument."""

    def __init__(self) -> None:
        self.trades = defaultdict[str, dict[int, tuple[Any, ...]]](dict)
        self.states = defaultdict[str, list[BookText]](list)
        self.numbers = defaultdict[str, list[int]](list)
        self.wholes = defaultdict[str, set[int]](set)
        """Places in `numbers` of whole books."""
        self.faults: list[str] = []
        self.lanes: set[str | None] = set()
        self._sides: dict[str, dict[str, dict[str, str]]] = {}
        self._live: set[str] = set()

    def take(self, batches: Iterable[Any]) -> Stream:
        """Takes what there is."""
        for batch in batches:
            self.lanes.add(batch.lane)
            for record in batch:
                self._record(record)
        return self

    def _record(self, record: Any) -> None:
        name = record.instrument
        match record:
            case Trade():
                if record.ref in self.trades[name]:
                    self.faults.append(f"trade {record.ref} of {name} came twice")
                self.trades[name][record.ref] = (record.ts_event, record.price_text, record.size_text, record.side)
            case Level():
                self._level(name, record)
            case Gap():
                self.faults.append(f"{record}")
            case Status() if record.subject is Subject.BOOK and record.current == BookState.LIVE:
                self._live.add(name)
            case Status() if record.subject is Subject.BOOK and name in self._live:
                self.faults.append(f"{record}")
            case _:
                pass

    def _level(self, name: str, level: Level) -> None:
        sides = self._sides.setdefault(name, {"BID": {}, "ASK": {}})
        match level.action:
            case Action.CLEAR:
                sides["BID"], sides["ASK"] = {}, {}
            case Action.CANCEL:
                if sides[level.side.name].pop(level.price_text, None) is None:
                    self.faults.append(f"{name} had no level {level.price_text} to cancel")
            case Action.ADD | Action.MODIFY:
                sides[level.side.name][level.price_text] = level.size_text
        if level.flags & F_LAST:
            self.states[name].append(tuple(tuple(sorted(side.items())) for side in sides.values()))
            if level.flags & F_SNAPSHOT:
                self.wholes[name].add(len(self.numbers[name]))
            self.numbers[name].append(level.sequence or 0)


def compare(found: Stream, true: Stream, names: list[str]) -> int:
    """Holds a stream against the one of a plant that was left alone; gives how much was compared."""
    assert not found.faults, found.faults[:3]
    compared = 0
    for name in names:
        start = max(min(found.trades[name]), min(true.trades[name]))
        ours, theirs = ({i: t for i, t in of.trades[name].items() if i >= start} for of in (found, true))
        assert ours == theirs, name
        assert list(ours) == sorted(ours)
        compared += len(ours)
        if name.endswith(".BINANCE"):
            compare_numbered(name, found, true)
        else:
            compare_followed(name, found.states[name], true.states[name])
        compared += len(found.states[name])
    return compared


def compare_numbered(name: str, found: Stream, true: Stream) -> None:
    """Every message in order, and after each the venue's book; what is left out is in the whole book that follows."""
    numbers, states = found.numbers[name], dict(zip(true.numbers[name], true.states[name], strict=True))
    assert numbers == sorted(numbers), f"{name} went back"
    begin = min(set(numbers) & set(states))
    for number in set(states) - set(numbers):
        follows = next((index for index, other in enumerate(numbers) if other > number), None)
        assert number < begin or (follows is not None and follows in found.wholes[name]), f"{name} lacks {number}"
    for number, state in zip(numbers, found.states[name], strict=True):
        # A line's snapshot may lie between two messages.
        assert number < begin or state == states.get(number, state), f"{name} was not that at {number}"


def compare_followed(name: str, found: list[BookText], true: list[BookText]) -> None:
    """Each book is one that the venue had, later and later; where another line takes over, messages come together."""
    where = defaultdict[BookText, list[int]](list)
    for index, state in enumerate(true):
        where[state].append(index)
    place = 0
    for state in found[next(index for index, state in enumerate(found) if state in where) :]:
        assert state in where, f"{name} had no such book"
        later = [index for index in where[state] if index >= place]
        assert later, f"{name} went back"
        place = later[0]
    assert place == len(true) - 1, f"{name} did not come to the venue's last book"


def line_settings(server: SimServer, log: Path) -> dict[str, object]:
    """What both processes are told."""
    given: dict[str, object] = {"log.path": log, "log.segment_bytes": 1 << 18, "log.hot_bytes_max": 8 << 20}
    for code in NAMES:
        given |= {
            f"venue.{code}.url": server.addresses[code].websocket,
            f"venue.{code}.rest_url": server.addresses[code].http,
            f"venue.{code}.instruments": ",".join(server.venue(code).symbols),
        }
    return given | {"metrics.port": 0}


def speaks(log: Path, line: int, since: dict[str, int], names: list[str]) -> bool:
    """A line gave each book, and some messages behind it: it is no longer behind the other line."""
    lanes = [f"{code}-line{line}of2" for code in NAMES]
    if not (log / "log.json").exists() or not {*lanes} <= {*Log.open(log).lanes()}:
        return False
    start = {lane: since.get(lane, 0) for lane in lanes}
    batches = Log.open(log).records(schema="levels", start=start, lanes=lanes)
    seen = Counter(record.instrument for batch in batches for record in batch if record.flags & F_LAST)
    return all(seen[name] > 3 for name in names)


async def run_line_kills(path: Path, kills: int) -> dict[str, Any]:
    """Kills the lines in turn while a reader follows, and starts each again but the last."""
    chance, log = random.Random(kills), path / "log"
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(simulated(NAMES, rate=200))
        names = [f"{symbol}.{code.upper()}" for code in NAMES for symbol in server.venue(code).symbols]
        lone = await stack.enter_async_context(Plant(settings_for(server, NAMES, path / "alone")))
        await until(lambda: all_live(lone, len(names)))
        given = line_settings(server, log)
        lines = {line: await stack.enter_async_context(line_process(given, line)) for line in (1, 2)}
        for line in lines:
            await until(lambda line=line: speaks(log, line, {}, names))
        live, records = Stream(), Log.open(log).records(schema=SCHEMAS, follow=True)

        async def tail() -> None:
            async for batch in records:
                live.take([batch])

        tailing = asyncio.create_task(tail())
        for kill in range(kills):
            line = kill % 2 + 1
            lines[line].send_signal(signal.SIGKILL)
            await lines[line].wait()
            since = Log.open(log).position()
            if kill == kills - 1:
                break
            await asyncio.sleep(chance.uniform(0, 0.2))
            lines[line] = await stack.enter_async_context(line_process(given, line))
            await until(lambda line=line, since=since: speaks(log, line, since, names))
        server.running(False)

        async def is_quiet() -> bool:
            ends = [[books_of(of, name) for name in names] for of in (lone.log, Log.open(log))]
            shown = [[list(side) for side in live.states[name][-1]] for name in names]
            wanted = [[sorted((x.price, x.size) for x in side) for side in sides] for _, *sides in ends[0]]
            return ends[0] == ends[1] and shown == wanted and records.position() == Log.open(log).position()

        await until(is_quiet)
        assert not tailing.done(), tailing.exception()
        tailing.cancel()
        return {"kills": kills, "compared": compare_all(live, lone.log, Log.open(log), names)}


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
    assert live.lanes == {f"{code}-line{line}of2" for code in NAMES for line in (1, 2)}
    resumed = compare(Stream().take(in_pieces(log)), true, names)
    return compared | {"live": compare(live, true, names), "resumed": resumed}


async def test_two_kills_of_lines(tmp_path: Path) -> None:
    figures = await run_line_kills(tmp_path, 2)
    assert min(figures["compared"].values()) > 200


@pytest.mark.proof
@pytest.mark.timeout(1800)
async def test_twenty_kills_of_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = await run_line_kills(tmp_path, 20)
    with capsys.disabled():
        print(json.dumps({"test": "twenty kills of lines", **figures}))

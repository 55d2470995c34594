"""Market messages as the plant writes them, and the plainest book that can hold them."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from hypothesis import strategies as st

import tickplant as tp
from tickplant.records import F_LAST, F_SNAPSHOT, UNDEF_U64, Action, BookState, Level, Side

NAMES = ["BTC/USD.KRAKEN", "ETH/USD.KRAKEN"]


def text(mantissa: int, scale: int) -> str:
    return f"{Decimal(mantissa).scaleb(-scale):f}"


@dataclass
class Message:
    """One venue message: rows are (side, price mantissa, price scale, size mantissa, size scale)."""

    instrument: int
    snapshot: bool
    rows: list[tuple[Side, int, int, int, int]]
    ts_event: int
    ts_recv: int = 0
    sequence: int = 0


@dataclass
class PlainBook:
    """Levels by value; the texts are the wire's."""

    bids: dict[Decimal, tuple[str, str, int]] = field(default_factory=dict)
    asks: dict[Decimal, tuple[str, str, int]] = field(default_factory=dict)
    joined: bool = False

    def best(self, depth: int | None = None) -> tuple[list[tuple[str, str, int]], list[tuple[str, str, int]]]:
        bids = [self.bids[price] for price in sorted(self.bids, reverse=True)]
        return bids[:depth], [self.asks[price] for price in sorted(self.asks)][:depth]

    def apply(self, message: Message) -> list[Level]:
        """Applies a message; gives the records that the plant would write of it."""
        common = {
            "ts_event": message.ts_event,
            "ts_recv": message.ts_recv,
            "sequence": message.sequence,
            "instrument_id": message.instrument,
            "state": BookState.LIVE,
        }
        made = []
        if message.snapshot:
            self.bids.clear()
            self.asks.clear()
            self.joined = True
            made.append({"action": Action.CLEAR, "side": Side.NONE})
        for side, price, price_scale, size, size_scale in message.rows:
            levels = self.bids if side is Side.BID else self.asks
            key = Decimal(price).scaleb(-price_scale)
            if size == 0:
                if levels.pop(key, None) is None:
                    continue
                action = Action.CANCEL
            else:
                action = Action.MODIFY if key in levels else Action.ADD
                levels[key] = (text(price, price_scale), text(size, size_scale), 0)
            made.append({"action": action, "side": side, "price": price, "price_scale": price_scale, "size": size})
            made[-1]["size_scale"] = size_scale
        if not made:
            made.append({"action": Action.NONE, "side": Side.NONE})
        flags = F_SNAPSHOT if message.snapshot else 0
        last = len(made) - 1
        return [Level(**common, **row, flags=flags | (F_LAST if at == last else 0)) for at, row in enumerate(made)]


rows = st.tuples(
    st.sampled_from([Side.BID, Side.ASK]), st.integers(1, 30), st.integers(0, 2), st.integers(0, 3), st.integers(0, 2)
)
messages = st.lists(
    st.builds(
        Message,
        instrument=st.integers(1, 2),
        snapshot=st.integers(0, 9).map(lambda number: number == 0),
        rows=st.lists(rows, max_size=5),
        ts_event=st.one_of(st.integers(1_000, 1_050), st.just(UNDEF_U64)),
    ),
    min_size=1,
    max_size=40,
)


def memory_directory() -> tempfile.TemporaryDirectory[str]:
    """A directory on tmpfs: closing a lane syncs its files, which a disk makes slow."""
    return tempfile.TemporaryDirectory(dir="/dev/shm", prefix="tickplant-test-")


History = list[tuple[Message, int, dict[int, PlainBook]]]
"""Each message, the index behind it, and the books after it."""


@contextlib.contextmanager
def written(stream: list[Message]) -> Iterator[tuple[Path, History, tp.Log]]:
    """A log that holds a stream, in a directory of its own: the directory, what `write` gives, the log."""
    with memory_directory() as name:
        path = Path(name)
        yield path, write(path, stream), tp.Log.open(path / "log")


def writer(path: Path, lane: str = "one", **options: object) -> tp.LaneWriter:
    """A lane writer with small segments and its memory files under `path`."""
    made = tp.LaneWriter(
        path / "log", lane, hot_root=path / "hot", segment_bytes=16 << 10, hot_bytes_max=8 << 20, sync="none", **options
    )
    assert [made.assign(name) for name in NAMES] == [1, 2]
    return made


def write(path: Path, stream: list[Message]) -> History:
    """Writes a stream, each message a turn; gives each message, the index behind it and the books after it."""
    books = {1: PlainBook(), 2: PlainBook()}
    history = []
    with writer(path) as lane:
        for at, message in enumerate(stream):
            message.sequence, message.ts_recv = at, 2_000 + at
            lane.append(books[message.instrument].apply(message), ts_recv=message.ts_recv)
            lane.commit(message.ts_recv)
            copies = {number: PlainBook(dict(b.bids), dict(b.asks), b.joined) for number, b in books.items()}
            history.append((message, lane.next_index, copies))
    return history

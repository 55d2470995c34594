"""A book at a moment, as `Log.book` gives it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from tickplant.records import UNDEF_U64, BookState


class BookLevel(NamedTuple):
    """One price level. `price` and `size` are decimal texts as they stood on the wire: `Decimal(price)` is exact."""

    price: str
    size: str
    orders: int
    """Orders at the level where the venue says so, else 0."""


@dataclass(frozen=True, slots=True)
class Book:
    """The levels of one instrument right after one venue message, best first, and how good they are.

    `state` is `SYNCING` and the sides are empty where the log holds no snapshot before the moment. `sequence`,
    `ts_event` and `ts_recv` are the last applied message's; None where it has none.
    """

    instrument: str
    state: BookState
    bids: tuple[BookLevel, ...]
    asks: tuple[BookLevel, ...]
    sequence: int | None
    ts_event: int | None
    ts_recv: int | None
    lane: str | None
    index: int | None
    """Lane index of the last record that counts."""
    state_hash: int | None = None
    """64-bit hash of these levels, to be compared with a STATE_HASH record of the same moment and depth or with another
    plant's book; None where there is no book. It is xxh3 (seed 0) over 19 bytes a level, bids then asks, best first:
    the letter `B` or `A`, then price and size, each as mantissa (8 bytes, signed, little-endian) and scale (1 byte),
    without the trailing zeros of the fraction (10 at scale 2 is 1 at scale 1)."""

    @property
    def position(self) -> dict[str, int]:
        """Where a reader goes on after this book: pass it as `start` to `Log.records`."""
        return {} if self.lane is None or self.index is None else {self.lane: self.index + 1}

    def as_dict(self) -> dict[str, Any]:
        """The book as data for JSON: texts, integers and lists."""
        return {
            "instrument": self.instrument,
            "state": self.state.name,
            "sequence": self.sequence,
            "ts_event": self.ts_event,
            "ts_recv": self.ts_recv,
            "lane": self.lane,
            "index": self.index,
            "state_hash": self.state_hash,
            "bids": [list(level) for level in self.bids],
            "asks": [list(level) for level in self.asks],
        }


def given(value: int) -> int | None:
    """None for UNDEF."""
    return None if value == UNDEF_U64 else value

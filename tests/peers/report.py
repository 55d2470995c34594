"""What a foreign client tells about its books. Runs in the peers' own environment: no import of ours."""

from __future__ import annotations

import asyncio
import json
import sys
import zlib
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

Side = list[tuple[str, str]]


def plain(number: Any) -> str:
    """A number without an exponent and without trailing zeros, from any type that a client keeps."""
    return format(Decimal(str(number)).normalize(), "f")


def side(levels: Iterable[tuple[Any, Any]]) -> Side:
    """Levels in the order of the client, as texts."""
    return [(plain(price), plain(size)) for price, size in levels]


def digest(bids: Side, asks: Side) -> int:
    """One number for a whole book."""
    return zlib.crc32(json.dumps([bids, asks]).encode())


class Report:
    """Collects what the client saw, and prints it as one JSON line for each line that comes in."""

    def __init__(self, books: Callable[[], dict[str, tuple[Side, Side]]]) -> None:
        self._books = books
        self.seen: list[tuple[str, int, int]] = []
        self.updates = 0
        self.problems: list[str] = []

    def saw(self, symbol: str, sequence: int | None, bids: Side, asks: Side) -> None:
        """One state of one book; venues without a sequence are only counted."""
        self.updates += 1
        if sequence is not None:
            self.seen.append((symbol, sequence, digest(bids, asks)))

    async def answer(self) -> None:
        """Answers until the input ends."""
        loop = asyncio.get_running_loop()
        while await loop.run_in_executor(None, sys.stdin.readline):
            facts = {"books": self._books(), "seen": self.seen, "updates": self.updates, "problems": self.problems}
            print(json.dumps(facts), flush=True)
            self.seen = []

"""The plainest clients: a dictionary a side and each venue's documented rules, written apart from everything else."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from tickplant.sim.venue import PrintedLevel

Level = tuple[Decimal, Decimal]


class PlainBook:
    """Price to size for both sides."""

    def __init__(self) -> None:
        self.bids: dict[Decimal, Decimal] = {}
        self.asks: dict[Decimal, Decimal] = {}

    def load(self, bids: Any, asks: Any) -> None:
        self.bids, self.asks = {}, {}
        self.apply(bids, asks)

    def apply(self, bids: Any, asks: Any) -> None:
        for side, rows in ((self.bids, bids), (self.asks, asks)):
            for price, size in rows:
                if Decimal(size):
                    side[Decimal(price)] = Decimal(size)
                else:
                    side.pop(Decimal(price), None)

    def truncate(self, depth: int) -> None:
        self.bids = dict(sorted(self.bids.items(), reverse=True)[:depth])
        self.asks = dict(sorted(self.asks.items())[:depth])

    def levels(self) -> tuple[list[Level], list[Level]]:
        return sorted(self.bids.items(), reverse=True), sorted(self.asks.items())


def values(sides: tuple[list[PrintedLevel], list[PrintedLevel]], depth: int | None = None) -> Any:
    """A venue's printed truth as numbers, cut to a depth."""
    return tuple([(Decimal(price), Decimal(size)) for price, size in side[:depth]] for side in sides)


def parsed(text: str) -> Any:
    """JSON with exact numbers: a JSON number comes back as the text that stood there."""
    return json.loads(text, parse_float=str, parse_int=str)

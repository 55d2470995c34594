"""The trades that a simulated venue still has, for its REST interface: complete, by their consecutive ids."""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import NamedTuple

from tickplant.sim.market import Market, Step, Trade

KEPT_MOST = 20_000
"""Trades of one instrument that a venue remembers; older ones it has forgotten."""


class Past(NamedTuple):
    """A trade and when it was."""

    time_ns: int
    trade: Trade


class PastTrades:
    """What happened in each instrument of a market, oldest first."""

    def __init__(self, market: Market, kept_most: int = KEPT_MOST) -> None:
        self._kept: list[deque[Past]] = [deque(maxlen=kept_most) for _ in market.listings]

    def take(self, step: Step) -> None:
        """Adds a step's trades."""
        self._kept[step.instrument].extend(Past(step.time_ns, trade) for trade in step.trades)

    def from_id(self, index: int, first: int, most: int) -> list[Past]:
        """The oldest trades from an id on."""
        kept = self._kept[index]
        skipped = max(0, first - kept[0].trade.id) if kept else 0
        return list(islice(kept, skipped, skipped + most))

    def before_id(self, index: int, end: int, most: int) -> list[Past]:
        """The newest trades before an id, oldest first."""
        kept = self._kept[index]
        count = min(len(kept), max(0, end - kept[0].trade.id)) if kept else 0
        return list(islice(kept, max(0, count - most), count))

    def since(self, index: int, time_ns: int, most: int) -> list[Past]:
        """The oldest trades after a time."""
        return list(islice((past for past in self._kept[index] if past.time_ns > time_ns), most))

    def newest(self, index: int, most: int) -> list[Past]:
        """The newest trades, oldest first."""
        kept = self._kept[index]
        return list(islice(kept, max(0, len(kept) - most), None))

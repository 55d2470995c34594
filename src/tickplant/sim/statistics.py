"""What a venue's ticker tells of one instrument beside the book, in ticks and lots, since the simulation began."""

from __future__ import annotations

from collections import deque

from tickplant.sim.market import Listing, Step, Trade
from tickplant.sim.matching import ASK, BID

_RECENT_MOST = 50


class Statistics:
    """Running sums over the trades, the last trades, and whether the best bid or ask moved."""

    def __init__(self, listing: Listing) -> None:
        self._listing = listing
        self._recent: deque[tuple[int, Trade]] = deque(maxlen=_RECENT_MOST)
        self._touch = self._read_touch()
        self.trades = 0
        self.volume = 0
        self.notional = 0
        self.open = self.high = self.low = self.last = listing.instrument.price
        self.last_size = 0
        self.last_time_ns = 0

    def take(self, step: Step) -> None:
        """Adds a step's trades."""
        for trade in step.trades:
            self.trades += 1
            self.volume += trade.size
            self.notional += trade.size * trade.price
            self.high, self.low = max(self.high, trade.price), min(self.low, trade.price)
            self.last, self.last_size, self.last_time_ns = trade.price, trade.size, step.time_ns
            self._recent.append((step.time_ns, trade))

    def recent(self, most: int) -> list[tuple[int, Trade]]:
        """The last trades with their times, oldest first."""
        return list(self._recent)[-most:]

    def touch(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """(price, size) of the best bid and of the best ask; zeros for an empty side."""
        return self._read_touch()

    def touch_moved(self) -> bool:
        """Whether price or size of the best bid or ask changed since the last call."""
        before, self._touch = self._touch, self._read_touch()
        return before != self._touch

    def average(self) -> int:
        """The mean trade price in ticks by volume, cut; the start price before the first trade."""
        return self.notional // self.volume if self.volume else self.last

    def _read_touch(self) -> tuple[tuple[int, int], tuple[int, int]]:
        book = self._listing.book
        bid, ask = book.best(BID) or 0, book.best(ASK) or 0
        return (bid, book.size_at(BID, bid)), (ask, book.size_at(ASK, ask))

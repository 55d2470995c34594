"""A matching engine: limit, market and cancel orders by price, then time, in whole ticks and lots.

It is exact (integers only), owns no clock and no chance, and answers each order with what the order did: the fills in
the order in which they happened, and the new size of every level that it touched, each level once.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import Final, NamedTuple

BID: Final = 0
ASK: Final = 1


class Change(NamedTuple):
    """A level's new size in lots after an order; 0 where the level is gone."""

    side: int
    price: int
    size: int
    previous: int


class Fill(NamedTuple):
    """One match: `size` lots at the resting order's price."""

    price: int
    size: int
    maker: int


class Outcome(NamedTuple):
    """What one order did."""

    changes: tuple[Change, ...]
    fills: tuple[Fill, ...]


class Level:
    """The orders at one price, oldest first, and their sum."""

    __slots__ = ("queue", "total")

    def __init__(self) -> None:
        self.queue: dict[int, int] = {}
        self.total = 0


class Resting(NamedTuple):
    """Where an order rests."""

    side: int
    price: int


class MatchingBook:
    """The resting orders of one instrument.

    Prices are positive ticks, sizes positive lots, order ids the caller's and unique.
    """

    def __init__(self) -> None:
        self.orders: dict[int, Resting] = {}
        self._levels: tuple[dict[int, Level], dict[int, Level]] = ({}, {})
        # Best first on both sides: a bid is kept under its negative price.
        self._keys: tuple[list[int], list[int]] = ([], [])

    def limit(self, order: int, side: int, price: int, size: int) -> Outcome:
        """Matches what crosses `price`, best price and oldest order first; what is left rests."""
        touched: dict[Resting, int] = {}
        fills, left = self._match(1 - side, size, -price if side == ASK else price, touched)
        if left:
            self._rest(order, side, price, left, touched)
        return self._outcome(touched, fills)

    def market(self, side: int, size: int) -> Outcome:
        """Matches up to `size` at any price; what finds no counterpart is gone."""
        touched: dict[Resting, int] = {}
        fills, _ = self._match(1 - side, size, None, touched)
        return self._outcome(touched, fills)

    def cancel(self, order: int) -> Outcome:
        """Takes a resting order out. Raises KeyError where no such order rests."""
        place = self.orders.pop(order)
        level = self._levels[place.side][place.price]
        touched = {place: level.total}
        level.total -= level.queue.pop(order)
        if not level.total:
            self._remove(place.side, place.price)
        return self._outcome(touched, [])

    def size_at(self, side: int, price: int) -> int:
        """Lots at a price; 0 where there is no level."""
        level = self._levels[side].get(price)
        return level.total if level else 0

    def count_at(self, side: int, price: int) -> int:
        """Orders at a price."""
        level = self._levels[side].get(price)
        return len(level.queue) if level else 0

    def prices(self, side: int, depth: int | None = None) -> list[int]:
        """Prices of a side, best first, at most `depth` of them."""
        keys = self._keys[side][:depth]
        return keys if side == ASK else [-key for key in keys]

    def levels(self, side: int, depth: int | None = None) -> list[tuple[int, int]]:
        """(price, size) of a side, best first, at most `depth` of them."""
        levels = self._levels[side]
        return [(price, levels[price].total) for price in self.prices(side, depth)]

    def best(self, side: int) -> int | None:
        """The best price of a side, or None where the side is empty."""
        keys = self._keys[side]
        if not keys:
            return None
        return keys[0] if side == ASK else -keys[0]

    def depth(self, side: int) -> int:
        """Levels of a side."""
        return len(self._keys[side])

    def _match(self, side: int, size: int, bound: int | None, touched: dict[Resting, int]) -> tuple[list[Fill], int]:
        """Takes from `side` while its best key is at most `bound` (None: at any price)."""
        fills: list[Fill] = []
        keys, levels = self._keys[side], self._levels[side]
        while size and keys and (bound is None or keys[0] <= bound):
            price = keys[0] if side == ASK else -keys[0]
            level = levels[price]
            touched[Resting(side, price)] = level.total
            while size and level.queue:
                maker, available = next(iter(level.queue.items()))
                taken = min(size, available)
                fills.append(Fill(price, taken, maker))
                size -= taken
                level.total -= taken
                if taken == available:
                    del level.queue[maker], self.orders[maker]
                else:
                    level.queue[maker] = available - taken
            if not level.queue:
                self._remove(side, price)
        return fills, size

    def _rest(self, order: int, side: int, price: int, size: int, touched: dict[Resting, int]) -> None:
        place = Resting(side, price)
        level = self._levels[side].get(price)
        if level is None:
            level = self._levels[side][price] = Level()
            insort(self._keys[side], price if side == ASK else -price)
        touched.setdefault(place, level.total)
        level.queue[order] = size
        level.total += size
        self.orders[order] = place

    def _remove(self, side: int, price: int) -> None:
        key = price if side == ASK else -price
        keys = self._keys[side]
        del keys[bisect_left(keys, key)], self._levels[side][price]

    def _outcome(self, touched: dict[Resting, int], fills: list[Fill]) -> Outcome:
        changes = tuple(
            Change(place.side, place.price, self.size_at(place.side, place.price), previous)
            for place, previous in touched.items()
        )
        return Outcome(changes, tuple(fills))

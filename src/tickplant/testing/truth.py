"""The venue's own book after any of its updates, and every trade that it made: what the records are held against."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import NamedTuple

from tickplant.sim.market import Listing, Step, Trade
from tickplant.sim.matching import ASK, BID

Key = tuple[int, int]
"""Side (0 bid, 1 ask) and price in ticks."""

# Updates that are remembered; a snapshot from further back than the older half cannot be judged.
_PAST_MOST = 400_000


class _Past(NamedTuple):
    key: Key
    size: int
    previous: int


class Truth:
    """One instrument's book, which can be had as of any update, forwards and back."""

    def __init__(self, listing: Listing) -> None:
        book = listing.book
        self.sizes: dict[Key, int] = {(side, price): size for side in (BID, ASK) for price, size in book.levels(side)}
        self._ids: list[int] = []
        self._times: list[int] = []
        self._past: list[_Past] = []
        # Updates before this index are in `sizes`.
        self._taken = 0
        self._first_id = listing.update_id
        self.last_trade = listing.trade_id
        self.trades: dict[int, Trade] = {}

    def note(self, step: Step) -> None:
        """Takes what an order did. All its changes count as one update, its last."""
        for change in step.changes:
            self._ids.append(step.last_id)
            self._times.append(step.time_ns)
            self._past.append(_Past((change.side, change.price), change.size, change.previous))
        if step.trades:
            self.last_trade = step.trades[-1].id
            self.trades.update((trade.id, trade) for trade in step.trades)
        if len(self._ids) > _PAST_MOST:
            self._forget()

    def id_at(self, time_ns: int) -> int:
        """The last update up to and including a time; before all that is remembered, the one before that."""
        index = bisect_right(self._times, time_ns)
        return self._ids[index - 1] if index else self._first_id

    def ids_within(self, first_ns: int, end_ns: int) -> list[int]:
        """The updates within a time, without its end; where there is none the one before it."""
        start, end = bisect_left(self._times, first_ns), bisect_left(self._times, end_ns)
        return sorted(set(self._ids[start:end])) or [self.id_at(first_ns)]

    def roll(self, update_id: int) -> list[Key]:
        """Brings `sizes` to right after an update and says which levels that touched."""
        target = bisect_right(self._ids, update_id)
        touched = []
        while self._taken < target:
            past = self._past[self._taken]
            self._set(past.key, past.size)
            touched.append(past.key)
            self._taken += 1
        while self._taken > target:
            self._taken -= 1
            past = self._past[self._taken]
            self._set(past.key, past.previous)
            touched.append(past.key)
        return touched

    def _set(self, key: Key, size: int) -> None:
        if size:
            self.sizes[key] = size
        else:
            self.sizes.pop(key, None)

    def _forget(self) -> None:
        count = min(_PAST_MOST // 2, self._taken)
        del self._ids[:count], self._times[:count], self._past[:count]
        self._taken -= count


def top(listing: Listing, depth: int) -> dict[Key, int]:
    """The best `depth` levels of each side as they stand now."""
    return {(side, price): size for side in (BID, ASK) for price, size in listing.book.levels(side, depth)}

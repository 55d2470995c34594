"""Kraken's books: the subscribed window and the checksum over what is printed."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

from tickplant.sim.market import Listing, Step
from tickplant.sim.matching import ASK, BID
from tickplant.sim.venue import PrintedLevel

DEPTHS = (10, 25, 100, 500, 1000)
CHECKSUM_LEVELS = 10

Rows = list[tuple[int, int]]


def checksum(asks: Iterable[PrintedLevel], bids: Iterable[PrintedLevel]) -> int:
    """CRC32 over the printed top ten: asks from low to high, then bids from high to low; of each level the price and
    then the size, without the point and without leading zeros (docs.kraken.com, book checksum v2)."""
    digits = [
        text.replace(".", "").lstrip("0")
        for side in (list(asks)[:CHECKSUM_LEVELS], list(bids)[:CHECKSUM_LEVELS])
        for level in side
        for text in level
    ]
    return zlib.crc32("".join(digits).encode())


class Window:
    """What the subscribers of one book at one depth hold: the best `depth` levels a side."""

    def __init__(self, listing: Listing, depth: int) -> None:
        self._listing = listing
        self._depth = depth
        self._held = [set(listing.book.prices(side, depth)) for side in (BID, ASK)]

    def rows(self, step: Step) -> tuple[Rows, Rows]:
        """(bids, asks) to send for a step, as price and new size: changes within the window, then levels that move into
        it. A level that falls out is not told. Both are empty where the step happened beyond the window."""
        rows: tuple[Rows, Rows] = ([], [])
        for side in (BID, ASK):
            changed = {change.price: change.size for change in step.changes if change.side == side}
            if changed:
                rows[side].extend(self._side(side, changed))
        return rows

    def _side(self, side: int, changed: dict[int, int]) -> Rows:
        book, held = self._listing.book, self._held[side]
        prices = book.prices(side, self._depth)
        window = self._held[side] = set(prices)
        gone = [(price, 0) for price, size in changed.items() if not size and price in held]
        new = [(price, size) for price, size in changed.items() if size and price in window]
        entered = window - held
        if not entered:
            return gone + new
        return gone + new + [(p, book.size_at(side, p)) for p in prices if p in entered and p not in changed]

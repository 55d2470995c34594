"""A seeded market: order flow for many instruments through a real matching engine, in virtual time.

The same seed, instruments and settings give the same steps, whatever the sizes of the `advance` calls. Prices and sizes
are whole ticks and lots. Each order is one `Step`; the levels it changed carry consecutive update ids (per instrument,
or shared by all instruments, as on futures venues), its trades consecutive trade ids of the instrument.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tickplant.clock import SECOND_NS, Random, seeded
from tickplant.sim.matching import ASK, BID, Change, MatchingBook, Outcome

# Quantiles of the exponential distribution as integers, so that no float takes part in a step's time.
_EXPONENTIAL_BITS = 10
_EXPONENTIAL_ONE = 1 << 20
_EXPONENTIAL = [round(-math.log1p(-(i + 0.5) / 1024) * _EXPONENTIAL_ONE) for i in range(1 << _EXPONENTIAL_BITS)]
# One arrival in 256 is a burst: 20 to 83 orders on its instrument at a twentieth of the usual distance.
_BURST_ONE_IN = 256
_BURST_LEAST, _BURST_SPAN = 20, 64
_BURST_MEAN = _BURST_LEAST + (_BURST_SPAN - 1) / 2
_BURST_SPEED = 20


@dataclass(frozen=True, slots=True)
class Instrument:
    """What is traded: `price` is the start in ticks of 10**-price_scale, `lot` a usual size in 10**-size_scale."""

    symbol: str
    base: str
    quote: str
    price_scale: int
    size_scale: int
    price: int
    lot: int


class Trade(NamedTuple):
    """One match; `side` is the aggressor's. `maker` and `taker` are order ids."""

    id: int
    price: int
    size: int
    side: int
    maker: int
    taker: int


class Step(NamedTuple):
    """What one order did. Its changes carry the update ids `first_id` to `last_id`, one each; without changes both are
    the last id used before."""

    time_ns: int
    instrument: int
    first_id: int
    last_id: int
    changes: tuple[Change, ...]
    trades: tuple[Trade, ...]


class _Past(NamedTuple):
    update_id: int
    change: Change


class Listing:
    """One instrument's market: its book, the flow that feeds it, its counters and its near past."""

    def __init__(self, instrument: Instrument, rng: Random, depth: int, history: int, first_id: int) -> None:
        self.instrument = instrument
        self.book = MatchingBook()
        self.update_id = first_id
        self.trade_id = 1000 + rng.getrandbits(16)
        self._past: deque[_Past] = deque(maxlen=history)
        self._rng = rng
        self._depth = depth
        self._fair = instrument.price
        self._order = 0
        self._resting: list[int] = []
        self._index: dict[int, int] = {}
        self._seed_book()

    def order(self) -> tuple[Outcome, int, int]:
        """One random order: (what it did, its side, its id)."""
        rng = self._rng
        self._drift()
        side = rng.getrandbits(1)
        resting = len(self._resting)
        roll = rng.getrandbits(8)
        if self.book.depth(side) < self._depth // 8:
            return self._limit(side)
        if roll < (96 if resting < 2 * self._depth else 150):
            return self.book.cancel(self._forget(self._resting[rng.randrange(resting)])), side, 0
        if roll >= 248 and self.book.depth(1 - side) > self._depth // 4:
            self._order += 1
            return self._settled(self.book.market(side, 4 * self._size())), side, self._order
        return self._limit(side)

    def note(self, first_id: int, changes: tuple[Change, ...]) -> None:
        """Takes the changes into the past, the first with the update id `first_id`."""
        self._past.extend(_Past(first_id + offset, change) for offset, change in enumerate(changes))
        if changes:
            self.update_id = first_id + len(changes) - 1

    def levels_at(self, update_id: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """(bids, asks), best first, as they stood right after `update_id`.

        Raises LookupError where the id lies before the kept past or has not come yet.
        """
        if update_id > self.update_id:
            raise LookupError(
                f"{self.instrument.symbol}: update {update_id} has not come yet; the last is {self.update_id}"
            )
        sides = dict(self.book.levels(BID)), dict(self.book.levels(ASK))
        for past in reversed(self._past):
            if past.update_id <= update_id:
                break
            sides[past.change.side][past.change.price] = past.change.previous
        else:
            if len(self._past) == self._past.maxlen:
                raise LookupError(
                    f"{self.instrument.symbol}: update {update_id} is too old; kept from {self._past[0].update_id}"
                )
        bids, asks = (sorted((p, s) for p, s in side.items() if s) for side in sides)
        return bids[::-1], asks

    def _seed_book(self) -> None:
        for _ in range(self._depth):
            for side in (BID, ASK):
                self._limit(side)

    def _limit(self, side: int) -> tuple[Outcome, int, int]:
        self._order += 1
        offset = self._rng.randrange(1 << (3 + self._rng.getrandbits(3)))
        price = max(1, self._fair - offset if side == BID else self._fair + offset)
        outcome = self._settled(self.book.limit(self._order, side, price, self._size()))
        if self._order in self.book.orders:
            self._index[self._order] = len(self._resting)
            self._resting.append(self._order)
        return outcome, side, self._order

    def _size(self) -> int:
        lot = self.instrument.lot
        if self._rng.getrandbits(2) == 0:
            return lot * (1 + self._rng.getrandbits(4))
        return 1 + self._rng.randrange(8 * lot)

    def _drift(self) -> None:
        """Moves the fair price a little, within a twentieth of the start."""
        if self._rng.getrandbits(4):
            return
        start = self.instrument.price
        step = 1 + self._rng.getrandbits(2)
        away = self._fair - start
        upwards = self._rng.getrandbits(1) if abs(away) < start // 20 else away < 0
        self._fair = max(1024, self._fair + (step if upwards else -step))

    def _settled(self, outcome: Outcome) -> Outcome:
        for fill in outcome.fills:
            if fill.maker not in self.book.orders:
                self._forget(fill.maker)
        return outcome

    def _forget(self, order: int) -> int:
        index = self._index.pop(order)
        last = self._resting.pop()
        if last != order:
            self._resting[index] = last
            self._index[last] = index
        return order


class Market:
    """Many instruments in one virtual time, `rate` orders a second over all of them.

    `depth` is the number of orders a side that each book keeps near; `history` the number of level changes that an
    instrument remembers, so that a book of a little while ago can be had. `shared_ids` lets all instruments share one
    update counter. While `running` is false time goes on and nobody trades. `witness` is shown each step first.
    """

    def __init__(
        self,
        instruments: Sequence[Instrument],
        seed: int,
        *,
        start_ns: int = 0,
        rate: int = 200,
        depth: int = 250,
        history: int = 1024,
        shared_ids: bool = False,
    ) -> None:
        if not instruments or rate < 1 or depth < 16:
            raise ValueError(
                "a market wants instruments, a rate of at least 1 and a depth of at least 16; "
                f"got {len(instruments)}, {rate} and {depth}"
            )
        self.now_ns = start_ns
        self.rate = rate
        self.running = True
        self.witness: Callable[[Step], None] | None = None
        self._rng = seeded(f"flow {seed}")
        first_ids = [seeded(f"id {seed} {i.symbol}").getrandbits(30) for i in instruments]
        self._shared_id = max(first_ids) if shared_ids else None
        self.listings = [
            Listing(instrument, seeded(f"{instrument.symbol} {seed}"), depth, history, self._shared_id or first_id)
            for instrument, first_id in zip(instruments, first_ids, strict=True)
        ]
        self.index_of = {instrument.symbol: index for index, instrument in enumerate(instruments)}
        self._burst_left = 0
        self._current = 0
        self.next_ns = start_ns + self._distance()

    def advance(self, until_ns: int) -> list[Step]:
        """Every step up to and including `until_ns`, in the order of their times."""
        return list(self.steps(until_ns))

    def steps(self, until_ns: int) -> Iterator[Step]:
        """The same one by one: while the caller looks at a step, the books stand right after it."""
        if not self.running:
            self.next_ns += max(0, until_ns - self.now_ns)
        while self.next_ns <= until_ns:
            step = self._step(self.next_ns)
            self.next_ns += self._distance()
            if self.witness is not None:
                self.witness(step)
            yield step
        self.now_ns = max(self.now_ns, until_ns)

    def _step(self, time_ns: int) -> Step:
        if self._burst_left:
            self._burst_left -= 1
        else:
            self._current = self._rng.randrange(len(self.listings))
            if self._rng.randrange(_BURST_ONE_IN) == 0:
                self._burst_left = _BURST_LEAST + self._rng.randrange(_BURST_SPAN)
        listing = self.listings[self._current]
        outcome, side, order = listing.order()
        trades = tuple(
            Trade(listing.trade_id + number, fill.price, fill.size, side, fill.maker, order)
            for number, fill in enumerate(outcome.fills, 1)
        )
        listing.trade_id += len(trades)
        before = listing.update_id if self._shared_id is None else self._shared_id
        first_id = before + 1 if outcome.changes else listing.update_id
        listing.note(first_id, outcome.changes)
        if self._shared_id is not None:
            self._shared_id += len(outcome.changes)
        return Step(time_ns, self._current, first_id, listing.update_id, outcome.changes, trades)

    def _distance(self) -> int:
        """Nanoseconds to the next step: exponential around the rate's mean, shorter within a burst."""
        mean = round(SECOND_NS * (1 + _BURST_MEAN / _BURST_ONE_IN)) // self.rate
        if self._burst_left:
            mean //= _BURST_SPEED
        return 1 + (mean * _EXPONENTIAL[self._rng.getrandbits(_EXPONENTIAL_BITS)] >> 20)

"""The matching engine against what a market must be, and against a twin that keeps one flat list of orders."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tickplant.sim.matching import ASK, BID, Fill, MatchingBook

SIDES = st.sampled_from([BID, ASK])
PRICES = st.integers(95, 105)
SIZES = st.integers(1, 20)
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("limit"), SIDES, PRICES, SIZES),
        st.tuples(st.just("market"), SIDES, st.just(0), SIZES),
        st.tuples(st.just("cancel"), SIDES, st.integers(0, 60), st.just(1)),
    ),
    max_size=60,
)


class PlainMatching:
    """The same rules over one list of [order, side, price, left], searched from the start each time."""

    def __init__(self) -> None:
        self.orders: list[list[int]] = []

    def take(self, side: int, size: int, limit: int | None) -> tuple[list[Fill], int]:
        fills: list[Fill] = []
        while size:
            sign = 1 if side == BID else -1
            against = [o for o in self.orders if o[1] != side and (limit is None or sign * o[2] <= sign * limit)]
            if not against:
                break
            best = min(against, key=lambda o: sign * o[2])
            taken = min(size, best[3])
            fills.append(Fill(best[2], taken, best[0]))
            best[3] -= taken
            size -= taken
            self.orders = [o for o in self.orders if o[3]]
        return fills, size

    def levels(self, side: int) -> list[tuple[int, int]]:
        sums: dict[int, int] = {}
        for _, order_side, price, left in self.orders:
            if order_side == side:
                sums[price] = sums.get(price, 0) + left
        return sorted(sums.items(), reverse=side == BID)


@settings(max_examples=300)
@given(ACTIONS)
def test_agrees_with_a_flat_list_after_every_order(actions: list[tuple[str, int, int, int]]) -> None:
    book, plain = MatchingBook(), PlainMatching()
    for number, (action, side, price, size) in enumerate(actions):
        before = {s: dict(book.levels(s)) for s in (BID, ASK)}
        if action == "limit":
            outcome = book.limit(number, side, price, size)
            fills, left = plain.take(side, size, price)
            if left:
                plain.orders.append([number, side, price, left])
        elif action == "market":
            outcome = book.market(side, size)
            fills, _ = plain.take(side, size, None)
        elif price in book.orders:
            outcome, fills = book.cancel(price), []
            plain.orders = [o for o in plain.orders if o[0] != price]
        else:
            with pytest.raises(KeyError):
                book.cancel(price)
            continue
        assert list(outcome.fills) == fills
        for s in (BID, ASK):
            assert book.levels(s) == plain.levels(s)
            assert [p for p, _ in book.levels(s, 3)] == book.prices(s, 3)
            # The told changes turn the levels of before into the levels of now, and say what was before.
            for change in outcome.changes:
                if change.side == s:
                    assert before[s].get(change.price, 0) == change.previous != change.size
                    before[s][change.price] = change.size
            assert {p: z for p, z in before[s].items() if z} == dict(book.levels(s))
        bid, ask = book.best(BID), book.best(ASK)
        assert bid is None or ask is None or bid < ask
        assert sorted(book.orders) == sorted(o[0] for o in plain.orders)


def test_price_then_time() -> None:
    book = MatchingBook()
    book.limit(1, ASK, 101, 5)
    book.limit(2, ASK, 100, 5)
    book.limit(3, ASK, 100, 5)
    outcome = book.market(BID, 12)
    assert outcome.fills == (Fill(100, 5, 2), Fill(100, 5, 3), Fill(101, 2, 1))
    assert [(c.price, c.size, c.previous) for c in outcome.changes] == [(100, 0, 10), (101, 3, 5)]

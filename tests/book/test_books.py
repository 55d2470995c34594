"""`tickplant.book`: columns, single changes and their errors, against a plain twin."""

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickplant.book import Book, OrderBook

ROW = st.tuples(st.sampled_from("BA"), st.integers(1, 30), st.integers(0, 5))


def columns(rows):
    sides = "".join(side for side, _, _ in rows).encode()
    return sides, np.array([row[1] for row in rows], dtype=np.int64), np.array([row[2] for row in rows], dtype=np.int64)


def plainly(rows, book=()):
    levels = dict(book)
    for side, price, size in rows:
        levels.pop((side, price), None)
        if size:
            levels[side, price] = size
    return levels


def held(book):
    return {(side, int(price)): int(size) for side in "BA" for price, size, _ in book.levels(side)}


@given(st.lists(ROW, max_size=40), st.lists(ROW, max_size=40))
def test_columns_and_single_changes_are_one(start, updates):
    batches, singles = Book(), Book()
    for book in (batches, singles):
        book.load(*columns(start))
    batches.apply(*columns(updates), message=3)
    for side, price, size in updates:
        singles.set(side, price, size)
    expected = plainly(updates, plainly(start))
    assert held(batches) == held(singles) == expected
    prices = [price for side, price in expected if side == "B"]
    assert batches.best("B") == ((str(max(prices)), str(expected["B", max(prices)]), 0) if prices else None)


@given(st.lists(ROW, max_size=60), st.integers(1, 7))
def test_touches_are_those_after_each_message(rows, message):
    sides, prices, sizes = columns(rows)
    at_once, one_by_one = Book(), Book()
    told = np.frombuffer(at_once.touches(sides, prices, sizes, message=message), np.int64).reshape(-1, 4)
    for start, touch in zip(range(0, len(rows), message), told.tolist(), strict=True):
        one_by_one.apply(*columns(rows[start : start + message]))
        assert tuple(None if number == 2**63 - 1 else number for number in touch) == one_by_one.touch()
        best = [one_by_one.best(side) for side in "BA"]
        texts = [number and str(number) for number in one_by_one.touch()]
        assert texts == [best[0] and best[0][0], best[0] and best[0][1], best[1] and best[1][0], best[1] and best[1][1]]
    assert held(at_once) == held(one_by_one)


def deep_rows(rng, count):
    """Rows of a market whose centre drifts: mostly near it, some far, seldom absurd."""
    centre = 100_000 + np.cumsum(rng.integers(-3, 4, count)) * 5
    is_bid = rng.integers(0, 2, count) == 0
    distance = np.minimum(5 * rng.geometric(0.05, count) * np.where(rng.random(count) < 0.1, 40, 1), 60_000)
    prices = np.where(is_bid, centre - distance, centre + distance)
    prices = np.where(rng.random(count) < 0.002, rng.integers(1, 10**12, count), prices)
    sizes = np.where(rng.random(count) < 0.4, 0, rng.integers(1, 1000, count))
    return list(zip(np.where(is_bid, "B", "A").tolist(), prices.tolist(), sizes.tolist(), strict=True))


@pytest.mark.parametrize("seed", range(4))
def test_deep_books_are_plain_ones(seed):
    rng = np.random.default_rng(seed)
    ranks = range(1, 700)
    start = [(side, 100_000 + out * 10 * rank, rank) for side, out in (("B", -1), ("A", 1)) for rank in ranks]
    book, levels = Book(), plainly(start)
    book.load(*columns(start))
    for _ in range(20):
        rows = deep_rows(rng, 400)
        book.apply(*columns(rows), message=19)
        levels = plainly(rows, levels)
        assert held(book) == levels


def test_a_checksum_is_told_and_compared():
    book = Book(depth=10, truncate=True, checksum="kraken", price_scale=1, size_scale=8)
    book.load(b"BA", np.array([452835, 452840]), np.array([10_000_000, 5_000_000]))
    assert book.best("B") == ("45283.5", "0.10000000", 0)
    assert book.checksum() == zlib.crc32(b"452840500000045283510000000")
    assert book.agrees(book.checksum()) is True
    assert book.agrees(1) is False
    assert Book().agrees(1) is None
    assert Book(checksum="okx").agrees(0) is None


def test_a_book_is_cut_after_each_message():
    book = Book(depth=2, truncate=True)
    book.apply(b"AAA", np.array([3, 1, 2]), np.array([1, 1, 1]))
    assert [price for price, _, _ in book.levels("A")] == ["1", "2"]
    assert (book.depth("A"), book.depth("B"), book.is_crossed) == (2, 0, False)


def test_orders_stand_in_their_queue():
    book = OrderBook(price_scale=1, size_scale=2)
    book.apply(b"AAA", b"BBB", np.array([1, 2, 3], dtype=np.uint64), np.array([100, 100, 99]), np.array([5, 6, 7]))
    assert book.levels("B") == [("10.0", "0.11", 2), ("9.9", "0.07", 1)]
    book.fill(1, 2)
    book.add(4, "B", 100, 1)
    assert book.orders("B") == [(1, "10.0", "0.03"), (2, "10.0", "0.06"), (4, "10.0", "0.01"), (3, "9.9", "0.07")]
    assert book.ahead(4) == (2, "0.09")
    book.modify(1, "B", 100, 9)
    assert [order[0] for order in book.orders("B", 3)] == [2, 4, 1]
    book.cancel(2)
    book.cancel(77)
    assert (len(book), book.oddities, book.ahead(2)) == (3, (1, 0, 0, 0), None)
    assert book.checksum() == zlib.crc32(b"10011009997")


@pytest.mark.parametrize(
    "call",
    [
        lambda: Book(checksum="crc"),
        lambda: Book().set("X", 1, 1),
        lambda: Book().set("B", 1, -1),
        lambda: Book().apply(b"B", np.array([1, 2]), np.array([1, 2])),
        lambda: Book().apply(b"?", np.array([1]), np.array([2])),
        lambda: OrderBook().apply(b"Z", b"B", np.array([1], dtype=np.uint64), np.array([1]), np.array([2])),
        lambda: OrderBook().add(1, "A", 5, -5),
    ],
)
def test_what_is_wrong_is_a_value_error(call):
    with pytest.raises(ValueError, match=r"checksum is|side is|action is|negative|one length"):
        call()

"""The native book against an obviously right one: two dicts keyed on exact values, and the checksum as documented."""

import zlib
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tickplant._native import LevelBook

Row = tuple[str, str, str]


class PlainBook:
    """Levels by value, each with its texts as they were last sent."""

    def __init__(self, depth: int, truncate: bool) -> None:
        self.depth = depth if truncate and depth else None
        self.sides: dict[str, dict[Decimal, tuple[str, str]]] = {"B": {}, "A": {}}

    def apply(self, rows: list[Row]) -> None:
        for side, price, size in rows:
            if Decimal(size) == 0:
                self.sides[side].pop(Decimal(price), None)
            else:
                self.sides[side][Decimal(price)] = (price, size)
        for side, levels in self.sides.items():
            kept = self._best_first(side)[: self.depth]
            self.sides[side] = {key: levels[key] for key in kept}

    def _best_first(self, side: str) -> list[Decimal]:
        return sorted(self.sides[side], reverse=side == "B")

    def levels(self, side: str) -> list[tuple[str, str]]:
        return [self.sides[side][key] for key in self._best_first(side)]

    def checksum(self, price_scale: int | None = None, size_scale: int | None = None) -> int:
        """Kraken: top ten asks, then bids; digits without the point and without leading zeros."""
        text = ""
        for side in "AB":
            for price, size in self.levels(side)[:10]:
                text += digits(price, price_scale) + digits(size, size_scale)
        return zlib.crc32(text.encode())


def digits(number: str, printed: int | None) -> str:
    whole, _, fraction = number.partition(".")
    return (whole + fraction.ljust(printed or 0, "0")).lstrip("0")


# Few prices, so that levels meet, some written in two ways; many deletes.
prices = st.builds(
    lambda ticks, zeros: f"{ticks // 10}.{ticks % 10}{'0' * zeros}", st.integers(1, 60), st.integers(0, 3)
)
sizes = st.one_of(
    st.just("0.00000000"),
    st.just("0"),
    st.builds(
        lambda mantissa, scale: f"{Decimal(mantissa).scaleb(-scale):f}", st.integers(1, 10**9), st.integers(0, 8)
    ),
)
rows = st.lists(st.tuples(st.sampled_from("AB"), prices, sizes), max_size=12)


@settings(max_examples=300)
@given(
    depth=st.sampled_from([0, 1, 5, 10, 25]),
    truncate=st.booleans(),
    kept=st.booleans(),
    snapshot=st.lists(st.tuples(st.sampled_from("AB"), prices, sizes), max_size=60),
    messages=st.lists(st.tuples(rows, st.booleans()), max_size=20),
)
def test_native_and_plain_agree(depth, truncate, kept, snapshot, messages):
    native, plain = LevelBook(depth, truncate=truncate, checksum=kept), PlainBook(depth, truncate)
    follower = PlainBook(0, truncate=False)
    changes = native.load(snapshot)
    plain.apply(snapshot)
    assert changes[0][0] == "R"
    follow(follower, changes[1:])
    for message, compare in messages:
        changes = native.apply(message)
        plain.apply(message)
        follow(follower, changes)
        for side in "AB":
            assert native.levels(side) == plain.levels(side) == follower.levels(side)
        if compare:
            assert native.checksum() == (plain.checksum() if kept else 0)
    native.set_scales(4, 9)
    assert native.checksum() == (plain.checksum(4, 9) if kept else 0)


def follow(book: PlainBook, changes: list[tuple[str, str, str, str, bool]]) -> None:
    """A reader of the log: knows no depth and no rule of the venue, and never meets what it does not know."""
    for action, side, price, size, window in changes:
        known = Decimal(price) in book.sides[side]
        assert known == (action != "A")
        assert (Decimal(size) == 0) == (action == "C")
        assert action == "C" or not window
        book.apply([(side, price, size)])


def test_a_bad_row_is_refused_whole():
    book = LevelBook(10, truncate=True, checksum=True)
    book.load([("B", "1.0", "5"), ("A", "2.0", "5")])
    for bad in [("B", "1.0", "-1"), ("B", "x", "1"), ("C", "1.0", "1"), ("B", "1.0", "92233720368547758.08")]:
        with pytest.raises(ValueError):
            book.apply([("B", "0.9", "1"), bad])
    assert book.levels("B") == [("1.0", "5")]

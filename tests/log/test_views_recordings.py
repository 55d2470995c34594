"""Derived views of real streams: every row of every recording against sorted lists that take the raw records."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal

import pytest

import tickplant as tp
from tickplant.cli import main
from tickplant.records import F_LAST, Action, BookState, Level, Reason, Side, Subject

FEED = "cryptofeed/"
# Kraken's hold no snapshot, so they give no book.
RECORDINGS = [
    ("COINBASE", "cryptofeed", [FEED + "COINBASE.ws.28.0.gz"]),
    ("BINANCE", "cryptofeed", [FEED + "BINANCE.ws.1.0.gz", FEED + "BINANCE.http.0.0.gz"]),
    ("BINANCE_USDM", "cryptofeed", [FEED + "BINANCE_FUTURES.ws.1.0.gz", FEED + "BINANCE_FUTURES.http.0.0.gz"]),
    ("BINANCE", "hftbacktest", ["hftbacktest-binance-spot-btcusdt-20240808.gz"]),
    ("BINANCE_USDM", "hftbacktest", ["hftbacktest-binance-usdm-btcusdt-20240808.gz"]),
]
CASES = [
    pytest.param(*case, id=f"{case[0]}-{case[1]}", marks=[pytest.mark.proof] * (case[1] == "hftbacktest"))
    for case in RECORDINGS
]
Levels = list[tuple[str, str, int]]


@dataclass
class Plain:
    """One book: prices of each side in order, and what stands at each."""

    prices: dict[Side, list[Decimal]] = field(default_factory=lambda: {Side.BID: [], Side.ASK: []})
    levels: dict[Side, dict[Decimal, tuple[str, str, int]]] = field(
        default_factory=lambda: {Side.BID: {}, Side.ASK: {}}
    )
    pending: list[Level] = field(default_factory=list)
    joined: bool = False
    state: BookState = BookState.SYNCING

    def take(self, line: Level) -> bool:
        """Takes a record; whether it was the last of a message of a book that is known."""
        self.pending.append(line)
        if not line.flags & F_LAST:
            return False
        message, self.pending = self.pending, []
        if not self.joined and all(one.action is not Action.CLEAR for one in message):
            return False
        for one in message:
            self.apply(one)
        self.joined, self.state = True, line.state
        return True

    def apply(self, line: Level) -> None:
        if line.action is Action.CLEAR:
            for side in (Side.BID, Side.ASK):
                self.prices[side].clear()
                self.levels[side].clear()
        elif line.action is not Action.NONE:
            prices, levels, price = self.prices[line.side], self.levels[line.side], Decimal(line.price_text)
            if line.action is Action.CANCEL:
                del levels[price], prices[bisect_left(prices, price)]
                return
            if price not in levels:
                insort(prices, price)
            levels[price] = (line.price_text, line.size_text, line.aux)

    def best(self, depth: int) -> tuple[Levels, Levels]:
        bids, asks = self.prices[Side.BID], self.prices[Side.ASK]
        first = [self.levels[Side.BID][price] for price in bids[: -depth - 1 : -1]]
        return first, [self.levels[Side.ASK][price] for price in asks[:depth]]


def top(books: dict[int, Plain], side: int) -> Levels:
    """The best level of a side over the books that are LIVE, with whose it is."""
    found = []
    for number, book in books.items():
        for price, size, _ in book.best(1)[side] if book.joined and book.state is BookState.LIVE else []:
            value = Decimal(price)
            found.append((-value if side == 0 else value, -Decimal(size), number, price, size))
    return [(price, size, number) for *_, number, price, size in sorted(found)[:1]]


def rows(log: tp.Log, schema: str, names: list[str]) -> Iterator[tuple]:
    for batch in log.records(names, schema=schema):
        yield from ((row.ts_recv, row.sequence, row.instrument_id, row.state, row.bids, row.asks) for row in batch)


@pytest.mark.parametrize(("venue", "form", "files"), CASES)
def test_every_row_is_the_plain_books(recording, tmp_path, venue, form, files):
    paths = [str(recording(file)) for file in files]
    log_path = str(tmp_path / "log")
    # Exit 1: a recording that begins without a snapshot leaves a book unproven, which is no affair of the views.
    assert main.call(["import", *paths, "--format", form, "--venue", venue, "--log", log_path]) in (0, 1)
    log = tp.Log.open(log_path)
    names = log.instruments()
    views = {schema: rows(log, schema, names) for schema in ("mbp-1", "mbp-10", "bbo", "cmbp-1")}
    books: dict[int, Plain] = {}
    shown: dict[int, tuple] = {}
    best: tuple[Levels, Levels] = ([], [])
    count = dict.fromkeys(views, 0)

    def check(schema: str, *wanted) -> None:
        assert next(views[schema]) == wanted
        count[schema] += 1

    for batch in log.records(schema=["levels", "status"]):
        for record in batch:
            came = (record.ts_recv, record.sequence)
            if isinstance(record, Level):
                number = record.instrument_id
                book = books.setdefault(number, Plain())
                if not book.take(record):
                    continue
                for depth in (1, 10):
                    check(f"mbp-{depth}", *came, number, book.state, *book.best(depth))
                touched = [number]
            elif record.subject is Subject.BOOK and record.instrument_id in books:
                touched = [record.instrument_id]
                books[record.instrument_id].state = record.current
            elif record.subject is Subject.PLANT and record.reason is Reason.RESTARTED:
                touched = sorted(books)
                for number in touched:
                    books[number].state = BookState.CLOSED
            else:
                continue
            for number in (number for number in touched if books[number].joined):
                touch = (books[number].state, *books[number].best(1))
                if shown.get(number) != touch:
                    check("bbo", *came, number, *touch)
                shown[number] = touch
                both = (top(books, 0), top(books, 1))
                if both != best:
                    check("cmbp-1", *came, number, books[number].state, *both)
                best = both
    assert all(next(left, None) is None for left in views.values())
    assert min(count.values()) > 0, count

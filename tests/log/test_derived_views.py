"""Derived views against their plain twins: every row of every schema over generated streams, from any position."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from face_market import NAMES, Message, PlainBook, memory_directory, rows, writer
from hypothesis import example, given, settings
from hypothesis import strategies as st

import tickplant as tp
from tickplant.records import F_LAST, UNDEF_I64, UNDEF_U64, Action, BookState, Reason, Side, Status, Subject, Trade

slow = settings(max_examples=60)
SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND


@dataclass
class Sale:
    instrument: int
    price: int
    size: int
    side: Side


@dataclass
class Turn:
    """A book's state changes; instrument 0: a new run begins."""

    instrument: int
    state: BookState


@dataclass
class Happened:
    """What was written: the event, its receive time, its lane and the index of its last record there."""

    event: Any
    at: int
    lane: str
    index: int


sales = st.builds(
    Sale, st.integers(1, 2), st.integers(1, 300), st.integers(1, 30), st.sampled_from([Side.BID, Side.ASK, Side.NONE])
)
turns = st.builds(Turn, st.integers(1, 2), st.sampled_from([BookState.STALE, BookState.LIVE, BookState.GAP]))
books = st.builds(
    Message,
    instrument=st.integers(1, 2),
    snapshot=st.integers(0, 5).map(lambda number: number == 0),
    rows=st.lists(rows, max_size=5),
    ts_event=st.just(5),
)
restarts = st.just(Turn(0, BookState.CLOSED))
events = st.one_of(books, books, books, books, sales, turns, st.one_of(turns, restarts))
streams = st.lists(
    st.tuples(events, st.sampled_from([0, 1, SECOND // 3, SECOND, 90 * SECOND])), min_size=1, max_size=50
)


def sale_record(sale: Sale, sequence: int, at: int) -> Trade:
    of_sale = {"price": sale.price, "size": sale.size, "side": sale.side, "instrument_id": sale.instrument}
    scales = {"price_scale": 1, "size_scale": 1}
    return Trade(ts_event=7, ts_recv=at, sequence=sequence, action=Action.TRADE, flags=F_LAST, **of_sale, **scales)


def write(path: Path, stream, two_lanes: bool) -> list[Happened]:
    """Writes a stream; with two lanes each instrument into one of its own, a new run into both."""
    plain, now, history = {1: PlainBook(), 2: PlainBook()}, START, []
    with writer(path, "one") as one, writer(path, "two") as two:
        for number, (event, pause) in enumerate(stream):
            now += pause
            lane, name = (two, "two") if two_lanes and event.instrument == 2 else (one, "one")
            match event:
                case Message():
                    event.sequence, event.ts_recv = number, now
                    made = plain[event.instrument].apply(event)
                case Sale():
                    made = [sale_record(event, number, now)]
                case Turn(instrument=0):
                    made = [Status(ts_recv=now, subject=Subject.PLANT, reason=Reason.RESTARTED)]
                case Turn():
                    state, number_of = event.state, event.instrument
                    made = [Status(ts_recv=now, subject=Subject.BOOK, current=state, instrument_id=number_of)]
            lane.append(made, ts_recv=now)
            history.append(Happened(event, now, name, lane.next_index - 1))
            for each in (one, two):
                each.commit(now)
    return history


Levels = list[tuple[str, str, int]]


@dataclass
class Twin:
    """The plainest reader: it holds every book and looks at all of it after each event."""

    plain: dict[int, PlainBook] = field(default_factory=lambda: {1: PlainBook(), 2: PlainBook()})
    states: dict[int, BookState] = field(default_factory=lambda: dict.fromkeys((1, 2), BookState.SYNCING))
    last: dict[int, Sale] = field(default_factory=dict)
    known: set[int] = field(default_factory=set)

    def take(self, happened: Happened) -> bool:
        """Takes an event; whether a book message was applied."""
        match happened.event:
            case Turn(instrument=number, state=state):
                # Of a book that nothing was heard of there is no state.
                self.states |= dict.fromkeys(self.known if number == 0 else self.known & {number}, state)
                return False
        self.known.add(happened.event.instrument)
        match happened.event:
            case Message() as message:
                book = self.plain[message.instrument]
                book.apply(message)
                if book.joined:
                    self.states[message.instrument] = BookState.LIVE
                return book.joined
            case Sale() as sale:
                self.last[sale.instrument] = sale
        return False

    def best(self, instrument: int) -> tuple[Levels, Levels]:
        book = self.plain[instrument]
        return book.best(1) if book.joined else ([], [])


def run(stream, schema: str, twin, *, two_lanes: bool = False, **options):
    """Rows of the log and of the twin, from the start and from every later position."""
    with memory_directory() as path:
        history = write(Path(path), stream, two_lanes)
        log = tp.Log.open(Path(path) / "log")
        expected = list(twin(history))
        found = [row for batch in log.records(schema=schema, **options) for row in batch]
        assert len(found) == len(expected)
        for row, wanted in zip(found, expected, strict=True):
            compare(row, wanted)
        if not two_lanes:
            for start in range(log.position()["one"] + 1):
                later = [row for batch in log.records(schema=schema, start={"one": start}, **options) for row in batch]
                if schema[:4] != "bbo-":
                    assert [r.as_dict() for r in later] == [r.as_dict() for r in found if r.index >= start], start
                    continue
                # Of the interval that the start lies in only the instruments that changed behind it have a row.
                left = iter([r.as_dict() for r in found])
                assert all(r.as_dict() in left for r in later), start


def compare(row, wanted: dict[str, Any]) -> None:
    shown = {name: row.extra[name] if name in row.extra else getattr(row, name) for name in wanted}
    assert shown == wanted


def touches(history) -> Iterator[tuple[Twin, int, bool, Happened]]:
    """After each applied message or change of a state: the twin, the instrument and whether its best levels or its
    state changed."""
    twin, before = Twin(), {}
    for happened in history:
        applied = twin.take(happened)
        match happened.event:
            case Turn(instrument=0):
                numbers = [1, 2]
            case Turn(instrument=number):
                numbers = [number]
            case Message(instrument=number):
                numbers = [number] if applied else []
            case _:
                numbers = []
        for number in (number for number in numbers if twin.plain[number].joined):
            touch = (twin.best(number), twin.states[number])
            yield twin, number, before.get(number) != touch, happened
            before[number] = touch


def decimals(text: str) -> int:
    return len(text.partition(".")[2])


def rounded(number: Fraction, digits: int) -> str:
    """Half to even, as text of so many digits."""
    return f"{Decimal(round(number * 10**digits)).scaleb(-digits):f}"


@slow
@given(streams)
def test_touch(stream):
    def twin(history):
        for state, number, changed, happened in touches(history):
            if changed:
                bids, asks = state.best(number)
                yield {"bids": bids, "asks": asks, "index": happened.index, "state": state.states[number]}

    def measured(history):
        for wanted in twin(history):
            yield wanted | {"spread": None, "microprice": None, "imbalance": None}

    with memory_directory() as path:
        history = write(Path(path), stream, two_lanes=False)
        found = [row for batch in tp.Log.open(Path(path) / "log").records(schema="touch") for row in batch]
        for row, wanted in zip(found, measured(history), strict=True):
            if wanted["bids"] and wanted["asks"]:
                bid, bid_size, ask, ask_size = (Fraction(text) for level in row.bids + row.asks for text in level[:2])
                both, spread = bid_size + ask_size, row.extra["spread"]
                digits = row.price_scale
                assert decimals(spread) == digits
                wanted |= {
                    "spread": rounded(ask - bid, digits),
                    "microprice": rounded((bid * ask_size + ask * bid_size) / both, digits + 4),
                    "imbalance": rounded((bid_size - ask_size) / both, 9),
                }
            compare(row, wanted)
    run(stream, "touch", twin)


def exactly(row, wanted) -> dict[str, Any]:
    """The numbers of a row as values where the twin has values."""
    return {name: None if row[name] is None else Fraction(row[name]) for name in wanted}


@slow
@given(streams, st.sampled_from([0, 1, 50, 1_000, 9_999, 20_000]))
def test_depth_within_basis_points(stream, basis_points):
    def measure(book: PlainBook):
        if not book.bids or not book.asks:
            return {"bid_depth": None, "ask_depth": None, "bid_levels": 0, "ask_levels": 0}
        mid = Fraction(max(book.bids) + min(book.asks)) / 2
        found = {}
        for side, levels in (("bid", book.bids), ("ask", book.asks)):
            near = [Fraction(size) for price, (_, size, _) in levels.items()
                    if abs(Fraction(price) - mid) <= mid * basis_points / 10_000]  # fmt: skip
            # The band is walked from the best level on; beyond the first that is outside all are.
            found |= {f"{side}_depth": sum(near), f"{side}_levels": len(near)}
        return found

    check_measured(stream, "depth", measure, basis_points=basis_points)


@slow
@given(streams, st.decimals("0.01", "9", places=2))
def test_impact_of_a_size(stream, size):
    def sweep(levels) -> tuple[Fraction | None, Fraction, Fraction]:
        left, cost, last = Fraction(size), Fraction(0), None
        for price, text in levels:
            if left > 0:
                taken = min(left, Fraction(text))
                left, cost, last = left - taken, cost + taken * Fraction(price), Fraction(price)
        return last, Fraction(size) - left, cost

    def measure(book: PlainBook):
        buy = sweep([(price, text[1]) for price, text in sorted(book.asks.items())])
        sell = sweep([(price, text[1]) for price, text in sorted(book.bids.items(), reverse=True)])
        names = ("px", "sz", "cost")
        sides = (("buy", buy), ("sell", sell))
        return {f"{side}_{name}": value for side, values in sides for name, value in zip(names, values, strict=True)}

    check_measured(stream, "impact", measure, size=size)


def check_measured(stream, schema: str, measure, **options) -> None:
    """A row where the best levels, the state or what is measured changed, and no other."""
    with memory_directory() as path:
        history = write(Path(path), stream, two_lanes=False)
        log = tp.Log.open(Path(path) / "log")
        found = [row for batch in log.records(schema=schema, **options) for row in batch]
        by_place, seen = {(row.index, row.instrument_id): row for row in found}, set()
        before: dict[int, Any] = {}
        for twin, number, changed, happened in touches(history):
            wanted = measure(twin.plain[number])
            if changed or before.get(number) != wanted:
                row = by_place[happened.index, number]
                assert row.state == twin.states[number]
                assert exactly(row.extra, wanted) == wanted
                assert (row.bids, row.asks) == twin.best(number)
                seen.add((happened.index, number))
            before[number] = wanted
        # The same value at another scale is a change of what the venue wrote.
        extra = [row for row in found if (row.index, row.instrument_id) not in seen]
        assert all(row.changes > 0 for row in extra)
        for start in range(log.position()["one"] + 1):
            later = [row for batch in log.records(schema=schema, start={"one": start}, **options) for row in batch]
            assert [row.as_dict() for row in later] == [row.as_dict() for row in found if row.index >= start]


@slow
@given(streams)
def test_a_trade_comes_with_the_best_levels_before_it(stream):
    def twin(history):
        state = Twin()
        for happened in history:
            state.take(happened)
            if isinstance(happened.event, Sale):
                sale = happened.event
                bids, asks = state.best(sale.instrument)
                state_then = state.states[sale.instrument]
                yield {"bids": bids, "asks": asks, "index": happened.index, "side": sale.side, "state": state_then}

    run(stream, "tbbo", twin)


def empty_snapshot() -> Message:
    return Message(instrument=1, snapshot=True, rows=[], ts_event=5)


# A new run changes a book's state and nothing that the interval's row is about, from wherever it is read.
@example(
    [(empty_snapshot(), 0), (empty_snapshot(), 0), (Turn(0, BookState.CLOSED), 0), (empty_snapshot(), SECOND)],
    ("bbo-1s", SECOND),
)
@slow
@given(streams, st.sampled_from([("bbo-1s", SECOND), ("bbo-1m", 60 * SECOND)]))
def test_the_best_levels_and_the_last_sale_at_the_end_of_each_interval(stream, what):
    schema, interval = what

    def twin(history):
        state, due, end, before = Twin(), set(), 0, {}
        for happened in history:
            if isinstance(happened.event, Turn):
                state.take(happened)
                continue
            if happened.at >= end:
                for number in sorted(due):
                    if state.plain[number].joined:
                        bids, asks = state.best(number)
                        sale = state.last.get(number)
                        yield {
                            "ts_recv": end,
                            "ts_event": 7 if sale else UNDEF_U64,
                            "bids": bids,
                            "asks": asks,
                            "side": sale.side if sale else Side.NONE,
                            "instrument_id": number,
                        }
                due, end = set(), happened.at // interval * interval + interval
            applied = state.take(happened)
            number = happened.event.instrument
            touch = (state.best(number), state.states[number])
            if isinstance(happened.event, Sale) or (applied and before.get(number) != touch):
                due.add(number)
            if applied:
                before[number] = touch

    run(stream, schema, twin)


@slow
@given(streams)
def test_only_live_books_set_the_consolidated_best(stream):
    """Each instrument in a lane of its own; the records of one receive time go by lane."""
    with memory_directory() as path:
        history = write(Path(path), stream, two_lanes=True)
        log = tp.Log.open(Path(path) / "log")
        found = [row for batch in log.records(NAMES, schema="cmbp-1", order="ts_recv") for row in batch]
        plain, live = {1: PlainBook(), 2: PlainBook()}, {1: False, 2: False}
        wanted, before = [], ([], [])
        for happened in sorted(history, key=lambda one: (one.at, one.lane)):
            number = happened.event.instrument
            match happened.event:
                case Message() as message:
                    plain[number].apply(message)
                    live[number] = plain[number].joined
                case Turn(instrument=0):
                    # Written into the first lane only: the second one's plant goes on.
                    live[1] = False
                case Turn(state=state):
                    live[number] = plain[number].joined and state is BookState.LIVE
            best = tuple(best_of(side, plain, live) for side in (0, 1))
            if best != before:
                wanted.append((happened.at, *best))
                before = best
        assert [(row.ts_recv, row.bids, row.asks) for row in found] == wanted
        if found:
            shown = found[-1].as_dict()
            assert shown["bid_pb_00"] == (NAMES[found[-1].bids[0][2] - 1] if found[-1].bids else None)


def best_of(side: int, plain, live) -> Levels:
    """The best level of a side with the instrument in the place of the count."""
    sign = -1 if side == 0 else 1
    tops = []
    for number in (1, 2):
        levels = plain[number].best(1)[side] if live[number] else []
        tops += [(sign * Decimal(price), -Decimal(size), number, price, size) for price, size, _ in levels]
    return [(price, size, number) for *_, number, price, size in sorted(tops)[:1]]


def test_parameters_that_are_missing_or_wrong(tmp_path):
    with memory_directory() as path:
        write(Path(path), [(Sale(1, 5, 5, Side.BID), 0)], two_lanes=False)
        log = tp.Log.open(Path(path) / "log")
        with pytest.raises(ValueError, match="needs basis_points"):
            log.records(schema="depth")
        with pytest.raises(ValueError, match="needs a size"):
            log.records(schema="impact")
        for size in ("0", "-1", "NaN", "much"):
            with pytest.raises(ValueError, match="a positive decimal"):
                log.records(schema="impact", size=size)
        with pytest.raises(ValueError, match="needs the instruments"):
            log.records(schema="cmbp-1")


def test_columns_carry_their_scales():
    levels = [(Side.BID, 100, 1, 3, 0), (Side.ASK, 1015, 2, 1, 0)]
    with memory_directory() as path:
        write(Path(path), [(Message(1, True, levels, 5), 0)], two_lanes=False)
        [batch] = tp.Log.open(Path(path) / "log").records(schema="touch")
        table = batch.to_arrow(decimals=True)
        assert table.column("spread_decimal").to_pylist() == [Decimal("0.15")]
        assert table.column("microprice_decimal").to_pylist() == [Decimal("10.112500")]
        assert table.column("imbalance_decimal").to_pylist() == [Decimal("0.500000000")]
        assert batch.to_numpy()["price"].tolist() == [UNDEF_I64]

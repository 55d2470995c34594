"""Books and views of a log are those of the plainest book, from every position and by both clocks."""

import numpy as np
import pytest
from face_market import NAMES, Message, PlainBook, messages, write, written
from hypothesis import given, settings

import tickplant as tp
from tickplant.errors import UnknownInstrument
from tickplant.records import UNDEF_I64, UNDEF_U64, BookState, Side

slow = settings(max_examples=40)


def rows(log: tp.Log, schema: str, **options):
    return [row for batch in log.records(schema=schema, **options) for row in batch]


def expected(history, depth: int, start: int = 0):
    """(sequence, instrument, bids, asks) of each message that was applied behind an index."""
    found = []
    for message, end, books in history:
        book = books[message.instrument]
        if book.joined and end > start:
            found.append((message.sequence, NAMES[message.instrument - 1], *book.best(depth)))
    return found


def seen(views):
    return [(row.sequence, row.instrument, row.bids, row.asks) for row in views]


@slow
@given(messages)
def test_views_are_those_of_the_plain_book(stream):
    with written(stream) as (_, history, log):
        assert seen(rows(log, "mbp-1")) == expected(history, 1)
        assert seen(rows(log, "mbp-10")) == expected(history, 10)
        only = [row for row in expected(history, 1) if row[1] == NAMES[0]]
        assert seen(rows(log, "mbp-1", instruments=NAMES[0])) == only
        touches, before = [], {}
        for sequence, name, bids, asks in expected(history, 1):
            # Equal values at other scales are a change too: the text is another.
            if before.get(name) != (bids, asks):
                touches.append((sequence, name, bids, asks))
            before[name] = (bids, asks)
        assert seen(rows(log, "bbo")) == touches


@slow
@given(messages)
def test_the_numbers_of_a_row_are_its_texts(stream):
    with written(stream) as (_, _, log):
        for batch in log.records(schema="mbp-1"):
            for row, record in zip(batch.to_numpy(), batch, strict=True):
                price, size = 10 ** int(row["price_scale"]), 10 ** int(row["size_scale"])
                for side, levels in (("bid", record.bids), ("ask", record.asks)):
                    if not levels:
                        assert row[f"{side}_px_00"] == UNDEF_I64
                        assert row[f"{side}_sz_00"] == 0
                    else:
                        assert float(levels[0][0]) == int(row[f"{side}_px_00"]) / price
                        assert float(levels[0][1]) == int(row[f"{side}_sz_00"]) / size


@slow
@given(messages)
def test_a_reader_that_joins_at_any_position_has_the_same_books(stream):
    with written(stream) as (path, history, log):
        end = log.position()["one"]
        for checkpoints in (False, True):
            if checkpoints:
                checkpointer = tp.Checkpointer(path / "log", "one", 5)
                checkpointer.stop()
                assert checkpointer.written > 0
            for start in range(end + 1):
                joined = seen(rows(log, "mbp-10", start={"one": start}))
                assert joined == expected(history, 10, start), f"joined at {start}, checkpoints: {checkpoints}"


def book_of(log: tp.Log, number: int, **moment):
    book = log.book(NAMES[number - 1], **moment)
    return [list(map(tuple, book.bids)), list(map(tuple, book.asks))], book


@slow
@given(messages)
def test_a_book_at_a_moment_of_either_clock(stream):
    with written(stream) as (path, history, log):
        for checkpoints in (False, True):
            if checkpoints:
                tp.Checkpointer(path / "log", "one", 5).stop()
            for number in (1, 2):
                own = [entry for entry in history if entry[0].instrument == number]
                for at in (None, 999, 1_000, 1_010, 1_025, 1_050):
                    for known_at in (None, 1_999, 2_005, 2_020):
                        check_moment(log, own, number, at, known_at)


def check_moment(log, own, number, at, known_at):
    maximum, last, else_last = 0, None, []
    for message, end, books in own:
        # Messages of a book whose snapshot is not there yet change nothing, but their times count.
        if message.ts_event != UNDEF_U64:
            maximum = max(maximum, message.ts_event)
        if (at is not None and maximum > at) or (known_at is not None and message.ts_recv > known_at):
            break
        if maximum:
            else_last = []
        elif at is not None and message.ts_recv > at:
            # Before the venue's first time a message counts by its receive time, unless that time counts.
            else_last.append(last)
        if books[number].joined:
            last = message, end, books[number]
    last = else_last[0] if else_last else last
    levels, book = book_of(log, number, at=at, known_at=known_at)
    plain = PlainBook() if last is None else last[2]
    assert levels == [*map(list, plain.best())], (at, known_at)
    if last is None:
        assert book.state is BookState.SYNCING
        assert book.sequence is None
    else:
        assert book.state is BookState.LIVE
        assert (book.sequence, book.ts_recv) == (last[0].sequence, last[0].ts_recv)
        assert book.position == {"one": last[1]}


def test_a_depth_cuts_the_book(tmp_path):
    levels = [(Side.BID, price, 0, 1, 0) for price in range(1, 9)]
    write(tmp_path, [Message(1, True, levels, 1_000)])
    log = tp.Log.open(tmp_path / "log")
    assert [level.price for level in log.book(NAMES[0], depth=3).bids] == ["8", "7", "6"]
    assert log.book(NAMES[0]).as_dict()["bids"][0] == ["8", "1", 0]
    with pytest.raises(UnknownInstrument, match=r'did you mean "BTC/USD\.KRAKEN"'):
        log.book("BTC/USD.KRAKN")
    table = next(iter(log.records(schema="mbp-10"))).to_arrow(decimals=True, names=True)
    assert table.column("bid_px_00").to_pylist() == [8]
    assert table.column("ask_px_00").to_pylist() == [None]
    assert np.asarray(table.column("instrument").to_pylist()).tolist() == [NAMES[0]]

"""State hashes are what their definition says, and a book built from the log has them at every record."""

import struct
from decimal import Decimal

import xxhash
from face_market import NAMES, messages, written
from hypothesis import given, settings

import tickplant as tp
from tickplant.cli import main
from tickplant.records import Action, Side

slow = settings(max_examples=40)


def plain_number(text: str) -> bytes:
    """Mantissa and scale of a decimal text without the trailing zeros of its fraction."""
    whole, _, fraction = text.partition(".")
    fraction = fraction.rstrip("0")
    return struct.pack("<qB", int(whole + fraction), len(fraction) if int(whole + fraction) else 0)


def plain_hash(bids, asks) -> int:
    """The definition in `Book.state_hash`, as plainly as can be."""
    text = b""
    for letter, levels in ((b"B", bids), (b"A", asks)):
        for price, size, *_ in levels:
            text += letter + plain_number(price) + plain_number(size)
    return xxhash.xxh3_64_intdigest(text)


@slow
@given(messages)
def test_a_books_hash_is_the_plain_one(stream):
    with written(stream) as (_, history, log):
        for number, name in enumerate(NAMES, 1):
            plain = history[-1][2][number]
            for depth in (None, 1, 3):
                book = log.book(name, depth=depth)
                assert book.state_hash == (plain_hash(*plain.best(depth)) if plain.joined else None)


def test_values_count_and_texts_do_not():
    assert plain_hash([("0.10", "5.00")], []) == plain_hash([("0.1", "5")], [])
    assert plain_hash([("0.10", "5.00")], []) != plain_hash([], [("0.1", "5")])


def test_a_plain_book_of_a_recordings_levels_has_every_hash(recording, tmp_path):
    data = recording("hftbacktest-binance-spot-btcusdt-20240808.gz")
    log_path = str(tmp_path / "log")
    arguments = ["import", str(data), "--format", "hftbacktest", "--venue", "binance", "--log", log_path]
    assert main.call(arguments) == 0
    sides: dict[Side, dict[Decimal, tuple[str, str]]] = {Side.BID: {}, Side.ASK: {}}
    compared = 0
    for batch in tp.Log.open(log_path).records(schema=["levels", "state_hash"]):
        for record in batch:
            if isinstance(record, tp.StateHash):
                bids = [sides[Side.BID][price] for price in sorted(sides[Side.BID], reverse=True)]
                asks = [sides[Side.ASK][price] for price in sorted(sides[Side.ASK])]
                assert record.hash == plain_hash(bids, asks)
                assert (record.bid_levels, record.ask_levels) == (len(bids), len(asks))
                compared += 1
            elif record.action is Action.CLEAR:
                sides = {Side.BID: {}, Side.ASK: {}}
            elif record.action is not Action.NONE:
                levels, price = sides[record.side], Decimal(record.price_text)
                levels.pop(price, None)
                if record.action is not Action.CANCEL:
                    levels[price] = (record.price_text, record.size_text)
    # After the snapshot and each ten seconds of the 346.
    assert compared in range(33, 37)

"""Record objects: exact numbers, words, equality, pickling."""

import pickle
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickplant._native import Batch
from tickplant.records import (
    UNDEF_I64,
    BookState,
    ConnectionState,
    Level,
    Quote,
    Reason,
    Side,
    Status,
    Subject,
    Trade,
)


@given(st.integers(-(2**63), 2**63 - 2), st.integers(0, 255))
def test_texts_are_the_exact_number(mantissa: int, scale: int):
    text = Trade(price=mantissa, price_scale=scale).price_text
    sign, digits, exponent = Decimal(text).as_tuple()
    assert -exponent == scale
    assert int("".join(map(str, digits))) * (-1 if sign else 1) == mantissa


def test_texts_keep_the_wire_scale_and_absent_is_none():
    assert Trade(price=10, price_scale=2).price_text == "0.10"
    assert Trade(price=-5, price_scale=0).price_text == "-5"
    assert Trade(price=UNDEF_I64, price_scale=2).price_text is None
    quote = Quote(bid_px=452835, ask_px=452852, price_scale=1, bid_sz=10000000, size_scale=8)
    assert (quote.bid_px_text, quote.ask_px_text, quote.bid_sz_text, quote.ask_sz_text) == (
        "45283.5",
        "45285.2",
        "0.10000000",
        None,
    )


def test_numbers_come_back_as_words():
    trade = Trade(side=Side.BID, state=BookState.LIVE)
    assert trade.side is Side.BID
    assert trade.state is BookState.LIVE
    status = Status(subject=Subject.CONNECTION, previous=1, current=5, reason=Reason.ACKNOWLEDGED)
    assert status.current is ConnectionState.LIVE
    assert Status(subject=Subject.BOOK, current=5).current is BookState.MISMATCH
    assert Status(subject=Subject.CLOCK, current=5).current == 5


def test_a_word_of_a_newer_writer_stays_a_number():
    assert Trade(side=200).side == 200
    assert Trade(state=99).as_dict()["state"] == 99


def test_records_are_values():
    one, same, other = Trade(price=1), Trade(price=1), Trade(price=2)
    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    assert one != Level(price=1)
    with pytest.raises(AttributeError):
        one.price = 3
    with pytest.raises(TypeError):
        Trade(1)
    with pytest.raises(ValueError, match="64 bytes"):
        Trade.from_bytes(b"short")


def test_match_takes_a_record_apart():
    match Trade(price=7, side=Side.ASK):
        case Trade(price=price, side=Side.ASK):
            assert price == 7
        case _:
            pytest.fail("the pattern did not match")


def test_a_pickled_record_keeps_its_name():
    batch = Batch.from_records([Trade(instrument_id=3, price=1)], instruments=[(3, "BTC/USD.KRAKEN")])
    record = batch[0]
    assert record.instrument == "BTC/USD.KRAKEN"
    copy = pickle.loads(pickle.dumps(record))
    assert copy == record
    assert copy.instrument == "BTC/USD.KRAKEN"
    assert Trade(instrument_id=3).instrument is None


def test_as_dict_speaks_the_fields_words():
    batch = Batch.from_records(
        [Trade(ts_event=5, price=1010, price_scale=2, size=3, instrument_id=3, side=Side.BID, state=BookState.LIVE)],
        instruments=[(3, "BTC/USD.KRAKEN")],
    )
    assert batch[0].as_dict() == {
        "ts_event": 5,
        "ts_recv": None,
        "sequence": None,
        "price": "10.10",
        "size": "3",
        "ref": None,
        "instrument": "BTC/USD.KRAKEN",
        "venue": 0,
        "action": "T",
        "side": "B",
        "flags": 0,
        "state": "LIVE",
        "aux": 0,
    }
    assert (
        repr(batch[0])
        == "Trade(ts_event=5, price=10.10, size=3, instrument=BTC/USD.KRAKEN, action=T, side=B, state=LIVE)"
    )

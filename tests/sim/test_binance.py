"""Binance's two dialects: a client that follows the documented join and chain holds the truth at every update id."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from tests.sim.plain import PlainBook, values

from tickplant.clock import MILLISECOND_NS, SECOND_NS
from tickplant.sim import Close, build_venue

START = 1_800_000_000 * SECOND_NS
INVALID = {"code": -1121, "msg": "Invalid symbol."}


def venue(name: str, **settings: Any) -> Any:
    return build_venue(name, seed=7, start_ns=START, **({"rate": 1000, "history": 10_000} | settings))


def subscribe(*streams: str, number: Any = 1) -> str:
    return json.dumps({"method": "SUBSCRIBE", "params": streams, "id": number})


def data(out: list[Any]) -> list[Any]:
    return [json.loads(message)["data"] for _, message in out]


def joined(subject: Any, path: str, symbol: str, events: list[Any], spot: bool) -> tuple[PlainBook, list[Any]]:
    """A book from REST, with the events that the venue's join rule drops taken away."""
    reply = subject.http("GET", path, f"symbol={symbol}&limit=1000", subject.now_ns)
    assert reply.status == 200
    snapshot = json.loads(reply.body)
    last = snapshot["lastUpdateId"]
    book = PlainBook()
    book.load(snapshot["bids"], snapshot["asks"])
    if spot:
        left = [event for event in events if event["u"] > last]
        assert not left or left[0]["U"] <= last + 1 <= left[0]["u"]
    else:
        left = [event for event in events if event["u"] >= last]
        assert left
        assert left[0]["U"] <= last <= left[0]["u"]
    assert book.levels() == values(subject.book(symbol, last))
    return book, left


@pytest.mark.parametrize("kind", ["depth@100ms", "depth"])
def test_spot_chain_and_truth(kind: str) -> None:
    subject = venue("binance", instrument_count=2)
    assert subject.connect(1, START, "/stream", f"streams=btcusdt@{kind}/ethusdt@{kind}") == []
    events = [e for e in data(subject.advance(START + 1_750 * MILLISECOND_NS)) if e["s"] == "BTCUSDT"]
    book, left = joined(subject, "/api/v3/depth", "BTCUSDT", events, spot=True)
    assert not left, "the snapshot stands in the middle of the next event"
    left = []
    for turn in range(1, 61):
        left += [e for e in data(subject.advance(START + (1_750 + turn * 50) * MILLISECOND_NS)) if e["s"] == "BTCUSDT"]
        while left:
            event = left.pop(0)
            book.apply(event["b"], event["a"])
            assert book.levels() == values(subject.book("BTCUSDT", event["u"]))
            assert event["E"] * MILLISECOND_NS % (100 * MILLISECOND_NS) == 0
            events.append(event)
        if kind == "depth@100ms":
            assert subject.published("BTCUSDT") == events[-1]["u"]
    assert len(events) > (30 if kind == "depth@100ms" else 3)
    assert all(after["U"] == before["u"] + 1 for before, after in pairwise(events))
    assert any(size == "0.00000000" for event in events for _, size in event["b"])


@pytest.mark.parametrize("kind", ["depth@0ms", "depth@100ms", "depth", "depth@500ms"])
def test_usdm_chain_and_truth(kind: str) -> None:
    subject = venue("binance_usdm", instrument_count=2)
    assert subject.connect(1, START, "/public/stream") == []
    reply = subject.receive(1, subscribe(f"btcusdt@{kind}", f"ethusdt@{kind}"), START)
    assert reply == ['{"result":null,"id":1}']
    # On the slower rhythms the snapshot stands within an event that is still to come, so read on before joining.
    out = subject.advance(START + 1_700 * MILLISECOND_NS)
    snapshot = json.loads(subject.http("GET", "/fapi/v1/depth", "symbol=BTCUSDT&limit=1000", START).body)
    last = snapshot["lastUpdateId"]
    out += subject.advance(START + 4 * SECOND_NS)
    events = [event for event in data(out) if event["s"] == "BTCUSDT"]
    book = PlainBook()
    book.load(snapshot["bids"], snapshot["asks"])
    assert book.levels() == values(subject.book("BTCUSDT", last))
    left = [event for event in events if event["u"] >= last]
    assert left[0]["U"] <= last <= left[0]["u"]
    for event in left:
        book.apply(event["b"], event["a"])
        assert book.levels() == values(subject.book("BTCUSDT", event["u"]))
    assert all(after["pu"] == before["u"] for before, after in pairwise(events))
    assert any(after["U"] != before["u"] + 1 for before, after in pairwise(events)), "ids are shared by symbols"


@pytest.mark.parametrize(("name", "path"), [("binance", "/ws"), ("binance_usdm", "/public/ws")])
def test_best_levels_agree_with_book_ticker(name: str, path: str) -> None:
    """The proof that recordings allow: after a depth message to u, the touch is the last bookTicker's up to u."""
    subject = venue(name, instrument_count=1)
    subject.connect(1, START, path)
    subject.receive(1, subscribe("btcusdt@depth@100ms", "btcusdt@bookTicker"), START)
    book = PlainBook()
    book.load(*subject.book("BTCUSDT"))
    tickers: list[Any] = []
    compared = 0
    for _, text in subject.advance(START + 5 * SECOND_NS):
        event = json.loads(text)
        if event.get("e") == "depthUpdate":
            book.apply(event["b"], event["a"])
            last = [ticker for ticker in tickers if ticker["u"] <= event["u"]][-1]
            bids, asks = book.levels()
            ticker = values(([(last["b"], last["B"])], [(last["a"], last["A"])]))
            assert (bids[:1], asks[:1]) == ticker
            compared += 1
        else:
            tickers.append(event)
    assert compared > 40


def test_trades_number_on_and_sum_to_the_aggregates() -> None:
    subject = venue("binance", instrument_count=1)
    subject.connect(1, START, "/ws/btcusdt@trade/btcusdt@aggTrade")
    events = [json.loads(text) for _, text in subject.advance(START + 10 * SECOND_NS)]
    trades = {event["t"]: event for event in events if event["e"] == "trade"}
    assert list(trades) == list(range(min(trades), min(trades) + len(trades)))
    assert {trade["m"] for trade in trades.values()} == {True, False}
    sums = [event for event in events if event["e"] == "aggTrade"]
    assert [event["a"] for event in sums] == list(range(sums[0]["a"], sums[0]["a"] + len(sums)))
    assert sum(event["l"] - event["f"] + 1 for event in sums) == len(trades)
    assert any(event["l"] > event["f"] for event in sums)
    for event in sums:
        parts = [trades[number] for number in range(event["f"], event["l"] + 1)]
        assert {(part["p"], part["m"]) for part in parts} == {(event["p"], event["m"])}
        assert sum(int(part["q"].replace(".", "")) for part in parts) == int(event["q"].replace(".", ""))


def test_the_unrouted_futures_path_acknowledges_and_is_silent() -> None:
    subject = venue("binance_usdm")
    for number, path in enumerate(("/ws", "/stream", "/private/ws", "/market/ws"), 1):
        assert subject.serves(path)
        subject.connect(number, START, path)
        assert subject.receive(number, subscribe("btcusdt@depth@0ms"), START) == ['{"result":null,"id":1}']
    assert subject.advance(START + 2 * SECOND_NS) == []
    subject.receive(4, subscribe("btcusdt@aggTrade"), START + 2 * SECOND_NS)
    assert subject.advance(START + 5 * SECOND_NS)
    assert not subject.serves("/public")
    assert not venue("binance").serves("/public/ws")


def test_unknown_streams_are_acknowledged_and_silent_unknown_symbols_refused() -> None:
    for name, path in (("binance", "/api/v3/"), ("binance_usdm", "/fapi/v1/")):
        subject = venue(name)
        subject.connect(1, START)
        assert subject.receive(1, subscribe("nonesuch@depth@100ms"), START) == ['{"result":null,"id":1}']
        assert subject.advance(START + SECOND_NS) == []
        reply = subject.http("GET", f"{path}depth", "symbol=NONESUCH&limit=100", START)
        assert (reply.status, json.loads(reply.body)) == (400, INVALID)
        assert subject.http("GET", f"{path}depth", "symbol=BTCUSDT&limit=x", START).status == 400
        assert subject.http("GET", f"{path}depth", "", START).status == 400
        assert subject.http("GET", f"{path}nothing", "", START).status == 404
        info = json.loads(subject.http("GET", f"{path}exchangeInfo", "", START).body)
        assert [symbol["symbol"] for symbol in info["symbols"]] == subject.symbols
    assert json.loads(venue("binance").http("GET", "/api/v3/exchangeInfo", "symbol=NO", START).body) == INVALID


@pytest.mark.parametrize(
    ("text", "code"),
    [("{", 3), ("[]", 2), ('{"method":"SUBSCRIBE","params":"x","id":1}', 2), ('{"method":"SUBSCRIBE","params":[1]}', 2),
     ('{"method":"NO","id":1}', 2), ('{"id":1}', 2), ('{"method":"SUBSCRIBE","params":[],"id":1.5}', 2)],
)  # fmt: skip
def test_nonsense_is_refused(text: str, code: int) -> None:
    subject = venue("binance")
    subject.connect(1, START)
    (reply,) = subject.receive(1, text, START)
    assert json.loads(reply)["code"] == code


def test_subscriptions_come_and_go() -> None:
    subject = venue("binance")
    subject.connect(1, START)
    subject.receive(1, subscribe("btcusdt@depth@100ms", "btcusdt@trade"), START)
    listing = json.dumps({"method": "LIST_SUBSCRIPTIONS", "id": "a"})
    assert json.loads(subject.receive(1, listing, START)[0])["result"] == ["btcusdt@depth@100ms", "btcusdt@trade"]
    request = {"method": "UNSUBSCRIBE", "params": ["btcusdt@trade", "btcusdt@depth@100ms"], "id": 3}
    assert subject.receive(1, json.dumps(request), START) == ['{"result":null,"id":3}']
    assert subject.advance(START + SECOND_NS) == []


def test_a_sixth_message_in_a_second_ends_the_connection() -> None:
    subject = venue("binance")
    subject.connect(1, START)
    for _ in range(5):
        assert not isinstance(subject.receive(1, subscribe("btcusdt@trade"), START)[0], Close)
    assert subject.receive(1, subscribe("btcusdt@trade"), START + SECOND_NS - 1) == [Close(1008, "Too many requests")]
    subject.disconnect(1)
    subject.connect(1, START)
    for second in range(10):
        subject.receive(1, subscribe("btcusdt@trade"), START + second * SECOND_NS // 4)
    assert not isinstance(subject.receive(1, subscribe("btcusdt@trade"), START + 3 * SECOND_NS)[0], Close)

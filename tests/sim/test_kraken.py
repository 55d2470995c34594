"""Kraken's dialect: books by checksum and by truth, refusals, the token that expires, instruments."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.sim.plain import PlainBook, parsed, values

from tickplant.clock import MILLISECOND_NS, SECOND_NS
from tickplant.sim import build_venue
from tickplant.sim.venue import Message
from tickplant.sim.venues.kraken_book import checksum

START = 1_800_000_000 * SECOND_NS


def venue(**settings: Any) -> Any:
    return build_venue("kraken", seed=7, start_ns=START, **({"rate": 1000} | settings))


def subscribe(channel: str, **params: Any) -> str:
    return json.dumps({"method": "subscribe", "params": {"channel": channel, **params}, "req_id": 9})


def answers(messages: list[Message]) -> list[Any]:
    return [json.loads(message) for message in messages if isinstance(message, str)]


def follow(book: PlainBook, message: Any, depth: int) -> None:
    """Kraken's rules: a snapshot replaces, an update applies, both sides are cut."""
    (data,) = message["data"]
    sides = [[(row["price"], row["qty"]) for row in data[side]] for side in ("bids", "asks")]
    (book.load if message["type"] == "snapshot" else book.apply)(*sides)
    book.truncate(depth)


@pytest.mark.parametrize("turn_ns", [0, SECOND_NS // 7])
@pytest.mark.parametrize("depth", [10, 100, 1000])
def test_a_plain_client_holds_the_truth_after_every_message(depth: int, turn_ns: int) -> None:
    """In single steps the truth is compared at each message, in long turns at each turn's end; the checksum always."""
    subject = venue(instrument_count=2)
    assert answers(subject.connect(1, START))[0]["channel"] == "status"
    books = {symbol: PlainBook() for symbol in subject.symbols}
    ack, snapshot, *more = (
        parsed(m) for m in subject.receive(1, subscribe("book", symbol=subject.symbols, depth=depth), START)
    )
    assert ack["success"] is True
    assert ack["result"] == {"channel": "book", "symbol": "BTC/USD", "depth": str(depth), "snapshot": True}
    compared = 0
    queue = [snapshot, *more]
    now = START
    while now < START + 3 * SECOND_NS:
        for message in queue:
            if message.get("channel") != "book":
                continue
            (data,) = message["data"]
            symbol, book = data["symbol"], books[data["symbol"]]
            follow(book, message, depth)
            if not turn_ns:
                assert book.levels() == values(subject.book(symbol), depth)
            # Decimal keeps the zeros that were printed, so the wire text comes out of the client's own book.
            bids, asks = ([(f"{price:f}", f"{size:f}") for price, size in side] for side in book.levels())
            assert str(checksum(asks, bids)) == data["checksum"]
            compared += 1
        for symbol, book in books.items():
            assert book.levels() == values(subject.book(symbol), depth)
        now = subject.next_ns() + turn_ns
        queue = [parsed(m) for _, m in subject.advance(now)]
    assert compared > 500


def test_a_window_is_refilled_and_never_told_of_what_fell_out() -> None:
    """Depth 10: without truncation the client's book grows, which shows that levels fell out untold."""
    subject = venue(instrument_count=1)
    book = PlainBook()
    follow(book, parsed(subject.receive(1, subscribe("book", symbol=["BTC/USD"]), START)[1]), 10)
    for _, message in subject.advance(START + 20 * SECOND_NS):
        if '"channel":"book"' in message:
            (data,) = parsed(message)["data"]
            book.apply(*([(row["price"], row["qty"]) for row in data[side]] for side in ("bids", "asks")))
    assert len(book.bids) > 10 < len(book.asks)


def test_checksum_vectors_of_the_documentation(recording: Callable[[str], Path]) -> None:
    vectors = json.loads(recording("checksum-vectors.json").read_text())
    for name, expected in (("kraken_v1_doc", 974947235), ("kraken_v2_doc", 3310070434)):
        vector = vectors[name]
        assert checksum(map(tuple, vector["asks"]), map(tuple, vector["bids"])) == vector["checksum"] == expected


def test_checksum_of_a_printed_book() -> None:
    assert checksum([("0.05005", "0.00000500")], [("0.05000", "0.00000500")]) == zlib.crc32(b"50055005000500")


def test_one_bad_symbol_does_not_take_the_others_down() -> None:
    subject = venue()
    replies = answers(subject.receive(1, subscribe("trade", symbol=["BTC/USD", "XBT/USD", "ETH/USD"]), START))
    assert [reply["success"] for reply in replies] == [True, False, True]
    assert replies[1] == {
        "error": "Currency pair not supported XBT/USD",
        "success": False,
        "symbol": "XBT/USD",
        "method": "subscribe",
        "req_id": 9,
        "time_in": "2027-01-15T08:00:00.000000Z",
        "time_out": "2027-01-15T08:00:00.000000Z",
    }
    assert (
        answers(subject.receive(1, subscribe("trade", symbol=["BTC/USD"]), START))[0]["error"] == "Already subscribed"
    )
    assert not answers(subject.receive(1, subscribe("book", symbol=["BTC/USD"], depth=7), START))[0]["success"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"method":"subscribe"}', '{"method":"subscribe","params":[]}', '{"method":"x"}',
             '{"method":"subscribe","params":{"channel":"book","symbol":[{}],"depth":[]}}',
             '{"method":"subscribe","params":{"channel":[]}}'],
)  # fmt: skip
def test_nonsense_is_refused(text: str) -> None:
    (reply,) = answers(venue().receive(1, text, START))
    assert reply["success"] is False


def test_trades_number_on_and_name_the_aggressor() -> None:
    subject = venue(instrument_count=1)
    subject.receive(1, subscribe("trade", symbol=["BTC/USD"]), START)
    subject.receive(1, subscribe("ticker", symbol=["BTC/USD"]), START)
    messages = [parsed(message) for _, message in subject.advance(START + 5 * SECOND_NS)]
    trades = [trade for m in messages if m["channel"] == "trade" for trade in m["data"]]
    ids = [int(trade["trade_id"]) for trade in trades]
    assert len(ids) > 100
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    assert {trade["side"] for trade in trades} == {"buy", "sell"}
    tickers = [m["data"][0] for m in messages if m["channel"] == "ticker"]
    assert tickers[-1]["last"] == trades[-1]["price"]
    assert sum(m["channel"] == "heartbeat" for m in messages) == 5


def test_unsubscribing_ends_it() -> None:
    subject = venue()
    subject.receive(1, subscribe("book", symbol=["BTC/USD"], depth=25), START)
    request = {"method": "unsubscribe", "params": {"channel": "book", "symbol": ["BTC/USD"], "depth": 25}}
    assert answers(subject.receive(1, json.dumps(request), START))[0]["success"] is True
    assert answers(subject.receive(1, json.dumps(request), START))[0]["error"] == "Subscription Not Found"
    assert subject.advance(START + 5 * SECOND_NS) == []
    subject.receive(1, subscribe("book", symbol=["BTC/USD"], depth=25), START)
    subject.disconnect(1)
    assert subject.advance(START + 9 * SECOND_NS) == []


def test_the_token_is_refused_after_its_lifetime() -> None:
    subject = venue(token_lifetime_ns=2 * SECOND_NS)
    path = "/0/private/GetWebSocketsToken"
    assert json.loads(subject.http("POST", path, "", START).body) == {"error": ["EAPI:Invalid key"]}
    reply = json.loads(subject.http("POST", path, "", START, {"API-Key": "k"}).body)["result"]
    assert reply["expires"] == 2

    def ask(connection: int, token: str | None, now: int) -> list[Any]:
        return answers(subject.receive(connection, subscribe("balances", token=token), now))

    ack, snapshot = ask(1, reply["token"], START + SECOND_NS)
    assert ack["success"] is True
    assert snapshot["sequence"] == 1
    assert ask(2, reply["token"], START + 3 * SECOND_NS)[0]["error"] == "ESession:Invalid session"
    assert ask(2, "made up", START)[0]["error"] == "ESession:Invalid session"
    assert ask(2, None, START)[0]["error"] == "EGeneral:Invalid arguments:token"
    # A subscription that was made in time goes on.
    updates = [json.loads(m) for c, m in subject.advance(START + 20 * SECOND_NS) if c == 1 and "balances" in m]
    assert [update["sequence"] for update in updates] == list(range(2, 2 + len(updates)))
    assert len(updates) > 5
    fresh = json.loads(subject.http("POST", path, "", START + 20 * SECOND_NS, {"API-Key": "k"}).body)["result"]
    assert ask(2, fresh["token"], START + 21 * SECOND_NS)[0]["success"] is True


def test_instruments_agree_between_channel_and_rest() -> None:
    subject = venue(instrument_count=10)
    snapshot = parsed(subject.receive(1, subscribe("instrument"), START)[1])
    pairs = {pair["symbol"]: pair for pair in snapshot["data"]["pairs"]}
    assert list(pairs) == subject.symbols
    rest = json.loads(subject.http("GET", "/0/public/AssetPairs", "", START).body)["result"]
    assert rest["XXBTZUSD"]["wsname"] == "XBT/USD"
    assert {int(pair["price_precision"]) for pair in pairs.values()} == {
        pair["pair_decimals"] for pair in rest.values()
    }
    depth = json.loads(subject.http("GET", "/0/public/Depth", "pair=XBTUSD&count=5", START).body)["result"]["XXBTZUSD"]
    assert [tuple(row[:2]) for row in depth["bids"]] == subject.book("BTC/USD")[0][:5]
    assert json.loads(subject.http("GET", "/0/public/Depth", "pair=NO", START).body)["error"]


def test_the_same_seed_gives_the_same_messages() -> None:
    def run() -> list[Any]:
        subject = venue()
        subject.receive(1, subscribe("book", symbol=subject.symbols), START)
        return [m for n in range(1, 40) for m in subject.advance(START + n * 71 * MILLISECOND_NS)]

    assert run() == run()


@pytest.mark.parametrize("depth", [10, 100])
def test_v1_holds_the_truth_and_its_checksums(depth: int) -> None:
    """Venue's rules of v1: the checksum stands in the last map; with rows of both sides there are two."""
    subject = venue(instrument_count=2)
    assert json.loads(subject.connect(1, START, "/")[0])["event"] == "systemStatus"
    request = {"event": "subscribe", "pair": ["XBT/USD", "BTC/USD"], "subscription": {"name": "book", "depth": depth}}
    ack, snapshot, refused = answers(subject.receive(1, json.dumps(request), START))
    assert (ack["status"], ack["channelName"]) == ("subscribed", f"book-{depth}")
    assert (refused["status"], refused["errorMessage"]) == ("error", "Currency pair not supported BTC/USD")
    book = PlainBook()
    book.load(*([row[:2] for row in snapshot[1][side]] for side in ("bs", "as")))
    assert snapshot[2:] == [f"book-{depth}", "XBT/USD"]
    assert all(len(price.partition(".")[2]) == 5 for price, _, _ in snapshot[1]["as"])
    two_sided = republished = 0
    for _, text in subject.advance(START + 10 * SECOND_NS):
        if "heartbeat" in text:
            continue
        _, *maps, channel, pair = json.loads(text)
        assert (channel, pair) == (f"book-{depth}", "XBT/USD")
        assert [("c" in part) for part in maps] == [False] * (len(maps) - 1) + [True]
        two_sided += len(maps) == 2
        republished += text.count(',"r"]')
        for part in maps:
            book.apply([row[:2] for row in part.get("b", [])], [row[:2] for row in part.get("a", [])])
        book.truncate(depth)
        bids, asks = ([(f"{price:f}", f"{size:f}") for price, size in side] for side in book.levels())
        assert str(checksum(asks, bids)) == maps[-1]["c"]
    assert two_sided > 10
    assert republished > 10
    assert book.levels() == values(subject.book("BTC/USD"), depth)
    subject.disconnect(1)
    assert subject.advance(START + 12 * SECOND_NS) == []

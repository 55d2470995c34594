"""Coinbase's dialect: the book by truth at every batch, matches with the maker's side, refusals of all."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.sim.plain import PlainBook, values

from tickplant.clock import MILLISECOND_NS, SECOND_NS
from tickplant.sim import Close, build_venue

START = 1_800_000_000 * SECOND_NS


def venue(**settings: Any) -> Any:
    return build_venue("coinbase", seed=7, start_ns=START, **({"rate": 1000} | settings))


def subscribe(channels: list[Any], products: list[Any], kind: str = "subscribe") -> str:
    return json.dumps({"type": kind, "product_ids": products, "channels": channels})


def answers(messages: list[Any]) -> list[Any]:
    return [json.loads(message) for message in messages]


def test_the_book_is_the_truth_at_every_batch() -> None:
    subject = venue(instrument_count=2)
    subject.connect(1, START)
    subject.advance(START + 333 * MILLISECOND_NS)  # in the middle of a batch
    listing, *snapshots = answers(subject.receive(1, subscribe(["level2_batch"], subject.symbols), START))
    names = [{"name": "level2_50", "product_ids": ["BTC-USD", "ETH-USD"], "account_ids": None}]
    assert listing == {"type": "subscriptions", "channels": names}
    books = {}
    for snapshot in snapshots:
        assert snapshot["type"] == "snapshot"
        books[snapshot["product_id"]] = book = PlainBook()
        book.load(snapshot["bids"], snapshot["asks"])
        assert book.levels() == values(subject.book(snapshot["product_id"]))
    assert set(books) == set(subject.symbols)
    hits = updates = 0
    for turn in range(1, 200):
        for event in answers([text for _, text in subject.advance(START + (333 + turn * 30) * MILLISECOND_NS)]):
            assert event["type"] == "l2update"
            book = books[event["product_id"]]
            updates += 1
            hits += sum(size == "0.00000000" for _, _, size in event["changes"])
            book.apply(*([(p, z) for side, p, z in event["changes"] if side == want] for want in ("buy", "sell")))
        for symbol, book in books.items():
            assert book.levels() == values(subject.book(symbol, subject.published(symbol)))
    assert updates > 100 < hits


def test_matches_name_the_resting_side_and_tickers_the_aggressor() -> None:
    subject = venue(instrument_count=1)
    subject.receive(1, subscribe(["matches", "ticker", "heartbeat"], ["BTC-USD"]), START)
    events = answers([text for _, text in subject.advance(START + 10 * SECOND_NS)])
    matches = [event for event in events if event["type"] == "match"]
    numbers = [match["trade_id"] for match in matches]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert {match["side"] for match in matches} == {"buy", "sell"}
    by_id = {match["trade_id"]: match for match in matches}
    for ticker in (event for event in events if event["type"] == "ticker"):
        match = by_id[ticker["trade_id"]]
        assert {ticker["side"], match["side"]} == {"buy", "sell"}
        assert (ticker["price"], ticker["last_size"]) == (match["price"], match["size"])
    sequences = [event["sequence"] for event in matches]
    assert sequences == sorted(set(sequences))
    assert sum(event["type"] == "heartbeat" for event in events) == 10
    _, last = answers(subject.receive(2, subscribe(["matches"], ["BTC-USD"]), START + 10 * SECOND_NS))
    assert (last["type"], last["trade_id"]) == ("last_match", numbers[-1])


@pytest.mark.parametrize(
    ("channels", "products", "reason"),
    [
        (["matches"], ["BTC-USD", "XXX-USD"], "XXX-USD is not a valid product"),
        (["nonsense"], ["BTC-USD"], "nonsense is not a valid channel"),
        (["level2"], ["BTC-USD"], "level2, level3, and full channels now require authentication."),
        ([], ["BTC-USD"], "channels is required"),
        (["matches"], [], "product_ids is required"),
        ([7], [7], "7 is not a valid channel"),
    ],
)
def test_one_bad_name_refuses_the_request(channels: list[Any], products: list[Any], reason: str) -> None:
    subject = venue()
    (reply,) = answers(subject.receive(1, subscribe(channels, products), START))
    assert (reply["type"], reply["message"]) == ("error", "Failed to subscribe")
    assert reply["reason"].startswith(reason)
    assert subject.advance(START + SECOND_NS) == []


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"type":"x"}', '{"type":"subscribe","channels":{}}'])
def test_nonsense_is_refused(text: str) -> None:
    assert answers(venue().receive(1, text, START))[0]["type"] == "error"


def test_listings_are_cumulative_and_unsubscribing_ends_it() -> None:
    subject = venue()
    subject.receive(1, subscribe(["matches"], ["BTC-USD"]), START)
    channel = {"name": "level2_batch", "product_ids": ["ETH-USD"]}
    listing = answers(subject.receive(1, subscribe([channel], []), START))[0]
    assert [(c["name"], c["product_ids"]) for c in listing["channels"]] == [
        ("matches", ["BTC-USD"]),
        ("level2_50", ["ETH-USD"]),
    ]
    subject.receive(1, subscribe(["matches"], ["BTC-USD"], "unsubscribe"), START)
    left = answers(subject.receive(1, subscribe([channel], [], "unsubscribe"), START))[0]
    assert left["channels"] == []
    assert subject.advance(START + SECOND_NS) == []


def test_who_does_not_subscribe_is_dropped_after_five_seconds() -> None:
    subject = venue()
    subject.connect(1, START)
    subject.connect(2, START)
    subject.receive(2, subscribe(["heartbeat"], ["BTC-USD"]), START)
    out = subject.advance(START + 6 * SECOND_NS)
    assert [(c, m) for c, m in out if isinstance(m, Close)] == [(1, Close(1008, "no subscription within 5 seconds"))]


def test_products_and_rest_books() -> None:
    subject = venue()
    products = json.loads(subject.http("GET", "/products", "", START).body)
    assert [product["id"] for product in products] == subject.symbols
    assert json.loads(subject.http("GET", "/products/ETH-USD", "", START).body) == products[1]
    book = json.loads(subject.http("GET", "/products/BTC-USD/book", "level=2", START).body)
    assert [tuple(row[:2]) for row in book["asks"]] == subject.book("BTC-USD")[1]
    assert len(json.loads(subject.http("GET", "/products/BTC-USD/book", "", START).body)["bids"]) == 1
    assert subject.http("GET", "/products/NO-USD/book", "", START).status == 404

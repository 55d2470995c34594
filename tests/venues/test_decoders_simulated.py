"""What the simulated venues send, decoded natively and plainly; the strict scanners know nearly all of it."""

import json
from typing import Any

import pytest
from tests.venues.test_decoders import TOLD, plainly

from tickplant._native import Decoder, LevelBook
from tickplant.clock import SECOND_NS
from tickplant.sim import build_venue

START = 1_800_000_000 * SECOND_NS


def requests(name: str, symbols: list[str]) -> list[str]:
    """Texts that subscribe to books, trades and tickers."""
    if name == "kraken":
        channels = ({"channel": "book", "depth": 10}, {"channel": "trade"}, {"channel": "ticker"})
        return [json.dumps({"method": "subscribe", "params": {"symbol": symbols, **channel}}) for channel in channels]
    if name == "coinbase":
        channels = ["level2_batch", "matches", "ticker", "heartbeat"]
        return [json.dumps({"type": "subscribe", "product_ids": symbols, "channels": channels})]
    streams = [f"{symbol.lower()}@{kind}" for symbol in symbols for kind in ("depth@100ms", "trade", "bookTicker")]
    return [json.dumps({"method": "SUBSCRIBE", "params": streams, "id": 1})]


def frames(venue: Any, name: str) -> list[str]:
    path = {"binance": "/ws", "binance_usdm": "/public/ws"}.get(name, "")
    sent = venue.connect(1, START, path) if path else venue.connect(1, START)
    for request in requests(name, venue.symbols):
        sent += venue.receive(1, request, START)
    return [*sent, *(text for _, text in venue.advance(START + 3 * SECOND_NS))]


@pytest.mark.parametrize(
    ("name", "unknown_most"), [("kraken", 0.3), ("binance", 0.01), ("binance_usdm", 0.01), ("coinbase", 0.3)]
)
def test_simulated_frames_are_decoded_alike(name, unknown_most):
    venue = build_venue(name, seed=7, start_ns=START, rate=500, instrument_count=2)
    decoder = Decoder(name)
    seen = dict.fromkeys(TOLD, 0)
    texts = frames(venue, name)
    for frame in texts:
        native = [event for event in decoder.decode(frame.encode()) if event["event"] in TOLD]
        assert native == plainly(name, frame), frame
        for event in native:
            seen[event["event"]] += 1
    assert min(seen.values()) > 10, seen
    # Tickers are the tolerant reader's but for Binance's.
    assert decoder.slow_path < unknown_most * len(texts)


def test_simulated_kraken_books_are_proven_by_every_checksum():
    venue = build_venue("kraken", seed=7, start_ns=START, rate=500, instrument_count=2)
    decoder = Decoder("kraken")
    books = {symbol: LevelBook(10, truncate=True, checksum=True) for symbol in venue.symbols}
    proven = 0
    for frame in frames(venue, "kraken"):
        for event in decoder.decode(frame.encode()):
            if event["event"] == "book":
                book = books[event["symbol"]]
                (book.load if event["snapshot"] else book.apply)(event["rows"])
                assert book.checksum() == event["checksum"]
                proven += 1
    assert proven > 300

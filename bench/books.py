"""Books against those of peers, in one process, the ways by turns: medians of rounds.

    make bench-peers        (or: PYTHONPATH=src .venv-bench-peers/bin/python bench/books.py [--rounds 7] [--out FILE])

- kraken: v1 frames in batches of 1000 to verified books and LEVEL records as NumPy (`ours_v2` of v2 frames), against
  cryptofeed with its checksum on and a book callback, which speaks v1 only;
- binance: depth frames likewise, without a checksum, against cryptofeed;
- book_5000, book_50000: `tickplant.book.Book` by columns of 19 rows a message (`ours_batch`: `Book.touches` with 50 of
  them, `ours_single`: `Book.set` a level), against nautilus_trader's `apply_delta` on deltas made beforehand and
  order_book with Decimals made beforehand.

Frames are the simulated venues', so that everybody gets the same. What a peer's objects cost to be made beforehand is
not counted, in its favour. A peer is asked for its best bid and ask after each message, as we are.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

import frames as recorded

from tickplant import _native
from tickplant.book import Book
from tickplant.cli.imports import import_plan
from tickplant.sim import build_venue
from tickplant.sim.presets import instruments
from tickplant.venues.settings import VenueSettings
from tickplant.venues.table import find_venue

BATCH = 1000
ROWS = 19
UPDATES = 19 * 5000
TOUCH = 1_000_000
Way = Callable[[], int]


def kraken_frames(protocol: str, messages: int) -> list[str]:
    """Books of four instruments at depth 100, in v1 or v2."""
    venue: Any = build_venue("kraken", seed=7, start_ns=recorded.START_NS, rate=2000, depth=250)
    path = "/" if protocol == "v1" else "/v2"
    if protocol == "v1":
        pairs = [f"{'XBT' if i.base == 'BTC' else i.base}/{i.quote}" for i in instruments("kraken", 4)]
        wanted: dict[str, Any] = {"event": "subscribe", "pair": pairs, "subscription": {"name": "book", "depth": 100}}
    else:
        params = {"channel": "book", "depth": 100, "symbol": venue.symbols}
        wanted = {"method": "subscribe", "params": params}
    said = venue.connect(1, recorded.START_NS, path)
    said += venue.receive(1, json.dumps(wanted), recorded.START_NS)
    now = recorded.START_NS
    if len(said) < 8:
        raise SystemExit(f"the simulated venue refused the subscription: {said}")
    while len(said) < messages:
        now += recorded.STEP_NS
        said += [message for _, message in venue.advance(now)]
    return [str(message) for message in said]


def binance_frames(messages: int) -> tuple[list[str], dict[str, str]]:
    """Depth frames in their combined stream's envelope, and each symbol's snapshot as it stood before the first."""
    venue = build_venue("binance", seed=7, start_ns=recorded.START_NS, rate=2000, depth=1000)
    snapshots = {
        symbol: venue.http("GET", "/api/v3/depth", f"symbol={symbol}&limit=1000", recorded.START_NS).body
        for symbol in venue.symbols
    }
    lines = (line for _, line in recorded.lines("binance", venue, 0, messages) if '"depthUpdate"' in line)
    envelope = '{{"stream":"{}@depth@100ms","data":{}}}'
    found = [envelope.format(json.loads(line)["s"].lower(), line) for line in lines if not line.startswith("GET ")]
    return found, snapshots


def ours(code: str, symbols: list[str], texts: list[str], depth: int | None, snapshots: dict[str, str]) -> Way:
    venue = find_venue(code)
    if texts[0].startswith('{"connectionID'):
        venue = venue.protocols["v1"]
    settings = VenueSettings(depth=depth, streams=["book"])
    plan = json.dumps(import_plan(venue, {symbol: at + 1 for at, symbol in enumerate(symbols)}, settings)).encode()
    frames = [text.encode() for text in texts]

    def run() -> int:
        feed, records = _native.BookFeed(plan), 0
        first = frames[: len(symbols)] if snapshots else []
        feed.feed(first)
        for url, request in feed.wished():
            symbol = next(symbol for symbol in snapshots if f"={symbol}&" in f"{url.upper()}&")
            feed.reply(request, snapshots[symbol].encode())
        for start in range(0, len(frames), BATCH):
            records += len(feed.feed(frames[start : start + BATCH]).to_numpy())
        passed, failed = feed.proofs()
        assert failed == 0, failed
        assert passed > len(frames) // 2 or snapshots, passed
        assert records > len(frames) // 2, records
        return len(frames)

    return run


def cryptofeed_way(exchange: str, texts: list[str], names: dict[str, str], snapshots: dict[str, str]) -> Way:
    from cryptofeed import exchanges
    from cryptofeed.defines import L2_BOOK
    from cryptofeed.symbols import Symbols

    kind = getattr(exchanges, exchange)
    Symbols.set(kind.id, names, {"instrument_type": {}})
    told = 0

    async def on_book(_book: Any, _received: float) -> None:
        nonlocal told
        told += 1

    options: dict[str, Any] = {"max_depth": 100} if exchange == "Kraken" else {}
    if exchange == "Kraken":
        options["checksum_validation"] = True

    async def take() -> None:
        feed = kind(symbols=list(names), channels=[L2_BOOK], callbacks={L2_BOOK: on_book}, **options)

        async def snapshot(pair: str) -> None:
            from cryptofeed.types import OrderBook

            body, name = json.loads(snapshots[pair], parse_float=Decimal), feed.exchange_symbol_to_std_symbol(pair)
            feed.last_update_id[name] = body["lastUpdateId"]
            bids, asks = ({Decimal(p): Decimal(s) for p, s in body[side]} for side in ("bids", "asks"))
            feed._l2_book[name] = OrderBook(feed.id, name, max_depth=0, bids=bids, asks=asks)

        feed._snapshot = snapshot
        if hasattr(feed, "_reset"):
            feed._reset()
        for text in texts:
            await feed.message_handler(text, None, 0.0)

    def run() -> int:
        nonlocal told
        told = 0
        asyncio.run(take())
        assert told > len(texts) // 2, told
        return len(texts)

    return run


def flow(levels: int) -> tuple[tuple[Any, Any, Any], tuple[Any, Any, Any]]:
    """Levels on every second tick and updates mostly near the touch, as in examples/book_bench.rs."""
    rng = np.random.default_rng(5)
    ranks = np.arange(levels, dtype=np.int64)
    sides = np.frombuffer(b"B" * levels + b"A" * levels, dtype=np.uint8)
    start = (sides, np.concatenate([TOUCH - 1 - 2 * ranks, TOUCH + 2 * ranks]), np.full(2 * levels, 5, dtype=np.int64))
    reach = np.minimum(8 * 2 ** (rng.geometric(0.6, UPDATES) - 1), 2 * levels)
    distance = (rng.random(UPDATES) * reach).astype(np.int64)
    kind = rng.integers(0, 4, UPDATES)
    distance = np.where(kind < 2, distance & ~1, distance)
    is_bid = rng.integers(0, 2, UPDATES) == 0
    prices = np.where(is_bid, TOUCH - 1 - distance, TOUCH + distance)
    sizes = np.where(kind == 3, 0, rng.integers(1, 1_000_001, UPDATES)).astype(np.int64)
    letters = np.where(is_bid, ord("B"), ord("A")).astype(np.uint8)
    return start, (letters, prices, sizes)


def our_book(start: tuple[Any, Any, Any]) -> Book:
    book = Book(price_scale=2, size_scale=3)
    book.load(*start)
    return book


def our_columns(start: tuple[Any, Any, Any], updates: tuple[Any, Any, Any]) -> Way:
    sides, prices, sizes = updates
    book = our_book(start)
    messages = [
        (sides[at : at + ROWS], prices[at : at + ROWS], sizes[at : at + ROWS]) for at in range(0, UPDATES, ROWS)
    ]

    def run() -> int:
        for message in messages:
            book.apply(*message)
            book.touch()
        return UPDATES

    return run


def our_batches(start: tuple[Any, Any, Any], updates: tuple[Any, Any, Any]) -> Way:
    book, many = our_book(start), 50 * ROWS
    batches = [tuple(column[at : at + many] for column in updates) for at in range(0, UPDATES, many)]

    def run() -> int:
        told = sum(len(np.frombuffer(book.touches(*batch, message=ROWS), np.int64)) for batch in batches)
        assert told == UPDATES // ROWS * 4, told
        return UPDATES

    return run


def our_levels(start: tuple[Any, Any, Any], updates: tuple[Any, Any, Any]) -> Way:
    book, letters = our_book(start), [chr(side) for side in updates[0].tolist()]
    rows = list(zip(letters, updates[1].tolist(), updates[2].tolist(), strict=True))

    def run() -> int:
        change = book.set
        for at in range(0, UPDATES, ROWS):
            for side, price, size in rows[at : at + ROWS]:
                change(side, price, size)
            book.touch()
        return UPDATES

    return run


def nautilus_way(start: tuple[Any, Any, Any], updates: tuple[Any, Any, Any]) -> Way:
    from nautilus_trader.model.book import OrderBook
    from nautilus_trader.model.data import BookOrder, OrderBookDelta
    from nautilus_trader.model.enums import BookAction, BookType, OrderSide
    from nautilus_trader.model.identifiers import InstrumentId
    from nautilus_trader.model.objects import Price, Quantity

    instrument = InstrumentId.from_str("BTCUSDT.BINANCE")

    def delta(side: int, price: int, size: int) -> Any:
        action = BookAction.UPDATE if size else BookAction.DELETE
        which = OrderSide.BUY if side == ord("B") else OrderSide.SELL
        order = BookOrder(which, Price(price / 100, 2), Quantity(size / 1000, 3), price)
        return OrderBookDelta(instrument, action, order, 0, 0, 0, 0)

    book = OrderBook(instrument, BookType.L2_MBP)
    for row in zip(*(column.tolist() for column in start), strict=True):
        book.apply_delta(delta(*row))
    deltas = [delta(*row) for row in zip(*(column.tolist() for column in updates), strict=True)]

    def run() -> int:
        apply = book.apply_delta
        for at in range(0, UPDATES, ROWS):
            for one in deltas[at : at + ROWS]:
                apply(one)
            book.best_bid_price(), book.best_ask_price()
        return UPDATES

    return run


def order_book_way(start: tuple[Any, Any, Any], updates: tuple[Any, Any, Any]) -> Way:
    from order_book import OrderBook

    book = OrderBook()
    sides = {ord("B"): book.bids, ord("A"): book.asks}

    def rows(columns: tuple[Any, Any, Any]) -> list[tuple[Any, Decimal, Decimal]]:
        made = zip(*(column.tolist() for column in columns), strict=True)
        return [(sides[side], Decimal(price) / 100, Decimal(size) / 1000) for side, price, size in made]

    for side, price, size in rows(start):
        side[price] = size
    prepared, messages = rows(updates), min(UPDATES // ROWS, 400 if len(start[0]) < 50_000 else 60)

    def run() -> int:
        # It sorts a whole side for the touch after each message, so it is given fewer of them.
        for at in range(0, messages * ROWS, ROWS):
            for side, price, size in prepared[at : at + ROWS]:
                if size:
                    side[price] = size
                elif price in side:
                    del side[price]
            book.bids.index(0), book.asks.index(0)
        return messages * ROWS

    return run


def measure(ways: dict[str, Way], rounds: int) -> dict[str, float]:
    """Median ns of each way's unit, the ways by turns."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter_ns()
            count = way()
            times[name].append((time.perf_counter_ns() - start) / count)
    return {name: round(statistics.median(taken), 1) for name, taken in times.items()}


def cases(messages: int) -> dict[str, dict[str, Way]]:
    usd = instruments("kraken", 4)
    v1, v2 = kraken_frames("v1", messages), kraken_frames("v2", messages)
    names = {f"{i.base}-USD": f"{'XBT' if i.base == 'BTC' else i.base}/USD" for i in usd}
    symbols = [i.symbol for i in usd]
    depth, snapshots = binance_frames(messages)
    tethers = instruments("binance", 4)
    found: dict[str, dict[str, Way]] = {
        "kraken": {
            "ours_ns": ours("KRAKEN", symbols, v1, 100, {}),
            "ours_v2_ns": ours("KRAKEN", symbols, v2, 100, {}),
            "cryptofeed_ns": cryptofeed_way("Kraken", v1, names, {}),
        },
        "binance": {
            "ours_ns": ours("BINANCE", [i.symbol for i in tethers], depth, None, snapshots),
            "cryptofeed_ns": cryptofeed_way("Binance", depth, {f"{i.base}-USDT": i.symbol for i in tethers}, snapshots),
        },
    }
    for levels in (5_000, 50_000):
        start, updates = flow(levels)
        found[f"book_{levels}"] = {
            "ours_ns": our_columns(start, updates),
            "ours_batch_ns": our_batches(start, updates),
            "ours_single_ns": our_levels(start, updates),
            "nautilus_ns": nautilus_way(start, updates),
            "order_book_ns": order_book_way(start, updates),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    results = []
    for name, ways in cases(arguments.messages).items():
        figures = measure(ways, arguments.rounds)
        ratios = {
            name.replace("_ns", "_ratio"): round(ns / figures["ours_ns"], 1)
            for name, ns in figures.items()
            if not name.startswith("ours")
        }
        results.append({"row": name, **figures, **ratios})
        print(json.dumps(results[-1]), flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()

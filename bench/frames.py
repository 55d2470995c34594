"""A recording from a simulated venue, without sockets: what `tickplant bench replay` and the peers are given.

    .venv/bin/python bench/frames.py kraken --depth 10 --messages 100000 --out kraken-10.raw

Writes lines `receive_time_ns frame` (`--format raw`); a snapshot that a client fetches stands as `GET url body` where a
client that begins after the first updates would get it. The same arguments give the same bytes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from tickplant.clock import MILLISECOND_NS, SECOND_NS
from tickplant.sim import build_venue
from tickplant.sim.venue import Venue

START_NS = 1_800_000_000 * SECOND_NS
STEP_NS = 50 * MILLISECOND_NS
FETCHED = {"binance": "/api/v3/depth", "binance_usdm": "/fapi/v1/depth"}
PATHS = {"binance": "/ws", "binance_usdm": "/public/ws"}
CLIENT = 1


def requests(name: str, symbols: list[str], depth: int) -> list[str]:
    """Texts that subscribe to books and trades."""
    if name == "kraken":
        channels: tuple[dict[str, object], ...] = ({"channel": "book", "depth": depth}, {"channel": "trade"})
        return [json.dumps({"method": "subscribe", "params": {"symbol": symbols, **channel}}) for channel in channels]
    if name == "coinbase":
        return [json.dumps({"type": "subscribe", "product_ids": symbols, "channels": ["level2_batch", "matches"]})]
    kinds = ("depth@100ms",) if name == "binance_usdm" else ("depth@100ms", "trade")
    streams = [f"{symbol.lower()}@{kind}" for symbol in symbols for kind in kinds]
    return [json.dumps({"method": "SUBSCRIBE", "params": streams, "id": 1})]


def lines(name: str, venue: Venue, depth: int, messages: int) -> Iterator[tuple[int, str]]:
    """`(receive time, frame or fetched snapshot)` until so many messages have come."""
    said = venue.connect(CLIENT, START_NS, PATHS.get(name, ""))
    for request in requests(name, venue.symbols, depth):
        said += venue.receive(CLIENT, request, START_NS)
    now = START_NS
    yield from ((now, str(message)) for message in said)
    fetched = name not in FETCHED
    taken = len(said)
    while taken < messages:
        now += STEP_NS
        for _, message in venue.advance(now):
            taken += 1
            yield now, str(message)
        if not fetched and now >= START_NS + 4 * STEP_NS:
            fetched = True
            for symbol in venue.symbols:
                query = f"symbol={symbol}&limit=1000"
                reply = venue.http("GET", FETCHED[name], query, now)
                yield now, f"GET {FETCHED[name]}?{query} {reply.body}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("venue", choices=("kraken", "binance", "binance_usdm", "coinbase"))
    parser.add_argument("--depth", type=int, default=10)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--instruments", type=int, default=4)
    parser.add_argument("--rate", type=int, default=2000, help="orders a second, over all instruments")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    venue = build_venue(
        arguments.venue,
        seed=arguments.seed,
        start_ns=START_NS,
        instrument_count=arguments.instruments,
        rate=arguments.rate,
        depth=max(250, 2 * arguments.depth),
    )
    with arguments.out.open("w") as file:
        for at, line in lines(arguments.venue, venue, arguments.depth, arguments.messages):
            file.write(f"{at} {line}\n")


if __name__ == "__main__":
    main()

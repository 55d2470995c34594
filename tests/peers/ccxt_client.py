"""ccxt pro against a simulated venue: the addresses are changed, its order-book check is on.

Of Binance that check is the chain of update ids. Of Kraken it cannot be had: ccxt 4.5.90 parses numbers as floats and
its checksum then fails on `float.split`, on the real venue as here; Kraken is compared by truth alone.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

import ccxt.pro
from report import Report, Side, side

# The class, its settings, and which hosts of its addresses become ours. ccxt tells spot from futures by looking for
# "/stream" in the address, which the user name provides here as the host name does on the venue.
EXCHANGES: dict[str, tuple[Any, dict[str, Any], dict[str, str]]] = {
    "kraken": (ccxt.pro.kraken, {}, {"https://api.kraken.com": "http", "wss://ws.kraken.com": "websocket"}),
    "binance": (
        ccxt.pro.binance,
        {"fetchMarkets": {"types": ["spot"]}, "watchOrderBook": {"checksum": True}},
        {"https://api.binance.com": "http", "wss://stream.binance.com:9443": "stream"},
    ),
    "binance_usdm": (
        ccxt.pro.binance,
        {"fetchMarkets": {"types": ["linear"]}, "watchOrderBook": {"checksum": True}},
        {"https://fapi.binance.com": "http", "wss://fstream.binance.com": "websocket"},
    ),
}


def readdressed(urls: Any, hosts: dict[str, str]) -> Any:
    """All addresses with the hosts changed."""
    if isinstance(urls, dict):
        return {name: readdressed(value, hosts) for name, value in urls.items()}
    for host, ours in hosts.items():
        if isinstance(urls, str) and urls.startswith(host):
            return ours + urls[len(host) :]
    return urls


async def main() -> None:
    facts = json.loads(sys.argv[1])
    facts["stream"] = facts["websocket"].replace("://", "://stream@")
    kind, options, hosts = EXCHANGES[facts["venue"]]
    exchange = kind({"options": options, "cafile": os.environ["SSL_CERT_FILE"]})
    exchange.urls["api"] = readdressed(exchange.urls["api"], {host: facts[ours] for host, ours in hosts.items()})
    await exchange.load_markets()
    held: dict[str, tuple[Side, Side]] = {}
    report = Report(lambda: held)

    async def watch(symbol: str) -> None:
        last = None
        while True:
            try:
                book = await exchange.watch_order_book(symbol)
            except Exception as problem:  # its errors are its verdict on our venue; watching again resubscribes
                report.problems.append(repr(problem))
                await asyncio.sleep(0.1)
                continue
            bids, asks = side(level[:2] for level in book["bids"]), side(level[:2] for level in book["asks"])
            held[symbol] = (bids, asks)
            if book["nonce"] is None or book["nonce"] != last:
                report.saw(symbol, book["nonce"], bids, asks)
            last = book["nonce"]

    watchers = [asyncio.create_task(watch(symbol)) for symbol in facts["symbols"]]
    await report.answer()
    for watcher in watchers:
        watcher.cancel()
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main())

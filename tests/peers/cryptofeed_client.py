"""cryptofeed against a simulated venue: the addresses are changed, checksum validation and cross checks are on."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from typing import Any

from cryptofeed import FeedHandler
from cryptofeed.connection import RestEndpoint, WebsocketEndpoint
from cryptofeed.defines import L2_BOOK
from cryptofeed.exchanges import Binance, BinanceFutures, Kraken
from report import Report, Side, side

# The class, and the path that is a part of its address.
EXCHANGES = {"kraken": (Kraken, ""), "binance": (Binance, ""), "binance_usdm": (BinanceFutures, "/public")}


class Problems(logging.Handler):
    """Warnings and errors of the client are its verdict on our venue."""

    def __init__(self, report: Report) -> None:
        super().__init__(logging.WARNING)
        self._report = report

    def emit(self, record: logging.LogRecord) -> None:
        cause = repr(record.exc_info[1]) if record.exc_info else ""
        self._report.problems.append(f"{record.getMessage()} {cause}")


def main() -> None:
    facts = json.loads(sys.argv[1])
    exchange, path = EXCHANGES[facts["venue"]]
    options = exchange.websocket_endpoints[0].options
    exchange.websocket_endpoints = [WebsocketEndpoint(facts["websocket"] + path, options=options)]
    exchange.rest_endpoints = [RestEndpoint(facts["http"], routes=exchange.rest_endpoints[0].routes)]
    held: dict[str, tuple[Side, Side]] = {}
    report = Report(lambda: held)
    logging.getLogger("feedhandler").addHandler(Problems(report))

    async def on_book(book: Any, _received: float) -> None:
        bids, asks = (side(levels.to_list()) for levels in (book.book.bids, book.book.asks))
        held[book.symbol] = (bids, asks)
        report.saw(book.symbol, book.sequence_number, bids, asks)

    handler = FeedHandler({"log": {"filename": os.devnull, "level": "WARNING"}, "uvloop": False})
    depth = {"max_depth": 10} if facts["venue"] == "kraken" else {}
    feed = exchange(
        symbols=facts["symbols"],
        channels=[L2_BOOK],
        callbacks={L2_BOOK: on_book},
        checksum_validation=True,
        cross_check=True,
        **depth,
    )
    handler.add_feed(feed)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    handler.run(start_loop=False, install_signal_handlers=False)
    loop.run_until_complete(report.answer())
    os._exit(0)  # the client has no quick end of its own


if __name__ == "__main__":
    main()

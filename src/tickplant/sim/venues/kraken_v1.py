"""Kraken spot, WebSocket v1: frozen, still maintained, and what older clients speak. Books, trades, ticker.

Facts: docs.kraken.com, WebSocket v1. Frames are arrays, numbers texts with at least five decimals, bitcoin is XBT. A
message that changes both sides holds two maps, with the checksum in the last; snapshots have none. A level that only
comes back into the window is marked "r".
"""

from __future__ import annotations

import json
from typing import Any

from tickplant.clock import MICROSECOND_NS, SECOND_NS
from tickplant.sim.market import Listing, Market, Step
from tickplant.sim.matching import ASK, BID
from tickplant.sim.statistics import Statistics
from tickplant.sim.venue import Message, Outbox, PrintedLevel, Subscribers, decimal_text
from tickplant.sim.venues.kraken_book import CHECKSUM_LEVELS, DEPTHS, Window, checksum
from tickplant.sim.venues.kraken_rest import old_name

_DECIMALS_LEAST = 5
_CHANNEL_IDS = {"trade": 1, "ticker": 2}
_BOOK_CHANNEL_ID = 336


class KrakenV1:
    """The second dialect of the venue, on the connections that came by the old path."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self._pairs = {
            f"{old_name(i.base)}/{old_name(i.quote)}": number
            for number, i in enumerate(listing.instrument for listing in market.listings)
        }
        self._names = list(self._pairs)
        self._subscribers = Subscribers()
        self._windows: dict[tuple[int, int], Window] = {}
        self._statistics = [Statistics(listing) for listing in market.listings]
        self.connections: set[int] = set()

    def connect(self, connection: int) -> list[Message]:
        """The system's status, as on every new connection."""
        self.connections.add(connection)
        status = {"connectionID": connection, "event": "systemStatus", "status": "online", "version": "1.9.6"}
        return [_json(status)]

    def disconnect(self, connection: int) -> None:
        """Forgets a client."""
        self.connections.discard(connection)
        self._subscribers.drop(connection)
        self._drop_windows()

    def receive(self, connection: int, text: str, now_ns: int) -> list[Message]:
        """Answers a client's message."""
        try:
            request = json.loads(text)
        except ValueError:
            request = None
        if not isinstance(request, dict):
            return [_json({"errorMessage": "Malformed request", "event": "error"})]
        if request.get("event") == "ping":
            return [_json({"event": "pong"} | _number(request))]
        wanted, pairs = request.get("subscription"), request.get("pair")
        if request.get("event") not in ("subscribe", "unsubscribe") or not isinstance(wanted, dict):
            return [_json({"errorMessage": "Malformed request", "event": "error"} | _number(request))]
        if not isinstance(pairs, list) or not pairs:
            return [_status(request, wanted, error="Pair(s) not found")]
        return [answer for pair in pairs for answer in self._one(connection, request, wanted, pair, now_ns)]

    def step(self, step: Step, out: Outbox) -> None:
        """Tells subscribers of one step of the market."""
        index = step.instrument
        self._statistics[index].take(step)
        for depth in DEPTHS:
            if window := self._windows.get((index, depth)):
                rows = window.rows(step)
                if any(rows):
                    text = self._update(index, depth, rows, step)
                    out.extend((connection, text) for connection in self._subscribers.of(("book", index, depth)))
        if step.trades and (connections := self._subscribers.of(("trade", index, 0))):
            listing = self._market.listings[index]
            trades = [
                [*_printed(listing, trade.price, trade.size), _seconds(step.time_ns), "bs"[trade.side], "l", ""]
                for trade in step.trades
            ]
            text = _json([_CHANNEL_IDS["trade"], trades, "trade", self._names[index]])
            out.extend((connection, text) for connection in connections)

        if self._statistics[index].touch_moved() and (connections := self._subscribers.of(("ticker", index, 0))):
            text = self._ticker(index)
            out.extend((connection, text) for connection in connections)

    def tick(self, out: Outbox) -> None:
        """The heartbeat of each second."""
        out.extend((connection, '{"event":"heartbeat"}') for connection in self._subscribers.connections())

    def _one(
        self, connection: int, request: dict[str, Any], wanted: dict[str, Any], pair: Any, now_ns: int
    ) -> list[Message]:
        """Answers for one pair: the acknowledgement, then the snapshot of a book."""
        index = self._pairs.get(pair) if isinstance(pair, str) else None
        name, depth = wanted.get("name"), wanted.get("depth", 10)
        if index is None:
            return [_status(request, wanted, pair, error=f"Currency pair not supported {pair}")]
        if name not in ("book", "trade", "ticker"):
            return [_status(request, wanted, pair, error="Subscription name invalid")]
        if name == "book" and depth not in DEPTHS:
            return [_status(request, wanted, pair, error="Subscription depth not supported")]
        key = (name, index, depth if name == "book" else 0)
        channel = f"book-{depth}" if name == "book" else name
        if request["event"] == "unsubscribe":
            if not self._subscribers.remove(key, connection):
                return [_status(request, wanted, pair, error="Subscription Not Found")]
            self._drop_windows()
            return [_status(request, wanted, pair, channel)]
        self._subscribers.add(key, connection)
        answers: list[Message] = [_status(request, wanted, pair, channel)]
        if name == "book":
            self._windows.setdefault((index, depth), Window(self._market.listings[index], depth))
            answers.append(self._snapshot(index, depth, now_ns))
        elif name == "ticker":
            answers.append(self._ticker(index))
        return answers

    def _drop_windows(self) -> None:
        for index, depth in list(self._windows):
            if not self._subscribers.has(("book", index, depth)):
                del self._windows[index, depth]

    def _levels(self, index: int, side: int, depth: int) -> list[PrintedLevel]:
        listing = self._market.listings[index]
        return [_printed(listing, price, size) for price, size in listing.book.levels(side, depth)]

    def _snapshot(self, index: int, depth: int, now_ns: int) -> str:
        sides = {
            name: [[*level, _seconds(now_ns)] for level in self._levels(index, side, depth)]
            for name, side in (("as", ASK), ("bs", BID))
        }
        return _json([_BOOK_CHANNEL_ID, sides, f"book-{depth}", self._names[index]])

    def _ticker(self, index: int) -> str:
        """Best ask and bid with whole lots, the last trade, and sums since the start for today and 24 hours."""
        listing, statistics = self._market.listings[index], self._statistics[index]

        def price(ticks: int) -> str:
            return _printed(listing, ticks, 0)[0]

        def offer(level: tuple[int, int]) -> list[Any]:
            text, size = _printed(listing, *level)
            return [text, int(float(size)), size]

        bid, ask = statistics.touch()
        facts = {
            "a": offer(ask),
            "b": offer(bid),
            "c": list(_printed(listing, statistics.last, statistics.last_size)),
            "v": [_printed(listing, 0, statistics.volume)[1]] * 2,
            "p": [price(statistics.average())] * 2,
            "t": [statistics.trades] * 2,
            "l": [price(statistics.low)] * 2,
            "h": [price(statistics.high)] * 2,
            "o": [price(statistics.open)] * 2,
        }
        return _json([_CHANNEL_IDS["ticker"], facts, "ticker", self._names[index]])

    def _update(self, index: int, depth: int, rows: tuple[Any, Any], step: Step) -> str:
        listing = self._market.listings[index]
        changed = {(change.side, change.price) for change in step.changes}

        def row(side: int, level: tuple[int, int]) -> list[str]:
            again = [] if (side, level[0]) in changed else ["r"]
            return [*_printed(listing, *level), _seconds(step.time_ns), *again]

        maps: list[dict[str, Any]] = [
            {name: [row(side, level) for level in rows[side]]} for name, side in (("a", ASK), ("b", BID)) if rows[side]
        ]
        levels = (self._levels(index, side, CHECKSUM_LEVELS) for side in (ASK, BID))
        maps[-1]["c"] = str(checksum(*levels))
        return _json([_BOOK_CHANNEL_ID, *maps, f"book-{depth}", self._names[index]])


def _printed(listing: Listing, price: int, size: int) -> PrintedLevel:
    scale = listing.instrument.price_scale
    printed_scale = max(scale, _DECIMALS_LEAST)
    return (
        decimal_text(price * 10 ** (printed_scale - scale), printed_scale),
        decimal_text(size, listing.instrument.size_scale),
    )


def _seconds(time_ns: int) -> str:
    return f"{time_ns // SECOND_NS}.{time_ns % SECOND_NS // MICROSECOND_NS:06d}"


def _number(request: dict[str, Any]) -> dict[str, Any]:
    return {"reqid": request["reqid"]} if "reqid" in request else {}


def _status(
    request: dict[str, Any], wanted: dict[str, Any], pair: Any = None, channel: str = "", *, error: str = ""
) -> str:
    """`subscriptionStatus`: what became of a request for one pair."""
    state = "error" if error else f"{request['event']}d"
    named = {"channelID": _CHANNEL_IDS.get(channel, _BOOK_CHANNEL_ID), "channelName": channel} if channel else {}
    problem = {"errorMessage": error} if error else {}
    status = {"event": "subscriptionStatus", "pair": pair, "status": state, "subscription": wanted}
    return _json(problem | named | status | _number(request))


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))

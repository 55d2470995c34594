"""Kraken spot, WebSocket v2: books with checksums, trades, ticker, instruments, and balances behind a token.

Facts: docs.kraken.com, WebSocket v2 and REST. JSON numbers keep the zeros of the pair's precision. Books send the
subscribed depth only: a level that falls out gets no delete, one that comes back is sent anew.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from tickplant.clock import SECOND_NS, rfc3339, seeded
from tickplant.sim.market import Market, Step, Trade
from tickplant.sim.matching import ASK, BID
from tickplant.sim.statistics import Statistics
from tickplant.sim.venue import HttpReply, Message, Outbox, PrintedLevel, Subscribers, Venue, decimal_text
from tickplant.sim.venues import kraken_rest
from tickplant.sim.venues.kraken_book import CHECKSUM_LEVELS, DEPTHS, Window, checksum
from tickplant.sim.venues.kraken_private import Account, Tokens
from tickplant.sim.venues.kraken_v1 import KrakenV1

TOKEN_LIFETIME_NS = 900 * SECOND_NS
_V1_PATH = "/"
_WHOLE_CHANNELS = ("instrument", "heartbeat", "balances")
_SYMBOL_CHANNELS = ("book", "trade", "ticker")
_TRADES_IN_SNAPSHOT = 50


def status_text(system: str, connection_id: int = 1) -> str:
    """The message that tells what the trading engine is at: `online`, `maintenance`, `cancel_only` or `post_only`."""
    status = {"version": "2.0.10", "system": system, "api_version": "v2", "connection_id": connection_id}
    return _json({"channel": "status", "type": "update", "data": [status]})


class Kraken(Venue):
    """The venue. `token_lifetime_ns` is how long a token may be used to subscribe (Kraken: 15 minutes).

    Connections that come by the old path `/` speak v1.
    """

    name = "kraken"
    path = "/v2"
    cadences_ns: ClassVar[tuple[int, ...]] = (SECOND_NS,)

    def __init__(self, market: Market, *, seed: int = 0, token_lifetime_ns: int = TOKEN_LIFETIME_NS) -> None:
        super().__init__(market)
        self._subscribers = Subscribers()
        self._windows: dict[tuple[int, int], Window] = {}
        self._statistics = [Statistics(listing) for listing in market.listings]
        self._tokens = Tokens(seeded(f"token {seed}"), token_lifetime_ns)
        self._account = Account([listing.instrument for listing in market.listings])
        self._private_sequence: dict[int, int] = {}
        self._v1 = KrakenV1(market)
        self.system = "online"
        """What its trading engine is at, as new connections are told."""

    def connect(self, connection: int, now_ns: int, path: str = "", query: str = "") -> list[Message]:
        """The status message, as on every new connection."""
        if path == _V1_PATH:
            return self._v1.connect(connection)
        return [status_text(self.system, 1 << 40 | connection)]

    def disconnect(self, connection: int) -> None:
        self._v1.disconnect(connection)
        self._private_sequence.pop(connection, None)
        self._subscribers.drop(connection)
        self._drop_windows()

    def receive(self, connection: int, text: str, now_ns: int) -> list[Message]:
        if connection in self._v1.connections:
            return self._v1.receive(connection, text, now_ns)
        try:
            request = json.loads(text)
        except ValueError:
            request = None
        if not isinstance(request, dict):
            return [_json({"error": "Malformed request", "success": False})]
        if request.get("method") == "ping":
            return [_json(_answer(request, now_ns) | {"method": "pong"})]
        wanted = request.get("params")
        if request.get("method") not in ("subscribe", "unsubscribe") or not isinstance(wanted, dict):
            return [_refusal(request, "Unsupported method", now_ns)]
        if wanted.get("channel") in _WHOLE_CHANNELS:
            return self._whole_channel(connection, request, now_ns)
        if wanted.get("channel") not in _SYMBOL_CHANNELS:
            return [_refusal(request, "Unsupported channel", now_ns)]
        symbols = wanted.get("symbol")
        if not isinstance(symbols, list) or not symbols:
            return [_refusal(request, "Symbol(s) not found", now_ns)]
        return [answer for symbol in symbols for answer in self._symbol_channel(connection, request, symbol, now_ns)]

    def expire_tokens(self) -> None:
        """The time of every token that was given is over: it opens no subscription any more."""
        self._tokens.expire()

    def delist(self, symbol: str) -> None:
        super().delist(symbol)
        self._drop_windows()

    def serves(self, path: str) -> bool:
        return path in (self.path, _V1_PATH)

    def http(
        self, method: str, path: str, query: str, now_ns: int, headers: Mapping[str, str] | None = None
    ) -> HttpReply:
        if path.startswith("/0/private/"):
            if not (headers or {}).get("API-Key"):
                return HttpReply(200, '{"error":["EAPI:Invalid key"]}')
            if method == "POST" and path == "/0/private/GetWebSocketsToken":
                return self._tokens.issue(now_ns)
        return kraken_rest.answer(self.market, self.past, path, query, now_ns)

    def _symbol_channel(self, connection: int, request: dict[str, Any], symbol: Any, now_ns: int) -> list[Message]:
        """Answers for one symbol of a request: the acknowledgement, then the snapshot."""
        wanted = request["params"]
        channel = wanted["channel"]
        index = self.market.index_of.get(symbol) if isinstance(symbol, str) else None
        if index is None:
            return [_refusal(request, f"Currency pair not supported {symbol}", now_ns, symbol)]
        detail: dict[str, Any] = {}
        if channel == "book":
            detail["depth"] = wanted.get("depth", 10)
            if detail["depth"] not in DEPTHS:
                return [_refusal(request, "Subscription depth not supported", now_ns, symbol)]
        elif channel == "ticker":
            detail["event_trigger"] = wanted.get("event_trigger", "trades")
        result = {"channel": channel, "symbol": symbol} | detail
        key = (channel, index, *detail.values())
        if request["method"] == "unsubscribe":
            if not self._subscribers.remove(key, connection):
                return [_refusal(request, "Subscription Not Found", now_ns, symbol)]
            self._drop_windows()
            return [_success(request, result, now_ns)]
        if any(held[:2] == key[:2] for held in self._subscribers.keys(connection)):
            return [_refusal(request, "Already subscribed", now_ns, symbol)]
        self._subscribers.add(key, connection)
        snapshot = wanted.get("snapshot", channel != "trade")
        return [
            _success(request, result | {"snapshot": snapshot}, now_ns),
            *self._snapshot(channel, index, detail.get("depth", 0), snapshot),
        ]

    def _snapshot(self, channel: str, index: int, depth: int, wanted: bool) -> list[Message]:
        if channel == "book":
            self._windows.setdefault((index, depth), Window(self.market.listings[index], depth))
        if not wanted:
            return []
        if channel == "book":
            sides = (self._levels(index, BID, depth), self._levels(index, ASK, depth))
            return [self._book(index, "snapshot", sides, self.now_ns)]
        if channel == "ticker":
            return [self._ticker(index, "snapshot")]
        return [self._trades(index, "snapshot", self._statistics[index].recent(_TRADES_IN_SNAPSHOT))]

    def _whole_channel(self, connection: int, request: dict[str, Any], now_ns: int) -> list[Message]:
        """Answers for the channels without symbols."""
        wanted = request["params"]
        channel = wanted["channel"]
        result: dict[str, Any] = {"channel": channel}
        if request["method"] == "unsubscribe":
            if not self._subscribers.remove((channel,), connection):
                return [_refusal(request, "Subscription Not Found", now_ns)]
            return [_success(request, result, now_ns)]
        if channel == "balances" and (refused := self._tokens.refusal(wanted.get("token"), now_ns)):
            return [_refusal(request, refused, now_ns)]
        if not self._subscribers.add((channel,), connection):
            return [_refusal(request, "Already subscribed", now_ns)]
        if channel == "heartbeat":
            return [_success(request, result, now_ns)]
        snapshot = wanted.get("snapshot", True)
        answers: list[Message] = [_success(request, result | {"snapshot": snapshot}, now_ns)]
        if snapshot and channel == "instrument":
            data = kraken_rest.instrument_channel(self.market)
            answers.append(f'{{"channel":"instrument","type":"snapshot","data":{data}}}')
        elif snapshot:
            answers.append(self._balances(connection, "snapshot", self._account.snapshot()))
        return answers

    def _step(self, step: Step, out: Outbox) -> None:
        index = step.instrument
        self._statistics[index].take(step)
        self._v1.step(step, out)
        for depth in DEPTHS:
            if window := self._windows.get((index, depth)):
                bids, asks = window.rows(step)
                if bids or asks:
                    listing = self.market.listings[index]
                    sides = [[self.printed(listing, *row) for row in rows] for rows in (bids, asks)]
                    text = self._book(index, "update", sides, step.time_ns)
                    out.extend((connection, text) for connection in self._subscribers.of(("book", index, depth)))
        if step.trades:
            trades = [(step.time_ns, trade) for trade in step.trades]
            self._publish(out, ("trade", index), lambda: self._trades(index, "update", trades))
            self._publish(out, ("ticker", index, "trades"), lambda: self._ticker(index, "update"))
            for data in self._account.take(step):
                for connection in self._subscribers.of(("balances",)):
                    out.append((connection, self._balances(connection, "update", data)))
        if self._statistics[index].touch_moved():
            self._publish(out, ("ticker", index, "bbo"), lambda: self._ticker(index, "update"))

    def _tick(self, cadence_ns: int, at_ns: int, out: Outbox) -> None:
        out.extend((connection, '{"channel":"heartbeat"}') for connection in self._subscribers.connections())
        self._v1.tick(out)

    def _publish(self, out: Outbox, key: tuple[Any, ...], render: Callable[[], str]) -> None:
        if connections := self._subscribers.of(key):
            text = render()
            out.extend((connection, text) for connection in connections)

    def _drop_windows(self) -> None:
        """Windows without subscribers end: the next subscriber starts a fresh one."""
        for index, depth in list(self._windows):
            if not self._subscribers.has(("book", index, depth)):
                del self._windows[index, depth]

    def _levels(self, index: int, side: int, depth: int) -> list[PrintedLevel]:
        listing = self.market.listings[index]
        return [self.printed(listing, price, size) for price, size in listing.book.levels(side, depth)]

    def _book(self, index: int, kind: str, sides: Sequence[list[PrintedLevel]], time_ns: int) -> str:
        bids, asks = (",".join([f'{{"price":{price},"qty":{size}}}' for price, size in side]) for side in sides)
        symbol = self.market.listings[index].instrument.symbol
        proof = checksum(self._levels(index, ASK, CHECKSUM_LEVELS), self._levels(index, BID, CHECKSUM_LEVELS))
        return (
            f'{{"channel":"book","type":"{kind}","data":[{{"symbol":"{symbol}","bids":[{bids}],"asks":[{asks}],'
            f'"checksum":{proof},"timestamp":"{rfc3339(time_ns)}"}}]}}'
        )

    def _trades(self, index: int, kind: str, trades: list[tuple[int, Trade]]) -> str:
        listing = self.market.listings[index]
        rows = []
        for time_ns, trade in trades:
            price, size = self.printed(listing, trade.price, trade.size)
            rows.append(
                f'{{"symbol":"{listing.instrument.symbol}","side":"{"sell" if trade.side else "buy"}","price":{price},'
                f'"qty":{size},"ord_type":"limit","trade_id":{trade.id},"timestamp":"{rfc3339(time_ns)}"}}'
            )
        return f'{{"channel":"trade","type":"{kind}","data":[{",".join(rows)}]}}'

    def _ticker(self, index: int, kind: str) -> str:
        listing, statistics = self.market.listings[index], self._statistics[index]
        (bid, bid_size), (ask, ask_size) = statistics.touch()
        prices = {"bid": bid, "ask": ask, "last": statistics.last, "vwap": statistics.average(),
                  "low": statistics.low, "high": statistics.high}  # fmt: skip
        sizes = {"bid_qty": bid_size, "ask_qty": ask_size, "volume": statistics.volume}
        instrument = listing.instrument
        text = {name: decimal_text(value, instrument.price_scale) for name, value in prices.items()}
        text |= {name: decimal_text(value, instrument.size_scale) for name, value in sizes.items()}
        change = statistics.last - statistics.open
        sign = "-" if change < 0 else ""
        text["change"] = sign + decimal_text(abs(change), instrument.price_scale)
        text["change_pct"] = sign + decimal_text(abs(change) * 10_000 // statistics.open, 2)
        order = ("bid", "bid_qty", "ask", "ask_qty", "last", "volume", "vwap", "low", "high", "change", "change_pct")
        fields = ",".join(f'"{name}":{text[name]}' for name in order)
        return f'{{"channel":"ticker","type":"{kind}","data":[{{"symbol":"{instrument.symbol}",{fields}}}]}}'

    def _balances(self, connection: int, kind: str, data: str) -> str:
        """Private messages are numbered from 1 on each connection."""
        sequence = self._private_sequence[connection] = self._private_sequence.get(connection, 0) + 1
        return f'{{"channel":"balances","type":"{kind}","data":[{data}],"sequence":{sequence}}}'


def _answer(request: dict[str, Any], now_ns: int) -> dict[str, Any]:
    """The fields that each answer ends with."""
    number = {"req_id": request["req_id"]} if "req_id" in request else {}
    return {"method": request.get("method")} | number | {"time_in": rfc3339(now_ns), "time_out": rfc3339(now_ns)}


def _success(request: dict[str, Any], result: dict[str, Any], now_ns: int) -> str:
    return _json({"method": request["method"], "result": result, "success": True} | _answer(request, now_ns))


def _refusal(request: dict[str, Any], error: str, now_ns: int, symbol: Any = None) -> str:
    named = {} if symbol is None else {"symbol": symbol}
    return _json({"error": error, "success": False} | named | _answer(request, now_ns))


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))

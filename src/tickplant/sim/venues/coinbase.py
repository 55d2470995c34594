"""Coinbase Exchange: the whole book in band (`level2_batch`, every 50 ms), matches, ticker, heartbeat, `/products`.

Facts: docs.cdp.coinbase.com, Exchange WebSocket. Books carry no sequence. `match.side` is the resting order's side,
`ticker.side` the aggressor's. One unknown product refuses the whole request. The venue lists `level2_batch` as
`level2_50`, and drops a connection that does not subscribe within five seconds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

from tickplant.clock import MILLISECOND_NS, SECOND_NS, rfc3339
from tickplant.sim.market import Instrument, Market, Step, Trade
from tickplant.sim.matching import ASK, BID
from tickplant.sim.statistics import Statistics
from tickplant.sim.venue import Close, HttpReply, Message, Outbox, Subscribers, Venue, decimal_text, parameters

_BATCH_NS = 50 * MILLISECOND_NS
_PAGE_MOST = 1000
_SUBSCRIBE_WITHIN_NS = 5 * SECOND_NS
# As asked for, and as listed in answers.
_CHANNELS = {
    "level2_batch": "level2_50",
    "level2_50": "level2_50",
    "matches": "matches",
    "ticker": "ticker",
    "heartbeat": "heartbeat",
}
_AUTHENTICATED = ("level2", "level3", "full")
_NEEDS_KEY = "level2, level3, and full channels now require authentication. https://docs.cloud.coinbase.com/exchange/docs/websocket-auth"


class Coinbase(Venue):
    """The venue."""

    name = "coinbase"
    path = "/"
    cadences_ns: ClassVar[tuple[int, ...]] = (_BATCH_NS, SECOND_NS)

    def __init__(self, market: Market) -> None:
        super().__init__(market)
        self._subscribers = Subscribers()
        self._connected: dict[int, int] = {}
        self._statistics = [Statistics(listing) for listing in market.listings]
        self._changed: dict[int, dict[tuple[int, int], None]] = {}
        self._published = [listing.update_id for listing in market.listings]

    def connect(self, connection: int, now_ns: int, path: str = "", query: str = "") -> list[Message]:
        """Says nothing and waits for a subscription."""
        self._connected[connection] = now_ns
        return []

    def disconnect(self, connection: int) -> None:
        self._connected.pop(connection, None)
        self._subscribers.drop(connection)

    def receive(self, connection: int, text: str, now_ns: int) -> list[Message]:
        try:
            request = json.loads(text)
        except ValueError:
            return [_error("Malformed JSON", "the message is not JSON")]
        kind = request.get("type") if isinstance(request, dict) else None
        if kind not in ("subscribe", "unsubscribe"):
            return [_error("Failed to subscribe", f"{kind} is not a valid message type")]
        wanted = self._wanted(request)
        if isinstance(wanted, str):
            return [_error(f"Failed to {kind}", wanted)]
        if kind == "unsubscribe":
            for key in wanted:
                self._subscribers.remove(key, connection)
            return [self._listing(connection)]
        self._connected.pop(connection, None)
        new = [key for key in wanted if self._subscribers.add(key, connection)]
        return [self._listing(connection), *(text for key in new for text in self._first(*key))]

    def http(
        self, method: str, path: str, query: str, now_ns: int, headers: Mapping[str, str] | None = None
    ) -> HttpReply:
        instruments = [listing.instrument for listing in self.market.listings]
        parts = path.strip("/").split("/")
        if parts == ["products"]:
            return HttpReply(200, _json([_product(instrument) for instrument in instruments]))
        if parts == ["time"]:
            return HttpReply(200, _json({"iso": rfc3339(now_ns), "epoch": now_ns // MILLISECOND_NS / 1000}))
        if parts[0] != "products" or len(parts) > 3 or parts[1] not in self.market.index_of:
            return HttpReply(404, '{"message":"NotFound"}')
        index = self.market.index_of[parts[1]]
        if len(parts) == 2:
            return HttpReply(200, _json(_product(instruments[index])))
        if parts[2] == "trades":
            return self._trades(index, parameters(query))
        if parts[2] != "book":
            return HttpReply(404, '{"message":"NotFound"}')
        return HttpReply(200, self._rest_book(index, 1 if parameters(query).get("level", "1") == "1" else None, now_ns))

    def _concerns(self, key: Any, index: int) -> bool:
        # Heartbeats go on: they tell of the last trade, whatever became of the product.
        return key[0] != "heartbeat" and super()._concerns(key, index)

    def published(self, symbol: str) -> int:
        """The update id up to which the last batch told; ids are the market's, the venue shows none."""
        return self._published[self.market.index_of[symbol]]

    def _wanted(self, request: dict[str, Any]) -> list[tuple[str, int]] | str:
        """The keys (listed channel, index) that a request names, or why it is refused."""
        channels, common = request.get("channels", []), request.get("product_ids", [])
        if not isinstance(channels, list) or not channels:
            return "channels is required"
        wanted = []
        for channel in channels:
            name = channel.get("name") if isinstance(channel, dict) else channel
            products = channel.get("product_ids", common) if isinstance(channel, dict) else common
            if name in _AUTHENTICATED:
                return _NEEDS_KEY
            if not isinstance(name, str) or name not in _CHANNELS:
                return f"{name} is not a valid channel"
            if not isinstance(products, list) or not products:
                return "product_ids is required"
            for product in products:
                if not isinstance(product, str) or product not in self.market.index_of:
                    return f"{product} is not a valid product"
                wanted.append((_CHANNELS[name], self.market.index_of[product]))
        return wanted

    def _listing(self, connection: int) -> str:
        """Everything that the connection now has."""
        channels: dict[str, list[str]] = {}
        for channel, index in self._subscribers.keys(connection):
            channels.setdefault(channel, []).append(self.market.listings[index].instrument.symbol)
        rows = [{"name": name, "product_ids": ids, "account_ids": None} for name, ids in channels.items()]
        return _json({"type": "subscriptions", "channels": rows})

    def _first(self, channel: str, index: int) -> list[Message]:
        """What a new subscription is told at once: the book, the last match, the ticker."""
        listing, statistics = self.market.listings[index], self._statistics[index]
        if channel == "level2_50":
            bids, asks = (
                ",".join(
                    f'["{price}","{size}"]'
                    for price, size in (self.printed(listing, *level) for level in listing.book.levels(side))
                )
                for side in (BID, ASK)
            )
            return [
                f'{{"type":"snapshot","product_id":"{listing.instrument.symbol}","asks":[{asks}],"bids":[{bids}],'
                f'"time":"{rfc3339(self.now_ns)}"}}'
            ]
        if not statistics.trades:
            return []
        time_ns, trade = statistics.recent(1)[0]
        if channel == "matches":
            return [self._match("last_match", index, trade, time_ns)]
        return [self._ticker(index, trade, time_ns)] if channel == "ticker" else []

    def _step(self, step: Step, out: Outbox) -> None:
        index = step.instrument
        self._statistics[index].take(step)
        if step.changes:
            changed = self._changed.setdefault(index, {})
            for change in step.changes:
                changed[change.side, change.price] = None
        for trade in step.trades:
            self._publish(out, ("matches", index), partial(self._match, "match", index, trade, step.time_ns))
        if step.trades:
            self._publish(out, ("ticker", index), partial(self._ticker, index, step.trades[-1], step.time_ns))

    def _tick(self, cadence_ns: int, at_ns: int, out: Outbox) -> None:
        if cadence_ns == SECOND_NS:
            for index in range(len(self.market.listings)):
                self._publish(out, ("heartbeat", index), partial(self._heartbeat, index, at_ns))
            return
        for index, changed in self._changed.items():
            self._publish(out, ("level2_50", index), partial(self._update, index, changed, at_ns))
            self._published[index] = self.market.listings[index].update_id
        self._changed = {}
        for connection, since_ns in list(self._connected.items()):
            if at_ns - since_ns > _SUBSCRIBE_WITHIN_NS:
                del self._connected[connection]
                out.append((connection, Close(1008, "no subscription within 5 seconds")))

    def _publish(self, out: Outbox, key: tuple[str, int], render: Callable[[], str]) -> None:
        if connections := self._subscribers.of(key):
            text = render()
            out.extend((connection, text) for connection in connections)

    def _update(self, index: int, changed: dict[tuple[int, int], None], at_ns: int) -> str:
        listing = self.market.listings[index]
        rows = []
        for side, price in changed:
            printed, size = self.printed(listing, price, listing.book.size_at(side, price))
            rows.append(f'["{"sell" if side == ASK else "buy"}","{printed}","{size}"]')
        return (
            f'{{"type":"l2update","product_id":"{listing.instrument.symbol}","changes":[{",".join(rows)}],'
            f'"time":"{rfc3339(at_ns)}"}}'
        )

    def _sequence(self, index: int, trade_id: int) -> int:
        """A product's counter over changes and trades; it grows with each match."""
        return self.market.listings[index].update_id + trade_id

    def _match(self, kind: str, index: int, trade: Trade, time_ns: int) -> str:
        listing = self.market.listings[index]
        price, size = self.printed(listing, trade.price, trade.size)
        return (
            f'{{"type":"{kind}","trade_id":{trade.id},"maker_order_id":"{_order_id(index, trade.maker)}",'
            f'"taker_order_id":"{_order_id(index, trade.taker)}","side":"{"buy" if trade.side == ASK else "sell"}",'
            f'"size":"{size}","price":"{price}","product_id":"{listing.instrument.symbol}",'
            f'"sequence":{self._sequence(index, trade.id)},"time":"{rfc3339(time_ns)}"}}'
        )

    def _ticker(self, index: int, trade: Trade, time_ns: int) -> str:
        listing, statistics = self.market.listings[index], self._statistics[index]
        price, size = self.printed(listing, trade.price, trade.size)
        bid, ask = (self.printed(listing, *level) for level in statistics.touch())
        start, volume = self.printed(listing, statistics.open, statistics.volume)
        low, high = (self.printed(listing, value, 0)[0] for value in (statistics.low, statistics.high))
        return (
            f'{{"type":"ticker","sequence":{self._sequence(index, trade.id)},'
            f'"product_id":"{listing.instrument.symbol}","price":"{price}","open_24h":"{start}","volume_24h":"{volume}","low_24h":"{low}","high_24h":"{high}",'
            f'"volume_30d":"{volume}","best_bid":"{bid[0]}","best_bid_size":"{bid[1]}","best_ask":"{ask[0]}",'
            f'"best_ask_size":"{ask[1]}","side":"{"sell" if trade.side == ASK else "buy"}",'
            f'"time":"{rfc3339(time_ns)}","trade_id":{trade.id},"last_size":"{size}"}}'
        )

    def _heartbeat(self, index: int, at_ns: int) -> str:
        listing = self.market.listings[index]
        return (
            f'{{"type":"heartbeat","sequence":{self._sequence(index, listing.trade_id)},'
            f'"last_trade_id":{listing.trade_id},"product_id":"{listing.instrument.symbol}","time":"{rfc3339(at_ns)}"}}'
        )

    def _trades(self, index: int, asked: dict[str, str]) -> HttpReply:
        """A page of past trades, newest first; `after` an id are the older ones, `before` it the newer."""
        numbers = [asked.get(name, default) for name, default in (("limit", "1000"), ("after", "0"), ("before", "0"))]
        if not all(number.isdecimal() for number in numbers):
            return HttpReply(400, '{"message":"Invalid pagination"}')
        limit, after, before = (int(number) for number in numbers)
        most = min(limit, _PAGE_MOST)
        past = self.past.before_id(index, after, most) if after else self.past.newest(index, most)
        listing, rows = self.market.listings[index], []
        for time_ns, trade in reversed([past for past in past if past.trade.id > before]):
            price, size = self.printed(listing, trade.price, trade.size)
            side = "buy" if trade.side == ASK else "sell"
            rows.append({"trade_id": trade.id, "side": side, "size": size, "price": price, "time": rfc3339(time_ns)})
        return HttpReply(200, _json(rows))

    def _rest_book(self, index: int, depth: int | None, now_ns: int) -> str:
        listing = self.market.listings[index]
        sides = {
            name: [
                [*self.printed(listing, price, size), listing.book.count_at(side, price)]
                for price, size in listing.book.levels(side, depth)
            ]
            for name, side in (("bids", BID), ("asks", ASK))
        }
        rest = {"sequence": self._sequence(index, listing.trade_id), "auction_mode": False, "auction": None}
        return _json(sides | rest | {"time": rfc3339(now_ns)})


def _order_id(index: int, order: int) -> str:
    return f"{index:08x}-0000-4000-8000-{order:012x}"


def _product(instrument: Instrument) -> dict[str, Any]:
    return {
        "id": instrument.symbol, "base_currency": instrument.base, "quote_currency": instrument.quote,
        "quote_increment": decimal_text(1, instrument.price_scale),
        "base_increment": decimal_text(1, instrument.size_scale),
        "display_name": f"{instrument.base}-{instrument.quote}", "min_market_funds": "1", "margin_enabled": False,
        "post_only": False, "limit_only": False, "cancel_only": False, "status": "online", "status_message": "",
        "trading_disabled": False, "fx_stablecoin": False, "max_slippage_percentage": "0.03000000",
        "auction_mode": False, "high_bid_limit_percentage": "",
    }  # fmt: skip


def _error(message: str, reason: str) -> str:
    return _json({"type": "error", "message": message, "reason": reason})


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))

"""Binance USD-M futures: depth chained by `pu`, routed paths, ids shared by all symbols.

Facts: the routed paths (`/public`, `/market`, `/private`) of April 2026; the unrouted ones still open and acknowledge
subscriptions, and never send data. `U` is not the last `u` plus one, because other symbols use the ids between.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from tickplant.clock import SECOND_NS
from tickplant.sim.market import Instrument, Listing, Market, Trade
from tickplant.sim.matching import ASK, BID
from tickplant.sim.statistics import Statistics
from tickplant.sim.venue import HttpReply, Message, decimal_text, milliseconds, parameters
from tickplant.sim.venues.binance_streams import (
    Batch,
    BinanceStreams,
    Rows,
    boolean,
    cadences,
    rhythm,
    time_body,
    whole_number,
)

_TRADES_MOST = 1000
_NO_KEY = HttpReply(401, '{"code":-2014,"msg":"API-key format invalid."}')
_LIMITS = (5, 10, 20, 50, 100, 500, 1000)
_CATEGORIES = {"/public": ("depth", "bookTicker", "trade"), "/market": ("aggTrade",), "/private": ()}
_INVALID_SYMBOL = HttpReply(400, '{"code":-1121,"msg":"Invalid symbol."}')
_NO_SYMBOL = HttpReply(
    400, '{"code":-1102,"msg":"Mandatory parameter \'symbol\' was not sent, was empty/null, or malformed."}'
)
_BAD_LIMIT = HttpReply(400, '{"code":-1130,"msg":"Data sent for parameter \'limit\' is not valid."}')


class BinanceUsdm(BinanceStreams):
    """The venue."""

    name = "binance_usdm"
    path = "/public/stream"
    depth_rhythms: ClassVar[dict[str, int]] = {
        "depth@0ms": 0,
        "depth@100ms": rhythm(100),
        "depth": rhythm(250),
        "depth@500ms": rhythm(500),
    }
    cadences_ns: ClassVar[tuple[int, ...]] = cadences(depth_rhythms)
    messages_per_second = 10
    ping_every_ns = 180 * SECOND_NS
    pong_within_ns = 600 * SECOND_NS

    def __init__(self, market: Market) -> None:
        super().__init__(market)
        self._category: dict[int, str] = {}

    def connect(self, connection: int, now_ns: int, path: str = "", query: str = "") -> list[Message]:
        route = self._route(path or self.path)
        self._category[connection] = route.removesuffix("/ws").removesuffix("/stream")
        return super().connect(connection, now_ns, path, query)

    def disconnect(self, connection: int) -> None:
        self._category.pop(connection, None)
        super().disconnect(connection)

    def http(
        self, method: str, path: str, query: str, now_ns: int, headers: Mapping[str, str] | None = None
    ) -> HttpReply:
        match path:
            case "/fapi/v1/ping":
                return HttpReply(200, "{}")
            case "/fapi/v1/time":
                return HttpReply(200, time_body(now_ns))
            case "/fapi/v1/exchangeInfo":
                return self._exchange_info(now_ns)
            case "/fapi/v1/depth":
                return self._snapshot(parameters(query), now_ns)
            case "/fapi/v1/trades":
                return self._trades(parameters(query))
            case "/fapi/v1/historicalTrades":
                return _NO_KEY
        return HttpReply(404, '{"code":-5000,"msg":"Path is invalid."}')

    def _route(self, path: str) -> str:
        for category in (*_CATEGORIES, ""):
            if path in (f"{category}/ws", f"{category}/stream"):
                return path
            if path.startswith(f"{category}/ws/"):
                return f"{category}/ws"
        return ""

    def _hears(self, connection: int, kind: str) -> bool:
        return kind.partition("@")[0] in _CATEGORIES.get(self._category.get(connection, ""), ())

    def _snapshot(self, asked: dict[str, str], now_ns: int) -> HttpReply:
        limit = whole_number(asked.get("limit"), 500)
        if not asked.get("symbol"):
            return _NO_SYMBOL
        if asked["symbol"] not in self.market.index_of:
            return _INVALID_SYMBOL
        if limit not in _LIMITS:
            return _BAD_LIMIT
        listing = self.market.listings[self.market.index_of[asked["symbol"]]]
        bids, asks = (self._rows(listing, listing.book.levels(side, limit)) for side in (BID, ASK))
        return HttpReply(
            200,
            f'{{"lastUpdateId":{listing.update_id},"E":{milliseconds(now_ns)},"T":{milliseconds(self.now_ns)},'
            f'"bids":[{bids}],"asks":[{asks}]}}',
        )

    def _trades(self, asked: dict[str, str]) -> HttpReply:
        limit = whole_number(asked.get("limit"), 500)
        if not asked.get("symbol"):
            return _NO_SYMBOL
        if asked["symbol"] not in self.market.index_of:
            return _INVALID_SYMBOL
        if limit is None or limit > _TRADES_MOST:
            return _BAD_LIMIT
        index = self.market.index_of[asked["symbol"]]
        return HttpReply(200, self._past_trades(self.market.listings[index], self.past.newest(index, limit)))

    def _depth(self, listing: Listing, batch: Batch, rows: tuple[Rows, Rows], at_ns: int) -> str:
        bids, asks = (self._rows(listing, side) for side in rows)
        return (
            f'{{"e":"depthUpdate","E":{milliseconds(at_ns)},"T":{milliseconds(batch.time_ns)},'
            f'"s":"{listing.instrument.symbol}","U":{batch.first_id},"u":{batch.last_id},"pu":{batch.previous},'
            f'"b":[{bids}],"a":[{asks}]}}'
        )

    def _book_ticker(self, listing: Listing, statistics: Statistics, update_id: int, at_ns: int) -> str:
        time = milliseconds(at_ns)
        return (
            f'{{"e":"bookTicker","u":{update_id},"s":"{listing.instrument.symbol}",'
            f'{self._touch(listing, statistics)},"T":{time},"E":{time}}}'
        )

    def _trade(self, listing: Listing, trade: Trade, at_ns: int) -> str:
        price, size = self.printed(listing, trade.price, trade.size)
        time = milliseconds(at_ns)
        return (
            f'{{"e":"trade","E":{time},"T":{time},"s":"{listing.instrument.symbol}","t":{trade.id},"p":"{price}",'
            f'"q":"{size}","X":"MARKET","m":{boolean(trade.side == ASK)}}}'
        )

    def _aggregate(self, listing: Listing, number: int, trades: list[Trade], at_ns: int) -> str:
        price, size = self.printed(listing, trades[0].price, sum(trade.size for trade in trades))
        time = milliseconds(at_ns)
        return (
            f'{{"e":"aggTrade","E":{time},"s":"{listing.instrument.symbol}","a":{number},"p":"{price}","q":"{size}",'
            f'"f":{trades[0].id},"l":{trades[-1].id},"T":{time},"m":{boolean(trades[0].side == ASK)}}}'
        )

    def _exchange_info(self, now_ns: int) -> HttpReply:
        info = {
            "timezone": "UTC",
            "serverTime": milliseconds(now_ns),
            "futuresType": "U_MARGINED",
            "rateLimits": [
                {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 2400},
            ],
            "exchangeFilters": [],
            "assets": [{"asset": "USDT", "marginAvailable": True, "autoAssetExchange": "-10000"}],
            "symbols": [_symbol(listing.instrument) for listing in self.market.listings],
        }
        return HttpReply(200, json.dumps(info, separators=(",", ":")))


def _symbol(instrument: Instrument) -> dict[str, Any]:
    tick, lot = decimal_text(1, instrument.price_scale), decimal_text(1, instrument.size_scale)
    return {
        "symbol": instrument.symbol, "pair": instrument.symbol, "contractType": "PERPETUAL",
        "deliveryDate": 4133404800000, "onboardDate": 1569398400000, "status": "TRADING",
        "maintMarginPercent": "2.5000", "requiredMarginPercent": "5.0000",
        "baseAsset": instrument.base, "quoteAsset": instrument.quote, "marginAsset": instrument.quote,
        "pricePrecision": instrument.price_scale, "quantityPrecision": instrument.size_scale,
        "baseAssetPrecision": 8, "quotePrecision": 8, "underlyingType": "COIN", "underlyingSubType": [],
        "triggerProtect": "0.0500", "liquidationFee": "0.010000", "marketTakeBound": "0.05",
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "1000000", "tickSize": tick},
            {"filterType": "LOT_SIZE", "minQty": lot, "maxQty": "10000", "stepSize": lot},
            {"filterType": "MARKET_LOT_SIZE", "minQty": lot, "maxQty": "1000", "stepSize": lot},
            {"filterType": "MIN_NOTIONAL", "notional": "5"},
        ],
        "orderTypes": ["LIMIT", "MARKET"], "timeInForce": ["GTC", "IOC", "FOK", "GTX"],
    }  # fmt: skip

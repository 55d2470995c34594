"""Binance spot: depth by update ids (`U`, `u`) over a REST snapshot, trades, bookTicker.

Facts: binance-spot-api-docs, web-socket-streams.md and rest-api.md. All numbers are texts with eight decimals.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from tickplant.sim.market import Instrument, Listing, Trade
from tickplant.sim.matching import ASK, BID
from tickplant.sim.statistics import Statistics
from tickplant.sim.venue import HttpReply, PrintedLevel, decimal_text, milliseconds, parameters
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

_PRINTED_SCALE = 8
_TRADES_MOST = 1000
_LEVELS_MOST = 5000
_INVALID_SYMBOL = HttpReply(400, '{"code":-1121,"msg":"Invalid symbol."}')
_NO_SYMBOL = HttpReply(
    400,
    '{"code":-1102,"msg":"Mandatory parameter \'symbol\' was not sent, was empty/null, or malformed."}',
)
_BAD_LIMIT = HttpReply(
    400, '{"code":-1100,"msg":"Illegal characters found in parameter \'limit\'; legal range is \'^[0-9]{1,20}$\'."}'
)


class Binance(BinanceStreams):
    """The venue."""

    name = "binance"
    path = "/stream"
    depth_rhythms: ClassVar[dict[str, int]] = {"depth@100ms": rhythm(100), "depth": rhythm(1000)}
    cadences_ns: ClassVar[tuple[int, ...]] = cadences(depth_rhythms)
    messages_per_second = 5

    def printed(self, listing: Listing, price: int, size: int) -> PrintedLevel:
        instrument = listing.instrument
        return _padded(price, instrument.price_scale), _padded(size, instrument.size_scale)

    def http(
        self, method: str, path: str, query: str, now_ns: int, headers: Mapping[str, str] | None = None
    ) -> HttpReply:
        asked = parameters(query)
        match path:
            case "/api/v3/ping":
                return HttpReply(200, "{}")
            case "/api/v3/time":
                return HttpReply(200, time_body(now_ns))
            case "/api/v3/exchangeInfo":
                return self._exchange_info(asked, now_ns)
            case "/api/v3/depth":
                return self._snapshot(asked)
            case "/api/v3/trades" | "/api/v3/historicalTrades":
                return self._trades(asked, by_id=path.endswith("historicalTrades"))
        return HttpReply(404, '{"code":-1000,"msg":"Path not found."}')

    def _route(self, path: str) -> str:
        if path == "/ws" or path.startswith("/ws/"):
            return "/ws"
        return "/stream" if path == "/stream" else ""

    def _snapshot(self, asked: dict[str, str]) -> HttpReply:
        limit = whole_number(asked.get("limit"), 100)
        if not asked.get("symbol"):
            return _NO_SYMBOL
        if asked["symbol"] not in self.market.index_of:
            return _INVALID_SYMBOL
        if limit is None:
            return _BAD_LIMIT
        listing = self.market.listings[self.market.index_of[asked["symbol"]]]
        bids, asks = (self._rows(listing, listing.book.levels(side, min(limit, _LEVELS_MOST))) for side in (BID, ASK))
        return HttpReply(200, f'{{"lastUpdateId":{listing.update_id},"bids":[{bids}],"asks":[{asks}]}}')

    def _trades(self, asked: dict[str, str], *, by_id: bool) -> HttpReply:
        limit, first = whole_number(asked.get("limit"), 500), whole_number(asked.get("fromId"), 0)
        if not asked.get("symbol"):
            return _NO_SYMBOL
        if asked["symbol"] not in self.market.index_of:
            return _INVALID_SYMBOL
        if limit is None or first is None:
            return _BAD_LIMIT
        index, most = self.market.index_of[asked["symbol"]], min(limit, _TRADES_MOST)
        past = self.past.from_id(index, first, most) if by_id and first else self.past.newest(index, most)
        return HttpReply(200, self._past_trades(self.market.listings[index], past, ',"isBestMatch":true'))

    def _depth(self, listing: Listing, batch: Batch, rows: tuple[Rows, Rows], at_ns: int) -> str:
        bids, asks = (self._rows(listing, side) for side in rows)
        return (
            f'{{"e":"depthUpdate","E":{milliseconds(at_ns)},"s":"{listing.instrument.symbol}",'
            f'"U":{batch.previous + 1},"u":{batch.last_id},"b":[{bids}],"a":[{asks}]}}'
        )

    def _book_ticker(self, listing: Listing, statistics: Statistics, update_id: int, at_ns: int) -> str:
        return f'{{"u":{update_id},"s":"{listing.instrument.symbol}",{self._touch(listing, statistics)}}}'

    def _trade(self, listing: Listing, trade: Trade, at_ns: int) -> str:
        price, size = self.printed(listing, trade.price, trade.size)
        time = milliseconds(at_ns)
        return (
            f'{{"e":"trade","E":{time},"s":"{listing.instrument.symbol}","t":{trade.id},"p":"{price}","q":"{size}",'
            f'"T":{time},"m":{boolean(trade.side == ASK)},"M":true}}'
        )

    def _aggregate(self, listing: Listing, number: int, trades: list[Trade], at_ns: int) -> str:
        price, size = self.printed(listing, trades[0].price, sum(trade.size for trade in trades))
        time = milliseconds(at_ns)
        return (
            f'{{"e":"aggTrade","E":{time},"s":"{listing.instrument.symbol}","a":{number},"p":"{price}","q":"{size}",'
            f'"f":{trades[0].id},"l":{trades[-1].id},"T":{time},"m":{boolean(trades[0].side == ASK)},"M":true}}'
        )

    def _exchange_info(self, asked: dict[str, str], now_ns: int) -> HttpReply:
        wanted = [asked["symbol"]] if "symbol" in asked else self.symbols
        if "symbols" in asked:
            try:
                wanted = json.loads(asked["symbols"])
            except ValueError:
                return _BAD_LIMIT
        if not isinstance(wanted, list) or not all(symbol in self.symbols for symbol in wanted):
            return _INVALID_SYMBOL
        instruments = [self.market.listings[self.market.index_of[symbol]].instrument for symbol in wanted]
        info = {
            "timezone": "UTC",
            "serverTime": milliseconds(now_ns),
            "rateLimits": [
                {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 6000},
                {"rateLimitType": "RAW_REQUESTS", "interval": "MINUTE", "intervalNum": 5, "limit": 61000},
            ],
            "exchangeFilters": [],
            "symbols": [_symbol(instrument) for instrument in instruments],
        }
        return HttpReply(200, json.dumps(info, separators=(",", ":")))


def _padded(mantissa: int, scale: int) -> str:
    """With eight decimals; the market's own scales are never finer."""
    return decimal_text(mantissa * 10 ** (_PRINTED_SCALE - scale), _PRINTED_SCALE)


def _symbol(instrument: Instrument) -> dict[str, Any]:
    tick, lot = _padded(1, instrument.price_scale), _padded(1, instrument.size_scale)
    return {
        "symbol": instrument.symbol, "status": "TRADING",
        "baseAsset": instrument.base, "baseAssetPrecision": 8,
        "quoteAsset": instrument.quote, "quotePrecision": 8, "quoteAssetPrecision": 8,
        "baseCommissionPrecision": 8, "quoteCommissionPrecision": 8,
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET"], "icebergAllowed": True, "ocoAllowed": True,
        "quoteOrderQtyMarketAllowed": True, "allowTrailingStop": True, "cancelReplaceAllowed": True,
        "isSpotTradingAllowed": True, "isMarginTradingAllowed": False,
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "1000000.00000000", "tickSize": tick},
            {"filterType": "LOT_SIZE", "minQty": lot, "maxQty": "9000.00000000", "stepSize": lot},
            {"filterType": "NOTIONAL", "minNotional": "5.00000000", "applyMinToMarket": True,
             "maxNotional": "9000000.00000000", "applyMaxToMarket": False, "avgPriceMins": 5},
        ],
        "permissions": [], "permissionSets": [["SPOT"]],
        "defaultSelfTradePreventionMode": "EXPIRE_MAKER",
        "allowedSelfTradePreventionModes": ["EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH"],
    }  # fmt: skip

"""Binance spot (binance-spot-api-docs: web-socket-streams.md, rest-api.md).

A book is a fetched snapshot joined to numbered updates (U to u); there is no checksum and nothing is cut. The venue
counts pings and pongs as messages and closes connections after 24 hours.

Facts (rest-api.md): 6000 of weight a minute and address; depth weighs 5 to 250 by its limit, exchangeInfo 20,
historicalTrades 25 for at most 1000 trades from an id on, without a key. Assumed: that a tenth of the weight is enough
for whatever else runs on the address.
"""

from __future__ import annotations

from typing import Any

import msgspec

from tickplant.errors import VenueError
from tickplant.venues.base import Definition, Venue, decimals
from tickplant.venues.limits import up_to
from tickplant.venues.plan import (
    BackfillPlan,
    BookPlan,
    Channel,
    Fetched,
    FetchedSnapshot,
    PlanStream,
    Rate,
    Route,
    Weights,
)
from tickplant.venues.settings import VenueSettings

ROTATE_EVERY_S = 23 * 3600
"""Both markets end connections after 24 hours: by then another one has taken over, a tenth earlier at the most."""


def stream_channel(stream: PlanStream, name: str) -> Channel:
    """A channel of Binance's stream names, lower case (`btcusdt@trade`). Both markets ask for them in the same way."""
    return Channel(
        stream=stream,
        name=name,
        subscribe='{"method":"SUBSCRIBE","params":[{items}],"id":{id}}',
        unsubscribe='{"method":"UNSUBSCRIBE","params":[{items}],"id":{id}}',
        item=f'"{{symbol_lower}}@{name}"',
        batch=50,
        acknowledged="request",
    )


def parse_exchange_info(body: bytes, venue: str) -> list[Definition]:
    """The definitions in an `exchangeInfo` reply, which both markets give in the same form."""
    # {"symbols":[{"symbol":"BTCUSDT","status":"TRADING","baseAsset":"BTC","quoteAsset":"USDT","filters":[
    #   {"filterType":"PRICE_FILTER","tickSize":"0.01000000"},{"filterType":"LOT_SIZE","stepSize":"0.00001000"}]}]}
    try:
        return [_definition(symbol) for symbol in msgspec.json.decode(body)["symbols"]]
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
        raise VenueError("the reply is not Binance's list of symbols", where=repr(body[:80]), venue=venue) from None


def _definition(symbol: dict[str, Any]) -> Definition:
    filters = {item["filterType"]: item for item in symbol["filters"]}
    tick, lot = filters["PRICE_FILTER"]["tickSize"], filters["LOT_SIZE"]["stepSize"]
    return Definition(
        symbol=symbol["symbol"],
        base=symbol["baseAsset"],
        quote=symbol["quoteAsset"],
        tick=tick,
        lot=lot,
        # The filters are printed with as many decimals as the prices and sizes of the streams.
        price_scale=decimals(tick),
        size_scale=decimals(lot),
        active=symbol["status"] == "TRADING",
    )


class Binance(Venue):
    code = "BINANCE"
    number = 2
    title = "Binance"
    decoder = "binance"
    # The combined form names the stream in every message; bookTicker alone has no event type.
    routes = (Route(url="wss://stream.binance.com:9443/stream"),)
    rest_url = "https://api.binance.com"
    # Without the sets of permissions, which are most of the reply and tell nothing about prices.
    instruments_path = "/api/v3/exchangeInfo?showPermissionSets=false"
    definitions_path = instruments_path
    channels = (
        stream_channel("book", "depth@100ms"),
        stream_channel("trades", "trade"),
        stream_channel("ticker", "bookTicker"),
    )
    book = BookPlan(
        continuity="range",
        snapshot=FetchedSnapshot(Fetched("/api/v3/depth?symbol={symbol}&limit={depth}")),
        ticker_shares_sequence=True,
    )
    trade_ids_consecutive = True
    backfill = BackfillPlan(url="/api/v3/historicalTrades?symbol={symbol}&fromId={first}&limit={count}", page=1000)
    # The venue allows five, its pings and our pongs included.
    messages_per_second = 3
    connection_rate = Rate(300, 300)
    rotate_every_s = ROTATE_EVERY_S
    # Request weight of an address a minute, of which a tenth is left to whatever else the user runs there.
    fetch_rate = Rate(5400, 60)
    depths = (5, 10, 20, 50, 100, 500, 1000, 5000)
    default_depth = 1000
    subscriptions_most = 1024
    # Some symbols are not ASCII, so: letters and digits without small ones.
    symbol_pattern = r"[^\W_a-z]{2,}"
    symbol_example = "BTCUSDT"
    symbol_separator = ""
    symbol_in_frame = r'"s":\s*"([^"]+)"'

    def weights(self, settings: VenueSettings) -> Weights:
        # 5, 25, 50, 250 up to 100, 500, 1000, 5000 levels: with 1000 levels 108 books a minute come up.
        depth = self.depth(settings)
        return Weights(snapshot=up_to(depth, {100: 5, 500: 25, 1000: 50, 5000: 250}), definitions=20, trades=25)

    def parse_instruments(self, body: bytes) -> list[Definition]:
        return parse_exchange_info(body, self.code)

"""Coinbase Exchange (https://docs.cdp.coinbase.com/exchange/websocket-feed/overview).

`level2_batch` gives the whole book and needs no key, but numbers nothing and carries no checksum: a book is Live after
its snapshot, and its proof is only that no message contradicts it. Matches name the maker's side.

Facts (docs.cdp.coinbase.com): 8 connections a second and address, 100 messages a second and address; trades in pages of
at most 1000, `after` an id being those before it, newest first. Assumed: ten REST requests a second and address (the
public figure of earlier years; today's pages give no other that is confirmed here), each counting one.
"""

from __future__ import annotations

import msgspec

from tickplant.errors import VenueError
from tickplant.venues.base import Definition, Venue, decimals
from tickplant.venues.plan import BackfillPlan, BookPlan, Channel, PlanStream, Rate, Route


def _channel(stream: PlanStream, requested: str, listed: str = "") -> Channel:
    return Channel(
        stream=stream,
        name=listed or requested,
        subscribe='{"type":"subscribe","product_ids":[{items}],"channels":["%s"]}' % requested,  # noqa: UP031
        unsubscribe='{"type":"unsubscribe","product_ids":[{items}],"channels":["%s"]}' % requested,  # noqa: UP031
        item='"{symbol}"',
        acknowledged="listing",
    )


class Coinbase(Venue):
    code = "COINBASE"
    number = 4
    title = "Coinbase Exchange"
    decoder = "coinbase"
    # The venue drops a connection without a subscription within five seconds.
    routes = (Route(url="wss://ws-feed.exchange.coinbase.com"),)
    rest_url = "https://api.exchange.coinbase.com"
    instruments_path = "/products"
    definitions_path = instruments_path
    channels = (
        # Asked for as level2_batch, listed as level2_50 (its interval in milliseconds).
        _channel("book", "level2_batch", listed="level2_50"),
        _channel("trades", "matches"),
        _channel("ticker", "ticker"),
        _channel("heartbeat", "heartbeat"),
    )
    book = BookPlan(continuity="none", snapshot="in_band")
    trade_ids_consecutive = True
    backfill = BackfillPlan(url="/products/{symbol}/trades?after={end}&limit={count}", page=1000)
    messages_per_second = 20
    connection_rate = Rate(8, 1)
    # Of a hundred messages and (assumed) ten requests a second and address.
    message_rate = Rate(90, 1)
    fetch_rate = Rate(9, 1)
    symbol_pattern = r"[A-Z0-9]+-[A-Z0-9]+"
    symbol_example = "BTC-USD"
    symbol_separator = "-"
    symbol_in_frame = r'"product_id":\s*"([^"]+)"'

    def parse_instruments(self, body: bytes) -> list[Definition]:
        # [{"id":"BTC-USD","base_currency":"BTC","quote_currency":"USD","quote_increment":"0.01",
        #   "base_increment":"0.00000001","trading_disabled":false,"status":"online"}]
        try:
            return [
                Definition(
                    symbol=product["id"],
                    base=product["base_currency"],
                    quote=product["quote_currency"],
                    tick=product["quote_increment"],
                    lot=product["base_increment"],
                    # Sizes are printed with as many decimals as they need, prices with those of their increment.
                    price_scale=decimals(product["quote_increment"]),
                    active=product["status"] == "online" and not product["trading_disabled"],
                )
                for product in msgspec.json.decode(body)
            ]
        except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
            raise VenueError(
                "the reply is not Coinbase's list of products", where=repr(body[:80]), venue=self.code
            ) from None

"""Kraken's older protocol, WebSocket v1 (https://docs.kraken.com/websockets): `[venue.kraken] protocol = "v1"`.

The same venue, instruments and checksum as in v2; messages are arrays, bitcoin is XBT, dogecoin XDG, trades have no ids
and there is no private channel here. Instruments keep their names of today: BTC/USD is asked for as XBT/USD.
"""

from __future__ import annotations

from tickplant.venues.base import Venue
from tickplant.venues.plan import BookPlan, Channel, PlanStream, Route

OLD_NAMES = {"BTC": "XBT", "DOGE": "XDG"}
"""Assets whose names differ before v2, and in REST still do."""
_NEW_NAMES = {old: new for new, old in OLD_NAMES.items()}


def _request(event: str, subscription: str) -> str:
    return '{"event":"%s","pair":[{items}],"reqid":{id},"subscription":{%s}}' % (event, subscription)  # noqa: UP031


def _channel(stream: PlanStream, name: str, rest: str = "") -> Channel:
    subscription = f'"name":"{name}"{rest}'
    return Channel(
        stream=stream,
        name=name,
        subscribe=_request("subscribe", subscription),
        unsubscribe=_request("unsubscribe", subscription),
        item='"{symbol}"',
        acknowledged="symbol",
    )


class KrakenV1(Venue):
    """The dialect; what is the venue's own and not the protocol's is the same as in `kraken.Kraken`."""

    code = "KRAKEN"
    number = 1
    title = "Kraken (v1)"
    decoder = "kraken_v1"
    routes = (Route(url="wss://ws.kraken.com/", waits_for_welcome=True),)
    channels = (
        _channel("book", "book", ',"depth":{depth}'),
        _channel("trades", "trade"),
        _channel("ticker", "ticker"),
    )
    book = BookPlan(continuity="none", snapshot="in_band", checksum="kraken", truncate=True)
    ping = '{"event":"ping","reqid":{id}}'
    depths = (10, 25, 100, 500, 1000)
    default_depth = 10
    symbol_pattern = r"[A-Z0-9.]+x?/[A-Z0-9.]+"
    symbol_example = "BTC/USD"
    symbol_separator = "/"
    symbol_in_frame = r'^\[.*,"([^"]+)"\]$'

    def wire_symbol(self, symbol: str) -> str:
        return "/".join(OLD_NAMES.get(name, name) for name in symbol.split("/"))

    def symbol_of_wire(self, text: str) -> str:
        return "/".join(_NEW_NAMES.get(name, name) for name in text.split("/"))

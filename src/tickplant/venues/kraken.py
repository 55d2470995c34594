"""Kraken spot, WebSocket v2 (https://docs.kraken.com/exchange/api-reference/spot-websocket).

Books come in band and carry a CRC32 of the top ten in every message: the only proof there is, since nothing is
numbered. The venue sends no delete for a level that falls out of the subscribed depth, so books are cut after each
message.

Facts: trades over REST go by time (`since`, exclusive, in ns), 1000 a page, each with its id; a refusal has status 200.
Assumed, since the venue gives no number: one public request a second and address, about 150 attempts to connect in ten
minutes. Pairs are asked for by their older name (`XBTUSD`), which REST has always taken.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import urlencode

import msgspec

from tickplant.errors import ConfigError, VenueError
from tickplant.venues.base import Definition, HttpRequest, Venue
from tickplant.venues.kraken_v1 import OLD_NAMES, KrakenV1
from tickplant.venues.plan import BackfillPlan, BookPlan, Channel, Rate, Route
from tickplant.venues.settings import VenueSettings


def _request(method: str, channel: str, rest: str) -> str:
    return '{"method":"%s","params":{"channel":"%s",%s},"req_id":{id}}' % (method, channel, rest)  # noqa: UP031


TOKEN_PATH = "/0/private/GetWebSocketsToken"


class Kraken(Venue):
    protocol = "v2"
    protocols: ClassVar[Mapping[str, Venue]] = {"v1": KrakenV1()}
    code = "KRAKEN"
    number = 1
    title = "Kraken"
    decoder = "kraken"
    routes = (Route(url="wss://ws.kraken.com/v2", waits_for_welcome=True),)
    private_route = Route(url="wss://ws-auth.kraken.com/v2", waits_for_welcome=True, needs_token=True)
    rest_url = "https://api.kraken.com"
    instruments_path = "/0/public/AssetPairs"
    channels = (
        Channel(
            stream="definitions",
            name="instrument",
            subscribe=_request("subscribe", "instrument", '"snapshot":true'),
            unsubscribe='{"method":"unsubscribe","params":{"channel":"instrument"},"req_id":{id}}',
            acknowledged="request",
        ),
        Channel(
            stream="book",
            name="book",
            subscribe=_request("subscribe", "book", '"symbol":[{items}],"depth":{depth},"snapshot":true'),
            unsubscribe=_request("unsubscribe", "book", '"symbol":[{items}],"depth":{depth}'),
            item='"{symbol}"',
            acknowledged="symbol",
        ),
        Channel(
            stream="trades",
            name="trade",
            subscribe=_request("subscribe", "trade", '"symbol":[{items}],"snapshot":false'),
            unsubscribe=_request("unsubscribe", "trade", '"symbol":[{items}]'),
            item='"{symbol}"',
            acknowledged="symbol",
        ),
        Channel(
            stream="ticker",
            name="ticker",
            subscribe=_request("subscribe", "ticker", '"symbol":[{items}],"event_trigger":"bbo","snapshot":true'),
            unsubscribe=_request("unsubscribe", "ticker", '"symbol":[{items}],"event_trigger":"bbo"'),
            item='"{symbol}"',
            acknowledged="symbol",
        ),
    )
    # The account's balances: the channel that needs a token. Its messages are signs of life here.
    private_channel = Channel(
        stream="heartbeat",
        name="balances",
        route=1,
        subscribe=_request("subscribe", "balances", '"token":"{token}","snapshot":true'),
        unsubscribe=_request("unsubscribe", "balances", '"token":"{token}"'),
        acknowledged="request",
    )
    book = BookPlan(continuity="none", snapshot="in_band", checksum="kraken", truncate=True)
    trade_ids_consecutive = True
    backfill = BackfillPlan(url="/0/public/Trades?pair={rest_symbol}&since={since}", page=1000)
    ping = '{"method":"ping","req_id":{id}}'
    messages_per_second = 10
    # About so many are let in before the address is shut out for ten minutes.
    connection_rate = Rate(150, 600)
    # Public requests are counted by address, about one a second.
    fetch_rate = Rate(1, 1)
    depths = (10, 25, 100, 500, 1000)
    default_depth = 10
    # Tokenised stocks have a small x at the end of the base (AAPLx/USD).
    symbol_pattern = r"[A-Z0-9.]+x?/[A-Z0-9.]+"
    symbol_example = "BTC/USD"
    symbol_separator = "/"
    symbol_in_frame = r'"symbol":\s*"([^"]+)"'

    def rest_symbol(self, symbol: str) -> str:
        return "".join(OLD_NAMES.get(name, name) for name in symbol.split("/"))

    def plan_routes(self, settings: VenueSettings) -> tuple[Route, ...]:
        return (*self.routes, self.private_route) if settings.api_key else self.routes

    def plan_channels(self, settings: VenueSettings) -> tuple[Channel, ...]:
        return (*self.channels, self.private_channel) if settings.api_key else self.channels

    def parse_instruments(self, body: bytes) -> list[Definition]:
        # {"error":[],"result":{"XXBTZUSD":{"wsname":"XBT/USD","pair_decimals":1,"lot_decimals":8,"tick_size":"0.1",
        #   "status":"online"}}}
        return [
            Definition(
                symbol="/".join(names),
                base=names[0],
                quote=names[1],
                tick=str(pair.get("tick_size") or _unit(pair["pair_decimals"])),
                lot=_unit(pair["lot_decimals"]),
                price_scale=int(pair["pair_decimals"]),
                size_scale=int(pair["lot_decimals"]),
                active=pair.get("status", "online") == "online",
            )
            for pair in _result(body).values()
            if "wsname" in pair
            for names in [[_V2_NAMES.get(name, name) for name in pair["wsname"].split("/")]]
        ]

    def token_request(self, settings: VenueSettings, nonce: int) -> HttpRequest | None:
        # API-Sign = HMAC-SHA512 of path + SHA256(nonce + body), with the decoded secret as key.
        # https://docs.kraken.com/exchange/guides/spot-rest/authentication
        if not (settings.api_key and settings.api_secret):
            return None
        try:
            secret = base64.b64decode(settings.api_secret, validate=True)
        except binascii.Error:
            raise ConfigError(
                "api_secret is not in base64", expected="the secret as Kraken shows it", venue=self.code
            ) from None
        body = urlencode({"nonce": nonce})
        message = TOKEN_PATH.encode() + hashlib.sha256(f"{nonce}{body}".encode()).digest()
        return HttpRequest(
            method="POST",
            url=self.rest(settings) + TOKEN_PATH,
            headers={
                "API-Key": settings.api_key,
                "API-Sign": base64.b64encode(hmac.digest(secret, message, "sha512")).decode(),
                "Content-Type": "application/x-www-form-urlencoded",
            },
            body=body.encode(),
        )

    def parse_token(self, body: bytes) -> str:
        # {"error":[],"result":{"token":"...","expires":900}}
        token = _result(body).get("token")
        if not isinstance(token, str):
            raise VenueError("Kraken's reply holds no token", venue=self.code)
        return token


# REST still says XBT and XDG where v2 says BTC and DOGE.
_V2_NAMES = {old: new for new, old in OLD_NAMES.items()}


def _unit(digits: int) -> str:
    return "1" if digits == 0 else f"0.{'1':0>{digits}}"


def _result(body: bytes) -> dict[str, Any]:
    try:
        reply = msgspec.json.decode(body)
        errors, result = reply["error"], reply.get("result")
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
        raise VenueError("the reply is not Kraken's JSON", where=repr(body[:80]), venue="KRAKEN") from None
    if errors or not isinstance(result, dict):
        raise VenueError(
            f"Kraken refused: {', '.join(map(str, errors))}", hint="check the key and its rights", venue="KRAKEN"
        )
    return result

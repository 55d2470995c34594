"""What venues say over REST (lists of instruments, tokens) and how symbols are spelled."""

import base64
import hashlib
import hmac

import pytest

from tickplant.errors import ConfigError, UnknownInstrument, UnknownVenue, VenueError
from tickplant.venues.base import Definition, InstrumentId
from tickplant.venues.settings import VenueSettings
from tickplant.venues.table import VENUES, check_user_venue, find_instrument, find_venue
from tickplant.venues.user import BadFrame, Heartbeat, UserVenue

EXCHANGE_INFO = b"""{"symbols":[{"symbol":"BTCUSDT","status":"BREAK","baseAsset":"BTC","quoteAsset":"USDT","filters":[
{"filterType":"PRICE_FILTER","tickSize":"0.01000000"},{"filterType":"LOT_SIZE","stepSize":"0.00001000"}]}]}"""
PRODUCTS = b"""[{"id":"BTC-USD","base_currency":"BTC","quote_currency":"USD","quote_increment":"0.01",
"base_increment":"0.00000001","trading_disabled":false,"status":"online"}]"""
ASSET_PAIRS = b"""{"error":[],"result":{"XXBTZUSD":{"wsname":"XBT/USD","pair_decimals":1,"lot_decimals":8,
"tick_size":"0.1","status":"online"},"DARK":{"altname":"DARK"}}}"""


def test_definitions_of_each_venue():
    binance = Definition(symbol="BTCUSDT", base="BTC", quote="USDT", tick="0.01000000", lot="0.00001000", price_scale=8)
    for code in ("BINANCE", "BINANCE_USDM"):
        [found] = VENUES[code].parse_instruments(EXCHANGE_INFO)
        assert (found.symbol, found.tick, found.lot) == (binance.symbol, binance.tick, binance.lot)
        assert (found.price_scale, found.size_scale, found.active) == (8, 8, False)
    [coinbase] = VENUES["COINBASE"].parse_instruments(PRODUCTS)
    assert (coinbase.symbol, coinbase.price_scale, coinbase.size_scale, coinbase.active) == ("BTC-USD", 2, 255, True)
    [kraken] = VENUES["KRAKEN"].parse_instruments(ASSET_PAIRS)
    assert (kraken.symbol, kraken.tick, kraken.lot) == ("BTC/USD", "0.1", "0.00000001")


@pytest.mark.parametrize("code", VENUES)
@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b'{"symbols":[{}]}', b'{"error":["EGeneral"]}', b"null"])
def test_another_dialect_is_a_venue_error(code, body):
    with pytest.raises(VenueError):
        VENUES[code].parse_instruments(body)


def test_scales_of_definitions_go_into_the_plan():
    definitions = VENUES["KRAKEN"].parse_instruments(ASSET_PAIRS)
    [instrument] = VENUES["KRAKEN"].plan({"BTC/USD": 3}, VenueSettings(), definitions)["instruments"]
    assert (instrument["price_scale"], instrument["size_scale"]) == (1, 8)


def test_kraken_signs_its_token_request_as_documented():
    secret = base64.b64encode(b"secret").decode()
    request = VENUES["KRAKEN"].token_request(VenueSettings(api_key="key", api_secret=secret), nonce=1616492376594)
    path = b"/0/private/GetWebSocketsToken"
    signed = path + hashlib.sha256(b"1616492376594" + b"nonce=1616492376594").digest()
    assert request.body == b"nonce=1616492376594"
    assert request.headers["API-Sign"] == base64.b64encode(hmac.new(b"secret", signed, "sha512").digest()).decode()
    assert VENUES["KRAKEN"].parse_token(b'{"error":[],"result":{"token":"abc","expires":900}}') == "abc"
    with pytest.raises(VenueError, match="Invalid key"):
        VENUES["KRAKEN"].parse_token(b'{"error":["EAPI:Invalid key"]}')
    with pytest.raises(ConfigError, match="base64"):
        VENUES["KRAKEN"].token_request(VenueSettings(api_key="key", api_secret="%"), nonce=1)


def test_venues_are_found_in_any_case_and_with_hyphens():
    assert find_venue("binance-usdm").code == "BINANCE_USDM"
    assert find_venue("Kraken").number == 1
    with pytest.raises(UnknownVenue, match='did you mean "KRAKEN"') as caught:
        find_venue("krakn")
    assert caught.value.nearest == "KRAKEN"


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("BTC-USD.kraken", "BTC/USD.KRAKEN"),
        ("btc/usdt.binance", "BTCUSDT.BINANCE"),
        ("btc/usd.coinbase", "BTC-USD.COINBASE"),
        ("BTCUSD.KRAKEN", ""),
        ("BTCUSDT", ""),
        (".KRAKEN", ""),
    ],
)
def test_a_wrong_spelling_gives_the_nearest_right_one(text, nearest):
    with pytest.raises(UnknownInstrument) as caught:
        find_instrument(text)
    assert caught.value.nearest == nearest


def test_instruments_are_found_with_and_without_their_venue():
    assert find_instrument("AAPLx/USD.Kraken")[1] == InstrumentId("AAPLx/USD", "KRAKEN")
    assert find_instrument("BTCUSDT_260327.binance-usdm")[1].symbol == "BTCUSDT_260327"
    assert find_instrument("ETHUSDT", default_venue="binance")[1] == InstrumentId("ETHUSDT", "BINANCE")
    assert find_instrument("ETHUSDT.BINANCE", default_venue="binance")[1] == InstrumentId("ETHUSDT", "BINANCE")


def test_numbers_and_codes_of_venues_never_change():
    assert {venue.code: venue.number for venue in VENUES.values()} == {
        "KRAKEN": 1,
        "BINANCE": 2,
        "BINANCE_USDM": 3,
        "COINBASE": 4,
    }


class Own(UserVenue):
    code = "OWN"
    number = 0x8001
    routes = ()
    channels = ()
    book = VENUES["COINBASE"].book

    def decode_frame(self, frame):
        return [Heartbeat(request=int(frame))]


def test_an_exception_in_a_users_decoder_spoils_its_frame_only():
    first, second, third = Own().decode([b"1", b"x", b"3"])
    assert (first, third) == ([Heartbeat(request=1)], [Heartbeat(request=3)])
    assert isinstance(second[0], BadFrame)
    assert "ValueError" in second[0].reason


def test_a_users_venue_is_found_by_its_class_and_checked():
    check_user_venue(Own(), "OWN")
    with pytest.raises(ConfigError, match="calls itself"):
        check_user_venue(Own(), "OTHER")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        find_venue("OWN", "no_such_module:Own")
    with pytest.raises(ConfigError, match="is no venue"):
        find_venue("OWN", "json:JSONDecoder")
    low = type("Low", (Own,), {"number": 5})
    with pytest.raises(ConfigError, match="0x8000 to 0xffff"):
        check_user_venue(low(), "OWN")
    bare = type("Bare", (UserVenue,), {"code": "BARE"})
    with pytest.raises(ConfigError, match="does not set number, routes"):
        check_user_venue(bare(), "BARE")

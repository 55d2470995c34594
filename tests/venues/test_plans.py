"""Plans: what a venue's description compiles to, held equal to the files that the Rust side reads in its own test."""

import json
import re
from pathlib import Path

import msgspec
import pytest

from tickplant.errors import ConfigError
from tickplant.venues import plan as plan_module
from tickplant.venues.base import share_of
from tickplant.venues.settings import VenueSettings
from tickplant.venues.table import VENUES

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests/golden/plans"
EXAMPLES = {"KRAKEN": "BTC/USD", "BINANCE": "BTCUSDT", "BINANCE_USDM": "BTCUSDT", "COINBASE": "BTC-USD"}


@pytest.mark.parametrize("code", VENUES)
def test_plan_equals_the_file_that_rust_reads(code):
    settings = VenueSettings(api_key="key" if code == "KRAKEN" else None)
    plan = VENUES[code].plan({EXAMPLES[code]: 7}, settings)
    assert plan == json.loads((GOLDEN / f"{code.lower()}.json").read_text()), (
        f"the plan has changed: check it, then write it to {GOLDEN / code.lower()}.json"
    )


def test_the_older_protocol_has_a_plan_of_its_own_for_the_same_instruments():
    kraken, v1 = VENUES["KRAKEN"], VenueSettings(protocol="v1")
    plan = kraken.plan({"BTC/USD": 7, "ETH/DOGE": 8}, v1)
    assert plan == json.loads((GOLDEN / "kraken_v1.json").read_text())
    assert [line["wire_symbol"] for line in plan["instruments"]] == ["XBT/USD", "ETH/XDG"]
    assert kraken.instrument("BTC/USD", 7, v1)["wire_symbol"] == "XBT/USD"
    assert kraken.plan({"BTC/USD": 7}, VenueSettings(protocol="v2")) == kraken.plan({"BTC/USD": 7}, VenueSettings())
    with pytest.raises(ConfigError, match=r'no "v3".*v1, v2'):
        kraken.plan({}, VenueSettings(protocol="v3"))
    with pytest.raises(ConfigError, match="one protocol"):
        VENUES["BINANCE"].plan({}, VenueSettings(protocol="v1"))


def test_plan_types_have_the_fields_of_the_rust_types():
    source = (ROOT / "crates/core/src/session/types.rs").read_text()
    for name in (
        "Route",
        "Channel",
        "BookPlan",
        "Timing",
        "HashPlan",
        "InstrumentPlan",
        "Plan",
        "Budgets",
        "Weights",
        "BackfillPlan",
    ):
        body = re.search(rf"pub struct {name} \{{(.*?)\n\}}", source, re.DOTALL)
        assert body is not None, name
        rust = re.findall(r"^    pub (\w+):", body.group(1), re.MULTILINE)
        assert list(getattr(plan_module, name).__struct_fields__) == rust, name


@pytest.mark.parametrize("code", VENUES)
def test_subscription_texts_are_json_once_filled_in(code):
    plan = msgspec.convert(VENUES[code].plan({}, VenueSettings(api_key="key")), plan_module.Plan)
    for channel in plan.channels:
        item = channel.item.replace("{symbol}", "A").replace("{symbol_lower}", "a")
        for text in (channel.subscribe, channel.unsubscribe):
            filled = text.replace("{items}", f"{item},{item}").replace("{id}", "1")
            json.loads(filled.replace("{depth}", "10").replace("{token}", "t"))
        assert ("{items}" in channel.subscribe) == bool(channel.item)
        assert channel.route < len(plan.routes)


def test_an_override_changes_only_the_address():
    usdm = VENUES["BINANCE_USDM"]
    plan = usdm.plan({}, VenueSettings(url="ws://127.0.0.1:9001", rest_url="http://127.0.0.1:9002/"))
    assert plan["routes"][0]["url"] == "ws://127.0.0.1:9001/public/stream"
    fetched = plan["book"]["snapshot"]["fetched"]["url"]
    assert fetched == "http://127.0.0.1:9002/fapi/v1/depth?symbol={symbol}&limit=1000"
    whole = usdm.plan({}, VenueSettings(url="ws://127.0.0.1:9001/ws"))
    assert whole["routes"][0]["url"] == "ws://127.0.0.1:9001/ws"


def test_times_are_given_in_seconds_and_planned_in_nanoseconds():
    timing = VENUES["KRAKEN"].plan({}, VenueSettings(ping_every_s=0.25))["timing"]
    assert timing["ping_every"] == 250_000_000
    assert timing["backoff_most"] == 30_000_000_000


def test_unwanted_streams_have_no_channel():
    plan = VENUES["BINANCE"].plan({"BTCUSDT": 1}, VenueSettings(streams=["trades"], rotate_every_s=0))
    assert [channel["stream"] for channel in plan["channels"]] == ["trades"]
    assert plan["instruments"][0]["streams"] == ["trades"]


def test_depth_is_the_subscribed_one_where_books_are_cut_and_the_snapshots_where_they_are_not():
    kraken = VENUES["KRAKEN"].plan({"BTC/USD": 1}, VenueSettings(depth=100))
    assert kraken["instruments"][0]["depth"] == 100
    binance = VENUES["BINANCE"].plan({"BTCUSDT": 1}, VenueSettings(depth=0))
    assert binance["instruments"][0]["depth"] == 0
    assert binance["book"]["snapshot"]["fetched"]["url"].endswith("limit=5000")
    with pytest.raises(ConfigError, match=r"no book of depth 11.*10, 25, 100, 500, 1000"):
        VENUES["KRAKEN"].plan({"BTC/USD": 1}, VenueSettings(depth=11))
    with pytest.raises(ConfigError, match="only the full book"):
        VENUES["COINBASE"].plan({"BTC-USD": 1}, VenueSettings(depth=10))


def test_more_subscriptions_than_a_connection_carries_are_refused_with_the_way_out():
    many = {f"A{number}USDT": number for number in range(1, 80)}
    with pytest.raises(ConfigError, match=r"237 subscriptions.*set loops = 3"):
        VENUES["BINANCE_USDM"].plan(many, VenueSettings())


def test_shares_cover_every_instrument_once():
    symbols = [f"A{number}/USD" for number in range(1000)]
    counts = [sum(share_of(symbol, 4) == share for symbol in symbols) for share in range(4)]
    assert sum(counts) == 1000
    assert min(counts) > 200


def test_a_shadow_check_is_where_snapshots_are_numbered_and_nowhere_else():
    every = VenueSettings(shadow_every_s=1.5)
    assert VENUES["BINANCE"].plan({}, every)["shadow_every"] == 1_500_000_000
    assert VENUES["BINANCE"].plan({}, VenueSettings(shadow_every_s=0))["shadow_every"] == 0
    for code in ("COINBASE", "KRAKEN"):
        assert VENUES[code].plan({}, VenueSettings())["shadow_every"] == 0
        with pytest.raises(ConfigError, match="not possible"):
            VENUES[code].plan({}, every)

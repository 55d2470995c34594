"""Redundant lines in a plan: routes and channels once a line, addresses in turn, and what is refused."""

import pytest

from tickplant.errors import ConfigError
from tickplant.venues.settings import VenueSettings
from tickplant.venues.table import VENUES

HOUR_NS = 3600 * 10**9


def plan_of(code="KRAKEN", **settings):
    return VENUES[code].plan({}, VenueSettings(**settings))


def test_each_line_has_the_routes_and_channels_of_one():
    one, two = plan_of(api_key="key"), plan_of(api_key="key", lines=2)
    assert two["routes"] == one["routes"] * 2
    count = len(one["routes"])
    assert [channel["route"] for channel in two["channels"]] == [
        channel["route"] + line * count for line in range(2) for channel in one["channels"]
    ]
    assert two["lines"] == {"copies": 2, "wanted": 2, "hold_within": 10**9, "rotate_every": 0}


def test_addresses_make_a_venue_redundant_and_take_turns():
    urls = ["wss://a.example", "wss://b.example:8443"]
    plan = plan_of(urls=urls)
    assert [route["url"] for route in plan["routes"]] == [f"{url}/v2" for url in urls]
    assert plan["lines"]["wanted"] == 2
    assert [route["url"] for route in plan_of(urls=urls, lines=3)["routes"]] == [
        f"{url}/v2" for url in (*urls, urls[0])
    ]
    assert plan_of(urls=urls[:1])["lines"]["wanted"] == 2


def test_a_venue_that_ends_connections_has_a_line_in_reserve():
    lines = plan_of("BINANCE", rotate_every_s=3600)["lines"]
    assert lines == {"copies": 2, "wanted": 1, "hold_within": 10**9, "rotate_every": HOUR_NS}
    assert plan_of("BINANCE", rotate_every_s=3600, lines=2)["lines"]["copies"] == 2


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"urls": ["wss://a", "wss://b"], "lines": 1}, "2 addresses and lines = 1"),
        ({"urls": ["wss://a"], "url": "wss://b"}, "both set"),
    ],
)
def test_what_contradicts_itself_is_refused(settings, what):
    with pytest.raises(ConfigError, match=what):
        plan_of(**settings)

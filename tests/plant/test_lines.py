"""What a process knows that is one of several lines: its lanes, its address, its part of the budgets."""

from __future__ import annotations

import pytest

from tickplant import config
from tickplant.cli.run import parse_line, with_metrics
from tickplant.errors import ConfigError
from tickplant.plant import Line, lane_name
from tickplant.venues.lines import Sharers, line_settings
from tickplant.venues.plan import Rate
from tickplant.venues.settings import VenueSettings


def test_its_lanes_say_which_line_it_is() -> None:
    assert lane_name("KRAKEN", 0, 1) == "kraken"
    assert lane_name("KRAKEN", 0, 1, Line(1, 2)) == "kraken-line2of2"
    assert lane_name("KRAKEN", 2, 4, Line(0, 2)) == "kraken-3of4-line1of2"


def test_it_has_an_address_of_its_own_and_no_lines_inside() -> None:
    settings = VenueSettings(urls=["wss://a", "wss://b"], lines=2)
    found = [line_settings(settings, line, 2) for line in (0, 1)]
    assert [(one.url, one.urls, one.lines) for one in found] == [("wss://a", [], 1), ("wss://b", [], 1)]
    assert line_settings(settings, 0, 1) == settings
    assert line_settings(VenueSettings(url="wss://c"), 1, 2).url == "wss://c"


@pytest.mark.parametrize(
    ("urls", "lines", "connections"), [([], 2, 2), (["wss://a", "wss://b"], 2, 1), (["wss://a", "wss://b"], 3, 2)]
)
def test_processes_on_one_address_share_its_budgets(urls: list[str], lines: int, connections: int) -> None:
    assert Sharers.of(VenueSettings(urls=urls), 0, lines) == (connections, lines)


def test_the_parts_of_a_rate_keep_within_it() -> None:
    assert Rate(10, 60).part(1) == Rate(10, 60)
    assert Rate(11, 60).part(2) == Rate(5, 60)
    # Less than one each: together they keep within it on the average only.
    assert Rate(1, 60).part(2) == Rate(1, 120)
    assert Rate(2, 5).part(3) == Rate(1, 8)


def test_a_line_is_named_on_the_command_line() -> None:
    assert parse_line(None) is None
    assert parse_line("2/2") == Line(1, 2)
    for text in ("0/2", "3/2", "2", "a/b", "1/9"):
        with pytest.raises(ConfigError, match="names no line"):
            parse_line(text)


def test_each_serves_its_metrics_at_a_port_of_its_own() -> None:
    usual, given = config.load(), config.load(flags={"metrics.port": 9500})
    assert [with_metrics(usual, line).metrics.port for line in (None, Line(0, 2), Line(1, 2))] == [9090, 9090, 9091]
    assert with_metrics(given, Line(1, 2)).metrics.port == 9500

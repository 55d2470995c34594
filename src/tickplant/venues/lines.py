"""Redundant lines: a venue's routes and channels once for each of them, and what the settings say of them.

A line is a connection of its own for each route, with its own subscriptions, budget and health. The session makes one
stream of what they bring: the first copy of each message counts, one line's hole is filled from the other. A venue that
ends connections after some age has one line more than is wanted, which is opened before an old one is closed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final, NamedTuple, Protocol, Self

from msgspec.structs import replace

from tickplant.errors import ConfigError
from tickplant.venues.plan import Channel, Lines, Route, at_address
from tickplant.venues.settings import VenueSettings

REDUNDANT: Final = 2
"""Lines of a venue that is given several addresses and no number of lines."""


class Lined(Protocol):
    """What a venue's description says of the age of its connections."""

    code: ClassVar[str]
    rotate_every_s: ClassVar[float]


def plan_lines(venue: Lined, settings: VenueSettings) -> Lines:
    """How many lines there are and when their connections are replaced.

    Raises:
        ConfigError: more addresses than lines, or one address twice over.
    """
    wanted = settings.lines or (max(REDUNDANT, len(settings.urls)) if settings.urls else 1)
    if len(settings.urls) > wanted:
        raise ConfigError(
            f"urls has {len(settings.urls)} addresses and lines = {wanted}",
            expected="at most one address a line",
            venue=venue.code,
        )
    if settings.urls and settings.url is not None:
        raise ConfigError("url and urls are both set", hint="keep urls, one address a line", venue=venue.code)
    every_s = venue.rotate_every_s if settings.rotate_every_s is None else settings.rotate_every_s
    return Lines(
        copies=max(REDUNDANT, wanted) if every_s else wanted,
        wanted=wanted,
        hold_within=round(settings.line_hold_s * 1_000_000_000),
        rotate_every=round(every_s * 1_000_000_000),
    )


def line_routes(routes: Sequence[Route], lines: Lines, settings: VenueSettings) -> list[Route]:
    """The routes of the first line, then those of the second, and so on, each at its line's address."""
    addresses: Sequence[str | None] = settings.urls or [settings.url]
    return [
        route if (address := addresses[line % len(addresses)]) is None else _at(route, address)
        for line in range(lines.copies)
        for route in routes
    ]


def line_channels(channels: Sequence[Channel], routes: int, lines: Lines) -> list[Channel]:
    """The channels of each line in the same order; `routes` is the number of routes of one line."""
    return [replace(c, route=c.route + line * routes) for line in range(lines.copies) for c in channels]


class Sharers(NamedTuple):
    """How many processes take from the same budgets of an address: of its connections and messages, of its fetches."""

    connections: int = 1
    fetches: int = 1

    @classmethod
    def of(cls, settings: VenueSettings, line: int, lines: int) -> Self:
        """Who takes from what line `line` of `lines` processes takes from; all of them fetch from one REST address."""
        own = line_settings(settings, line, lines).url
        return cls(sum(line_settings(settings, other, lines).url == own for other in range(lines)), lines)


ALONE: Final = Sharers()


def line_settings(settings: VenueSettings, line: int, lines: int) -> VenueSettings:
    """The settings of a process that is one of several lines: its own address of `urls`, and no lines inside of it."""
    if lines == 1:
        return settings
    url = settings.urls[line % len(settings.urls)] if settings.urls else settings.url
    return replace(settings, url=url, urls=[], lines=1)


def _at(route: Route, address: str) -> Route:
    return replace(route, url=at_address(route.url, address))

"""The table of venues. It stands above the venues: none of them imports it."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable

from tickplant.errors import ConfigError, UnknownVenue
from tickplant.venues.base import InstrumentId, Venue, venue_code
from tickplant.venues.binance import Binance
from tickplant.venues.binance_usdm import BinanceUsdm
from tickplant.venues.coinbase import Coinbase
from tickplant.venues.kraken import Kraken

VENUES: dict[str, Venue] = {venue.code: venue for venue in (Kraken(), Binance(), BinanceUsdm(), Coinbase())}
"""Every built-in venue by its code, in the order of their numbers."""

USER_NUMBER_FIRST = 0x8000
"""Venue numbers from here on are users'; those below are given in this repository and never reused."""


def find_venue(name: str, class_name: str | None = None) -> Venue:
    """The venue of a name in any case, with hyphens or underscores; `class_name` ("module:Class") is a user's own.

    Raises UnknownVenue with the nearest name, ConfigError where the class cannot be used.
    """
    code = venue_code(name)
    if class_name is not None:
        return _user_venue(code, class_name)
    if code in VENUES:
        return VENUES[code]
    near = difflib.get_close_matches(code, VENUES, n=1)
    raise UnknownVenue(
        f'"{name}" is no known venue',
        expected=f"one of {', '.join(VENUES)}",
        nearest=near[0] if near else "",
        hint='for a venue of your own set class = "module:Class" in its table',
    )


def find_instrument(text: str, default_venue: str | None = None) -> tuple[Venue, InstrumentId]:
    """The built-in venue and the checked name of `BTC/USD.KRAKEN`; with a default venue the symbol may stand alone.

    Raises UnknownVenue or UnknownInstrument, each with the nearest right spelling.
    """
    if default_venue is not None:
        venue = find_venue(default_venue)
        return venue, InstrumentId(symbol_of(venue, text), venue.code)
    parsed = InstrumentId.parse(text)
    venue = find_venue(parsed.venue)
    return venue, InstrumentId(venue.check_symbol(parsed.symbol), venue.code)


def symbol_of(venue: Venue, text: str) -> str:
    """The checked symbol of `BTC/USD` or `BTC/USD.KRAKEN` at a known venue."""
    symbol, _, suffix = text.rpartition(".")
    return venue.check_symbol(symbol if symbol and venue_code(suffix) == venue.code else text)


def _user_venue(code: str, class_name: str) -> Venue:
    module_name, _, attribute = class_name.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f'the venue class "{class_name}" cannot be loaded: {error}',
            expected="module:Class, importable from the settings file's directory",
            venue=code,
        ) from error
    if not (isinstance(found, type) and issubclass(found, Venue)):
        raise ConfigError(f'"{class_name}" is no venue', expected="a subclass of tickplant.UserVenue", venue=code)
    venue = found()
    check_user_venue(venue, code)
    return venue


def check_user_venue(venue: Venue, code: str) -> None:
    """Raises ConfigError where a user's venue lacks an attribute or takes a name or number that is not free."""
    needed = ("code", "number", "title", "routes", "channels", "book", "symbol_pattern", "symbol_example")
    missing = [name for name in needed if not hasattr(venue, name)]
    if missing:
        raise ConfigError(
            f"{type(venue).__name__} does not set {', '.join(missing)}", expected=_listed(needed), venue=code
        )
    if venue.code != code or code in VENUES:
        raise ConfigError(
            f'{type(venue).__name__} calls itself "{venue.code}" and its table is [venue.{code.lower()}]',
            expected="the same name in both, and none of the built-in venues'",
            venue=code,
        )
    if not USER_NUMBER_FIRST <= venue.number <= 0xFFFF:
        raise ConfigError(
            f"{type(venue).__name__} has the number {venue.number:#x}", expected="0x8000 to 0xffff", venue=code
        )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)

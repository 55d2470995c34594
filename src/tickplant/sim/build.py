"""Venues with their markets, from names and a seed."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any

from tickplant.errors import ConfigError
from tickplant.sim.market import Market
from tickplant.sim.presets import instruments, is_own
from tickplant.sim.venue import Venue
from tickplant.sim.venues.binance import Binance
from tickplant.sim.venues.binance_usdm import BinanceUsdm
from tickplant.sim.venues.coinbase import Coinbase
from tickplant.sim.venues.kraken import TOKEN_LIFETIME_NS, Kraken


def build_venue(
    name: str,
    *,
    seed: int,
    start_ns: int,
    instrument_count: int = 4,
    rate: int = 200,
    depth: int = 250,
    history: int = 1024,
    token_lifetime_ns: int = TOKEN_LIFETIME_NS,
) -> Venue:
    """One simulated venue: `rate` orders a second over `instrument_count` instruments, starting at `start_ns`.

    The same arguments give the same messages. `module:Class` is a venue of your own. Raises ValueError for an unknown
    name or numbers out of range, ConfigError for a class that cannot be used.
    """
    market = Market(
        instruments(name, instrument_count),
        seed,
        start_ns=start_ns,
        rate=rate,
        depth=depth,
        history=history,
        shared_ids=name == "binance_usdm",
    )
    match name:
        case "kraken":
            return Kraken(market, seed=seed, token_lifetime_ns=token_lifetime_ns)
        case "binance":
            return Binance(market)
        case "binance_usdm":
            return BinanceUsdm(market)
        case "coinbase":
            return Coinbase(market)
        case _ if is_own(name):
            return _own_class(name)(market)
    raise ValueError(f"no simulated venue {name!r}")


def _own_class(name: str) -> type[Venue]:
    """The class `module:Class`, which may lie in the directory where a command is given. Raises ConfigError."""
    if "" not in sys.path:
        sys.path.insert(0, "")
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f'the simulated venue "{name}" cannot be loaded: {error}', expected="module:Class") from error
    if not (isinstance(found, type) and issubclass(found, Venue) and found.rules is not None):
        raise ConfigError(f'"{name}" is no simulated venue', expected="a subclass of tickplant.sim.Venue with `rules`")
    return found


def build_venues(
    names: Sequence[str], *, seed: int, start_ns: int, instrument_count: int = 4, rate: int = 200, **options: Any
) -> list[Venue]:
    """Several venues, each with `rate` orders a second and a seed of its own; `options` are those of `build_venue`."""
    return [
        build_venue(
            name, seed=seed + number, start_ns=start_ns, instrument_count=instrument_count, rate=rate, **options
        )
        for number, name in enumerate(names)
    ]

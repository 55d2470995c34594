"""The whole river in one test process: simulated venues on loopback, a plant, readers of its log."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import WITHIN_S

from tickplant import config
from tickplant.clock import wall_ns
from tickplant.plant import Plant
from tickplant.sim import SimServer, build_venues

VENUES = ["kraken", "binance", "binance_usdm", "coinbase"]


def settings_for(server: SimServer, names: list[str], log: Path, **flags: object) -> config.Config:
    """Settings of a plant that takes everything that these simulated venues list."""
    given: dict[str, object] = {"log.path": str(log), "log.segment_bytes": 1 << 20, "log.hot_bytes_max": 32 << 20}
    for name in names:
        address = server.addresses[name]
        given |= {
            f"venue.{name}.url": address.websocket,
            f"venue.{name}.rest_url": address.http,
            f"venue.{name}.instruments": list(server.venue(name).symbols),
        }
        if server.ca_path is not None:
            given[f"venue.{name}.ca"] = str(server.ca_path)
    return config.load(flags=given | {name.replace("__", "."): value for name, value in flags.items()})


@contextlib.asynccontextmanager
async def simulated(names: list[str], *, tls: bool = False, **options: Any) -> AsyncIterator[SimServer]:
    """Simulated venues; `options` go to `build_venues`."""
    venues = build_venues(names, **({"seed": 7, "start_ns": wall_ns(), "instrument_count": 2, "rate": 200} | options))
    async with SimServer(venues, tls=tls) as server:
        yield server


@contextlib.asynccontextmanager
async def process(*arguments: str, **pipes: Any) -> AsyncIterator[asyncio.subprocess.Process]:
    """A Python process of ours, killed where the test leaves it running."""
    started = await asyncio.create_subprocess_exec(sys.executable, *arguments, limit=1 << 28, **pipes)
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.wait()


async def until(condition: Callable[[], Any]) -> Any:
    """Waits for a condition (a value or a coroutine) to be true and gives it. Fails the test where it never is."""
    deadline = asyncio.get_running_loop().time() + WITHIN_S
    while True:
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found
        if asyncio.get_running_loop().time() > deadline:
            pytest.fail(f"not within {WITHIN_S} s: {condition}")
        await asyncio.sleep(0.02)


def rows(summary: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """A summary's lines by instrument."""
    return {row["instrument"]: row for row in summary["instruments"]}


async def all_live(plant: Plant, count: int, messages: int = 20) -> dict[str, Any] | None:
    """The plant's summary once `count` books are live with so many messages each."""
    summary = await plant.summary()
    live = [row for row in summary["instruments"] if row["state"] == "LIVE" and row["messages"] >= messages]
    return summary if len(live) == count else None


def exact(levels: Any) -> list[tuple[Decimal, Decimal]]:
    """Price and size of levels as values."""
    return [(Decimal(level[0]), Decimal(level[1])) for level in levels]

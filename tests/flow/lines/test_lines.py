"""Redundant lines over real sockets: inside of one plant, at an address that is slow or dead, beside a plain plant.

What is read is held against the venues' truth, or against the log of a plant that was left alone on the same venues.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tests.flow.conftest import all_live, settings_for, simulated, until
from tests.flow.lines.door import Door
from tests.flow.lines.streams import SCHEMAS, Stream, compare
from tests.flow.test_river import equal_books

from tickplant import Log, Plant
from tickplant.clock import wall_ns
from tickplant.config import Config
from tickplant.plant import Line
from tickplant.sim import SimServer, build_venues
from tickplant.testing.sockets.audit import Witness
from tickplant.venues.table import find_venue


def names_of(server: SimServer, codes: list[str]) -> list[str]:
    return [f"{symbol}.{code.upper()}" for code in codes for symbol in server.venue(code).symbols]


def patient(codes: list[str]) -> dict[str, object]:
    """However late one line is on a busy machine, what it brings is waited for."""
    return {f"venue__{code}__line_hold_s": 30 for code in codes}


def lead_to(settings: Config, code: str, doors: list[Door]) -> None:
    """A venue's lines are these addresses."""
    venue = settings.venues[code.upper()]
    settings.venues[code.upper()] = replace(venue, url=None, urls=[door.url for door in doors])


async def at_rest(server: SimServer, *plants: Plant) -> None:
    """The markets stand still, and the plants have the venues' last books and the same last trades."""

    def trades() -> list[dict[str, int]]:
        found = [Stream().take(plant.log.records(schema="trades")).trades for plant in plants]
        return [{name: max(ids) for name, ids in of.items()} for of in found]

    for plant in plants:
        await equal_books(server, plant)
    await until(lambda: all(last == trades()[0] for last in trades()))


def scores(summary: dict[str, Any], lane: str) -> list[dict[str, int]]:
    return summary["lanes"][lane]["session"]["lines"]


async def test_lines_inside_a_plant_are_cut_in_turn_and_cost_nothing(tmp_path: Path) -> None:
    """Coinbase puts together for each connection what it sends, so its books are held against the venue's own truth."""
    codes = ["coinbase", "binance_usdm"]
    venues = build_venues(codes, seed=7, start_ns=wall_ns(), instrument_count=2, rate=200)
    witnesses = [Witness(venue, find_venue(venue.name).code, 0) for venue in venues]
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(SimServer(venues))
        names = names_of(server, codes)
        doors = {
            code: [await stack.enter_async_context(Door(server.addresses[code].websocket)) for _ in range(2)]
            for code in codes
        }
        lone = await stack.enter_async_context(Plant(settings_for(server, codes, tmp_path / "alone")))
        soon = {f"venue__{code}__backoff_first_s": 0.05 for code in codes}
        settings = settings_for(server, codes, tmp_path / "log", **soon, **patient(codes))
        for code, lines in doors.items():
            lead_to(settings, code, lines)
        plant = await stack.enter_async_context(Plant(settings))
        for one in (lone, plant):
            await until(lambda one=one: all_live(one, len(names)))

        async def is_whole(reconnects: int) -> bool:
            """Every line of every venue is there, after so many cuts."""
            lanes = (await plant.summary())["lanes"].values()
            states = {row["state"] for lane in lanes for row in lane["session"]["connections"]}
            return states == {"LIVE"} and all(lane["reconnects"] >= reconnects for lane in lanes)

        for line in (0, 1):
            await until(lambda line=line: is_whole(line))
            for code in codes:
                assert doors[code][line].cut()
        await until(lambda: is_whole(2))
        await at_rest(server, lone, plant)
        summary = await plant.summary()
        for code in codes:
            assert all(score["firsts"] for score in scores(summary, code))
        assert not Stream().take(plant.log.records(schema=SCHEMAS)).faults
        for witness in witnesses:
            checker = witness.audit(tmp_path / "log", [], wall_ns())
            assert not checker.violations, checker.violations[:3]
            assert checker.counts["book_messages"] > 4


async def test_of_three_addresses_one_may_be_dead_and_one_slow(tmp_path: Path) -> None:
    codes = ["kraken"]
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(simulated(codes))
        names, there = names_of(server, codes), server.addresses["kraken"].websocket
        dead, slow, good = [
            await stack.enter_async_context(Door(there, delay_s=delay_s)) for delay_s in (0.0, 0.2, 0.0)
        ]
        dead.close()
        lone = await stack.enter_async_context(Plant(settings_for(server, codes, tmp_path / "alone")))
        settings = settings_for(server, codes, tmp_path / "log", **patient(codes))
        lead_to(settings, "kraken", [dead, slow, good])
        plant = await stack.enter_async_context(Plant(settings))
        for one in (lone, plant):
            await until(lambda one=one: all_live(one, len(names)))
        await until(lambda: is_behind(plant))
        # Only the slow one is left.
        assert good.cut()
        good.close()
        await at_rest(server, lone, plant)
        true = Stream().take(lone.log.records(schema=SCHEMAS))
        assert compare(Stream().take(plant.log.records(schema=SCHEMAS)), true, names) > 20


async def is_behind(plant: Plant) -> bool:
    """The slow line brought copies, and late ones; the dead one nothing."""
    dead, slow, good = scores(await plant.summary(), "kraken")
    return (
        slow["copies"] > 10 and slow["late_ns"] > slow["copies"] * 50_000_000 and good["firsts"] > 10 > dead["firsts"]
    )


@pytest.mark.proof
async def test_a_plain_plant_beside_lines_is_one_stream_with_them(tmp_path: Path) -> None:
    codes = ["kraken", "binance"]
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(simulated(codes))
        names = names_of(server, codes)
        lone = await stack.enter_async_context(Plant(settings_for(server, codes, tmp_path / "alone")))
        plain = await stack.enter_async_context(Plant(settings_for(server, codes, tmp_path / "log")))
        await until(lambda: all_live(plain, len(names)))
        live, records = Stream(), plain.log.records(schema=SCHEMAS, follow=True)

        async def tail() -> None:
            async for batch in records:
                live.take([batch])

        tailing = asyncio.create_task(tail())
        await until(lambda: len(live.states) == len(names))
        for line in range(2):
            of = settings_for(server, codes, tmp_path / "log")
            plant = await stack.enter_async_context(Plant(of, line=Line(line, 2)))
            await until(lambda plant=plant: all_live(plant, len(names)))
        await until(lambda: len(records.position()) == 3 * len(codes))
        await plain.stop()
        log = Log.open(tmp_path / "log")
        await at_rest(server, lone, plant)
        await until(lambda: records.position() == log.position())
        assert not tailing.done(), tailing.exception()
        tailing.cancel()
        assert log.lanes() == sorted(f"{code}{line}" for code in codes for line in ("", "-line1of2", "-line2of2"))
        true = Stream().take(lone.log.records(schema=SCHEMAS))
        assert compare(live, true, names) > 40
        for order in ("arrival", "ts_recv"):
            assert compare(Stream().take(log.records(schema=SCHEMAS, order=order)), true, names) > 40

"""`demo`: simulated venues that speak the real protocols, a plant against them, and the proof at the end."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from tickplant import clock, config
from tickplant.cli.common import (
    SMALL_LOG,
    Exit,
    JsonOption,
    LogOption,
    log_flags,
    print_json,
    run_until_stopped,
    wrapped,
)
from tickplant.cli.live import account, shown, until_stopped
from tickplant.cli.sim.wounds import FaultLog, heal, wounded
from tickplant.cli.simulated import Side, Simulated, simulated_venues
from tickplant.cli.summary import summary_text
from tickplant.log import Book
from tickplant.plant import Plant
from tickplant.sim.presets import MOST_INSTRUMENTS, VENUES
from tickplant.testing.sockets.proxy import FaultProxy
from tickplant.venues.base import InstrumentId

# How long the plant may take to have read what the frozen markets said last.
AGREE_WITHIN_S = 5.0


def demo(
    seed: Annotated[int | None, typer.Option("--seed", help="Of the markets; without it a fresh one.")] = None,
    seconds: Annotated[
        float | None, typer.Option("--seconds", min=1, help="End after so long; without it, at Ctrl-C.")
    ] = None,
    instruments: Annotated[int, typer.Option("--instruments", min=1, max=MOST_INSTRUMENTS, help="Of each venue.")] = 2,
    rate: Annotated[int, typer.Option("--rate", min=1, help="Orders a second of each venue.")] = 200,
    headless: Annotated[bool, typer.Option("--headless", help="Show nothing until the summary.")] = False,
    faults: Annotated[
        str, typer.Option("--faults", help="Wounds on the way: calm, flaky, storm, or a TOML file.")
    ] = "calm",
    log: LogOption = None,
    json: JsonOption = False,
) -> Exit:
    """Show a plant at work without a network: simulated venues, live view, and a summary in which every book is proven.

    Exit 0 only if each book's checksums all held and it equals the simulator's own book in the end. With --faults
    there are wounds on the way; the summary tells of each when it was noticed, how it was healed, what was lost.
    Example: tickplant demo --seed 7 --seconds 20
    """
    from tickplant.testing.sockets.proxy import socket_faults

    chosen = clock.seed_from_system() if seed is None else seed
    likely = socket_faults(faults)

    async def work(stop: asyncio.Event) -> Exit:
        async with simulated_venues(seed=chosen, instruments=instruments, rate=rate, venues=list(VENUES)) as venues:
            with log_flags(log) as flags:
                async with wounded(venues, likely, chosen) as (doors, proxies):
                    settings = config.load(flags=SMALL_LOG | flags | venue_flags(doors))
                    summary = await _run(settings, doors, proxies, stop, seconds, headless=headless or json)
        summary = {"seed": chosen, **summary}
        if json:
            print_json({name: value for name, value in summary.items() if name != "fault_texts"})
        else:
            typer.echo(summary_text(summary))
            for line in summary["fault_texts"]:
                typer.echo(wrapped(line))
            typer.echo(wrapped(_verdict(summary)))
        return Exit.OK if summary["proven"] else Exit.UNPROVEN

    return run_until_stopped(work)


async def _run(
    settings: config.Config,
    venues: Simulated,
    proxies: list[FaultProxy],
    stop: asyncio.Event,
    seconds: float | None,
    *,
    headless: bool,
) -> dict[str, Any]:
    names = [f"{symbol}.{code}" for code, symbols in venues.symbols.items() for symbol in symbols]
    started_ns, since_ns = clock.monotonic_ns(), clock.wall_ns()
    async with Plant.open(settings) as plant:
        fault_log = FaultLog(plant, proxies, since_ns)
        async with contextlib.AsyncExitStack() as stack:
            if not headless:
                view = await stack.enter_async_context(shown(plant, names, since_ns))
                story = asyncio.create_task(fault_log.show(view))
                stack.callback(story.cancel)
            await until_stopped(plant, stop, seconds)
            if proxies:
                await heal(plant, proxies)
        summary = await account(plant, started_ns)
        truth = await venues.freeze()
        equal = await _agreement(plant, truth)
        counted = {row["instrument"]: row for row in (await plant.summary())["instruments"]}
    for row in summary["instruments"]:
        row.update({name: value for name, value in counted[row["instrument"]].items() if name in row})
        row["equals_simulator"] = equal[row["instrument"]]
        row["proof"] = proof_of(row)
        found = fault_log.look()
    summary["faults"] = [wound.to_dict() for wound in found]
    summary["fault_texts"] = [wound.text for wound in found]
    summary["proven"] = bool(summary["instruments"]) and all(row["proof"] for row in summary["instruments"])
    return summary


def proof_of(row: Mapping[str, Any]) -> list[str]:
    """What proves an instrument's book: its checksums, the simulator's own book. Empty: unproven, or disproved."""
    disproved = row["checksums_failed"] or not row["equals_simulator"] or row["state"].upper() != "LIVE"
    if disproved:
        return []
    return ["checksum", "simulator"] if row["checksums_passed"] else ["simulator"]


async def _agreement(plant: Plant, truth: Mapping[str, tuple[Side, Side]]) -> dict[str, bool]:
    """Which of the plant's books equal the simulator's, once what is under way has arrived."""
    until_ns = clock.monotonic_ns() + round(AGREE_WITHIN_S * clock.SECOND_NS)
    while True:
        equal = {
            name: equals(plant.log.book(name), bids, asks, _depth(plant, name)) for name, (bids, asks) in truth.items()
        }
        if all(equal.values()) or clock.monotonic_ns() > until_ns:
            return equal
        await clock.sleep(0.1)


def equals(book: Book, bids: Side, asks: Side, depth: int | None) -> bool:
    """Whether a book holds exactly these levels, as printed; of a subscribed depth, the first ones."""
    held = [[(price, size) for price, size, _ in side] for side in (book.bids, book.asks)]
    return held == [bids[:depth], asks[:depth]]


def _depth(plant: Plant, instrument: str) -> int | None:
    """The depth to which a book is cut, None where it is held whole."""
    code = InstrumentId.parse(instrument).venue
    venue = plant.settings.venue(code)
    return venue.depth(plant.settings.venues[code]) if venue.book.truncate else None


def venue_flags(venues: Simulated) -> dict[str, object]:
    """Settings that differ from real ones by the addresses, and a key for the account that the simulator has."""
    flags: dict[str, object] = {}
    for code, symbols in venues.symbols.items():
        flags[f"venue.{code}.instruments"] = symbols
        flags[f"venue.{code}.url"] = venues.websocket[code]
        flags[f"venue.{code}.rest_url"] = venues.http[code]
    if "KRAKEN" in venues.symbols:
        flags["venue.KRAKEN.api_key"] = "demo"
        flags["venue.KRAKEN.api_secret"] = base64.b64encode(b"any secret will do").decode()
    return flags


def _verdict(summary: Mapping[str, Any]) -> str:
    unproven = [row["instrument"] for row in summary["instruments"] if not row["proof"]]
    if unproven:
        return f"NOT proven: {', '.join(unproven)}"
    return f"all {len(summary['instruments'])} books proven, seed {summary['seed']}"

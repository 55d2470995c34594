"""`run`, `record` and `watch`: a plant in this process."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path
from typing import Annotated

import typer
from msgspec.structs import replace

from tickplant import clock
from tickplant.cli.common import (
    ConfigArgument,
    Exit,
    JsonOption,
    LogOption,
    SetOption,
    error_text,
    load_settings,
    log_flags,
    print_json,
    require_instruments,
    rows_text,
    run_until_stopped,
)
from tickplant.cli.live import account, say_changes, shown, until_stopped
from tickplant.cli.summary import summary_text
from tickplant.config import Config
from tickplant.errors import ConfigError
from tickplant.plant import Line, Only, Plant
from tickplant.venues.base import venue_code

METRICS_PORT = 9090
LINES_MOST = 4

SecondsOption = Annotated[
    float | None, typer.Option("--seconds", min=0, help="End after so long; without it, at Ctrl-C or SIGTERM.")
]
OnlyOption = Annotated[
    str | None, typer.Option("--only", metavar="VENUE[:i/n]", help="Run one venue, or share i of n of it.")
]
LineOption = Annotated[
    str | None,
    typer.Option("--line", metavar="i/n", help="Be line i of n: n such processes on one log are one stream."),
]


def run(
    config: ConfigArgument = None,
    only: OnlyOption = None,
    line: LineOption = None,
    log: LogOption = None,
    sets: SetOption = None,
    seconds: SecondsOption = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print each setting and where it came from, then end.")
    ] = False,
    json: JsonOption = False,
) -> Exit:
    """Run a plant: connect, keep the books, write the log, until told to stop.

    Example: tickplant run plant.toml --only kraken:1/4 --line 1/2
    """
    which = parse_line(line)
    settings = with_metrics(load_settings(config, log=log, sets=sets), which)
    if print_config:
        return _print_config(settings, json=json)
    settings = require_instruments(settings)
    chosen = parse_only(only, settings) if only is not None else None
    return _record(settings, chosen, seconds, line=which, json=json)


def with_metrics(settings: Config, line: Line | None = None) -> Config:
    """The settings of a whole plant: its metrics are served at the usual port where none is set.

    Lines have a port each, 9090 and 9091: each tells of itself.
    """
    if "metrics.port" in settings.origins:
        return settings
    port = METRICS_PORT + (line.line if line is not None else 0)
    return replace(settings, metrics=replace(settings.metrics, port=port))


def record(
    instruments: Annotated[list[str], typer.Argument(metavar="INSTRUMENT", help="Such as BTC/USD.KRAKEN.")],
    config: Annotated[Path | None, typer.Option("--config", help="Settings as TOML.")] = None,
    log: LogOption = None,
    sets: SetOption = None,
    seconds: SecondsOption = None,
    json: JsonOption = False,
) -> Exit:
    """Record instruments into a log, and nothing else.

    Example: tickplant record BTC/USD.KRAKEN BTCUSDT.BINANCE --log data
    """
    return _record(load_settings(config, log=log, sets=sets, instruments=instruments), None, seconds, json=json)


def watch(
    instruments: Annotated[list[str], typer.Argument(metavar="INSTRUMENT", help="Such as BTC/USD.KRAKEN.")],
    config: Annotated[Path | None, typer.Option("--config", help="Settings as TOML.")] = None,
    log: LogOption = None,
    sets: SetOption = None,
    seconds: SecondsOption = None,
    json: JsonOption = False,
) -> Exit:
    """Show instruments live: ladder, trades, state, rate and latency. On a pipe: a line a second for each.

    Without --log nothing is kept. Example: tickplant watch BTC/USD.KRAKEN ETH/USD.KRAKEN
    """
    with log_flags(log) as flags:
        settings = load_settings(config, sets=sets, instruments=instruments, flags=flags)
        names = [f"{symbol}.{code}" for code, venue in settings.venues.items() for symbol in venue.instruments]

        async def work(stop: asyncio.Event) -> Exit:
            started_ns, since_ns = clock.monotonic_ns(), clock.wall_ns()
            async with Plant.open(settings) as plant:
                async with shown(plant, names, since_ns):
                    await until_stopped(plant, stop, seconds)
                if json:
                    print_json(await account(plant, started_ns))
            return Exit.OK

        return run_until_stopped(work)


def _record(
    settings: Config, only: Only | None, seconds: float | None, *, line: Line | None = None, json: bool
) -> Exit:
    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    async def work(stop: asyncio.Event) -> Exit:
        started_ns, since_ns = clock.monotonic_ns(), clock.wall_ns()
        async with Plant.open(settings, only=only, line=line) as plant:
            say(f"tickplant is running, log in {plant.path}; Ctrl-C ends it")
            if plant.metrics is not None:
                say(error_text(plant.metrics.fault) if plant.metrics.fault else f"metrics on {plant.metrics.address}")
            changes = asyncio.create_task(say_changes(plant, since_ns, say))
            await until_stopped(plant, stop, seconds)
            changes.cancel()
            await asyncio.gather(changes, return_exceptions=True)
            summary = await account(plant, started_ns)
        if json:
            print_json(summary)
        else:
            typer.echo(summary_text(summary))
        return Exit.OK

    return run_until_stopped(work)


def _print_config(settings: Config, *, json: bool) -> Exit:
    rows = [{"setting": name, "value": value, "from": str(origin)} for name, value, origin in settings.rows()]
    if json:
        for row in rows:
            print_json(row)
    else:
        typer.echo(rows_text(rows))
    return Exit.OK


def parse_line(text: str | None) -> Line | None:
    """Reads `1/2`; lines count from 1. Raises ConfigError."""
    match = None if text is None else re.fullmatch(r"(\d+)/(\d+)", text)
    if text is None:
        return None
    if match is None or not 1 <= int(match[1]) <= int(match[2]) <= LINES_MOST:
        raise ConfigError(f'--line "{text}" names no line', expected=f"i/n with i from 1 to n, n at most {LINES_MOST}")
    return Line(int(match[1]) - 1, int(match[2]))


def parse_only(text: str, settings: Config) -> Only:
    """Reads `kraken` or `kraken:1/4`; shares count from 1. Raises ConfigError."""
    match = re.fullmatch(r"([^:]+)(?::(\d+)/(\d+))?", text)
    index, count = (int(match[2]), int(match[3])) if match and match[2] else (1, 1)
    if match is None or not 1 <= index <= count:
        raise ConfigError(f'--only "{text}" names no share', expected="VENUE or VENUE:i/n with i from 1 to n")
    code = venue_code(match[1])
    if code not in settings.venues:
        raise ConfigError(f'--only "{text}": {code} is not configured', expected=f"one of {', '.join(settings.venues)}")
    return Only(code, index - 1, count)

"""What commands share: settings from options, running until told to stop, output, exit codes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from enum import IntEnum
from pathlib import Path
from shutil import get_terminal_size
from textwrap import fill
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console

from tickplant import config
from tickplant.errors import (
    ConfigError,
    ImportFormatError,
    LogError,
    MissingExtra,
    PlantError,
    TickplantError,
    VenueError,
    WireError,
    WorkerError,
)
from tickplant.log.places import thrown_away
from tickplant.venues.table import find_instrument


class Exit(IntEnum):
    """What an exit code says. Ctrl-C and SIGTERM end a command in order, which is 0."""

    OK = 0
    UNPROVEN = 1
    """The command ran, and something that it checks did not hold: a book without proof, a failed check."""
    USAGE = 2
    """Unknown command or option."""
    SETTINGS = 3
    LOG = 4
    PEER = 5
    """A venue or connection."""
    RECORDING = 6
    WORKER = 7
    """The tape router's worker cannot be run, or has ended."""
    PLANT = 8
    """No plant runs on the log, another one does, or it refused a command."""
    INTERNAL = 70
    """Our own fault."""


def exit_code(error: TickplantError) -> Exit:
    """The exit code of an error."""
    match error:
        case ConfigError() | MissingExtra():
            return Exit.SETTINGS
        case LogError():
            return Exit.LOG
        case WireError() | VenueError():
            return Exit.PEER
        case ImportFormatError():
            return Exit.RECORDING
        case WorkerError():
            return Exit.WORKER
        case PlantError():
            return Exit.PLANT
    return Exit.INTERNAL


def error_text(error: TickplantError) -> str:
    """What, where and what to do, as people are told it."""
    lines = [f"tickplant: {error.what}"]
    lines += [f"  where: {error.where}"] if error.where else []
    lines += [f"  what to do: {error.hint}"] if error.hint else []
    return "\n".join(lines)


SMALL_LOG: dict[str, object] = {"log.segment_bytes": 8 << 20, "log.hot_bytes_max": 64 << 20}
"""What is looked at for minutes needs no gigabyte of memory files."""

LAST_COLUMN_LEAST = 20
"""Columns into which the last column of a table can be wrapped and still be read."""

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
LogOption = Annotated[
    str | None, typer.Option("--log", metavar="DIR", help="Log directory (log.path).", show_default=False)
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Any setting, such as venue.kraken.depth=100. May be repeated."),
]
ConfigArgument = Annotated[
    Path | None, typer.Argument(metavar="CONFIG", help="Settings as TOML; without one the environment says it all.")
]


def load_settings(
    path: Path | None,
    *,
    log: str | None = None,
    sets: Sequence[str] | None = None,
    instruments: Sequence[str] = (),
    flags: Mapping[str, object] | None = None,
) -> config.Config:
    """Settings from options: `--set`, `--log` and instruments named on the command line are flags, like `flags`."""
    flags = dict(flags or {})
    for text in sets or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f'"{text}" sets nothing', file="flag --set", expected="NAME=VALUE")
        flags[name.strip()] = value.strip()
    if log is not None:
        flags["log.path"] = log
    named: dict[str, list[str]] = {}
    for text in instruments:
        venue, instrument = find_instrument(text)
        named.setdefault(venue.code, []).append(instrument.symbol)
    flags.update({f"venue.{code}.instruments": symbols for code, symbols in named.items()})
    return config.load(path, environ=os.environ, flags=flags)


@contextlib.contextmanager
def log_flags(path: str | None) -> Iterator[dict[str, object]]:
    """Settings of a log at this path, or of a small one that is thrown away afterwards, memory files included."""
    if path is not None:
        yield {"log.path": path}
        return
    with thrown_away() as (directory, hot):
        yield {"log.path": str(directory), "log.hot_root": str(hot), "log.sync": "none", **SMALL_LOG}


def require_instruments(settings: config.Config) -> config.Config:
    """Raises ConfigError where there is nothing to take."""
    if not any(venue.instruments for venue in settings.venues.values()):
        if os.environ.get("SYMBOLS") or os.environ.get("EXCHANGE"):
            raise ConfigError(
                "EXCHANGE and SYMBOLS go together, and one of them is not set",
                hint="set both, such as EXCHANGE=kraken SYMBOLS=BTC/USD",
            )
        raise ConfigError(
            "no instrument is configured",
            hint="name some: a settings file with [venue.kraken] instruments, or EXCHANGE=kraken SYMBOLS=BTC/USD",
        )
    return settings


def console(*, stderr: bool = False) -> Console:
    """A console that is plain and wide where the output is no terminal."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, highlight=False, soft_wrap=False, width=None if stream.isatty() else 160)


def print_json(value: object, *, flush: bool = True) -> None:
    """One object on one line."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
    if flush:
        sys.stdout.flush()


def rows_text(rows: Sequence[Mapping[str, Any]], width: int | None = None) -> str:
    """Rows as aligned columns, for people and for pipes. On a terminal that is too narrow for them the last column is
    wrapped, and where there is no room for that each row is a paragraph.

    `width`: what must not be exceeded; without it the terminal's, and on a pipe there is none.
    """
    if not rows:
        return ""
    names = list(rows[0])
    cells = [names, *([_cell(row[name]) for name in names] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(names))]
    width = width or terminal_columns() or sum(widths) + 2 * len(widths)
    margin = sum(widths[:-1]) + 2 * len(widths[:-1])
    if width - margin < min(widths[-1], LAST_COLUMN_LEAST):
        return "\n".join(wrapped(_facts(names, line), width, hanging=2) for line in cells[1:])
    lines = ["  ".join([*map(str.ljust, line[:-1], widths), line[-1]]).rstrip() for line in cells]
    return "\n".join(wrapped(line, width, hanging=margin) if len(line) > width else line for line in lines)


def _facts(names: Sequence[str], line: Sequence[str]) -> str:
    """A row in words: its first value, then each other one behind its name."""
    return "  ".join([line[0], *(f"{name} {text}" for name, text in zip(names[1:], line[1:], strict=True) if text)])


def wrapped(text: str, width: int | None = None, *, hanging: int = 0) -> str:
    """A text in lines that fit the width, or without one the terminal; on a pipe as it is."""
    width = width or terminal_columns()
    return fill(text, width, subsequent_indent=" " * hanging, break_on_hyphens=False) if width else text


def terminal_columns() -> int | None:
    """Columns of the terminal that the output goes to; None where it is no terminal."""
    return get_terminal_size().columns if sys.stdout.isatty() else None


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def run_until_stopped(work: Callable[[asyncio.Event], Awaitable[Exit]]) -> Exit:
    """Runs a coroutine function; SIGINT and SIGTERM set the event that it is given, and it ends in order."""

    async def run() -> Exit:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        return await work(stop)

    return asyncio.run(run())


async def wait(stop: asyncio.Event, seconds: float | None) -> bool:
    """Waits until told to stop, at most so long; True where it was told."""
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return False
    return True

"""The command: everything that is looked at, one line each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from tickplant.cli.common import Exit, JsonOption, LogOption, load_settings
from tickplant.cli.doctor.finding import Finding, tell
from tickplant.cli.doctor.logs import clean_leftovers, leftovers, look_at_log
from tickplant.cli.doctor.machine import look_at_installation, look_at_machine
from tickplant.errors import TickplantError


def doctor(
    config: Annotated[Path | None, typer.Argument(metavar="CONFIG", help="Settings to check too.")] = None,
    log: LogOption = None,
    clean: Annotated[
        bool, typer.Option("--clean", help="Remove the memory files of logs that are gone; no others.")
    ] = False,
    json: JsonOption = False,
) -> Exit:
    """Check that this machine can run a plant, and find the memory files that killed plants left.

    Looks at the native module, settings, memory files, memory, disk, limits, clock and kernel. Exit 1: something that a
    plant needs is missing.

    Example: tickplant doctor plant.toml
    Example: tickplant doctor --log data --clean
    """
    return tell(_findings(config, log, clean=clean), json=json)


def _findings(config: Path | None, log: str | None, *, clean: bool) -> Iterator[Finding]:
    yield from look_at_installation()
    try:
        settings = load_settings(config, log=log)
    except TickplantError as error:
        yield Finding("settings", str(error), False, "correct it and run doctor again")
        return
    yield Finding("settings", str(config or "environment and defaults"))
    yield from look_at_machine(settings)
    yield from look_at_log(Path(settings.log.path))
    root = Path(settings.log.hot_root or "/dev/shm")
    if clean:
        yield from clean_leftovers(root)
    yield from leftovers(root)

"""`venues` and `doctor`: what this installation can do, and whether it can do it here."""

from __future__ import annotations

import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from tickplant import __version__
from tickplant._native import http_get
from tickplant.cli.common import (
    Exit,
    JsonOption,
    LogOption,
    SetOption,
    load_settings,
    print_json,
    rows_text,
)
from tickplant.errors import ConnectFailed, TickplantError, VenueError, WireError
from tickplant.venues.base import Venue
from tickplant.venues.settings import VenueSettings
from tickplant.venues.table import VENUES, find_venue

HTTP_TIMEOUT_S = 20.0


def venues(
    name: Annotated[str | None, typer.Argument(metavar="[VENUE]", help="One venue; without it, all.")] = None,
    instruments: Annotated[
        bool, typer.Option("--instruments", help="Ask the venue for its instruments (needs a network).")
    ] = False,
    sets: SetOption = None,
    json: JsonOption = False,
) -> Exit:
    """List the venues, or the instruments that one of them has.

    Example: tickplant venues binance-usdm --instruments
    """
    chosen = list(VENUES.values()) if name is None else [find_venue(name)]
    if instruments:
        settings = load_settings(None, sets=sets).venues
        rows = [row for venue in chosen for row in _instruments(venue, settings.get(venue.code, VenueSettings()))]
    else:
        rows = [_venue_row(venue) for venue in chosen]
    if json:
        for row in rows:
            print_json(row)
    else:
        typer.echo(rows_text(rows))
    return Exit.OK


def _venue_row(venue: Venue) -> dict[str, Any]:
    return {
        "venue": venue.code,
        "number": venue.number,
        "title": venue.title,
        "example": f"{venue.symbol_example}.{venue.code}",
        "streams": [c.stream for c in venue.channels if c.stream in ("book", "trades", "ticker")],
        "depths": list(venue.depths) or ["full"],
        "proof": "checksum" if venue.book.checksum != "none" else _CHAINS[venue.book.continuity],
        "address": venue.routes[0].url,
    }


_CHAINS = {"none": "none given", "range": "sequence", "previous": "sequence", "growing": "none given"}


def _instruments(venue: Venue, settings: VenueSettings) -> Iterator[dict[str, Any]]:
    request = venue.instruments_request(settings)
    try:
        status, _, body = http_get(request.url, ca=settings.ca, proxy=settings.proxy, timeout_s=HTTP_TIMEOUT_S)
    except WireError as error:
        raise ConnectFailed(
            f"{venue.title} cannot be reached: {error.what}",
            where=request.url,
            hint=f"check the network, or set venue.{venue.code.lower()}.rest_url or .proxy",
        ) from None
    if status != 200:
        raise VenueError(f"{venue.title} answered with {status}", where=request.url, venue=venue.code)
    found = venue.parse_instruments(body)
    for definition in sorted(found, key=lambda definition: definition.symbol):
        yield {
            "instrument": f"{definition.symbol}.{venue.code}",
            "base": definition.base,
            "quote": definition.quote,
            "tick": definition.tick,
            "lot": definition.lot,
            "active": definition.active,
        }


class Finding(NamedTuple):
    """One thing that doctor looked at."""

    check: str
    result: str
    ok: bool
    advice: str = ""


def doctor(
    config: Annotated[Path | None, typer.Argument(metavar="[CONFIG]", help="Settings to check too.")] = None,
    log: LogOption = None,
    json: JsonOption = False,
) -> Exit:
    """Check that this machine can run a plant: native module, memory files, disk, limits, settings.

    Example: tickplant doctor plant.toml
    """
    findings = list(_findings(config, log))
    if json:
        for finding in findings:
            print_json(finding._asdict())
    else:
        rows = [
            {"": "ok" if f.ok else "!!", "check": f.check, "found": f.result, "what to do": "" if f.ok else f.advice}
            for f in findings
        ]
        typer.echo(rows_text(rows))
    return Exit.OK if all(finding.ok for finding in findings) else Exit.UNPROVEN


def _findings(config: Path | None, log: str | None) -> Iterator[Finding]:
    python = ".".join(map(str, sys.version_info[:3]))
    yield Finding("python", python, sys.version_info >= (3, 11), "use Python 3.11 or newer")
    yield Finding("native module", __version__, True)
    yield Finding("system", sys.platform, sys.platform == "linux", "tickplant runs on Linux")
    try:
        settings = load_settings(config, log=log)
    except TickplantError as error:
        yield Finding("settings", str(error), False, "correct it and run doctor again")
        return
    yield Finding("settings", str(config or "environment and defaults"), True)
    lanes = max(1, sum(venue.loops for venue in settings.venues.values()))
    hot = Path(settings.log.hot_root or "/dev/shm")
    wanted = lanes * settings.log.hot_bytes_max
    yield _space("memory files", hot, wanted, f"give {hot} more room, or lower log.hot_bytes_max")
    yield _space("log directory", Path(settings.log.path), 1 << 30, "free some disk, or move log.path")
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    yield Finding("open files", str(soft), soft >= 1024, "raise it: ulimit -n 4096")
    cores = len(os.sched_getaffinity(0))
    yield Finding("cores", f"{cores} for {lanes} loops", cores >= min(lanes, 2), "use fewer loops")


def _space(check: str, folder: Path, wanted: int, advice: str) -> Finding:
    existing = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            free = shutil.disk_usage(existing).free
    except OSError as error:
        return Finding(check, f"{existing}: {error.strerror}", False, f"make {existing} writable")
    return Finding(
        check, f"{free >> 20} MiB free in {existing}", free >= wanted, f"{advice} ({wanted >> 20} MiB wanted)"
    )

"""`import`: recordings of other collectors through the very same decoders, sessions and books."""

from __future__ import annotations

import itertools
import json as json_module
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from tickplant import _native, clock, config
from tickplant.cli.common import Exit, JsonOption, print_json
from tickplant.cli.imports.recordings import Entry, Format, read_recording, symbols_in
from tickplant.cli.summary import summary_text, with_totals
from tickplant.errors import ConfigError, ImportFormatError
from tickplant.plant.river import lane_name, log_options
from tickplant.venues.base import InstrumentId, Venue
from tickplant.venues.plan import Plan, Timing
from tickplant.venues.settings import VenueSettings
from tickplant.venues.table import find_venue, symbol_of

# Longer than any recording: nobody answers pings there, and silence says nothing.
NEVER_NS = 100 * 365 * 86_400 * clock.SECOND_NS


def import_files(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="Recordings, gzipped or not.")],
    form: Annotated[Format, typer.Option("--format", help="Who recorded them.")],
    venue: Annotated[str, typer.Option("--venue", metavar="V", help="Whose messages they are.")],
    log: Annotated[str, typer.Option("--log", metavar="DIR", help="Log directory.")] = "data",
    class_name: Annotated[
        str | None, typer.Option("--class", metavar="MODULE:CLASS", help="V is a venue of your own: its class.")
    ] = None,
    instrument: Annotated[
        list[str] | None, typer.Option("--instrument", metavar="I", help="Only this one. May be repeated.")
    ] = None,
    json: JsonOption = False,
) -> Exit:
    """Import recordings into a log, with their own receive times, and end with the same summary as a live plant.

    Exit 1 if a checksum failed, something is missing, or a book never had its snapshot.
    Example: tickplant import btcusdt.gz --format hftbacktest --venue BINANCE --log data
    """
    if class_name is not None and "" not in sys.path:
        # As with settings: the class may lie in the directory where the command is given.
        sys.path.insert(0, "")
    chosen = find_venue(venue, class_name)
    symbols = [symbol_of(chosen, text) for text in instrument or ()]
    chosen, found = protocol_of(chosen, files, form)
    symbols = symbols or found
    symbols = [symbol for symbol in symbols if _spelled_rightly(chosen, symbol)]
    if not symbols:
        raise ImportFormatError(
            f"no message names an instrument of {chosen.title}",
            where=", ".join(map(str, files)),
            hint="check --venue and --format, or name instruments with --instrument",
        )
    summary = import_entries(chosen, symbols, read_recording(files, form), log)
    if json:
        print_json(summary)
    else:
        typer.echo(summary_text(summary))
        for url in summary["snapshots_missing"]:
            typer.echo(f"no snapshot in the recording for {url}: its book stays as it is", err=True)
    whole = all(_is_whole(row) for row in summary["instruments"])
    return Exit.OK if whole else Exit.UNPROVEN


def import_entries(venue: Venue, symbols: list[str], entries: Iterable[Entry], log: str) -> dict[str, Any]:
    """Runs a recording through a session into the venue's lane of a log and gives the summary.

    A reply that names no symbol is of the recording's only instrument. Sockets of one venue are taken as one
    connection; it ends where a socket is opened a second time.
    """
    stream = iter(entries)
    first = next(stream, None)
    if first is None:
        raise ImportFormatError("the recording is empty", hint="give a file with messages")
    settings = config.load(flags={"log.path": log})
    handle = _native.LogHandle(log, json_module.dumps(log_options(settings.log)).encode())
    plan = import_plan(venue, {symbol: handle.assign(str(InstrumentId(symbol, venue.code))) for symbol in symbols})
    started_ns = clock.monotonic_ns()
    lane = lane_name(venue.code, 0, 1)
    decoder = venue if venue.decoder == "python" else None
    importer = _native.Importer(handle, lane, json_module.dumps(plan).encode(), first.at, decoder=decoder)
    try:
        _feed(importer, symbols, itertools.chain([first], stream))
        report = json_module.loads(importer.summary())
        missing = list(importer.wished())
    finally:
        importer.close()
    seconds = (clock.monotonic_ns() - started_ns) / clock.SECOND_NS
    rows = [{"instrument": f"{row.pop('symbol')}.{venue.code}", "lane": lane, **row} for row in report["instruments"]]
    parsed = {name: report[name] for name in ("frames_decoded", "tolerant_reads")}
    return {**with_totals({"instruments": rows, **parsed}, seconds), "snapshots_missing": missing}


def _feed(importer: _native.Importer, symbols: list[str], entries: Iterable[Entry]) -> None:
    opened: set[str] = set()
    for entry in entries:
        match entry.kind:
            case "frame":
                importer.frame(entry.at, 0, entry.body)
            case "opened" if entry.source in opened:
                importer.reopen(entry.at, 0)
            case "reply" if not entry.symbol and len(symbols) != 1:
                raise ConfigError(
                    "a snapshot in the recording names no instrument, and there are several",
                    file="command line",
                    expected=f"--instrument with one of {', '.join(symbols)}",
                )
            case "reply":
                importer.reply(entry.at, entry.symbol, 200, entry.body)
        opened.add(entry.source)


def import_plan(venue: Venue, instruments: dict[str, int], settings: VenueSettings | None = None) -> dict[str, object]:
    """The venue's plan for a recording: nobody answers there, so the first data is the answer and no timer runs.
    Without settings it has no line in reserve."""
    plan = msgspec.convert(venue.plan(instruments, settings or VenueSettings(rotate_every_s=0)), Plan)
    never = {name: NEVER_NS for name in Timing.__struct_fields__ if not name.startswith("backoff")}
    silent = msgspec.structs.replace(
        plan,
        channels=[msgspec.structs.replace(channel, acknowledged="data") for channel in plan.channels],
        routes=[msgspec.structs.replace(route, waits_for_welcome=False) for route in plan.routes],
        timing=msgspec.structs.replace(plan.timing, **never),
        ping=None,
        definitions_url=None,
        backfill=None,
    )
    plain: dict[str, object] = msgspec.to_builtins(silent)
    return plain


def protocol_of(venue: Venue, files: list[Path], form: Format) -> tuple[Venue, list[str]]:
    """The venue in the protocol of the recording, and the symbols that it names; the usual one where none names any."""
    for speaker in (venue, *venue.protocols.values()):
        if found := symbols_in(read_recording(files, form), speaker.symbol_in_frame):
            return speaker, [speaker.symbol_of_wire(text) for text in found]
    return venue, []


def _is_whole(row: dict[str, Any]) -> bool:
    return not row["checksums_failed"] and not row["gaps"] and row["state"].upper() == "LIVE"


def _spelled_rightly(venue: Venue, symbol: str) -> bool:
    try:
        venue.check_symbol(symbol)
    except ConfigError:
        return False
    return True

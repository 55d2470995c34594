"""`coverage`: how good the log is of an instrument, as a table and as a picture."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from tickplant.cli.ask.read import TIME_HELP, DirectoryOption, parse_time, rfc3339_ns
from tickplant.cli.common import Exit, JsonOption, console, print_json, rows_text
from tickplant.clock import SECOND_NS
from tickplant.errors import ConfigError
from tickplant.log import CoverageLedger, Interval, Log
from tickplant.log.coverage import COLOURS, SIGNS, word
from tickplant.records import Repair
from tickplant.venues.base import InstrumentId

StartArgument = Annotated[
    str | None, typer.Argument(metavar="FROM", help=f"From here, by receive time. {TIME_HELP}", show_default=False)
]
EndArgument = Annotated[str | None, typer.Argument(metavar="TO", help="Up to here.", show_default=False)]


def coverage(
    instrument: Annotated[str, typer.Argument(metavar="INSTRUMENT", help="Such as BTC/USD.KRAKEN.")],
    start: StartArgument = None,
    end: EndArgument = None,
    log: DirectoryOption = "data",
    png: Annotated[Path | None, typer.Option("--png", metavar="FILE", help="Also write the picture there.")] = None,
    json: JsonOption = False,
) -> Exit:
    """Print what a log holds of an instrument, and how good: complete, gaps with cause and repair, stale, unproven.

    Without FROM and TO: all that there is. What no line covers was not running.
    Example: tickplant coverage BTC/USD.KRAKEN 2026-11-21 2026-11-22 --log data --png coverage.png
    """
    name = str(InstrumentId.parse(instrument))
    ledger = Log.open(log).coverage(name, parse_time(start), parse_time(end))
    if png is not None:
        try:
            ledger.png(png)
        except OSError as error:
            reason = error.strerror or str(error)
            raise ConfigError(f"{png} cannot be written: {reason}", file="flag --png", expected="a file") from None
    if json:
        print_json(ledger.as_dict())
        return Exit.OK
    if not ledger.intervals:
        typer.echo(f"{name}: the log says nothing of this time")
        return Exit.OK
    width = shutil.get_terminal_size((100, 24)).columns
    _print_picture(ledger.timeline(width))
    typer.echo("")
    typer.echo(rows_text([_row(interval) for interval in ledger]))
    typer.echo("")
    typer.echo(rows_text(_totals(ledger)))
    return Exit.OK


def _print_picture(picture: str) -> None:
    """In colours where the output is a terminal."""
    if not sys.stdout.isatty():
        return typer.echo(picture)
    text = Text(picture)
    for quality, sign in SIGNS.items():
        text.highlight_regex(f"{sign}+", "rgb({},{},{})".format(*COLOURS[quality]))
    console().print(text)
    return None


def _row(interval: Interval) -> dict[str, Any]:
    """One line of the table."""
    return {
        "stream": interval.stream.name.lower(),
        "from": rfc3339_ns(interval.start)[:23],
        "seconds": f"{(interval.end - interval.start) / SECOND_NS:.3f}",
        "quality": word(interval.quality),
        "first": interval.first,
        "last": interval.last,
        "cause": interval.cause.name if interval.cause else None,
        "repaired from": interval.repaired_from.name if interval.repaired_from is not Repair.NONE else None,
    }


def _totals(ledger: CoverageLedger) -> list[dict[str, Any]]:
    """Seconds and parts of the whole, a line a stream; with lanes that are redundant lines what these avoided."""
    avoided = ledger.gap_avoided_ns
    whole = max(ledger.end - ledger.start, 1)
    totals = {stream: ledger.nanoseconds(stream) for stream in ledger.streams()}
    seen = [quality for quality in SIGNS if any(of_stream[quality] for of_stream in totals.values())]
    return [
        {"stream": stream.name.lower()}
        | {word(q): f"{of_stream[q] / SECOND_NS:.1f}s {100 * of_stream[q] / whole:.1f}%" for q in seen}
        | ({"gap avoided": f"{avoided.get(stream, 0) / SECOND_NS:.1f}s"} if avoided else {})
        for stream, of_stream in totals.items()
    ]

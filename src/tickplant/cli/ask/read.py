"""`tail` and `book`: the log as rows and as a book at a moment."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import typer

from tickplant.cli.common import Exit, JsonOption, print_json, rows_text
from tickplant.cli.live import status_text
from tickplant.clock import SECOND_NS, rfc3339
from tickplant.errors import ConfigError, LogError
from tickplant.log import Book, Log, Records
from tickplant.log.times import to_nanos
from tickplant.records import Mbp, Record, Status
from tickplant.venues.base import InstrumentId

Schema = Literal[
    "trades", "levels", "mbp-1", "mbp-10", "bbo", "bbo-1s", "bbo-1m", "tbbo", "cmbp-1", "touch", "depth", "impact",
    "ticker", "status", "gap", "coverage", "state_hash",
]  # fmt: skip
DirectoryOption = Annotated[str, typer.Option("--log", metavar="DIR", help="Log directory.")]
TAPE_LANE = "tape"
"""The one lane of what `tickplant route --log` and `--record` write."""
TIME_HELP = "ISO time (UTC where it names no zone) or nanoseconds."


def tail(
    log: DirectoryOption = "data",
    schema: Annotated[Schema, typer.Option("--schema", help="What a row is.")] = "mbp-1",
    instrument: Annotated[
        list[str] | None, typer.Option("--instrument", metavar="I", help="Only this one. May be repeated.")
    ] = None,
    start: Annotated[str | None, typer.Option("--start", metavar="TIME", help=f"From here. {TIME_HELP}")] = None,
    end: Annotated[str | None, typer.Option("--end", metavar="TIME", help=f"Up to here. {TIME_HELP}")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="At most so many rows.")] = None,
    basis_points: Annotated[int, typer.Option("--bp", min=0, help="depth: how far from the mid price.")] = 10,
    size: Annotated[str, typer.Option("--size", help="impact: how much is bought and sold.")] = "1",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Comma-separated values with a head.")] = False,
    json: JsonOption = False,
) -> Exit:
    """Print what a log holds, one record a line, from its start or --start.

    JSON and CSV have Databento's field names, prices and sizes as they stood on the wire, times in nanoseconds.
    Example: tickplant tail --log data --schema mbp-1 --instrument BTC/USD.KRAKEN --json --limit 10
    """
    if as_csv and json:
        raise ConfigError("--csv and --json exclude each other", file="command line", expected="one of them")
    names = [str(InstrumentId.parse(text)) for text in instrument or ()] or None
    first, last = parse_time(start), parse_time(end)
    opened = Log.open(log)
    if set(opened.position()) == {TAPE_LANE}:
        raise LogError(
            "the log of a tape holds frames as they came and which trades are whose shard's, no records of a venue",
            where=log,
            hint=f"tickplant.tape.worker reads it: worker.messages(places=['{log}#0@first']) gives shard 0",
        )
    try:
        records = opened.records(
            names, schema=schema, start=first, end=last, follow=follow, basis_points=basis_points, size=size
        )
    except ValueError as error:
        raise ConfigError(str(error), file="command line", expected="the options of its schema") from None
    rows = _rows(opened, records, limit)
    try:
        if json:
            for row in rows:
                print_json(row, flush=follow)
        elif as_csv:
            _print_csv(rows, flush=follow)
        else:
            for row in rows:
                print(_line(row), flush=follow)
    except KeyboardInterrupt:
        pass
    return Exit.OK


def book(
    instrument: Annotated[str, typer.Argument(metavar="INSTRUMENT", help="Such as BTC/USD.KRAKEN.")],
    log: DirectoryOption = "data",
    at: Annotated[str | None, typer.Option("--at", metavar="TIME", help=f"By event time. {TIME_HELP}")] = None,
    known_at: Annotated[
        str | None, typer.Option("--known-at", metavar="TIME", help=f"By receive time. {TIME_HELP}")
    ] = None,
    depth: Annotated[int, typer.Option("--depth", min=0, help="Levels a side; 0: all.")] = 10,
    json: JsonOption = False,
) -> Exit:
    """Print a book as it stands, as it was (--at), or as it was known (--known-at).

    Example: tickplant book BTC/USD.KRAKEN --log data --at 2026-11-21T09:30:00Z
    """
    name = str(InstrumentId.parse(instrument))
    found = Log.open(log).book(name, at=parse_time(at), known_at=parse_time(known_at), depth=depth or None)
    row = _book_row(name, found)
    if json:
        print_json(row)
        return Exit.OK
    typer.echo(f"{name}  {row['state']}  {_line({key: row[key] for key in ('sequence', 'ts_event', 'ts_recv')})}")
    sides = [list(side)[: depth or None] for side in (found.bids, found.asks)]
    ranks = [
        {
            "bid_sz": sides[0][rank][1] if rank < len(sides[0]) else "",
            "bid_px": sides[0][rank][0] if rank < len(sides[0]) else "",
            "ask_px": sides[1][rank][0] if rank < len(sides[1]) else "",
            "ask_sz": sides[1][rank][1] if rank < len(sides[1]) else "",
        }
        for rank in range(max(map(len, sides)))
    ]
    typer.echo(rows_text(ranks) or ("no snapshot had come by then" if found.ts_recv is None else "empty"))
    return Exit.OK


def _book_row(name: str, found: Book) -> dict[str, Any]:
    """A book as one object in Databento's words: `bid_px_00`, `bid_sz_00`, `bid_ct_00`, `ask_px_00`, ..."""
    row: dict[str, Any] = {
        "ts_event": found.ts_event,
        "ts_recv": found.ts_recv,
        "sequence": found.sequence,
        "instrument": name,
        "state": found.state.name,
        "state_hash": found.state_hash,
    }
    for rank in range(max(len(found.bids), len(found.asks))):
        for side, levels in (("bid", found.bids), ("ask", found.asks)):
            price, size, count = levels[rank] if rank < len(levels) else (None, None, None)
            row |= {f"{side}_px_{rank:02}": price, f"{side}_sz_{rank:02}": size, f"{side}_ct_{rank:02}": count}
    return row


def _rows(
    log: Log,
    records: Records,
    limit: int | None,
) -> Iterator[dict[str, Any]]:
    left = limit if limit is not None else -1
    for batch in records:
        for record in batch:
            yield _row(log, batch.lane, record)
            left -= 1
            if left == 0:
                return


def _row(log: Log, lane: str | None, record: Record | Mbp) -> dict[str, Any]:
    """A record as a row; of a change of state also the text that it points at."""
    row = record.as_dict()
    if isinstance(record, Status):
        row["text"] = status_text(log, lane, record.ref) or None
    return row


def _print_csv(rows: Iterator[dict[str, Any]], *, flush: bool) -> None:
    writer: Any = None
    for row in rows:
        if writer is None:
            writer = csv.DictWriter(sys.stdout, list(row), lineterminator="\n", restval="", extrasaction="ignore")
            writer.writeheader()
        writer.writerow(row)
        if flush:
            sys.stdout.flush()


def _line(row: dict[str, Any]) -> str:
    """A row for people: what is absent is left out, times are times."""
    shown = {name: rfc3339_ns(value) if name.startswith("ts_") and value else value for name, value in row.items()}
    return "  ".join(f"{name}={value}" for name, value in shown.items() if value is not None)


def rfc3339_ns(time_ns: int) -> str:
    """`2026-11-21T09:30:00.123456789Z`."""
    seconds, rest = divmod(time_ns, SECOND_NS)
    return f"{rfc3339(seconds * SECOND_NS)[:19]}.{rest:09}Z"


def parse_time(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return to_nanos(int(text) if text.isdigit() else text)
    except ValueError as error:
        raise ConfigError(str(error), file="command line", expected="a time such as 2026-11-21T09:30:00Z") from None

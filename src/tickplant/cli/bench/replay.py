"""`bench replay`: a recording through the very same session, books and log as live, without network or TLS."""

from __future__ import annotations

import json as json_module
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from tickplant import _native, clock, config
from tickplant.cli.common import Exit, JsonOption, log_flags, print_json, rows_text
from tickplant.cli.imports import import_plan, protocol_of
from tickplant.cli.imports.recordings import Entry, Format, read_recording
from tickplant.errors import ImportFormatError
from tickplant.plant.river import log_options
from tickplant.venues.base import InstrumentId, Venue
from tickplant.venues.settings import VenueSettings
from tickplant.venues.table import VENUES, find_venue

FRAMES_LOOKED_AT = 200
STAGE_ROUNDS = 5
ROUNDS_LEAST = 3


def replay(
    file: Annotated[Path, typer.Argument(help="A recording, gzipped or not.")],
    venue: Annotated[
        str | None, typer.Option("--venue", metavar="V", help="Whose messages they are; else it is found out.")
    ] = None,
    form: Annotated[Format, typer.Option("--format", help="Who recorded it.")] = "raw",
    depth: Annotated[
        int | None, typer.Option(min=0, help="Book levels a side that the recording was subscribed to.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0, help="Take it again and again for so long.")] = 10.0,
    json: JsonOption = False,
) -> Exit:
    """Measure what messages cost from their bytes to records in the log: rate, percentiles, stages, memory.

    Each round is a new connection and so begins with the resync of every book. Exit 1 where a checksum failed or a
    book with updates is not LIVE at the end. Example: tickplant bench replay btcusdt.gz --format hftbacktest
    """
    measured = measure(file, form, find_venue(venue) if venue else None, depth, seconds)
    if json:
        print_json(measured)
    else:
        typer.echo(measured_text(measured))
    whole = not any(row["checksums_failed"] or row["state"] != "LIVE" for row in measured["instruments"])
    return Exit.OK if whole else Exit.UNPROVEN


def measure(file: Path, form: Format, venue: Venue | None, depth: int | None, seconds: float) -> dict[str, Any]:
    """Measures a recording.

    Throughput is the median over rounds without a clock, percentiles come from rounds between them that read the clock
    after each message. Stages are differences of medians of processor time: the decoder alone, the books alone, what
    proofs add to a session, the rest of the session with its records, and what journal and log add to it; beside them
    how long the thread had no processor. What other threads ran, which make memory for the log, stands apart.
    """
    speaker, symbols = protocol_of(venue or guess_venue(file, form), [file], form)
    entries = [entry for entry in read_recording([file], form) if entry.kind != "opened"]
    if not entries or not symbols:
        raise ImportFormatError(
            f"no message names an instrument of {speaker.title}", where=str(file), hint="check --venue and --format"
        )
    with _bench(speaker, symbols, depth, entries) as bench:
        bench.round(False)
        plain, timed = _rounds(bench, seconds)
        messages, size, held_most = bench.facts()
        stages = _stages(bench, plain)
        report = json_module.loads(bench.summary())
        quantiles = {name: bench.quantile(share) for name, share in QUANTILES.items()}
    per_round = [one.ns for one in plain]
    median = statistics.median(per_round)
    rows = [
        {"instrument": f"{row.pop('symbol')}.{speaker.code}", **row}
        for row in sorted(report["instruments"], key=lambda row: -row["messages"])
    ]
    changes = sum(row["records"] for row in rows) / max(1, sum(row["messages"] for row in rows))
    return {
        "file": file.name,
        "venue": speaker.code,
        "messages": messages,
        "bytes_mean": round(size / messages, 1),
        "changes_mean": round(changes, 1),
        "rounds": len(plain) + len(timed),
        "messages_per_second": round(messages / median * clock.SECOND_NS),
        "ns_per_message": round(median / messages, 1),
        "cpu_ns_per_message": round(statistics.median(one.cpu for one in plain) / messages, 1),
        "cpu_ns_per_change": round(statistics.median(one.cpu for one in plain) / messages / max(1.0, changes), 1),
        "cpu_ns_helpers": round(statistics.median(one.helpers for one in plain) / messages, 1),
        **quantiles,
        "stages": {
            name: {"ns": round(ns / messages, 1), "core_share": round(ns / median, 3)} for name, ns in stages.items()
        },
        "allocations_per_message": max(one.steady for one in plain) / messages,
        "allocations_resync": max(one.resync for one in plain),
        "memory_bytes_most": held_most,
        "memory_growth_bytes": plain[-1].held - plain[0].held,
        "first_to_last": _drift(per_round),
        "first_to_last_cpu": _drift([one.cpu for one in plain]),
        "tolerant_share": round(report["tolerant_reads"] / max(1, report["frames_decoded"]), 4),
        "instruments": rows,
    }


QUANTILES = {"p50_ns": 500_000, "p99_ns": 990_000, "p999_ns": 999_000}


def guess_venue(file: Path, form: Format) -> Venue:
    """The venue whose decoder understands the first messages best. Raises ImportFormatError where none does."""
    frames = [entry.body for entry in read_recording([file], form) if entry.kind == "frame"][:FRAMES_LOOKED_AT]
    speakers = {code: [venue, *venue.protocols.values()] for code, venue in VENUES.items()}
    scores = {code: max(_understood(one, frames) for one in several) for code, several in speakers.items()}
    # Of a dialect and its superset both understand, the later in the table is the one that asks for more.
    best = max(reversed(scores), key=lambda code: scores[code])
    if not scores[best]:
        raise ImportFormatError(
            "no venue is known that sends these messages", where=str(file), hint="name one with --venue"
        )
    return VENUES[best]


def measured_text(measured: dict[str, Any]) -> str:
    """The measurement for people."""
    stages = [{"stage": name, **stage} for name, stage in measured["stages"].items()]
    checked = sum(row["checksums_passed"] for row in measured["instruments"])
    failed = sum(row["checksums_failed"] for row in measured["instruments"])
    live = sum(row["state"] == "LIVE" for row in measured["instruments"])
    m = measured
    lines = [
        f"{m['messages']:,} messages of {m['venue']}, {m['bytes_mean']} bytes and {m['changes_mean']} changes each, "
        f"{len(m['instruments'])} instruments, {m['rounds']} rounds",
        "",
        f"{m['messages_per_second']:,} messages/s, {m['ns_per_message']} ns each on one core; "
        f"p50 {m['p50_ns']} ns  p99 {m['p99_ns']} ns  p999 {m['p999_ns']} ns",
        f"processor time {m['cpu_ns_per_message']} ns a message, {m['cpu_ns_per_change']} ns a change; "
        f"other threads {m['cpu_ns_helpers']} ns a message",
        "",
        rows_text(stages),
        "",
        f"allocations a message {m['allocations_per_message']:.4g}; in a round's first tenth, with every book's "
        f"resync, {m['allocations_resync']}",
        f"memory at most {m['memory_bytes_most'] / 1e6:.2f} MB, grown by {m['memory_growth_bytes']} B",
        f"tolerant parser {m['tolerant_share']:.1%} of messages; checksums {checked:,} passed, {failed} failed; "
        f"{live} of {len(m['instruments'])} books live",
    ]
    if m["first_to_last"] is not None:
        lines.append(
            f"last tenth against the first {m['first_to_last']:+.1%} messages/s, "
            f"{m['first_to_last_cpu']:+.1%} a second of processor time"
        )
    return "\n".join(lines)


@contextmanager
def _bench(venue: Venue, symbols: list[str], depth: int | None, entries: list[Entry]) -> Iterator[_native.ReplayBench]:
    with log_flags(None) as flags:
        # As large as a plant's, of which a bench throws away what is committed.
        usual = config.LogSettings()
        sizes = {"segment_bytes": usual.segment_bytes, "hot_bytes_max": usual.hot_bytes_max, "archive": False}
        options = log_options(config.load(flags=flags).log) | sizes
        handle = _native.LogHandle(str(flags["log.path"]), json_module.dumps(options).encode())
        ids = {symbol: handle.assign(str(InstrumentId(symbol, venue.code))) for symbol in symbols}
        plan = import_plan(venue, ids, VenueSettings(depth=depth))
        # A reply that names no symbol answers whoever asks.
        inputs = [(entry.at, entry.symbol if entry.kind == "reply" else None, entry.body) for entry in entries]
        bench = _native.ReplayBench(handle, "bench", json_module.dumps(plan).encode(), inputs)
        try:
            yield bench
        finally:
            bench.close()


class Round(NamedTuple):
    """A round's time, processor time of its thread and of the others, allocations, and bytes held after it."""

    ns: int
    cpu: int
    helpers: int
    resync: int
    steady: int
    held: int


def _rounds(bench: _native.ReplayBench, seconds: float) -> tuple[list[Round], list[Round]]:
    """Rounds without and with a clock, by turns."""
    plain: list[Round] = []
    timed: list[Round] = []
    until = clock.monotonic_ns() + round(seconds * clock.SECOND_NS)
    while clock.monotonic_ns() < until or len(timed) < ROUNDS_LEAST:
        plain.append(Round(*bench.round(False)))
        timed.append(Round(*bench.round(True)))
    return plain, timed


def _stages(bench: _native.ReplayBench, rounds: list[Round]) -> dict[str, float]:
    taken = [bench.stages() for _ in range(STAGE_ROUNDS)]
    whole, cpu = (statistics.median(one.ns for one in rounds), statistics.median(one.cpu for one in rounds))
    decode, apply, unproven, session = (statistics.median(column) for column in zip(*taken, strict=True))
    return {
        "decode": decode,
        "apply": apply,
        "verify": session - unproven,
        "records": unproven - decode - apply,
        "journal": cpu - session,
        "waited": whole - cpu,
    }


def _drift(per_round: list[int]) -> float | None:
    """How much faster the last tenth of the rounds was than the first; None for fewer than twenty."""
    tenth = len(per_round) // 10
    if tenth < 2:
        return None
    return round(statistics.median(per_round[:tenth]) / statistics.median(per_round[-tenth:]) - 1, 4)


def _understood(speaker: Venue, frames: list[bytes]) -> int:
    """Data messages that the venue's decoder reads."""
    decoder = _native.Decoder(speaker.decoder)
    count = 0
    for frame in frames:
        try:
            events = decoder.decode(frame)
        except ValueError:
            continue
        count += any(event["event"] in ("book", "trade", "quote") for event in events)
    return count

"""The summary that `run`, `demo` and `import` end with."""

from __future__ import annotations

import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tickplant.cli.common import rows_text, wrapped
from tickplant.cli.view import latency_text, line_texts

COLUMNS = (
    "instrument",
    "state",
    "messages",
    "records",
    "trades",
    "checksums_passed",
    "checksums_failed",
    "checksums_absent",
    "gaps",
    "resyncs",
)
"""What stands first of each instrument; what else the plant counts follows."""
SHORT = {
    "checksums_passed": "checked",
    "checksums_failed": "failed",
    "checksums_absent": "absent",
}


def with_totals(summary: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """The plant's summary with what is true of the whole: records a second, latency, peak memory.

    Latency is from the receive stamp to readable in the log, in ns, of the slowest lane; each lane's own stands in
    `lanes`. Peak memory counts mapped files too, `memory_anonymous_mb` does not.
    """
    lanes = summary.get("lanes", {}).values()
    records = sum(row["records"] for row in summary["instruments"])
    latency = {
        name: max(
            (lane[f"latency_{name}_ns"] for lane in lanes if lane.get(f"latency_{name}_ns") is not None), default=None
        )
        for name in ("p50", "p99", "p999")
    }
    instruments = [_ordered(row) for row in summary["instruments"]]
    return {
        **summary,
        **_parsed(summary),
        "instruments": instruments,
        "lanes": {name: _lane(lane) for name, lane in summary.get("lanes", {}).items()},
        "seconds": round(seconds, 3),
        "records": records,
        "records_per_second": round(records / seconds) if seconds else 0,
        "latency_ns": latency,
        "gap_avoided_s": sum(lane.get("session", {}).get("gap_avoided_ns", 0) for lane in lanes) / 1e9,
        "memory_peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "memory_anonymous_mb": _anonymous_mb(),
    }


def summary_text(summary: Mapping[str, Any]) -> str:
    """The summary for people: a table of instruments and a line of totals."""
    shown = [*COLUMNS, "proof"]
    rows = [{SHORT.get(name, name): row[name] for name in shown if name in row} for row in summary["instruments"]]
    totals = [f"{summary['records']:,} records in {summary['seconds']:.1f} s ({summary['records_per_second']:,}/s)"]
    if latency := latency_text({"p50": None, **summary["latency_ns"]}):
        totals.append(f"wire to log {latency}")
    if summary["frames_decoded"]:
        totals.append(f"tolerant parser {summary['tolerant_reads']:,} of {summary['frames_decoded']:,} messages")
    if summary["gap_avoided_s"]:
        totals.append(f"{summary['gap_avoided_s']:.1f} gap seconds avoided by redundant lines")
    if backfilled := sum(row.get("trades_backfilled", 0) for row in summary["instruments"]):
        totals.append(f"{backfilled:,} missed trades back-filled over REST")
    totals += line_texts(summary)
    totals.append(f"peak memory {summary['memory_peak_mb']} MB, {summary['memory_anonymous_mb']} MB anonymous")
    return f"{rows_text(rows)}\n\n{wrapped('; '.join(totals))}"


def _ordered(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in COLUMNS if name in row} | dict(row)


def _parsed(summary: Mapping[str, Any]) -> dict[str, int]:
    """Messages that were decoded, and how often the tolerant parser read what the strict scanner did not know."""
    parts = [lane["session"] for lane in summary.get("lanes", {}).values() if "session" in lane] or [summary]
    return {name: sum(part.get(name, 0) for part in parts) for name in ("frames_decoded", "tolerant_reads")}


def _lane(lane: Mapping[str, Any]) -> dict[str, Any]:
    """A lane's account without its instruments, which stand above."""
    session = lane.get("session", {})
    kept = {"connections": session.get("connections", []), "lines": session.get("lines", [])}
    return {name: value for name, value in lane.items() if name != "session"} | kept


def _anonymous_mb() -> int:
    """RssAnon of this process now, in MB; 0 where the system does not say."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) // 1024
    return 0

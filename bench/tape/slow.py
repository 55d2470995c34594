"""A Python worker that manages so many trades a second and no more, and counts them.

    slow.py OUT TRADES_PER_S place place ...      (the router appends the places)

Writes {"trades": ..., "bad": ..., "elapsed_ns": ...} to OUT.<pid> at the tape's end. `bad` counts trades that are out
of order in their symbol.
"""

from __future__ import annotations

import json
import os
import select
import sys
from pathlib import Path

import msgspec

from tickplant.clock import monotonic_ns
from tickplant.tape import worker


class Trade(msgspec.Struct):
    sym: str
    q: int


def main() -> None:
    out, rate = sys.argv[1], int(sys.argv[2])
    trades, begun, last, bad = 0, 0, dict[str, int](), 0
    for batch in worker.batches(Trade):
        begun = begun or monotonic_ns()
        for trade in batch:
            bad += last.get(trade.sym, -1) >= trade.q
            last[trade.sym] = trade.q
        trades += len(batch)
        ahead = begun + trades * 1_000_000_000 // rate - monotonic_ns()
        if ahead > 0:
            sleep_ns(ahead)
    told = {"trades": trades, "bad": bad, "elapsed_ns": monotonic_ns() - begun}
    Path(f"{out}.{os.getpid()}").write_text(json.dumps(told))


def sleep_ns(ns: int) -> None:
    """As long as the work would take that this worker does not do."""
    select.select([], [], [], ns / 1e9)


if __name__ == "__main__":
    main()

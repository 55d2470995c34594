"""Every bench, one after the other: what it costs and how fast it is. Within twenty minutes on two cores.

    .venv/bin/python bench/run.py [NAME...] [--short] [--list]

Each prints JSON lines or lines of a table; between them stands what was run, how it ended and how long it took. One
that fails does not keep the others from running; it is named at the end, and then the exit code is 1. `--short` only
shows that all of them work: its figures mean nothing. Measure on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tickplant.clock import SECOND_NS, monotonic_ns

BENCH = Path(__file__).resolve().parent
CARGO = ["cargo", "run", "-q", "--release", "-p", "tickplant-core", "--example"]
GIVE_UP_S = 600


class Bench(NamedTuple):
    """A command, and what makes it short."""

    command: list[str]
    short: Sequence[str] = ()


def _example(name: str) -> Bench:
    return Bench([*CARGO, name])


def _script(text: str, short: str) -> Bench:
    name, *options = text.split()
    return Bench([sys.executable, str(BENCH / name), *options], short.split())


BENCHES = {
    "kraken": _example("kraken_bench"),
    "book": _example("book_bench"),
    "orders": _example("orders_bench"),
    "log": _example("log_bench"),
    "delivery": _script("delivery.py", "--records 100000"),
    "latency": _script("latency.py --seconds 4", "--seconds 2 --rounds 1"),
    "latency-many": _script("latency.py --rates 20000 --trades 10 --seconds 10", "--seconds 2 --rounds 1"),
    "latency-realtime": _script(
        "latency.py --rates 20000 --trades 10 --seconds 10 --priority realtime", "--seconds 2 --rounds 1"
    ),
    "throughput": _script("throughput.py", "--seconds 2 --rate 10000"),
    "readers": _script("readers.py --seconds 3", "--seconds 1 --rounds 1"),
    "isolation": _script("isolation.py --seconds 3 --rounds 2", "--seconds 2 --rounds 1"),
} | {
    f"tape-{row}": _script(f"tape/run.py {row} --rounds 3", "--rounds 1 --trades 200000 --seconds 1")
    for row in ("pipes32", "pipes8", "lanes", "wall", "paced2000", "paced50000")
}
BENCHES |= {
    "tape-burst": _script("tape/run.py burst --rounds 1", "--trades 300000"),
    "tape-day": _script("tape/run.py day --rounds 1", "--trades 500000"),
}


def run(name: str, bench: Bench, *, short: bool) -> int:
    """Runs one and says how it ended; its exit code, 124 where it did not end in time."""
    command = [*bench.command, *(bench.short if short else [])]
    print(f"--- {name}: {' '.join(Path(word).name if '/' in word else word for word in command)}", flush=True)
    begun = monotonic_ns()
    # In a group of its own, so that a bench that hangs takes along what it started.
    process = subprocess.Popen(command, process_group=0)
    try:
        code = process.wait(timeout=GIVE_UP_S)
    except subprocess.TimeoutExpired:
        subprocess.run(["kill", "-KILL", "--", f"-{process.pid}"], check=False)
        code = process.wait() and 124
    took = round((monotonic_ns() - begun) / SECOND_NS, 1)
    print(json.dumps({"bench": name, "exit": code, "seconds": took}), flush=True)
    return code


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="all where none is given")
    parser.add_argument("--short", action="store_true", help="only show that they work")
    parser.add_argument("--list", action="store_true", help="print the names")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(BENCHES)
    if unknown:
        parser.error(f"no bench is called {', '.join(sorted(unknown))}: one of {', '.join(BENCHES)}")
    if arguments.list:
        print("\n".join(BENCHES))
        return 0
    names = arguments.names or list(BENCHES)
    failed = [name for name in names if run(name, BENCHES[name], short=arguments.short)]
    print(json.dumps({"benches": len(names), "failed": failed}))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""The tape router against its aims: throughput a CPU-second, wall clock, latency beside a bare C chain, a whole day.

    .venv/bin/python bench/tape/run.py ROW... [--rounds 5] [--trades N] [--seconds 5] [--out FILE]

ROW: pipes32 pipes8 lanes wall paced2000 paced50000 burst day. The server's threads live in this process; it and the
worker have one core, the router the other (`wall`: all share both). What goes out as fast as it can is rendered before,
111 bytes of memory a trade, so that server and worker together cost less than the router. Each run is verified by
bench/tape/verify.c, which is no code of ours: count, bytes, checksum, symbol to pipe and order within a symbol.
`pipes32` and `pipes8` alternate with a mode of one write a trade (`--single-writes`) and with bench/tape/chain.c, which
is what the machine gives that minute; the paced rows with the chain. `lanes` has eight
readers of a log, each a thread that checks what it reads
(crates/core/examples/tape_reader.rs). `burst` has two Python workers that manage 400,000 trades/s each (slow.py) under
1,000,000/s for ten seconds, and tells the router's largest backlog and how long after the last trade it was caught up.
`day` tells the latest delivery (`max_ns`), which is the backlog in time. A line a way tells medians and, of trades per
CPU-second, the range; --out has every run. Exit 1 where anything is bad. What is started here ends with this process,
however that ends.

Router CPU is the scheduler's account in ns over all threads of the router's process, from before the first trade until
the worker has the last; the start of the interpreter is not in it. Of lanes the first trades are not in it either:
until its memory is full, a log asks the system for fresh pages, and from then on it makes old ones anew.
`router_busy` is that over the time of delivery: far below 1 the router waited, and a CPU-second says little.
`server_ns` and `worker_ns` are what the other core spent on a trade.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tickplant.clock import monotonic_ns, wall_ns
from tickplant.tape.serve import TapeServer

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
READER = ROOT / "target" / "release" / "examples" / "tape_reader"
ROUTER_CORE, OTHER_CORE = 1, 0
GIVE_UP_S = 400.0
LOOK_EVERY_S = 0.01
LANE_BYTES = 1 << 30
# Half of those bytes are kept for late readers; a trade takes 115.
LANE_WARM_TRADES = 6_000_000
ROWS = ["pipes32", "pipes8", "lanes", "wall", "paced2000", "paced50000", "burst", "day"]


def build(scratch: Path, row: str) -> None:
    for name in ("verify", "chain"):
        subprocess.run(["cc", "-O2", "-o", scratch / name, HERE / f"{name}.c"], check=True)
    if row == "lanes":
        example = ["cargo", "build", "-q", "--release", "-p", "tickplant-core", "--example", "tape_reader"]
        subprocess.run(example, cwd=ROOT, check=True)


@contextlib.contextmanager
def ending(command: list[str], **how: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A child that ends with the block, and with this process where that is killed; its workers end with a router."""
    child = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command], **how)
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def cpu_ns(pid: int, named: str = "") -> int:
    """CPU that a process' living threads have used so far, or those whose name begins so; 0 where it is gone."""
    total = 0
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            if (task / "comm").read_text().startswith(named):
                total += int((task / "schedstat").read_text().split()[0])
    return total


def anonymous_kib(pid: int) -> int:
    """Anonymous memory of a process."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1])
    return 0


@contextlib.contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """What is started within inherits this core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, before if core is None else {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def router_command(way: str, url: str, port: int, pipes: int, worker: list[str], scratch: Path) -> list[str]:
    """A router that is a command of its own (TICKPLANT_ROUTER) can be measured instead of this installation's."""
    if way == "chain":
        return [str(scratch / "chain"), str(port), str(pipes), *worker]
    how = {
        # A worker as fast as the router is behind now and then: the feed waits for it, as in the chain.
        "route": ["--when-full", "block"],
        "single": ["--when-full", "block", "--single-writes"],
        "lanes": ["--log", str(scratch / "log"), "--log-bytes", str(LANE_BYTES)],
        "burst": [],
    }[way]
    ours = os.environ.get("TICKPLANT_ROUTER", f"{sys.executable} -m tickplant").split()
    return [*ours, "route", url, "--pipes", str(pipes), *how, "--", *worker]


def measure(
    way: str, pipes: int, scratch: Path, *, trades: int, warm: int = 0, shared: bool = False, **tape: Any
) -> dict[str, Any]:
    """One run: a server, a router (`route`, `single`, `lanes` or `chain`), the verifying worker.

    Of the first `warm` trades the CPU is not counted.
    """
    result, log_file = scratch / "result", scratch / "router.log"
    result.unlink(missing_ok=True)
    stamped = bool(tape.get("stamp"))
    worker = [str(scratch / "verify"), str(result), str(trades), str(int(stamped))]
    if way == "lanes":
        worker = [str(READER), str(result), str(trades)]
    if not shared:
        worker = ["taskset", "-c", str(OTHER_CORE), *worker]
    with (
        pinned(None if shared else OTHER_CORE),
        TapeServer(trades=trades, no_handshake=True, **tape) as server,
        log_file.open("wb") as log,
    ):
        command = router_command(way, server.url, server.port, pipes, worker, scratch)
        with contextlib.ExitStack() as stack:
            with pinned(None if shared else ROUTER_CORE):
                router = stack.enter_context(ending(command, stdout=log, stderr=log))
            begun, before, marked, first, most_kib = monotonic_ns(), 0, 0, 0, 0
            while not result.exists() and router.poll() is None and monotonic_ns() - begun < GIVE_UP_S * 1e9:
                if not first and any(client.trades for client in server.clients()):
                    first = monotonic_ns()
                if not first:
                    # The command line, which the router takes the place of, is in neither.
                    before, most_kib = cpu_ns(router.pid), 0
                elif warm and not marked and (done := trades_done(log_file)) >= warm:
                    before, marked, first = cpu_ns(router.pid), done, monotonic_ns()
                most_kib = max(most_kib, anonymous_kib(router.pid))
                with contextlib.suppress(subprocess.TimeoutExpired):
                    router.wait(LOOK_EVERY_S)
            used, elapsed = cpu_ns(router.pid) - before, monotonic_ns() - first
            server_used = cpu_ns(os.getpid(), "tickplant-tape-")
            sent = server.clients()[0] if server.clients() else None
    if not result.exists():
        return {"way": way, "failed": log_file.read_text()[-2000:]}
    told = json.loads(result.read_text())
    bad = told["bad_form"] + told["bad_pipe"] + told["bad_order"]
    proven = sent is not None and (sent.trades, sent.bytes, sent.checksum) == (
        told["trades"],
        told["bytes"],
        told["checksum"],
    )
    return told | {
        "way": way,
        "bad": bad,
        "proven": proven and not bad and told["trades"] == trades,
        "million_per_cpu_s": (trades - marked) / used * 1000 if used > 0 else None,
        "million_per_s": trades / told["elapsed_ns"] * 1000,
        "router_cpu_s": used / 1e9,
        "router_busy": used / elapsed,
        "server_ns": server_used / trades,
        "worker_ns": told["cpu_ns"] / trades,
        "trades_per_read": trades_per_read(log_file.read_text(errors="replace")),
        "anonymous_kib": most_kib,
    }


def trades_done(log: Path) -> int:
    """Trades of which the router has told so far, in its last whole line."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 1000))
        told = re.findall(rb"{ttt (\d+)}", file.read())
    return int(told[-1]) if told else 0


def trades_per_read(log: str) -> float | None:
    """Out of the lines that the router prints every 8192 trades. Few: it gets small pieces, each with a turn's cost."""
    reads = [int(count) for count in re.findall(r"Rate {r +(\d+)}", log)]
    return 8192 * len(reads) / sum(reads) if sum(reads) else None


def burst(scratch: Path, trades: int) -> dict[str, Any]:
    """One run of the burst: what came, what waited, and how long."""
    for old in scratch.glob("slow.*"):
        old.unlink()
    worker = [sys.executable, str(HERE / "slow.py"), str(scratch / "slow"), "400000"]
    with (
        TapeServer(trades=trades, rate="profile:burst", no_handshake=True, close=True) as server,
        (scratch / "router.log").open("wb") as log,
    ):
        command = router_command("burst", server.url, server.port, 2, worker, scratch)
        at = command.index("--")
        command[at:at] = ["--spawn", "each", "--once", "--json", "--grace-ms", "120000"]
        with ending(command, stdout=subprocess.PIPE, stderr=log) as router:
            begun, most, most_kib, told, over = monotonic_ns(), 0, 0, {}, 0
            assert router.stdout is not None
            for line in router.stdout:
                told = json.loads(line)
                waiting = sum(pipe["queued_bytes"] + pipe["unread_bytes"] for pipe in told["pipes"])
                most, most_kib = max(most, waiting), max(most_kib, anonymous_kib(router.pid))
                if not over and server.clients() and server.clients()[0].complete:
                    over = monotonic_ns()
            ended = monotonic_ns()
    got = [json.loads(file.read_text()) for file in scratch.glob("slow.*")]
    count, bad = sum(one["trades"] for one in got), sum(one["bad"] for one in got)
    return {
        "way": "burst",
        "trades": count,
        "bad": bad,
        "proven": count == trades and not bad,
        "backlog_bytes": most,
        "spilled_bytes": sum(pipe["spilled_bytes"] for pipe in told.get("pipes", [])),
        "dropped": sum(pipe["dropped"] for pipe in told.get("pipes", [])),
        "caught_up_after_ns": ended - (over or ended),
        "elapsed_ns": ended - begun,
        "anonymous_kib": most_kib,
    }


def ways_of(row: str, arguments: argparse.Namespace) -> tuple[list[str], dict[str, Any]]:
    """Which ways alternate, and their options."""
    match row:
        case "pipes32" | "pipes8":
            trades = arguments.trades or 20_000_000
            return ["route", "single", "chain"], {
                "pipes": int(row[5:]),
                "trades": trades,
                "per_frame": 128,
                "rate": "max",
                "ahead": True,
            }
        case "lanes":
            trades = arguments.trades or 20_000_000
            warm = min(LANE_WARM_TRADES, trades // 2)
            return ["lanes"], {
                "pipes": 8,
                "trades": trades,
                "warm": warm,
                "per_frame": 128,
                "rate": "max",
                "ahead": True,
            }
        case "wall":
            trades = arguments.trades or 50_000_000
            return ["route"], {
                "pipes": 32,
                "trades": trades,
                "per_frame": 128,
                "rate": "max",
                "ahead": True,
                "shared": True,
            }
        case "day":
            trades = arguments.trades or 50_000_000
            return ["route"], {
                "pipes": 32,
                "trades": trades,
                "rate": "profile:day",
                "speed": arguments.speed,
                "stamp": True,
            }
    rate = int(row.removeprefix("paced"))
    trades = arguments.trades or rate * arguments.seconds
    return ["chain", "route"], {"pipes": 8, "trades": trades, "rate": str(rate), "stamp": True}


def spelled(name: str, value: float) -> str:
    """A median as a person reads it."""
    unit, scale, digits = {
        "million_per_cpu_s": ("M trades/CPU-s", 1.0, 1),
        "million_per_s": ("M trades/s", 1.0, 1),
        "router_busy": ("% busy", 100.0, 0),
        "trades_per_read": ("trades a read", 1.0, 0),
        "server_ns": ("ns server", 1.0, 0),
        "worker_ns": ("ns worker", 1.0, 0),
        "anonymous_kib": ("MB anonymous", 1 / 1024, 1),
        "backlog_bytes": ("MB backlog", 1e-6, 0),
        "spilled_bytes": ("MB spilled", 1e-6, 0),
        "caught_up_after_ns": ("s to catch up", 1e-9, 1),
    }.get(name, (name.removesuffix("_ns"), 1e-3, 0))
    return f"{value * scale:,.{digits}f} {'us ' if name.startswith(('p', 'max')) else ''}{unit}"


NAMES = [
    "million_per_cpu_s", "million_per_s", "router_busy", "trades_per_read", "server_ns", "worker_ns",
    "p50_ns", "p99_ns", "p999_ns", "max_ns", "anonymous_kib", "backlog_bytes", "spilled_bytes", "caught_up_after_ns",
]  # fmt: skip


def tell(row: str, way: str, runs: list[dict[str, Any]]) -> dict[str, float]:
    """Prints one line of a way's runs; the medians."""
    # Of a paced run the rate is what was asked for, and cores wait.
    fixed = ("million", "server", "worker") if row.startswith("paced") else ()
    names = [name for name in NAMES if not name.startswith(fixed)]
    known = {name: [run[name] for run in runs if run.get(name)] for name in names}
    medians = {name: statistics.median(values) for name, values in known.items() if values}
    text = ", ".join(spelled(name, value) for name, value in medians.items())
    rates = known.get("million_per_cpu_s")
    spread = f" ({min(rates):.1f} to {max(rates):.1f})" if rates else ""
    verdict = "proven" if all(run.get("proven") for run in runs) else f"NOT PROVEN: {runs}"
    print(f"{row} {way}: {text.replace('/CPU-s', f'/CPU-s{spread}', 1)}; {len(runs)} runs {verdict}", flush=True)
    return medians


def bench(row: str, arguments: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """All runs of one row, the ways taking turns."""
    build(scratch, row)
    if row == "burst":
        ways = ["burst"]
        runs = [burst(scratch, arguments.trades or 10_006_000) for _ in range(arguments.rounds)]
    else:
        ways, options = ways_of(row, arguments)
        ways = [way for way in ways if arguments.way in (None, way)]
        runs = [measure(way, scratch=scratch, **options) for _ in range(arguments.rounds) for way in ways]
    medians = {way: tell(row, way, [run for run in runs if run["way"] == way]) for way in ways}
    rates = {way: found["million_per_cpu_s"] for way, found in medians.items() if "million_per_cpu_s" in found}
    for other in ("single", "chain"):
        if {"route", other} <= rates.keys():
            print(f"{row}: {rates['route'] / rates[other]:.2f} times {other}", flush=True)
    if row.startswith("paced") and {"route", "chain"} <= medians.keys():
        ours, floor = medians["route"], medians["chain"]
        print(
            f"{row}: " + ", ".join(f"{n} {ours[n] / floor[n]:.2f} times chain" for n in ("p50_ns", "p99_ns")),
            flush=True,
        )
    proven = all(run.get("proven", False) for run in runs)
    return {"row": row, "at": wall_ns() // 1_000_000_000, "proven": proven, "medians": medians, "runs": runs}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="+", choices=ROWS, metavar="ROW")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--trades", type=int)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--way", help="one of the row's ways alone")
    parser.add_argument("--speed", type=int, default=200)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        facts = [bench(row, arguments, Path(folder)) for row in arguments.rows]
    if arguments.out:
        arguments.out.write_text(json.dumps({"cores": os.cpu_count(), "rows": facts}, indent=1) + "\n")
    return 0 if all(fact["proven"] for fact in facts) else 1


if __name__ == "__main__":
    sys.exit(main())

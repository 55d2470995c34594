"""The tape router against its aims: throughput a CPU-second, wall clock, latency beside a bare C chain, a whole day.

    .venv/bin/python bench/tape/run.py ROW [--rounds 5] [--trades N] [--seconds 5] [--out FILE]

ROW: pipes32 pipes8 lanes wall paced2000 paced50000 burst day. The server's threads live in this process; it and the
worker have one core, the router the other (`wall`: all share both). Each run is verified by bench/tape/verify.c, which
is no code of ours: count, bytes, checksum, symbol to pipe and order within a symbol. `pipes32` and `pipes8` alternate
with a mode of one write a trade (`--single-writes`) and with bench/tape/chain.c, which is what the machine gives that
minute; the paced rows with the chain. `lanes` has eight readers
of a log, each a thread that checks what it reads (crates/core/examples/tape_reader.rs). `burst` has two Python workers
that manage 400,000 trades/s each (slow.py) under 1,000,000/s for ten seconds, and tells the router's largest backlog
and how long after the last trade it was caught up. `day` tells the latest delivery (`max_ns`), which is the backlog in
time. Exit 1 where anything is bad. What is started here ends with this process, however that ends.

Router CPU is the scheduler's account in ns over all threads of the router's process, from before the first trade until
the worker has the last; the start of the interpreter is not in it. `router_busy` is that over the time of delivery: far
below 1 the router waited, and a CPU-second says little.
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
LANE_BYTES = 6 << 30
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


def cpu_ns(pid: int) -> int:
    """CPU that a process has used so far; 0 where it is gone."""
    total = 0
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
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
    single = ["--single-writes"] if way == "single" else []
    if way == "lanes":
        # The readers share a core with the server: the memory holds all that they have not read yet.
        single = ["--log", str(scratch / "log"), "--log-bytes", str(LANE_BYTES)]
    ours = os.environ.get("TICKPLANT_ROUTER", f"{sys.executable} -m tickplant").split()
    return [*ours, "route", url, "--pipes", str(pipes), *single, "--", *worker]


def measure(way: str, pipes: int, scratch: Path, *, trades: int, shared: bool = False, **tape: Any) -> dict[str, Any]:
    """One run: a server, a router (`route`, `single` or `chain`), the verifying worker."""
    result = scratch / "result"
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
        (scratch / "router.log").open("wb") as log,
    ):
        command = router_command(way, server.url, server.port, pipes, worker, scratch)
        with contextlib.ExitStack() as stack:
            with pinned(None if shared else ROUTER_CORE):
                router = stack.enter_context(ending(command, stdout=log, stderr=log))
            begun, before, most_kib = monotonic_ns(), 0, 0
            while not result.exists() and router.poll() is None and monotonic_ns() - begun < GIVE_UP_S * 1e9:
                if not any(client.trades for client in server.clients()):
                    # The command line, which the router takes the place of, is in neither.
                    before, most_kib = cpu_ns(router.pid), 0
                most_kib = max(most_kib, anonymous_kib(router.pid))
                with contextlib.suppress(subprocess.TimeoutExpired):
                    router.wait(LOOK_EVERY_S)
            used = cpu_ns(router.pid) - before
            sent = server.clients()[0] if server.clients() else None
    if not result.exists():
        return {"way": way, "failed": (scratch / "router.log").read_text()[-2000:]}
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
        "million_per_cpu_s": trades / used * 1000 if used > 0 else None,
        "million_per_s": trades / told["elapsed_ns"] * 1000,
        "router_cpu_s": used / 1e9,
        "router_busy": used / told["elapsed_ns"],
        "trades_per_read": trades_per_read((scratch / "router.log").read_text(errors="replace")),
        "anonymous_kib": most_kib,
    }


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
        command = router_command("route", server.url, server.port, 2, worker, scratch)
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


def rows(row: str, arguments: argparse.Namespace) -> tuple[list[str], dict[str, Any]]:
    """Which ways alternate, and their options."""
    match row:
        case "pipes32" | "pipes8":
            trades = arguments.trades or 20_000_000
            return ["route", "single", "chain"], {
                "pipes": int(row[5:]),
                "trades": trades,
                "per_frame": 128,
                "rate": "max",
            }
        case "lanes":
            trades = arguments.trades or 10_000_000
            return ["lanes"], {"pipes": 8, "trades": trades, "per_frame": 128, "rate": "max"}
        case "wall":
            trades = arguments.trades or 50_000_000
            return ["route"], {"pipes": 32, "trades": trades, "per_frame": 128, "rate": "max", "shared": True}
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("row", choices=ROWS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--trades", type=int)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--way", help="one of the row's ways alone")
    parser.add_argument("--speed", type=int, default=200)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    ways, options = ([], {}) if arguments.row == "burst" else rows(arguments.row, arguments)
    ways = [way for way in ways if arguments.way in (None, way)]
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder), arguments.row)
        for _ in range(arguments.rounds if arguments.row == "burst" else 0):
            runs.append(burst(Path(folder), arguments.trades or 10_006_000))
            ways = ["burst"]
        for _ in range(arguments.rounds if arguments.row != "burst" else 0):
            runs += [measure(way, scratch=Path(folder), **options) for way in ways]
    names = [
        "million_per_cpu_s",
        "million_per_s",
        "router_busy",
        "trades_per_read",
        "p50_ns",
        "p99_ns",
        "p999_ns",
        "max_ns",
        "anonymous_kib",
    ]
    names += ["backlog_bytes", "spilled_bytes", "caught_up_after_ns"]
    medians = {
        way: {
            name: statistics.median(run[name] or 0 for run in runs if run["way"] == way and name in run)
            for name in names
            if any(run["way"] == way and name in run for run in runs)
        }
        for way in ways
    }
    proven = all(run.get("proven", False) for run in runs)
    facts = {"row": arguments.row, "at": wall_ns() // 1_000_000_000, "cores": os.cpu_count(), "proven": proven}
    text = json.dumps(facts | {"medians": medians, "runs": runs}, indent=1)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n")
    return 0 if proven else 1


if __name__ == "__main__":
    sys.exit(main())

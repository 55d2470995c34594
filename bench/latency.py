"""Wire to readable-in-another-process latency, against a bare C chain with the same hops and no work.

    .venv/bin/python bench/latency.py [--seconds 10] [--rounds 3] [--rates 1000,5000,20000] [--trades 1] [--out FILE]

Both chains get the same open-loop sender; each message carries the time at which it was due, so a message that had to
wait for a late one counts its wait. Rounds alternate (floor, ours, floor, ours, ...); the table gives medians.

With `--priority realtime` both get it: our loop by `plant.priority`, and the floor's middle, which does its work.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from result import tell

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "target" / "release" / "examples"
SILENT: Final = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
QUANTILES = ("p50", "p99", "p999", "max")


def build(scratch: Path) -> Path:
    subprocess.run(
        [
            "cargo",
            "build",
            "-q",
            "--release",
            "-p",
            "tickplant-core",
            "--example",
            "timed_sender",
            "--example",
            "latency_reader",
        ],
        cwd=ROOT,
        check=True,
    )
    floor = scratch / "floor"
    subprocess.run(["cc", "-O2", "-o", floor, ROOT / "bench" / "floor.c"], check=True)
    return floor


def sender(rate: int, seconds: int, trades: int, *flags: str) -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen(
        [EXAMPLES / "timed_sender", str(rate), str(seconds), str(trades), *flags], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def prefer(process: int, priority: str) -> None:
    """What `plant.priority` does to a loop, done to a process of one thread."""
    if priority == "high":
        os.setpriority(os.PRIO_PROCESS, process, -10)
    elif priority == "realtime":
        os.sched_setscheduler(process, os.SCHED_FIFO, os.sched_param(1))


def measure_floor(floor: Path, scratch: Path, rate: int, seconds: int, priority: str) -> list[int]:
    shared = scratch / "shared"
    shared.unlink(missing_ok=True)
    feed, port = sender(rate, seconds, 1)
    reader = subprocess.Popen([floor, "reader", shared, str(rate)], stdout=subprocess.PIPE, text=True)
    middle = subprocess.Popen([floor, "middle", str(port), shared])
    prefer(middle.pid, priority)
    output, _ = reader.communicate(timeout=seconds + 30)
    for process in (feed, middle):
        process.wait(timeout=10)
    return [int(number) for number in output.split()]


def measure_ours(scratch: Path, rate: int, seconds: int, trades: int, priority: str) -> tuple[list[int], float]:
    """The quantiles, and the plant's CPU seconds over the run."""
    with tempfile.TemporaryDirectory(dir=scratch) as log:
        feed, port = sender(rate, seconds, trades, "--kraken")
        environment = os.environ | {
            "EXCHANGE": "kraken",
            "SYMBOLS": "BTC/USD",
            "WS_ENDPOINT": f"ws://127.0.0.1:{port}",
            "TICKPLANT_VENUE_KRAKEN_STREAMS": "trades",
            "TICKPLANT_LOG_PATH": log,
            "TICKPLANT_METRICS_PORT": "0",
            "TICKPLANT_PLANT_PRIORITY": priority,
        }
        plant = subprocess.Popen([ROOT / ".venv" / "bin" / "tickplant", "run"], env=environment, **SILENT)
        reader = subprocess.Popen(
            [EXAMPLES / "latency_reader", log, "kraken", str(rate * trades)], stdout=subprocess.PIPE, text=True
        )
        feed.wait(timeout=seconds + 60)
        cpu = sum(float(part) for part in Path(f"/proc/{plant.pid}/stat").read_text().split()[13:15]) / os.sysconf(
            "SC_CLK_TCK"
        )
        plant.terminate()
        plant.wait(timeout=20)
        output, _ = reader.communicate(timeout=30)
        return [int(number) for number in output.split()], cpu


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rates", default="1000,5000,20000")
    parser.add_argument("--trades", type=int, default=1, help="trades a message, ours only")
    parser.add_argument("--priority", choices=("normal", "high", "realtime"), default="normal")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows = []
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        floor = build(scratch)
        for rate in map(int, arguments.rates.split(",")):
            floors, ours, cpus = [], [], []
            for _ in range(arguments.rounds):
                floors.append(measure_floor(floor, Path("/dev/shm"), rate, arguments.seconds, arguments.priority)[1:])
                took, cpu = measure_ours(scratch, rate, arguments.seconds, arguments.trades, arguments.priority)
                ours.append(took[1:])
                cpus.append(cpu)
            row: dict[str, object] = {
                "messages_per_s": rate,
                "trades_per_message": arguments.trades,
                "priority": arguments.priority,
            }
            for at, name in enumerate(QUANTILES):
                base, mine = (statistics.median(run[at] for run in runs) for runs in (floors, ours))
                row |= {
                    f"floor_{name}_us": base / 1000,
                    f"ours_{name}_us": mine / 1000,
                    f"ratio_{name}": round(mine / base, 2),
                }
            row["plant_cpu_s"] = statistics.median(cpus)
            rows.append(row)
            tell(row, None)
    if arguments.out:
        arguments.out.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())

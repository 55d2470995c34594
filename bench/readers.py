"""What readers cost the writer: receive-to-committed time of a plant with 0, 1 and 16 readers, and 16 with one stopped.

    .venv/bin/python bench/readers.py [--rate 20000] [--seconds 5] [--rounds 3] [--priorities normal,realtime]

The plant takes the timed sender's trades; each reader is a process that follows the lane and is woken for each commit.
The plant's own p99 is asked from it at the end of each run; medians over alternated rounds. `wait_us` is how long the
loop's thread stood ready and had no core, for each message, and `taken` how often a core was taken from it (switches
that it did not ask for, of 1000), by the scheduler's account of the run's second half.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from result import tell

from tickplant.errors import TickplantError
from tickplant.plant.control import send_command

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "target" / "release" / "examples"
CASES = {"no reader": (0, False), "1 reader": (1, False), "16 readers": (16, False), "16, one stopped": (16, True)}
SWITCHES = ("voluntary", "nonvoluntary")


class Scheduled(NamedTuple):
    """What the scheduler says of a plant's loop."""

    waited_ns: int
    switches: int
    taken: int
    """Of the switches: those that the thread did not ask for."""


def scheduled(plant: int) -> Scheduled:
    for task in Path(f"/proc/{plant}/task").iterdir():
        if (task / "comm").read_text().strip() == "tickplant-loop":
            status = (task / "status").read_text()
            own, taken = (int(re.findall(rf"^{kind}_ctxt_switches:\s+(\d+)", status, re.M)[0]) for kind in SWITCHES)
            return Scheduled(int((task / "schedstat").read_text().split()[1]), own + taken, taken)
    raise LookupError("the plant has no loop")


def lane_of(log: str) -> dict[str, Any]:
    """The account of the plant's loop; empty where there is no plant yet."""
    try:
        lane: dict[str, Any] = send_command(Path(log) / "plant.sock", {"do": "summary"})["lanes"]["kraken"]
    except TickplantError:
        return {}
    return lane


def measure(rate: int, seconds: int, readers: int, stop_one: bool, priority: str) -> dict[str, float]:
    """Receive to committed, in ns, over one run, and what the loop waited for a core."""
    with tempfile.TemporaryDirectory() as log:
        feed = subprocess.Popen(
            [EXAMPLES / "timed_sender", str(rate), str(seconds), "1", "--kraken"], stdout=subprocess.PIPE, text=True
        )
        assert feed.stdout is not None
        environment = os.environ | {
            "EXCHANGE": "kraken",
            "SYMBOLS": "BTC/USD",
            "WS_ENDPOINT": f"ws://127.0.0.1:{int(feed.stdout.readline())}",
            "TICKPLANT_VENUE_KRAKEN_STREAMS": "trades",
            "TICKPLANT_LOG_PATH": log,
            "TICKPLANT_METRICS_PORT": "0",
            "TICKPLANT_PLANT_PRIORITY": priority,
        }
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        following = [
            subprocess.Popen([EXAMPLES / "latency_reader", log, "kraken", "0"], **silent) for _ in range(readers)
        ]
        plant = subprocess.Popen([ROOT / ".venv" / "bin" / "tickplant", "run"], env=environment, **silent)
        try:
            while not lane_of(log).get("frames"):
                time.sleep(0.05)
            time.sleep(seconds / 2)
            if stop_one:
                following[0].send_signal(signal.SIGSTOP)
            frames, before = lane_of(log)["frames"], scheduled(plant.pid)
            feed.wait(timeout=seconds + 60)
            after = scheduled(plant.pid)
            lane = lane_of(log)
        finally:
            if stop_one:
                following[0].send_signal(signal.SIGCONT)
            plant.terminate()
            plant.wait(timeout=20)
            for reader in following:
                reader.wait(timeout=20)
    taken = {f"{name}_us": lane[f"latency_{name}_ns"] / 1000 for name in ("p50", "p99", "p999")}
    switches = max(1, after.switches - before.switches)
    return taken | {
        "wait_us": round((after.waited_ns - before.waited_ns) / 1000 / max(1, lane["frames"] - frames), 2),
        "taken": round(1000 * (after.taken - before.taken) / switches),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=20_000)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--priorities", default="normal,realtime", help="of the plant's loop (`plant.priority`)")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    examples = ["--example", "timed_sender", "--example", "latency_reader"]
    subprocess.run(["cargo", "build", "-q", "--release", "-p", "tickplant-core", *examples], cwd=ROOT, check=True)
    cases = [(case, priority) for case in CASES for priority in arguments.priorities.split(",")]
    runs: dict[tuple[str, str], list[dict[str, float]]] = {case: [] for case in cases}
    for _ in range(arguments.rounds):
        for case, priority in cases:
            runs[case, priority].append(measure(arguments.rate, arguments.seconds, *CASES[case], priority))
    rows = [
        {"readers": case, "priority": priority}
        | {name: statistics.median(run[name] for run in found) for name in found[0]}
        for (case, priority), found in runs.items()
    ]
    tell(rows, arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())

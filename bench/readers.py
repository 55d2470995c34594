"""What readers cost the writer: receive-to-committed time of a plant with 0, 1 and 16 readers, and 16 with one stopped.

    .venv/bin/python bench/readers.py [--rate 20000] [--seconds 5] [--rounds 3] [--out FILE]

The plant takes the timed sender's trades; each reader is a process that follows the lane and is woken for each commit.
The plant's own p99 is asked from it at the end of each run; medians over alternated rounds.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from result import tell

from tickplant.plant.control import send_command

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "target" / "release" / "examples"
CASES = {"no reader": (0, False), "1 reader": (1, False), "16 readers": (16, False), "16, one stopped": (16, True)}


def measure(rate: int, seconds: int, readers: int, stop_one: bool) -> dict[str, int]:
    """Receive to committed, in ns, over one run."""
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
        }
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        following = [
            subprocess.Popen([EXAMPLES / "latency_reader", log, "kraken", "0"], **silent) for _ in range(readers)
        ]
        plant = subprocess.Popen([ROOT / ".venv" / "bin" / "tickplant", "run"], env=environment, **silent)
        try:
            time.sleep(seconds / 2)
            if stop_one:
                following[0].send_signal(signal.SIGSTOP)
            feed.wait(timeout=seconds + 60)
            lane = send_command(Path(log) / "plant.sock", {"do": "summary"})["lanes"]["kraken"]
        finally:
            if stop_one:
                following[0].send_signal(signal.SIGCONT)
            plant.terminate()
            plant.wait(timeout=20)
            for reader in following:
                reader.wait(timeout=20)
    return {name: lane[f"latency_{name}_ns"] for name in ("p50", "p99", "p999")}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=20_000)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    examples = ["--example", "timed_sender", "--example", "latency_reader"]
    subprocess.run(["cargo", "build", "-q", "--release", "-p", "tickplant-core", *examples], cwd=ROOT, check=True)
    runs: dict[str, list[dict[str, int]]] = {case: [] for case in CASES}
    for _ in range(arguments.rounds):
        for case, (readers, stop_one) in CASES.items():
            runs[case].append(measure(arguments.rate, arguments.seconds, readers, stop_one))
    rows = [
        {"readers": case}
        | {f"{name}_us": statistics.median(run[name] for run in found) / 1000 for name in ("p50", "p99", "p999")}
        for case, found in runs.items()
    ]
    tell(rows, arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())

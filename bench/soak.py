"""A plant against the simulated venues for a while: failed proofs, memory, CPU.

    .venv/bin/python bench/soak.py --minutes 10 --instruments 50 --rate 400 [--venues kraken,binance] [--out FILE]

Samples the plant process every two seconds: anonymous memory (RssAnon) and mapped pages apart, CPU time, descriptors.
The slope is a least-squares line over the last half. Exit 1 where a proof failed or a book is not LIVE at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from result import tell

from tickplant.plant.control import send_command

ROOT = Path(__file__).resolve().parent.parent
SAMPLE_S = 2.0


def environment(facts: dict[str, Any], log: str) -> dict[str, str]:
    """The settings of a plant for these simulated venues, as variables."""
    variables = {"TICKPLANT_LOG_PATH": log, "TICKPLANT_METRICS_PORT": "0"}
    for name, venue in facts["venues"].items():
        prefix = f"TICKPLANT_VENUE_{name.upper()}"
        variables |= {
            f"{prefix}_URL": venue["websocket"],
            f"{prefix}_REST_URL": venue["http"],
            f"{prefix}_INSTRUMENTS": ",".join(venue["symbols"]),
        }
    return variables


def sample(pid: int) -> dict[str, float]:
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    ticks = sum(int(part) for part in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13])
    return {
        "t": time.monotonic(),
        "anon_kb": int(status["RssAnon"].split()[0]),
        "mapped_kb": int(status["RssFile"].split()[0]) + int(status["RssShmem"].split()[0]),
        "cpu_s": ticks / os.sysconf("SC_CLK_TCK"),
        "descriptors": len(list(Path(f"/proc/{pid}/fd").iterdir())),
    }


def slope_per_hour(points: list[tuple[float, float]]) -> float:
    count = len(points)
    mean_x, mean_y = (sum(axis) / count for axis in zip(*points, strict=True))
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread * 3600 if spread else 0.0


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    simulator = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tickplant.sim",
            "--seed",
            str(arguments.seed),
            "--venues",
            arguments.venues,
            "--instruments",
            str(arguments.instruments),
            "--rate",
            str(arguments.rate),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert simulator.stdout is not None
    facts = json.loads(simulator.stdout.readline())
    with tempfile.TemporaryDirectory() as log:
        plant = subprocess.Popen(
            [ROOT / ".venv" / "bin" / "tickplant", "run"],
            env=os.environ | environment(facts, log),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        samples: list[dict[str, float]] = []
        try:
            end = time.monotonic() + arguments.minutes * 60
            while time.monotonic() < end:
                time.sleep(SAMPLE_S)
                samples.append(sample(plant.pid))
            summary = send_command(Path(log) / "plant.sock", {"do": "summary"})
        finally:
            plant.send_signal(signal.SIGTERM)
            stopping = time.monotonic()
            exit_code = plant.wait(timeout=30)
            stop_s = time.monotonic() - stopping
            simulator.terminate()
            simulator.wait(timeout=30)
    return account(arguments, samples, summary, exit_code, stop_s)


def account(
    arguments: argparse.Namespace,
    samples: list[dict[str, float]],
    summary: dict[str, Any],
    exit_code: int,
    stop_s: float,
) -> dict[str, Any]:
    half = samples[len(samples) // 2 :]
    rows = summary["instruments"]
    total = {
        key: sum(row[key] for row in rows)
        for key in ("messages", "records", "checksums_passed", "checksums_failed", "gaps", "resyncs")
    }
    wall = samples[-1]["t"] - samples[0]["t"]
    return {
        "minutes": arguments.minutes,
        "venues": arguments.venues,
        "instruments": len(rows),
        "orders_per_s_per_venue": arguments.rate,
        **total,
        "not_live": [row["instrument"] for row in rows if row["state"] != "LIVE"],
        "anon_mb_end": round(samples[-1]["anon_kb"] / 1024, 1),
        "anon_mb_most": round(max(s["anon_kb"] for s in samples) / 1024, 1),
        "anon_slope_mb_per_h_last_half": round(slope_per_hour([(s["t"], s["anon_kb"] / 1024) for s in half]), 3),
        "mapped_mb_end": round(samples[-1]["mapped_kb"] / 1024, 1),
        "descriptors_end": samples[-1]["descriptors"],
        "cpu_share": round((samples[-1]["cpu_s"] - samples[0]["cpu_s"]) / wall, 4),
        "latency_p99_us": {
            lane: report["latency_p99_ns"] / 1000
            for lane, report in summary["lanes"].items()
            if report["latency_p99_ns"]
        },
        "exit_code": exit_code,
        "stop_s": round(stop_s, 2),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--instruments", type=int, default=13, help="of each venue")
    parser.add_argument("--venues", default="kraken,binance,binance_usdm,coinbase")
    parser.add_argument("--rate", type=int, default=200, help="orders a second of each venue; 1 is a plant at rest")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    result = run(arguments)
    tell(result, arguments.out)
    return 1 if result["checksums_failed"] or result["not_live"] or result["exit_code"] else 0


if __name__ == "__main__":
    sys.exit(main())

"""One plant against the load server: pre-rendered Kraken frames over many connections, a loop and a lane for each.

    .venv/bin/python bench/throughput.py [--rate 100000] [--seconds 60] [--loops 12] [--instruments 60] [--out FILE]

`lag_ms` is, every half second, the receive time of the newest record less the moment that its message was due; the last
one is taken once the load has ended. Exit 1 where a proof failed, a message is missing or the lag stays.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from result import tell

from tickplant import Plant, config
from tickplant.clock import monotonic_ns, sleep, wall_ns
from tickplant.records import F_SNAPSHOT, UNDEF_U64

ROOT = Path(__file__).resolve().parent.parent


async def live(plant: Plant, count: int) -> None:
    while True:
        rows = (await plant.summary())["instruments"]
        if sum(row["state"] == "LIVE" for row in rows) >= count:
            return
        await sleep(0.1)


def newest_lag_ms(plant: Plant) -> float | None:
    """How far behind its due time the newest level of any lane was received."""
    lags = []
    position = plant.log.position()
    start = {lane: max(end - 200, 0) for lane, end in position.items()}
    for batch in plant.log.records(schema="levels", start=start):
        newest = batch.to_numpy()[-1]
        # A snapshot's time is that of its market, not of its sending.
        if newest["ts_event"] != UNDEF_U64 and not newest["flags"] & F_SNAPSHOT:
            lags.append((int(newest["ts_recv"]) - int(newest["ts_event"])) / 1e6)
    return max(lags) if lags else None


def start_load(arguments: argparse.Namespace) -> subprocess.Popen[str]:
    load = [sys.executable, ROOT / "bench" / "blaster.py", "--rate", str(arguments.rate)]
    load += ["--seconds", str(arguments.seconds), "--connections", str(arguments.connections)]
    load += ["--instruments", str(arguments.instruments)]
    return subprocess.Popen(load, stdout=subprocess.PIPE, text=True)


async def run(arguments: argparse.Namespace) -> dict[str, Any]:
    blaster = start_load(arguments)
    assert blaster.stdout is not None
    facts = json.loads(await asyncio.to_thread(blaster.stdout.readline))
    with tempfile.TemporaryDirectory() as log:
        flags = {
            "log.path": log,
            "venue.kraken.url": facts["websocket"],
            "venue.kraken.instruments": facts["symbols"],
            "venue.kraken.streams": ["book"],
            "venue.kraken.loops": arguments.loops,
        }
        async with Plant(config.load(flags=flags)) as plant:
            begun, cpu = monotonic_ns(), resource.getrusage(resource.RUSAGE_SELF)
            report = asyncio.create_task(asyncio.to_thread(blaster.stdout.readline))
            lags = []
            while not report.done():
                await sleep(0.5)
                lag = newest_lag_ms(plant)
                if lag is not None:
                    lags.append(lag)
            await live(plant, len(facts["symbols"]))
            used = resource.getrusage(resource.RUSAGE_SELF)
            elapsed = (monotonic_ns() - begun) / 1e9
            summary = await plant.summary()
    blaster.terminate()
    blaster.wait(timeout=30)
    sent = json.loads(await report)
    rows = summary["instruments"]
    lanes = summary["lanes"].values()
    return {
        "at": wall_ns() // 1_000_000_000,
        "sent": {name: value for name, value in sent.items() if not isinstance(value, dict)},
        "connections": len(summary["lanes"]),
        "checksums_passed": sum(row["checksums_passed"] for row in rows),
        "checksums_failed": sum(row["checksums_failed"] for row in rows),
        "gaps": sum(row["gaps"] for row in rows),
        "resyncs": sum(row["resyncs"] for row in rows),
        "not_live": sum(row["state"] != "LIVE" for row in rows),
        "records": sum(lane["records"] for lane in lanes),
        "lag_ms_median": statistics.median(lags) if lags else None,
        "lag_ms_most": max(lags, default=None),
        "lag_ms_last": lags[-1] if lags else None,
        "commit_p99_us_worst_lane": max(lane["latency_p99_ns"] or 0 for lane in lanes) / 1000,
        "plant_cpu_s": used.ru_utime + used.ru_stime - cpu.ru_utime - cpu.ru_stime,
        "elapsed_s": elapsed,
        "cores": os.cpu_count(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=100_000)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--connections", type=int, default=12, help="loops that get an instrument by their hash")
    parser.add_argument("--loops", type=int, default=12)
    parser.add_argument("--instruments", type=int, default=60)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    result = asyncio.run(run(arguments))
    tell(result, arguments.out)
    return 1 if result["checksums_failed"] or result["gaps"] or result["not_live"] else 0


if __name__ == "__main__":
    sys.exit(main())

"""How fast records reach Python: as NumPy views in another process, and as objects.

    python bench/delivery.py [--records N] [--out FILE]

A log of N trades is written in turns of 100 records; then each reader runs in a process of its own over the whole of
it, three times, and the best time counts (the machine's other work only ever adds). "views" reads batches of 10,000
records as they stand in the log; "gathered" reads turns of 100, which the reader gathers; objects come from
turns of 1000.
Beside each rate stands that by the process's own processor time, which others on the machine do not lower.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from result import tell

import tickplant as tp
from tickplant.records import dtype

TURN, OBJECTS, VIEW = 100, 1000, 10_000


def write(path: Path, lane: str, count: int, turn: int) -> None:
    rows = np.zeros(turn, dtype("trades"))
    rows["instrument_id"] = np.arange(turn) % 50 + 1
    rows["price"] = np.arange(turn) + 1
    rows["action"], rows["side"] = tp.Action.TRADE, tp.Side.BID
    options = {"hot_root": path / "hot", "hot_bytes_max": 4 << 30, "segment_bytes": 64 << 20, "sync": "none"}
    with tp.LaneWriter(path / "log", lane, **options) as writer:
        for start in range(0, count, turn):
            rows["sequence"] = np.arange(start, start + turn)
            writer.append(tp.Batch("trades", rows), ts_recv=start + 1)
            writer.commit(start + 1)


def read_numpy(path: str, lane: str) -> int:
    """Each batch's sequences summed, so that every line is touched; gives how many records there were."""
    records = tp.Log.open(path).records(schema="trades", lanes=[lane])
    count, total = 0, 0
    for batch in records:
        array = batch.to_numpy()
        count += len(array)
        total += int(array["sequence"].sum())
    assert total == count * (count - 1) // 2
    return count


def read_objects(path: str, lane: str) -> int:
    """One attribute of each object read; gives how many there were."""
    records = tp.Log.open(path).records(schema="trades", lanes=[lane])
    count, total = 0, 0
    for batch in records:
        for trade in batch:
            total += trade.price
        count += len(batch)
    assert total > 0
    return count


READERS = {"numpy": read_numpy, "objects": read_objects}


def in_a_process(name: str, reader: str, path: str, lane: str) -> dict[str, int]:
    command = [sys.executable, __file__, "--reader", reader, path, lane]
    runs = [[float(rate) for rate in subprocess.check_output(command, text=True).split()] for _ in range(3)]
    by_clock, by_processor = (round(max(rates)) for rates in zip(*runs, strict=True))
    return {f"{name}_per_second": by_clock, f"{name}_per_cpu_second": by_processor}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=5_000_000)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--reader", nargs=3, metavar=("READER", "PATH", "LANE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.reader:
        reader, path, lane = arguments.reader
        began, began_cpu = time.perf_counter(), time.process_time()
        count = READERS[reader](path, lane)
        print(count / (time.perf_counter() - began), count / (time.process_time() - began_cpu))
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        path, count = Path(name), arguments.records // VIEW * VIEW
        write(path, "turns", count, TURN)
        write(path, "thousands", count, OBJECTS)
        write(path, "views", count, VIEW)
        log = str(path / "log")
        rates = {
            "records": count,
            **in_a_process("numpy_views", "numpy", log, "views"),
            **in_a_process("numpy_gathered", "numpy", log, "turns"),
            **in_a_process("objects", "objects", log, "thousands"),
        }
    tell(rates, arguments.out)


if __name__ == "__main__":
    main()

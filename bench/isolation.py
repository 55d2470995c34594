"""A venue that floods, hangs or lies beside one that is well: what it costs the other one's latency.

    .venv/bin/python bench/isolation.py [--seconds 5] [--rounds 3] [--rate 1000] [--out FILE]

The victim is a Kraken feed at a steady rate, measured from when a message was due to when another process has read it,
as in `latency.py`. Beside it, in the same plant, stands a Coinbase that misbehaves; the comparison is the same victim
beside pure CPU burners, as many as the flood keeps busy (its sender and the loop that it hits). Rounds alternate; the
table gives medians. Aim: the victim's p99 under flood at most twice that beside the burners.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import json
import multiprocessing
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from blaster import frame
from latency import EXAMPLES, QUANTILES, ROOT, build, sender
from result import tell

BURNERS = 2
MODES = ("burners", "flood", "hang", "lie")
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_LISTING = '{"type":"subscriptions","channels":[{"name":"level2_50","product_ids":["BTC-USD"],"account_ids":null}]}'
_SNAPSHOT = (
    '{"type":"snapshot","product_id":"BTC-USD","asks":[["101.00","1"]],"bids":[["100.00","1"]],'
    '"time":"2026-11-21T09:30:00.000000Z"}'
)
_FRAMES_A_WRITE = 2000


def update(number: int, size: str) -> str:
    """An update that moves one level; a size that is no number is a lie."""
    return (
        f'{{"type":"l2update","product_id":"BTC-USD","changes":[["buy","100.00","{size}"]],'
        f'"time":"2026-11-21T09:30:{number % 60:02}.000000Z"}}'
    )


def misbehave(mode: str, listener: socket.socket) -> None:
    """Serves whoever comes, each on a thread, until the process is ended."""
    while True:
        client, _ = listener.accept()
        threading.Thread(target=serve, args=(mode, client), daemon=True).start()


def serve(mode: str, client: socket.socket) -> None:
    sizes = ("x", "-") if mode == "lie" else ("1", "2")
    much = b"".join(frame(update(n, sizes[n % 2]).encode()) for n in range(_FRAMES_A_WRITE))
    with contextlib.suppress(OSError), client:
        head = client.recv(1 << 16)
        if mode == "hang":
            while client.recv(1 << 16):
                pass
            return
        key = re.search(rb"(?i)sec-websocket-key: *(\S+)", head)
        if key is None:
            # REST has nothing to say either.
            client.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return
        accept = base64.b64encode(hashlib.sha1(key[1] + _GUID).digest())
        upgrade = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        client.sendall(upgrade + b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")
        client.recv(1 << 16)
        client.sendall(frame(_LISTING.encode()) + frame(_SNAPSHOT.encode()))
        while True:
            client.sendall(much)


def burn() -> None:
    """A thread's worth of nothing."""
    while True:
        pass


@contextlib.contextmanager
def neighbour(mode: str) -> Iterator[dict[str, str]]:
    """What stands beside the victim, and the settings that lead the plant to it."""
    with contextlib.ExitStack() as stack:
        variables: dict[str, str] = {}
        if mode == "burners":
            work = [multiprocessing.Process(target=burn, daemon=True) for _ in range(BURNERS)]
        else:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            door = f"127.0.0.1:{listener.getsockname()[1]}"
            variables = {
                "TICKPLANT_VENUE_COINBASE_URL": f"ws://{door}",
                "TICKPLANT_VENUE_COINBASE_REST_URL": f"http://{door}",
                "TICKPLANT_VENUE_COINBASE_INSTRUMENTS": "BTC-USD",
                "TICKPLANT_VENUE_COINBASE_STREAMS": "book",
            }
            work = [multiprocessing.Process(target=misbehave, args=(mode, listener), daemon=True)]
        for process in work:
            process.start()
        try:
            yield variables
        finally:
            for process in work:
                process.kill()
                process.join()


def measure(mode: str, rate: int, seconds: int) -> tuple[list[int], int]:
    """The victim's quantiles in ns, and how many messages the neighbour's book took."""
    with tempfile.TemporaryDirectory() as log, neighbour(mode) as variables:
        feed, port = sender(rate, seconds, 1, "--kraken")
        environment = (
            os.environ
            | variables
            | {
                "TICKPLANT_VENUE_KRAKEN_URL": f"ws://127.0.0.1:{port}",
                "TICKPLANT_VENUE_KRAKEN_INSTRUMENTS": "BTC/USD",
                "TICKPLANT_VENUE_KRAKEN_STREAMS": "trades",
                "TICKPLANT_LOG_PATH": log,
                "TICKPLANT_METRICS_PORT": "0",
            }
        )
        plant = subprocess.Popen(
            [ROOT / ".venv" / "bin" / "tickplant", "run", "--json"],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        reader = subprocess.Popen(
            [EXAMPLES / "latency_reader", log, "kraken", str(rate)], stdout=subprocess.PIPE, text=True
        )
        feed.wait(timeout=seconds + 60)
        plant.terminate()
        summary, _ = plant.communicate(timeout=60)
        output, _ = reader.communicate(timeout=30)
    rows = {row["instrument"]: row for row in json.loads(summary)["instruments"]}
    taken = rows.get("BTC-USD.COINBASE", {"messages": 0})["messages"]
    return [int(number) for number in output.split()][1:], taken


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=int, default=1000, help="of the victim, messages a second")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        build(Path(scratch))
    runs: dict[str, list[list[int]]] = {mode: [] for mode in MODES}
    taken = dict.fromkeys(MODES, 0)
    for _ in range(arguments.rounds):
        for mode in MODES:
            quantiles, messages = measure(mode, arguments.rate, arguments.seconds)
            runs[mode].append(quantiles)
            taken[mode] += messages
    rows: list[dict[str, object]] = []
    for mode in MODES:
        row: dict[str, object] = {"beside": mode, "neighbours_messages": taken[mode]}
        for at, name in enumerate(QUANTILES):
            base, mine = (statistics.median(run[at] for run in runs[which]) for which in ("burners", mode))
            row |= {f"{name}_us": mine / 1000, f"ratio_{name}": round(mine / base, 2)}
        rows.append(row)
    tell({"victims_messages_per_s": arguments.rate, "cores": os.cpu_count(), "rows": rows}, arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Workers are killed at random moments: nothing is lost, and what comes twice lies in the range that was told."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from tests.conftest import WITHIN_S, until
from tests.tape.route.routing import alive

from tickplant.tape.serve import TapeServer

TRADES, PIPES, KILLS = 120_000, 4, 6
# It acts on a message (a line in its file, unbuffered) before it reads the next one. The first line tells its place.
WORKER = """
import os, sys
folder, fd = sys.argv[1], int(sys.argv[2])
again = os.environ.get("TICKPLANT_REDELIVERED", "0")
out = os.open(f"{folder}/{os.getpid()}.new", os.O_CREAT | os.O_WRONLY)
os.write(out, (os.environ.get("TICKPLANT_RESTARTS", "0") + " " + again + "\\n").encode())
os.rename(f"{folder}/{os.getpid()}.new", f"{folder}/{os.getpid()}")
def take(count):
    data = b""
    while len(data) < count:
        piece = os.read(fd, count - len(data))
        if not piece:
            sys.exit(0)
        data += piece
    return data
while True:
    body = take(int.from_bytes(take(4), "little"))
    os.write(out, body + b"\\n")
"""

# It reads ahead: much is in its hands when it is killed.
AHEAD = (
    WORKER.partition("def take")[0]
    + """
from tickplant.tape import worker
for _, found in worker.messages([fd]):
    for body in found:
        os.write(out, body + b"\\n")
"""
)


class Run:
    """One worker process: which restart it was, how many messages it was told may come twice, and what it acted on."""

    def __init__(self, file: Path) -> None:
        head, *lines = file.read_bytes().decode().split("\n")
        self.restarts, self.again = map(int, head.split())
        # A kill may cut the last line off; it was not acted on whole then.
        self.messages = [json.loads(line) for line in lines[:-1]]


def route(url: str, folder: Path, *options: str, worker: str = WORKER) -> subprocess.Popen[str]:
    start = [sys.executable, "-m", "tickplant", "route", url, "--pipes", str(PIPES), "--spawn", "each", "--json"]
    start += ["--once", "--grace-ms", "60000", "--pipe-bytes", "65536", *options]
    return subprocess.Popen(
        [*start, "--", sys.executable, "-c", worker, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def begun(folder: Path) -> list[Path]:
    """The files of workers that have told their place."""
    return [file for file in folder.iterdir() if file.name.isdigit()]


def kill_some(router: subprocess.Popen[str], folder: Path, kills: int, chance: random.Random) -> None:
    """Kills a worker whenever a random number of further messages was acted on."""

    def acted() -> int:
        return sum(file.stat().st_size for file in begun(folder))

    for _ in range(kills):
        more = acted() + chance.randrange(100, TRADES * 110 // (2 * KILLS))
        until(lambda more=more: acted() > more or router.poll() is not None)
        living = [int(file.name) for file in begun(folder) if alive(int(file.name))]
        if len(living) > 1:
            os.kill(chance.choice(living), signal.SIGKILL)


def account(output: str) -> dict:
    return json.loads(output.splitlines()[-1])


@pytest.mark.parametrize(("seed", "ahead"), [(0, False), (1, False), (2, True)])
def test_a_killed_worker_is_started_anew_and_nothing_is_lost(tmp_path, seed, ahead):
    options = () if ahead else ("--redeliver-bytes", "0")
    with TapeServer(symbols=300, trades=TRADES, no_handshake=True, close=True) as server:
        router = route(server.url, tmp_path, *options, worker=AHEAD if ahead else WORKER)
        kill_some(router, tmp_path, KILLS, random.Random(seed))
        output, said = router.communicate(timeout=120)
    assert router.returncode == 0, said
    runs = [Run(file) for file in begun(tmp_path)]
    assert sum(run.restarts > 0 for run in runs) == len(runs) - PIPES > 0, said
    seen: set[int] = set()
    twice = 0
    for run in sorted(runs, key=lambda run: run.restarts):
        for place, message in enumerate(run.messages):
            if message["q"] in seen:
                twice += 1
                assert place < run.again, f"message {place} of a run that was told of {run.again}"
            seen.add(message["q"])
        last: dict[str, int] = {}
        for message in run.messages:
            assert message["q"] > last.get(message["sym"], -1)
            last[message["sym"]] = message["q"]
    assert len(seen) == TRADES
    # Only the message that a worker had in hand comes twice, where it has no more in hand.
    assert ahead or twice <= len(runs) - PIPES
    report = account(output)
    assert sum(pipe["messages"] for pipe in report["pipes"]) == report["trades"] == TRADES
    assert sum(pipe["restarts"] for pipe in report["pipes"]) == len(runs) - PIPES
    assert sum(pipe["redelivered"] for pipe in report["pipes"]) == sum(run.again for run in runs)
    assert "runs anew (restart 1)" in said
    assert "lost" not in said


@pytest.mark.parametrize("seed", range(2))
def test_the_symbols_of_a_killed_worker_fail_over_and_nothing_is_lost(tmp_path, seed):
    with TapeServer(symbols=300, trades=TRADES, no_handshake=True, close=True) as server:
        router = route(server.url, tmp_path, "--on-death", "fail-over", "--marks")
        kill_some(router, tmp_path, PIPES - 2, random.Random(seed))
        output, said = router.communicate(timeout=120)
    assert router.returncode == 0, said
    runs = [Run(file) for file in begun(tmp_path)]
    assert len(runs) == PIPES
    count: Counter[int] = Counter()
    marked: set[int] = set()
    told = 0
    for run in runs:
        left = 0
        last: dict[str, int] = {}
        for message in run.messages:
            if message["ev"] == "redelivered":
                left += message["messages"]
                told += message["messages"]
                continue
            count[message["q"]] += 1
            if left:
                left -= 1
                marked.add(message["q"])
            assert message["q"] > last.get(message["sym"], -1)
            last[message["sym"]] = message["q"]
    assert len(count) == TRADES
    assert {number for number, times in count.items() if times > 1} <= marked
    report = account(output)
    assert sum(pipe["messages"] for pipe in report["pipes"]) == report["trades"] == TRADES
    assert sum(pipe["broken"] for pipe in report["pipes"]) == PIPES - 2, said
    assert told > 0
    assert "lost" not in said


def test_stop_ends_the_router_with_the_first_worker(tmp_path):
    with TapeServer(symbols=300, trades=TRADES, no_handshake=True) as server:
        router = route(server.url, tmp_path, "--on-death", "stop", "--grace-ms", "500")
        kill_some(router, tmp_path, 1, random.Random(1))
        _, said = router.communicate(timeout=WITHIN_S)
    assert router.returncode == 7
    assert "--on-death restart" in said


def test_one_worker_cannot_fail_over():
    start = [sys.executable, "-m", "tickplant", "route", "ws://127.0.0.1:1/", "--pipes", "2", "--on-death", "fail-over"]
    done = subprocess.run([*start, "--", "true"], capture_output=True, text=True, timeout=WITHIN_S, check=False)
    assert done.returncode != 0
    assert "--spawn each" in done.stderr

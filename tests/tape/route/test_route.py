"""The router against a real server, with real workers: what arrives, in which pipe, and that nothing outlives it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from tests.conftest import WITHIN_S, until
from tests.tape.route.routing import WORKER, alive, command, pids, trade

SLEEPER = """
import os, signal, sys
for _ in range(2):
    if os.fork() == 0:
        os.setsid()
        break
open(f"{sys.argv[1]}/{os.getpid()}.pid", "w").close()
signal.pause()
"""


@pytest.mark.parametrize("pipes", [1, 31, 79])
def test_every_trade_arrives_once_in_order_in_its_symbols_pipe(tapes, tmp_path, pipes):
    symbols = [f"S{number}" for number in range(500)]
    sent = [trade(symbols[number * 7 % 500], number) for number in range(20_000)]
    frames: list[str | bytes] = ["[" + ",".join(sent[at : at + 40]) + "]" for at in range(0, len(sent), 40)]
    frames[3] = str(frames[3]).encode()
    odd: list[str | bytes] = [
        "",
        "[]",
        '[{"ev":"T"}]',
        '[{"ev":"Q","sym":"S1"}]',
        b"\xff\xfe",
        "[[[",
        '{"ev":"T","sym":',
    ]
    tape = tapes(odd + frames)
    done = subprocess.run(
        command(tape, pipes, WORKER, tmp_path, "--once"), capture_output=True, text=True, timeout=WITHIN_S, check=False
    )
    assert done.returncode == 0, done.stderr
    got = {file.name: file.read_text().splitlines() for file in tmp_path.iterdir()}
    assert sum(map(len, got.values())) == len(sent)
    home: dict[str, str] = {}
    for pipe, lines in got.items():
        last: dict[str, int] = {}
        for line in lines:
            fields = json.loads(line)
            assert home.setdefault(fields["sym"], pipe) == pipe
            assert fields["q"] > last.get(fields["sym"], -1)
            last[fields["sym"]] = fields["q"]
    assert sorted(line for lines in got.values() for line in lines) == sorted(sent)
    assert done.stdout.count(" Rate {r ") == len(sent) // 8192


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_worker_and_no_child_of_one_outlives_the_router(tapes, tmp_path, number):
    tape = tapes([], stay=True)
    router = subprocess.Popen(
        command(tape, 2, SLEEPER, tmp_path, "--grace-ms", "100"), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    until(lambda: len(pids(tmp_path)) == 3)
    router.send_signal(number)
    router.communicate(timeout=WITHIN_S)
    assert router.returncode == (0 if number == signal.SIGTERM else -signal.SIGKILL)
    until(lambda: not any(map(alive, pids(tmp_path))))


def test_a_login_is_spoken_and_a_stalled_pipe_told(tapes, tmp_path):
    status = '[{"ev":"status","status":"connected","message":"Connected"}]'
    tape = tapes([status, "[" + trade("A", 1) + "]"], stay=True)
    router = subprocess.Popen(
        command(tape, 1, SLEEPER, tmp_path, "--subscribe", "T.*", "--grace-ms", "100"),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"TICKPLANT_AUTH": "hidden"},
    )
    assert router.stderr is not None
    said = ""
    while "STALLED" not in said or "the subscription stands" not in said:
        line = router.stderr.readline()
        assert line, said
        said += line
    router.terminate()
    rest = router.communicate(timeout=WITHIN_S)[1]
    assert [json.loads(text)["action"] for text in tape.heard] == ["auth", "subscribe"]
    assert "hidden" not in said + rest
    assert "and are lost" not in said


def test_a_worker_that_cannot_be_run_or_ends_is_an_error(tapes, tmp_path):
    tape = tapes([], stay=True)
    start = [sys.executable, "-m", "tickplant", "route", tape.address, "--pipes", "2", "--"]
    missing = subprocess.run([*start, "/nowhere/worker"], capture_output=True, text=True, timeout=WITHIN_S, check=False)
    assert missing.returncode == 7
    assert "/nowhere/worker" in missing.stderr
    ended = subprocess.run([*start, "true"], capture_output=True, text=True, timeout=WITHIN_S, check=False)
    assert ended.returncode == 7
    assert "nobody reads the tape" in ended.stderr

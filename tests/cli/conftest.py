"""The command as its users run it: a process of its own."""

import json
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
from tests.conftest import WITHIN_S, until

from tickplant.errors import PlantError
from tickplant.log import Log
from tickplant.plant.control import send_command

ENVIRONMENT = {
    name: value for name, value in os.environ.items() if not name.startswith(("TICKPLANT_", "EXCHANGE", "SYMBOLS"))
}


def start(*arguments, before=(), **options):
    """Starts `tickplant` with these arguments, by a command that stands `before` it where there is one."""
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": ENVIRONMENT} | options
    return subprocess.Popen([*before, sys.executable, "-m", "tickplant", *map(str, arguments)], **given)


def finish(process):
    """What a process wrote and how it ended; fails where it does not end in time."""
    try:
        out, err = process.communicate(timeout=WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        pytest.fail(f"{process.args} did not end within {WITHIN_S} s")
    return SimpleNamespace(code=process.returncode, out=out, err=err)


def call(*arguments, **options):
    """Runs `tickplant` to its end."""
    return finish(start(*arguments, **options))


def stop(process, number=signal.SIGTERM):
    """Sends a signal and waits for the orderly end."""
    process.send_signal(number)
    return finish(process)


def all_live(log, count, messages=1, doors=("plant.sock",)):
    """Whether the plants of a log hold so many books, all live and with so many messages each."""
    try:
        rows = [row for door in doors for row in send_command(log / door, {"do": "summary"})["instruments"]]
    except PlantError:
        return False
    return len(rows) == count and all(row["state"] == "LIVE" and row["messages"] >= messages for row in rows)


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """A finished demo of a few seconds with every book live: its summary and its log."""
    log = tmp_path_factory.mktemp("demo") / "log"
    process = start("demo", "--seed", 7, "--headless", "--json", "--log", log)

    def is_enough():
        seconds_told = all_live(log, 8, messages=50) and sum(map(len, Log.open(log).records(schema="bbo-1s")))
        return seconds_told > 16 or process.poll() is not None

    until(is_enough)
    ended = stop(process)
    assert ended.code == 0, ended.err or ended.out
    return SimpleNamespace(log=log, summary=json.loads(ended.out), err=ended.err)

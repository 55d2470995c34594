"""The command as its users run it: a process of its own."""

import json
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

ENVIRONMENT = {
    name: value for name, value in os.environ.items() if not name.startswith(("TICKPLANT_", "EXCHANGE", "SYMBOLS"))
}


def start(*arguments, before=(), **options):
    """Starts `tickplant` with these arguments, by a command that stands `before` it where there is one."""
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": ENVIRONMENT} | options
    return subprocess.Popen([*before, sys.executable, "-m", "tickplant", *map(str, arguments)], **given)


def finish(process, within_s=30):
    """What a process wrote and how it ended; fails where it does not end in time."""
    try:
        out, err = process.communicate(timeout=within_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        pytest.fail(f"{process.args} did not end within {within_s} s")
    return SimpleNamespace(code=process.returncode, out=out, err=err)


def call(*arguments, **options):
    """Runs `tickplant` to its end."""
    return finish(start(*arguments, **options))


def stop(process, number=signal.SIGTERM):
    """Sends a signal and waits at most as long as an orderly end may take."""
    process.send_signal(number)
    return finish(process, within_s=10)


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """A finished demo: its summary and its log."""
    log = tmp_path_factory.mktemp("demo") / "log"
    ended = call("demo", "--seed", 7, "--seconds", 3, "--headless", "--json", "--log", log)
    assert ended.code == 0, ended.err or ended.out
    return SimpleNamespace(log=log, summary=json.loads(ended.out), err=ended.err)

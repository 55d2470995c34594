"""What we did not write: workers after the reference's README under our router, a Polygon client at our server."""

import json
import os
import signal
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
import typer.main
from tests.conftest import WITHIN_S

from tickplant.cli.main import app
from tickplant.clock import monotonic_ns
from tickplant.tape.serve import TapeServer

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PEERS = Path(os.environ.get("TICKPLANT_PEERS_PYTHON", ROOT / ".venv-peers" / "bin" / "python"))
TRADES, PIPES = 3_000, 5
COMMANDS = typer.main.get_command(app).commands


def lines(folder):
    """What the worker wrote of each pipe: symbol and sequence, in order."""
    found = {}
    for path in folder.glob("out.*"):
        text = path.read_text()
        found[path.name] = [line.split()[1:] for line in text[: text.rfind("\n") + 1].splitlines()]
    return found


@pytest.mark.parametrize("worker", ["plain_blocking.py", "plain_asyncio.py"])
@pytest.mark.parametrize("command", ["route", "lb"])
def test_a_worker_after_the_references_readme_works_unmodified(tmp_path, worker, command):
    if command not in COMMANDS:
        pytest.skip(f"this build has no `{command}` command yet")
    call = [sys.executable, str(HERE / worker), str(tmp_path / "out")]
    with TapeServer(symbols=300, trades=TRADES, rate="5000") as server:
        if command == "lb":
            arguments = ["lb", "KEY", server.url, str(PIPES), str(tmp_path), *call]
        else:
            arguments = ["route", server.url, "--subscribe", "T.*", "--pipes", str(PIPES), "--", *call]
        environment = os.environ | {"TICKPLANT_AUTH": "KEY"}
        with subprocess.Popen(
            [sys.executable, "-m", "tickplant", *arguments], env=environment, stdout=subprocess.DEVNULL
        ) as router:
            begun = monotonic_ns()
            while sum(map(len, lines(tmp_path).values())) < TRADES and monotonic_ns() - begun < 60e9:
                assert router.poll() is None
                subprocess.run(["sleep", "0.05"], check=True)
            router.send_signal(signal.SIGTERM)
            router.wait(20)
    found = lines(tmp_path)
    assert len(found) == PIPES
    assert sorted(int(q) for trades in found.values() for _, q in trades) == list(
        range(100_000_000, 100_000_000 + TRADES)
    )
    pipes = defaultdict(set)
    for name, trades in found.items():
        for symbol in {symbol for symbol, _ in trades}:
            pipes[symbol].add(name)
            sequence = [int(q) for other, q in trades if other == symbol]
            assert sequence == sorted(sequence)
    assert all(len(names) == 1 for names in pipes.values())


@pytest.mark.proof
@pytest.mark.skipif(not PEERS.exists(), reason="the foreign clients are not installed: make peers")
def test_massives_own_client_receives_trades():
    """The provider's client library, its address changed: it logs in, subscribes and parses our trades."""
    with TapeServer(symbols=300, trades=5_000, rate="20000", key="KEY") as server:
        run = subprocess.run(
            [PEERS, HERE / "massive_client.py", f"127.0.0.1:{server.port}", "KEY", "5000"],
            capture_output=True,
            text=True,
            timeout=WITHIN_S,
        )
        assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["sequences"] == list(range(100_000_000, 100_005_000))

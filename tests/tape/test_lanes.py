"""The tape in shared memory: each shard exactly, for workers, for late joiners, and behind a router that died."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from tests.conftest import WITHIN_S, until

from tickplant.cli.main import call
from tickplant.errors import LogError
from tickplant.tape import worker
from tickplant.tape.serve import TapeServer

# Writes what it gets, a file for each of its places, and ends with the tape.
WORKER = """
import sys
from tickplant.tape import worker
files = {}
for place, found in worker.messages():
    file = files.setdefault(place, open(f"{sys.argv[1]}/{place.split('#')[1].split('@')[0]}", "ab"))
    file.write(b"".join(message + b"\\n" for message in found))
"""


class Trade(msgspec.Struct):
    sym: str
    q: int


def router(server: TapeServer, shards: int, *options: str | Path, worker: tuple[str, ...] = ()) -> list[str]:
    start = [sys.executable, "-m", "tickplant", "route", server.url, "--pipes", str(shards), *map(str, options)]
    return [*start, "--", *worker] if worker else start


def taken(log: Path, shards: int, start: str = "first") -> list[list[Trade]]:
    """What is in each shard, read until the tape's end."""
    return [list(worker.trades(Trade, places=[f"{log}#{shard}@{start}"])) for shard in range(shards)]


def whole(shards: list[list[Trade]], count: int) -> None:
    """Each trade once, each symbol in one shard, in order."""
    home = {trade.sym: shard for shard, trades in enumerate(shards) for trade in trades}
    for shard, trades in enumerate(shards):
        last: dict[str, int] = {}
        for trade in trades:
            assert home[trade.sym] == shard
            assert trade.q > last.get(trade.sym, -1)
            last[trade.sym] = trade.q
    numbers = sorted(trade.q for trades in shards for trade in trades)
    assert numbers == list(range(numbers[0], numbers[0] + count))


@pytest.mark.parametrize(("spawn", "shards"), [("one", 3), ("each", 2)])
def test_workers_of_a_log_get_every_trade_once(tmp_path, spawn, shards):
    out = tmp_path / "out"
    out.mkdir()
    with TapeServer(symbols=300, trades=50_000, close=True, no_handshake=True) as server:
        options = ("--log", tmp_path / "log", "--spawn", spawn, "--once", "--json")
        command = router(server, shards, *options, worker=(sys.executable, "-c", WORKER, str(out)))
        done = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN_S, check=False)
        sent = server.clients()[0]
    assert done.returncode == 0, done.stderr
    got = [(out / str(shard)).read_bytes().splitlines() for shard in range(shards)]
    assert sum(len(message) for shard in got for message in shard) == sent.bytes
    whole([[msgspec.json.decode(message, type=Trade) for message in shard] for shard in got], 50_000)
    account = json.loads(done.stdout.splitlines()[-1])
    assert (account["trades"], account["received_bytes"] > sent.bytes) == (50_000, True)
    assert [shard["messages"] for shard in account["pipes"]] == [len(shard) for shard in got]
    assert not list(Path("/dev/shm").glob(f"tickplant-{json.loads((tmp_path / 'log/log.json').read_text())['id']}"))


def test_a_recorded_tape_is_read_again_and_a_second_run_follows_the_first(tmp_path, capsys):
    log = tmp_path / "log"
    for run in (1, 2):
        with TapeServer(symbols=50, trades=20_000, close=True, no_handshake=True) as server:
            subprocess.run(
                router(server, 2, "--log", log, "--record", log, "--once"),
                timeout=WITHIN_S,
                check=True,
                capture_output=True,
            )
        shards = taken(log, 2)
        assert sum(map(len, shards)) == 20_000 * run
        whole([trades[-len(trades) // run :] for trades in shards], 20_000)
    # It holds no venue's records, which the command that prints those says instead of nothing.
    assert call(["tail", "--log", str(log)]) == 4
    said = capsys.readouterr().err
    place = re.search(r"places=\['(.+)'\]", said)
    assert place, said
    assert sum(len(found) for _, found in worker.messages([place[1]])) > 0


def test_pipes_and_the_record_hold_the_same(tmp_path):
    program = "import sys, os; print(sum(len(os.read(int(fd), 1 << 20)) > 0 for fd in sys.argv[1:]))"
    with TapeServer(symbols=50, trades=10_000, close=True, no_handshake=True) as server:
        command = router(server, 2, "--record", tmp_path / "log", "--once", worker=(sys.executable, "-c", program))
        subprocess.run(command, timeout=WITHIN_S, check=False, capture_output=True)
    whole(taken(tmp_path / "log", 2), 10_000)


def test_a_killed_router_leaves_a_readable_prefix_to_late_joiners(tmp_path):
    log = tmp_path / "log"
    with TapeServer(symbols=50, rate="20000", no_handshake=True) as server:
        running = subprocess.Popen(
            router(server, 2, "--log", log), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        try:
            until(lambda: any(client.trades > 3000 for client in server.clients()))
            # Somebody who comes late and wants all of it, while the tape runs.
            late = worker.trades(Trade, places=[f"{log}#0@first"])
            first = [next(late) for _ in range(1000)]
            # Somebody who wants only what is new.
            new = next(iter(worker.trades(Trade, places=[f"{log}#0"])))
        finally:
            running.kill()
            running.wait()
        assert new.q > first[0].q
        with pytest.raises(worker.BrokenTapeError, match="no router"):
            first.extend(late)  # what came before the error stays
        again = worker.trades(Trade, places=[f"{log}#0@first"])
        assert [next(again) for _ in first] == first
        other: list[Trade] = []
        with pytest.raises(worker.BrokenTapeError, match="no router"):
            other.extend(worker.trades(Trade, places=[f"{log}#1@first"]))
        whole([first, other], len(first) + len(other))
        sent = server.clients()[0].trades
        assert 1000 < len(first) + len(other) <= sent + 1000
        # The next router takes the memory of the dead one over, and gives it back.
        after = subprocess.Popen(
            router(server, 2, "--log", log), stderr=subprocess.PIPE, text=True, stdout=subprocess.DEVNULL
        )
        assert after.stderr is not None
        assert "connected" in after.stderr.readline()
        after.terminate()
        after.communicate(timeout=WITHIN_S)
        assert after.returncode == 0


def test_wrong_places_are_told(tmp_path):
    with pytest.raises(ValueError, match="DIR#3"):
        list(worker.trades(places=["data"]))
    with pytest.raises(ValueError, match="one kind"):
        list(worker.trades(places=[3, "data#1"]))
    with TapeServer(symbols=50, trades=100, close=True, no_handshake=True) as server:
        subprocess.run(
            router(server, 2, "--record", tmp_path, "--log", tmp_path, "--once"),
            timeout=WITHIN_S,
            check=True,
            capture_output=True,
        )
    with pytest.raises(LogError, match="give 0 to 1"):
        list(worker.trades(places=[f"{tmp_path}#2@first"]))


def test_shards_are_the_places_at_the_end():
    assert worker.shards(["a", "b#1", "c", "data#0@77", "data#1@77"]) == ["data#0@77", "data#1@77"]
    assert worker.shards(["a"]) == []

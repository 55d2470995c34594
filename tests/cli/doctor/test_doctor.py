"""`doctor` finds what killed plants left, and removes nothing that anybody may still want."""

import json
import shutil
from pathlib import Path

import pytest
from tests.cli.conftest import ENVIRONMENT, call, start, stop

from tickplant import Log, _native
from tickplant.cli import main
from tickplant.cli.common import Exit

NOBODY = "venue.kraken.url=ws://127.0.0.1:1"


@pytest.fixture
def hot(tmp_path):
    return tmp_path / "hot"


def record(log, hot):
    """A running `tickplant record` whose venue refuses it."""
    options = ["--log", log, "--set", f"log.hot_root={hot}", "--set", NOBODY, "--set", "log.segment_bytes=65536"]
    process = start("record", "BTC/USD.KRAKEN", *options)
    assert "is running" in process.stderr.readline()
    return process


def kill(process):
    process.kill()
    process.communicate()


def doctor(hot, *options):
    """What is found, by check; of the memory files those of each log by its path."""
    ended = call("doctor", "--json", *options, env=ENVIRONMENT | {"TICKPLANT_LOG_HOT_ROOT": str(hot)})
    assert (ended.code, ended.err) == (0, "")
    found = [json.loads(line) for line in ended.out.splitlines()]
    owners = {row["facts"]["log"]: row["facts"] for row in found if row["check"] == "memory files of"}
    return owners, [row["facts"]["log"] for row in found if row["check"] == "removed"]


def owners(hot, *options):
    return {Path(log).name: row["owner"] for log, row in doctor(hot, *options)[0].items()}


def test_only_what_is_of_nobody_is_removed(tmp_path, hot):
    logs = {name: tmp_path / name for name in ("running", "cut off", "killed", "killed and deleted", "closed")}
    plants = {name: record(log, hot) for name, log in logs.items()}
    try:
        # Somebody deletes the log of a running plant: a bad idea, but its memory files are in use.
        shutil.rmtree(logs["cut off"])
        kill(plants["killed"])
        kill(plants["killed and deleted"])
        shutil.rmtree(logs["killed and deleted"])
        assert stop(plants["closed"]).code == 0
        kept = {"running": "running", "cut off": "running", "killed": "stopped"}
        assert owners(hot) == kept | {"killed and deleted": "gone"}
        left, removed = doctor(hot, "--clean")
        assert removed == [str(logs["killed and deleted"])]
        assert {Path(log).name: row["owner"] for log, row in left.items()} == kept
        assert all(row["bytes"] >= 65536 for row in left.values())
        assert doctor(hot, "--clean")[1] == []
    finally:
        for process in plants.values():
            kill(process)
    # What the killed one left is still good.
    before = Log.open(logs["killed"]).position()
    assert stop(record(logs["killed"], hot)).code == 0
    assert Log.open(logs["killed"]).position()["kraken"] >= before["kraken"] > 0


def test_a_killed_watch_leaves_nothing_that_is_not_found():
    process = start("watch", "BTC/USD.KRAKEN", "--set", NOBODY)
    root = Path("/dev/shm")
    try:
        assert "WAITING" in process.stderr.readline()
        [mine] = [
            found
            for found in json.loads(_native.hot_dirs(root))
            if _native.THROWN_AWAY in found["path"] and holds(process.pid, found["path"])
        ]
        assert mine["owner"] == "running"
    finally:
        kill(process)
    [left] = [found for found in json.loads(_native.hot_dirs(root)) if found["path"] == mine["path"]]
    assert left["owner"] == "gone"
    assert _native.remove_hot_dir(left["path"])
    assert not Path(left["path"]).parent.exists()
    assert not Path(left["log"]).exists()


def holds(pid, path):
    return path in Path(f"/proc/{pid}/maps").read_text()


def test_a_log_is_told_of(demo, capsys):
    assert main.call(["doctor", "--log", str(demo.log)]) == Exit.OK
    told = capsys.readouterr().out
    assert f"{demo.log}: 4 lanes, 8 instruments, " in told


def test_a_log_of_a_later_version_is_said_to_be(tmp_path, capsys):
    (tmp_path / "log.json").write_text('{"version": 99, "id": "0", "hot_root": "/dev/shm"}')
    assert main.call(["doctor", "--log", str(tmp_path), "--json"]) == Exit.UNPROVEN
    bad = [row for row in map(json.loads, capsys.readouterr().out.splitlines()) if not row["ok"]]
    assert [row["check"] for row in bad] == ["log"]
    assert "99" in bad[0]["result"]
    assert bad[0]["advice"]

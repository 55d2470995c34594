"""How the scheduler treats a plant's threads: loops as the settings say, what follows them behind, a refusal told."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from pathlib import Path

import pytest
from tests.cli.conftest import ENVIRONMENT, call, start, stop

from tickplant import config
from tickplant.plant import Plant
from tickplant.records import ConnectionState, Reason, Status, Subject

NOBODY = "ws://127.0.0.1:1"
FOLLOWERS = ("archive-", "prepare-", "checkpoint-")
WITHOUT_RIGHT = ["setpriv", "--bounding-set=-sys_nice", "--inh-caps=-sys_nice"]


def settings_for(log: Path, **flags: object) -> config.Config:
    given = {"log.path": str(log), "venue.kraken.url": NOBODY, "venue.kraken.instruments": ["BTC/USD"]}
    return config.load(flags=given | {f"plant.{name}": value for name, value in flags.items()})


def threads() -> dict[str, int]:
    """The threads of this process by name."""
    tasks = Path("/proc/self/task").iterdir()
    return {(task / "comm").read_text().strip(): int(task.name) for task in tasks}


def policies() -> dict[str, int]:
    return {name: os.sched_getscheduler(thread) for name, thread in threads().items()}


async def told(plant: Plant) -> list[str]:
    """What the plant's loops were refused, once they have begun to connect."""
    reader = iter(plant.log.records(schema="status", follow=True))
    refusals = []
    while True:
        batch = reader.poll()
        for record in batch or ():
            if isinstance(record, Status) and record.current is ConnectionState.CONNECTING:
                return refusals
            if isinstance(record, Status) and record.reason is Reason.REFUSED:
                assert record.subject is Subject.PLANT
                refusals.append((plant.log.blob(batch.lane, record.ref) or b"").decode())
        if batch is None:
            reader.refresh()
            await asyncio.sleep(0.01)


async def test_loops_come_first_and_what_follows_them_last(tmp_path: Path) -> None:
    core = min(os.sched_getaffinity(0))
    async with Plant(settings_for(tmp_path / "log", priority="realtime", cores=[core])) as plant:
        refusals = await told(plant)
        # A thread has its name once it runs.
        followers: list[str] = []
        while len(followers) < 3:
            found = policies()
            followers = [name for name in found if name.startswith(FOLLOWERS)]
            await asyncio.sleep(0.01)
        assert os.sched_getaffinity(threads()["tickplant-loop"]) == {core}
    assert {found[name] for name in followers} == {os.SCHED_BATCH}
    if refusals:
        assert "plant.priority: Realtime is not permitted here" in refusals[0]
    else:
        assert found["tickplant-loop"] & ~os.SCHED_RESET_ON_FORK == os.SCHED_FIFO


async def test_a_core_that_is_not_there_is_told(tmp_path: Path) -> None:
    async with Plant(settings_for(tmp_path / "log", cores=[1023])) as plant:
        [refusal] = await told(plant)
        assert refusal.startswith("plant.cores: core 1023 cannot be had")
        assert policies()["tickplant-loop"] == os.SCHED_OTHER


@pytest.mark.skipif(
    shutil.which("setpriv") is None or os.getuid() != 0, reason="needs root and setpriv to lose a right"
)
def test_without_the_right_it_runs_and_says_so_once(tmp_path: Path) -> None:
    environment = ENVIRONMENT | {"TICKPLANT_PLANT_PRIORITY": "realtime", "TICKPLANT_VENUE_KRAKEN_URL": NOBODY}
    plant = start("record", "BTC/USD.KRAKEN", "--log", tmp_path / "log", before=WITHOUT_RIGHT, env=environment)
    said = []
    while "CONNECTING" not in (line := plant.stderr.readline()):
        assert line, "it ended"
        said.append(line)
    assert stop(plant).code == 0
    [refusal] = [line for line in said if "REFUSED" in line]
    assert "plant.priority: Realtime is not permitted here (Operation not permitted" in refusal
    ended = call("doctor", "--json", "--log", tmp_path / "log", before=WITHOUT_RIGHT, env=environment)
    assert ended.code == 1
    [found] = [row for line in ended.out.splitlines() if (row := json.loads(line))["check"] == "plant.priority"]
    assert (found["ok"], found["result"]) == (False, "realtime; permitted here: normal")
    assert "CAP_SYS_NICE" in found["advice"]

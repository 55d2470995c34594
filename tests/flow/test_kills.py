"""A plant that is killed at any moment: nothing committed is lost or changed, no reader fails, the journal agrees.

The plant is a process of its own that gets SIGKILL again and again, at work and while it starts. Readers in further
processes tail it all the while and note a digest of all that they have seen so far with each batch; at the end the log
must hold just that.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import random
import signal
from asyncio.subprocess import Process
from collections import defaultdict
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from tickplant import Log, _native
from tickplant.clock import SECOND_NS, monotonic_ns
from tickplant.plant.control import send_command
from tickplant.sim import SimServer

from .conftest import process, simulated, until

NAMES = ["kraken", "coinbase"]
SHARES = 2
SCHEMAS = ["levels", "trades", "mbp-10"]

PLANT = """
import asyncio, json, sys
from tickplant import Plant, config

async def main() -> None:
    async with Plant(config.load(flags=json.loads(sys.argv[1]))) as plant:
        await plant.wait()

asyncio.run(main())
"""

READER = """
import asyncio, hashlib, json, sys
from tickplant import Log

async def main(path: str, schema: str) -> None:
    records = Log.open(path).records(schema=schema, follow=True)
    seen: dict[str, dict] = {}

    async def tail() -> None:
        async for batch in records:
            lane = seen.setdefault(batch.lane, {"digest": hashlib.blake2b(digest_size=8), "rows": 0, "marks": []})
            lane["digest"].update(memoryview(batch).cast("B"))
            lane["rows"] += len(batch)
            lane["marks"].append((lane["rows"], lane["digest"].hexdigest()))

    tailing = asyncio.create_task(tail())
    told = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    await asyncio.wait([tailing, told], return_when=asyncio.FIRST_COMPLETED)
    while not tailing.done() and records.position() != Log.open(path).position():
        await asyncio.sleep(0.01)
    if tailing.done():
        tailing.result()
    tailing.cancel()
    print(json.dumps({lane: found["marks"] for lane, found in seen.items()}))

asyncio.run(main(*sys.argv[1:]))
"""


async def watch_commits(log: Path) -> None:
    """Fails as soon as what was committed is no longer."""
    directory, highest = Log.open(log), defaultdict[str, int](int)
    while True:
        for lane, index in directory.position().items():
            assert index >= highest[lane], f"{lane} went back from {highest[lane]} to {index}"
            highest[lane] = index
        await asyncio.sleep(0.005)


async def kill_at_random(log: Path, flags: str, kills: int, chance: random.Random) -> int:
    """Starts and kills so many plants; gives how many were killed at work, the others while they started."""
    at_work = 0
    for _ in range(kills):
        base = sum(Log.open(log).position().values())
        async with process("-c", PLANT, flags) as plant:
            if chance.random() < 0.8:
                at_work += 1
                await until(
                    lambda base=base, plant=plant: (
                        plant.returncode or sum(Log.open(log).position().values()) > base + 50
                    )
                )
                await asyncio.sleep(chance.uniform(0, 0.2))
            else:
                await asyncio.sleep(chance.uniform(0.1, 0.7))
            assert plant.returncode is None, "the plant ended by itself"
            plant.send_signal(signal.SIGKILL)
    return at_work


async def run_to_its_end(log: Path, flags: str) -> None:
    """One more plant over all that the killed ones left, which ends in order."""
    async with process("-c", PLANT, flags) as plant:

        async def all_are_live() -> bool:
            if not (log / "plant.sock").exists():
                return False
            with contextlib.suppress(Exception):
                rows = (await asyncio.to_thread(send_command, log / "plant.sock", {"do": "summary"}))["instruments"]
                return len(rows) == 4 and all(row["state"] == "LIVE" for row in rows)
            return False

        await until(all_are_live)
        await asyncio.to_thread(send_command, log / "plant.sock", {"do": "drain"})
        assert await plant.wait() == 0


def compare(log: Path, schema: str, marks: dict[str, list[tuple[int, str]]]) -> int:
    """The rows of a schema; each mark of the reader must be the digest of just so many of them."""
    total = 0
    for lane in NAMES:
        digest, rows = hashlib.blake2b(digest_size=8), 0
        expected = iter(marks[lane])
        mark = next(expected, None)
        for batch in Log.open(log).records(schema=schema, lanes=[lane]):
            data = memoryview(batch).cast("B")
            width, start = len(data) // len(batch), 0
            while mark is not None and mark[0] <= rows + len(batch):
                end = (mark[0] - rows) * width
                digest.update(data[start:end])
                assert digest.hexdigest() == mark[1], f"{schema} of {lane} changed before row {mark[0]}"
                start, mark = end, next(expected, None)
            digest.update(data[start:])
            rows += len(batch)
        assert mark is None, f"the reader saw more of {lane} than the log holds"
        assert marks[lane][-1][0] == rows, f"the reader missed the end of {lane}"
        total += rows
    return total


async def run_kills(log: Path, kills: int) -> dict[str, Any]:
    begun = monotonic_ns()
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(simulated(NAMES, rate=400))
        given: dict[str, Any] = {"log.path": str(log), "log.segment_bytes": 1 << 18, "log.hot_bytes_max": 8 << 20}
        for name in NAMES:
            given |= {
                f"venue.{name}.url": server.addresses[name].websocket,
                f"venue.{name}.rest_url": server.addresses[name].http,
                f"venue.{name}.instruments": list(server.venue(name).symbols),
            }
        flags = json.dumps(given)
        await run_to_its_end(log, flags)
        watcher = asyncio.create_task(watch_commits(log))
        pipe = asyncio.subprocess.PIPE
        readers = {
            schema: await stack.enter_async_context(process("-c", READER, str(log), schema, stdin=pipe, stdout=pipe))
            for schema in SCHEMAS
        }
        at_work = await kill_at_random(log, flags, kills, random.Random(kills))
        assert all(reader.returncode is None for reader in readers.values()), "a reader crashed"
        await run_to_its_end(log, flags)
        assert not watcher.done(), watcher.exception()
        watcher.cancel()
        rows = {}
        for schema, reader in readers.items():
            text, _ = await reader.communicate(b"")
            assert reader.returncode == 0
            rows[schema] = compare(log, schema, json.loads(text))
    rebuilt = {lane: json.loads(_native.rebuild(str(log), lane)) for lane in NAMES}
    for lane, found in rebuilt.items():
        assert found["first_difference"] is None, lane
        assert found["runs"] >= at_work + 2
    return {
        "kills": kills,
        "killed_at_work": at_work,
        "records": sum(Log.open(log).position().values()),
        "rows_seen_by_readers": rows,
        "rebuilt": rebuilt,
        "seconds": (monotonic_ns() - begun) // SECOND_NS,
        "processors": os.cpu_count(),
    }


def one_share(log: Path, server: SimServer, share: int) -> AbstractAsyncContextManager[Process]:
    """`tickplant run --only kraken:i/n`."""
    address = server.addresses["kraken"]
    settings = {
        "log.path": log,
        "log.segment_bytes": 1 << 18,
        "log.hot_bytes_max": 8 << 20,
        "metrics.port": 0,
        "venue.kraken.url": address.websocket,
        "venue.kraken.rest_url": address.http,
        "venue.kraken.instruments": ",".join(server.venue("kraken").symbols),
        "venue.kraken.backoff_first_s": 0.05,
    }
    options = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    command = ["-m", "tickplant", "run", "--only", f"kraken:{share}/{SHARES}", *options]
    null = asyncio.subprocess.DEVNULL
    return process(*command, stdout=null, stderr=null)


async def run_share_kills(log: Path, kills: int) -> dict[str, Any]:
    """Kills one share again and again while the other goes on in a process of its own into the same log."""
    chance, killed, steady = random.Random(kills), "kraken-2of2", "kraken-1of2"
    async with simulated(["kraken"], rate=400, instrument_count=4) as server, one_share(log, server, 1) as other:
        await until(lambda: (log / "log.json").exists() and Log.open(log).position().get(steady, 0) > 50)
        watcher = asyncio.create_task(watch_commits(log))
        for _ in range(kills):
            before = Log.open(log).position()
            async with one_share(log, server, 2) as share:
                await until(
                    lambda before=before: all(
                        Log.open(log).position().get(lane, 0) > before.get(lane, 0) + 20 for lane in (killed, steady)
                    ),
                )
                await asyncio.sleep(chance.uniform(0, 0.1))
                assert share.returncode is None, "the share ended by itself"
                share.send_signal(signal.SIGKILL)
        assert other.returncode is None, "the other share ended with it"
        async with one_share(log, server, 2) as share:
            start = Log.open(log).position()[killed]
            await until(lambda: Log.open(log).position()[killed] > start + 50)
            for one in (share, other):
                one.terminate()
                assert await one.wait() == 0
        assert not watcher.done(), watcher.exception()
        watcher.cancel()
    rebuilt = {lane: json.loads(_native.rebuild(str(log), lane)) for lane in (killed, steady)}
    assert {found["first_difference"] for found in rebuilt.values()} == {None}
    assert (rebuilt[killed]["runs"], rebuilt[steady]["runs"]) == (kills + 1, 1)
    names = {lane: instruments(log, lane) for lane in (killed, steady)}
    assert not names[killed] & names[steady]
    assert names[killed] | names[steady] == {f"{symbol}.KRAKEN" for symbol in server.venue("kraken").symbols}
    return {"kills": kills, "records": sum(Log.open(log).position().values()), "rebuilt": rebuilt}


def instruments(log: Path, lane: str) -> set[str]:
    """Whose levels a lane holds."""
    return {record.instrument for batch in Log.open(log).records(schema="levels", lanes=[lane]) for record in batch}


async def test_three_kills_of_one_share(tmp_path: Path) -> None:
    figures = await run_share_kills(tmp_path / "log", 3)
    assert figures["records"] > 200


@pytest.mark.proof
@pytest.mark.timeout(1800)
async def test_two_hundred_kills_of_one_share(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = await run_share_kills(tmp_path / "log", 200)
    with capsys.disabled():
        print(json.dumps({"test": "two hundred kills of one share", **figures}))


async def test_five_kills(tmp_path: Path) -> None:
    figures = await run_kills(tmp_path / "log", 5)
    assert all(figures["rows_seen_by_readers"].values())


@pytest.mark.proof
@pytest.mark.timeout(1800)
async def test_two_hundred_kills(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = await run_kills(tmp_path / "log", 200)
    with capsys.disabled():
        print(json.dumps({"test": "two hundred kills", **figures}))

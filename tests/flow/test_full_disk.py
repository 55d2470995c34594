"""The archive's disk fills while the feed runs: said, bounded, and healed when space returns."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tickplant import Plant, _native
from tickplant.records import ConnectionState, Reason, Status, Stream, Subject
from tickplant.sim import SimServer

from .conftest import all_live, exact, rows, settings_for, simulated, until

DISK_BYTES = 8 << 20
SEGMENT_BYTES = 1 << 16
HOT_BYTES_MAX = 24 * SEGMENT_BYTES


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A small tmpfs of the test's own."""
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tickplant-test", str(path)]
    if shutil.which("mount") is None:
        pytest.skip("there is no mount command here")
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def fill(disk: Path, leave: int) -> Path:
    """A file that leaves only so many bytes."""
    ballast = disk / "ballast"
    with contextlib.suppress(OSError):
        ballast.write_bytes(bytes(shutil.disk_usage(disk).free - leave))
    return ballast


def hot_bytes(root: Path) -> int:
    """What the memory files take, the control page aside."""
    found = 0
    for path in root.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            if path.is_file() and path.stat().st_size >= SEGMENT_BYTES:
                found += path.stat().st_blocks * 512
    return found


def disk_records(plant: Plant) -> list[Status]:
    return [
        record
        for batch in plant.log.records(schema="status")
        for record in batch
        if isinstance(record, Status) and (record.subject is Subject.DISK or record.reason is Reason.DISK_FULL)
    ]


async def lane(plant: Plant, hot: Path) -> dict[str, Any]:
    """The lane's account; memory is within its bound whenever it is asked for."""
    found: dict[str, Any] = (await plant.summary())["lanes"]["kraken"]
    assert hot_bytes(hot) <= HOT_BYTES_MAX
    return found


async def check_pause(plant: Plant, hot: Path, server: SimServer) -> None:
    """The disk is full: told, and memory takes what it does not until that is used up too. Only then the feed is closed
    with the reason, and stays so without taking more."""

    async def is_full() -> bool:
        return (await lane(plant, hot))["archive_state"] == "disk_full"

    await until(is_full)

    async def is_paused() -> bool:
        return (await lane(plant, hot))["paused"]

    await until(is_paused)
    await until(lambda: server.connections("kraken") == 0)
    full, *others = disk_records(plant)
    assert (full.subject, full.reason) == (Subject.DISK, Reason.DISK_FULL)
    [closed] = [record for record in others if record.subject is Subject.CONNECTION]
    assert (closed.reason, closed.current) == (Reason.DISK_FULL, ConnectionState.WAITING)
    meanwhile = plant.log.records(schema="levels", start=full.ts_recv, end=closed.ts_recv)
    assert sum(map(len, meanwhile)) > 100
    assert {row["state"] for row in rows(await plant.summary()).values()} == {"CLOSED"}
    # Commands are kept, in their order.
    for _ in range(5):
        plant.subscribe("BTC/USD.KRAKEN", "ETH/USD.KRAKEN")
        plant.unsubscribe("BTC/USD.KRAKEN")
    # For longer than a try of connecting would take.
    committed, until_s = plant.log.position(), asyncio.get_running_loop().time() + 0.5
    while asyncio.get_running_loop().time() < until_s:
        assert (await lane(plant, hot))["paused"]
        await asyncio.sleep(0.05)
    assert plant.log.position() == committed
    assert server.connections("kraken") == 0


async def check_healed(plant: Plant, hot: Path, server: SimServer) -> None:
    """There is space again: live again, told, the books right, and what is missing said to be."""
    await until(lambda: all_live(plant, 2, messages=1))
    assert (await lane(plant, hot))["archive_state"] == "ok"
    await until(lambda: disk_records(plant)[-1].reason is Reason.DISK_RECOVERED)
    server.running(False)
    venue = server.venue("kraken")

    def equal() -> bool:
        for symbol in venue.symbols:
            book, (bids, asks) = plant.log.book(f"{symbol}.KRAKEN"), venue.book(symbol, venue.published(symbol))
            if (exact(book.bids), exact(book.asks)) != (exact(bids[:10]), exact(asks[:10])):
                return False
        return True

    await until(equal)
    for name, row in rows(await plant.summary()).items():
        assert (row["state"], row["checksums_failed"]) == ("LIVE", 0), name
        assert row["holders"] == (1 if name == "BTC/USD.KRAKEN" else 6)
    holes = [record for batch in plant.log.records(schema="gap") for record in batch]
    assert holes
    assert {(hole.stream, hole.cause) for hole in holes} == {(Stream.TRADES, Reason.TRADE_ID_GAP)}


async def test_a_full_disk_pauses_the_feed_and_heals(small_disk: Path, tmp_path: Path) -> None:
    log, hot = small_disk / "log", tmp_path / "hot"
    async with simulated(["kraken"], rate=2000) as server:
        settings = settings_for(
            server,
            ["kraken"],
            log,
            log__segment_bytes=SEGMENT_BYTES,
            log__hot_bytes_max=HOT_BYTES_MAX,
            log__hot_root=str(hot),
            venue__kraken__backoff_first_s=0.05,
            venue__kraken__backoff_most_s=0.1,
        )
        async with Plant(settings) as plant:
            await until(lambda: all_live(plant, 2, messages=1))
            ballast = fill(small_disk, 1 << 17)
            await check_pause(plant, hot, server)
            ballast.unlink()
            await check_healed(plant, hot, server)
    found = json.loads(_native.rebuild(str(log), "kraken"))
    assert found["first_difference"] is None
    assert (found["runs"], found["same"] > 1000) == (1, True)
    # All of it is on the disk and the memory is given back.
    assert hot_bytes(hot) == 0

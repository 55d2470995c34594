"""Commands through plant.sock, and what keeps two plants off one log."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tickplant import Plant
from tickplant.cli.main import call
from tickplant.errors import LaneLocked, PlantError
from tickplant.plant.control import send_command

from .conftest import all_live, rows, settings_for, simulated, until


async def test_commands_of_the_socket(tmp_path: Path) -> None:
    async with simulated(["kraken"]) as server, Plant(settings_for(server, ["kraken"], tmp_path)) as plant:
        await until(lambda: all_live(plant, 2))
        door = tmp_path / "plant.sock"
        assert door.stat().st_mode & 0o777 == 0o600

        def send(**command: object) -> dict:
            return send_command(door, command)

        summary = await asyncio.to_thread(send, do="summary")
        assert rows(summary)["BTC/USD.KRAKEN"]["state"] == "LIVE"
        await asyncio.to_thread(send, do="resync", instrument="BTC/USD.KRAKEN")

        async def resynced() -> bool:
            row = rows(await plant.summary())["BTC/USD.KRAKEN"]
            return row["resyncs"] == 1 and row["state"] == "LIVE"

        await until(resynced)
        with pytest.raises(PlantError, match="no such command"):
            await asyncio.to_thread(send, do="dance")
        with pytest.raises(PlantError, match="never subscribed"):
            await asyncio.to_thread(send, do="resync", instrument="DOT/USD.KRAKEN")
    with pytest.raises(PlantError, match="no plant answers"):
        send_command(door, {"do": "summary"})


async def test_the_command_line_reaches_a_running_plant(tmp_path: Path) -> None:
    async with simulated(["kraken"]) as server, Plant(settings_for(server, ["kraken"], tmp_path)) as plant:
        await until(lambda: all_live(plant, 2))

        async def command(*words: str) -> int:
            return await asyncio.to_thread(call, [*words, "--log", str(tmp_path)])

        assert await command("resync", "BTC/USD.KRAKEN", "--json") == 0

        async def resynced() -> bool:
            row = rows(await plant.summary())["BTC/USD.KRAKEN"]
            return row["resyncs"] == 1 and row["state"] == "LIVE"

        await until(resynced)
        assert await command("reconnect", "kraken") == 0

        def requested() -> bool:
            status = plant.log.records(schema="status")
            return any(
                (record.subject.name, record.reason.name) == ("CONNECTION", "REQUESTED") and record.current == 7
                for batch in status
                for record in batch
            )

        await until(requested)
        await until(lambda: all_live(plant, 2))
        assert await command("resync", "DOT/USD.KRAKEN") != 0
        assert await command("reconnect", "coinbase") != 0
    assert await asyncio.to_thread(call, ["reconnect", "kraken", "--log", str(tmp_path)]) != 0


async def test_a_second_plant_on_the_log_is_refused(tmp_path: Path) -> None:
    async with simulated(["kraken"]) as server:
        settings = settings_for(server, ["kraken"], tmp_path)
        async with Plant(settings) as plant:
            with pytest.raises((LaneLocked, PlantError), match=r"in use|another plant"):
                async with Plant(settings):
                    pass
            await until(lambda: all_live(plant, 2))

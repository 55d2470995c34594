"""The exporter against a running plant, read by Prometheus' own parser."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.conftest import free_port
from tests.flow.conftest import all_live, settings_for, simulated, until
from tests.flow.test_own_venue import AB, CD, Ladder, ladder

from tickplant import config, telemetry
from tickplant.clock import SECOND_NS
from tickplant.errors import ConfigError
from tickplant.plant import Plant
from tickplant.telemetry import Family

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


async def get(port: int, path: str) -> tuple[int, str]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    return int(head.split()[1]), body


def samples(text: str) -> Samples:
    """Every sample by its name and labels; none stands twice, and each family says what it is."""
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        assert family.type in ("counter", "gauge", "histogram"), family
        assert family.documentation, family
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            assert key not in found, key
            found[key] = sample.value
    return found


async def metrics(port: int) -> Samples:
    status, text = await get(port, "/metrics")
    assert status == 200
    return samples(text)


async def test_a_running_plant_tells_its_metrics(tmp_path: Path) -> None:
    port = free_port()
    names = ["kraken", "binance"]
    async with simulated(names) as server:
        symbol = server.venue("kraken").symbols[0]
        settings = settings_for(
            server,
            names,
            tmp_path,
            metrics__port=port,
            venue__kraken__required=[symbol],
            venue__kraken__ping_every_s=0.2,
        )
        async with Plant(settings) as plant:
            assert (await get(port, "/ready"))[0] in (200, 503)
            await until(lambda: all_live(plant, 4))

            async def has_pinged() -> bool:
                return ("md_heartbeat_latency_ms", kraken) in await metrics(port)

            kraken = (("exchange", "kraken"),)
            await until(has_pinged)
            found = await metrics(port)
            book = (*kraken, ("symbol", symbol))
            assert found["md_connection_state", kraken] == 1
            assert found["md_reconnects_total", kraken] == 0
            assert found["md_sequence_gaps_total", book] == 0
            assert found["md_orderbook_depth", (book[0], ("side", "bids"), book[1])] == 10
            assert found["md_messages_total", (*kraken, ("type", "book"))] > 0
            assert found["md_messages_total", (*kraken, ("type", "trade"))] > 0
            edges = [
                labels for name, labels in found if name == "md_message_latency_seconds_bucket" and kraken[0] in labels
            ]
            counts = [found["md_message_latency_seconds_bucket", labels] for labels in edges]
            assert counts == sorted(counts)
            assert counts[-1] == found["md_message_latency_seconds_count", kraken] > 0
            told = {dict(labels)["le"] for labels in edges}
            assert {"0.0001", "0.0005", "0.001", "0.005", "0.01", "0.05", "+Inf"} <= told
            assert (await get(port, "/ready")) == (200, "ready\n")
            assert (await get(port, "/health"))[0] == 200
            assert (await get(port, "/other"))[0] == 404
            plant.reconnect("kraken")

            async def is_told() -> bool:
                return (await metrics(port))["md_reconnects_total", kraken] == 1

            await until(is_told)
            plant.unsubscribe(f"{symbol}.KRAKEN")

            async def is_not_ready() -> bool:
                return (await get(port, "/ready")) == (503, f"not proven live: {symbol}.KRAKEN\n")

            await until(is_not_ready)


async def test_a_loop_that_hangs_is_told_by_its_last_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "SILENT_NS", SECOND_NS // 2)
    port, lane = free_port(), (("lane", "ladder"),)
    flags = {"metrics__port": port, "venue__ladder__required": [AB, CD]}
    async with ladder(tmp_path, **flags) as (venue, plant):

        async def is_ready() -> bool:
            return (await get(port, "/ready"))[0] == 200

        async def is_silent() -> bool:
            return (await metrics(port))["tickplant_account_age_seconds", lane] > 0.5

        async def is_heard() -> bool:
            return not await is_silent()

        await until(is_ready)
        before = await metrics(port)
        Ladder.gate.clear()
        try:
            venue.send(venue.update(AB, "9.00", "4"))
            await until(is_silent)
            found = await metrics(port)
            assert set(found) == set(before)
            assert found["tickplant_records_total", lane] >= before["tickplant_records_total", lane] > 0
            assert (await get(port, "/ready")) == (503, f"not proven live: {AB}.LADDER {CD}.LADDER\n")
        finally:
            Ladder.gate.set()
        await until(is_ready)
        await until(is_heard)
        await until(lambda: plant.log.book(f"{AB}.LADDER").sequence == venue.numbers[AB])


async def test_a_port_in_use_is_told_and_taken_once_it_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "BIND_AGAIN_S", 0.05)
    other = socket.create_server(("127.0.0.1", 0))
    port = int(other.getsockname()[1])
    async with (
        simulated(["kraken"]) as server,
        Plant(settings_for(server, ["kraken"], tmp_path, metrics__port=port)) as plant,
    ):
        assert plant.metrics is not None
        assert plant.metrics.fault is not None
        assert plant.metrics.fault.where == f"127.0.0.1:{port}"
        assert "Address already in use" in plant.metrics.fault.what
        await until(lambda: all_live(plant, 2))
        other.close()
        await until(lambda: plant.metrics.fault is None)
        assert (await metrics(port))["tickplant_records_total", (("lane", "kraken"),)] > 0


def test_labels_are_escaped() -> None:
    odd = 'b"\\\n'
    lines = Family("x", "gauge", "Text.", [("", (("a", odd),), 1)]).lines()
    assert samples("\n".join(lines) + "\n") == {("x", (("a", odd),)): 1}


def test_what_is_required_must_be_subscribed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="XBT/EUR is required but not among the instruments"):
        config.load(flags={"venue.kraken.instruments": ["BTC/USD"], "venue.kraken.required": ["XBT/EUR"]})

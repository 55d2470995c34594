"""The exporter against a running plant, read by the rules of Prometheus' text format."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from pathlib import Path

import pytest
from tests.flow.conftest import all_live, settings_for, simulated, until

from tickplant import config
from tickplant.errors import ConfigError
from tickplant.plant import Plant
from tickplant.telemetry import Family

SAMPLE = re.compile(r'([a-z_]+)\{((?:[a-z]+="(?:[^"\\\n]|\\.)*",?)*)\} (\S+)')


def free_port() -> int:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as found:
        return int(found.getsockname()[1])


async def get(port: int, path: str) -> tuple[int, str]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    return int(head.split()[1]), body


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample; each line must be one, and stand behind its family's HELP and TYPE."""
    found: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    family = ""
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            family = line.split()[2]
        if line.startswith("#"):
            continue
        match = SAMPLE.fullmatch(line)
        assert match, line
        assert match[1].removesuffix("_bucket").removesuffix("_sum").removesuffix("_count") == family, line
        labels = tuple(sorted(re.findall(r'([a-z]+)="((?:[^"\\]|\\.)*)"', match[2])))
        assert (match[1], labels) not in found, line
        found[match[1], labels] = float(match[3])
    return found


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
                return ("md_heartbeat_latency_ms", kraken) in samples((await get(port, "/metrics"))[1])

            kraken = (("exchange", "kraken"),)
            await until(has_pinged)
            status, text = await get(port, "/metrics")
            assert status == 200
            found = samples(text)
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
                return samples((await get(port, "/metrics"))[1])["md_reconnects_total", kraken] == 1

            await until(is_told)
            plant.unsubscribe(f"{symbol}.KRAKEN")

            async def is_not_ready() -> bool:
                return (await get(port, "/ready")) == (503, f"not proven live: {symbol}.KRAKEN\n")

            await until(is_not_ready)


def test_labels_are_escaped() -> None:
    lines = list(Family("x", "gauge", "Text.", [("", (("a", 'b"\\\n'),), 1)]).lines())
    assert lines[-1] == 'x{a="b\\"\\\\\\n"} 1'


def test_what_is_required_must_be_subscribed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="XBT/EUR is required but not among the instruments"):
        config.load(flags={"venue.kraken.instruments": ["BTC/USD"], "venue.kraken.required": ["XBT/EUR"]})

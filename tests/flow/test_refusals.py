"""A venue that cannot be entered: the log says why and when the next try comes, and the plant heals."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.conftest import free_port

from tickplant import Plant
from tickplant.clock import SECOND_NS, wall_ns
from tickplant.records import ConnectionState, Reason, Status, Subject
from tickplant.sim import SimServer, tls
from tickplant.venues.kraken import Kraken
from tickplant.venues.plan import Rate

from .conftest import all_live, settings_for, simulated, until

HTML = b"<!DOCTYPE html><html><body>Checking your browser</body></html>"


def reply(status: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Content-Type: text/html", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


class Door:
    """Stands before a venue's address: shut, answering for the venue, or leading to a port."""

    def __init__(self) -> None:
        self.answer: bytes | None = None
        self.leads_to: int | None = None
        # It stays the door's while it is shut: nobody is given it.
        self.port = free_port()
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def shut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            if self.leads_to is not None:
                inner, outer = await asyncio.open_connection("127.0.0.1", self.leads_to)
                await asyncio.gather(carry(reader, outer), carry(inner, writer))
            elif self.answer is not None:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(self.answer)
                await writer.drain()
        writer.close()


async def carry(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await source.read(1 << 16):
            target.write(data)
            await target.drain()
    target.close()


@contextlib.asynccontextmanager
async def plant_behind(door: Door, server: SimServer, log: Path, **flags: object) -> AsyncIterator[Plant]:
    """A plant that reaches the simulated Kraken through the door, with short waits."""
    url = urlsplit(server.addresses["kraken"].websocket)
    kraken = {
        "url": f"{url.scheme}://127.0.0.1:{door.port}{url.path}",
        "backoff_first_s": 0.05,
        "backoff_most_s": 0.1,
        **flags,
    }
    settings = settings_for(server, ["kraken"], log, **{f"venue__kraken__{name}": v for name, v in kraken.items()})
    async with Plant(settings) as plant:
        yield plant


def connection_records(plant: Plant) -> list[tuple[str, Status]]:
    """Connection STATUS records so far, each with its lane, in order."""
    found = []
    for batch in plant.log.records(schema="status"):
        for record in batch:
            assert isinstance(record, Status)
            if record.subject is Subject.CONNECTION:
                found.append((batch.lane, record))
    return found


def ended(plant: Plant, reason: Reason) -> list[tuple[str, Status]]:
    """Attempts that ended for this reason."""
    return [
        (lane, record)
        for lane, record in connection_records(plant)
        if record.reason is reason and record.current is ConnectionState.WAITING
    ]


def port_of(server: SimServer) -> int:
    port = urlsplit(server.addresses["kraken"].websocket).port
    assert port is not None
    return port


async def check_and_heal(plant: Plant, door: Door, server: SimServer, reason: Reason, *words: str) -> list[Status]:
    """Waits for two refused attempts, checks what is said of them, lets the plant in."""
    await until(lambda: len(ended(plant, reason)) >= 2)
    assert plant.state.name == "RUNNING"
    refused = ended(plant, reason)
    for lane, record in refused:
        text = plant.log.blob(lane, record.ref).decode()
        assert all(word in text for word in words), text
        assert record.value > record.ts_recv
    # The next attempt was made when it was said and not before; how much later depends on the machine.
    records = [record for _, record in connection_records(plant)]
    for at, record in enumerate(records):
        if record.current is ConnectionState.WAITING and record.reason is reason and at + 1 < len(records):
            granted = records[at + 1]
            assert granted.current is ConnectionState.CONNECTING
            assert granted.ts_recv >= record.value
    door.leads_to = port_of(server)
    await door.shut()
    await door.open()
    await until(lambda: all_live(plant, 2))
    return [record for _, record in refused]


async def test_nobody_listens(tmp_path: Path) -> None:
    door = Door()
    await door.open()
    await door.shut()
    async with simulated(["kraken"]) as server, plant_behind(door, server, tmp_path) as plant:
        await check_and_heal(plant, door, server, Reason.CONNECT_FAILED, "refused", "nothing listens")
        await door.shut()


@pytest.mark.parametrize("name", ["another authority", None], ids=["unknown", "false"])
async def test_a_certificate_of_a_wrong_authority(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str | None
) -> None:
    """One that nobody knows, and one that only bears the name of the one that is trusted."""
    door = Door()
    await door.open()
    async with contextlib.AsyncExitStack() as stack:
        right = await stack.enter_async_context(simulated(["kraken"], tls=True))
        with monkeypatch.context() as patch:
            if name is not None:
                patch.setattr(tls, "_name", lambda _, made=tls._name: made(name))
            wrong = await stack.enter_async_context(simulated(["kraken"], tls=True))
        door.leads_to = port_of(wrong)
        async with plant_behind(door, right, tmp_path) as plant:
            words = "no authority that is trusted" if name else "not valid: BadSignature"
            await check_and_heal(plant, door, right, Reason.TLS_FAILED, "certificate", words)
        await door.shut()


@pytest.mark.parametrize(
    ("answer", "reason", "words"),
    [
        (reply("403 Forbidden", b"not from your region"), Reason.HANDSHAKE_REFUSED, ("403", "not from your region")),
        (reply("429 Too Many Requests"), Reason.RATE_LIMITED, ("429",)),
        (reply("200 OK", HTML), Reason.HANDSHAKE_REFUSED, ("200", "Checking your browser")),
        (HTML, Reason.PROTOCOL_ERROR, ("HTTP/1.1",)),
    ],
    ids=["403", "429", "html-200", "html-alone"],
)
async def test_a_refused_handshake(tmp_path: Path, answer: bytes, reason: Reason, words: tuple[str, ...]) -> None:
    door = Door()
    door.answer = answer
    await door.open()
    async with simulated(["kraken"]) as server, plant_behind(door, server, tmp_path) as plant:
        for record in await check_and_heal(plant, door, server, reason, *words):
            assert record.value - record.ts_recv <= 0.15 * SECOND_NS
        await door.shut()


async def test_retry_after_is_honoured(tmp_path: Path) -> None:
    door = Door()
    door.answer = reply("429 Too Many Requests", b"", "Retry-After: 1")
    await door.open()
    async with simulated(["kraken"]) as server, plant_behind(door, server, tmp_path) as plant:
        for record in await check_and_heal(plant, door, server, Reason.RATE_LIMITED, "429"):
            assert SECOND_NS <= record.value - record.ts_recv < 1.2 * SECOND_NS
        await door.shut()


async def test_the_budget_of_the_address_holds_a_storm_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With back-offs far too short for the venue the attempts keep to its rate, and the wait is told."""
    rate = Rate(3, 2)
    monkeypatch.setattr(Kraken, "connection_rate", rate)
    door = Door()
    await door.open()
    await door.shut()
    begun_ns = wall_ns()
    async with simulated(["kraken"]) as server, plant_behind(door, server, tmp_path, loops=2) as plant:

        def grants() -> list[int]:
            return sorted(
                record.ts_recv
                for _, record in connection_records(plant)
                if record.current is ConnectionState.CONNECTING and record.reason is Reason.GRANTED
            )

        # Three at once, then three in each two seconds, for both loops together: the seventh comes after four.
        await until(lambda: len(grants()) >= 2 * rate.most + 1)
        # A grant reaches the loop after its turn, and how long after depends on the machine.
        span_ns = rate.seconds * SECOND_NS
        assert all(at >= begun_ns + turn // rate.most * span_ns for turn, at in enumerate(grants()))
        told = [r for batch in plant.log.records(schema="status") for r in batch if r.subject is Subject.PLANT]
        assert any(record.reason is Reason.RATE_LIMITED and record.value > 0 for record in told)


async def test_a_proxy_that_refuses(tmp_path: Path) -> None:
    door = Door()
    door.answer = reply("407 Proxy Authentication Required", b"who are you")
    await door.open()
    async with simulated(["kraken"]) as server:
        flags = {
            "url": server.addresses["kraken"].websocket,
            "proxy": f"http://127.0.0.1:{door.port}",
        }
        async with plant_behind(door, server, tmp_path, **flags) as plant:

            def refused() -> list[str]:
                records = [(lane, r) for lane, r in connection_records(plant) if r.current is ConnectionState.WAITING]
                texts = [plant.log.blob(lane, record.ref).decode() for lane, record in records if record.reason != 1]
                return [text for text in texts if "407" in text]

            await until(lambda: len(refused()) >= 2)
            assert "proxy" in refused()[0]
            assert plant.state.name == "RUNNING"
        await door.shut()


async def test_a_name_without_an_address(tmp_path: Path) -> None:
    door = Door()
    async with simulated(["kraken"]) as server:
        url = "ws://no-such-venue.invalid/v2"
        async with plant_behind(door, server, tmp_path, url=url) as plant:
            await until(lambda: len(ended(plant, Reason.CONNECT_FAILED)) >= 2)
            for lane, record in ended(plant, Reason.CONNECT_FAILED):
                assert "no-such-venue.invalid cannot be resolved" in plant.log.blob(lane, record.ref).decode()

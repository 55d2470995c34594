"""The simulated venues on real sockets: paths, REST, TLS, pings, dropped connections, a clean end."""

from __future__ import annotations

import asyncio
import json
import signal
import ssl
import sys
from typing import Any

import aiohttp
import pytest
from tests.conftest import WITHIN_S
from tests.sim.plain import PlainBook, parsed, values

from tickplant.clock import SECOND_NS, wall_ns
from tickplant.sim import SimServer, build_venue, build_venues
from tickplant.sim.venues.kraken import Kraken

SUBSCRIBE = {"method": "subscribe", "params": {"channel": "book", "symbol": ["BTC/USD"], "depth": 25}}


def kraken(**settings: Any) -> Any:
    return build_venue("kraken", seed=3, start_ns=wall_ns(), rate=2000, **settings)


async def take(socket: aiohttp.ClientWebSocketResponse, book: PlainBook) -> str | None:
    """Takes one message, into the book where it is one of a book, and gives its channel."""
    message = parsed((await socket.receive(timeout=WITHIN_S)).data)
    channel: str | None = message.get("channel")
    if channel == "book":
        (data,) = message["data"]
        sides = [[(row["price"], row["qty"]) for row in data[side]] for side in ("bids", "asks")]
        (book.load if message["type"] == "snapshot" else book.apply)(*sides)
        book.truncate(25)
    return channel


async def receive_book(socket: aiohttp.ClientWebSocketResponse, book: PlainBook, messages: int) -> None:
    while messages:
        messages -= await take(socket, book) == "book"


@pytest.mark.parametrize("tls", [False, True])
async def test_a_client_on_a_socket_holds_the_truth(tls: bool) -> None:
    async with SimServer([kraken()], tls=tls) as server, aiohttp.ClientSession() as session:
        address = server.addresses["kraken"]
        trust = ssl.create_default_context(cafile=server.ca_path) if tls else True
        assert address.websocket.startswith("wss://127.0.0.1:" if tls else "ws://127.0.0.1:")
        async with session.ws_connect(address.websocket, ssl=trust) as socket:
            assert parsed((await socket.receive()).data)["channel"] == "status"
            await socket.send_json(SUBSCRIBE)
            book = PlainBook()
            await receive_book(socket, book, 500)
            server.running(False)
            truth = values(server.venue("kraken").book("BTC/USD"), 25)
            async with asyncio.timeout(WITHIN_S):
                while book.levels() != truth:
                    await take(socket, book)
                while await take(socket, book) != "heartbeat":
                    pass
            assert book.levels() == truth
        async with session.get(f"{address.http}/0/public/AssetPairs", ssl=trust) as reply:
            assert reply.status == 200
            assert reply.content_type == "application/json"
        async with session.get(f"{address.http}/v3", ssl=trust) as reply:
            assert reply.status == 404
        if tls:
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await session.ws_connect(address.websocket)
    assert server.ca_path is None or not server.ca_path.exists()


async def test_all_venues_listen_under_their_real_paths() -> None:
    asked = {
        "kraken": ("", SUBSCRIBE, "book"),
        "binance": ("?streams=btcusdt@depth@100ms", None, "btcusdt@depth@100ms"),
        "binance_usdm": ("", {"method": "SUBSCRIBE", "params": ["btcusdt@depth@0ms"], "id": 1}, "depthUpdate"),
        "coinbase": ("", {"type": "subscribe", "product_ids": ["BTC-USD"], "channels": ["level2_batch"]}, "l2update"),
    }
    venues = build_venues(list(asked), seed=1, start_ns=wall_ns(), rate=500)
    paths = ["/0/public/Time", "/api/v3/depth?symbol=BTCUSDT", "/fapi/v1/depth?symbol=BTCUSDT&limit=5", "/products"]
    async with SimServer(venues) as server, aiohttp.ClientSession() as session:
        for (name, (query, request, expected)), path in zip(asked.items(), paths, strict=True):
            address = server.addresses[name]
            async with session.ws_connect(address.websocket + query) as socket:
                if request:
                    await socket.send_json(request)
                while expected not in (await socket.receive(timeout=WITHIN_S)).data:
                    pass
            async with session.get(address.http + path) as reply:
                assert reply.status == 200
                assert await reply.json()


async def test_a_wrong_path_is_no_websocket() -> None:
    async with SimServer([kraken()]) as server, aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(server.addresses["kraken"].websocket + "x")
        assert refused.value.status == 404


async def test_dropped_connections_end_and_new_ones_start_afresh() -> None:
    async with SimServer([kraken()]) as server, aiohttp.ClientSession() as session:
        for _ in range(2):
            async with session.ws_connect(server.addresses["kraken"].websocket) as socket:
                await socket.send_json(SUBSCRIBE)
                await receive_book(socket, PlainBook(), 3)
                assert server.connections("kraken") == 1
                assert server.drop_connections("kraken") == 1
                while (await socket.receive(timeout=WITHIN_S)).type is aiohttp.WSMsgType.TEXT:
                    pass
                assert server.connections("kraken") == 0


async def test_the_end_is_a_close_frame() -> None:
    async with aiohttp.ClientSession() as session:
        async with SimServer([kraken()]) as server:
            socket = await session.ws_connect(server.addresses["kraken"].websocket)
            await socket.receive()
            reader = asyncio.create_task(socket.receive())
        await reader
        assert socket.close_code == 1001


async def test_a_client_without_pongs_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Kraken, "ping_every_ns", SECOND_NS // 10)
    monkeypatch.setattr(Kraken, "pong_within_ns", 5 * SECOND_NS)
    async with SimServer([kraken()]) as server, aiohttp.ClientSession() as session:
        address = server.addresses["kraken"].websocket
        async with session.ws_connect(address, autoping=False) as mute, session.ws_connect(address) as answering:
            kinds = []
            while not kinds or kinds[-1] not in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED):
                await answering.send_json({"method": "ping"})
                await answering.receive(timeout=WITHIN_S)
                kinds.append((await mute.receive(timeout=WITHIN_S)).type)
            assert aiohttp.WSMsgType.PING in kinds
            assert mute.close_code == 1008
            await answering.send_json({"method": "ping"})
            assert not answering.closed


async def test_a_venue_that_breaks_is_not_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Kraken, now_ns: int) -> Any:
        raise ArithmeticError("broken on purpose")

    async with SimServer([kraken()]) as server:
        monkeypatch.setattr(Kraken, "advance", broken)
        with pytest.raises(ArithmeticError):
            await asyncio.wait_for(server.wait(), WITHIN_S)
        # Stopping tells it once more, for those who did not wait.
        with pytest.raises(ArithmeticError):
            await server.stop()


async def test_the_command_prints_its_addresses_and_stops() -> None:
    command = [sys.executable, "-m", "tickplant.sim", "--venues", "kraken", "--instruments", "2", "--seed", "7"]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout
    facts = json.loads(await asyncio.wait_for(process.stdout.readline(), WITHIN_S))
    assert facts["venues"]["kraken"]["symbols"] == ["BTC/USD", "ETH/USD"]
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(facts["venues"]["kraken"]["websocket"]) as socket,
    ):
        assert "status" in (await socket.receive(timeout=WITHIN_S)).data
        process.send_signal(signal.SIGTERM)
        assert (await socket.receive(timeout=WITHIN_S)).type is aiohttp.WSMsgType.CLOSE
    assert await asyncio.wait_for(process.wait(), WITHIN_S) == 0


async def test_the_command_refuses_what_is_not_there() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tickplant.sim", "--venues", "nyse", stderr=asyncio.subprocess.PIPE
    )
    _, complaint = await asyncio.wait_for(process.communicate(), WITHIN_S)
    assert process.returncode == 2
    assert "nyse" in complaint.decode()
    assert "kraken" in complaint.decode()

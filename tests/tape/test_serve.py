"""The replay server, heard by a client that we did not write (websockets) and told by its own command."""

import asyncio
import gzip
import json
import signal
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import WITHIN_S
from websockets.asyncio.client import connect
from websockets.sync.client import connect as connect_blocking

from tickplant.clock import sleep
from tickplant.errors import ConfigError
from tickplant.sim.tls import server_context
from tickplant.tape.serve import TapeServer


async def subscribe(socket, params="T.*"):
    assert json.loads(await socket.recv())[0]["status"] == "connected"
    await socket.send('{"action":"auth","params":"KEY"}')
    assert json.loads(await socket.recv())[0]["status"] == "auth_success"
    await socket.send(json.dumps({"action": "subscribe", "params": params}))
    assert json.loads(await socket.recv()) == [
        {"ev": "status", "status": "success", "message": f"subscribed to: {params}"}
    ]


async def take(socket, count):
    trades = []
    while len(trades) < count:
        trades += json.loads(await socket.recv())
    return trades


async def complete(server):
    async with asyncio.timeout(WITHIN_S):
        while not all(client.complete for client in server.clients()):
            await sleep(0.01)
    return server.clients()


async def stalled(server):
    """Until the first client was sent something and then, for a while, nothing more."""
    before = None
    async with asyncio.timeout(WITHIN_S):
        while not (before and before.trades and server.clients()[0] == before):
            before = server.clients()[0]
            await sleep(0.05)


async def test_a_foreign_client_gets_every_trade():
    with TapeServer(symbols=100, trades=20_000) as server:
        async with connect(server.url + "stocks", max_size=None) as socket:
            await subscribe(socket)
            trades = await take(socket, 20_000)
        assert [trade["q"] for trade in trades] == list(range(100_000_000, 100_020_000))
        [client] = await complete(server)
        assert (client.trades, client.frames) == (20_000, 157)


async def test_tls_is_the_same_tape(tmp_path):
    _, authority = server_context(tmp_path, "127.0.0.1")
    trust = ssl.create_default_context(cafile=authority)
    with TapeServer(trades=30_000, certificate=tmp_path / "server.pem") as server, TapeServer(trades=30_000) as plain:
        assert server.url.startswith("wss://")
        for one in (server, plain):
            async with connect(one.url, ssl=trust if one is server else None, max_size=None) as socket:
                await subscribe(socket)
                assert len(await take(socket, 30_000)) == 30_000
        [ours], [theirs] = await complete(server), await complete(plain)
        assert (ours.bytes, ours.checksum) == (theirs.bytes, theirs.checksum)


async def test_a_slow_client_loses_nothing():
    with TapeServer(trades=100_000) as server:
        async with connect(server.url, max_size=None, max_queue=1) as socket:
            await subscribe(socket)
            await stalled(server)
            assert not server.clients()[0].complete
            assert len(await take(socket, 100_000)) == 100_000


@pytest.mark.parametrize("packed", [False, True])
async def test_a_saved_tape_keeps_its_frames_and_bytes(tmp_path, packed):
    lines = ['[{"ev":"T","sym":"A","p":1.0}, {"ev":"T","sym":"B{","p":2}]', '[{"ev":"T","sym":"A"}]']
    file = tmp_path / "tape.ndjson"
    text = "\n".join(lines).encode()
    file.write_bytes(gzip.compress(text) if packed else text)
    with TapeServer(file, no_handshake=True) as server:
        async with connect(server.url) as socket:
            assert await socket.recv() == lines[0].replace(", ", ",")
            assert await socket.recv() == lines[1]


async def test_a_paced_tape_keeps_its_rate():
    with TapeServer(rate="1000", trades=300, no_handshake=True) as server:
        async with connect(server.url) as socket:
            await take(socket, 300)
        [client] = await complete(server)
        # It cannot be early; how late it is depends on the machine.
        assert client.elapsed_ns >= 299_000_000
        assert client.frames > 100


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rate": "quick"}, "no rate"),
        ({"file": "/nowhere/tape"}, "cannot be read"),
        ({"host": "192.0.2.1"}, "cannot be listened on"),
        ({"certificate": Path("/nowhere.pem")}, "nowhere.pem"),
    ],
)
def test_what_is_wrong_is_said(options, words):
    with pytest.raises(ConfigError, match=words):
        TapeServer(**options)


def test_a_broken_tape_is_told_with_its_line(tmp_path):
    file = tmp_path / "tape"
    file.write_text('{"sym":"A"}\n{"sym":')
    with pytest.raises(ConfigError, match=r"tape:2 ends within an object"):
        TapeServer(file)


@pytest.mark.parametrize("ahead", [[], ["--ahead", "--no-handshake"]])
def test_the_command_tells_what_it_sent(ahead):
    command = [sys.executable, "-m", "tickplant", "serve-tape", "--synthetic", "--rate", "max", "--port", "0"]
    with subprocess.Popen(
        [*command, "--trades", "500", "--json", *ahead], stdout=subprocess.PIPE, text=True
    ) as process:
        url = json.loads(process.stdout.readline())["url"]
        with connect_blocking(url) as socket:
            if not ahead:
                socket.recv()
                socket.send('{"action":"auth","params":"KEY"}')
                socket.send('{"action":"subscribe","params":"T.*"}')
                assert [json.loads(socket.recv())[0]["status"] for _ in range(2)] == ["auth_success", "success"]
            assert sum(len(json.loads(socket.recv())) for _ in range(4)) == 500
        events = [json.loads(process.stdout.readline())]
        while events[-1]["event"] != "left":
            events.append(json.loads(process.stdout.readline()))
        process.send_signal(signal.SIGTERM)
        assert process.wait(WITHIN_S) == 0
    assert events[-1]["trades"] == 500
    assert len(events[-1]["checksum"]) == 16


def test_a_recorded_log_is_served_again_frame_by_frame(tmp_path):
    with TapeServer(symbols=50, trades=5_000, rate="1000000", close=True, no_handshake=True) as first:
        record = ["--pipes", "1", "--log", str(tmp_path), "--record", str(tmp_path), "--once"]
        command = [sys.executable, "-m", "tickplant", "route", first.url, *record]
        subprocess.run(command, timeout=WITHIN_S, check=True, capture_output=True)
        sent = first.clients()[0]
    with (
        TapeServer(tmp_path, close=True, no_handshake=True) as again,
        connect_blocking(again.url, max_size=None) as socket,
    ):
        frames = [json.loads(frame) for frame in socket]
        got = again.clients()[0]
    assert len(frames) == sent.frames
    assert [trade["q"] for frame in frames for trade in frame] == list(range(100_000_000, 100_005_000))
    assert (got.trades, got.bytes, got.checksum) == (sent.trades, sent.bytes, sent.checksum)


def test_a_log_without_a_tape_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="log"):
        TapeServer(tmp_path)

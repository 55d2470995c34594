"""Slow and dead readers, by each policy; frames that no sound server sends; connections that end in the middle."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.conftest import WITHIN_S, until
from tests.tape.route.routing import WORKER, Tape, command, trade

from tickplant.tape.shards import pipe_of

SYMBOLS = [f"S{number}" for number in range(50)]
# The reader of pipe 0 begins when the gate, a named pipe, is opened.
GATED = WORKER.replace(
    '    pipe = open(fd, "rb")', '    fd == fds[0] and open(f"{out}/gate").read(1)\n    pipe = open(fd, "rb")'
)
LEFT = """
import os, sys, time
fds = [int(text) for text in sys.argv[2:]]
if os.fork() == 0:
    os._exit(0)  # It should have read pipe 0. Its sibling holds that pipe's end too.
if os.fork() == 0:
    while os.read(fds[1], 65536):
        pass
    os._exit(0)
os.wait()
os.wait()
"""
COUNT = 12_000


def sent() -> list[str]:
    return [trade(SYMBOLS[number * 7 % 50], number).replace("}", f',"w":"{"x" * 500}"}}') for number in range(COUNT)]


def frames(objects: list[str]) -> list[str | bytes]:
    return ["[" + ",".join(objects[at : at + 40]) + "]" for at in range(0, len(objects), 40)]


def home(line: str) -> int:
    return pipe_of(json.loads(line)["sym"], 2)


class Gated:
    """A router with two pipes, of which nobody reads the first until the gate is opened."""

    def __init__(self, tape: Tape, folder: Path, *options: str) -> None:
        self.folder = folder
        os.mkfifo(folder / "gate")
        options = ("--once", "--json", "--pipe-bytes", "65536", "--grace-ms", "60000", *options)
        self.router = subprocess.Popen(
            command(tape, 2, GATED, folder, *options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def lines(self, pipe: int) -> list[str]:
        file = self.folder / str(pipe)
        return file.read_text().splitlines() if file.exists() else []

    def until_said(self, what: str) -> str:
        assert self.router.stderr is not None
        said = ""
        while what not in said:
            line = self.router.stderr.readline()
            assert line, said
            said += line
        return said

    def open(self) -> None:
        # It returns as soon as the reader is there, and waits for it.
        (self.folder / "gate").write_text("x")

    def end(self) -> tuple[dict, str]:
        output, said = self.router.communicate(timeout=WITHIN_S)
        assert self.router.returncode == 0, said
        return json.loads(output.splitlines()[-1]), said


def test_spill_leaves_the_other_pipe_alone_and_catches_up(tapes, tmp_path):
    objects = sent()
    wanted = [[line for line in objects if home(line) == pipe] for pipe in (0, 1)]
    run = Gated(tapes(frames(objects)), tmp_path)
    # The reader's file is buffered: all of it stands there when the pipe has ended, most of it before.
    until(lambda: len(run.lines(1)) > len(wanted[1]) - 100)
    assert run.lines(0) == []
    run.open()
    report, said = run.end()
    assert [run.lines(0), run.lines(1)] == wanted
    assert report["pipes"][0]["spilled_bytes"] > 1 << 20
    assert [pipe["dropped"] for pipe in report["pipes"]] == [0, 0]
    assert "catches up" in said


def test_drop_counts_every_message_that_it_drops(tapes, tmp_path):
    objects = sent()
    wanted = [[line for line in objects if home(line) == pipe] for pipe in (0, 1)]
    run = Gated(tapes(frames(objects)), tmp_path, "--when-full", "drop")
    assert run.router.stdout is not None
    while json.loads(run.router.stdout.readline())["trades"] < COUNT:
        pass
    run.open()
    report, _ = run.end()
    for pipe in (0, 1):
        assert len(run.lines(pipe)) + report["pipes"][pipe]["dropped"] == len(wanted[pipe])
    got = run.lines(0)
    assert report["pipes"][0]["dropped"] > 1000
    # The newest were dropped: what came is the beginning.
    assert got == wanted[0][: len(got)]


@pytest.mark.parametrize("options", [("--when-full", "block"), ("--spill-dir", "/proc")])
def test_block_and_a_spill_that_fails_let_the_feed_wait(tapes, tmp_path, options):
    objects = sent()
    run = Gated(tapes(frames(objects)), tmp_path, *options)
    run.until_said("pipe 0 is STALLED")
    assert len(run.lines(1)) < COUNT // 4
    run.open()
    report, _ = run.end()
    assert [run.lines(0), run.lines(1)] == [[line for line in objects if home(line) == pipe] for pipe in (0, 1)]
    assert [pipe["dropped"] for pipe in report["pipes"]] == [0, 0]


def test_a_blocked_router_that_is_stopped_says_what_it_could_not_deliver(tapes, tmp_path):
    run = Gated(tapes(frames(sent()), stay=True), tmp_path, "--when-full", "block", "--grace-ms", "300")
    run.until_said("pipe 0 is STALLED")
    run.router.send_signal(signal.SIGTERM)
    report, said = run.end()
    assert "were not read" in said
    assert sum(pipe["messages"] for pipe in report["pipes"]) == report["trades"]
    assert report["pipes"][0]["queued_bytes"] > 0


def test_a_dead_reader_whose_sibling_holds_its_pipe_is_told(tapes, tmp_path):
    tape = tapes(frames(sent()), stay=True)
    router = subprocess.Popen(
        command(tape, 2, LEFT, tmp_path, "--grace-ms", "100"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert router.stderr is not None
    while "pipe 0 is STALLED" not in (line := router.stderr.readline()):
        assert line
    router.terminate()
    assert router.wait(WITHIN_S) == 0
    router.stderr.close()


class Raw:
    """A server that speaks the handshake and then sends given bytes, other ones to each further connection."""

    def __init__(self, connections: list[bytes]) -> None:
        self.connections = connections
        self.heard = b""
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_until_complete, args=(self._main(),), daemon=True).start()
        assert self._ready.wait(WITHIN_S)

    async def _main(self) -> None:
        self._done = asyncio.Event()
        async with await asyncio.start_server(self._serve, "127.0.0.1", 0) as server:
            self.address = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
            self._ready.set()
            await self._done.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        [key] = [line.partition(": ")[2] for line in head if line.lower().startswith("sec-websocket-key:")]
        accept = base64.b64encode(
            hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
        ).decode()
        reply = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade"
        reply = f"{reply}\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
        writer.write(reply.encode() + self.connections.pop(0))
        writer.write_eof()
        self.heard += await reader.read()
        writer.close()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._done.set)


@pytest.fixture
def raws() -> Iterator[Callable[[list[bytes]], Raw]]:
    made: list[Raw] = []

    def make(connections: list[bytes]) -> Raw:
        made.append(Raw(connections))
        return made[-1]

    yield make
    for raw in made:
        raw.close()


def frame(opcode: int, payload: bytes = b"", *, final: bool = True, reserved: int = 0) -> bytes:
    """A frame as a server sends it, legal or not."""
    first = bytes([final << 7 | reserved << 4 | opcode])
    if len(payload) < 126:
        return first + bytes([len(payload)]) + payload
    if len(payload) < 1 << 16:
        return first + b"\x7e" + len(payload).to_bytes(2) + payload
    return first + b"\x7f" + len(payload).to_bytes(8) + payload


TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10
GOOD = [trade("A", 1), trade("B", 2)]
HARMLESS = {
    "empty frames": frame(TEXT) + frame(BINARY) + frame(TEXT, final=False) + frame(CONTINUATION),
    "empty arrays": frame(TEXT, b"[]") + frame(TEXT, b"[[],[]]"),
    "pings of 125 bytes": frame(PING, b"p" * 125) * 20,
    "pongs that nobody asked for": frame(PONG, b"x" * 125) * 20,
    "objects without a symbol": frame(TEXT, b'[{"ev":"T"},{"ev":"T","sym":""},{},{"ev":"T","sym":5}]'),
    "an object without an end": frame(TEXT, b'[{"ev":"T","sym":"A","p":{"q":1}'),
    "no text at all": frame(TEXT, bytes(range(128, 256)) * 10),
}
FATAL = {
    "reserved bits": (frame(TEXT, b"[]", reserved=4), "illegal frame"),
    "an unknown opcode": (frame(3, b"x"), "illegal frame"),
    "an unknown control opcode": (frame(11), "illegal frame"),
    "a long ping": (frame(PING, b"x" * 126), "illegal frame"),
    "an oversized frame": (b"\x82\x7f" + (1 << 40).to_bytes(8), "illegal frame"),
    "a continuation of nothing": (frame(CONTINUATION, b"x"), "illegal frame"),
    "an end in the middle of a frame": (b"\x82\x7e\x10\x00[{", "without a close"),
    "a close in the middle of a message": (
        frame(TEXT, b"[", final=False) + frame(CLOSE, b"\x03\xe9bye"),
        "closed by the peer",
    ),
}


def route_raw(raw: Raw, folder: Path) -> tuple[list[str], str]:
    """What a worker got of a router's one connection, and what the router said."""
    start = [sys.executable, "-m", "tickplant", "route", raw.address, "--pipes", "1", "--once"]
    done = subprocess.run(
        [*start, "--", sys.executable, "-c", WORKER, str(folder)],
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return (folder / "0").read_text().splitlines(), done.stderr


def test_harmless_oddities_change_nothing(raws, tmp_path):
    odd = b"".join(frame(TEXT, GOOD[0].encode()) + piece for piece in HARMLESS.values())
    raw = raws([odd + frame(BINARY, GOOD[1].encode()) + frame(CLOSE, b"\x03\xe8")])
    got, _ = route_raw(raw, tmp_path)
    assert got == [GOOD[0]] * len(HARMLESS) + [GOOD[1]]
    # Each ping was answered with its own bytes, masked.
    assert raw.heard.count(bytes([0x80 | PONG, 0x80 | 125])) == 20


@pytest.mark.parametrize("kind", FATAL)
def test_an_illegal_frame_ends_the_connection_behind_what_was_good(raws, tmp_path, kind):
    bad, reason = FATAL[kind]
    raw = raws([frame(TEXT, f"[{GOOD[0]},{GOOD[1]}]".encode()) + bad + frame(TEXT, GOOD[0].encode())])
    got, said = route_raw(raw, tmp_path)
    assert got == GOOD
    assert reason in said


def test_braces_and_escapes_in_strings_are_routed_byte_for_byte(raws, tmp_path):
    objects = [
        r'{"ev":"T","sym":"A","n":"}{][,\\\"\\u007d\\\\"}',
        r'{"n":{"a":["}"]},"sym":"B}","ev":"T"}',
        r'{ "ev" : "T" , "sym" : "C" , "n" : "\\\\" }',
    ]
    cut = ("[" + " , ".join(objects) + "]").encode()
    pieces = frame(TEXT, cut[:37], final=False) + frame(PING) + frame(CONTINUATION, cut[37:])
    got, _ = route_raw(raws([pieces + frame(CLOSE)]), tmp_path)
    assert got == objects


def test_connections_that_end_in_the_middle_are_made_anew_and_totals_are_kept(raws, tmp_path):
    whole = frame(TEXT, f"[{GOOD[0]},{GOOD[1]}]".encode())
    raw = raws([whole + frame(TEXT, GOOD[0].encode())[:20], whole + frame(CLOSE), whole + frame(3, b"x")])
    start = [sys.executable, "-m", "tickplant", "route", raw.address, "--pipes", "1", "--json"]
    router = subprocess.Popen(
        [*start, "--", sys.executable, "-c", WORKER, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert router.stdout is not None
    while (report := json.loads(router.stdout.readline()))["trades"] < 6:
        pass
    router.terminate()
    output, said = router.communicate(timeout=WITHIN_S)
    report = json.loads(output.splitlines()[-1])
    assert (report["trades"], report["connections"], report["connected"]) == (6, 3, False)
    assert said.count("; again in") == 3
    assert (tmp_path / "0").read_text().splitlines() == GOOD * 3

"""The router against a real server, with real workers: what arrives, in which pipe, and that nothing outlives it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection, serve

from tickplant import clock

# After the reference's README: a blocking worker that forks one child per descriptor and writes down what it got.
WORKER = """
import os, sys
out, fds = sys.argv[1], [int(text) for text in sys.argv[2:]]
children = []
for fd in fds:
    pid = os.fork()
    if pid:
        children.append(pid)
        continue
    for other in fds:
        if other != fd:
            os.close(other)
    pipe = open(fd, "rb")
    with open(f"{out}/{fds.index(fd)}", "wb") as file:
        while header := pipe.read(4):
            file.write(pipe.read(int.from_bytes(header, byteorder="little")) + b"\\n")
    os._exit(0)
for fd in fds:
    os.close(fd)
for pid in children:
    os.waitpid(pid, 0)
"""
SLEEPER = """
import os, signal, sys
for _ in range(2):
    if os.fork() == 0:
        os.setsid()
        break
open(f"{sys.argv[1]}/{os.getpid()}.pid", "w").close()
signal.pause()
"""


def trade(symbol: str, number: int) -> str:
    return json.dumps({"ev": "T", "sym": symbol, "q": number, "c": [14, 41]}, separators=(",", ":"))


class Tape:
    """A server that sends frames to each client and then closes, or stays."""

    def __init__(self, frames: list[str | bytes], *, stay: bool = False) -> None:
        self.frames, self.stay, self.heard = frames, stay, list[str]()
        self.address = ""
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_until_complete, args=(self._main(),), daemon=True).start()
        assert self._ready.wait(10)

    async def _main(self) -> None:
        self._done = asyncio.Event()
        async with serve(self._client, "127.0.0.1", 0, compression=None) as server:
            self.address = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
            self._ready.set()
            await self._done.wait()

    async def _client(self, client: ServerConnection) -> None:
        for frame in self.frames:
            await client.send(frame)
        async for text in client if self.stay else _nothing():
            self.heard.append(str(text))
            answer = "auth_success" if "auth" in str(text) else "success"
            await client.send(json.dumps([{"ev": "status", "status": answer, "message": ""}]))

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._done.set)


async def _nothing():
    for item in ():
        yield item


@pytest.fixture
def tapes() -> Iterator[Callable[..., Tape]]:
    made: list[Tape] = []

    def make(frames: list[str | bytes], *, stay: bool = False) -> Tape:
        made.append(Tape(frames, stay=stay))
        return made[-1]

    yield make
    for tape in made:
        tape.close()


def command(tape: Tape, pipes: int, worker: str, folder: Path, *options: str) -> list[str]:
    start = [sys.executable, "-m", "tickplant", "route", tape.address, "--pipes", str(pipes), *options]
    return [*start, "--", sys.executable, "-c", worker, str(folder)]


def until(holds: Callable[[], object], seconds: float = 10.0) -> None:
    last = clock.monotonic_ns() + int(seconds * 1e9)
    while not holds():
        assert clock.monotonic_ns() < last, "it never came true"
        threading.Event().wait(0.02)


@pytest.mark.parametrize("pipes", [1, 31, 79])
def test_every_trade_arrives_once_in_order_in_its_symbols_pipe(tapes, tmp_path, pipes):
    symbols = [f"S{number}" for number in range(500)]
    sent = [trade(symbols[number * 7 % 500], number) for number in range(20_000)]
    frames: list[str | bytes] = ["[" + ",".join(sent[at : at + 40]) + "]" for at in range(0, len(sent), 40)]
    frames[3] = str(frames[3]).encode()
    odd: list[str | bytes] = [
        "",
        "[]",
        '[{"ev":"T"}]',
        '[{"ev":"Q","sym":"S1"}]',
        b"\xff\xfe",
        "[[[",
        '{"ev":"T","sym":',
    ]
    tape = tapes(odd + frames)
    done = subprocess.run(
        command(tape, pipes, WORKER, tmp_path, "--once"), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    got = {file.name: file.read_text().splitlines() for file in tmp_path.iterdir()}
    assert sum(map(len, got.values())) == len(sent)
    home: dict[str, str] = {}
    for pipe, lines in got.items():
        last: dict[str, int] = {}
        for line in lines:
            fields = json.loads(line)
            assert home.setdefault(fields["sym"], pipe) == pipe
            assert fields["q"] > last.get(fields["sym"], -1)
            last[fields["sym"]] = fields["q"]
    assert sorted(line for lines in got.values() for line in lines) == sorted(sent)
    assert done.stdout.count(" Rate {r ") == len(sent) // 8192


def pids(folder: Path) -> list[int]:
    return [int(file.stem) for file in folder.glob("*.pid")]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return state.exists() and state.read_text().rpartition(") ")[2][:1] != "Z"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_worker_and_no_child_of_one_outlives_the_router(tapes, tmp_path, number):
    tape = tapes([], stay=True)
    router = subprocess.Popen(
        command(tape, 2, SLEEPER, tmp_path, "--grace-ms", "100"), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    until(lambda: len(pids(tmp_path)) == 3)
    router.send_signal(number)
    router.communicate(timeout=20)
    assert router.returncode == (0 if number == signal.SIGTERM else -signal.SIGKILL)
    until(lambda: not any(map(alive, pids(tmp_path))))


def test_a_login_is_spoken_and_a_stalled_pipe_told(tapes, tmp_path):
    status = '[{"ev":"status","status":"connected","message":"Connected"}]'
    tape = tapes([status, "[" + trade("A", 1) + "]"], stay=True)
    router = subprocess.Popen(
        command(tape, 1, SLEEPER, tmp_path, "--subscribe", "T.*", "--grace-ms", "100"),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"TICKPLANT_AUTH": "hidden"},
    )
    assert router.stderr is not None
    said = ""
    while "STALLED" not in said or "the subscription stands" not in said:
        line = router.stderr.readline()
        assert line, said
        said += line
    router.terminate()
    rest = router.communicate(timeout=20)[1]
    assert [json.loads(text)["action"] for text in tape.heard] == ["auth", "subscribe"]
    assert "hidden" not in said + rest
    assert "and are lost" not in said


def test_a_worker_that_cannot_be_run_or_ends_is_an_error(tapes, tmp_path):
    tape = tapes([], stay=True)
    start = [sys.executable, "-m", "tickplant", "route", tape.address, "--pipes", "2", "--"]
    missing = subprocess.run([*start, "/nowhere/worker"], capture_output=True, text=True, timeout=30, check=False)
    assert missing.returncode == 7
    assert "/nowhere/worker" in missing.stderr
    ended = subprocess.run([*start, "true"], capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 7
    assert "nobody reads the tape" in ended.stderr

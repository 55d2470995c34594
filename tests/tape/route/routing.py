"""What the router's tests share: a server of given frames, the command, and how to wait for a thing."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
from pathlib import Path

from tests.conftest import WITHIN_S
from websockets.asyncio.server import ServerConnection, serve

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
        assert self._ready.wait(WITHIN_S)

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


def command(tape: Tape, pipes: int, worker: str, folder: Path, *options: str) -> list[str]:
    start = [sys.executable, "-m", "tickplant", "route", tape.address, "--pipes", str(pipes), *options]
    return [*start, "--", sys.executable, "-c", worker, str(folder)]


def pids(folder: Path) -> list[int]:
    return [int(file.stem) for file in folder.glob("*.pid")]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return state.exists() and state.read_text().rpartition(") ")[2][:1] != "Z"

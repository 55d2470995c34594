"""`plant.sock`: the only door for commands into a running plant.

One JSON object a line in, one a line out: `{"ok": true, ...}` or `{"ok": false, "error": ...}`. The socket is the
owner's alone (mode 0600).
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from tickplant.errors import PlantError, TickplantError

LINE_BYTES_MAX = 1 << 20
ANSWER_TIMEOUT_S = 10.0

Command = dict[str, Any]


class ControlServer:
    """Serves commands on a Unix socket."""

    def __init__(self, path: Path, carry_out: Callable[[Command], Awaitable[Command]]) -> None:
        self.path = path
        self._carry_out = carry_out
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Binds the socket. Raises PlantError where another plant answers on it; a dead plant's is replaced."""
        if self.path.exists() and _is_alive(self.path):
            raise PlantError(
                "another plant runs on this log", where=str(self.path), hint="stop it, or use another log directory"
            )
        self.path.unlink(missing_ok=True)
        mask = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._serve, str(self.path), limit=LINE_BYTES_MAX)
        finally:
            os.umask(mask)

    async def stop(self) -> None:
        """Closes the socket and its clients."""
        if self._server is None:
            return
        self._server.close()
        for client in self._clients:
            client.close()
        await self._server.wait_closed()
        self.path.unlink(missing_ok=True)
        self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.add(writer)
        try:
            while line := await reader.readline():
                writer.write(json.dumps(await self._answer(line)).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):
            # The client went away, or sent a line over the limit: its own affair.
            pass
        finally:
            self._clients.discard(writer)
            writer.close()

    async def _answer(self, line: bytes) -> Command:
        try:
            command = json.loads(line)
            if not isinstance(command, dict):
                raise PlantError("a command is a JSON object", hint='such as {"do": "summary"}')
            return {"ok": True, **await self._carry_out(command)}
        except json.JSONDecodeError as error:
            return {"ok": False, **PlantError(f"the command is no JSON: {error}").to_dict()}
        except TickplantError as error:
            return {"ok": False, **error.to_dict()}


def send_command(path: Path, command: Command) -> Command:
    """Sends one command to a running plant and gives its answer. Raises PlantError where none runs or it refuses."""
    try:
        with socket.socket(socket.AF_UNIX) as door:
            door.settimeout(ANSWER_TIMEOUT_S)
            door.connect(str(path))
            door.sendall(json.dumps(command).encode() + b"\n")
            answer: Command = json.loads(door.makefile("rb").readline(LINE_BYTES_MAX))
    except (OSError, ValueError) as error:
        raise PlantError("no plant answers", where=str(path), hint=f"is it running? ({error})") from error
    if not answer.pop("ok", False):
        raise PlantError(answer.get("what", "refused"), where=answer.get("where", ""), hint=answer.get("hint", ""))
    return answer


def _is_alive(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as door:
        door.settimeout(1.0)
        try:
            door.connect(str(path))
        except OSError:
            return False
        return True

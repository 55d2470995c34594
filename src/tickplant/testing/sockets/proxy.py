"""A proxy that wounds: between a plant and a simulated venue it cuts, delays, mutes, corrupts, truncates and drops.

It stands on a port of its own and passes on what comes, byte for byte, but for the faults. Every fault is drawn once a
second of each connection, and one that needs a message waits for the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Mapping
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from tickplant import clock
from tickplant.clock import Random, seeded
from tickplant.errors import ConfigError
from tickplant.testing.dialects import Dialect
from tickplant.testing.faults import PRESETS, Fired, load_faults
from tickplant.testing.sockets.frames import TEXT, Frame, Frames

SOCKET_FAULTS = (
    "rst", "fin", "half_open", "mute", "drop", "delay", "truncate", "corrupt", "connect_failed", "connect_refused",
    "rest_500", "rest_slow",
)  # fmt: skip
"""Those of the simulator's faults that can be had on a socket, `rst` at any byte."""
_RATES: dict[str, dict[str, float]] = {
    "calm": {},
    "flaky": {
        **dict.fromkeys(("rst", "fin", "drop", "delay", "truncate", "corrupt"), 0.006),
        **dict.fromkeys(("half_open", "mute"), 0.002),
        **dict.fromkeys(("connect_failed", "connect_refused", "rest_500", "rest_slow"), 0.05),
    },
}
_RATES["storm"] = {name: 4 * rate for name, rate in _RATES["flaky"].items()}
_FRAME_FAULTS = ("drop", "delay", "truncate", "corrupt", "rst")
_DELAY_MOST_S = 4.0
_SLOW_MOST_S = 5.0
_HEAD_BYTES_MOST = 1 << 16
_READ_BYTES = 1 << 16
_REFUSED = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_FAILED = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def socket_faults(name: str) -> dict[str, float]:
    """Probabilities for sockets by a preset's name (`calm flaky storm`) or from a TOML file as the simulator takes it.

    A socket's hour takes an hour, so the presets are far more likely here than in virtual time. Raises ConfigError.
    """
    if name in _RATES:
        return dict(_RATES[name])
    if name in PRESETS:
        raise ConfigError(f'there is no "{name}" for sockets', expected=f"one of {', '.join(_RATES)}, or a TOML file")
    return {fault: rate for fault, rate in load_faults(name).items() if fault in SOCKET_FAULTS}


class FaultProxy:
    """A door to one venue for as long as the `async with` lasts; `websocket` and `http` are its addresses.

    `fired` tells each fault with its wall time. Once `heal` was called it only passes on.
    """

    def __init__(
        self, venue: str, code: str, websocket: str, http: str, faults: Mapping[str, float], *, seed: int
    ) -> None:
        self.fired: list[Fired] = []
        self.on = True
        self.code = code
        self.dialect = Dialect(venue)
        self.rng: Random = seeded(f"proxy {seed} {venue}")
        self._faults = {name: faults[name] for name in SOCKET_FAULTS if faults.get(name)}
        self._websocket, self._http = urlsplit(websocket), urlsplit(http)
        self._passages: set[_Passage] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._pace = clock.Pace()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        door = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        self.websocket = self._websocket._replace(netloc=door).geturl()
        self.http = self._http._replace(netloc=door).geturl()
        self._keep(asyncio.create_task(self._tick()))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception) and not isinstance(result, OSError):
                raise result

    def heal(self) -> None:
        """No more faults; what is mute or half open is hung up on."""
        self.on = False
        for passage in list(self._passages):
            if passage.is_mute or passage.is_half_open:
                passage.reset()

    def draw(self, *names: str) -> str | None:
        """The fault that fires now out of these, if one does."""
        if not self.on:
            return None
        return next((name for name in names if self.rng.random() < self._faults.get(name, 0.0)), None)

    def note(self, name: str, detail: str = "") -> None:
        """A fault fires now."""
        self.fired.append(Fired(self._pace.now_ns(), name, self.code, detail))

    def _keep(self, task: asyncio.Task[None]) -> None:
        """It ends with the proxy."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tick(self) -> None:
        while True:
            await clock.sleep(1.0)
            for passage in list(self._passages):
                passage.wound(self.draw("fin", "half_open", "mute", *_FRAME_FAULTS))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (task := asyncio.current_task()) is not None:
            self._keep(task)
        try:
            await self._pass_on(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        is_websocket = b"upgrade: websocket" in head.lower()
        names = ("connect_failed", "connect_refused") if is_websocket else ("rest_500", "rest_slow")
        name = self.draw(*names)
        if name is not None:
            self.note(name)
        if name == "connect_failed":
            return
        if name in ("connect_refused", "rest_500"):
            writer.write(_REFUSED if name == "connect_refused" else _FAILED)
            await writer.drain()
            return
        if name == "rest_slow":
            await clock.sleep(self.rng.random() * _SLOW_MOST_S)
        there = self._websocket if is_websocket else self._http
        far_reader, far_writer = await asyncio.open_connection(there.hostname, there.port, limit=_HEAD_BYTES_MOST)
        far_writer.write(head)
        passage = _Passage(self, reader, writer, far_reader, far_writer)
        if is_websocket:
            writer.write(await far_reader.readuntil(b"\r\n\r\n"))
            self._passages.add(passage)
        try:
            await passage.run(is_websocket=is_websocket)
        finally:
            self._passages.discard(passage)
            far_writer.transport.abort()


class _Passage:
    """One connection through the proxy."""

    def __init__(
        self,
        proxy: FaultProxy,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        far_reader: asyncio.StreamReader,
        far_writer: asyncio.StreamWriter,
    ) -> None:
        self._proxy = proxy
        self._near, self._far = (reader, writer), (far_reader, far_writer)
        self.is_mute = self.is_half_open = False
        self._next: str | None = None
        """The fault of the next message."""

    async def run(self, *, is_websocket: bool) -> None:
        """Passes on until either side ends."""
        work = [self._there(), self._here() if is_websocket else self._copy(self._far[0], self._near[1])]
        tasks = [asyncio.create_task(part) for part in work]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def wound(self, name: str | None) -> None:
        """A fault befalls this connection now, or its next message."""
        if name is None or self.is_mute or self.is_half_open or self._next is not None:
            return
        if name in _FRAME_FAULTS:
            self._next = name
            return
        self._proxy.note(name)
        if name == "fin":
            with contextlib.suppress(OSError):
                self._near[1].write_eof()
            self._far[1].transport.abort()
        self.is_mute = name == "mute"
        self.is_half_open = name == "half_open"

    def reset(self) -> None:
        """Ends the connection with a RST."""
        near = self._near[1]
        opened = near.get_extra_info("socket")
        if opened is not None:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        near.transport.abort()

    async def _there(self) -> None:
        reader, writer = self._near[0], self._far[1]
        while data := await reader.read(_READ_BYTES):
            if not self.is_half_open:
                writer.write(data)
                await writer.drain()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_READ_BYTES):
            writer.write(data)
            await writer.drain()

    async def _here(self) -> None:
        frames = Frames()
        writer = self._near[1]
        while data := await self._far[0].read(_READ_BYTES):
            for frame in frames.feed(data):
                if self.is_half_open or (self.is_mute and frame.opcode == TEXT):
                    continue
                name = self._next if frame.opcode == TEXT else None
                if name is None:
                    writer.write(frame.raw)
                elif not await self._spoil(name, frame):
                    return
            await writer.drain()

    async def _spoil(self, name: str, frame: Frame) -> bool:
        """Sends what becomes of a message. False: nothing comes after it."""
        proxy, writer = self._proxy, self._near[1]
        spoken = proxy.dialect.read(frame.payload.decode())
        is_unseen = name == "drop" and spoken.sort == "book" and not proxy.dialect.proven
        if is_unseen or (name != "rst" and spoken.sort == "other"):
            # It waits for a message whose loss or change shows.
            writer.write(frame.raw)
            return True
        self._next = None
        proxy.note(name, f"{spoken.sort} {spoken.symbol}".strip())
        size = len(frame.payload)
        match name:
            case "rst":
                writer.write(frame.raw[: proxy.rng.randrange(len(frame.raw))])
                with contextlib.suppress(OSError):
                    await writer.drain()
                self.reset()
                return False
            case "delay":
                await clock.sleep(proxy.rng.random() * _DELAY_MOST_S)
                writer.write(frame.raw)
            case "truncate":
                writer.write(frame.with_payload(frame.payload[: proxy.rng.randrange(1, max(2, size))]))
            case "corrupt":
                spoiled = bytearray(frame.payload)
                spoiled[proxy.rng.randrange(size)] = 0xFF
                writer.write(frame.with_payload(bytes(spoiled)))
        return True

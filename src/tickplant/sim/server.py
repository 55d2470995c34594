"""Runs simulated venues on real sockets: WebSocket and REST on one port a venue, paced by the clock, TLS or not."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import tempfile
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from aiohttp import WSCloseCode, WSMsgType, web

from tickplant.clock import MILLISECOND_NS, SECOND_NS, Pace, monotonic_ns, sleep
from tickplant.sim.tls import server_context
from tickplant.sim.venue import Close, Message, Venue

# The venue moves at most this often; what fell due within a turn goes out together.
_TURN_LEAST_NS = MILLISECOND_NS
_TURN_MOST_NS = 50 * MILLISECOND_NS
# A client that lets more than this pile up is cut, as the venues do.
_BACKLOG_BYTES_MOST = 64 << 20
_MESSAGE_BYTES_MOST = 1 << 20


@dataclass(frozen=True, slots=True)
class Address:
    """Where a venue listens: the WebSocket address with the venue's usual path, and the base of its REST paths."""

    websocket: str
    http: str


class _Client:
    """One WebSocket connection: messages wait here for its writer."""

    def __init__(self, socket: web.WebSocketResponse, transport: asyncio.BaseTransport | None) -> None:
        self.socket = socket
        self.transport = transport
        self.waiting: deque[Message] = deque()
        self.waiting_bytes = 0
        self.bell = asyncio.Event()
        self.unanswered_ns: int | None = None  # when the first ping without a pong was sent

    def send(self, message: Message) -> None:
        self.waiting.append(message)
        self.waiting_bytes += len(message) if isinstance(message, str) else 0
        self.bell.set()

    async def write(self) -> None:
        """Sends what waits, until the connection ends or the venue hangs up."""
        while True:
            await self.bell.wait()
            self.bell.clear()
            while self.waiting:
                message = self.waiting.popleft()
                if isinstance(message, Close):
                    await self.socket.close(code=message.code, message=message.reason.encode())
                    return
                self.waiting_bytes -= len(message)
                await self.socket.send_str(message)


class _Site:
    """One venue behind one port."""

    def __init__(self, venue: Venue, clock: Pace) -> None:
        self.venue = venue
        self.clients: dict[int, _Client] = {}
        self.cut = 0
        self._clock = clock
        self._opened = 0

    async def serve(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return self._http(request)
        if not self.venue.serves(request.path):
            return web.Response(status=404, text="Not Found")
        return await self._websocket(request)

    async def pace(self) -> None:
        """Moves the venue with the clock, for ever."""
        while True:
            for connection, message in self.venue.advance(self._clock.now_ns()):
                self.send(connection, message)
            wait_ns = self.venue.next_ns() - self._clock.now_ns()
            await sleep(min(max(wait_ns, _TURN_LEAST_NS), _TURN_MOST_NS) / SECOND_NS)

    async def ping(self) -> None:
        """Pings every client in the venue's rhythm and hangs up on those that do not answer in its time."""
        while True:
            await sleep(self.venue.ping_every_ns / SECOND_NS)
            payload = str(self._clock.now_ns() // MILLISECOND_NS).encode()
            now_ns = monotonic_ns()
            for client in list(self.clients.values()):
                if now_ns - (client.unanswered_ns or now_ns) > self.venue.pong_within_ns:
                    client.send(Close(WSCloseCode.POLICY_VIOLATION, "pong timeout"))
                    continue
                client.unanswered_ns = client.unanswered_ns or now_ns
                with contextlib.suppress(ConnectionError, RuntimeError):
                    await client.socket.ping(payload)

    def send(self, connection: int, message: Message) -> None:
        client = self.clients.get(connection)
        if client is None:
            return
        client.send(message)
        if client.waiting_bytes > _BACKLOG_BYTES_MOST:
            self.cut += 1
            self.abort(connection)

    def abort(self, connection: int) -> None:
        """Ends a connection without a word."""
        client = self.clients.pop(connection)
        self.venue.disconnect(connection)
        client.waiting.clear()
        if isinstance(client.transport, asyncio.Transport):
            client.transport.abort()

    def _http(self, request: web.Request) -> web.Response:
        reply = self.venue.http(
            request.method, request.path, request.query_string, self._clock.now_ns(), dict(request.headers)
        )
        return web.Response(status=reply.status, text=reply.body, content_type="application/json")

    async def _websocket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(autoping=False, compress=False, max_msg_size=_MESSAGE_BYTES_MOST)
        await socket.prepare(request)
        self._opened += 1
        connection, client = self._opened, _Client(socket, request.transport)
        self.clients[connection] = client
        for message in self.venue.connect(connection, self._clock.now_ns(), request.path, request.query_string):
            client.send(message)
        writer = asyncio.create_task(client.write())
        try:
            async for frame in socket:
                if frame.type is WSMsgType.PING:
                    await socket.pong(frame.data)
                elif frame.type is WSMsgType.PONG:
                    client.unanswered_ns = None
                elif frame.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                    text = frame.data if isinstance(frame.data, str) else frame.data.decode(errors="replace")
                    for message in self.venue.receive(connection, text, self._clock.now_ns()):
                        client.send(message)
        finally:
            self.venue.disconnect(connection)
            self.clients.pop(connection, None)
            writer.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError, RuntimeError):
                await writer
        return socket


class SimServer:
    """Simulated venues on loopback, for as long as the `async with` lasts.

    `tls=True` serves `wss` and `https` with a throw-away certificate; clients trust `ca_path`. `port` is the first
    venue's, the others follow it; 0 lets the system choose. Leaving raises what broke a venue, if anything did.
    """

    def __init__(self, venues: Sequence[Venue], *, tls: bool = False, host: str = "127.0.0.1", port: int = 0) -> None:
        clock = Pace()
        self.ca_path: Path | None = None
        self.addresses: dict[str, Address] = {}
        self._sites = {venue.name: _Site(venue, clock) for venue in venues}
        if len(self._sites) != len(venues):
            raise ValueError("a server runs each venue once")
        self._tls, self._host, self._port = tls, host, port
        self._runners: list[web.AppRunner] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listens and sets the venues going. Raises OSError where a port is taken."""
        context: ssl.SSLContext | None = None
        if self._tls:
            self._folder = tempfile.TemporaryDirectory(prefix="tickplant-sim-")
            context, self.ca_path = server_context(Path(self._folder.name), self._host)
        try:
            for number, (name, site) in enumerate(self._sites.items()):
                port = await self._listen(site, self._port + number if self._port else 0, context)
                secure = "s" if context else ""
                base = f"{self._host}:{port}"
                self.addresses[name] = Address(f"ws{secure}://{base}{site.venue.path}", f"http{secure}://{base}")
                self._tasks += [asyncio.create_task(site.pace()), asyncio.create_task(site.ping())]
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Hangs up on every client (1001, going away) and stops listening. Raises what broke a venue, if anything."""
        for task in self._tasks:
            task.cancel()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        for site in self._sites.values():
            for client in list(site.clients.values()):
                client.send(Close(WSCloseCode.GOING_AWAY, "the simulation ends"))
        await asyncio.gather(*(runner.cleanup() for runner in self._runners))
        if self._folder:
            self._folder.cleanup()
        self._tasks, self._runners, self._folder = [], [], None
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def wait(self) -> None:
        """Returns only when a venue broke, by raising what broke it."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    def venue(self, name: str) -> Venue:
        """A running venue by its name, for its truth."""
        return self._sites[name].venue

    def running(self, running: bool) -> None:
        """Lets all markets trade, or stand still with heartbeats going on, so that books can be compared."""
        for site in self._sites.values():
            site.venue.market.running = running

    def drop_connections(self, name: str) -> int:
        """Cuts every connection of a venue without a word and says how many there were."""
        site = self._sites[name]
        connections = list(site.clients)
        for connection in connections:
            site.abort(connection)
        return len(connections)

    def connections(self, name: str) -> int:
        """Open WebSocket connections of a venue."""
        return len(self._sites[name].clients)

    async def _listen(self, site: _Site, port: int, context: ssl.SSLContext | None) -> int:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", site.serve)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=2.0)
        await runner.setup()
        self._runners.append(runner)
        listener = web.TCPSite(runner, self._host, port, ssl_context=context)
        await listener.start()
        return int(runner.addresses[0][1])

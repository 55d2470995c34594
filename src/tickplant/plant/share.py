"""One share of a venue: a native ingestion loop and what it asks of the control thread.

The loop owns its sockets, parsers, books and lane and never waits for Python. What it cannot do alone it asks for: a
connection attempt (granted here, its name resolved anew each time), a part of the address's budgets, and a token
(fetched and signed here).
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from tickplant import _native, clock
from tickplant.errors import ConfigError, VenueError
from tickplant.plant.budget import Budget, BudgetName, Budgets
from tickplant.records import Reason
from tickplant.venues.base import HttpRequest, Venue
from tickplant.venues.lines import ALONE, Sharers
from tickplant.venues.settings import VenueSettings

HTTP_TIMEOUT_S = 10.0


class Share:
    """A running loop. All methods are called on the event loop's thread."""

    def __init__(
        self,
        log: _native.LogHandle,
        venue: Venue,
        settings: VenueSettings,
        instruments: Mapping[str, int],
        *,
        lane: str,
        budgets: Budgets,
        sharers: Sharers = ALONE,
        priority: str = "normal",
        core: int | None = None,
        seed: int | None = None,
        on_stopped: Callable[[Share, str | None], None],
    ) -> None:
        self.venue = venue
        self.settings = settings
        self.lane = lane
        self._budgets = budgets
        self._sharers = sharers
        self._on_stopped = on_stopped
        self._tasks: set[asyncio.Task[None]] = set()
        # One question at a time: a loop that hangs must not take up a thread for each who asks.
        self._asked: asyncio.Task[dict[str, Any]] | None = None
        self._reported: dict[str, Any] | None = None
        self._reported_at = clock.monotonic_ns()
        plan = json.dumps(venue.plan(instruments, settings)).encode()
        options = {
            "ca": settings.ca,
            "proxy": settings.proxy,
            "message_bytes_max": settings.message_bytes_max,
            "priority": priority,
            "core": core,
        }
        decoder = venue if venue.decoder == "python" else None
        self._loop = _native.Loop(log, lane, plan, json.dumps(options).encode(), seed=seed, decoder=decoder)

    def start(self) -> None:
        """Starts the loop's thread; its requests are answered from now on."""
        asyncio.get_running_loop().add_reader(self._loop.fileno(), self._answer_requests)
        self._loop.start()

    def command(self, do: str, **arguments: Any) -> None:
        """Gives the session a command (`subscribe`, `unsubscribe`, `resync`, `reconnect`, ...)."""
        self._loop.command(json.dumps({"do": do, **arguments}).encode())

    def subscribe(self, symbol: str, instrument_id: int) -> None:
        """Adds one holder of an instrument to the intended set."""
        self.command("subscribe", instruments=[self.venue.instrument(symbol, instrument_id, self.settings)])

    def unsubscribe(self, instrument_id: int) -> None:
        """Takes one holder away; the last one ends the subscription."""
        self.command("unsubscribe", instrument_ids=[instrument_id])

    async def report(self) -> dict[str, Any]:
        """The loop's own account: instruments, connections, latency, archive."""
        text = await asyncio.to_thread(self._loop.report)
        report: dict[str, Any] = json.loads(text)
        return report

    async def last_report(self, patience_s: float) -> tuple[dict[str, Any] | None, int]:
        """The account that a loop gives within so long, else its last (None: it gave none yet), and its age in ns."""
        if self._asked is None:
            self._asked = asyncio.create_task(self.report())
        await asyncio.wait((self._asked,), timeout=patience_s)
        if self._asked.done():
            if not self._asked.cancelled() and self._asked.exception() is None:
                self._reported, self._reported_at = self._asked.result(), clock.monotonic_ns()
            self._asked = None
        return self._reported, clock.monotonic_ns() - self._reported_at

    async def stop(self) -> None:
        """Drains the session, closes the sockets, makes the lane durable. Returns when the thread has ended."""
        self._loop.stop()
        await asyncio.to_thread(self._loop.join)
        asyncio.get_running_loop().remove_reader(self._loop.fileno())
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # what the loop asks for

    def _answer_requests(self) -> None:
        for kind, connection, text in self._loop.requests():
            if kind == "connect":
                self._spawn(self._grant(connection, text))
            elif kind == "token":
                self._spawn(self._fetch_token(connection))
            elif kind == "ask":
                self._spawn(self._allow(connection, json.loads(text)))
            elif kind == "hold":
                self._hold(json.loads(text))
            else:
                self._on_stopped(self, text or None)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _grant(self, connection: int, url: str) -> None:
        """Waits for the address's budget, resolves the name (of a proxy where there is one), lets the attempt be made.

        A wait is told as a STATUS with reason RATE_LIMITED and its length in ns.
        """
        await self._turn("connections", url)
        parts = urlsplit(self.settings.proxy or url)
        default_port = 443 if parts.scheme in ("wss", "https") else 80
        try:
            found = await asyncio.get_running_loop().getaddrinfo(
                parts.hostname, parts.port or default_port, type=socket.SOCK_STREAM
            )
        except OSError as error:
            self._loop.refuse(connection, f"the name {parts.hostname} cannot be resolved: {error.strerror or error}")
            return
        self._loop.grant(connection, [_address(info[4]) for info in found])

    async def _allow(self, connection: int, asked: dict[str, Any]) -> None:
        """Grants what a session asked for when its turn has come."""
        await self._turn(asked["budget"], asked["url"], asked["amount"])
        self.command("allowed", budget=asked["budget"], connection=connection, amount=asked["amount"])

    def _hold(self, asked: dict[str, Any]) -> None:
        """The venue asked one connection or request for patience: every loop on the address gives it."""
        budget = self._budget(asked["budget"], asked["url"])
        if budget is not None:
            budget.hold(clock.monotonic_ns() + asked["wait_ns"])

    def _budget(self, name: BudgetName, url: str) -> Budget | None:
        """The budget that a request to this address is of; None where the venue has no such one."""
        venue = self.venue.speaking(self.settings)
        # Behind a proxy it is still the venue that counts.
        address = urlsplit(venue.rest(self.settings) if name == "fetches" else url).netloc
        rate = {
            "connections": venue.connection_rate,
            "messages": venue.message_rate,
            "fetches": venue.fetch_rate,
        }[name]
        if rate is None:
            return None
        processes = self._sharers.fetches if name == "fetches" else self._sharers.connections
        return self._budgets.of(name, address, rate.part(processes))

    async def _turn(self, name: BudgetName, url: str, amount: int = 1) -> None:
        """Returns when it is this asker's turn. A wait is told as a STATUS: reason RATE_LIMITED, its length in ns."""
        budget = self._budget(name, url)
        if budget is None:
            return
        now_ns = clock.monotonic_ns()
        at_ns = budget.take(now_ns, amount)
        if at_ns > now_ns:
            detail = f"the venue's budget of {name} is used up for now"
            self.command("note", reason=int(Reason.RATE_LIMITED), value=at_ns - now_ns, detail=detail)
        await _sleep_until(at_ns)
        # Meanwhile the venue may have asked for patience.
        while budget.held_until_ns > clock.monotonic_ns():
            await _sleep_until(budget.held_until_ns)

    async def _fetch_token(self, connection: int) -> None:
        try:
            await self._turn("fetches", "")
            request = self.venue.token_request(self.settings, clock.wall_ns())
            token = self.venue.parse_token(await self._http(request))
            self.command("token", connection=connection, token=token, detail="")
        except (ConfigError, VenueError, TimeoutError, OSError) as error:
            self.command("token", connection=connection, token=None, detail=str(error) or type(error).__name__)

    async def _http(self, request: HttpRequest | None) -> bytes:
        if request is None:
            raise VenueError(
                "the private channel needs a key", hint="set api_key and api_secret", venue=self.venue.code
            )
        # Only a private channel needs an HTTP client in Python, and its import takes longer than everything else's.
        import aiohttp

        tls = ssl.create_default_context()
        if self.settings.ca is not None:
            tls.load_verify_locations(self.settings.ca)
        timeout = aiohttp.ClientTimeout(total=HTTP_TIMEOUT_S)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as client,
                client.request(
                    request.method,
                    request.url,
                    headers=request.headers,
                    data=request.body or None,
                    ssl=tls,
                    proxy=self.settings.proxy,
                ) as reply,
            ):
                body = await reply.read()
        except aiohttp.ClientError as error:
            raise VenueError(
                f"the token could not be fetched: {error}", where=request.url, venue=self.venue.code
            ) from error
        if reply.status != 200:
            raise VenueError(f"the request was answered with {reply.status}", where=request.url, venue=self.venue.code)
        return body


async def _sleep_until(at_ns: int) -> None:
    await asyncio.sleep(max(0, at_ns - clock.monotonic_ns()) / clock.SECOND_NS)


def _address(sockaddr: Any) -> str:
    host, port = sockaddr[0], sockaddr[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

"""The river: the one file that joins the stages of a plant.

    settings ─► shares (a venue's loop each) ─► lanes of one log ─► readers
                    ▲
    plant.sock, Plant.subscribe(), ... ─ commands

A plant lives on an asyncio loop, its control thread: it grants connections, resolves names, fetches tokens, assigns
instrument ids and takes commands. The data never passes through here.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from tickplant import _native, clock, config
from tickplant.errors import LogError, PlantError, TickplantError, UnknownInstrument
from tickplant.log import Log
from tickplant.plant.budget import Budgets
from tickplant.plant.control import ControlServer
from tickplant.plant.share import Share
from tickplant.telemetry import MetricsServer
from tickplant.venues.base import InstrumentId, share_of
from tickplant.venues.lines import Sharers, line_settings
from tickplant.venues.settings import VenueSettings
from tickplant.venues.table import find_venue

Batches = AsyncIterator[Any]
PATIENCE_S = 1.0


class PlantState(Enum):
    """The life of a plant."""

    STARTING = "starting"
    RUNNING = "running"
    DRAINING = "draining"
    STOPPED = "stopped"
    FAILED = "failed"


class Only(NamedTuple):
    """One share of one venue: all that this process runs (`--only kraken:1/4` is share 0 of 4)."""

    venue: str
    share: int = 0
    shares: int = 1


class Line(NamedTuple):
    """Which of several redundant lines this process is (`--line 1/2` is line 0 of 2). The others are like it."""

    line: int = 0
    lines: int = 1


ONE_LINE: Final = Line()


class Plant:
    """A running plant: `async with Plant.open("plant.toml") as plant`. Use one instance on one event loop."""

    def __init__(
        self, settings: config.Config, *, only: Only | None = None, line: Line | None = None, seed: int | None = None
    ) -> None:
        self.settings = settings
        self.only = only
        self.line = line or ONE_LINE
        self.state = PlantState.STARTING
        self.failure: TickplantError | None = None
        self._seed = seed
        self._shares: dict[str, Share] = {}
        self._budgets = Budgets()
        self._checkpointers: list[_native.Checkpointer] = []
        self._control: ControlServer | None = None
        self.metrics: MetricsServer | None = None
        self._callbacks: set[asyncio.Task[None]] = set()
        self._ended = asyncio.Event()

    @classmethod
    def open(
        cls,
        settings: config.Config | str | Path | None = None,
        *,
        only: Only | None = None,
        line: Line | None = None,
        seed: int | None = None,
        **flags: object,
    ) -> Self:
        """A plant of these settings: a `Config`, a TOML file, or none (then `flags` and `subscribe` say it all).

        `flags` are dotted names with `__` for the dot: `log__path="data"`. Raises ConfigError.
        """
        if not isinstance(settings, config.Config):
            settings = config.load(settings, flags={name.replace("__", "."): value for name, value in flags.items()})
        return cls(settings, only=only, line=line, seed=seed)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def path(self) -> Path:
        """The log directory."""
        return Path(self.settings.log.path)

    @property
    def lanes(self) -> list[str]:
        """The lanes of the log that this plant writes; others may be written by other processes."""
        return list(self._shares)

    async def start(self) -> None:
        """Opens the log and starts a loop for each share. Raises LogError where the log or a lane cannot be used."""
        self._handle = _native.LogHandle(str(self.path), json.dumps(log_options(self.settings.log)).encode())
        self.log = Log.open(self.path)
        try:
            for code, settings in self.settings.venues.items():
                if self.only is None or self.only.venue == code:
                    self._start_venue(code, settings)
            part = "" if self.only is None else f"-{self.only.venue.lower()}-{self.only.share}"
            self._control = ControlServer(self.path / f"plant{part}{_line_suffix(self.line)}.sock", self._on_command)
            await self._control.start()
            if self.settings.metrics.port:
                await self._start_metrics()
        except BaseException:
            await self.stop()
            raise
        self.state = PlantState.RUNNING

    async def stop(self) -> None:
        """Drains: accepted data is made durable, sockets are closed, threads end. Safe to call twice."""
        if self.state in (PlantState.DRAINING, PlantState.STOPPED):
            return
        failed = self.state is PlantState.FAILED
        self.state = PlantState.DRAINING
        for task in self._callbacks:
            task.cancel()
        await asyncio.gather(*self._callbacks, return_exceptions=True)
        if self._control is not None:
            await self._control.stop()
        await asyncio.gather(*(share.stop() for share in self._shares.values()))
        for checkpointer in self._checkpointers:
            await asyncio.to_thread(checkpointer.stop)
        if self.metrics is not None:
            await self.metrics.stop()
        self.state = PlantState.FAILED if failed else PlantState.STOPPED
        self._ended.set()

    async def wait(self) -> None:
        """Returns when the plant has stopped; raises what made it fail."""
        await self._ended.wait()
        if self.failure is not None:
            raise self.failure

    # what users call

    def subscribe(self, *instruments: str) -> None:
        """Adds a holder of each instrument (`BTC/USD.KRAKEN`) to the intended set, connected or not.

        Its venue is started where it was not configured. Raises UnknownVenue, UnknownInstrument, ConfigError.
        """
        for name in instruments:
            venue_code, symbol = self._parse(name)
            settings = self.settings.venues.get(venue_code, VenueSettings())
            share = self._share_for(venue_code, symbol, settings)
            share.subscribe(symbol, self._assign(symbol, venue_code))

    def unsubscribe(self, *instruments: str) -> None:
        """Takes one holder of each instrument away; the last one ends its subscription."""
        for name in instruments:
            share, instrument_id = self._find(name)
            share.unsubscribe(instrument_id)

    def resync(self, instrument: str) -> None:
        """Takes a new snapshot of one instrument's book."""
        share, instrument_id = self._find(instrument)
        share.command("resync", instrument_id=instrument_id)

    def reconnect(self, venue: str) -> None:
        """Closes a venue's connections and makes them anew."""
        code = find_venue(venue).code
        shares = [share for share in self._shares.values() if share.venue.code == code]
        if not shares:
            raise PlantError(f"{code} is not running here", hint=f"running: {', '.join(sorted(self._venues()))}")
        for share in shares:
            share.command("reconnect")

    def records(self, *instruments: str, schema: str = "levels") -> Batches:
        """Batches as they are committed, from now on; for the past use `plant.log.records(start=...)`."""
        position = self.log.position()
        batches: Batches = aiter(
            self.log.records(list(instruments) or None, schema=schema, start=position, follow=True)
        )
        return batches

    def on_records(
        self, callback: Callable[[Any], Awaitable[None] | None], *instruments: str, schema: str = "levels"
    ) -> None:
        """Calls `callback(batch)` for each batch; an exception in it ends the plant, it is never swallowed."""
        batches = self.records(*instruments, schema=schema)

        async def deliver() -> None:
            async for batch in batches:
                result = callback(batch)
                if result is not None:
                    await result

        task = asyncio.get_running_loop().create_task(deliver())
        self._callbacks.add(task)
        task.add_done_callback(self._on_callback_done)

    def on_status(self, callback: Callable[[Any], Awaitable[None] | None], *instruments: str) -> None:
        """Calls `callback(record)` for each change of state: a book or stream gone stale, a connection lost, a rung of
        recovery. An exception in it ends the plant."""

        async def each(batch: Any) -> None:
            for record in batch:
                result = callback(record)
                if result is not None:
                    await result

        self.on_records(each, *instruments, schema="status")

    async def summary(self) -> dict[str, Any]:
        """The plant's account: a row an instrument, the connections, latency in ns, archive and counts, by lane."""
        shares = list(self._shares.values())
        reports = await asyncio.gather(*(share.report() for share in shares))
        return self._account(zip(shares, reports, strict=True))

    async def last_summary(self) -> dict[str, Any]:
        """The summary, of each loop's last account where it gives none within a second; `ages_ns` by lane.

        A lane that has given none yet stands in `ages_ns` only.
        """
        shares = list(self._shares.values())
        found = await asyncio.gather(*(share.last_report(PATIENCE_S) for share in shares))
        told = [(share, report) for share, (report, _) in zip(shares, found, strict=True) if report is not None]
        ages = {share.lane: age for share, (_, age) in zip(shares, found, strict=True)}
        return {**self._account(told), "ages_ns": ages}

    def _account(self, reports: Iterable[tuple[Share, dict[str, Any]]]) -> dict[str, Any]:
        reports = list(reports)
        return {
            "name": self.settings.plant.name,
            "state": self.state.value,
            "budgets": self._budgets.summary(clock.monotonic_ns()),
            "instruments": [
                {"instrument": f"{row['symbol']}.{share.venue.code}", "lane": share.lane, **_unnamed(row)}
                for share, report in reports
                for row in report["session"]["instruments"]
            ],
            "lanes": {share.lane: {"venue": share.venue.code, **report} for share, report in reports},
        }

    async def _start_metrics(self) -> None:
        metrics, venues = self.settings.metrics, self.settings.venues
        required = [
            str(InstrumentId(symbol, code))
            for code, settings in venues.items()
            for symbol in settings.required
            if self._runs(code, symbol)
        ]
        self.metrics = MetricsServer(
            metrics.host, metrics.port, summary=self.last_summary, state=lambda: self.state.value, required=required
        )
        await self.metrics.start()

    def _runs(self, code: str, symbol: str) -> bool:
        """Whether an instrument belongs to this process, which may run one share of one venue only."""
        only = self.only
        return only is None or (only.venue == code and share_of(symbol, only.shares) == only.share)

    # shares

    def _start_venue(self, code: str, settings: VenueSettings) -> None:
        count = self.only.shares if self.only else settings.loops
        for index in range(count):
            if self.only is not None and self.only.share != index:
                continue
            symbols = [symbol for symbol in settings.instruments if share_of(symbol, count) == index]
            self._start_share(code, settings, symbols, lane=lane_name(code, index, count, self.line))

    def _start_share(self, code: str, settings: VenueSettings, symbols: Iterable[str], *, lane: str) -> Share:
        sharers = Sharers.of(settings, *self.line)
        settings = line_settings(self.settings.healthy(settings), *self.line)
        venue = find_venue(code, settings.class_)
        instruments = {symbol: self._assign(symbol, code) for symbol in symbols}
        cores = self.settings.plant.cores
        share = Share(
            self._handle,
            venue,
            settings,
            instruments,
            lane=lane,
            budgets=self._budgets,
            sharers=sharers,
            priority=self.settings.plant.priority,
            core=cores[len(self._shares) % len(cores)] if cores else None,
            seed=self._seed,
            on_stopped=self._on_share_stopped,
        )
        share.start()
        self._shares[lane] = share
        self._checkpointers.append(_native.Checkpointer(self.path, lane))
        return share

    def _share_for(self, code: str, symbol: str, settings: VenueSettings) -> Share:
        count = self.only.shares if self.only else settings.loops
        lane = lane_name(code, share_of(symbol, count), count, self.line)
        if lane not in self._shares:
            if self.only is not None:
                raise PlantError(
                    f"{symbol}.{code} belongs to lane {lane}, which another process runs",
                    hint="send the command to that process",
                )
            return self._start_share(code, settings, (), lane=lane)
        return self._shares[lane]

    def _assign(self, symbol: str, code: str) -> int:
        return self._handle.assign(str(InstrumentId(symbol, code)))

    def _parse(self, name: str) -> tuple[str, str]:
        parsed = InstrumentId.parse(name)
        settings = self.settings.venues.get(parsed.venue, VenueSettings())
        return parsed.venue, find_venue(parsed.venue, settings.class_).check_symbol(parsed.symbol)

    def _find(self, name: str) -> tuple[Share, int]:
        code, symbol = self._parse(name)
        settings = self.settings.venues.get(code, VenueSettings())
        count = self.only.shares if self.only else settings.loops
        share = self._shares.get(lane_name(code, share_of(symbol, count), count, self.line))
        instrument_id = self._handle.id_of(str(InstrumentId(symbol, code)))
        if share is None or instrument_id is None:
            raise UnknownInstrument(f"{symbol}.{code} was never subscribed here", hint="subscribe it first")
        return share, instrument_id

    def _venues(self) -> set[str]:
        return {share.venue.code for share in self._shares.values()}

    # what may go wrong, and commands from outside

    def _on_share_stopped(self, share: Share, error: str | None) -> None:
        if error is not None:
            self._fail(LogError(error, where=f"{self.path} lane {share.lane}"))

    def _on_callback_done(self, task: asyncio.Task[None]) -> None:
        self._callbacks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            failure = PlantError(f"a callback raised {type(error).__name__}: {error}", hint="mend the callback")
            failure.__cause__ = error
            self._fail(failure)

    def _fail(self, error: TickplantError) -> None:
        self.state = PlantState.FAILED
        self.failure = self.failure or error
        self._ended.set()

    async def _on_command(self, command: dict[str, Any]) -> dict[str, Any]:
        """Carries out one command of `plant.sock`."""
        match command:
            case {"do": "subscribe", "instruments": [*names]}:
                self.subscribe(*names)
            case {"do": "unsubscribe", "instruments": [*names]}:
                self.unsubscribe(*names)
            case {"do": "resync", "instrument": str(name)}:
                self.resync(name)
            case {"do": "reconnect", "venue": str(name)}:
                self.reconnect(name)
            case {"do": "summary"}:
                return await self.summary()
            case {"do": "drain"}:
                self._ended.set()
            case _:
                raise PlantError(
                    f"no such command: {json.dumps(command)[:200]}",
                    hint='known: subscribe and unsubscribe with "instruments", resync with "instrument", '
                    'reconnect with "venue", summary, drain',
                )
        return {}


def _unnamed(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "symbol"}


def lane_name(code: str, index: int, count: int, line: Line = ONE_LINE) -> str:
    """The lane of one share: `kraken`, or `kraken-1of4` (counted from 1) where there are several.

    Of a process that is one of several lines: `kraken-line1of2`. Readers know by this that the lanes are one stream.
    """
    return (code.lower() if count == 1 else f"{code.lower()}-{index + 1}of{count}") + _line_suffix(line)


def _line_suffix(line: Line) -> str:
    return f"-line{line.line + 1}of{line.lines}" if line.lines > 1 else ""


def log_options(settings: config.LogSettings) -> dict[str, object]:
    """The log's settings as the native side reads them."""
    return {
        "segment_bytes": settings.segment_bytes,
        "hot_bytes_max": settings.hot_bytes_max,
        "sync": settings.sync,
        "sync_interval_ms": settings.sync_interval_ms,
        "hot_root": settings.hot_root,
    }

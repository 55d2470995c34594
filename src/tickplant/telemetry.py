"""The one exporter: `/metrics` in Prometheus' text format, `/health` and `/ready`, on the port of `[metrics]`.

Everything is made of the plant's summary, at most once a second however many ask. A loop gives its part between two of
its turns; nothing is counted, formatted or sent on the way of the data. A loop that gives none in time is told by its
last one, with the age of it, and none of its books counts as ready.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

from tickplant import clock
from tickplant.errors import PlantError

TEXT = "text/plain; version=0.0.4; charset=utf-8"
CACHED_NS = 1_000_000_000
REQUEST_TIMEOUT_S = 5.0
REQUEST_BYTES_MAX = 16 * 1024
BIND_AGAIN_S = 2.0
"""A port that is taken is tried again: the plant that had it may be the one that this one follows."""
SILENT_NS = 5_000_000_000
"""So old an account says nothing of now."""
END_OF_TIME = 2**64 - 1
CONNECTED = ("SUBSCRIBING", "LIVE", "STALE")

Summary = Mapping[str, Any]
Labels = tuple[tuple[str, str], ...]


class Family(NamedTuple):
    """One metric: its kind, what it says, and its samples by suffix and labels."""

    name: str
    kind: str
    text: str
    samples: list[tuple[str, Labels, float]]

    def lines(self) -> Iterable[str]:
        """The family as Prometheus reads it."""
        yield f"# HELP {self.name} {self.text}"
        yield f"# TYPE {self.name} {self.kind}"
        for suffix, labels, value in self.samples:
            text = ",".join(f'{key}="{_escaped(word)}"' for key, word in labels)
            yield f"{self.name}{suffix}{{{text}}} {value!r}"


def _escaped(word: str) -> str:
    return word.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def exposition(summary: Summary) -> str:
    """The summary of a plant (`Plant.summary()`) in Prometheus' text format, ending with a line feed."""
    plant = (*_lanes(summary), *_budgets(summary), _ages(summary))
    every = (*_exchanges(summary), *_lines(summary), *_books(summary), *plant)
    return page(family for family in every if family.samples)


def page(families: Iterable[Family]) -> str:
    """Metrics in Prometheus' text format, ending with a line feed."""
    return "\n".join(line for family in families for line in family.lines()) + "\n"


def _exchanges(summary: Summary) -> list[Family]:
    """What is told of a venue as a whole: its lanes together."""
    ping = Family("md_heartbeat_latency_ms", "gauge", "Round trip of the last answered ping in milliseconds.", [])
    last = Family("md_last_message_timestamp", "gauge", "Receive time of the last message, Unix seconds.", [])
    again = Family("md_reconnects_total", "counter", "Attempts to connect after a connection's first.", [])
    state = Family("md_connection_state", "gauge", "1: all connections of the venue stand, 0: not.", [])
    took = Family("md_message_latency_seconds", "histogram", "From receiving a message to readable in the log.", [])
    count = Family("md_messages_total", "counter", "Venue messages by what they told.", [])
    venues: dict[str, list[Summary]] = {}
    for lane in summary["lanes"].values():
        venues.setdefault(lane["venue"].lower(), []).append(lane)
    for venue, lanes in venues.items():
        labels = (("exchange", venue),)
        pings = [lane["tallies"]["ping_ns"] for lane in lanes if lane["tallies"]["ping_ns"] is not None]
        times = [lane["last_message_at"] for lane in lanes if lane["last_message_at"] is not None]
        ping.samples.extend(("", labels, max(pings) / 1e6) for _ in pings[:1])
        last.samples.extend(("", labels, max(times) / 1e9) for _ in times[:1])
        again.samples.append(("", labels, sum(lane["reconnects"] for lane in lanes)))
        state.samples.append(("", labels, int(all(map(_is_connected, lanes)))))
        for kind in ("trade", "book", "ticker", "heartbeat"):
            total = sum(lane["tallies"][kind] for lane in lanes)
            count.samples.append(("", (*labels, ("type", kind)), total))
        took.samples.extend(_histogram(labels, lanes))
    return [ping, last, again, state, took, count]


def _lines(summary: Summary) -> list[Family]:
    """What is told of redundant lines, from 1; nothing of a venue that has one."""
    firsts = Family("md_line_first_total", "counter", "Messages that a line brought first.", [])
    copies = Family("md_line_copies_total", "counter", "Copies that came by a line after another's.", [])
    late = Family("md_line_late_seconds_total", "counter", "How far the copies were behind the first.", [])
    holes = Family("md_line_holes_total", "counter", "Holes in what a line brought.", [])
    fills = Family("md_line_fills_total", "counter", "Messages of a line that filled another's hole.", [])
    doubted = Family("md_line_doubted_total", "counter", "Messages that the other lines knew nothing of.", [])
    avoided = Family("md_gap_avoided_seconds_total", "counter", "A line was lost and another one carried on.", [])
    for name, lane in summary["lanes"].items():
        lines = lane["session"].get("lines", [])
        if len(lines) < 2:
            continue
        whole = (("exchange", lane["venue"].lower()), ("lane", name))
        avoided.samples.append(("", whole, lane["session"]["gap_avoided_ns"] / 1e9))
        for number, score in enumerate(lines, 1):
            labels = (*whole, ("line", str(number)))
            late.samples.append(("", labels, score["late_ns"] / 1e9))
            named = {"firsts": firsts, "copies": copies, "holes": holes, "fills": fills, "doubted": doubted}
            for key, family in named.items():
                family.samples.append(("", labels, score[key]))
    return [firsts, copies, late, holes, fills, doubted, avoided]


def _is_connected(lane: Summary) -> bool:
    wanted = [row["state"] for row in lane["session"]["connections"] if row["state"] != "IDLE"]
    return bool(wanted) and all(state in CONNECTED for state in wanted)


def _histogram(labels: Labels, lanes: list[Summary]) -> Iterable[tuple[str, Labels, float]]:
    total = 0
    for buckets in zip(*(lane["latency_buckets"] for lane in lanes), strict=True):
        edge_ns, total = buckets[0][0], sum(count for _, count in buckets)
        edge = "+Inf" if edge_ns == END_OF_TIME else repr(edge_ns / 1e9)
        yield "_bucket", (*labels, ("le", edge)), total
    yield "_sum", labels, sum(lane["latency_sum_ns"] for lane in lanes) / 1e9
    yield "_count", labels, total


def _books(summary: Summary) -> list[Family]:
    """What is told of one instrument."""
    gaps = Family("md_sequence_gaps_total", "counter", "Gaps that were found in an instrument's streams.", [])
    depth = Family("md_orderbook_depth", "gauge", "Price levels of a side of the book.", [])
    live = Family("tickplant_book_live", "gauge", "1: the book is proven live, 0: it is stale or being mended.", [])
    resyncs = Family("tickplant_resyncs_total", "counter", "New snapshots that a book needed.", [])
    fetched = Family(
        "tickplant_trades_backfilled_total", "counter", "Missed trades that were fetched over REST afterwards.", []
    )
    proofs = Family("tickplant_checksums_total", "counter", "Checksums of the venue, by result.", [])
    stales = Family("tickplant_stales_total", "counter", "Silences that were no quiet of the market.", [])
    stale = Family("tickplant_stale", "gauge", "1: the instrument's book is stale, 0: not.", [])
    news = Family("tickplant_last_news_timestamp", "gauge", "Receive time of its last news, Unix seconds.", [])
    for row in summary["instruments"]:
        symbol, _, venue = row["instrument"].rpartition(".")
        labels = (("exchange", venue.lower()), ("symbol", symbol))
        gaps.samples.append(("", labels, row["gaps"]))
        depth.samples.append(("", (*labels, ("side", "bids")), row["bid_levels"]))
        depth.samples.append(("", (*labels, ("side", "asks")), row["ask_levels"]))
        live.samples.append(("", labels, int(row["state"] == "LIVE")))
        resyncs.samples.append(("", labels, row["resyncs"]))
        fetched.samples.append(("", labels, row["trades_backfilled"]))
        stales.samples.append(("", labels, row["stales"]))
        stale.samples.append(("", labels, int(row["state"] == "STALE")))
        if row["last_at"]:
            news.samples.append(("", labels, row["last_at"] / 1e9))
        for result in ("passed", "failed", "absent"):
            proofs.samples.append(("", (*labels, ("result", result)), row[f"checksums_{result}"]))
    return [gaps, depth, live, resyncs, fetched, stales, stale, news, proofs]


def _lanes(summary: Summary) -> list[Family]:
    records = Family("tickplant_records_total", "counter", "Records in the lane.", [])
    lag = Family("tickplant_archive_lag_bytes", "gauge", "Committed bytes that are not on disk yet.", [])
    paused = Family("tickplant_feed_paused", "gauge", "1: the disk and the memory part are full, 0: not.", [])
    for name, lane in summary["lanes"].items():
        labels = (("lane", name),)
        records.samples.append(("", labels, lane["records"]))
        lag.samples.append(("", labels, lane["archive_lag_bytes"]))
        paused.samples.append(("", labels, int(lane["paused"])))
    return [records, lag, paused]


def _ages(summary: Summary) -> Family:
    ages = Family("tickplant_account_age_seconds", "gauge", "Age of the loop's account that its metrics are of.", [])
    ages.samples.extend(("", (("lane", name),), age / 1e9) for name, age in summary["ages_ns"].items())
    return ages


def _budgets(summary: Summary) -> list[Family]:
    """What is told of the budgets that the addresses have for the whole process."""
    used = Family("tickplant_budget_used", "gauge", "Granted within the last span of a budget's rate.", [])
    most = Family("tickplant_budget_most", "gauge", "The most that is granted within a span.", [])
    waited = Family("tickplant_budget_waited_seconds_total", "counter", "Time that turns were waited for.", [])
    held = Family("tickplant_budget_held_seconds", "gauge", "How long the venue still wants nothing.", [])
    for row in summary["budgets"]:
        labels = (("budget", row["budget"]), ("address", row["address"]))
        used.samples.append(("", labels, row["used"]))
        most.samples.append(("", labels, row["most"]))
        waited.samples.append(("", labels, row["waited_ns"] / 1e9))
        held.samples.append(("", labels, row["held_ns"] / 1e9))
    return [used, most, waited, held]


def missing_books(summary: Summary, required: Iterable[str]) -> list[str]:
    """The required instruments (`BTC/USD.KRAKEN`) whose books are not proven live, sorted.

    A book of a loop that has been silent for SILENT_NS is not.
    """
    rows = [row for row in summary["instruments"] if summary["ages_ns"][row["lane"]] < SILENT_NS]
    return sorted(set(required) - {row["instrument"] for row in rows if row["state"] == "LIVE"})


class MetricsServer:
    """Answers GET of `/metrics`, `/health` and `/ready`; one request a connection."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        summary: Callable[[], Awaitable[Summary]],
        state: Callable[[], str],
        required: list[str],
        text: Callable[[Summary], str] = exposition,
        missing: Callable[[Summary, Iterable[str]], list[str]] = missing_books,
    ) -> None:
        self.host = host
        self.port = port
        self._summary = summary
        self._state = state
        self._required = required
        self._text = text
        self._missing = missing
        self.fault: PlantError | None = None
        """Why nothing is served at present: the port cannot be had."""
        self._server: asyncio.Server | None = None
        self._binding: asyncio.Task[None] | None = None
        self._asked: asyncio.Task[Summary] | None = None
        self._asked_at = 0

    async def start(self) -> None:
        """Binds the port; `port` 0 takes a free one and says which.

        A plant goes on without metrics where the port is taken: `fault` says so, and the port is tried again until it
        can be had.
        """
        if not await self._bind():
            self._binding = asyncio.create_task(self._bind_later())

    @property
    def address(self) -> str:
        """Where the metrics are."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}/metrics"

    async def _bind_later(self) -> None:
        while not await self._bind():
            await clock.sleep(BIND_AGAIN_S)

    async def _bind(self) -> bool:
        try:
            self._server = await asyncio.start_server(self._serve, self.host, self.port, limit=REQUEST_BYTES_MAX)
        except OSError as error:
            self.fault = PlantError(
                f"no metrics: their port cannot be had ({os.strerror(error.errno) if error.errno else error})",
                where=f"{self.host}:{self.port}",
                hint="set metrics.port to a free one, or to 0 for none; the plant runs, and tries the port again",
            )
            return False
        self.fault = None
        self.port = self._server.sockets[0].getsockname()[1]
        return True

    async def stop(self) -> None:
        """Closes the port."""
        if self._binding is not None:
            self._binding.cancel()
            await asyncio.gather(self._binding, return_exceptions=True)
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                request = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n", 1)[0].decode("latin-1")
            status, kind, text = await self._answer(request)
            body = text.encode()
            head = f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
            writer.write(head.encode() + b"Connection: close\r\n\r\n" + (b"" if request.startswith("HEAD") else body))
            await writer.drain()
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            # Whoever asked went away, or spoke no HTTP: its own affair.
            pass
        finally:
            writer.close()

    async def _answer(self, request: str) -> tuple[HTTPStatus, str, str]:
        method, _, rest = request.partition(" ")
        if method not in ("GET", "HEAD"):
            return HTTPStatus.METHOD_NOT_ALLOWED, TEXT, "only GET\n"
        match rest.partition(" ")[0].partition("?")[0]:
            case "/metrics":
                return HTTPStatus.OK, TEXT, self._text(await self._ask())
            case "/health":
                return _verdict(self._state() not in ("failed", "stopped"), self._state())
            case "/ready":
                return await self._ready()
            case _:
                return HTTPStatus.NOT_FOUND, TEXT, "known: /metrics /health /ready\n"

    async def _ready(self) -> tuple[HTTPStatus, str, str]:
        if self._state() != "running":
            return _verdict(False, self._state())
        missing = self._missing(await self._ask(), self._required)
        return _verdict(not missing, f"not proven live: {' '.join(missing)}" if missing else "ready")

    async def _ask(self) -> Summary:
        """The summary, not older than a second; those who ask meanwhile share one."""
        now = clock.monotonic_ns()
        if self._asked is None or now - self._asked_at > CACHED_NS:
            self._asked_at = now
            self._asked = asyncio.ensure_future(self._summary())
        return await asyncio.shield(self._asked)


def _verdict(good: bool, text: str) -> tuple[HTTPStatus, str, str]:
    return (HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE), TEXT, f"{text}\n"

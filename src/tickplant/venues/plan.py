"""The plan of a session as data: field for field what `crates/core/src/session/types.rs` reads as JSON.

A venue is described with the same types, its addresses being the real ones; compiling a plan changes the addresses and
the times that the settings name and adds the instruments.
"""

from __future__ import annotations

from typing import Literal, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import msgspec
from msgspec import Struct

PlanStream = Literal["book", "trades", "ticker", "definitions", "heartbeat"]
SCALE_UNKNOWN = 255
"""`price_scale` and `size_scale` where the printed decimals are not known beforehand."""


class Rate(NamedTuple):
    """So many of something in any span of so many seconds."""

    most: int
    seconds: int

    def part(self, processes: int) -> Rate:
        """What each of so many processes may take, so that together they keep within it.

        Where that is less than one each, they do so on the average only: they do not know of each other.
        """
        most = self.most // processes
        return Rate(most, self.seconds) if most else Rate(1, -(-self.seconds * processes // self.most))


class Route(Struct, frozen=True, kw_only=True):
    """One WebSocket address and how it is entered."""

    url: str
    waits_for_welcome: bool = False
    login: str | None = None
    needs_token: bool = False


class Channel(Struct, frozen=True, kw_only=True):
    """One channel: what it carries and how it is asked for. `{items}`, `{id}`, `{depth}`, `{token}` are filled in."""

    stream: PlanStream
    name: str
    route: int = 0
    subscribe: str
    unsubscribe: str
    item: str = ""
    batch: int = 50
    acknowledged: Literal["symbol", "request", "listing", "data"]


class Fetched(Struct, frozen=True):
    """Where a snapshot is fetched: a URL with `{symbol}` or `{symbol_lower}`."""

    url: str


class FetchedSnapshot(Struct, frozen=True):
    fetched: Fetched


class RestartAt(Struct, frozen=True):
    """The venue's numbers begin anew with this one, whose message is a whole book."""

    at: int


class BookPlan(Struct, frozen=True, kw_only=True):
    """How books are joined and chained."""

    continuity: Literal["none", "range", "previous", "growing"]
    snapshot: Literal["in_band"] | FetchedSnapshot
    checksum: Literal["none", "kraken", "okx", "bitfinex"] = "none"
    truncate: bool = False
    crossed_is_fault: bool = True
    restart: Literal["never", "smaller"] | RestartAt = "never"
    whole: bool = False
    zero_price_ignored: bool = False
    connection_numbered: bool = False
    ticker_shares_sequence: bool = False


class BackfillPlan(Struct, frozen=True, kw_only=True):
    """Where trades that were missed are fetched: a URL with `{symbol}` or `{rest_symbol}`, and of the ids that are
    wanted `{first}`, `{end}` (the one after the last), `{count}`, or `{since}` (a time in ns just before them)."""

    url: str
    page: int
    """Most trades in a reply."""
    trades_most: int = 0
    """Most trades that are fetched of one hole."""


class Timing(Struct, frozen=True, kw_only=True):
    """Times of the health machine in nanoseconds."""

    ping_every: int = 20_000_000_000
    ping_timeout: int = 10_000_000_000
    measured_ping_every: int = 30_000_000_000
    measured_ping_timeout: int = 10_000_000_000
    close_timeout: int = 5_000_000_000
    stale_check_every: int = 5_000_000_000
    stale_after: int = 10_000_000_000
    acknowledge_within: int = 10_000_000_000
    snapshot_within: int = 10_000_000_000
    backoff_first: int = 1_000_000_000
    backoff_most: int = 30_000_000_000
    healthy_after: int = 60_000_000_000


class Weights(Struct, frozen=True, kw_only=True):
    """What a request over REST counts of its address's budget."""

    snapshot: int = 1
    definitions: int = 1
    trades: int = 1


class Budgets(Struct, frozen=True, kw_only=True):
    """Which budgets of an address the control thread grants. What is not here is spent freely."""

    messages: bool = False
    fetches: Weights | None = None


class Lines(Struct, frozen=True, kw_only=True):
    """Redundant lines; routes and channels stand in the plan once for each of `copies`."""

    copies: int = 1
    wanted: int = 1
    hold_within: int = 1_000_000_000
    rotate_every: int = 0


class HashPlan(Struct, frozen=True, kw_only=True):
    """How often the state of a book is hashed, besides after each snapshot. Both zero: never."""

    every: int = 10_000_000_000
    updates: int = 0


class InstrumentPlan(Struct, frozen=True, kw_only=True):
    """One instrument of a session; `id` is the registry's."""

    id: int
    symbol: str
    depth: int
    streams: list[PlanStream]
    price_scale: int = SCALE_UNKNOWN
    size_scale: int = SCALE_UNKNOWN
    wire_symbol: str = ""
    """The spelling of this protocol where it is not `symbol`."""
    rest_symbol: str = ""
    """The spelling over HTTP where it is not that of the protocol."""


class Plan(Struct, frozen=True, kw_only=True):
    """A session's whole configuration."""

    venue: str
    venue_number: int
    decoder: str
    routes: list[Route]
    channels: list[Channel]
    book: BookPlan
    definitions_url: str | None
    trade_ids_consecutive: bool
    backfill: BackfillPlan | None
    ping: str | None
    timing: Timing
    hashes: HashPlan = HashPlan()
    shadow_every: int = 0
    reconnect_after_faults: int = 0
    calendar: list[tuple[int, int]] = []
    budgets: Budgets = Budgets()
    coverage_every: int = 0
    lines: Lines = Lines()
    messages_per_second: int
    instruments: list[InstrumentPlan]


def at_address(url: str, address: str) -> str:
    """`url` with the scheme and host of `address`. A path in `address` replaces the path too."""
    old, new = urlsplit(url), urlsplit(address)
    if new.path.strip("/") or new.query:
        return address
    return urlunsplit((new.scheme, new.netloc, old.path, old.query, ""))


def fetched_at(book: BookPlan, rest_url: str, depth: int) -> BookPlan:
    """The plan with the whole address of its snapshots, where they are fetched."""
    if not isinstance(book.snapshot, FetchedSnapshot):
        return book
    # `{symbol}` stays for the session to fill in, `{depth}` is one for the whole plan.
    path = book.snapshot.fetched.url.replace("{depth}", str(depth))
    return msgspec.structs.replace(book, snapshot=FetchedSnapshot(Fetched(rest_url + path)))


def plain(value: Struct) -> dict[str, object]:
    """A plan or a part of it as plain data, ready for `json.dumps`."""
    data: dict[str, object] = msgspec.to_builtins(value)
    return data

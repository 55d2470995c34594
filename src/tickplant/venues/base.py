"""What a venue is: its identity, its rules as data, and the pure functions that compile them to a plan."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import ClassVar, Literal, NamedTuple
from zlib import crc32

import msgspec
from msgspec import Struct

from tickplant.errors import ConfigError, UnknownInstrument
from tickplant.venues.health import hash_plan, shadow_every, timing
from tickplant.venues.limits import backfill, budgets, check_subscriptions
from tickplant.venues.lines import line_channels, line_routes, plan_lines
from tickplant.venues.plan import (
    SCALE_UNKNOWN,
    BackfillPlan,
    BookPlan,
    Channel,
    InstrumentPlan,
    Plan,
    PlanStream,
    Rate,
    Route,
    Timing,
    Weights,
    fetched_at,
    plain,
)
from tickplant.venues.settings import VenueSettings


class InstrumentId(NamedTuple):
    """An instrument's name: `SYMBOL.VENUE`, the symbol in the venue's spelling, the venue's code in capitals."""

    symbol: str
    venue: str

    def __str__(self) -> str:
        return f"{self.symbol}.{self.venue}"

    @classmethod
    def parse(cls, text: str) -> InstrumentId:
        """Reads `BTC/USD.KRAKEN`; the venue may be in any case and have hyphens. The symbol is not checked here."""
        symbol, dot, venue = text.strip().rpartition(".")
        if not (symbol and dot and venue):
            raise UnknownInstrument(
                f'"{text}" is no instrument', expected="SYMBOL.VENUE, such as BTC/USD.KRAKEN or BTCUSDT.BINANCE"
            )
        return cls(symbol, venue_code(venue))


def venue_code(name: str) -> str:
    """A venue's code from any spelling: `binance-usdm` is `BINANCE_USDM`."""
    return name.strip().upper().replace("-", "_")


def share_of(symbol: str, shares: int) -> int:
    """Which of `shares` loops an instrument belongs to, from 0. Only the symbol decides, so processes agree."""
    return crc32(symbol.encode()) % shares


class Definition(Struct, frozen=True, kw_only=True):
    """An instrument as the venue's REST interface describes it. Numbers are the venue's own texts."""

    symbol: str
    base: str
    quote: str
    tick: str
    lot: str
    price_scale: int = SCALE_UNKNOWN
    size_scale: int = SCALE_UNKNOWN
    active: bool = True


class HttpRequest(Struct, frozen=True, kw_only=True):
    """A request that the control thread makes for a venue."""

    method: Literal["GET", "POST"] = "GET"
    url: str
    headers: dict[str, str] = {}
    body: bytes = b""


class Venue:
    """One venue, as class attributes; instances hold nothing. A subclass gives the data and overrides what differs."""

    code: ClassVar[str]
    number: ClassVar[int]
    """Fixed in the table, never reused; 0x8000 and up are users'."""
    title: ClassVar[str]
    decoder: ClassVar[str]
    """The native decoder's name, or `python` for a class of the user's."""
    routes: ClassVar[tuple[Route, ...]]
    channels: ClassVar[tuple[Channel, ...]]
    book: ClassVar[BookPlan]
    rest_url: ClassVar[str] = ""
    instruments_path: ClassVar[str] = ""
    definitions_path: ClassVar[str] = ""
    """Where a running plant fetches its definitions, for a venue that has no channel of them."""
    trade_ids_consecutive: ClassVar[bool] = False
    backfill: ClassVar[BackfillPlan | None] = None
    """Where missed trades are fetched; its URL is a path of `rest_url`. It needs consecutive ids."""
    ping: ClassVar[str | None] = None
    timing: ClassVar[Timing] = Timing()
    messages_per_second: ClassVar[int] = 10
    connection_rate: ClassVar[Rate] = Rate(60, 60)
    """Attempts to connect that one address allows us."""
    message_rate: ClassVar[Rate | None] = None
    """Texts that one address allows us over all connections to it; None: only each connection is limited."""
    fetch_rate: ClassVar[Rate | None] = None
    """REST requests, or their weights, that one address allows us; None: nothing is known of a limit."""
    fetch_weights: ClassVar[Weights] = Weights()
    rotate_every_s: ClassVar[float] = 0
    """Connections are replaced at this age, since the venue ends them a little later; 0: it does not."""
    calendar: ClassVar[tuple[tuple[int, int], ...]] = ()
    """When it is open, as seconds of the week from Monday 00:00 UTC, ends excluded. Empty: always."""
    depths: ClassVar[tuple[int, ...]] = ()
    """Depths that the venue takes, ascending. Empty: full depth only."""
    default_depth: ClassVar[int] = 0
    subscriptions_most: ClassVar[int] = 0
    """Most instrument subscriptions on one connection, 0: no limit."""
    symbol_pattern: ClassVar[str]
    symbol_example: ClassVar[str]
    symbol_separator: ClassVar[str]
    """What stands between base and quote."""
    symbol_in_frame: ClassVar[str]
    """A pattern whose group 1 is a symbol in a message, to list the instruments of a recording."""

    protocols: ClassVar[Mapping[str, Venue]] = {}
    """Other protocols of the venue by their names in the setting `protocol`."""
    protocol: ClassVar[str] = ""

    def speaking(self, settings: VenueSettings) -> Venue:
        """The venue in the protocol that the settings call for. Raises ConfigError where it has no such one."""
        if settings.protocol in (None, self.protocol):
            return self
        if settings.protocol in self.protocols:
            return self.protocols[settings.protocol]
        expected = ", ".join(sorted({self.protocol, *self.protocols} - {""})) or "nothing: it has one protocol"
        raise ConfigError(f'{self.title} speaks no "{settings.protocol}"', expected=expected, venue=self.code)

    # symbols

    def wire_symbol(self, symbol: str) -> str:
        """How this protocol spells a symbol."""
        return symbol

    def symbol_of_wire(self, text: str) -> str:
        """The symbol that this protocol spells so."""
        return text

    def rest_symbol(self, symbol: str) -> str:
        """How the venue spells a symbol over HTTP, where missed trades are fetched."""
        return self.wire_symbol(symbol)

    def check_symbol(self, symbol: str) -> str:
        """The symbol where the venue could have spelled it so, else UnknownInstrument with the nearest spelling."""
        if re.fullmatch(self.symbol_pattern, symbol):
            return symbol
        guess = self.symbol_separator.join(part for part in re.split(r"[/\-_:\s]+", symbol.upper()) if part)
        nearest = f"{guess}.{self.code}" if re.fullmatch(self.symbol_pattern, guess) else ""
        raise UnknownInstrument(
            f'"{symbol}" is not how {self.title} spells an instrument',
            expected=f"a spelling like {self.symbol_example}",
            nearest=nearest,
            venue=self.code,
        )

    # the plan

    def plan(
        self,
        instruments: Mapping[str, int],
        settings: VenueSettings,
        definitions: Iterable[Definition] = (),
    ) -> dict[str, object]:
        """The session's plan as plain data, ready for `json.dumps`.

        `instruments` maps symbols to registry ids, in the order in which they are subscribed; `definitions` that name
        a symbol give its scales. Raises ConfigError for a depth or a number of instruments that the venue has not.
        """
        speaker = self.speaking(settings)
        if speaker is not self:
            return speaker.plan(instruments, msgspec.structs.replace(settings, protocol=None), definitions)
        check_subscriptions(self, len(instruments), settings)
        known = {definition.symbol: definition for definition in definitions}
        lines, routes = plan_lines(self, settings), self.plan_routes(settings)
        wanted = ("definitions", "heartbeat", *settings.streams)
        channels = [channel for channel in self.plan_channels(settings) if channel.stream in wanted]
        plan = Plan(
            venue=self.code,
            venue_number=self.number,
            decoder=self.decoder,
            routes=line_routes(routes, lines, settings),
            channels=line_channels(channels, len(routes), lines),
            lines=lines,
            book=self._book(settings),
            definitions_url=self.rest(settings) + self.definitions_path if self.definitions_path else None,
            trade_ids_consecutive=self.trade_ids_consecutive,
            backfill=backfill(self.backfill, self.rest(settings), settings),
            ping=self.ping,
            timing=timing(self.timing, settings),
            hashes=hash_plan(settings),
            shadow_every=shadow_every(self.title, self.book, settings),
            reconnect_after_faults=settings.reconnect_after_faults,
            calendar=list(self.calendar),
            budgets=budgets(self, settings),
            coverage_every=round(settings.coverage_every_s * 1_000_000_000),
            messages_per_second=self.messages_per_second,
            instruments=[self._instrument(s, i, settings, known.get(s)) for s, i in instruments.items()],
        )
        return plain(plan)

    def instrument(
        self, symbol: str, instrument_id: int, settings: VenueSettings, definition: Definition | None = None
    ) -> dict[str, object]:
        """One instrument's part of the plan, for a Subscribe command."""
        return plain(self.speaking(settings)._instrument(symbol, instrument_id, settings, definition))

    def plan_routes(self, settings: VenueSettings) -> tuple[Route, ...]:
        """The routes that these settings call for; a venue with a private one overrides it."""
        return self.routes

    def plan_channels(self, settings: VenueSettings) -> tuple[Channel, ...]:
        """The channels that these settings call for, those of unwanted streams included."""
        return self.channels

    def depth(self, settings: VenueSettings) -> int:
        """The depth to ask the venue for; 0 where it has full depth only."""
        if settings.depth is None:
            return self.default_depth
        if settings.depth == 0:
            return self.depths[-1] if self.depths else 0
        if settings.depth in self.depths:
            return settings.depth
        choices = ", ".join(map(str, self.depths)) if self.depths else "0: there is only the full book"
        raise ConfigError(f"{self.title} has no book of depth {settings.depth}", expected=choices, venue=self.code)

    # REST

    def weights(self, settings: VenueSettings) -> Weights:
        """What this venue counts for our requests; one whose snapshots weigh by their depth overrides it."""
        return self.fetch_weights

    def instruments_request(self, settings: VenueSettings) -> HttpRequest:
        """The request for the list of instruments."""
        return HttpRequest(url=self.rest(settings) + self.instruments_path)

    def parse_instruments(self, body: bytes) -> list[Definition]:
        """The definitions in the reply. Raises VenueError where it is not the venue's dialect."""
        raise NotImplementedError(f"{self.code} describes no list of instruments")

    def token_request(self, settings: VenueSettings, nonce: int) -> HttpRequest | None:
        """The request that gets a token for the private channel, signed; None where there is none or no key is set."""
        return None

    def parse_token(self, body: bytes) -> str:
        """The token in the reply. Raises VenueError with the venue's reason."""
        raise NotImplementedError(f"{self.code} has no tokens")

    def rest(self, settings: VenueSettings) -> str:
        """The REST address without a slash at its end."""
        return (settings.rest_url or self.rest_url).rstrip("/")

    # pieces

    def _book(self, settings: VenueSettings) -> BookPlan:
        return fetched_at(self.book, self.rest(settings), self.depth(settings))

    def _instrument(
        self, symbol: str, instrument_id: int, settings: VenueSettings, definition: Definition | None
    ) -> InstrumentPlan:
        streams: list[PlanStream] = [*settings.streams]
        if any(channel.stream == "definitions" for channel in self.channels):
            streams.append("definitions")
        if any(channel.stream == "heartbeat" and channel.item for channel in self.channels):
            streams.append("heartbeat")
        depth = self.depth(settings)
        wire, rest = self.wire_symbol(symbol), self.rest_symbol(symbol)
        return InstrumentPlan(
            id=instrument_id,
            symbol=self.check_symbol(symbol),
            # A book that is never cut is held in full; the depth then only says how much the snapshot brings.
            depth=depth if self.book.truncate else 0,
            streams=streams,
            price_scale=definition.price_scale if definition else SCALE_UNKNOWN,
            size_scale=definition.size_scale if definition else SCALE_UNKNOWN,
            wire_symbol="" if wire == symbol else wire,
            rest_symbol="" if rest == wire else rest,
        )


def decimals(text: str) -> int:
    """Decimals of a printed number: 3 of "0.001", 8 of "0.01000000"."""
    return len(text.partition(".")[2])

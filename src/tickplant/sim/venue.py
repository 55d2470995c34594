"""What all simulated venues share: a market behind, connections in front, and messages in virtual time. No sockets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple
from urllib.parse import parse_qs

from tickplant.clock import MILLISECOND_NS, SECOND_NS
from tickplant.sim.market import Listing, Market, Step
from tickplant.sim.past_trades import PastTrades


class Close(NamedTuple):
    """The venue ends the connection, with a WebSocket close code and its reason."""

    code: int
    reason: str


Message = str | Close
Outbox = list[tuple[int, Message]]
# A level as the venue prints it: price and size.
PrintedLevel = tuple[str, str]


class HttpReply(NamedTuple):
    """An answer to an HTTP request: status and JSON body."""

    status: int
    body: str


class Venue(ABC):
    """One venue's dialect over a market.

    All methods take the time in nanoseconds since the epoch and never read a clock. `advance` says what to send to whom
    up to a time, `receive` answers a client at once; messages are texts, or `Close` where the venue hangs up. What has
    been sent always agrees with the market's state, because the market moves in `advance` only.
    """

    name: ClassVar[str]
    path: ClassVar[str]
    """The WebSocket path of the real venue."""
    ping_every_ns: ClassVar[int] = 20 * SECOND_NS
    """How often the venue sends protocol pings."""
    pong_within_ns: ClassVar[int] = 60 * SECOND_NS
    rules: ClassVar[type[Any] | None] = None
    """Of a user's venue: its `UserVenue`, by which the plant speaks to it. Built-in ones are found by their name."""
    cadences_ns: ClassVar[tuple[int, ...]] = ()
    """Periods of what is sent by the clock: each is a `_tick`."""

    _subscribers: Subscribers

    def __init__(self, market: Market) -> None:
        self.market = market
        self.now_ns = market.now_ns
        self.past = PastTrades(market)
        self._due = {cadence: _after(market.now_ns, cadence) for cadence in self.cadences_ns}
        self._delisted: dict[str, int] = {}

    @property
    def symbols(self) -> list[str]:
        """The listed instruments in the venue's spelling."""
        symbols = [listing.instrument.symbol for listing in self.market.listings]
        return [symbol for symbol in symbols if symbol not in self._delisted]

    def next_ns(self) -> int:
        """When something next happens here: no `advance` before it gives a message."""
        return min([self.market.next_ns, *self._due.values()])

    def advance(self, now_ns: int) -> Outbox:
        """Everything that the venue sends up to and including `now_ns`."""
        out: Outbox = []
        while self._due:
            cadence, due = min(self._due.items(), key=lambda item: (item[1], item[0]))
            if due > now_ns:
                break
            self._move(due, out)
            self._tick(cadence, due, out)
            self._due[cadence] = due + cadence
        self._move(now_ns, out)
        return out

    def book(self, symbol: str, update_id: int | None = None) -> tuple[list[PrintedLevel], list[PrintedLevel]]:
        """The truth: (bids, asks), best first, as printed by the venue, now or right after an update id.

        Raises KeyError for an unknown symbol and LookupError for an id that is too old or still to come.
        """
        listing = self.market.listings[self.market.index_of[symbol]]
        bids, asks = listing.levels_at(listing.update_id if update_id is None else update_id)
        return [self.printed(listing, p, s) for p, s in bids], [self.printed(listing, p, s) for p, s in asks]

    def published(self, symbol: str) -> int:
        """The update id up to which subscribers of the symbol's book have been told."""
        return self.market.listings[self.market.index_of[symbol]].update_id

    def subscriptions(self, connection: int) -> list[Any]:
        """What a client is subscribed to, a key for each channel of each instrument."""
        return self._subscribers.keys(connection)

    def delist(self, symbol: str) -> None:
        """Stops trading here: nobody hears of it any more, and who asks for it is answered as for any unknown symbol.

        Its market goes on elsewhere. Raises KeyError for a symbol that is not listed.
        """
        self._delisted[symbol] = self.market.index_of.pop(symbol)
        self._subscribers.forget(lambda key: self._concerns(key, self._delisted[symbol]))

    def list_again(self, symbol: str) -> None:
        """Takes a delisted symbol back. Raises KeyError where it was not delisted."""
        self.market.index_of[symbol] = self._delisted.pop(symbol)

    def _concerns(self, key: Any, index: int) -> bool:
        """Whether a subscription is one to this instrument."""
        return len(key) > 1 and key[1] == index

    def printed(self, listing: Listing, price: int, size: int) -> PrintedLevel:
        """A level's price and size in the venue's spelling."""
        return (
            decimal_text(price, listing.instrument.price_scale),
            decimal_text(size, listing.instrument.size_scale),
        )

    def serves(self, path: str) -> bool:
        """Whether clients may open a WebSocket at this path."""
        return path == self.path

    @abstractmethod
    def connect(self, connection: int, now_ns: int, path: str = "", query: str = "") -> list[Message]:
        """Takes a client in under a number of the caller's choice and gives what the venue says first."""

    @abstractmethod
    def disconnect(self, connection: int) -> None:
        """Forgets a client; unknown ones are no error."""

    @abstractmethod
    def receive(self, connection: int, text: str, now_ns: int) -> list[Message]:
        """Answers a client's message."""

    def http(
        self, method: str, path: str, query: str, now_ns: int, headers: Mapping[str, str] | None = None
    ) -> HttpReply:
        """Answers an HTTP request; here there is nothing to be had."""
        return HttpReply(404, "{}")

    @abstractmethod
    def _step(self, step: Step, out: Outbox) -> None:
        """Tells subscribers of one step of the market."""

    def _tick(self, cadence_ns: int, at_ns: int, out: Outbox) -> None:  # noqa: B027  (venues without cadences need none)
        """Tells subscribers what is due by the clock."""

    def _move(self, now_ns: int, out: Outbox) -> None:
        for step in self.market.steps(now_ns):
            self.now_ns = step.time_ns
            if step.trades:
                self.past.take(step)
            self._step(step, out)
        self.now_ns = max(self.now_ns, now_ns)


class Subscribers:
    """Who listens to what: keys of any kind, connections in the order of their coming."""

    def __init__(self) -> None:
        self._of_key: dict[Any, dict[int, None]] = {}
        self._of_connection: dict[int, dict[Any, None]] = {}

    def add(self, key: Any, connection: int) -> bool:
        """False where the connection had it already."""
        held = self._of_connection.setdefault(connection, {})
        if key in held:
            return False
        held[key] = None
        self._of_key.setdefault(key, {})[connection] = None
        return True

    def remove(self, key: Any, connection: int) -> bool:
        """False where the connection did not have it."""
        if key not in self._of_connection.get(connection, {}):
            return False
        del self._of_connection[connection][key], self._of_key[key][connection]
        if not self._of_key[key]:
            del self._of_key[key]
        return True

    def drop(self, connection: int) -> None:
        """Takes everything from a connection."""
        for key in list(self._of_connection.get(connection, {})):
            self.remove(key, connection)
        self._of_connection.pop(connection, None)

    def forget(self, concerned: Callable[[Any], bool]) -> None:
        """Takes some keys from all connections."""
        for key, connections in [(key, list(held)) for key, held in self._of_key.items() if concerned(key)]:
            for connection in connections:
                self.remove(key, connection)

    def of(self, key: Any) -> list[int]:
        """The connections that listen to a key."""
        return list(self._of_key.get(key, ()))

    def keys(self, connection: int) -> list[Any]:
        """What a connection listens to."""
        return list(self._of_connection.get(connection, ()))

    def has(self, key: Any) -> bool:
        """Whether anyone listens to a key."""
        return key in self._of_key

    def connections(self) -> list[int]:
        """Connections that listen to anything."""
        return [connection for connection, keys in self._of_connection.items() if keys]


@lru_cache(maxsize=1 << 16)
def decimal_text(mantissa: int, scale: int) -> str:
    """A number that is not negative, with exactly `scale` decimals: 100 at scale 3 is `0.100`."""
    if not scale:
        return str(mantissa)
    digits = str(mantissa).zfill(scale + 1)
    return f"{digits[:-scale]}.{digits[-scale:]}"


def parameters(query: str) -> dict[str, str]:
    """A query string as a dictionary; of a repeated name the last value counts."""
    return {name: values[-1] for name, values in parse_qs(query, keep_blank_values=True).items()}


def milliseconds(time_ns: int) -> int:
    """Whole milliseconds since the epoch."""
    return time_ns // MILLISECOND_NS


def _after(now_ns: int, cadence_ns: int) -> int:
    return now_ns - now_ns % cadence_ns + cadence_ns

"""A venue of your own: one Python class, no Rust.

    class Mine(UserVenue):
        code, number = "MINE", 0x8000
        routes = (Route(url="wss://mine.example/feed"),)
        channels = (Channel(stream="book", name="book", subscribe='{"sub":[{items}]}', ..., acknowledged="data"),)
        book = BookPlan(continuity="none", snapshot="in_band")

        def decode_frame(self, frame: bytes) -> list[Event]:
            ...

and in the settings `[venue.mine] class = "module:Mine"`. Connecting, subscribing, joining snapshots, books, proofs and
the log are the same as for a built-in venue; the class says only what a frame means. `examples/own_venue.py` is whole.

Numbers are the venue's own texts ("0.10"), never floats: the book keeps them exactly and checksums need them.
Times are nanoseconds since the epoch, None where the venue gives none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from msgspec import Struct

from tickplant.venues.base import Venue

__all__ = [
    "Answer",
    "AuthFailed",
    "BadFrame",
    "BookEvent",
    "Event",
    "FrameNumber",
    "Heartbeat",
    "Ping",
    "QuoteEvent",
    "TradeEvent",
    "UserVenue",
    "Welcome",
]


class BookEvent(Struct, frozen=True, kw_only=True):
    """A book message: a snapshot replaces the book, an update gives new sizes of levels ("0" deletes).

    Levels are pairs of price and size. `first`, `last` and `previous` number the message as the venue does, for the
    continuity rule in the class's `book`.
    """

    symbol: str = ""
    bids: Sequence[Sequence[str]] = ()
    asks: Sequence[Sequence[str]] = ()
    snapshot: bool = False
    first: int | None = None
    last: int | None = None
    previous: int | None = None
    checksum: int | None = None
    ts_event: int | None = None


class TradeEvent(Struct, frozen=True, kw_only=True):
    """One trade. `side` is the aggressor's: B bought, A sold, N not known. An id that is a text is kept as its hash."""

    symbol: str
    price: str
    size: str
    side: Literal["A", "B", "N"] = "N"
    id: int | str | None = None
    sequence: int | None = None
    snapshot: bool = False
    """Part of the replay that a venue sends on subscribing, not a new trade."""
    ts_event: int | None = None


class QuoteEvent(Struct, frozen=True, kw_only=True):
    """The venue's own best bid and ask, each price and size; None: that side is empty or not given."""

    symbol: str
    bid: Sequence[str] | None = None
    ask: Sequence[str] | None = None
    sequence: int | None = None
    ts_event: int | None = None


class Answer(Struct, frozen=True, kw_only=True):
    """The venue's answer to a request: accepted, or refused with its text. An empty symbol means all of the request."""

    request: int | None = None
    channel: str = ""
    symbol: str = ""
    refusal: str | None = None
    leaving: bool = False
    """The answer is to an unsubscribe."""


class Heartbeat(Struct, frozen=True, kw_only=True):
    """A sign of life; `request` where it answers our ping."""

    request: int | None = None
    ts_event: int | None = None


class Ping(Struct, frozen=True, kw_only=True):
    """The venue asks for this text back."""

    reply: str


class Welcome(Struct, frozen=True, kw_only=True):
    """The connection may be used; `authenticated`: the login was accepted."""

    authenticated: bool = False


class AuthFailed(Struct, frozen=True, kw_only=True):
    """A token was refused or has expired."""

    text: str


class FrameNumber(Struct, frozen=True, kw_only=True):
    """The frame's own number, where the venue counts its frames over all of a connection's channels: the class's `book`
    then says `connection_numbered=True`, each frame has one number, and a jump makes every book of the connection
    suspect."""

    number: int


class BadFrame(Struct, frozen=True, kw_only=True):
    """The frame is not the venue's dialect. It is counted and logged with a sample; nothing of it is used."""

    reason: str


Event = BookEvent | TradeEvent | QuoteEvent | Answer | Heartbeat | Ping | Welcome | AuthFailed | FrameNumber | BadFrame


class UserVenue(Venue):
    """Base of a user's venue. Set `code`, `number` (0x8000 to 0xffff), `routes`, `channels` and `book`."""

    decoder: ClassVar[str] = "python"
    symbol_pattern: ClassVar[str] = r"\S+"
    symbol_example: ClassVar[str] = "the venue's own"
    symbol_separator: ClassVar[str] = ""
    symbol_in_frame: ClassVar[str] = r'"symbol":\s*"([^"]+)"'

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "title" not in cls.__dict__:
            cls.title = cls.__dict__.get("code", cls.__name__)

    def decode_frame(self, frame: bytes) -> list[Event]:
        """What one frame (a whole WebSocket message, without its head) says, in order."""
        raise NotImplementedError(f"{type(self).__name__} does not say what a frame means: define decode_frame")

    def decode(self, frames: Sequence[bytes]) -> list[list[Event]]:
        """What the frames of one read say: a list of events for each frame.

        The border to Python is crossed once a read. An exception in `decode_frame` spoils its own frame only. Override
        this where a batch can be read faster than its frames.
        """
        return [self._decoded(frame) for frame in frames]

    def decode_reply(self, body: bytes) -> list[Event]:
        """What the reply to a snapshot request says, for a `book` whose snapshot is fetched: one BookEvent.

        The plant knows whom it asked for: the event needs no symbol.
        """
        raise NotImplementedError(f"{type(self).__name__} fetches snapshots: define decode_reply")

    def _decoded(self, frame: bytes) -> list[Event]:
        try:
            return self.decode_frame(frame)
        except Exception as error:
            return [BadFrame(reason=f"{type(error).__name__}: {error}")]

"""The settings of one venue: the table `[venue.NAME]`."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

StreamName = Literal["book", "trades", "ticker"]

Interval = Annotated[float, Meta(ge=0, le=86_400, description="seconds up to 86400, 0 for never")]
Updates = Annotated[int, Meta(ge=0, le=1 << 31, description="a number of messages, 0 for never")]
Text = Annotated[str, Meta(description="a text in quotes")]
Names = Annotated[list[str], Meta(description='a list of symbols such as ["BTC/USD", "ETH/USD"]')]
WebSocketUrl = Annotated[str, Meta(pattern=r"^wss?://[^/]+", description="an address such as wss://host:443")]
HttpUrl = Annotated[str, Meta(pattern=r"^https?://[^/]+", description="an address such as https://host:443")]
Count = Annotated[int, Meta(ge=1, le=64, description="a whole number from 1 to 64")]
LineCount = Annotated[int, Meta(ge=1, le=4, description="a whole number from 1 to 4")]
Urls = Annotated[list[WebSocketUrl], Meta(max_length=4, description="a list of addresses, one a line")]
Depth = Annotated[int, Meta(ge=0, le=100_000, description="a number of levels, 0 for all that the venue gives")]
MessageBytes = Annotated[int, Meta(ge=1024, le=1 << 30, description="a number of bytes from 1024 to 1 GiB")]
Seconds = Annotated[float, Meta(gt=0, le=86_400, description="seconds, more than 0 and at most 86400")]
ClassName = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$",
        description='a class as "module:Class", next to the file or installed',
    ),
]
Streams = Annotated[list[StreamName], Meta(min_length=1, description='a list out of "book", "trades", "ticker"')]


class VenueSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a user may say of one venue. None means: as the venue's description says."""

    instruments: Names = []
    """Symbols in the venue's spelling."""
    required: Names = []
    """Those of them whose books must be proven live before the plant says that it is ready."""
    depth: Depth | None = None
    """Book levels a side: the subscribed depth, or the depth of the fetched snapshot; 0: all that the venue gives."""
    streams: Streams = field(default_factory=lambda: ["book", "trades", "ticker"])
    loops: Count = 1
    """Ingestion loops that share the instruments, each with its own connections and lane."""
    lines: LineCount | None = None
    """So many connections bring the same streams and are merged into one; 1, or 2 where `urls` is set."""
    urls: Urls = []
    """The WebSocket addresses of the lines, in place of `url`; further lines begin with the first again."""
    line_hold_s: Seconds = 1.0
    """A message that leaves a hole is held for so long while another line may fill it."""
    rotate_every_s: Interval | None = None
    """A connection of this age is replaced by a new one before it is closed; 0: never. Default: as the venue cuts."""
    protocol: Text | None = None
    """Which of the venue's protocols to speak, where it has several (Kraken: "v2" or "v1")."""
    url: WebSocketUrl | None = None
    """Takes the place of the venue's WebSocket address. Without a path the venue's path is kept."""
    rest_url: HttpUrl | None = None
    """Takes the place of the venue's REST address, likewise."""
    ca: Text | None = None
    """A PEM file of certificates to trust beside the system's."""
    message_bytes_max: MessageBytes = 16 * 1024 * 1024
    """Largest message taken from the venue; a larger one ends the connection."""
    proxy: HttpUrl | None = None
    """An HTTP proxy for the connections (CONNECT)."""
    api_key: Text | None = None
    """With `api_secret`: opens the venue's private channel, where it has one."""
    api_secret: Text | None = None
    class_: ClassName | None = field(name="class", default=None)
    """A venue of your own, see tickplant.venues.user."""
    ping_every_s: Seconds | None = None
    """This and the times that follow take the place of those in `[health]`, for this venue."""
    ping_timeout_s: Seconds | None = None
    measured_ping_every_s: Seconds | None = None
    measured_ping_timeout_s: Seconds | None = None
    close_timeout_s: Seconds | None = None
    stale_check_every_s: Seconds | None = None
    stale_after_s: Seconds | None = None
    acknowledge_within_s: Seconds | None = None
    snapshot_within_s: Seconds | None = None
    backoff_first_s: Seconds | None = None
    backoff_most_s: Seconds | None = None
    healthy_after_s: Seconds | None = None
    reconnect_after_faults: Updates = 5
    """So many faults of one book without health between them make its connection anew; 0: never."""
    backfill_trades_max: Updates = 10_000
    """Trades that were missed are fetched over REST, so many of one hole at most; 0: never. The rest stays a gap."""
    hash_every_s: Interval = 10.0
    """The state of each book is hashed after each snapshot and then with the first message after so many seconds."""
    shadow_every_s: Interval | None = None
    """Each book is compared with a fetched snapshot about so often; 0: never. Default 300 where the venue allows it."""
    coverage_every_s: Interval = 60.0
    """What the coverage ledger says of each stream is said again at least so often; 0: no ledger is kept."""
    hash_updates: Updates = 0
    """It is hashed with each so many-th message of its book. Both 0: never."""

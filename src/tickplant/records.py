"""The facts of the log as Python sees them: record classes, their words, NumPy dtypes and Arrow schemas.

Every record is 64 little-endian bytes of one of the kinds in `Record`, a closed union: a `match` over it that forgets
a kind is an error for mypy. The layouts come from the native module, where each stands once; nothing here repeats one.

Times are integer nanoseconds since the epoch, UTC. Numbers are exact: an integer mantissa and the scale as it stood on
the wire (`price` 10 at `price_scale` 2 is "0.10"; `price_text` writes it out). Absent values are `UNDEF_U64` and
`UNDEF_I64`, Databento's convention.
"""

from __future__ import annotations

import functools
from enum import IntEnum
from typing import TYPE_CHECKING, Final, TypeAlias

from tickplant._native import (
    Coverage,
    Definition,
    Gap,
    Heartbeat,
    Level,
    Mbp,
    Quote,
    StateHash,
    Status,
    Trade,
    layouts,
)

if TYPE_CHECKING:
    from typing import Any

    import numpy as np
    import pyarrow as pa

Record: TypeAlias = Trade | Level | Quote | Status | Gap | Definition | Heartbeat | Coverage | StateHash

UNDEF_U64: Final = 2**64 - 1
UNDEF_I64: Final = 2**63 - 1

# Bits of `flags`.
F_LAST: Final = 128
"""Last record of one venue message: readers never act on half a message."""
F_BACKFILL: Final = 64
"""A TRADE that was fetched over HTTP after it was missed: it stands where its reply came, not where it happened."""
F_SNAPSHOT: Final = 32
"""Part of a snapshot, not a change."""
F_BAD_TS_RECV: Final = 8
F_MAYBE_BAD_BOOK: Final = 4
F_WINDOW: Final = 2
"""A level that left the subscribed window: the venue sends no delete for it, so the plant writes one."""
F_ALTERED: Final = 1
"""Trailing zeros were removed exactly because the mantissa did not fit, or `ref` is the hash of a non-numeric id."""

RECORD_BYTES: Final = 64


class Kind(IntEnum):
    """What a batch holds. 0x100 and up are not 64-byte records."""

    TRADE = 1
    LEVEL = 2
    QUOTE = 3
    STATUS = 4
    GAP = 5
    DEFINITION = 6
    HEARTBEAT = 7
    COVERAGE = 8
    STATE_HASH = 9
    BLOB = 0x100
    """Bytes that records point at by index; `count` is the number of 64-byte lines."""
    INPUT = 0x101
    """Inputs of the machine, in the journal only."""
    CUT = 0x102
    """Written by recovery where a tail was cut or positions are missing."""
    TAPE_INDEX = 0x103
    """Which objects of a tape's frames belong to which shard."""


class Action(IntEnum):
    """What happened to a level, order or trade (Databento's letters)."""

    ADD = 65
    CANCEL = 67
    FILL = 70
    MODIFY = 77
    NONE = 78
    """The venue message changed nothing that the book holds: only `sequence` moved on. Price and size are UNDEF."""
    CLEAR = 82
    TRADE = 84


class Side(IntEnum):
    """Ask, bid, or none. Of a trade: the aggressor's side."""

    ASK = 65
    BID = 66
    NONE = 78


class BookState(IntEnum):
    """How good a book (or, on a trade, the trade stream) is."""

    NONE = 0
    """The state does not apply to this record."""
    SYNCING = 1
    """No proven snapshot yet."""
    LIVE = 2
    """Joined to a snapshot and every change since accounted for."""
    STALE = 3
    """The connection is silent for longer than the instrument allows."""
    GAP = 4
    """Something is known to be missing; a resync is under way."""
    MISMATCH = 5
    """A checksum or an impossible message disproved the book; a resync is under way."""
    CLOSED = 6
    """Not subscribed, or no connection."""


class ConnectionState(IntEnum):
    """A connection's life; the arrows are drawn in ARCHITECTURE.md."""

    IDLE = 0
    WAITING = 1
    """Wants a connection and waits for the control thread's grant or the back-off's end."""
    CONNECTING = 2
    AUTHENTICATING = 3
    SUBSCRIBING = 4
    LIVE = 5
    STALE = 6
    CLOSING = 7
    CLOSED = 8


class SubscriptionState(IntEnum):
    """What an instrument's subscription to one stream is at."""

    UNSUBSCRIBED = 0
    REQUESTED = 1
    ACTIVE = 2
    REFUSED = 3
    LEAVING = 4


class Subject(IntEnum):
    """Whose state a STATUS record tells."""

    CONNECTION = 1
    BOOK = 2
    SUBSCRIPTION = 3
    CLOCK = 4
    DISK = 5
    PLANT = 6
    INSTRUMENT = 7
    RECOVERY = 8
    TRADING = 9


class Reason(IntEnum):
    """Why a state changed. One list for all subjects."""

    NONE = 0
    REQUESTED = 1
    GRANTED = 2
    OPENED = 3
    ACKNOWLEDGED = 4
    SNAPSHOT_JOINED = 5
    AWAITING_SNAPSHOT = 6
    SEQUENCE_GAP = 7
    CHECKSUM_MISMATCH = 8
    BAD_MESSAGE = 9
    NUMBER_RANGE = 10
    NEGATIVE_SIZE = 11
    CROSSED_BOOK = 12
    SILENT = 13
    PING_TIMEOUT = 14
    PEER_CLOSED = 15
    CONNECT_FAILED = 16
    TLS_FAILED = 17
    HANDSHAKE_REFUSED = 18
    RATE_LIMITED = 19
    PROTOCOL_ERROR = 20
    REFUSED = 21
    AUTH_FAILED = 22
    TOKEN_EXPIRED = 23
    FETCH_FAILED = 24
    SNAPSHOT_STALE = 25
    SHUTDOWN = 26
    MAINTENANCE = 27
    CLOCK_STEP = 28
    DISK_FULL = 29
    DISK_RECOVERED = 30
    RESTARTED = 31
    RECOVERED = 32
    UNKNOWN_INSTRUMENT = 33
    BACKOFF = 34
    UNSUBSCRIBED = 35
    TRADE_ID_GAP = 36
    DUPLICATE = 37
    NO_SNAPSHOT = 38
    ACK_TIMEOUT = 39
    NOT_KEPT = 45
    """The venue was asked for trades that are missing and does not have them (any more)."""
    TOO_MUCH = 46
    """More is missing than may be fetched."""
    SHADOW_MISMATCH = 50
    """An independent snapshot at the same update id differs from the book."""
    TICKER_MISMATCH = 51
    """The venue's ticker of the same update id has other best levels than the book."""
    ROTATION = 60
    """A connection of this age makes place for a new one."""


class Stream(IntEnum):
    """A stream of one instrument."""

    BOOK = 1
    TRADES = 2
    TICKER = 3
    DEFINITIONS = 4


class TradingState(IntEnum):
    """What may be traded at present: of one instrument, or (without one) at the whole venue (STATUS of subject
    TRADING)."""

    UNKNOWN = 0
    """The venue has not said so, or in a word that is not known here."""
    ONLINE = 1
    MAINTENANCE = 2
    """Nothing happens at all."""
    CANCEL_ONLY = 3
    """Orders can be cancelled; nothing is matched."""
    POST_ONLY = 4
    """Orders that would be matched at once are refused; nothing is matched."""
    LIMIT_ONLY = 5
    """There are no market orders."""
    REDUCE_ONLY = 6
    """Positions can be reduced only."""
    CLOSED = 7
    """Delisted, or not listed yet."""


class Rung(IntEnum):
    """The rungs of recovery: what is tried to mend an instrument or a connection (STATUS of subject RECOVERY)."""

    NONE = 0
    SNAPSHOT = 1
    """A new snapshot of one book."""
    RESUBSCRIBE = 2
    """One stream of an instrument is left and asked for again."""
    RECONNECT = 3
    """The connection is made anew."""
    SWITCH_VENUE = 4
    """Another venue takes over for the same asset."""
    LINE = 5
    """Another line of the same venue takes over."""
    BACKFILL = 6
    """Trades that were missed are fetched over HTTP."""


class Repair(IntEnum):
    """What filled a hole (`repaired_from` of a GAP or COVERAGE)."""

    NONE = 0
    """Nothing did: it is still missing."""
    REPLAY = 1
    """The trades that the venue sent again on subscribing."""
    LATE = 2
    """It came late on the same connection, out of order."""
    SNAPSHOT = 3
    """A new snapshot: the book is right again, what it went through in between is lost."""
    REST = 4
    """It was fetched over HTTP afterwards."""


class Quality(IntEnum):
    """The quality of an interval in the coverage ledger."""

    COMPLETE = 1
    """Every message is accounted for, by numbers or checksums."""
    GAP = 2
    """Something is missing, or the stream is wanted and not there."""
    STALE = 3
    """The connection was silent for longer than it may be."""
    UNPROVEN = 4
    """It came without a hole that could be seen, but nothing would show one."""
    SHADOW_CHECKED = 5
    """Complete, and an independent source said the same."""
    OFF = 6
    """Not wanted any more, or the plant ended: what was open ends here."""


class _Table:
    """One row layout of the native module."""

    def __init__(self, kind: int, row_bytes: int, fields: list[tuple[str, str, int]]) -> None:
        self.kind = kind
        self.row_bytes = row_bytes
        self.fields = fields


_TABLES: Final = {name: _Table(kind, size, fields) for name, kind, _layout, size, fields in layouts()}

SCHEMAS: Final = (*_TABLES, "mbo")
"""Every schema of `Log.records`: raw kinds, then views. `mbo` are the levels that tell of single orders."""


@functools.cache
def dtype(schema: str) -> np.dtype[Any]:
    """NumPy dtype of a schema's rows, field for field the bytes of the log.

    Raises:
        KeyError: no such schema.
    """
    import numpy as np

    table = _TABLES["levels" if schema == "mbo" else schema]
    if not table.fields:
        return np.dtype((np.void, table.row_bytes))
    names, formats, offsets = zip(*table.fields, strict=True)
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": table.row_bytes})


_ARROW_TYPES: Final = {"u1": "uint8", "<u2": "uint16", "<u4": "uint32", "<u8": "uint64", "<i8": "int64"}


def arrow_type(field: str, numpy_type: str) -> pa.DataType:
    """Arrow type of a column: times are `timestamp[ns, UTC]`, all else is the number as it stands."""
    import pyarrow as pa

    if field.startswith("ts_"):
        return pa.timestamp("ns", tz="UTC")
    return getattr(pa, _ARROW_TYPES[numpy_type])()


@functools.cache
def arrow_schema(schema: str) -> pa.Schema:
    """Arrow schema of a schema's exact columns; 64-bit columns are nullable (UNDEF is null)."""
    import pyarrow as pa

    table = _TABLES["levels" if schema == "mbo" else schema]
    fields = [pa.field(name, arrow_type(name, ty), nullable=ty[-1] == "8") for name, ty, _ in table.fields]
    return pa.schema(fields)


__all__ = [
    "F_ALTERED",
    "F_BACKFILL",
    "F_BAD_TS_RECV",
    "F_LAST",
    "F_MAYBE_BAD_BOOK",
    "F_SNAPSHOT",
    "F_WINDOW",
    "RECORD_BYTES",
    "SCHEMAS",
    "UNDEF_I64",
    "UNDEF_U64",
    "Action",
    "BookState",
    "ConnectionState",
    "Coverage",
    "Definition",
    "Gap",
    "Heartbeat",
    "Kind",
    "Level",
    "Mbp",
    "Quality",
    "Quote",
    "Reason",
    "Record",
    "Repair",
    "Rung",
    "Side",
    "StateHash",
    "Status",
    "Stream",
    "Subject",
    "SubscriptionState",
    "Trade",
    "TradingState",
    "arrow_schema",
    "arrow_type",
    "dtype",
]

"""Typed face of the native module; `tests/house` checks it against the binary."""

from collections.abc import Iterable, Iterator, Sequence
from os import PathLike
from types import TracebackType
from typing import Any, Final, Self, final, overload, type_check_only

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
from typing_extensions import Buffer

from tickplant.log.tables import Exact
from tickplant.records import (
    Action,
    BookState,
    ConnectionState,
    Quality,
    Reason,
    Record,
    Repair,
    Side,
    Stream,
    Subject,
    SubscriptionState,
)

THROWN_AWAY: str
__version__: str

# Records: one class a kind. Constructors take the numbers of the layout; what is not given is absent.

@type_check_only
class _Record:
    KIND: Final[int]
    ts_event: Final[int]
    ts_recv: Final[int]
    sequence: Final[int]
    instrument_id: Final[int]
    instrument: Final[str | None]
    flags: Final[int]
    state: Final[BookState]
    @classmethod
    def from_bytes(cls, data: bytes, instrument: str | None = None) -> Self: ...
    def as_dict(self) -> dict[str, Any]: ...
    def __bytes__(self) -> bytes: ...
    def __hash__(self) -> int: ...

# fmt: off
@final
class Trade(_Record):
    __match_args__: Final = (
        "ts_event", "ts_recv", "sequence", "price", "size", "ref", "instrument_id", "venue", "action", "side", "flags",
        "price_scale", "size_scale", "state", "aux"
    )
    def __new__(
        cls, *, ts_event: int = ..., ts_recv: int = ..., sequence: int = ..., price: int = ..., size: int = ...,
        ref: int = ..., instrument_id: int = ..., venue: int = ..., action: int = ..., side: int = ...,
        flags: int = ..., price_scale: int = ..., size_scale: int = ..., state: int = ..., aux: int = ...
    ) -> Self: ...
    price: Final[int]
    size: Final[int]
    ref: Final[int]
    venue: Final[int]
    action: Final[Action]
    side: Final[Side]
    price_scale: Final[int]
    size_scale: Final[int]
    aux: Final[int]
    price_text: Final[str | None]
    size_text: Final[str | None]

@final
class Level(_Record):
    __match_args__: Final = (
        "ts_event", "ts_recv", "sequence", "price", "size", "ref", "instrument_id", "venue", "action", "side", "flags",
        "price_scale", "size_scale", "state", "aux"
    )
    def __new__(
        cls, *, ts_event: int = ..., ts_recv: int = ..., sequence: int = ..., price: int = ..., size: int = ...,
        ref: int = ..., instrument_id: int = ..., venue: int = ..., action: int = ..., side: int = ...,
        flags: int = ..., price_scale: int = ..., size_scale: int = ..., state: int = ..., aux: int = ...
    ) -> Self: ...
    price: Final[int]
    size: Final[int]
    ref: Final[int]
    venue: Final[int]
    action: Final[Action]
    side: Final[Side]
    price_scale: Final[int]
    size_scale: Final[int]
    aux: Final[int]
    price_text: Final[str | None]
    size_text: Final[str | None]

@final
class Quote(_Record):
    __match_args__: Final = (
        "ts_event", "ts_recv", "sequence", "bid_px", "ask_px", "bid_sz", "ask_sz", "instrument_id", "price_scale",
        "size_scale", "flags", "state"
    )
    def __new__(
        cls, *, ts_event: int = ..., ts_recv: int = ..., sequence: int = ..., bid_px: int = ..., ask_px: int = ...,
        bid_sz: int = ..., ask_sz: int = ..., instrument_id: int = ..., price_scale: int = ..., size_scale: int = ...,
        flags: int = ..., state: int = ...
    ) -> Self: ...
    bid_px: Final[int]
    ask_px: Final[int]
    bid_sz: Final[int]
    ask_sz: Final[int]
    price_scale: Final[int]
    size_scale: Final[int]
    bid_px_text: Final[str | None]
    ask_px_text: Final[str | None]
    bid_sz_text: Final[str | None]
    ask_sz_text: Final[str | None]

@final
class Status(_Record):
    __match_args__: Final = (
        "ts_event", "ts_recv", "sequence", "value", "detail", "ref", "instrument_id", "venue", "subject", "previous",
        "flags", "current", "reason", "state", "connection"
    )
    def __new__(
        cls, *, ts_event: int = ..., ts_recv: int = ..., sequence: int = ..., value: int = ..., detail: int = ...,
        ref: int = ..., instrument_id: int = ..., venue: int = ..., subject: int = ..., previous: int = ...,
        flags: int = ..., current: int = ..., reason: int = ..., state: int = ..., connection: int = ...
    ) -> Self: ...
    value: Final[int]
    detail: Final[int]
    ref: Final[int]
    venue: Final[int]
    subject: Final[Subject]
    previous: Final[BookState | ConnectionState | SubscriptionState | int]
    current: Final[BookState | ConnectionState | SubscriptionState | int]
    reason: Final[Reason]
    connection: Final[int]

@final
class Gap(_Record):
    __match_args__: Final = (
        "ts_event", "ts_recv", "sequence", "last", "ts_end", "ref", "instrument_id", "venue", "stream", "cause",
        "flags", "repaired_from", "reserved", "state", "count"
    )
    def __new__(
        cls, *, ts_event: int = ..., ts_recv: int = ..., sequence: int = ..., last: int = ..., ts_end: int = ...,
        ref: int = ..., instrument_id: int = ..., venue: int = ..., stream: int = ..., cause: int = ...,
        flags: int = ..., repaired_from: int = ..., reserved: int = ..., state: int = ..., count: int = ...
    ) -> Self: ...
    last: Final[int]
    ts_end: Final[int]
    ref: Final[int]
    venue: Final[int]
    stream: Final[Stream]
    cause: Final[Reason]
    repaired_from: Final[Repair]
    reserved: Final[int]
    count: Final[int]

@final
class Definition(_Record):
    __match_args__: Final = (
        "ts_event", "ts_recv", "sequence", "tick", "lot", "ref", "instrument_id", "venue", "action", "instrument_class",
        "flags", "price_scale", "size_scale", "state", "aux"
    )
    def __new__(
        cls, *, ts_event: int = ..., ts_recv: int = ..., sequence: int = ..., tick: int = ..., lot: int = ...,
        ref: int = ..., instrument_id: int = ..., venue: int = ..., action: int = ..., instrument_class: int = ...,
        flags: int = ..., price_scale: int = ..., size_scale: int = ..., state: int = ..., aux: int = ...
    ) -> Self: ...
    tick: Final[int]
    lot: Final[int]
    ref: Final[int]
    venue: Final[int]
    action: Final[Action]
    instrument_class: Final[int]
    price_scale: Final[int]
    size_scale: Final[int]
    aux: Final[int]
    tick_text: Final[str | None]
    lot_text: Final[str | None]

@final
class Heartbeat(_Record):
    __match_args__: Final = (
        "ts_event", "ts_recv", "sequence", "value", "detail", "ref", "instrument_id", "venue", "subject", "reserved",
        "flags", "reserved2", "reserved3", "state", "connection"
    )
    def __new__(
        cls, *, ts_event: int = ..., ts_recv: int = ..., sequence: int = ..., value: int = ..., detail: int = ...,
        ref: int = ..., instrument_id: int = ..., venue: int = ..., subject: int = ..., reserved: int = ...,
        flags: int = ..., reserved2: int = ..., reserved3: int = ..., state: int = ..., connection: int = ...
    ) -> Self: ...
    value: Final[int]
    detail: Final[int]
    ref: Final[int]
    venue: Final[int]
    subject: Final[Subject]
    reserved: Final[int]
    reserved2: Final[int]
    reserved3: Final[int]
    connection: Final[int]

@final
class Coverage(_Record):
    __match_args__: Final = (
        "ts_event", "ts_recv", "sequence", "last", "ts_end", "ref", "instrument_id", "venue", "stream", "cause",
        "flags", "repaired_from", "quality", "state", "count"
    )
    def __new__(
        cls, *, ts_event: int = ..., ts_recv: int = ..., sequence: int = ..., last: int = ..., ts_end: int = ...,
        ref: int = ..., instrument_id: int = ..., venue: int = ..., stream: int = ..., cause: int = ...,
        flags: int = ..., repaired_from: int = ..., quality: int = ..., state: int = ..., count: int = ...
    ) -> Self: ...
    last: Final[int]
    ts_end: Final[int]
    ref: Final[int]
    venue: Final[int]
    stream: Final[Stream]
    cause: Final[Reason]
    repaired_from: Final[Repair]
    quality: Final[Quality]
    count: Final[int]

@final
class StateHash(_Record):
    __match_args__: Final = (
        "ts_event", "ts_recv", "sequence", "hash", "ref", "bid_levels", "ask_levels", "instrument_id", "venue",
        "reserved", "reserved2", "flags", "price_scale", "size_scale", "state", "depth"
    )
    def __new__(
        cls, *, ts_event: int = ..., ts_recv: int = ..., sequence: int = ..., hash: int = ..., ref: int = ...,
        bid_levels: int = ..., ask_levels: int = ..., instrument_id: int = ..., venue: int = ..., reserved: int = ...,
        reserved2: int = ..., flags: int = ..., price_scale: int = ..., size_scale: int = ..., state: int = ...,
        depth: int = ...
    ) -> Self: ...
    hash: Final[int]
    ref: Final[int]
    bid_levels: Final[int]
    ask_levels: Final[int]
    venue: Final[int]
    reserved: Final[int]
    reserved2: Final[int]
    price_scale: Final[int]
    size_scale: Final[int]
    depth: Final[int]
# fmt: on

@final
class Mbp:
    schema: Final[str]
    ts_event: Final[int]
    ts_recv: Final[int]
    sequence: Final[int]
    price: Final[int]
    size: Final[int]
    index: Final[int]
    instrument_id: Final[int]
    instrument: Final[str | None]
    venue: Final[int]
    action: Final[Action]
    side: Final[Side]
    flags: Final[int]
    price_scale: Final[int]
    size_scale: Final[int]
    state: Final[BookState]
    changes: Final[int]
    bids: Final[list[tuple[str, str, int]]]
    asks: Final[list[tuple[str, str, int]]]
    extra: Final[dict[str, str | int | None]]
    def as_dict(self) -> dict[str, Any]: ...

# Batches.

@final
class ColumnBuffer(Buffer):
    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

@final
class BatchIterator(Iterator[Record | Mbp]):
    def __iter__(self) -> Self: ...
    def __next__(self) -> Record | Mbp: ...
    def __length_hint__(self) -> int: ...

@final
class Batch(Buffer):
    schema: Final[str]
    kind: Final[int]
    lane: Final[str | None]
    first_index: Final[int]
    next_index: Final[int]
    price: Final[Exact]
    size: Final[Exact]
    def __new__(cls, schema: str, data: Buffer, *, instruments: Sequence[tuple[int, str]] | None = None) -> Self: ...
    @staticmethod
    def from_records(records: Iterable[Record], *, instruments: Sequence[tuple[int, str]] | None = None) -> Batch: ...
    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, key: int, /) -> Record | Mbp: ...
    @overload
    def __getitem__(self, key: slice, /) -> Batch: ...
    def __iter__(self) -> BatchIterator: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def to_numpy(self) -> np.ndarray[Any, np.dtype[Any]]: ...
    def to_arrow(self, *, decimals: bool = False, floats: bool = False, names: bool = False) -> pa.RecordBatch: ...
    def to_polars(self, *, decimals: bool = False, floats: bool = False, names: bool = False) -> pl.DataFrame: ...
    def to_df(self, *, decimals: bool = False, floats: bool = False, names: bool = False) -> pd.DataFrame: ...
    def columns(
        self, *, decimals: bool = False, floats: bool = False
    ) -> list[tuple[str, str, ColumnBuffer, ColumnBuffer | None, int]]: ...
    def filter(self, instruments: str | int | Iterable[str | int]) -> Batch: ...
    def instrument(self, instrument_id: int) -> str | None: ...

# One message at a time, for tests against plain twins; live data never crosses message by message.

@final
class Decoder:
    def __new__(cls, name: str, *, tolerant: bool = False) -> Self: ...
    def decode(self, frame: bytes) -> list[dict[str, Any]]: ...
    def decode_reply(self, body: bytes) -> list[dict[str, Any]]: ...
    @property
    def slow_path(self) -> int: ...

@final
class LevelBook:
    def __new__(cls, depth: int = 0, *, truncate: bool = False, checksum: bool = False) -> Self: ...
    def set_scales(self, price: int, size: int) -> None: ...
    def load(self, rows: Sequence[tuple[str, str, str]]) -> list[tuple[str, str, str, str, bool]]: ...
    def apply(self, rows: Sequence[tuple[str, str, str]]) -> list[tuple[str, str, str, str, bool]]: ...
    def levels(self, side: str) -> list[tuple[str, str]]: ...
    def checksum(self) -> int: ...
    @property
    def unknown_deletes(self) -> int: ...

class Book:
    def __new__(
        cls,
        depth: int = 0,
        *,
        truncate: bool = False,
        checksum: str = "none",
        price_scale: int = 0,
        size_scale: int = 0,
    ) -> Self: ...
    def set(self, side: str, price: int, size: int) -> None: ...
    def apply(self, sides: Buffer, prices: Buffer, sizes: Buffer, *, message: int = 0) -> None: ...
    def touches(self, sides: Buffer, prices: Buffer, sizes: Buffer, *, message: int = 0) -> bytes: ...
    def touch(self) -> tuple[int | None, int | None, int | None, int | None]: ...
    def load(self, sides: Buffer, prices: Buffer, sizes: Buffer) -> None: ...
    def levels(self, side: str, most: int = ...) -> list[tuple[str, str, int]]: ...
    def best(self, side: str) -> tuple[str, str, int] | None: ...
    def depth(self, side: str) -> int: ...
    def checksum(self) -> int: ...
    def agrees(self, checksum: int) -> bool | None: ...
    @property
    def is_crossed(self) -> bool: ...
    @property
    def unknown_deletes(self) -> int: ...

class OrderBook:
    def __new__(
        cls,
        depth: int = 0,
        *,
        truncate: bool = False,
        growing_keeps_place: bool = False,
        price_scale: int = 0,
        size_scale: int = 0,
    ) -> Self: ...
    def add(self, id: int, side: str, price: int, size: int) -> None: ...
    def modify(self, id: int, side: str, price: int, size: int) -> None: ...
    def cancel(self, id: int) -> None: ...
    def fill(self, id: int, size: int) -> None: ...
    def apply(self, actions: Buffer, sides: Buffer, ids: Buffer, prices: Buffer, sizes: Buffer) -> None: ...
    def levels(self, side: str, most: int = ...) -> list[tuple[str, str, int]]: ...
    def orders(self, side: str, most: int = ...) -> list[tuple[int, str, str]]: ...
    def ahead(self, id: int) -> tuple[int, str | None] | None: ...
    def checksum(self) -> int: ...
    @property
    def oddities(self) -> tuple[int, int, int, int]: ...
    def __len__(self) -> int: ...

class BookFeed:
    def __new__(cls, plan: bytes) -> Self: ...
    def feed(self, frames: list[bytes]) -> Batch: ...
    def wished(self) -> list[tuple[str, int]]: ...
    def reply(self, request: int, body: bytes) -> None: ...
    def proofs(self) -> tuple[int, int]: ...

# The log.

@final
class Reader(Iterator[Batch]):
    finished: Final[bool]
    def __new__(
        cls,
        path: str,
        *,
        schemas: Sequence[str],
        instruments: Sequence[str] | None,
        lanes: Sequence[str] | None,
        start_time: int | None,
        start: dict[str, int] | None,
        end_time: int | None,
        end: dict[str, int] | None,
        sort: bool,
        follow: bool,
        basis_points: int | None = None,
        size: str | None = None,
    ) -> Self: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> Batch: ...
    def poll(self) -> Batch | None: ...
    def arm(self, doorbell: Doorbell) -> bool: ...
    def refresh(self) -> None: ...
    def position(self) -> dict[str, int]: ...
    def lag(self) -> dict[str, int]: ...

@final
class Doorbell:
    def __new__(cls) -> Self: ...
    def fileno(self) -> int: ...
    def clear(self) -> None: ...

@final
class LogDirectory:
    path: Final[PathLike[str]]
    def __new__(cls, path: str | PathLike[str]) -> Self: ...
    def lanes(self) -> list[str]: ...
    def instruments(self) -> list[tuple[int, str]]: ...
    def position(self) -> dict[str, int]: ...
    def blob(self, lane: str, index: int) -> bytes | None: ...
    def coverage(
        self, instrument_id: int, start: int | None, end: int | None
    ) -> tuple[list[tuple[Any, ...]], dict[int, int]]: ...
    def book(
        self, instrument_id: int, *, at: int | None, known_at: int | None, depth: int | None
    ) -> tuple[str, int, int, int, int, int, list[tuple[str, str, int]], list[tuple[str, str, int]], int] | None: ...

@final
class Checkpointer:
    written: Final[int]
    def __new__(cls, path: str | PathLike[str], lane: str, every_records: int = 1_000_000) -> Self: ...
    def stop(self) -> None: ...

@final
class LaneWriter:
    next_index: Final[int]
    def __new__(
        cls,
        path: str | PathLike[str],
        lane: str,
        *,
        segment_bytes: int | None = None,
        hot_bytes_max: int | None = None,
        sync: str = "interval",
        hot_root: str | PathLike[str] | None = None,
        archive: bool = True,
    ) -> Self: ...
    def assign(self, instrument: str) -> int: ...
    def append(self, records: Batch | Iterable[Record], *, ts_recv: int | None = None) -> None: ...
    def blob(self, data: bytes, *, ts_recv: int | None = None) -> int: ...
    def commit(self, watermark: int | None = None) -> None: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

def layouts() -> list[tuple[str, int, int, int, list[tuple[str, str, int]]]]: ...
def vocabularies() -> list[tuple[str, list[tuple[str, int]]]]: ...

# The wire: blocking clients over the loops' own code, for tools and tests.

@final
class TapeRouter:
    def __new__(cls, settings: bytes) -> TapeRouter: ...
    def run(self) -> str: ...
    def report(self) -> str | None: ...

@final
class TapeShard:
    lost: Final[int]
    ended: Final[bool]
    abandoned: Final[bool]
    def __new__(cls, log: PathLike[str] | str, shard: int, start: str) -> Self: ...
    def objects(self, timeout_ms: int) -> list[bytes]: ...
    def array(self, timeout_ms: int) -> bytes: ...

class WebSocketClient:
    address: Final[str]
    subprotocol: Final[str | None]
    @staticmethod
    def connect(
        url: str,
        *,
        ca: PathLike[str] | str | None = None,
        proxy: str | None = None,
        headers: Sequence[tuple[str, str]] = ...,
        subprotocols: Sequence[str] = ...,
        timeout_s: float = 10.0,
        message_bytes_max: int = ...,
    ) -> WebSocketClient: ...
    def recv(self, timeout_s: float | None = None) -> str | bytes: ...
    def send(self, message: str | bytes) -> None: ...
    def ping(self, payload: bytes = b"", timeout_s: float | None = None) -> float: ...
    def close(self, code: int = 1000, reason: str = "") -> str: ...
    def __enter__(self) -> WebSocketClient: ...
    def __exit__(self, *exception: object) -> None: ...

def http_get(
    url: str,
    *,
    ca: PathLike[str] | str | None = None,
    proxy: str | None = None,
    headers: Sequence[tuple[str, str]] = ...,
    timeout_s: float = 15.0,
) -> tuple[int, float | None, bytes]: ...

# the plant

@final
class LogHandle:
    def __init__(self, path: str, settings: bytes) -> None: ...
    def assign(self, name: str) -> int: ...
    def id_of(self, name: str) -> int | None: ...

@final
class Loop:
    def __init__(
        self,
        log: LogHandle,
        lane: str,
        plan: bytes,
        options: bytes,
        *,
        seed: int | None = None,
        decoder: object | None = None,
    ) -> None: ...
    def start(self) -> None: ...
    def fileno(self) -> int: ...
    def requests(self) -> list[tuple[str, int, str]]: ...
    def command(self, command: bytes) -> None: ...
    def grant(self, connection: int, addresses: list[str]) -> None: ...
    def refuse(self, connection: int, detail: str) -> None: ...
    def report(self) -> str: ...
    def stop(self) -> None: ...
    def join(self) -> None: ...

@final
class Importer:
    def __init__(self, log: LogHandle, lane: str, plan: bytes, at: int, *, decoder: object | None = None) -> None: ...
    def frame(self, at: int, connection: int, payload: bytes) -> None: ...
    def reply(self, at: int, symbol: str, status: int, body: bytes) -> None: ...
    def reopen(self, at: int, connection: int) -> None: ...
    def wished(self) -> list[str]: ...
    def summary(self) -> str: ...
    def close(self) -> None: ...

class ReplayBench:
    def __init__(
        self, log: LogHandle, lane: str, plan: bytes, entries: list[tuple[int, str | None, bytes]]
    ) -> None: ...
    def round(self, timed: bool) -> tuple[int, int, int, int, int, int]: ...
    def quantile(self, per_million: int) -> int | None: ...
    def stages(self) -> tuple[int, int, int, int]: ...
    def facts(self) -> tuple[int, int, int]: ...
    def summary(self) -> str: ...
    def close(self) -> None: ...

def hot_dirs(root: str | PathLike[str]) -> str: ...
def remove_hot_dir(path: str | PathLike[str]) -> bool: ...

@final
class VirtualLoop:
    def __new__(
        cls, log: LogHandle, lane: str, plan: bytes, at: int, *, seed: int = 0, decoder: object | None = None
    ) -> Self: ...
    def take(
        self,
        at: int,
        kind: str,
        connection: int = 0,
        payload: bytes = b"",
        *,
        number: int = 0,
        status: int = 0,
        retry_after: int | None = None,
    ) -> tuple[list[tuple[str, int, bytes]], int | None, list[tuple[int, int, bytes]]]: ...
    def started(self) -> tuple[list[tuple[str, int, bytes]], int | None, list[tuple[int, int, bytes]]]: ...
    def kill_within(self, at: int, connection: int, payload: bytes) -> None: ...
    def kill(self) -> None: ...
    def set_disk(self, *, delay_ns: int = 0, errno: int | None = None) -> None: ...
    def await_disk(self, well: bool) -> None: ...
    @staticmethod
    def memory() -> int: ...
    def digest(self) -> str: ...
    def report(self) -> str: ...
    def close(self) -> None: ...

def rebuild(path: str, lane: str, decoder: object | None = None) -> str: ...

@final
class TapeServer:
    def __new__(cls, options: bytes) -> Self: ...
    @property
    def port(self) -> int: ...
    def clients(self) -> str: ...
    def stop(self) -> None: ...

"""What a worker of the router needs: trades from the places that it was started with.

    from tickplant.tape import worker

    for trade in worker.trades():          # dicts; or worker.trades(Trade), a msgspec Struct of the fields you need
        print(trade["sym"], trade["p"])

The router starts its workers with their places as last arguments: numbers of pipe descriptors, or shards of its log
as `DIR#3`. Each message on a pipe is a four-byte little-endian length and one JSON object; a log is shared memory.
`trades` reads all places in this process, as they have something; to use more processor cores, fork one process a
place and give each `places=[its own]`, or let the router start one worker a place (`--spawn each`).

A log can be read by whoever likes: `worker.trades(places=["data/#3"])` has what is new in shard 3 from now on,
`"data/#3@first"` everything that is kept, then what is new; it ends with the tape.

Nothing here imports more than msgspec, so that a worker starts quickly.
"""

from __future__ import annotations

import os
import re
import selectors
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, overload

import msgspec

if TYPE_CHECKING:
    from tickplant._native import TapeShard

# What a read takes, and so what is lost with this process: less than the router's `--redeliver-bytes` by default.
READ_BYTES = 192 << 10
MESSAGE_BYTES_MOST = 64 << 20
_LENGTH = struct.Struct("<I")
_SHARD = re.compile(r"(?P<log>.+)#(?P<shard>[0-9]{1,5})(@(?P<start>first|end|[0-9]+))?")
# One place is waited for until something comes, with a look at signals in between; several are looked at in turn.
WAIT_MS, TURN_MS = 500, 20

T = TypeVar("T")


class BrokenTapeError(ValueError):
    """A pipe ended within a message, or holds what the router does not write."""


class LostTradesError(BrokenTapeError):
    """A reader of a log was slower than what is kept in memory: `count` trades of its shard are gone."""

    def __init__(self, place: str, count: int) -> None:
        super().__init__(f"{place}: {count} trades are no longer kept; read faster, or give the router --log-bytes")
        self.count = count


class Splitter:
    """Cuts the bytes of one pipe into messages; what is not whole yet is kept for the next piece."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> list[bytes]:
        """The messages that are whole with this piece, in order.

        Raises BrokenTapeError where a length cannot be true.
        """
        data = self._rest + piece if self._rest else piece
        messages: list[bytes] = []
        append, length_at, size = messages.append, _LENGTH.unpack_from, len(data)
        start = 0
        while start + 4 <= size:
            end = start + 4 + length_at(data, start)[0]
            if end > size:
                if end - start > MESSAGE_BYTES_MOST:
                    raise BrokenTapeError(f"a message of {end - start - 4} bytes: this pipe is not the router's")
                break
            append(data[start + 4 : end])
            start = end
        self._rest = data[start:]
        return messages

    def finish(self) -> None:
        """Raises BrokenTapeError where the pipe ended within a message: the router died while it wrote."""
        if self._rest:
            raise BrokenTapeError(f"the pipe ended within a message: {len(self._rest)} bytes are left of it")


def descriptors(arguments: Sequence[str] | None = None) -> list[int]:
    """The pipes' descriptors: the whole numbers at the end of the arguments (of this process, if none are given).

    Where a number of the worker's own stands before them, TICKPLANT_PLACES, which the router sets, says how many count.
    """
    return [int(place) for place in _last(arguments, lambda text: text.isascii() and text.isdigit())]


def shards(arguments: Sequence[str] | None = None) -> list[str]:
    """The shards of a log, `DIR#3`, at the end of the arguments (of this process, if none are given)."""
    return _last(arguments, lambda text: _SHARD.fullmatch(text) is not None)


def _last(arguments: Sequence[str] | None, fits: Callable[[str], bool]) -> list[str]:
    found: list[str] = []
    for argument in reversed(sys.argv[1:] if arguments is None else arguments):
        if not fits(argument):
            break
        found.append(argument)
    given = os.environ.get("TICKPLANT_PLACES", "")
    return found[: int(given) if given.isdecimal() else None][::-1]


def messages(places: Sequence[int | str] | None = None) -> Iterator[tuple[int | str, list[bytes]]]:
    """Whole messages as they come: a place and the raw objects of one read of it, until every place has ended.

    One symbol is always at one place, in order. Raises ValueError where there is no place, and BrokenTapeError:
    LostTradesError where a log's memory was overtaken.
    """
    pipes, logs = _opened(places)
    if not logs:
        return _piped(pipes)
    return ((place, found) for place, shard in _following(logs) if (found := shard.objects(_wait_ms(logs))))


def _opened(places: Sequence[int | str] | None) -> tuple[list[int], dict[str, TapeShard]]:
    given = (descriptors() or shards()) if places is None else list(places)
    pipes = [place for place in given if isinstance(place, int)]
    names = [place for place in given if isinstance(place, str)]
    if bool(pipes) == bool(names):
        raise ValueError(
            "no place to read: the router appends descriptors of pipes or shards of a log to the worker's arguments"
            if not given
            else "pipes and shards of a log cannot be read together: give one kind"
        )
    return pipes, {name: _open_shard(name) for name in names}


def _open_shard(place: str) -> TapeShard:
    # A worker of pipes has no use for the native module.
    from tickplant._native import TapeShard

    if (found := _SHARD.fullmatch(place)) is None:
        raise ValueError(f"{place!r} is no shard of a log: expected DIR#3 or DIR#3@first")
    return TapeShard(found["log"], int(found["shard"]), found["start"] or "end")


def _wait_ms(logs: dict[str, TapeShard]) -> int:
    return WAIT_MS if len(logs) == 1 else TURN_MS


def _following(logs: dict[str, TapeShard]) -> Iterator[tuple[str, TapeShard]]:
    """Each shard in turn, until it has ended."""
    told = dict.fromkeys(logs, 0)
    while logs:
        for place, shard in list(logs.items()):
            yield place, shard
            if shard.lost > told[place]:
                count, told[place] = shard.lost - told[place], shard.lost
                raise LostTradesError(place, count)
            if shard.abandoned:
                raise BrokenTapeError(f"{place}: no router writes this tape, and it was not closed")
            if shard.ended:
                del logs[place]


def _piped(opened: Sequence[int]) -> Iterator[tuple[int | str, list[bytes]]]:
    splitters = {pipe: Splitter() for pipe in opened}
    if len(opened) == 1:
        # One pipe needs no selector: a read waits by itself.
        pipe, splitter = opened[0], splitters[opened[0]]
        while piece := os.read(pipe, READ_BYTES):
            if found := splitter.feed(piece):
                yield pipe, found
        splitter.finish()
        return
    with selectors.DefaultSelector() as selector:
        for pipe in opened:
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select():
                piece = os.read(key.fd, READ_BYTES)
                if not piece:
                    selector.unregister(key.fd)
                    splitters[key.fd].finish()
                elif found := splitters[key.fd].feed(piece):
                    yield key.fd, found


@overload
def batches(*, places: Sequence[int | str] | None = None) -> Iterator[list[dict[str, Any]]]: ...
@overload
def batches(kind: type[T], *, places: Sequence[int | str] | None = None) -> Iterator[list[T]]: ...
def batches(kind: Any = dict[str, Any], *, places: Sequence[int | str] | None = None) -> Iterator[list[Any]]:
    """Decoded trades, one list for each read of a place. `kind`: a msgspec Struct, whose fields alone are decoded.

    Raises msgspec.DecodeError where an object is not JSON or does not fit the kind.
    """
    pipes, logs = _opened(places)
    if not logs:
        decode: Callable[[bytes], Any] = msgspec.json.Decoder(kind).decode
        for _, found in _piped(pipes):
            yield [decode(message) for message in found]
        return
    decode_all: Callable[[bytes], list[Any]] = msgspec.json.Decoder(list[kind]).decode
    for _, shard in _following(logs):
        if trades := decode_all(shard.array(_wait_ms(logs))):
            yield trades


@overload
def trades(*, places: Sequence[int | str] | None = None) -> Iterator[dict[str, Any]]: ...
@overload
def trades(kind: type[T], *, places: Sequence[int | str] | None = None) -> Iterator[T]: ...
def trades(kind: Any = dict[str, Any], *, places: Sequence[int | str] | None = None) -> Iterator[Any]:
    """Decoded trades one by one; see `batches`."""
    for batch in batches(kind, places=places):
        yield from batch

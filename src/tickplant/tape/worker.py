"""What a worker of the router needs: trades from the descriptors that it was started with.

    from tickplant.tape import worker

    for trade in worker.trades():          # dicts; or worker.trades(Trade), a msgspec Struct of the fields you need
        print(trade["sym"], trade["p"])

The router starts its workers with the numbers of pipe descriptors as last arguments. Each message on a pipe is a
four-byte little-endian length and one JSON object. `trades` reads all pipes in this process, as they have something;
to use more processor cores, fork one process a pipe and give each `pipes=[its own]`, or let the router start one
worker a pipe (`--spawn each`).

Nothing here imports more than msgspec, so that a worker starts quickly.
"""

from __future__ import annotations

import os
import selectors
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, overload

import msgspec

READ_BYTES = 1 << 20
MESSAGE_BYTES_MOST = 64 << 20
_LENGTH = struct.Struct("<I")

T = TypeVar("T")


class BrokenTapeError(ValueError):
    """A pipe ended within a message, or holds what the router does not write."""


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
    """The pipes' descriptors: the whole numbers at the end of the arguments (of this process, if none are given)."""
    found: list[int] = []
    for argument in reversed(sys.argv[1:] if arguments is None else arguments):
        if not (argument.isascii() and argument.isdigit()):
            break
        found.append(int(argument))
    return found[::-1]


def messages(pipes: Sequence[int] | None = None) -> Iterator[tuple[int, list[bytes]]]:
    """Whole messages as they come: a descriptor and the raw objects of one read of it, until every pipe has ended.

    One symbol is always on one pipe, in order. Raises ValueError where there is no descriptor, and BrokenTapeError.
    """
    opened = descriptors() if pipes is None else list(pipes)
    if not opened:
        raise ValueError("no pipe to read: the router appends their descriptors to the worker's arguments")
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
def batches(*, pipes: Sequence[int] | None = None) -> Iterator[list[dict[str, Any]]]: ...
@overload
def batches(kind: type[T], *, pipes: Sequence[int] | None = None) -> Iterator[list[T]]: ...
def batches(kind: Any = dict[str, Any], *, pipes: Sequence[int] | None = None) -> Iterator[list[Any]]:
    """Decoded trades, one list for each read of a pipe. `kind`: a msgspec Struct, whose fields alone are decoded.

    Raises msgspec.DecodeError where an object is not JSON or does not fit the kind.
    """
    decode: Callable[[bytes], Any] = msgspec.json.Decoder(kind).decode
    for _, found in messages(pipes):
        yield [decode(message) for message in found]


@overload
def trades(*, pipes: Sequence[int] | None = None) -> Iterator[dict[str, Any]]: ...
@overload
def trades(kind: type[T], *, pipes: Sequence[int] | None = None) -> Iterator[T]: ...
def trades(kind: Any = dict[str, Any], *, pipes: Sequence[int] | None = None) -> Iterator[Any]:
    """Decoded trades one by one; see `batches`."""
    for batch in batches(kind, pipes=pipes):
        yield from batch

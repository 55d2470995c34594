"""Frames of a WebSocket as a server sends them (RFC 6455, section 5.2): not masked, and here one message each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

TEXT = 1
_LENGTH_16, _LENGTH_64 = 126, 127


class Frame(NamedTuple):
    """A frame as it came, and its parts."""

    raw: bytes
    opcode: int
    payload: bytes

    def with_payload(self, payload: bytes) -> bytes:
        """The bytes of the same frame with another payload."""
        size = len(payload)
        if size < _LENGTH_16:
            return bytes((self.raw[0], size)) + payload
        if size < 1 << 16:
            return bytes((self.raw[0], _LENGTH_16)) + size.to_bytes(2) + payload
        return bytes((self.raw[0], _LENGTH_64)) + size.to_bytes(8) + payload


class Frames:
    """Cuts a stream of bytes into frames."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Takes bytes and gives the frames that are complete by now."""
        rest = self._rest
        rest += data
        while len(rest) >= 2:
            length, start = rest[1] & 0x7F, 2
            if length >= _LENGTH_16:
                start += 2 if length == _LENGTH_16 else 8
                if len(rest) < start:
                    return
                length = int.from_bytes(rest[2:start])
            end = start + length
            if len(rest) < end:
                return
            frame = Frame(bytes(rest[:end]), rest[0] & 0x0F, bytes(rest[start:end]))
            del rest[:end]
            yield frame

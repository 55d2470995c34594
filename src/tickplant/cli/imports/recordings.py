"""Recordings made by other collectors, as the inputs that a session takes.

`hftbacktest`: lines of receive time in ns and the venue's message; a REST snapshot stands among them, naming no symbol.
`cryptofeed`: a file a socket (`X.ws.1.0`) and one of REST replies (`X.http.0.0`), times in seconds.
`raw`: lines of receive time in ns and a frame as it came, or `GET url body` for a REST reply.
Files may be gzipped. Several are merged by time.
"""

from __future__ import annotations

import gzip
import heapq
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import parse_qs, urlsplit

from tickplant.errors import ImportFormatError

Format = Literal["hftbacktest", "cryptofeed", "raw"]
LINE_BYTES_MOST = 64 * 1024 * 1024


class Entry(NamedTuple):
    """One input of a recording. `symbol` is whom a reply was asked for, empty where the recording does not say."""

    at: int
    kind: Literal["frame", "reply", "opened"]
    body: bytes
    symbol: str = ""
    source: str = ""
    """The file that it comes from."""


Reader = Callable[[bytes, str], Entry | None]


def read_recording(paths: Iterable[Path], form: Format) -> Iterator[Entry]:
    """The entries of all files in the order of their times; of equal times, the file named first comes first.

    Raises ImportFormatError with file and line where a line is not of the format or a file is cut or cannot be read.
    """
    readers: dict[str, Reader] = {"hftbacktest": _hftbacktest, "cryptofeed": _cryptofeed, "raw": _raw}
    return heapq.merge(*(_entries(path, readers[form]) for path in paths), key=lambda entry: entry.at)


def symbols_in(entries: Iterable[Entry], pattern: str) -> list[str]:
    """The symbols that a recording's messages name, in the order in which they come."""
    search = re.compile(pattern.encode())
    found: dict[str, None] = {}
    for entry in entries:
        if entry.symbol:
            found[entry.symbol] = None
        for symbol in search.findall(entry.body) if entry.kind == "frame" else ():
            found[symbol.decode(errors="replace")] = None
    return list(found)


def _entries(path: Path, reader: Reader) -> Iterator[Entry]:
    number = 0
    try:
        for number, line in enumerate(_lines(path), 1):
            text = line.rstrip(b"\r\n")
            if text and (entry := reader(text, f"{path}:{number}")):
                yield entry._replace(source=str(path))
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ImportFormatError(
            f"the recording cannot be read{' on' if number else ''}: {reason}",
            where=f"{path}:{number + 1}" if number else str(path),
            hint="what came before is imported; give a whole file" if number else "give a file that is there",
        ) from None


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as probe:
        zipped = probe.read(2) == b"\x1f\x8b"
    with gzip.open(path, "rb") if zipped else path.open("rb") as file:
        while line := file.readline(LINE_BYTES_MOST):
            yield line


def _hftbacktest(line: bytes, where: str) -> Entry:
    time, body = _split(line, where, "receive_time_ns JSON")
    snapshot = body.startswith(b'{"lastUpdateId"')
    return Entry(_nanoseconds(time, where), "reply" if snapshot else "frame", body)


def _raw(line: bytes, where: str) -> Entry:
    time, body = _split(line, where, "receive_time_ns frame")
    at = _nanoseconds(time, where)
    if not body.startswith(b"GET "):
        return Entry(at, "frame", body)
    url, reply = _split(body[4:], where, "receive_time_ns GET url body")
    return Entry(at, "reply", reply, _symbol_of_url(url))


def _cryptofeed(line: bytes, where: str) -> Entry | None:
    if line.startswith((b"configuration", b"wss://", b"ws://")):
        # `address <-> time` opens a connection, `address <- time: body` is what the client sent.
        _, arrow, time = line.partition(b" <-> ")
        return Entry(_seconds(time, where), "opened", b"") if arrow else None
    if line.startswith((b"http://", b"https://")):
        url, arrow, rest = line.partition(b" -> ")
        time, colon, body = rest.partition(b": ")
        if not (arrow and colon):
            raise _mismatch(where, "url -> time: JSON")
        # Lists of instruments are of no use to a session; only what names a symbol is a snapshot.
        symbol = _symbol_of_url(url)
        return Entry(_seconds(time, where), "reply", body, symbol) if symbol else None
    time, colon, body = line.partition(b": ")
    if not colon:
        raise _mismatch(where, "time: JSON")
    return Entry(_seconds(time, where), "frame", body)


def _split(line: bytes, where: str, expected: str) -> tuple[bytes, bytes]:
    first, space, rest = line.partition(b" ")
    if not (space and rest):
        raise _mismatch(where, expected)
    return first, rest


def _nanoseconds(text: bytes, where: str) -> int:
    if not (text.isdigit() and len(text) == 19):
        raise _mismatch(where, "a receive time of 19 digits, nanoseconds since 1970")
    return int(text)


def _seconds(text: bytes, where: str) -> int:
    # Never through a float: it does not hold nanoseconds since 1970.
    whole, _, part = text.strip().partition(b".")
    if not (whole.isdigit() and len(whole) == 10 and (not part or part.isdigit())):
        raise _mismatch(where, "a time in seconds since 1970, such as 1618677817.061845")
    return int(whole) * 1_000_000_000 + int(part[:9].ljust(9, b"0"))


def _symbol_of_url(url: bytes) -> str:
    values = parse_qs(urlsplit(url.decode(errors="replace")).query)
    return next((values[name][0] for name in ("symbol", "product_id", "pair") if name in values), "")


def _mismatch(where: str, expected: str) -> ImportFormatError:
    return ImportFormatError("the line is not of this format", where=where, hint=f"expected {expected}")

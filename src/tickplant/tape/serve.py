"""The replay server of tapes: a saved or a synthetic market to any number of clients, as Polygon's feed serves its own.

    with TapeServer(symbols=6000, rate="2000", trades=100_000) as server:
        ...  # connect to server.url
        server.clients()

The threads are native and need no interpreter: the server goes on while Python works.
"""

from __future__ import annotations

import gzip
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from tickplant._native import TapeServer as _NativeServer
from tickplant.errors import ConfigError

_GZIP = b"\x1f\x8b"


class ServedClient(msgspec.Struct, frozen=True):
    """What one client was sent: frames that the kernel took whole.

    `checksum` is the wrapping sum, as 16 hexadecimal digits, of the 64-bit XXH3 of each object's bytes: the same
    trades give the same number in any order. `elapsed_ns` is from its first trade to its last so far.
    """

    client: int
    peer: str
    trades: int
    bytes: int
    frames: int
    checksum: str
    elapsed_ns: int
    complete: bool
    connected: bool


class TapeServer:
    """A running replay server; use it as a context manager or call `stop`.

    `file`: a tape of NDJSON, each line an object or an array of objects (a frame), plain or gzip, or the directory of
    a router's log (`route --record`); it stays on disk and must not be cut short meanwhile; each object goes out byte
    for byte; without one a synthetic market of `symbols` symbols from `seed`. `rate`: "max", trades a second,
    "profile:open", "profile:burst" or "profile:day", `speed` times faster. `trades` ends the tape for each client.
    `per_frame`: trades a frame; None is the file's own frames, or frames that grow with the rate. `key`: the only key
    that is let in. `no_handshake`: data flows from the connection on. `ahead`: the whole tape is rendered into memory
    before the server listens, at most 8 GiB, and sending it costs least. `one_market`: clients join where the market
    is, and do not each get the whole tape. `close`: the connection ends after the last trade. `stamp`: a synthetic
    trade's `t` is the wall-clock time in ns at which it was due. `certificate`: a PEM file with key and certificate,
    for TLS. Port 0 takes a free one.

    Raises ConfigError where an option, the file or the address is wrong.
    """

    def __init__(
        self,
        file: Path | str | None = None,
        *,
        symbols: int = 6000,
        seed: int = 7,
        trades: int | None = None,
        rate: str = "max",
        speed: int = 1,
        per_frame: int | None = None,
        key: str | None = None,
        max_connections: int | None = None,
        no_handshake: bool = False,
        ahead: bool = False,
        one_market: bool = False,
        close: bool = False,
        stamp: bool = False,
        certificate: Path | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        options = {
            "address": f"{host}:{port}",
            "symbols": symbols,
            "seed": seed,
            "trades": trades,
            "rate": rate,
            "speed": speed,
            "per_frame": per_frame,
            "key": key,
            "max_connections": max_connections,
            "no_handshake": no_handshake,
            "ahead": ahead,
            "one_market": one_market,
            "close": close,
            "stamp": stamp,
            "certificate": None if certificate is None else str(certificate),
        }
        with tempfile.NamedTemporaryFile(prefix="tickplant-tape-") as unpacked:
            if file is not None:
                options["file"] = _plain(Path(file), Path(unpacked.name))
            self._server = _NativeServer(msgspec.json.encode(options))
        self.url = f"{'ws' if certificate is None else 'wss'}://{host}:{self._server.port}/"

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self._server.port

    def clients(self) -> list[ServedClient]:
        """Every client so far, those who left too, in the order of their coming."""
        return msgspec.json.decode(self._server.clients(), type=list[ServedClient])

    def stop(self) -> None:
        """Ends all connections. A second call does nothing."""
        self._server.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _plain(file: Path, unpacked: Path) -> str:
    """The path of what the core can read: a log or a file itself, or what a gzip file holds."""
    if file.is_dir():
        return str(file)
    try:
        with file.open("rb") as stream:
            if stream.read(len(_GZIP)) != _GZIP:
                return str(file)
        with gzip.open(file) as packed, unpacked.open("wb") as out:
            shutil.copyfileobj(packed, out, 1 << 20)
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or error
        hint = "give a file of NDJSON, plain or gzip, or a recorded log"
        raise ConfigError(f"the tape cannot be read: {reason}", file=str(file), hint=hint) from error
    return str(unpacked)

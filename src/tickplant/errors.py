"""The one error tree. Every error says what happened, where, and what to do.

    TickplantError
    ├── ConfigError                 settings: file, line, what was expected, the nearest valid name
    │   ├── UnknownVenue
    │   └── UnknownInstrument
    ├── MissingExtra                an optional package is not installed
    ├── NativeOutdated              the native module and the Python package are not of one build
    ├── LogError                    the log directory
    │   ├── LogMissing              no log there
    │   ├── LogVersionError         written by a newer version
    │   ├── LaneLocked              another writer holds the lane
    │   ├── LogCorrupt              bytes that fail their CRC
    │   ├── LostRecords             the reader is later than what is kept: lane, first, last
    │   └── DiskFull
    ├── WireError                   a connection
    │   ├── ConnectFailed           name, address, refused, timed out
    │   ├── TlsFailed
    │   ├── HandshakeRefused        the server answered the upgrade with something else
    │   └── ProtocolError           an illegal frame
    ├── VenueError                  the venue refused something or spoke another dialect
    ├── ImportFormatError           a recording's line that its format does not allow
    ├── WorkerError                 the tape router's worker: cannot be run, has ended
    └── PlantError                  the plant itself: not running, a loop ended

Each class knows its `stage`, whose `fault` it is and whether a `retry` helps; an instance may narrow them down, name
its `venue` and `where` it happened, and carries a `hint`. `str(error)` is "what, where: what to do" in one line.
"""

from __future__ import annotations

import enum
from typing import ClassVar, Self


class Fault(enum.Enum):
    """Who caused an error."""

    PEER = "peer"
    USER = "user"
    US = "us"


class TickplantError(Exception):
    """Root of the tree.

    `what` is one clause without a full stop, `where` a place (a file and line, an address, a lane), `hint` what to do.
    """

    stage: ClassVar[str] = "plant"
    fault: Fault = Fault.US
    retry: bool = False

    def __init__(self, what: str, *, where: str = "", hint: str = "", venue: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint
        self.venue = venue

    def __str__(self) -> str:
        text = f"{self.what} ({self.where})" if self.where else self.what
        return f"{text}: {self.hint}" if self.hint else text

    def __reduce__(self) -> tuple[object, ...]:
        # An error crosses process borders whole; Exception alone would call the class with `what` only.
        return _rebuild, (type(self), self.args, self.__dict__)

    def to_dict(self) -> dict[str, object]:
        """The error as data for `--json`: class, what, where, hint, stage, venue, fault, retry."""
        return {
            "error": type(self).__name__,
            "what": self.what,
            "where": self.where,
            "hint": self.hint,
            "stage": self.stage,
            "venue": self.venue,
            "fault": self.fault.value,
            "retry": self.retry,
        }


def _rebuild(kind: type[TickplantError], args: tuple[object, ...], state: dict[str, object]) -> TickplantError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


class ConfigError(TickplantError):
    """A setting is wrong.

    `file` and `line` (counted from 1, 0 where there is none) say where it stands: a TOML file, `environment` or
    `command line`. `expected` is what would be right, `nearest` the valid name closest to what was written.
    """

    stage = "config"
    fault = Fault.USER

    def __init__(
        self,
        what: str,
        *,
        file: str = "",
        line: int = 0,
        expected: str = "",
        nearest: str = "",
        hint: str = "",
        venue: str = "",
    ) -> None:
        parts = [f"expected {expected}" if expected else "", f'did you mean "{nearest}"?' if nearest else "", hint]
        super().__init__(what, hint="; ".join(part for part in parts if part).replace("?; ", "? "), venue=venue)
        self.expected = expected
        self.nearest = nearest
        self.at(file, line)

    def at(self, file: str, line: int = 0) -> Self:
        """Says where the setting stands, for a check that knew only its value. Gives the error itself."""
        self.file = file
        self.line = line
        self.where = f"{file}:{line}" if line else file
        return self


class UnknownVenue(ConfigError):
    """A venue's name is not in the table."""


class UnknownInstrument(ConfigError):
    """An instrument is not spelled `SYMBOL.VENUE`, or in a way that the venue never uses, or the venue refused it."""


class MissingExtra(TickplantError):
    """A package that only some uses need is not installed."""

    fault = Fault.USER

    def __init__(self, package: str, *, extra: str = "data") -> None:
        super().__init__(f'the package "{package}" is not installed', hint=f'pip install "tickplant[{extra}]"')
        self.package = package
        self.extra = extra


class NativeOutdated(TickplantError, ImportError):
    """The native module and the Python package are not of one build. `where` is the native module's file."""

    stage = "native"

    def __init__(self, what: str) -> None:
        hint = "run make setup in a source tree; elsewhere install tickplant anew"
        super().__init__(what, where=__file__.removesuffix("errors.py") + "_native.abi3.so", hint=hint)


class LogError(TickplantError):
    """Something about a log directory. `where` is its path, or `path lane NAME`."""

    stage = "log"


class LogMissing(LogError):
    """There is no log at this path."""

    fault = Fault.USER


class LogVersionError(LogError):
    """The log was written by a newer version than this one reads."""

    fault = Fault.USER


class LaneLocked(LogError):
    """Another process writes this lane. The lock ends with that process."""

    fault = Fault.USER
    retry = True


class LogCorrupt(LogError):
    """Bytes in the committed part fail their CRC or contradict the layout."""


class LostRecords(LogError):
    """The reader asked for records that are no longer kept. It stands at the next kept one."""

    fault = Fault.USER
    retry = True

    def __init__(self, lane: str, first: int, last: int, *, where: str = "") -> None:
        super().__init__(
            f"records {first} to {last} of lane {lane} are no longer kept",
            where=where,
            hint="go on with the next ones, read faster, or keep more (log.hot_bytes_max)",
        )
        self.lane = lane
        self.first = first
        self.last = last


class DiskFull(LogError):
    """Neither disk nor hot memory has room. What was accepted is kept; intake resumes when there is room."""

    fault = Fault.USER
    retry = True


class WireError(TickplantError):
    """A connection could not be made or kept. `where` is its address.

    `reason` is the word of the STATUS record, `retry_after_s` how long the peer asks us to wait, `close_code` that of
    the close frame that ended an open connection.
    """

    stage = "wire"
    fault = Fault.PEER
    retry = True
    reason: str = ""
    retry_after_s: float | None = None
    close_code: int | None = None


class ConnectFailed(WireError):
    """The name did not resolve, or the address refused or did not answer."""


class TlsFailed(WireError):
    """The server's certificate or TLS itself was not acceptable."""


class HandshakeRefused(WireError):
    """The server answered the upgrade with something else: `status` is its HTTP status, 0 if it was no HTTP."""

    def __init__(self, what: str, *, status: int = 0, where: str = "", hint: str = "", venue: str = "") -> None:
        super().__init__(what, where=where, hint=hint, venue=venue)
        self.status = status
        # A wrong path or a ban does not heal by itself; overload and rate limits do.
        self.retry = status in (0, 408, 425, 429) or status >= 500


class ProtocolError(WireError):
    """The peer sent a frame that RFC 6455 forbids, or one over the limit."""


class VenueError(TickplantError):
    """The venue refused a request or sent what its dialect does not allow."""

    stage = "venues"
    fault = Fault.PEER


class ImportFormatError(TickplantError):
    """A line of a recording does not fit its format. `where` is `file:line`."""

    stage = "import"
    fault = Fault.USER


class WorkerError(TickplantError):
    """The worker of a tape router cannot be run, or nobody reads the tape any more."""

    stage = "tape"
    fault = Fault.USER


class PlantError(TickplantError):
    """The plant is not in a state that allows this, or one of its loops ended."""

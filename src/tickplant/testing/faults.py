"""Named faults, how likely each is, and the log of those that fired.

A probability is that of one opportunity, and every fault says what its opportunities are: a data frame, a snapshot, an
acknowledgement, an HTTP request, a request for a token, an attempt to connect, a second of an open connection, a minute
of a venue. All default to zero. At most one fault fires at one opportunity.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from tickplant.clock import Random
from tickplant.errors import ConfigError

Opportunity = Literal["frame", "snapshot", "answer", "request", "token", "connect", "second", "minute"]


class Fault(NamedTuple):
    """One named fault."""

    name: str
    when: Opportunity
    does: str


FAULTS: tuple[Fault, ...] = (
    Fault("drop", "frame", "a message never arrives, where the protocol can show that it is missing"),
    Fault("duplicate", "frame", "a message arrives twice"),
    Fault("repeat", "frame", "an old message of a numbered or proven book arrives again later"),
    Fault("delay", "frame", "a message, and all behind it, is held for up to four seconds"),
    Fault("truncate", "frame", "a message ends early"),
    Fault("corrupt", "frame", "a byte of a message is no text"),
    Fault("merge", "frame", "two messages arrive as one"),
    Fault("wrong_checksum", "frame", "a book message carries a checksum that is not the book's"),
    Fault("deep_checksum", "frame", "the same, of a message that touches only levels which no checksum covers"),
    Fault("sequence_skip", "frame", "a book message claims to follow one that was never sent"),
    Fault("sequence_reset", "frame", "a book message carries numbers from the beginning"),
    Fault("snapshot_missing", "snapshot", "a snapshot never comes"),
    Fault("snapshot_late", "snapshot", "a snapshot comes up to fifteen seconds late"),
    Fault("snapshot_partial", "snapshot", "a snapshot is cut half way, or has one side only where the venue proves it"),
    Fault("snapshot_cut_off", "snapshot", "the connection is reset instead of a snapshot's end"),
    Fault("snapshot_short", "snapshot", "a snapshot has fewer levels than are subscribed, where a checksum shows it"),
    Fault("snapshot_past", "request", "a fetched snapshot is up to some seconds old"),
    Fault("answer_lost", "answer", "an acknowledgement never comes"),
    Fault("answer_late", "answer", "an acknowledgement comes up to fifteen seconds late"),
    Fault("answer_doubled", "answer", "an acknowledgement comes twice"),
    Fault("answer_wrong", "answer", "an acknowledgement names something else"),
    Fault("rest_slow", "request", "a reply takes up to nine seconds"),
    Fault("rest_lost", "request", "no reply comes until the time is up"),
    Fault("rest_500", "request", "the server fails"),
    Fault("rest_403", "request", "the request is refused"),
    Fault("rest_418", "request", "the address is banned for a while, with Retry-After"),
    Fault("rest_429", "request", "too many requests, without Retry-After"),
    Fault("rest_429_retry", "request", "too many requests, with Retry-After"),
    Fault("rest_partial", "request", "a reply is cut half way"),
    Fault("token_expired", "token", "a token is worth nothing any more when it is used"),
    Fault("token_refused", "token", "no token is given"),
    Fault("connect_failed", "connect", "nobody answers"),
    Fault("connect_refused", "connect", "the handshake is refused (503)"),
    Fault("connect_429", "connect", "the handshake is refused (429), with Retry-After"),
    Fault("rst", "second", "the connection is reset; what was on its way is lost"),
    Fault("fin", "second", "the peer hangs up after what it sent"),
    Fault("half_open", "second", "neither side's packets arrive any more, and nobody says so"),
    Fault("mute", "second", "the peer answers pings and says nothing else"),
    Fault("burst", "minute", "the market trades a hundred times faster for a while"),
    Fault("flap", "minute", "for a minute the venue hangs up on whoever has just connected"),
    Fault("day_cut", "minute", "the venue ends all connections (the 24-hour cut)"),
    Fault("maintenance", "minute", "the venue announces maintenance, halts (Kraken) and hangs up"),
    Fault(
        "dead_instrument", "minute", "nothing of one instrument comes on open connections until it is asked for again"
    ),
    Fault("delisted", "minute", "the venue does not know one instrument any more, for up to two minutes"),
    Fault("line_dead", "minute", "one of several lines is dead for up to two minutes, mostly without a word"),
    Fault("clock_step", "minute", "the wall clock is set by up to two seconds, either way"),
    Fault("clock_leap", "minute", "the wall clock is set by up to an hour, either way"),
    Fault("clock_drift", "minute", "the wall clock runs wrong by up to 500 parts in a million from now on"),
    Fault("double_subscription", "minute", "an instrument gets a second holder for a while"),
    Fault("disk_slow", "minute", "each write of the archive takes two milliseconds, for up to two minutes"),
    Fault("disk_full", "minute", "the archive's disk is full, for up to two minutes"),
    Fault("disk_torn", "minute", "the machine loses power: memory is gone, the archive ends at any byte"),
    Fault("restart", "minute", "the plant is killed, in the middle of a turn or between two, and started again"),
)
BY_NAME = {fault.name: fault for fault in FAULTS}

_STORM: dict[str, float] = {
    **dict.fromkeys(("drop", "duplicate", "repeat", "delay", "truncate", "corrupt", "merge"), 0.0004),
    **dict.fromkeys(("wrong_checksum", "sequence_skip", "sequence_reset", "deep_checksum"), 0.0006),
    **dict.fromkeys(
        ("snapshot_missing", "snapshot_late", "snapshot_partial", "snapshot_cut_off", "snapshot_short"), 0.04
    ),
    **dict.fromkeys(("answer_lost", "answer_late", "answer_doubled", "answer_wrong"), 0.02),
    **dict.fromkeys(("snapshot_past", "rest_slow", "rest_lost", "rest_500", "rest_403", "rest_partial"), 0.03),
    **dict.fromkeys(("rest_418", "rest_429", "rest_429_retry"), 0.02),
    **dict.fromkeys(("token_expired", "token_refused"), 0.1),
    **dict.fromkeys(("connect_failed", "connect_refused", "connect_429"), 0.05),
    **dict.fromkeys(("rst", "fin", "half_open", "mute"), 0.0012),
    **dict.fromkeys(("burst", "double_subscription", "clock_step", "clock_drift"), 0.1),
    **dict.fromkeys(("day_cut", "maintenance", "flap", "dead_instrument", "delisted", "clock_leap"), 0.02),
    **dict.fromkeys(("disk_slow", "disk_full", "disk_torn"), 0.01),
    "restart": 0.05,
}
PRESETS: dict[str, dict[str, float]] = {
    "calm": {},
    "flaky": {name: value / 4 for name, value in _STORM.items() if name not in ("restart", "disk_torn")},
    "storm": _STORM,
    "burst": {"burst": 0.5},
    "restart": {"restart": 0.5},
    "silent": {"mute": 0.002},
    "one-line-dead": {"line_dead": 0.3},
}
"""What a name of a set of faults stands for."""


def load_faults(name: str) -> dict[str, float]:
    """Probabilities by a preset's name, as `drop=0.001,restart=0.05`, or from a TOML file (`[faults]` with
    `drop = 0.001`); `preset = "flaky"` among them is what to begin with. Raises ConfigError."""
    if name in PRESETS:
        return dict(PRESETS[name])
    if "=" in name:
        return check_faults(dict(_inline(part) for part in name.split(",")), where="--faults")
    path = Path(name)
    if not path.is_file():
        raise ConfigError(
            f'"{name}" is neither a set of faults nor a file',
            expected=f"one of {', '.join(PRESETS)}, drop=0.001,..., or a TOML file",
        )
    try:
        table = tomllib.loads(path.read_text())["faults"]
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError) as error:
        raise ConfigError(
            f"{name} has no readable table [faults]: {error}", expected="[faults] with drop = 0.001"
        ) from None
    return check_faults(table if isinstance(table, dict) else {}, where=name)


def _inline(text: str) -> tuple[str, object]:
    """One `name=value`; what is no number is left for the check to refuse."""
    name, _, value = (part.strip() for part in text.partition("="))
    try:
        return name, float(value)
    except ValueError:
        return name, value


def check_faults(table: Mapping[str, object], where: str = "faults") -> dict[str, float]:
    """The probabilities of a mapping, on top of its `preset` where it names one. Raises ConfigError."""
    preset = table.get("preset", "calm")
    if preset not in PRESETS:
        raise ConfigError(f'{where}: there is no preset "{preset}"', expected=f"one of {', '.join(PRESETS)}")
    chosen = dict(PRESETS[str(preset)])
    for name, value in table.items():
        if name == "preset":
            continue
        if name not in BY_NAME:
            raise ConfigError(f'{where}: there is no fault "{name}"', expected=f"one of {', '.join(BY_NAME)}")
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise ConfigError(f"{where}: {name} = {value!r} is no probability", expected="a number from 0 to 1")
        chosen[name] = float(value)
    return chosen


class Fired(NamedTuple):
    """A fault that fired: when (virtual ns), its name, the venue and what it hit."""

    at_ns: int
    name: str
    venue: str
    detail: str


class Chance:
    """Draws faults for one venue. The same generator and the same opportunities give the same faults.

    With `only`, those of other names are drawn as ever and do not fire, so that the rest of a run stays alike.
    """

    def __init__(self, rng: Random, probabilities: Mapping[str, float], only: Collection[str] | None = None) -> None:
        self.rng = rng
        self.on = True
        self._only = only
        self._called: list[str] = []
        self._tables: dict[str, list[tuple[int, str]]] = {}
        for fault in FAULTS:
            if probability := probabilities.get(fault.name, 0.0):
                table = self._tables.setdefault(fault.when, [])
                before = table[-1][0] if table else 0
                # Whole numbers, so that no machine rounds a draw differently.
                table.append((before + round(probability * (1 << 32)), fault.name))

    def call(self, name: str) -> None:
        """Lets a fault fire at its next opportunity, even where faults are off. Raises ConfigError."""
        if name not in BY_NAME:
            raise ConfigError(f'there is no fault "{name}"', expected=f"one of {', '.join(BY_NAME)}")
        self._called.append(name)

    def draw(self, when: Opportunity) -> str | None:
        """The fault that fires at this opportunity, if one does: first those that were called for."""
        for name in self._called:
            if BY_NAME[name].when == when:
                self._called.remove(name)
                return name
        table = self._tables.get(when)
        if not table or not self.on:
            return None
        drawn = self.rng.getrandbits(32)
        if drawn >= table[-1][0]:
            return None
        name = next(name for bound, name in table if drawn < bound)
        return name if self._only is None or name in self._only else None

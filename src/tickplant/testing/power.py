"""A power cut: what only memory held is gone, and the archive ends at any byte. What is left must be what was there."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from tickplant.clock import Random
from tickplant.log import Log
from tickplant.records import Kind

if TYPE_CHECKING:
    from tickplant.testing.checks import Checker

# Of what was written last so much is not on the disk at most: a cut may fall into any byte of it.
_LOST_BYTES_MOST = 64 * 1024
_KINDS = (
    "trades", "levels", "ticker", "status", "gap", "definition", "heartbeat", "coverage", "state-hash", "blob", "cut",
)  # fmt: skip

# Records that may name a text by its index.
_NAMING = (Kind.STATUS, Kind.GAP, Kind.DEFINITION)
_TEXT, _TEXT_AT = struct.Struct("<Q"), 40
_UNDEF = (1 << 64) - 1
RECORD_BYTES = 64

Batches = list[tuple[int, int, bytes]]
"""Records as kind, index of the first, and bytes."""


class PowerCut:
    """The end of a machine, done to one lane that was closed: all of it is in the archive, which makes the cut the
    same on every machine."""

    def __init__(self, path: Path, lane: str, rng: Random) -> None:
        self._path, self._lane = path, lane
        self._before = self._records()
        folder = path / "lanes" / lane
        (folder / "closed").unlink()
        lost = [_cut(max(folder.glob(f"{stream}-*.seg")), rng) for stream in ("records", "journal")]
        self.detail = f"{lost[0]} bytes of records and {lost[1]} of the journal"

    def look(self, checker: Checker, now_ns: int, end: int) -> None:
        """The plant is back, and its records begin at `end`: what stands before them is all that is recorded."""
        kept = [(kind, at, data[: (end - at) * RECORD_BYTES]) for kind, at, data in self._records() if at < end]
        if not _lines(self._before).startswith(_lines(kept)):
            checker.say(now_ns, "disk", 0, "what a power cut left is not what was there")
        if _marks(kept) != _marks(self._before) + 1:
            checker.say(
                now_ns, "disk", 0, f"a power cut left {_marks(kept)} marks, and there were {_marks(self._before)}"
            )
        checker.rewound(kept)

    def _records(self) -> Batches:
        batches = Log.open(self._path).records(schema=_KINDS, lanes=[self._lane])
        return [(batch.kind, batch.first_index, bytes(batch)) for batch in batches]


def _cut(segment: Path, rng: Random) -> int:
    size = segment.stat().st_size
    lost = rng.randrange(min(size, _LOST_BYTES_MOST) + 1)
    os.truncate(segment, size - lost)
    return lost


def _lines(batches: Batches) -> bytes:
    """The records themselves. Those that are derived again stand behind the mark of the cut and have moved by one, and
    so have the texts that they name: here that is told by their distance."""
    lines = bytearray()
    for kind, index, data in batches:
        if kind == Kind.CUT:
            continue
        start = len(lines)
        lines += data
        for number in range(len(data) // RECORD_BYTES) if kind in _NAMING else ():
            at = start + number * RECORD_BYTES
            (text,) = _TEXT.unpack_from(lines, at + _TEXT_AT)
            if text != _UNDEF:
                _TEXT.pack_into(lines, at + _TEXT_AT, index + number - text)
    return bytes(lines)


def _marks(batches: Batches) -> int:
    return sum(kind == Kind.CUT for kind, _, _ in batches)

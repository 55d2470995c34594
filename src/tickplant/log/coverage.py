"""How good the log is of one instrument from when to when: the coverage ledger as `Log.coverage` gives it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from os import PathLike
from typing import Any, Final

from tickplant.clock import SECOND_NS, rfc3339
from tickplant.log.png import Canvas
from tickplant.records import UNDEF_U64, Quality, Reason, Repair, Stream

SIGNS: Final = {
    Quality.SHADOW_CHECKED: "█",
    Quality.COMPLETE: "▓",
    Quality.UNPROVEN: "░",
    Quality.STALE: "~",
    Quality.GAP: "×",
    Quality.OFF: "·",
}
"""How a quality is drawn in text, the best first. Where a column is of several, it shows the worst but for OFF."""

COLOURS: Final = {
    Quality.SHADOW_CHECKED: (27, 120, 55),
    Quality.COMPLETE: (127, 191, 123),
    Quality.UNPROVEN: (217, 196, 110),
    Quality.STALE: (118, 160, 214),
    Quality.GAP: (200, 40, 40),
    Quality.OFF: (225, 225, 225),
}
_BEST_FIRST: Final = list(SIGNS)
_NAME_WIDTH: Final = 8


@dataclass(frozen=True, slots=True)
class Interval:
    """`start` to before `end` (receive time, ns) of one stream, of one quality."""

    stream: Stream
    quality: Quality
    start: int
    end: int
    first: int | None
    """The stream's number at its start; of a gap, the first missing one. None where the venue gives none."""
    last: int | None
    """The stream's number at its end; of a gap, the last missing one."""
    cause: Reason
    repaired_from: Repair
    count: int
    """Numbers that a gap lacks, levels that a shadow check compared, else how often the venue's ticker had the best
    levels of the book; 0 where unknown."""
    lane: str
    """The lane that says so: of several the one that says best."""

    def as_dict(self) -> dict[str, Any]:
        """As data for JSON: names and integers."""
        values = asdict(self)
        names = {name: value.name for name, value in values.items() if isinstance(value, IntEnum)}
        return values | names | {"seconds": (self.end - self.start) / SECOND_NS}


@dataclass(frozen=True, slots=True)
class CoverageLedger:
    """The intervals of one instrument between two receive times, by stream and time. They never overlap; what none of
    them covers was not running."""

    instrument: str
    start: int
    end: int
    intervals: tuple[Interval, ...]
    gap_avoided_ns: Mapping[Stream, int] = field(default_factory=dict)
    """How long lines that are processes of their own (`run --line`) lacked what another had, in all, each from its
    first word to its last: what a line that is dead now has missed counts once it is back. Lines inside of one plant
    are one lane, whose own account says it."""

    def __iter__(self) -> Iterator[Interval]:
        return iter(self.intervals)

    def __len__(self) -> int:
        return len(self.intervals)

    def streams(self) -> list[Stream]:
        """The streams that anything is said of."""
        return sorted({interval.stream for interval in self.intervals})

    def nanoseconds(self, stream: Stream) -> dict[Quality, int]:
        """How long a stream was of each quality; OFF is what nothing is said of. The sum is `end - start`."""
        totals = dict.fromkeys(_BEST_FIRST, 0)
        for interval in self.intervals:
            if interval.stream is stream:
                totals[interval.quality] += interval.end - interval.start
        totals[Quality.OFF] = self.end - self.start - sum(totals.values())
        return totals

    def columns(self, stream: Stream, width: int) -> list[Quality]:
        """The time in `width` equal columns, each of the worst quality that it has: a gap of any length is seen."""
        columns: list[list[Quality]] = [[] for _ in range(width)]
        span = max(self.end - self.start, 1)
        for interval in self.intervals:
            if interval.stream is stream:
                left = (interval.start - self.start) * width // span
                right = (interval.end - self.start - 1) * width // span
                for column in range(left, right + 1):
                    columns[column].append(interval.quality)
        return [max(seen, key=_BEST_FIRST.index, default=Quality.OFF) for seen in columns]

    def timeline(self, width: int = 100) -> str:
        """The picture in text: a line a stream, times below, what the signs mean at the end. `width` columns in all."""
        inner = max(width - _NAME_WIDTH, 10)
        lines = [
            f"{stream.name.lower():{_NAME_WIDTH}}" + "".join(SIGNS[one] for one in self.columns(stream, inner))
            for stream in self.streams()
        ]
        times = _axis([self.start, self.end], inner)
        legend = [f"{sign} {word(quality)}" for quality, sign in SIGNS.items()]
        return "\n".join([*lines, " " * _NAME_WIDTH + times, *_wrapped(legend, width)])

    def png(self, path: str | PathLike[str], *, width: int = 1200) -> None:
        """Writes the picture as a PNG file of `width` pixels.

        Raises:
            OSError: the file cannot be written.
        """
        streams = self.streams()
        left, row, bar = 120, 40, 26
        canvas = Canvas(width, 70 + row * len(streams) + 50)
        canvas.text(12, 14, self.instrument)
        inner = width - left - 20
        for number, stream in enumerate(streams):
            top = 50 + number * row
            canvas.text(12, top + 6, stream.name)
            for column, quality in enumerate(self.columns(stream, inner)):
                canvas.fill(left + column, top, 1, bar, COLOURS[quality])
        bottom = 50 + row * len(streams)
        first, second = _clock(self.start), _clock(self.end)
        canvas.text(left, bottom, first)
        canvas.text(max(left + inner - canvas.text_width(second), left), bottom, second)
        x = left
        for quality, colour in COLOURS.items():
            canvas.fill(x, bottom + 34, 14, 14, colour)
            canvas.text(x + 20, bottom + 34, word(quality))
            x += 20 + canvas.text_width(word(quality)) + 24
        canvas.save(path)

    def as_dict(self) -> dict[str, Any]:
        """As data for JSON."""
        return {
            "instrument": self.instrument,
            "start": self.start,
            "end": self.end,
            "seconds": {
                stream.name: {q.name: ns / SECOND_NS for q, ns in self.nanoseconds(stream).items() if ns}
                for stream in self.streams()
            },
            "gap_avoided_seconds": {stream.name: ns / SECOND_NS for stream, ns in self.gap_avoided_ns.items()},
            "intervals": [interval.as_dict() for interval in self.intervals],
        }


def of_rows(
    instrument: str, start: int | None, end: int | None, rows: list[tuple[Any, ...]], avoided: Mapping[int, int]
) -> CoverageLedger:
    """The ledger of the native module's rows. A bound that was not asked for is where the intervals begin or end."""
    intervals = tuple(
        Interval(
            Stream(stream),
            Quality(quality),
            since,
            until,
            None if first == UNDEF_U64 else first,
            None if last == UNDEF_U64 else last,
            Reason(cause),
            Repair(repaired_from),
            count,
            lane,
        )
        for lane, stream, quality, since, until, first, last, cause, repaired_from, count in rows
    )
    begin = min((interval.start for interval in intervals), default=0) if start is None else start
    finish = max((interval.end for interval in intervals), default=begin) if end is None else end
    return CoverageLedger(instrument, begin, finish, intervals, {Stream(one): ns for one, ns in avoided.items()})


def word(quality: Quality) -> str:
    """A quality for people."""
    return "not running" if quality is Quality.OFF else quality.name.lower().replace("_", " ")


def _clock(time_ns: int) -> str:
    """To the second: `2026-11-21T09:30:00Z`."""
    return rfc3339(time_ns // SECOND_NS * SECOND_NS)[:19] + "Z"


def _axis(bounds: list[int], width: int) -> str:
    """The first and last time at both ends; without their date, or only the first, where there is no room."""
    texts = [_clock(bound) for bound in bounds]
    if sum(map(len, texts)) + 2 > width:
        texts = [text[11:] for text in texts]
    gap = width - sum(map(len, texts))
    return texts[0] + " " * gap + texts[1] if gap > 0 else texts[0][:width]


def _wrapped(words: list[str], width: int) -> list[str]:
    lines = [""]
    for word in words:
        if lines[-1] and len(lines[-1]) + 2 + len(word) > width:
            lines.append("")
        lines[-1] += ("  " if lines[-1] else "") + word
    return lines

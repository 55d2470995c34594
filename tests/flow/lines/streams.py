"""What a reader was given of a venue's stream, and how it is held against the log of a plant that was left alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from tickplant.records import F_LAST, F_SNAPSHOT, Action, BookState, Gap, Level, Status, Subject, Trade

BookText = tuple[tuple[tuple[str, str], ...], ...]
SCHEMAS = ("trades", "levels", "status", "gap")


class Stream:
    """What a reader was given, by instrument."""

    def __init__(self) -> None:
        self.trades = defaultdict[str, dict[int, tuple[Any, ...]]](dict)
        self.states = defaultdict[str, list[BookText]](list)
        self.numbers = defaultdict[str, list[int]](list)
        self.wholes = defaultdict[str, set[int]](set)
        """Places in `numbers` of whole books."""
        self.faults: list[str] = []
        self.lanes: set[str | None] = set()
        self._sides: dict[str, dict[str, dict[str, str]]] = {}
        self._live: set[str] = set()

    def take(self, batches: Iterable[Any]) -> Stream:
        """Takes what there is."""
        for batch in batches:
            self.lanes.add(batch.lane)
            for record in batch:
                self._record(record)
        return self

    def _record(self, record: Any) -> None:
        name = record.instrument
        match record:
            case Trade():
                if record.ref in self.trades[name]:
                    self.faults.append(f"trade {record.ref} of {name} came twice")
                self.trades[name][record.ref] = (record.ts_event, record.price_text, record.size_text, record.side)
            case Level():
                self._level(name, record)
            case Gap():
                self.faults.append(f"{record}")
            case Status() if record.subject is Subject.BOOK and record.current == BookState.LIVE:
                self._live.add(name)
            case Status() if record.subject is Subject.BOOK and name in self._live:
                self.faults.append(f"{record}")
            case _:
                pass

    def _level(self, name: str, level: Level) -> None:
        sides = self._sides.setdefault(name, {"BID": {}, "ASK": {}})
        match level.action:
            case Action.CLEAR:
                sides["BID"], sides["ASK"] = {}, {}
            case Action.CANCEL:
                if sides[level.side.name].pop(level.price_text, None) is None:
                    self.faults.append(f"{name} had no level {level.price_text} to cancel")
            case Action.ADD | Action.MODIFY:
                sides[level.side.name][level.price_text] = level.size_text
        if level.flags & F_LAST:
            self.states[name].append(tuple(tuple(sorted(side.items())) for side in sides.values()))
            if level.flags & F_SNAPSHOT:
                self.wholes[name].add(len(self.numbers[name]))
            self.numbers[name].append(level.sequence or 0)


def compare(found: Stream, true: Stream, names: list[str]) -> int:
    """Holds a stream against the one of a plant that was left alone; gives how much was compared."""
    assert not found.faults, found.faults[:3]
    compared = 0
    for name in names:
        start = max(min(found.trades[name]), min(true.trades[name]))
        ours, theirs = ({i: t for i, t in of.trades[name].items() if i >= start} for of in (found, true))
        assert ours == theirs, name
        assert list(ours) == sorted(ours)
        compared += len(ours)
        if name.endswith((".BINANCE", ".BINANCE_USDM")):
            compare_numbered(name, found, true)
        else:
            compare_followed(name, found.states[name], true.states[name])
        compared += len(found.states[name])
    return compared


def compare_numbered(name: str, found: Stream, true: Stream) -> None:
    """Every message in order, and after each the venue's book; what is left out is in the whole book that follows."""
    numbers, states = found.numbers[name], dict(zip(true.numbers[name], true.states[name], strict=True))
    assert numbers == sorted(numbers), f"{name} went back"
    begin = min(set(numbers) & set(states))
    for number in set(states) - set(numbers):
        follows = next((index for index, other in enumerate(numbers) if other > number), None)
        assert number < begin or (follows is not None and follows in found.wholes[name]), f"{name} lacks {number}"
    for number, state in zip(numbers, found.states[name], strict=True):
        # A line's snapshot may lie between two messages.
        assert number < begin or state == states.get(number, state), f"{name} was not that at {number}"


def compare_followed(name: str, found: list[BookText], true: list[BookText]) -> None:
    """Each book is one that the venue had, later and later; where another line takes over, messages come together."""
    where = defaultdict[BookText, list[int]](list)
    for index, state in enumerate(true):
        where[state].append(index)
    place = 0
    for state in found[next(index for index, state in enumerate(found) if state in where) :]:
        assert state in where, f"{name} had no such book"
        later = [index for index in where[state] if index >= place]
        assert later, f"{name} went back"
        place = later[0]
    assert place == len(true) - 1, f"{name} did not come to the venue's last book"

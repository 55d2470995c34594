"""`Log`: a log directory as a user sees it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from decimal import Decimal
from os import PathLike, fspath
from typing import Literal, TypeAlias

from tickplant._native import LogDirectory, Reader
from tickplant.errors import UnknownInstrument
from tickplant.log.book import Book, BookLevel, given
from tickplant.log.coverage import CoverageLedger, of_rows
from tickplant.log.reading import Records
from tickplant.log.times import Time, to_nanos
from tickplant.records import BookState

NAMES_SHOWN = 8
Position: TypeAlias = Mapping[str, int]
"""The index of the next record of each lane."""


class Log:
    """A log for reading, while it is written or later, from any process."""

    def __init__(self, directory: LogDirectory) -> None:
        self._directory = directory

    @classmethod
    def open(cls, path: str | PathLike[str]) -> Log:
        """Opens the log at `path`.

        Raises:
            LogMissing: there is no log.
            LogVersionError: it was written by a newer version.
        """
        return cls(LogDirectory(fspath(path)))

    @property
    def path(self) -> str:
        """The directory."""
        return fspath(self._directory.path)

    def lanes(self) -> list[str]:
        """Names of the lanes, sorted. A lane has one writer: an ingestion loop, an analytics process."""
        return self._directory.lanes()

    def instruments(self) -> list[str]:
        """Every instrument that the log has a number for, in the order of the numbers."""
        return [name for _, name in self._directory.instruments()]

    def position(self) -> dict[str, int]:
        """The index behind the last committed record of each lane: as `start` it means "from now on"."""
        return self._directory.position()

    def blob(self, lane: str, index: int) -> bytes | None:
        """The bytes that a record of `lane` points at with its `ref` (a definition's text, a sample); None: no blob."""
        return self._directory.blob(lane, index)

    def records(
        self,
        instruments: str | Iterable[str] | None = None,
        schema: str | Iterable[str] | None = None,
        start: Time | Position | None = None,
        end: Time | Position | None = None,
        *,
        order: Literal["arrival", "ts_recv"] = "arrival",
        follow: bool = False,
        lanes: Iterable[str] | None = None,
        basis_points: int | None = None,
        size: str | Decimal | None = None,
    ) -> Records:
        """Batches of records: what there is, and with `follow` what comes, in one iterator without a gap or repetition.

        Args:
            instruments: names (`BTC/USD.KRAKEN`); None: all. Records that concern no instrument come with None only.
            schema: `trades`, `levels`, `ticker`, `status`, `gap`, `definition`, `heartbeat`, `coverage`, `state-hash`,
                `blob`, several of them, or None for every kind but blobs; or one view alone: `mbp-1`, `mbp-10` (one row
                a venue message that was applied), `bbo` (one row a change of the best levels or the state), `bbo-1s`
                and `bbo-1m` (best levels and last sale at the end of each second or minute of receive time in which
                either changed), `tbbo` (each trade with the best levels before it), `touch` (`bbo` with spread,
                microprice and imbalance), `depth` (what stands within `basis_points` of the mid price), `impact`
                (what an order of `size` would meet), `cmbp-1` (the best bid and offer over the `instruments`, of
                those books that are LIVE), `mbo` (the levels that tell of single orders, where the venue gives them).
            start: receive time of the first record (ISO text, datetime, ns; naive is UTC), or a position, or None for
                the first record that is kept. A view whose books are not known there yet begins with their snapshots.
            end: receive time or position of the first record that is not wanted; None: what is committed now, or with
                `follow` never.
            order: `arrival` gives what is there, across lanes about in the order of receipt; `ts_recv` gives records
                strictly by receive time (ties: lane, index), which waits until no lane can bring an earlier one.
            follow: goes on with what is still to come.
            lanes: only these lanes.
            basis_points: of `depth`, how far from the mid price levels count; a hundredth of a per cent each.
            size: of `impact`, what is bought and sold, in units of the instrument.

        A batch holds records of one kind and lane. Small ones are gathered; one of 1,024 records or more is a view of
        the log's own memory where nothing is filtered.

        Raises:
            UnknownInstrument: the log has no such instrument (with `follow` it may come yet).
            ValueError: an unknown schema, or a time that is none.
            LostRecords: while iterating: the reader is too late. Iterating again goes on with the next kept record.
        """
        names = None if instruments is None else _list(instruments)
        if names is not None and not follow:
            for name in names:
                self._id_of(name)
        start_time, start_position = _moment(start)
        end_time, end_position = _moment(end)
        reader = Reader(
            self.path,
            schemas=[] if schema is None else _list(schema),
            instruments=names,
            lanes=None if lanes is None else _list(lanes),
            start_time=start_time,
            start=start_position,
            end_time=end_time,
            end=end_position,
            sort=_is_sorted(order),
            follow=follow,
            basis_points=basis_points,
            size=None if size is None else str(size),
        )
        return Records(reader)

    def book(
        self, instrument: str, at: Time | None = None, known_at: Time | None = None, *, depth: int | None = None
    ) -> Book:
        """The book of an instrument at a moment, from the nearest checkpoint and a replay.

        Args:
            instrument: its name.
            at: by the venue's clock: the state after the last message whose running maximum of event times is at most
                this (a message without one counts as the last defined). None: the last state.
            known_at: by our clock: only what was received until then counts. Both may be given.
            depth: levels a side; None: all.

        Raises:
            UnknownInstrument: the log has no such instrument.
        """
        number = self._id_of(instrument)
        at_ns = None if at is None else to_nanos(at)
        known_at_ns = None if known_at is None else to_nanos(known_at)
        found = self._directory.book(number, at=at_ns, known_at=known_at_ns, depth=depth)
        if found is None:
            return Book(instrument, BookState.SYNCING, (), (), None, None, None, None, None)
        lane, index, state, sequence, ts_event, ts_recv, bids, asks, state_hash = found
        return Book(
            instrument,
            BookState(state),
            tuple(BookLevel(*level) for level in bids),
            tuple(BookLevel(*level) for level in asks),
            given(sequence),
            given(ts_event),
            given(ts_recv),
            lane,
            index,
            state_hash,
        )

    def coverage(self, instrument: str, start: Time | None = None, end: Time | None = None) -> CoverageLedger:
        """How good the log is of an instrument, from when to when: complete, gaps with their numbers, cause and repair.

        Args:
            instrument: its name.
            start: receive time from which it is asked for; None: the first that is kept.
            end: receive time before which; None: now.

        Raises:
            UnknownInstrument: the log has no such instrument.
            ValueError: a time that is none.
        """
        first = None if start is None else to_nanos(start)
        last = None if end is None else to_nanos(end)
        rows, avoided = self._directory.coverage(self._id_of(instrument), first, last)
        return of_rows(instrument, first, last, rows, avoided)

    def _id_of(self, instrument: str) -> int:
        numbers = {name: number for number, name in self._directory.instruments()}
        if instrument not in numbers:
            near = difflib.get_close_matches(instrument, numbers, n=1, cutoff=0.5)
            raise UnknownInstrument(
                f"this log has no instrument {instrument!r}",
                file=self.path,
                expected=_some_of(sorted(numbers)),
                nearest=near[0] if near else "",
            )
        return numbers[instrument]

    def __repr__(self) -> str:
        return f"Log({self.path!r})"


def _list(one_or_more: str | Iterable[str]) -> list[str]:
    return [one_or_more] if isinstance(one_or_more, str) else list(one_or_more)


def _moment(moment: Time | Position | None) -> tuple[int | None, dict[str, int] | None]:
    """A start or end as a time or as a position."""
    if moment is None:
        return None, None
    if isinstance(moment, Mapping):
        return None, dict(moment)
    return to_nanos(moment), None


def _is_sorted(order: str) -> bool:
    if order not in ("arrival", "ts_recv"):
        raise ValueError(f'order = {order!r}: use "arrival" or "ts_recv"')
    return order == "ts_recv"


def _some_of(names: list[str]) -> str:
    """The first names of a log for an error's hint."""
    shown = ", ".join(names[:NAMES_SHOWN]) + (", ..." if len(names) > NAMES_SHOWN else "")
    return f"one of {shown}" if names else "nothing: the log is empty"

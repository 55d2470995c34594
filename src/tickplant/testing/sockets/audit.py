"""A log held against the venues' truth after the fact: the checks of the simulated world, over what a real plant wrote.

The venues ran on sockets in this process, so their truth is known; what a message brought its book to is found by its
update id, or where the venue numbers nothing by its event time.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tickplant._native import LogDirectory
from tickplant.clock import MICROSECOND_NS, SECOND_NS
from tickplant.log import Log
from tickplant.sim import Venue
from tickplant.sim.market import Step
from tickplant.sim.matching import ASK, BID
from tickplant.testing.checks import Checked, Checker, Meaning
from tickplant.testing.dialects import Dialect
from tickplant.testing.faults import Fired
from tickplant.testing.truth import Key

_EVERYTHING = (
    "trades", "levels", "ticker", "status", "gap", "definition", "heartbeat", "coverage", "state-hash", "blob",
)  # fmt: skip
# Kinds from here on carry no receive time.
_BLOB = 0x100
_LOOK_NS = 5 * SECOND_NS
# A venue tells what happened within its rhythm, and the way here takes a while.
_SENT_WITHIN_NS = SECOND_NS


class Witness:
    """Sees every step of a venue's market from the moment it is made, which is before the venue is served."""

    def __init__(self, venue: Venue, code: str, depth: int) -> None:
        self.venue, self.code, self.depth = venue, code, depth
        dialect = Dialect(venue.name)
        self._checked = [
            Checked(f"{listing.instrument.symbol}.{code}", listing, numbered=dialect.numbered, windowed=bool(depth))
            for listing in venue.market.listings
        ]
        venue.market.witness = self._see

    def _see(self, step: Step) -> None:
        self._checked[step.instrument].truth.note(step)

    def audit(self, path: Path, fired: Iterable[Fired], rest_ns: int) -> LogChecker:
        """Reads the venue's lane from its start to its end and holds it to the truth.

        At `rest_ns` (receive time) the markets had stood still for long enough that everything had arrived.
        """
        ids = {name: number for number, name in LogDirectory(path).instruments()}
        of_id = {ids[checked.name]: checked for checked in self._checked if checked.name in ids}
        checker = LogChecker(of_id, self.depth, sorted(fault.at_ns for fault in fired))
        is_at_rest = False
        for batch in Log.open(path).records(schema=_EVERYTHING, lanes=[self.code.lower()]):
            data = bytes(batch)
            at_ns = int.from_bytes(data[8:16], "little") if batch.kind < _BLOB else checker.now_ns
            if at_ns > rest_ns and not is_at_rest:
                is_at_rest = True
                self._at_rest(checker)
            checker.read(at_ns, batch.kind, batch.first_index, data)
        if not is_at_rest:
            self._at_rest(checker)
        return checker

    def _at_rest(self, checker: LogChecker) -> None:
        for checked in checker.instruments.values():
            checked.sent_id = checker.sent(checked, self.venue.published(checked.listing.instrument.symbol))
        checker.at_rest(checker.now_ns)


class LogChecker(Checker):
    """Checks records whose place in the venue's time is found from themselves."""

    def __init__(self, instruments: dict[int, Checked], depth: int, fault_times_ns: list[int]) -> None:
        super().__init__(instruments)
        self._depth = depth
        self._fault_times_ns = fault_times_ns
        self.now_ns = self.look_ns = 0

    def read(self, now_ns: int, kind: int, index: int, data: bytes) -> None:
        """Takes one batch at its receive time."""
        if not self.now_ns:
            self.look_ns = now_ns
            for checked in self.instruments.values():
                checked.since_ns = now_ns
        self.now_ns = max(self.now_ns, now_ns)
        self._take_batch(self.now_ns, kind, index, data)
        while self.look_ns + _LOOK_NS <= self.now_ns:
            self.look_ns += _LOOK_NS
            self._look_back(self.look_ns)

    def sent(self, checked: Checked, update_id: int) -> int:
        """What must have been told by this update: changes behind a subscribed window are not, and where nothing is
        numbered those that a venue puts together and that take each other back leave no record."""
        may_be_same = (checked.windowed or not checked.numbered) and checked.at_id < update_id
        return checked.at_id if may_be_same and checked.held == self._window(checked, update_id) else update_id

    def _look_back(self, at_ns: int) -> None:
        while self._fault_times_ns and self._fault_times_ns[0] <= at_ns:
            self.last_fault_ns = self._fault_times_ns.pop(0)
        for checked in self.instruments.values():
            checked.sent_id = self.sent(checked, checked.truth.id_at(at_ns - _SENT_WITHIN_NS))
        self.look(at_ns)

    def _book_message(
        self, now_ns: int, id_: int, checked: Checked, sequence: int, ts_event: int, meaning: Meaning | None
    ) -> None:
        if checked.numbered:
            super()._book_message(now_ns, id_, checked, sequence, ts_event, meaning)
            return
        # Times are printed with microseconds, in which several orders may fall: the message is of one of them, or of
        # all before them. The usual case, one order or none, is judged without another look.
        within = checked.truth.ids_within(ts_event, ts_event + MICROSECOND_NS)
        before = checked.truth.id_at(ts_event)
        for update_id in [before, *within[:-1]] if within != [before] else []:
            if checked.held == self._window(checked, update_id):
                self._take_meaning(now_ns, id_, checked, update_id, ts_event)
                return
        self._take_meaning(now_ns, id_, checked, within[-1], ts_event)

    def _take_meaning(self, now_ns: int, id_: int, checked: Checked, update_id: int, ts_event: int) -> None:
        window = self._window(checked, update_id) if checked.windowed else None
        super()._book_message(now_ns, id_, checked, update_id, ts_event, Meaning(id_, update_id, window))

    def _window(self, checked: Checked, update_id: int) -> dict[Key, int]:
        checked.truth.roll(update_id)
        sizes = checked.truth.sizes
        if not self._depth:
            return dict(sizes)
        found: dict[Key, int] = {}
        for side in (BID, ASK):
            prices = sorted((price for of_side, price in sizes if of_side == side), reverse=side == BID)
            found |= {(side, price): sizes[side, price] for price in prices[: self._depth]}
        return found

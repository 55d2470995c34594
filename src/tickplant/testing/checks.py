"""What must hold of the records whatever happens: each commit is held against the venue's truth as readers see it.

- a book that is written as live equals the venue's book as of that message, and is not silently left behind;
- a trade is recorded once and as it was, or its id lies in a GAP that nothing repaired; what was fetched later fills a
  GAP, in the venue's order, and no run of the plant forgets what was traded before it;
- positions have no hole, receive times never decrease, messages end within their commit;
- states follow each other, and none that is not live lasts; a stream that was told silent is told to be back before
  its next trade;
- nothing that brings news is called silent, and nothing where the venue says that nothing is traded.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from tickplant.clock import SECOND_NS
from tickplant.records import (
    F_BACKFILL,
    F_LAST,
    F_SNAPSHOT,
    Action,
    BookState,
    ConnectionState,
    Kind,
    Reason,
    Repair,
    Rung,
    Side,
    Stream,
    Subject,
    SubscriptionState,
    TradingState,
)
from tickplant.sim.market import Listing
from tickplant.sim.matching import ASK, BID
from tickplant.testing.power import RECORD_BYTES, Batches
from tickplant.testing.reports.wounds import Sign, gap_sign
from tickplant.testing.truth import Key, Truth

_LEVEL = struct.Struct("<QQQqqQIHBBBBBBI")
_STATUS = struct.Struct("<QQQqQQIHBBBBBBI")
_GAP = struct.Struct("<QQQQQQIHBBBBBBI")
_SCALE_MOST = 18

# Nobody may look live on what is older, and nobody may be in another state for longer without a new fault.
_BEHIND_MOST_NS = 60 * SECOND_NS
_HEALED_WITHIN_NS = 180 * SECOND_NS
# Silence begins after ten seconds; the way here takes less than a second.
_HEARD_NS = 5 * SECOND_NS
# How far back a run looks for what earlier ones were fetching.
_TAKEN_UP_WITHIN_NS = 180 * SECOND_NS
_HALTED = (TradingState.MAINTENANCE, TradingState.CANCEL_ONLY, TradingState.POST_ONLY, TradingState.CLOSED)
_ENDED = (ConnectionState.IDLE, ConnectionState.WAITING, ConnectionState.CLOSING, ConnectionState.CLOSED)


class Violation(NamedTuple):
    """Something that must hold and did not."""

    at_ns: int
    rule: str
    instrument: str
    what: str


class Meaning(NamedTuple):
    """What the simulator knows of a book message that it delivers whole: the update that it brings the book to, and the
    subscribed window right after it, where the venue sends one."""

    instrument_id: int
    update_id: int
    window: dict[Key, int] | None


class Checked:
    """One instrument as its records tell it."""

    def __init__(self, name: str, listing: Listing, *, numbered: bool, windowed: bool, fetched: bool = True) -> None:
        self.name = name
        self.fetched = fetched
        """Whether trades that are missing are asked for over HTTP: otherwise their GAP is the last word."""
        self.listing = listing
        self.numbered = numbered
        self.windowed = windowed
        self.truth = Truth(listing)
        self.held: dict[Key, int] = {}
        self.state = int(BookState.CLOSED)
        self.since_ns = 0
        self.at_id = 0
        self.messages = 0
        self.trades: set[int] = set()
        self.trade_last = 0
        self.trade_first = 0
        self.gaps: list[tuple[int, int]] = []
        self.awaited: dict[int, int] = {}
        """Trades that are to be fetched, and when their GAP was received."""
        self.wanted = True
        self.heard_ns: dict[int, int] = {}
        """When a whole book message last reached the plant, by each connection that is there."""
        self.uncarried: set[int] = set()
        """Connections on which the plant told that the book is not subscribed, or is to be so anew: what they bring
        does not count."""
        self.filled_last = 0
        self.is_behind = False
        self._touched: list[Key] = []
        self._differs: set[Key] = set()
        self._anew = True
        # Of each look: the last update that was sent to us by then.
        self.sent_id = 0
        self.sent_before: list[tuple[int, int]] = []
        self.said: dict[int, Meaning] = {}
        """What the last whole book message by each connection brought the book to, where messages have no numbers."""
        self.followed: int | None = None
        """The connection whose book is to take over, until it does."""
        self.silent: set[int] = set()
        """Streams that were told to be silent and not to be back."""
        self.traded_ns = 0

    def restarted(self, now_ns: int, ts_recv: int) -> None:
        """The plant begins anew: books are closed, and what was told lately of trades is fetched anew."""
        self.state, self.since_ns = int(BookState.CLOSED), now_ns
        self.filled_last = 0
        self.uncarried.clear()
        self.said.clear()
        self.silent.clear()
        self.followed = None
        self.resumed(ts_recv)

    def resumed(self, ts_recv: int) -> None:
        """A run begins, and looks no further back than so for what earlier ones were fetching."""
        self.awaited = {ref: at for ref, at in self.awaited.items() if ts_recv - at < _TAKEN_UP_WITHIN_NS}

    def is_heard(self, now_ns: int) -> bool:
        """Whether the book was heard just now on a connection that carries it."""
        carried = (at_ns for connection, at_ns in self.heard_ns.items() if connection not in self.uncarried)
        return now_ns - max(carried, default=0) < _HEARD_NS

    def is_as_traded(self, id_: int, price: tuple[int, int], size: tuple[int, int]) -> bool:
        """Whether a trade was recorded with the price and size (mantissa and scale) that it had."""
        trade, instrument = self.truth.trades.get(id_), self.listing.instrument
        if trade is None:
            return False
        printed = price, size, (trade.price, instrument.price_scale), (trade.size, instrument.size_scale)
        values = [mantissa * 10 ** (_SCALE_MOST - scale) for mantissa, scale in printed]
        return values[:2] == values[2:]

    def traded(self, id_: int) -> None:
        """A trade is recorded."""
        self.trades.add(id_)
        self.trade_first = min(self.trade_first or id_, id_)
        self.trade_last = max(self.trade_last, id_)

    def missed(self, stream: int, cause: int, repaired: int, ids: range, ts_recv: int) -> None:
        """A GAP is recorded; that of trades excuses their ids where nothing repaired it."""
        if stream != Stream.TRADES or ids.stop == 1 << 64:
            return
        if repaired == Repair.NONE:
            self.gaps.append((ids.start, ids.stop - 1))
        if self.fetched and repaired == Repair.NONE and cause in (Reason.TRADE_ID_GAP, Reason.RESTARTED):
            self.awaited.update(dict.fromkeys(ids, ts_recv))
        else:
            # It was filled, or another cause says that it is not to be had: what is fetched of it has ended.
            for id_ in ids:
                self.awaited.pop(id_, None)

    def set_level(self, action: int, side: int, price: int, size: int) -> None:
        if action == Action.CLEAR:
            self.held.clear()
            self._anew = True
        elif action != Action.NONE:
            key = (ASK if side == Side.ASK else BID, price)
            self._touched.append(key)
            if action == Action.CANCEL:
                self.held.pop(key, None)
            else:
                self.held[key] = size

    def compare(self, update_id: int, window: dict[Key, int] | None) -> list[Key]:
        """Levels that differ from the truth right after an update."""
        self.at_id, self.messages = update_id, self.messages + 1
        if window is not None:
            self._touched.clear()
            held = self.held
            return [] if held == window else sorted(key for key in held | window if held.get(key) != window.get(key))
        sizes = self.truth.sizes
        touched = self.truth.roll(update_id) + self._touched
        if self._anew:
            touched = list(self.held | sizes)
            self._differs.clear()
            self._anew = False
        for key in touched:
            if self.held.get(key) == sizes.get(key):
                self._differs.discard(key)
            else:
                self._differs.add(key)
        self._touched = []
        return sorted(self._differs)

    def takes_over(self) -> bool:
        """Whether the book is what the followed line's last message brought it to, and nothing older than it was."""
        said = None if self.followed is None else self.said.get(self.followed)
        return said is not None and said.update_id >= self.at_id and not self.compare(said.update_id, said.window)


class Checker:
    """Holds the records of one venue's lane against the truth. `pace`: so many times slower than usual its markets are,
    and their silences are told from quiet so much later."""

    def __init__(self, instruments: dict[int, Checked], pace: int = 1) -> None:
        self.instruments = instruments
        self._behind_most_ns = _BEHIND_MOST_NS * pace
        self.violations: list[Violation] = []
        self.counts = dict.fromkeys(("records", "book_messages", "trades", "trades_backfilled", "gaps", "states"), 0)
        self.last_fault_ns = 0
        self.signs: list[Sign] = []
        """What the records say of states and gaps, for the fault log."""
        self._next_index = 0
        self._ts_recv = 0
        self._open: int | None = None
        self._is_halted = False
        """The venue said that nothing is traded."""

    def say(self, now_ns: int, rule: str, instrument_id: int, what: str) -> None:
        """Notes a violation."""
        known = self.instruments.get(instrument_id)
        self.violations.append(Violation(now_ns, rule, known.name if known else "", what))

    def heard(self, now_ns: int, connection: int, meaning: Meaning) -> None:
        """A whole book message reached the plant."""
        checked = self.instruments[meaning.instrument_id]
        checked.heard_ns[connection] = now_ns
        if not checked.numbered:
            checked.said[connection] = meaning

    def take(self, now_ns: int, records: Batches, meaning: Meaning | None) -> None:
        """The records of one commit, which `meaning` brought about where it was a whole book message."""
        self._open = None
        for kind, index, data in records:
            self._take_batch(now_ns, kind, index, data, meaning)
        if self._open is not None:
            self.say(now_ns, "half a message", self._open, "a commit ended before the message did")

    def _take_batch(self, now_ns: int, kind: int, index: int, data: bytes, meaning: Meaning | None = None) -> None:
        if index != self._next_index:
            self.say(now_ns, "positions", 0, f"record {index} follows record {self._next_index - 1}")
        self._next_index = index + len(data) // RECORD_BYTES
        self.counts["records"] += len(data) // RECORD_BYTES
        if kind == Kind.LEVEL:
            self._levels(now_ns, data, meaning)
        elif kind == Kind.TRADE:
            self._trades(now_ns, data)
        elif kind == Kind.STATUS:
            self._statuses(now_ns, data)
        elif kind == Kind.GAP:
            self._gaps(now_ns, data)

    def restarted(self, now_ns: int) -> None:
        """A new run of the plant begins."""
        self._is_halted = False
        for checked in self.instruments.values():
            checked.restarted(now_ns, self._ts_recv)

    def rewound(self, records: Batches) -> None:
        """This is all that is recorded: a power cut took the rest."""
        for checked in self.instruments.values():
            checked.trades, checked.gaps, checked.awaited = set(), [], {}
            checked.trade_first = checked.trade_last = 0
        for kind, index, data in records:
            self._next_index = index + len(data) // RECORD_BYTES
            if kind == Kind.TRADE:
                for line in _LEVEL.iter_unpack(data):
                    self.instruments[line[6]].traded(line[5])
            elif kind == Kind.GAP:
                for _, at, first, last, _, _, id_, _, stream, cause, _, repaired, _, _, _ in _GAP.iter_unpack(data):
                    self.instruments[id_].missed(stream, cause, repaired, range(first, last + 1), at)
        for checked in self.instruments.values():
            checked.resumed(max(checked.awaited.values(), default=0))

    def look(self, now_ns: int) -> None:
        """What must hold at any time: no live book is behind, no other state lasts."""
        for instrument_id, checked in self.instruments.items():
            checked.sent_before.append((now_ns, checked.sent_id))
            while checked.sent_before[0][0] < now_ns - self._behind_most_ns:
                at_ns, sent_id = checked.sent_before.pop(0)
                behind = checked.state == BookState.LIVE and checked.at_id < sent_id and checked.since_ns < at_ns
                if behind and not checked.is_behind:
                    self.say(now_ns, "left behind", instrument_id, f"live at {checked.at_id}, and {sent_id} was sent")
                checked.is_behind = behind
            since_ns = max(checked.since_ns, self.last_fault_ns)
            if checked.wanted and checked.state != BookState.LIVE and now_ns - since_ns > _HEALED_WITHIN_NS:
                self.say(now_ns, "not healed", instrument_id, f"state {BookState(checked.state).name} lasts")
                checked.since_ns = now_ns

    def at_rest(self, now_ns: int) -> None:
        """The markets stand still and everything has arrived: books are live and complete, and so are the trades."""
        for instrument_id, checked in self.instruments.items():
            if checked.wanted and checked.state != BookState.LIVE:
                self.say(now_ns, "at rest", instrument_id, f"the book is {BookState(checked.state).name}")
            elif checked.wanted and checked.at_id != checked.sent_id:
                self.say(now_ns, "at rest", instrument_id, f"the book is at {checked.at_id} of {checked.sent_id}")
            missing = set(range(checked.trade_first, checked.trade_last + 1)) - checked.trades
            for first, last in checked.gaps:
                missing.difference_update(range(first, last + 1))
            if missing and checked.trade_first:
                self.say(now_ns, "trades", instrument_id, f"{len(missing)} lost without a GAP: {sorted(missing)[:5]}")
            if checked.awaited:
                ids = sorted(checked.awaited)
                what = f"what became of {len(ids)} missing ones is not told: {ids[:5]}"
                self.say(now_ns, "trades", instrument_id, what)

    def _levels(self, now_ns: int, data: bytes, meaning: Meaning | None) -> None:
        for (
            ts_event,
            ts_recv,
            sequence,
            price,
            size,
            _,
            id_,
            _,
            action,
            side,
            flags,
            price_scale,
            size_scale,
            _,
            _,
        ) in _LEVEL.iter_unpack(data):
            self._received(now_ns, ts_recv, id_)
            checked = self.instruments[id_]
            if action not in (Action.CLEAR, Action.NONE):
                scales = checked.listing.instrument
                price *= 10 ** (scales.price_scale - price_scale)
                size *= 10 ** (scales.size_scale - size_scale)
            checked.set_level(action, side, price, size)
            self._open = None if flags & F_LAST else id_
            if flags & F_LAST:
                # Another line's book takes over in whatever turn it has caught up with what readers have.
                if flags & F_SNAPSHOT and checked.takes_over():
                    checked.followed = None
                    self.counts["book_messages"] += 1
                else:
                    self._book_message(now_ns, id_, checked, sequence, ts_event, meaning)

    def _book_message(
        self,
        now_ns: int,
        id_: int,
        checked: Checked,
        sequence: int,
        ts_event: int,  # noqa: ARG002  (who knows no meaning finds it by the time)
        meaning: Meaning | None,
    ) -> None:
        self.counts["book_messages"] += 1
        window = None
        if not checked.numbered:
            if meaning is None or meaning.instrument_id != id_:
                self.say(now_ns, "books", id_, "written from a message that was spoiled")
                return
            sequence, window = meaning.update_id, meaning.window
        differing = checked.compare(sequence, window)
        if differing:
            truth = window if window is not None else checked.truth.sizes
            named = [(key, checked.held.get(key), truth.get(key)) for key in differing[:3]]
            self.say(now_ns, "books", id_, f"{len(differing)} levels differ after update {sequence}: {named}")

    def _trades(self, now_ns: int, data: bytes) -> None:
        for line in _LEVEL.iter_unpack(data):
            ts_event, ts_recv, _, price, size, ref, id_, _, _, _, flags, price_scale, size_scale, _, _ = line
            self._received(now_ns, ts_recv, id_)
            self.counts["trades"] += 1
            self._open = None if flags & F_LAST else id_
            checked = self.instruments[id_]
            # What is fetched or replayed says nothing of the stream, and what is not newer is no news.
            is_live = not flags & (F_BACKFILL | F_SNAPSHOT) and ts_event > checked.traded_ns
            if is_live and Stream.TRADES in checked.silent:
                self.say(now_ns, "states", id_, f"trade {ref} came, and trades are still told to be silent")
            checked.traded_ns = max(checked.traded_ns, ts_event)
            if ref in checked.trades:
                self.say(now_ns, "trades", id_, f"trade {ref} is recorded twice")
            if ref > checked.truth.last_trade:
                self.say(now_ns, "trades", id_, f"trade {ref} never happened")
            elif not checked.is_as_traded(ref, (price, price_scale), (size, size_scale)):
                self.say(now_ns, "trades", id_, f"trade {ref} was another one")
            if flags & F_BACKFILL:
                self._fill(now_ns, id_, checked, ref)
            checked.traded(ref)

    def _fill(self, now_ns: int, id_: int, checked: Checked, ref: int) -> None:
        """A trade that was fetched lies in a hole that was told, and comes after those of it that came before."""
        self.counts["trades_backfilled"] += 1
        hole = next(((first, last) for first, last in checked.gaps if first <= ref <= last), None)
        if hole is None:
            self.say(now_ns, "trades", id_, f"trade {ref} was fetched and nothing said that it was missing")
        elif hole[0] <= checked.filled_last <= hole[1] and ref < checked.filled_last:
            self.say(now_ns, "trades", id_, f"trade {ref} was fetched after {checked.filled_last}")
        checked.filled_last = ref

    def _gaps(self, now_ns: int, data: bytes) -> None:
        for _, ts_recv, first, last, _, _, id_, _, stream, cause, _, repaired, _, _, _ in _GAP.iter_unpack(data):
            self._received(now_ns, ts_recv, id_)
            self.signs.append(gap_sign(now_ns, id_, stream, cause, repaired, first, last))
            self.counts["gaps"] += 1
            self.instruments[id_].missed(stream, cause, repaired, range(first, last + 1), ts_recv)

    def _statuses(self, now_ns: int, data: bytes) -> None:
        for fields in _STATUS.iter_unpack(data):
            _, ts_recv, _, _, detail, _, id_, _, subject, previous, _, current, reason, _, connection = fields
            self._received(now_ns, ts_recv, id_)
            self.signs.append(Sign(now_ns, subject, id_, previous, current, reason))
            self.counts["states"] += 1
            if subject == Subject.CONNECTION and current in _ENDED:
                for checked in self.instruments.values():
                    checked.heard_ns.pop(connection, None)
            if subject == Subject.TRADING and id_ not in self.instruments:
                self._is_halted = current in _HALTED
            tried = subject == Subject.RECOVERY and current in (Rung.RESUBSCRIBE, Rung.RECONNECT)
            if self._is_halted and tried and reason == Reason.SILENT:
                self.say(now_ns, "false alarm", id_, "called silent, and the venue said that nothing is traded")
            if id_ not in self.instruments:
                continue
            checked = self.instruments[id_]
            if subject == Subject.SUBSCRIPTION and detail == Stream.BOOK:
                is_there = current in (SubscriptionState.REQUESTED, SubscriptionState.ACTIVE)
                (checked.uncarried.discard if is_there else checked.uncarried.add)(connection)
            if subject == Subject.RECOVERY and current == Rung.LINE:
                checked.followed = connection
            if subject == Subject.RECOVERY and current == Rung.RESUBSCRIBE and detail == Stream.BOOK:
                checked.uncarried.add(connection)
            if subject == Subject.INSTRUMENT and reason in (Reason.SILENT, Reason.RECOVERED):
                if (detail in checked.silent) == (reason == Reason.SILENT):
                    self.say(now_ns, "states", id_, f"stream {detail} is told {Reason(reason).name} twice in a row")
                (checked.silent.add if reason == Reason.SILENT else checked.silent.discard)(detail)
            if subject != Subject.BOOK:
                continue
            if previous != checked.state:
                known = BookState(checked.state).name
                self.say(now_ns, "states", id_, f"a move from {BookState(previous).name}, and the state was {known}")
            is_silent = current == BookState.STALE and reason == Reason.SILENT
            if is_silent and checked.is_heard(now_ns):
                self.say(now_ns, "false alarm", id_, "silent, and its book was heard just now")
            if current != checked.state:
                checked.state, checked.since_ns = current, now_ns

    def _received(self, now_ns: int, ts_recv: int, id_: int) -> None:
        if ts_recv < self._ts_recv:
            self.say(now_ns, "times", id_, f"received at {ts_recv} after {self._ts_recv}")
        self._ts_recv = ts_recv

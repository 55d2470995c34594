"""The fault log: of each fault when it was noticed, how it was healed, what was lost, out of the plant's own records.

A plant does not know which fault hit it, so a fault is joined to the first record of trouble that can be its doing: of
the same instrument or connection, of a sort that such a fault shows itself by, and soon enough. Where faults come thick
one record may be what two of them are noticed by.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tickplant.clock import MILLISECOND_NS, SECOND_NS, rfc3339
from tickplant.records import (
    UNDEF_U64,
    BookState,
    ConnectionState,
    Gap,
    Reason,
    Repair,
    Rung,
    Status,
    Stream,
    Subject,
    SubscriptionState,
    TradingState,
)
from tickplant.testing.faults import BY_NAME, Fired, Opportunity

# How long a fault may take to show itself: a delay and the silence after it, an acknowledgement that does not come.
_SHOWS_WITHIN_NS: dict[Opportunity, int] = {
    "frame": 30 * SECOND_NS,
    "snapshot": 60 * SECOND_NS,
    "answer": 60 * SECOND_NS,
    "request": 60 * SECOND_NS,
    "token": 30 * SECOND_NS,
    "connect": 10 * SECOND_NS,
    "second": 75 * SECOND_NS,
    "minute": 90 * SECOND_NS,
}
_SHOWS_AS: dict[str, tuple[Subject, ...]] = {
    **dict.fromkeys(("clock_step", "clock_leap"), (Subject.CLOCK,)),
    "disk_full": (Subject.DISK,),
    **dict.fromkeys(("disk_slow", "clock_drift", "burst", "double_subscription", "duplicate", "answer_doubled"), ()),
    **dict.fromkeys(("answer_lost", "answer_late", "answer_wrong"), (Subject.SUBSCRIPTION, Subject.CONNECTION)),
    **dict.fromkeys(("connect_failed", "connect_refused", "connect_429"), (Subject.CONNECTION,)),
}
_ALL = (Subject.CONNECTION, Subject.BOOK, Subject.SUBSCRIPTION, Subject.INSTRUMENT, Subject.RECOVERY, Subject.PLANT)
# What befalls a request leaves what comes by itself alone: a silence is another fault's.
_NEVER_SILENT: tuple[Opportunity, ...] = ("request", "token")
_ASKED_FOR = (Reason.REQUESTED, Reason.UNSUBSCRIBED, Reason.SHUTDOWN)
# Gaps of trades are told when the next trade comes.
_LOSS_TOLD_WITHIN_NS = 5 * SECOND_NS


class Sign(NamedTuple):
    """What a STATUS or GAP record says, at the time that faults are told in."""

    at_ns: int
    subject: int
    instrument_id: int
    previous: int
    current: int
    reason: int
    missing: int = 0
    """Of a GAP of trades that says that they are not there: how many."""
    ids: tuple[int, int] | None = None
    """Of a GAP of trades: the first and the last of it."""

    @property
    def is_trouble(self) -> bool:
        """Whether it tells of something that is not as it is to be."""
        if self.reason in _ASKED_FOR:
            return False
        match self.subject:
            case Subject.BOOK:
                return self.previous == BookState.LIVE or self.current in (BookState.GAP, BookState.MISMATCH)
            case Subject.CONNECTION:
                fine = (ConnectionState.CONNECTING, ConnectionState.SUBSCRIBING, ConnectionState.AUTHENTICATING)
                return self.current not in (ConnectionState.LIVE, *fine)
            case Subject.SUBSCRIPTION:
                return self.current == SubscriptionState.REFUSED or self.reason == Reason.ACK_TIMEOUT
            case Subject.RECOVERY:
                return self.current != Rung.NONE
            case Subject.TRADING:
                return self.current not in (TradingState.UNKNOWN, TradingState.ONLINE)
        return True

    @property
    def text(self) -> str:
        """For people, such as `BOOK STALE SILENT`."""
        subject = Subject(self.subject)
        words: Mapping[Subject, Any] = {
            Subject.BOOK: BookState, Subject.CONNECTION: ConnectionState, Subject.SUBSCRIPTION: SubscriptionState,
            Subject.RECOVERY: Rung, Subject.TRADING: TradingState,
        }  # fmt: skip
        current = words[subject](self.current).name if subject in words else ""
        if self.missing:
            return f"GAP of {self.missing} trades"
        return " ".join(filter(None, (subject.name, current, Reason(self.reason).name)))


def sign_of(record: Status | Gap) -> Sign:
    """A record of a log as a sign, at its receive time."""
    if isinstance(record, Status):
        current, previous = int(record.current), int(record.previous)
        return Sign(record.ts_recv, record.subject, record.instrument_id, previous, current, record.reason)
    return gap_sign(
        record.ts_recv, record.instrument_id, record.stream, record.cause, record.repaired_from,
        record.sequence, record.last,
    )  # fmt: skip


def gap_sign(at_ns: int, instrument_id: int, stream: int, cause: int, repaired: int, first: int, last: int) -> Sign:
    """A GAP record as a sign."""
    ids = (first, last) if stream == Stream.TRADES and last != UNDEF_U64 else None
    missing = last - first + 1 if ids and repaired == Repair.NONE else 0
    return Sign(at_ns, Subject.INSTRUMENT, instrument_id, 0, 0, cause, missing, ids)


class Wound(NamedTuple):
    """What became of one fault. Times in ns, None where it was not noticed, or not healed by the end."""

    fired: Fired
    noticed_ns: int | None = None
    noticed_by: str = ""
    healed_ns: int | None = None
    healed_by: str = ""
    lost_trades: int = 0

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        at_ns, name, venue, detail = self.fired
        return {
            "at": rfc3339(at_ns), "fault": name, "venue": venue, "detail": detail,
            "noticed": None if self.noticed_ns is None else rfc3339(self.noticed_ns), "noticed_by": self.noticed_by,
            "healed": None if self.healed_ns is None else rfc3339(self.healed_ns), "healed_by": self.healed_by,
            "lost_trades": self.lost_trades,
        }  # fmt: skip

    @property
    def text(self) -> str:
        """One line for people."""
        at_ns, name, venue, detail = self.fired
        line = f"{rfc3339(at_ns)[11:23]} {venue} {name} {detail}".rstrip()
        if self.noticed_ns is None:
            return f"{line}: nothing to see"
        line += f": noticed after {_seconds(self.noticed_ns - at_ns)} ({self.noticed_by})"
        if self.healed_ns is None:
            return f"{line}, not healed yet"
        line += f", healed after {_seconds(self.healed_ns - at_ns)}{f' by {self.healed_by}' if self.healed_by else ''}"
        return f"{line}, {f'{self.lost_trades} trades lost' if self.lost_trades else 'nothing lost'}"


def wounds(fired: Iterable[Fired], signs: Sequence[Sign], ids: Mapping[str, int]) -> list[Wound]:
    """The fault log of one venue. `signs` by time; `ids` are those of its instruments by symbol."""
    times = [sign.at_ns for sign in signs]
    losses = _losses(signs)
    found = []
    for fault in fired:
        symbol = next((part for part in fault.detail.split() if part in ids), None)
        found.append(_wound(fault, signs, losses, bisect_left(times, fault.at_ns), ids.get(symbol or "")))
    return found


def _losses(signs: Sequence[Sign]) -> list[int]:
    """Of each sign: how many trades it tells the loss of, each told once, without those that were had later."""
    told: dict[int, list[tuple[int, int]]] = {}
    for sign in signs:
        if sign.ids and not sign.missing:
            told.setdefault(sign.instrument_id, []).append(sign.ids)
    losses = []
    for sign in signs:
        lost = [sign.ids] if sign.ids and sign.missing else []
        if lost:
            others = told.setdefault(sign.instrument_id, [])
            for first, last in others:
                parts = [part for a, b in lost for part in ((a, min(b, first - 1)), (max(a, last + 1), b))]
                lost = [(a, b) for a, b in parts if a <= b]
            others += lost
        losses.append(sum(last - first + 1 for first, last in lost))
    return losses


def _wound(fault: Fired, signs: Sequence[Sign], losses: Sequence[int], start: int, instrument_id: int | None) -> Wound:
    shows_as = _SHOWS_AS.get(fault.name, _ALL)
    until_ns = fault.at_ns + _SHOWS_WITHIN_NS[BY_NAME[fault.name].when]
    live = _live_before(signs, start)
    noticed: Sign | None = None
    rung, lost, healed_ns = 0, 0, None
    is_cut = False
    for sign, loss in zip(signs[start:], losses[start:], strict=True):
        concerns = instrument_id is None or sign.instrument_id in (0, instrument_id)
        if sign.subject == Subject.BOOK and (instrument_id is None or sign.instrument_id == instrument_id):
            live[sign.instrument_id] = sign.current == BookState.LIVE
        if noticed is None:
            if sign.at_ns > until_ns:
                break
            is_its_own = sign.reason != Reason.SILENT or BY_NAME[fault.name].when not in _NEVER_SILENT
            if concerns and sign.subject in shows_as and sign.is_trouble and is_its_own:
                noticed = sign
        if noticed is None or not concerns:
            continue
        if sign.subject == Subject.CONNECTION:
            is_cut = sign.is_trouble or (is_cut and sign.current != ConnectionState.LIVE)
        if healed_ns is None:
            rung = max(rung, sign.current if sign.subject == Subject.RECOVERY else 0)
            if sign.subject == Subject.CONNECTION and sign.current == ConnectionState.WAITING:
                rung = max(rung, int(Rung.RECONNECT))
        lost += loss
        if healed_ns is None and not is_cut and _is_well(live, instrument_id):
            healed_ns = sign.at_ns
        if healed_ns is not None and sign.at_ns > healed_ns + _LOSS_TOLD_WITHIN_NS:
            break
    if noticed is None:
        return Wound(fault)
    return Wound(fault, noticed.at_ns, noticed.text, healed_ns, Rung(rung).name if rung else "", lost)


def _live_before(signs: Sequence[Sign], start: int) -> dict[int, bool]:
    """Which books were live, by the last that was said of each."""
    live: dict[int, bool] = {}
    for sign in signs[:start]:
        if sign.subject == Subject.BOOK:
            live[sign.instrument_id] = sign.current == BookState.LIVE
    return live


def _is_well(live: Mapping[int, bool], instrument_id: int | None) -> bool:
    return bool(live) and all(live.values()) if instrument_id is None else live.get(instrument_id, True)


_HEADING = ("fault", "noticed", "after", "at most", "healed", "at most", "lost", "by")


def healing_text(found: Sequence[Wound], width: int = 120) -> list[str]:
    """A table with a line for each sort of fault: how many of them were noticed, how soon (median, worst), how soon
    healed, how many trades were lost, and what healed them, as far as there is room. Empty where nothing fired."""
    rows = []
    for name in sorted({wound.fired.name for wound in found}):
        of_name = [wound for wound in found if wound.fired.name == name]
        seen = [wound.noticed_ns - wound.fired.at_ns for wound in of_name if wound.noticed_ns is not None]
        healed = [wound.healed_ns - wound.fired.at_ns for wound in of_name if wound.healed_ns is not None]
        typical, worst = _spread(healed)
        worst = worst if len(healed) == len(seen) else "never"
        lost = sum(wound.lost_trades for wound in of_name)
        by = " ".join(sorted({wound.healed_by for wound in of_name if wound.healed_by}))
        counts = f"{len(seen)} of {len(of_name)}"
        rows.append((name, counts, *_spread(seen), typical, worst, str(lost) if lost else "-", by))
    form = "{:<19} {:>8} {:>7} {:>7} {:>7} {:>7} {:>4} {}"
    lines = [f"{form.format(*row)} " for row in (_HEADING, *rows)] if rows else []
    # Beyond the width whole names are left out.
    return [line[: width + 1].rpartition(" ")[0].rstrip() for line in lines]


def percentile(values: Sequence[int], percent: int) -> int:
    """The smallest value that so many percent are not above. Raises IndexError without values."""
    return sorted(values)[max(0, -(-len(values) * percent // 100) - 1)]


def _spread(values: Sequence[int]) -> tuple[str, str]:
    """The median and the worst."""
    return (_seconds(percentile(values, 50)), _seconds(max(values))) if values else ("-", "-")


def _seconds(ns: int) -> str:
    return f"{ns // MILLISECOND_NS} ms" if ns < SECOND_NS else f"{ns // MILLISECOND_NS / 1000:.1f} s"

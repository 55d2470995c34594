"""What the checks make of records that are given to them one by one."""

import struct

import pytest

from tickplant.records import BookState, ConnectionState, Kind, Reason, Rung, Stream, Subject, SubscriptionState
from tickplant.sim import build_venue
from tickplant.testing.checks import Checked, Checker

NOW_NS = 1_790_000_000_000_000_000
ID = 7


def status(subject, previous, current, reason, *, detail=0, connection=0):
    """A STATUS record of the instrument."""
    values = (0, NOW_NS, 0, 0, detail, 0, ID, 0, subject, previous, 0, current, reason, 0, connection)
    return struct.pack("<QQQqQQIHBBBBBBI", *values)


SILENT = (Subject.BOOK, BookState.LIVE, BookState.STALE, Reason.SILENT)
BOOK_OF_TWO = {"detail": Stream.BOOK, "connection": 1}
REQUESTED, ACTIVE, REFUSED = SubscriptionState.REQUESTED, SubscriptionState.ACTIVE, SubscriptionState.REFUSED


@pytest.mark.parametrize(
    ("before", "rules"),
    [
        (status(Subject.SUBSCRIPTION, REQUESTED, ACTIVE, Reason.ACKNOWLEDGED, **BOOK_OF_TWO), ["false alarm"]),
        (status(Subject.SUBSCRIPTION, REQUESTED, REFUSED, Reason.REFUSED, **BOOK_OF_TWO), []),
        (
            status(Subject.CONNECTION, ConnectionState.LIVE, ConnectionState.WAITING, Reason.PEER_CLOSED, connection=1),
            [],
        ),
        (status(Subject.RECOVERY, 0, Rung.RESUBSCRIBE, Reason.AWAITING_SNAPSHOT, **BOOK_OF_TWO), []),
    ],
    ids=["there", "refused", "ended", "made anew"],
)
def test_a_book_is_heard_only_on_a_line_that_has_it(before, rules):
    """It came by the second of two lines just now, and by the first a minute ago."""
    listing = build_venue("coinbase", seed=1, start_ns=NOW_NS, instrument_count=1, rate=10).market.listings[0]
    checked = Checked("BTC-USD.COINBASE", listing, numbered=False, windowed=False)
    checker = Checker({ID: checked})
    checked.state = int(BookState.LIVE)
    checked.heard_ns = {0: NOW_NS - 60_000_000_000, 1: NOW_NS}
    checker.take(NOW_NS, [(Kind.STATUS, 0, before + status(*SILENT))], None)
    assert [violation.rule for violation in checker.violations] == rules

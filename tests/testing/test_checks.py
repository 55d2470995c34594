"""What the checks make of records that are given to them one by one."""

import struct

import pytest

from tickplant.records import BookState, Kind, Reason, Stream, Subject, SubscriptionState
from tickplant.sim import build_venue
from tickplant.testing.checks import Checked, Checker

NOW_NS = 1_790_000_000_000_000_000
ID = 7


def status(subject, previous, current, reason, *, detail=0, connection=0):
    """A STATUS record of the instrument."""
    values = (0, NOW_NS, 0, 0, detail, 0, ID, 0, subject, previous, 0, current, reason, 0, connection)
    return struct.pack("<QQQqQQIHBBBBBBI", *values)


@pytest.mark.parametrize("refused", [False, True])
def test_a_book_is_not_heard_on_a_line_that_does_not_have_it(refused):
    listing = build_venue("coinbase", seed=1, start_ns=NOW_NS, instrument_count=1, rate=10).market.listings[0]
    checked = Checked("BTC-USD.COINBASE", listing, numbered=False, windowed=False)
    checker = Checker({ID: checked}, redundant=True)
    checked.state = int(BookState.LIVE)
    checked.heard_ns = {0: NOW_NS - 60_000_000_000, 1: NOW_NS}
    requested, current = SubscriptionState.REQUESTED, [SubscriptionState.ACTIVE, SubscriptionState.REFUSED][refused]
    data = status(Subject.SUBSCRIPTION, requested, current, Reason.REFUSED, detail=Stream.BOOK, connection=1)
    data += status(Subject.BOOK, BookState.LIVE, BookState.STALE, Reason.SILENT)
    checker.take(NOW_NS, [(Kind.STATUS, 0, data)], None)
    assert [violation.rule for violation in checker.violations] == ([] if refused else ["false alarm"])

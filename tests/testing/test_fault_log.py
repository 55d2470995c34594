"""The fault log joins a fault to the first trouble that can be its doing, and follows it until all is well again."""

from tickplant.clock import SECOND_NS
from tickplant.records import BookState, ConnectionState, Reason, Repair, Rung, Stream, Subject
from tickplant.testing.faults import Fired
from tickplant.testing.reports.wounds import Sign, Wound, gap_sign, healing_text, percentile, wounds

IDS = {"BTC/USD": 1, "ETH/USD": 2}
SYNCING, LIVE, CLOSED = BookState.SYNCING, BookState.LIVE, BookState.CLOSED


def book(second: float, instrument_id: int, previous: int, current: int, reason: Reason = Reason.PEER_CLOSED) -> Sign:
    return Sign(round(second * SECOND_NS), Subject.BOOK, instrument_id, previous, current, reason)


def link(second: float, current: ConnectionState, reason: Reason = Reason.PEER_CLOSED) -> Sign:
    return Sign(round(second * SECOND_NS), Subject.CONNECTION, 0, 0, current, reason)


def rung(second: float, instrument_id: int, current: Rung) -> Sign:
    return Sign(round(second * SECOND_NS), Subject.RECOVERY, instrument_id, 0, current, Reason.BAD_MESSAGE)


START = [book(0, 1, SYNCING, LIVE), book(0, 2, SYNCING, LIVE)]


def test_a_cut_is_healed_when_the_connection_and_every_book_are_back():
    signs = [
        *START, link(10.5, ConnectionState.WAITING), book(10.5, 1, LIVE, CLOSED), book(10.5, 2, LIVE, CLOSED),
        link(12, ConnectionState.CONNECTING), book(12.1, 1, SYNCING, LIVE), book(12.2, 2, SYNCING, LIVE),
        link(12.3, ConnectionState.LIVE), gap_sign(13 * SECOND_NS, 2, Stream.TRADES, 0, Repair.NONE, 5, 9),
        gap_sign(13 * SECOND_NS, 1, Stream.TRADES, 0, Repair.REPLAY, 5, 9),
    ]  # fmt: skip
    (wound,) = wounds([Fired(10 * SECOND_NS, "rst", "KRAKEN", "")], signs, IDS)
    assert (wound.noticed_ns, wound.healed_ns) == (10_500_000_000, 12_300_000_000)
    assert (wound.noticed_by, wound.healed_by, wound.lost_trades) == ("CONNECTION WAITING PEER_CLOSED", "RECONNECT", 5)
    assert "noticed after 500 ms" in wound.text
    assert "5 trades lost" in wound.text


def test_a_silence_is_no_slow_replys_doing():
    signs = [*START, book(24, 1, LIVE, BookState.STALE, Reason.SILENT), book(26, 1, SYNCING, LIVE)]
    slow, mute = wounds([Fired(SECOND_NS, name, "KRAKEN", "") for name in ("rest_slow", "mute")], signs, IDS)
    assert (slow.noticed_ns, mute.noticed_ns) == (None, 24 * SECOND_NS)


def test_what_was_fetched_later_is_not_lost_and_what_was_told_twice_is_lost_once():
    def gap(second: float, repaired: Repair, first: int, last: int) -> Sign:
        return gap_sign(round(second * SECOND_NS), 1, Stream.TRADES, Reason.TRADE_ID_GAP, repaired, first, last)

    signs = [
        *START, book(11, 1, LIVE, CLOSED), book(12, 1, SYNCING, LIVE), gap(13, Repair.NONE, 100, 139),
        # The middle comes late and over REST; of the rest it is said once more that it stays missing.
        gap(14, Repair.LATE, 105, 105), gap(30, Repair.REST, 110, 130), gap(90, Repair.NONE, 131, 139),
    ]  # fmt: skip
    (wound,) = wounds([Fired(10 * SECOND_NS, "delay", "KRAKEN", "book BTC/USD")], signs, IDS)
    assert wound.lost_trades == 40 - 1 - 21
    (wound,) = wounds([Fired(89 * SECOND_NS, "drop", "KRAKEN", "trade BTC/USD")], signs, IDS)
    assert wound.lost_trades == 0


def test_only_what_concerns_the_instrument_counts():
    signs = [
        *START,
        book(11, 2, LIVE, BookState.MISMATCH),
        book(12, 1, LIVE, BookState.GAP),
        rung(12, 1, Rung.SNAPSHOT),
        book(13, 1, SYNCING, LIVE),
    ]
    (wound,) = wounds([Fired(10 * SECOND_NS, "truncate", "KRAKEN", "book BTC/USD")], signs, IDS)
    assert (wound.noticed_ns, wound.healed_ns, wound.healed_by) == (12 * SECOND_NS, 13 * SECOND_NS, "SNAPSHOT")


def test_what_shows_nowhere_too_late_or_by_something_else_was_not_noticed():
    signs = [*START, book(95, 1, LIVE, BookState.GAP)]
    fired = [Fired(10 * SECOND_NS, name, "KRAKEN", "book BTC/USD") for name in ("drop", "duplicate")]
    fired.append(Fired(90 * SECOND_NS, "clock_step", "KRAKEN", ""))
    assert [wound.noticed_ns for wound in wounds(fired, signs, IDS)] == [None, None, None]
    (wound,) = wounds([Fired(94 * SECOND_NS, "drop", "KRAKEN", "book BTC/USD")], signs, IDS)
    assert wound.healed_ns is None
    assert "not healed yet" in wound.text


def test_what_a_user_asked_for_is_no_trouble():
    signs = [*START, book(11, 1, LIVE, SYNCING, Reason.REQUESTED), book(12, 1, SYNCING, LIVE)]
    found = wounds([Fired(10 * SECOND_NS, "drop", "KRAKEN", "book BTC/USD")], signs, IDS)
    assert found[0].noticed_ns is None
    assert healing_text(found)[1].split() == ["drop", "0", "of", "1", "-", "-", "-", "-", "-"]


def test_the_table_keeps_its_width_and_says_what_was_never_healed():
    fired = Fired(0, "double_subscription", "KRAKEN", "")
    healed = Wound(fired, 10_000_000, "", 500_000_000, "RECONNECT", 12)
    found = [healed, Wound(fired, 20_000_000, "", None, "RESUBSCRIBE")]
    row = "double_subscription   2 of 2   10 ms   20 ms  500 ms   never   12 RECONNECT"
    assert healing_text(found, 80)[1] == row
    assert healing_text(found)[1] == f"{row} RESUBSCRIBE"
    assert healing_text([]) == []


def test_percentiles_are_values_that_occurred():
    assert [percentile([5, 1, 3], percent) for percent in (0, 1, 33, 50, 99, 100)] == [1, 1, 1, 3, 5, 5]

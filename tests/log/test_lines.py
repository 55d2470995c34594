"""Lanes that are lines of one stream, and the lane of a plain plant beside them: trades come once, holes are told."""

from pathlib import Path

import pytest
from face_market import NAMES, memory_directory, writer

import tickplant as tp
from tickplant.log import Records
from tickplant.records import Gap, Trade

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
PLAIN, LINES = "kraken", ["kraken-line1of2", "kraken-line2of2"]


def trade(number: int, at: float) -> Trade:
    at_ns = START + round(at * SECOND)
    return Trade(ts_event=at_ns, ts_recv=at_ns, ref=number, instrument_id=1, venue=1, price=1, size=1, flags=128)


def write(lane: tp.LaneWriter, *trades: Trade) -> None:
    for one in trades:
        lane.append([one], ts_recv=one.ts_recv)
        lane.commit(one.ts_recv)


def told(records: Records) -> list[object]:
    """Ids of trades, and of GAPs the first and last missing one."""
    found = []
    while (batch := records.__iter__().poll()) is not None:
        found += [(one.sequence, one.last) if isinstance(one, Gap) else one.ref for one in batch]
    return found


@pytest.mark.parametrize("order", ["arrival", "ts_recv"])
def test_a_plain_lane_beside_lines_is_one_more(order):
    """The plain plant ran first and for a while beside them."""
    with memory_directory() as name:
        path = Path(name)
        for lane, trades in {
            PLAIN: [trade(number, number / 10) for number in range(1, 8)],
            LINES[0]: [trade(number, number / 10 + 0.001) for number in range(4, 10)],
            LINES[1]: [trade(number, number / 10 + 0.002) for number in range(6, 12)],
        }.items():
            with writer(path, lane) as made:
                write(made, *trades)
        log = tp.Log.open(path / "log")

        def read(**options):
            return told(log.records(NAMES[0], schema=("trades", "gap"), order=order, **options))

        assert read() == list(range(1, 12))
        assert read(lanes=[PLAIN]) == list(range(1, 8))
        assert read(lanes=[PLAIN, LINES[1]]) == list(range(1, 12))
        # By positions: in the middle of the lanes, what was read of one is no news of another.
        assert read(start={PLAIN: 5, LINES[0]: 2, LINES[1]: 0}) == list(range(6, 12))


def test_lines_that_begin_while_a_plain_lane_is_followed_are_one_stream_with_it():
    with memory_directory() as name:
        path = Path(name)
        with writer(path, PLAIN) as plain:
            write(plain, *(trade(number, number / 10) for number in range(1, 6)))
            records = tp.Log.open(path / "log").records(NAMES[0], schema=("trades", "gap"), follow=True)
            assert told(records) == [1, 2, 3, 4, 5]
            with writer(path, LINES[0]) as line:
                write(line, *(trade(number, number / 10 + 0.001) for number in range(3, 8)))
                write(plain, trade(6, 0.6))
                records.__iter__().refresh()
                assert told(records) == [6, 7]
                assert records.position() == {PLAIN: 6, LINES[0]: 5}


def test_ids_that_no_lane_knew_to_be_missing_are_told():
    """One ended before another began, so neither has a GAP between them."""
    with memory_directory() as name:
        path = Path(name)
        with writer(path, LINES[0]) as first:
            write(first, *(trade(number, number / 10) for number in (1, 2, 3)))
        with writer(path, LINES[1]) as second:
            write(second, *(trade(number, number / 10) for number in (9, 10)))
        records = tp.Log.open(path / "log").records(NAMES[0], schema=("trades", "gap"))
        assert told(records) == [1, 2, 3, (4, 8), 9, 10]

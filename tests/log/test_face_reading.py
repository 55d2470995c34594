"""One iterator over past and present: no gap, no repetition, its memory its own, its losses told."""

import asyncio
import gc
import shutil
import subprocess
import sys
import textwrap
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from face_market import NAMES, memory_directory, writer
from tests.conftest import until

import tickplant as tp
from tickplant import clock
from tickplant.errors import LogError, LogMissing, LostRecords, UnknownInstrument
from tickplant.log.times import to_nanos
from tickplant.records import Kind, Level, Status, Trade


@pytest.fixture
def path():
    with memory_directory() as name:
        yield Path(name)


def trades(first: int, count: int, **fields) -> list[Trade]:
    return [
        Trade(**{"sequence": at, "ts_recv": 1_000 + at, "instrument_id": 1 + at % 2} | fields)
        for at in range(first, first + count)
    ]


def sequences(batches) -> list[int]:
    return [int(number) for batch in batches for number in batch.to_numpy()["sequence"]]


def test_a_view_of_the_log_keeps_its_memory(path: Path):
    lane = writer(path)
    lane.append(trades(0, 200))
    lane.append(trades(200, 100))
    lane.commit()
    lane.append(tp.Batch("trades", b"".join(map(bytes, trades(300, 4_000)))))
    lane.commit()
    batches = list(tp.Log.open(path / "log").records(schema="trades"))
    arrays = [batch.to_numpy() for batch in batches]
    copies = [array.copy() for array in arrays]
    del batches
    lane.close()
    shutil.rmtree(path)
    gc.collect()
    for array, copy in zip(arrays, copies, strict=True):
        assert (array == copy).all()
    assert np.concatenate(arrays)["sequence"].tolist() == list(range(4_300))


def test_small_batches_are_gathered_and_kinds_kept_apart(path: Path):
    with writer(path) as lane:
        for at in range(50):
            lane.append(trades(at, 1), ts_recv=1_000 + at)
            lane.append([Status(sequence=at, ts_recv=1_000 + at)], ts_recv=1_000 + at)
            lane.commit()
    log = tp.Log.open(path / "log")
    one = list(log.records(schema="trades"))
    assert len(one) == 1
    assert (one[0].first_index, one[0].next_index, one[0].lane) == (0, 99, "one")
    both = list(log.records())
    assert [batch.kind for batch in both] == [Kind.TRADE, Kind.STATUS] * 50
    assert [batch.first_index for batch in both] == list(range(100))
    assert {batch.schema for batch in log.records(schema=["trades", "status"])} == {"trades", "status"}


def test_instruments_times_and_positions_choose(path: Path):
    with writer(path) as lane:
        for at in range(0, 100, 10):
            lane.append(trades(at, 10), ts_recv=1_000 + at)
            lane.commit()
    log = tp.Log.open(path / "log")
    assert sequences(log.records(NAMES[0])) == list(range(0, 100, 2))
    assert sequences(log.records(list(NAMES))) == list(range(100))
    assert sequences(log.records(start=1_020, end=1_050)) == list(range(20, 50))
    assert sequences(log.records(start=1_025, end=1_047)) == list(range(30, 47))
    assert sequences(log.records(start={"one": 33}, end={"one": 41})) == list(range(33, 41))
    assert sequences(log.records(start="1970-01-01T00:00:00.000001090")) == list(range(90, 100))
    assert sequences(log.records(lanes=["other"])) == []
    reader = log.records(start={"one": 95})
    assert reader.position() == {"one": 95}
    assert reader.lag() == {"one": 5}
    assert sequences(reader) == list(range(95, 100))
    assert reader.position() == log.position() == {"one": 100}
    with pytest.raises(UnknownInstrument, match="BTC/USD"):
        log.records("BTC/USD")
    with pytest.raises(ValueError, match="no schema"):
        log.records(schema="mbp-2")
    with pytest.raises(ValueError, match="stands alone"):
        log.records(schema=["mbp-1", "trades"])
    with pytest.raises(ValueError, match="ISO time"):
        log.records(start="yesterday")
    with pytest.raises(ValueError, match="arrival"):
        log.records(order="sequence")
    with pytest.raises(LogError, match="beyond the lane's end"):
        log.records(start={"one": 101})
    with pytest.raises(LogMissing):
        tp.Log.open(path / "nothing")


def test_mbo_are_the_levels_of_single_orders(path: Path):
    with writer(path) as lane:
        lane.append([Level(sequence=0), Level(sequence=1, ref=77), Level(sequence=2)])
    assert sequences(tp.Log.open(path / "log").records(schema="mbo")) == [1]


def test_blobs_come_back_whole(path: Path):
    texts = [b"", b"x", b"y" * 56, b"z" * 57, bytes(range(256)) * 400]
    with writer(path) as lane:
        for text in texts:
            lane.append([Status(ref=lane.blob(text))])
    log = tp.Log.open(path / "log")
    statuses = [record for batch in log.records(schema="status") for record in batch]
    assert [log.blob("one", status.ref) for status in statuses] == texts
    assert log.blob("one", 1) is None, "a record is no blob"
    (first, *_) = log.records(schema="blob")
    with pytest.raises(TypeError, match="bytes"):
        first[0]


def test_lanes_merge_by_receive_time(path: Path):
    lanes = [writer(path, name) for name in ("a", "b", "c")]
    expected = []
    for at in range(200):
        lane = at * 7 % 3
        ts_recv = 1_000 + at // 2
        lanes[lane].append([Trade(sequence=at, ts_recv=ts_recv)], ts_recv=ts_recv)
        lanes[lane].commit(ts_recv)
        expected.append((ts_recv, lane, at))
    log = tp.Log.open(path / "log")
    for lane in lanes:
        lane.commit(2_000)
    assert sequences(log.records(order="ts_recv")) == [at for *_, at in sorted(expected)]
    assert sorted(sequences(log.records())) == list(range(200))
    following = log.records(order="ts_recv", follow=True, end=1_050)
    assert sequences(following) == [at for ts_recv, _, at in sorted(expected) if ts_recv < 1_050]
    for lane in lanes:
        lane.close()


def test_a_late_reader_is_told_what_it_lost_and_goes_on(path: Path):
    lane = writer(path, archive=False)
    lane.append(trades(0, 10))
    lane.commit()
    reader = tp.Log.open(path / "log").records(schema="trades", start={"one": 5}, follow=True)
    first = 10
    while first < 300_000:
        lane.append(tp.Batch("trades", b"".join(map(bytes, trades(first, 10_000)))))
        lane.commit()
        first += 10_000
    seen: list[int] = []
    lost = []
    while not seen or seen[-1] < first - 1:
        try:
            seen += sequences([next(iter(reader))])
        except LostRecords as error:
            lost.append((error.lane, error.first, error.last))
    assert lost, "the lane keeps 8 MiB, 300,000 records are more"
    told = [at for _, begin, end in lost for at in range(begin, end + 1)]
    assert sorted(seen + told) == list(range(5, first)), "what was given and what was told lost are everything, once"
    lane.close()


WRITER = """
    import sys, time
    import tickplant as tp
    from tickplant.records import Trade
    path, count = sys.argv[1], int(sys.argv[2])
    options = {"segment_bytes": 65536, "hot_bytes_max": 64 << 20, "sync": "none"}
    lane = tp.LaneWriter(path + "/log", "one", hot_root=path + "/hot", **options)
    for name in ("BTC/USD.KRAKEN", "ETH/USD.KRAKEN"):
        lane.assign(name)
    sys.stdout.write("ready\\n"); sys.stdout.flush()
    at = 0
    while at < count:
        size = 1 + at * 2654435761 % 97
        lane.append([Trade(sequence=at + k, instrument_id=1 + (at + k) % 2) for k in range(size)])
        lane.commit()
        at += size
        if at % 13 == 0:
            time.sleep(0.001)
    lane.append([Trade(sequence=2**40)])
    lane.close()
"""


@pytest.fixture
def writing(path: Path):
    command = [sys.executable, "-c", textwrap.dedent(WRITER), str(path), "60000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield tp.Log.open(path / "log")
        assert process.wait(60) == 0


END = 2**40


def test_past_then_live_without_gap_or_repetition(writing: tp.Log):
    seen: list[int] = []
    for batch in writing.records(schema="trades", follow=True):
        seen += sequences([batch])
        if seen[-1] == END:
            break
    assert seen == [*range(len(seen) - 1), END]


async def test_readers_of_one_loop_follow_by_async_for(writing: tp.Log):
    async def follow(**options) -> list[int]:
        seen: list[int] = []
        async for batch in writing.records(schema="trades", follow=True, **options):
            seen += sequences([batch])
            if seen[-1] >= 59_000:
                # A reader that lags may get the writer's last record with the rest.
                return [sequence for sequence in seen if sequence != END]
        raise AssertionError("the iterator ended")

    start = 500
    while writing.position()["one"] < start:  # noqa: ASYNC110 - another process writes
        await asyncio.sleep(0.001)
    whole, later, one = await asyncio.wait_for(
        asyncio.gather(follow(), follow(start={"one": start}), follow(instruments=NAMES[0])), 60
    )
    assert whole == list(range(whole[-1] + 1))
    assert later == list(range(start, later[-1] + 1))
    assert one == list(range(0, one[-1] + 1, 2))


async def test_a_sleeping_reader_wakes_and_lets_others_run(path: Path):
    lane = writer(path)
    lane.append(trades(0, 1))
    lane.commit()
    log = tp.Log.open(path / "log")
    reader = log.records(schema="trades", follow=True)
    assert sequences([await anext(reader)]) == [0]
    waiting = asyncio.create_task(anext(reader))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()
    # It is rung: found by the look of each half second, the turns would take twice as long as they may.
    async with asyncio.timeout(30):
        for at in range(1, 121):
            lane.append(trades(at, 1))
            lane.commit()
            assert sequences([await waiting]) == [at]
            waiting = asyncio.create_task(anext(reader))
            await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    lane.append(trades(121, 1))
    lane.commit()
    assert sequences([await asyncio.wait_for(anext(reader), 30)]) == [121]
    other = writer(path, "two")
    other.append(trades(9, 1))
    other.commit()
    assert sequences([await asyncio.wait_for(anext(reader), 30)]) == [9], "a lane that was made later is found"
    lane.close()
    other.close()


def test_a_reader_that_is_kept_awake_finds_a_lane_that_was_made_later(path: Path):
    lane = writer(path, "one")
    reader = iter(tp.Log.open(path / "log").records(follow=True))
    other = writer(path, "two")
    other.append(trades(0, 1))
    other.commit()
    given: list[str] = []

    def is_found() -> bool:
        lane.append(trades(len(given), 1))
        lane.commit()
        while (batch := reader.poll()) is not None:
            given.append(batch.lane)
        return "two" in given

    until(is_found)
    # By the time that has passed, not by how often it looked.
    assert len(given) < 500
    lane.close()
    other.close()


async def test_an_ended_past_ends_async_for(path: Path):
    with writer(path) as lane:
        lane.append(trades(0, 3))
    log = tp.Log.open(path / "log")
    assert sequences([batch async for batch in log.records()]) == [0, 1, 2]


@pytest.mark.parametrize(
    ("time", "nanos"),
    [
        ("1970-01-02", 86_400 * 10**9),
        ("2026-11-21T09:30:00Z", 1_795_253_400 * 10**9),
        ("2026-11-21T09:30:00", 1_795_253_400 * 10**9),
        ("2026-11-21T10:30:00.123456789+01:00", 1_795_253_400_123_456_789),
        ("2026-11-21T09:30:00.5", 1_795_253_400_500_000_000),
        (datetime(2026, 11, 21, 9, 30, 0, 7), 1_795_253_400_000_007_000),  # noqa: DTZ001 - naive is UTC
        (datetime(2026, 11, 21, 9, 30, tzinfo=UTC), 1_795_253_400 * 10**9),
        (5, 5),
    ],
)
def test_times_are_read_to_the_nanosecond(time, nanos):
    assert to_nanos(time) == nanos


@pytest.mark.parametrize("wrong", ["", "1969-12-31", "2026-13-01", -1, 2**63])
def test_times_that_are_none_are_refused(wrong):
    with pytest.raises(ValueError, match=r"ISO time"):
        to_nanos(wrong)
    with pytest.raises(TypeError):
        to_nanos(1.5)


def test_a_reader_follows_a_writer_that_starts_anew(path: Path):
    log = None
    seen: list[int] = []
    for start in range(3):
        with writer(path) as lane:
            lane.append(trades(start * 10, 10))
            lane.commit()
            if log is None:
                log = tp.Log.open(path / "log")
                reader = iter(log.records(schema="trades", follow=True))
            while len(seen) < (start + 1) * 10:
                seen += sequences([next(reader)])
    assert seen == list(range(30))


def test_a_reader_until_a_later_time_waits_for_a_lane_without_a_writer(path: Path):
    with writer(path) as lane:
        lane.append(trades(0, 10))
        lane.commit()
    end = clock.wall_ns() + 3_000_000_000
    reader = iter(tp.Log.open(path / "log").records(schema="trades", follow=True, end=end))
    seen = sequences([next(reader)])
    with writer(path) as lane:
        lane.append(trades(10, 10))
        lane.commit()
    assert seen + sequences(reader) == list(range(20))
    assert clock.wall_ns() >= end

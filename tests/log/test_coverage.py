"""The coverage ledger as users read it: painted records, pictures, and how it ends where a run ended."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from face_market import NAMES, memory_directory, writer
from hypothesis import given, settings
from hypothesis import strategies as st

import tickplant as tp
from tickplant.log.coverage import COLOURS, CoverageLedger, Interval
from tickplant.records import UNDEF_U64, Coverage, Quality, Reason, Repair, Status, Stream, Subject

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND


def line(quality: Quality, since: int, until: int | None, at: int, **fields) -> Coverage:
    """A record that is written at second `at`."""
    return Coverage(
        ts_event=START + since * SECOND,
        ts_end=UNDEF_U64 if until is None else START + until * SECOND,
        ts_recv=START + at * SECOND,
        sequence=fields.pop("first", UNDEF_U64),
        last=fields.pop("last", UNDEF_U64),
        instrument_id=1,
        stream=Stream.BOOK,
        quality=quality,
        **fields,
    )


def restart(at: int) -> Status:
    return Status(ts_recv=START + at * SECOND, subject=Subject.PLANT, reason=Reason.RESTARTED)


def write(path: str, records, lane: str = "one") -> tp.Log:
    with writer(Path(path), lane) as made:
        for record in records:
            made.append([record], ts_recv=record.ts_recv)
            made.commit(record.ts_recv)
    return tp.Log.open(Path(path) / "log")


def seconds(ledger: CoverageLedger) -> list[tuple[str, int, int]]:
    return [(one.quality.name, (one.start - START) // SECOND, (one.end - START) // SECOND) for one in ledger]


def test_later_paints_over_earlier_and_a_run_ends_before_the_next():
    with memory_directory() as path:
        log = write(
            path,
            [
                restart(0),
                line(Quality.GAP, 0, None, 0, cause=Reason.AWAITING_SNAPSHOT),
                line(Quality.GAP, 0, 2, 2, cause=Reason.AWAITING_SNAPSHOT, repaired_from=Repair.SNAPSHOT),
                line(Quality.COMPLETE, 2, None, 2),
                line(Quality.COMPLETE, 2, 60, 60, first=5, last=50),
                line(Quality.COMPLETE, 60, None, 60),
                # Noticed at 70, missing since 55.
                line(Quality.GAP, 55, None, 70, first=41, last=44, cause=Reason.SEQUENCE_GAP),
                line(
                    Quality.GAP, 55, 72, 72, first=41, last=44, cause=Reason.SEQUENCE_GAP, repaired_from=Repair.SNAPSHOT
                ),
                line(Quality.COMPLETE, 72, None, 72),
                # Killed at 80, at the latest; up again at 100, and killed again at 130.
                restart(100),
                line(Quality.GAP, 100, None, 100),
                line(Quality.GAP, 100, 101, 101),
                line(Quality.UNPROVEN, 101, None, 101),
                line(Quality.UNPROVEN, 101, 130, 130),
            ],
        )
        ledger = log.coverage(NAMES[0])
        assert seconds(ledger) == [
            ("GAP", 0, 2),
            ("COMPLETE", 2, 55),
            ("GAP", 55, 72),
            ("GAP", 100, 101),
            ("UNPROVEN", 101, 130),
        ]
        gap = ledger.intervals[2]
        assert (gap.first, gap.last, gap.cause, gap.repaired_from) == (41, 44, Reason.SEQUENCE_GAP, Repair.SNAPSHOT)
        assert log.coverage(NAMES[1]).intervals == ()
        clipped = log.coverage(NAMES[0], START + 50 * SECOND, START + 60 * SECOND)
        assert seconds(clipped) == [("COMPLETE", 50, 55), ("GAP", 55, 60)]
        assert clipped.nanoseconds(Stream.BOOK)[Quality.GAP] == 5 * SECOND


def test_of_two_lanes_the_better_one_counts():
    with memory_directory() as path:
        write(path, [line(Quality.COMPLETE, 0, 10, 10), line(Quality.GAP, 10, 20, 20), line(Quality.OFF, 20, None, 20)])
        log = write(path, [line(Quality.GAP, 5, 12, 12), line(Quality.UNPROVEN, 12, 25, 25)], "two")
        found = [
            (*row, one.lane) for row, one in zip(seconds(log.coverage(NAMES[0])), log.coverage(NAMES[0]), strict=True)
        ]
        assert found == [("COMPLETE", 0, 10, "one"), ("GAP", 10, 12, "one"), ("UNPROVEN", 12, 25, "two")]


def test_what_a_line_lacked_and_another_had_is_a_gap_avoided():
    with memory_directory() as path:
        write(path, [line(Quality.COMPLETE, 0, 30, 30)], "kraken-line1of2")
        away = [line(Quality.COMPLETE, 2, 10, 10), line(Quality.GAP, 12, 15, 15), line(Quality.COMPLETE, 15, 20, 20)]
        log = write(path, away, "kraken-line2of2")
        # From its first word to its last.
        assert log.coverage(NAMES[0]).gap_avoided_ns == {Stream.BOOK: 5 * SECOND}
        assert log.coverage(NAMES[0], START, START + 13 * SECOND).as_dict()["gap_avoided_seconds"] == {"BOOK": 3.0}
        assert write(path, away, "binance").coverage(NAMES[0]).gap_avoided_ns == {Stream.BOOK: 5 * SECOND}


intervals = st.lists(st.tuples(st.sampled_from(list(Quality)[:5]), st.integers(1, 50), st.integers(0, 20)), max_size=20)


def ledger_of(pieces) -> CoverageLedger:
    made, at = [], START
    for quality, length, pause in pieces:
        made.append(Interval(Stream.BOOK, quality, at, at + length, None, None, Reason.NONE, Repair.NONE, 0, "one"))
        at += length + pause
    return CoverageLedger(NAMES[0], START, max(at, START + 1), tuple(made))


@given(intervals, st.integers(1, 120))
@settings(max_examples=200)
def test_a_column_shows_the_worst_that_it_has(pieces, width):
    ledger = ledger_of(pieces)
    worst_first = [Quality.GAP, Quality.STALE, Quality.UNPROVEN, Quality.COMPLETE, Quality.SHADOW_CHECKED]
    seen: list[set[Quality]] = [set() for _ in range(width)]
    for one in ledger:
        for moment in range(one.start, one.end):
            seen[(moment - ledger.start) * width // (ledger.end - ledger.start)].add(one.quality)
    columns = ledger.columns(Stream.BOOK, width)
    if ledger.end - ledger.start >= width:
        assert columns == [next((q for q in worst_first if q in column), Quality.OFF) for column in seen]
    assert sum(ledger.nanoseconds(Stream.BOOK).values()) == ledger.end - ledger.start
    assert all(len(text) <= max(width, 24) for text in ledger.timeline(width).splitlines())


def pixels(path: Path) -> np.ndarray:
    """A PNG read by the letter of its standard: every chunk's checksum, filter 0 on each line."""
    data, at, body, size = path.read_bytes(), 8, b"", (0, 0)
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        chunk = data[at + 8 : at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length : at + 12 + length])[0] == zlib.crc32(kind + chunk)
        if kind == b"IHDR":
            size = struct.unpack(">II", chunk[:8])
        body += chunk if kind == b"IDAT" else b""
        at += 12 + length
    lines = np.frombuffer(zlib.decompress(body), np.uint8).reshape(size[1], 1 + 3 * size[0])
    assert not lines[:, 0].any()
    return lines[:, 1:].reshape(size[1], size[0], 3)


def test_the_picture_is_a_png_whose_bar_has_the_lengths(tmp_path):
    ledger = ledger_of([(Quality.COMPLETE, 300, 0), (Quality.GAP, 100, 0), (Quality.SHADOW_CHECKED, 600, 0)])
    ledger.png(tmp_path / "picture.png", width=640)
    bar = pixels(tmp_path / "picture.png")[60, 120:620]
    for quality, length in ((Quality.COMPLETE, 150), (Quality.GAP, 50), (Quality.SHADOW_CHECKED, 300)):
        assert int((bar == COLOURS[quality]).all(axis=1).sum()) == length


def test_a_time_that_nobody_knows_is_an_error():
    with memory_directory() as path:
        log = write(path, [restart(0)])
        with pytest.raises(ValueError, match="no ISO time"):
            log.coverage(NAMES[0], "yesterday")
        with pytest.raises(tp.errors.UnknownInstrument):
            log.coverage("NOBODY.KRAKEN")

"""The summary: what is true of the whole, beside what the plant counted; and tables on terminals of any width."""

import pytest

from tickplant.cli.common import rows_text, wrapped
from tickplant.cli.summary import COLUMNS, summary_text, with_totals

ROW = {
    "instrument": "BTC/USD.KRAKEN", "lane": "kraken", "state": "LIVE", "messages": 5, "records": 40, "trades": 2,
    "checksums_passed": 4, "checksums_failed": 0, "checksums_absent": 1, "gaps": 0, "resyncs": 0,
}  # fmt: skip

TABLE = [
    {"instrument": "BTC/USD.KRAKEN", "messages": 288, "proof": ["checksum", "simulator"]},
    {"instrument": "ETH/USD.KRAKEN", "messages": 7, "proof": []},
]


def parsed(frames: int, tolerant: int) -> dict[str, int]:
    return {"frames_decoded": frames, "tolerant_reads": tolerant}


def test_totals():
    lanes = {
        "a": {"latency_p50_ns": 40_000, "latency_p99_ns": 90_000, "latency_p999_ns": None, "session": parsed(9, 1)},
        "b": {"latency_p50_ns": 60_000, "latency_p99_ns": 80_000, "latency_p999_ns": None, "session": parsed(1000, 2)},
    }
    summary = with_totals({"instruments": [ROW, ROW], "lanes": lanes}, 2.0)
    assert (summary["records"], summary["records_per_second"]) == (80, 40)
    assert summary["latency_ns"] == {"p50": 60_000, "p99": 90_000, "p999": None}
    assert summary["memory_peak_mb"] >= summary["memory_anonymous_mb"] > 0
    assert tuple(summary["instruments"][0])[: len(COLUMNS)] == COLUMNS
    assert (summary["frames_decoded"], summary["tolerant_reads"]) == (1009, 3)
    text = summary_text(summary)
    assert "tolerant parser 3 of 1,009 messages" in text
    assert "80 records in 2.0 s (40/s)" in text
    assert "wire to log p50 60 us  p99 90 us" in text
    assert "p999" not in text


def test_nothing_taken_yet():
    summary = with_totals({"instruments": []}, 0)
    assert summary["records_per_second"] == 0
    assert "0 records" in summary_text(summary)


def test_a_pipe_has_no_width():
    assert rows_text(TABLE).splitlines() == [
        "instrument      messages  proof",
        "BTC/USD.KRAKEN  288       checksum, simulator",
        "ETH/USD.KRAKEN  7",
    ]
    assert wrapped("word " * 100) == "word " * 100
    assert rows_text([]) == ""


@pytest.mark.parametrize("width", range(20, 60))
def test_a_terminal_of_any_width_shows_everything(width):
    long = [{**row, "what to do": "start chrony or ntpd: " * 3} for row in TABLE]
    for rows in (TABLE, long):
        text = rows_text(rows, width)
        assert max(map(len, text.splitlines())) <= width
        for word in ("BTC/USD.KRAKEN", "288", "checksum,", "simulator", "ETH/USD.KRAKEN", "messages", "proof"):
            assert word in text.split()
        assert text.split().count("chrony") == (6 if rows is long else 0)


def test_the_last_column_is_wrapped_before_the_table_is_given_up():
    rows = [{"check": "clock", "what to do": "start chrony or ntpd, and look again"}]
    assert rows_text(rows, 30).splitlines() == [
        "check  what to do",
        "clock  start chrony or ntpd,",
        "       and look again",
    ]
    assert rows_text(rows, 26).splitlines() == ["clock  what to do start", "  chrony or ntpd, and look", "  again"]

"""The summary: what is true of the whole, beside what the plant counted."""

from tickplant.cli.summary import COLUMNS, summary_text, with_totals

ROW = {
    "instrument": "BTC/USD.KRAKEN", "lane": "kraken", "state": "LIVE", "messages": 5, "records": 40, "trades": 2,
    "checksums_passed": 4, "checksums_failed": 0, "checksums_absent": 1, "gaps": 0, "resyncs": 0,
}  # fmt: skip


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

"""The live view fits whatever width and height it is given, and shows what it was told."""

import numpy as np
import pytest

from tickplant._native import Batch, Status, Trade
from tickplant.cli.live import change_text
from tickplant.cli.view import View, clock_text, compact_line, duration_text, ladder_lines
from tickplant.records import BookState, ConnectionState, Reason, Side, Subject


class Rows(list):
    """A batch of wide rows as the view reads it."""

    def to_numpy(self):
        return np.array([(row.instrument_id,) for row in self], dtype=[("instrument_id", "<u4")])


class Row:
    def __init__(self, number, instrument, price, state=BookState.LIVE):
        self.instrument_id, self.instrument, self.state = number, instrument, state
        self.ts_event, self.ts_recv = 1_000_000_000, 1_000_800_000
        self.bids = [(f"{price - rank}.50", f"{rank + 1}.00000000", 1) for rank in range(10)]
        self.asks = [(f"{price + rank + 1}.50", "0.25", 1) for rank in range(7)]


def summary(**messages):
    rows = [{"instrument": name, "messages": count, "state": "LIVE"} for name, count in messages.items()]
    return {"instruments": rows, "latency_ns": {"p50": 41_000, "p99": None}}


@pytest.fixture
def view():
    view = View(["A", "B"])
    view.take_books(Rows([Row(1, "A", 50), Row(2, "B", 900), Row(1, "A", 61234)]))
    trades = [
        Trade(price=611, price_scale=1, size=5, size_scale=1, side=Side.BID, ts_recv=n, instrument_id=1)
        for n in range(9)
    ]
    view.take_trades(Batch.from_records(trades, instruments=[(1, "A")]))
    view.take_summary(summary(A=100, B=0), 0)
    view.take_summary(summary(A=300, B=50), 2_000_000_000)
    return view


@pytest.mark.parametrize("width", [20, 40, 60, 61, 117, 118, 250])
@pytest.mark.parametrize("height", [1, 2, 5, 16, 24, 60])
def test_it_fits(view, width, height):
    lines = view.render(width, height).plain.split("\n")
    assert len(lines) <= height
    assert max(len(line) for line in lines) <= width


def test_it_shows_the_last_book_of_each_instrument_its_trades_rate_and_latency(view):
    shown = view.render(60, 40).plain
    assert "61234.50 │ 61235.50 0.25" in shown
    assert " 900.50 │ 901.50 " in shown
    assert " 50.50" not in shown
    assert "A  LIVE  100 msg/s  800 us" in shown
    assert shown.count("buy   0.5 @ 61.1") == 5
    assert "wire to log p50 41 us" in view.render(100, 40).plain


def test_wide_terminals_show_panels_side_by_side_and_low_ones_a_line_each(view):
    assert any("A  LIVE" in line and "B  LIVE" in line for line in view.render(120, 40).plain.split("\n"))
    low = view.render(60, 8).plain.split("\n")
    assert [line.split()[0] for line in low] == ["tickplant", "A", "B"]


def test_a_pipe_gets_plain_lines(view):
    first, second = view.plain_lines()
    assert "1.00 @ 61234.50 | 0.25 @ 61235.50" in first
    assert "\x1b" not in first + second


def test_the_longest_bar_belongs_to_the_largest_size():
    lines = ladder_lines([("10", "4", 1), ("9", "2", 1)], [("11", "1", 1)], 3, 43)
    lengths = [sum(span.end - span.start for span in line.spans if "dark_green" in str(span.style)) for line in lines]
    assert lengths == [20, 10, 0]
    assert all(len(line) <= 43 for line in lines)


def test_what_is_wrong_stands_at_the_foot_and_leaves_room(view):
    view.notices["kraken 0"] = "kraken connection 0 WAITING  CONNECT_FAILED: refused; next try at 09:30:00.000"
    for height in (5, 24):
        lines = view.render(60, height).plain.split("\n")
        assert len(lines) <= height
        assert lines[-2:] == ["kraken connection 0 WAITING  CONNECT_FAILED: refused; next", "try at 09:30:00.000"]


def test_an_empty_view_and_an_unknown_book():
    assert "0 of 0 live" in View([]).render(80, 24).plain
    assert " - | - " in compact_line(View(["X"]).panels["X"], 80, 10).plain


def test_durations_and_times():
    texts = [duration_text(value) for value in (850, 41_000, 1_234_567, 3_400_000_000, -2_000_000)]
    assert texts == ["850 ns", "41 us", "1.2 ms", "3.4 s", "-2.0 ms"]
    assert clock_text(1_763_717_400_123_456_789) == "09:30:00.123"


def test_it_shows_how_redundant_lines_do(view):
    assert "line 1" not in view.render(100, 40).plain
    score = {"firsts": 60, "copies": 20, "late_ns": 30_000_000, "holes": 2, "fills": 0, "doubted": 0}
    other = {"firsts": 20, "copies": 0, "late_ns": 0, "holes": 0, "fills": 2, "doubted": 0}
    two, kept = [{"state": "LIVE"}, {"state": "WAITING"}], [{"state": "LIVE"}, {"state": "IDLE"}]
    lanes = {
        "kraken": {"lines": [score, other], "connections": two},
        "binance": {"lines": [score, dict.fromkeys(score, 0)], "connections": kept},
        "coinbase": {"lines": [], "connections": two},
    }
    view.take_summary(summary(A=1) | {"lanes": lanes}, 3_000_000_000)
    text = "kraken: line 1 75% first, copies 1.5 ms behind, 2 holes; line 2 25% first, 2 fills"
    assert text in view.render(100, 40).plain
    assert view.plain_lines()[-1] == text


def test_a_change_is_told_of_whom_it_is():
    live = Status(
        subject=Subject.CONNECTION, connection=1, current=ConnectionState.LIVE, reason=Reason.RECOVERED, ts_recv=1
    )
    begun = Status(subject=Subject.PLANT, connection=2**32 - 1, current=0, reason=Reason.RESTARTED, ts_recv=1)
    assert change_text(live, "kraken", "").split()[1:] == [
        "connection",
        "kraken",
        "connection",
        "1",
        "LIVE",
        "RECOVERED",
    ]
    assert change_text(begun, "kraken-line2of2", "").split()[1:] == ["plant", "kraken-line2of2", "RESTARTED"]
    assert change_text(begun, "kraken", "hello").endswith("RESTARTED: hello")

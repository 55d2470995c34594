"""The live view: for each instrument a ladder with depth bars, its last trades, state, rate and latency.

Pure: a `View` takes batches and summaries and renders itself for a width and a height that it is given each time, so a
resize needs no event. Where the output is no terminal, `plain_lines` gives the same facts as text.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from textwrap import wrap
from typing import Any

from rich.text import Text

Level = tuple[str, str, int]
"""Price and size as on the wire, and the number of orders."""

PANEL_COLUMNS = 50
"""A ladder is readable from here on; a wider terminal shows several side by side."""
PANEL_LINES_LEAST = 7
LEVELS_MOST = 10
TRADES_KEPT = 5
STATE_STYLES = {"LIVE": "bold green", "SYNCING": "yellow", "STALE": "yellow", "GAP": "bold red", "MISMATCH": "bold red"}


@dataclass
class Panel:
    """What is shown of one instrument."""

    instrument: str
    bids: Sequence[Level] = ()
    asks: Sequence[Level] = ()
    trades: deque[str] = field(default_factory=lambda: deque(maxlen=TRADES_KEPT))
    state: str = "SYNCING"
    messages: int = 0
    rate: float = 0.0
    """Messages a second since the summary before."""
    latency_ns: int | None = None
    """From the venue's stamp to ours; clocks that differ show here, below zero too."""

    @property
    def facts(self) -> str:
        latency = "" if self.latency_ns is None else f"  {duration_text(self.latency_ns)}"
        return f"{self.rate:,.0f} msg/s{latency}"


class View:
    """The panels of a plant, in the order in which their instruments were named or came."""

    def __init__(self, instruments: Iterable[str]) -> None:
        self.panels = {name: Panel(name) for name in instruments}
        self.latency = ""
        self.notices: dict[str, str] = {}
        """What is wrong now, by whom it concerns; shown at the foot."""
        self.lines: list[str] = []
        """How redundant lines do, a text a lane; shown at the foot."""
        self._taken_at: int | None = None

    def take_books(self, batch: Any) -> None:
        """Takes `mbp-10` rows. Only the last of each instrument is looked at, whatever the batch holds."""
        for row in _last_rows(batch):
            panel = self._panel(row.instrument)
            panel.bids, panel.asks = _short_levels(row.bids), _short_levels(row.asks)
            panel.state = row.state.name
            if 0 < row.ts_event < row.ts_recv + 3_600_000_000_000:
                panel.latency_ns = row.ts_recv - row.ts_event

    def take_trades(self, batch: Any) -> None:
        """Takes `trades` records; of a large batch only the end can be seen."""
        for trade in batch[-TRADES_KEPT * max(1, len(self.panels)) :]:
            side = {"BID": "buy ", "ASK": "sell"}.get(trade.side.name, "    ")
            size, price = short(trade.size_text or ""), short(trade.price_text or "")
            moment = f"{clock_text(trade.ts_recv)}  {side}  {size} @ {price}"
            self._panel(trade.instrument).trades.append(moment)

    def take_summary(self, summary: Mapping[str, Any], now_ns: int) -> None:
        """Takes counters and states; `now_ns` is of a clock that never goes back."""
        passed = (now_ns - self._taken_at) / 1e9 if self._taken_at is not None else 0.0
        self._taken_at = now_ns
        for row in summary["instruments"]:
            panel = self._panel(row["instrument"])
            panel.rate = max(0.0, (row["messages"] - panel.messages) / passed) if passed else 0.0
            panel.messages, panel.state = row["messages"], row["state"]
        self.latency = latency_text(summary.get("latency_ns") or {})
        self.lines = line_texts(summary)

    def render(self, width: int, height: int) -> Text:
        """The whole view as lines that fit: no line is wider, and there are no more of them than the height."""
        panels = list(self.panels.values())
        columns = max(1, min(len(panels), width // PANEL_COLUMNS))
        rows = -(-len(panels) // columns) if panels else 1
        lines_each = (height - 2) // rows
        body: list[Text]
        if lines_each >= PANEL_LINES_LEAST:
            blocks = [panel_lines(panel, width // columns - 1, lines_each) for panel in panels]
            groups = [blocks[start : start + columns] for start in range(0, len(blocks), columns)]
            body = [_beside(parts, width // columns) for group in groups for parts in zip_longest(*group)]
        else:
            longest = max(map(len, self.panels), default=0)
            body = [compact_line(panel, width, longest) for panel in panels]
        notices = [Text(line, style="yellow") for notice in self.notices.values() for line in wrap(notice, width)]
        scores = [Text(line, style="dim") for text in self.lines for line in wrap(text, width)]
        foot = [*notices, *scores][: max(0, height - 3)]
        lines = [self._header(width), *body[: max(0, height - 2 - len(foot))], *foot][: max(1, height - 1)]
        for line in lines:
            line.truncate(width)
        return Text("\n", no_wrap=True, end="").join(lines)

    def plain_lines(self) -> list[str]:
        """A line an instrument, for pipes, and one a lane of redundant lines."""
        longest = max(map(len, self.panels), default=0)
        return [compact_line(panel, 200, longest).plain.rstrip() for panel in self.panels.values()] + self.lines

    def _header(self, width: int) -> Text:
        live = sum(panel.state == "LIVE" for panel in self.panels.values())
        rate = sum(panel.rate for panel in self.panels.values())
        text = Text("tickplant", style="bold")
        text.append(f"  {live} of {len(self.panels)} live  {rate:,.0f} msg/s", style="default not bold")
        if self.latency and width >= 70:
            text.append(f"  wire to log {self.latency}", style="not bold")
        text.append("  Ctrl-C ends", style="dim not bold")
        return text

    def _panel(self, name: str) -> Panel:
        return self.panels.setdefault(name, Panel(name))


def panel_lines(panel: Panel, width: int, height: int) -> list[Text]:
    """One instrument as exactly `height` lines of at most `width` columns: head, ladder, trades."""
    head = Text(panel.instrument, style="bold")
    head.append(f"  {panel.state}", style=STATE_STYLES.get(panel.state, "dim"))
    head.append(f"  {panel.facts}", style="dim not bold")
    trades = [Text(f"  {moment}", style="cyan") for moment in reversed(panel.trades)]
    levels = max(1, min(LEVELS_MOST, height - 2 - min(len(trades), max(0, height - 6), TRADES_KEPT)))
    lines = [head, *ladder_lines(panel.bids[:levels], panel.asks[:levels], levels, width)]
    lines += trades[: max(0, height - len(lines) - 1)]
    lines += [Text("")] * (height - len(lines))
    for line in lines:
        line.truncate(width)
    return lines


def ladder_lines(bids: Sequence[Level], asks: Sequence[Level], levels: int, width: int) -> list[Text]:
    """Bids to the left, asks to the right, best first; the bar behind a size is its share of the largest."""
    half = (width - 3) // 2
    largest = max((float(size) for _, size, _ in (*bids, *asks)), default=0.0) or 1.0
    lines = []
    for bid, ask in zip_longest(bids, asks):
        left = _side(bid, half, largest, "on dark_green", mirrored=True)
        lines.append(Text.assemble(left, " │ ", _side(ask, half, largest, "on dark_red", mirrored=False)))
    empty = Text(" " * half + " │", style="dim")
    return lines + [empty.copy() for _ in range(levels - len(lines))]


def _side(level: Level | None, width: int, largest: float, bar: str, *, mirrored: bool) -> Text:
    """One level in `width` columns: the price at the middle, the size outside, its bar growing outwards."""
    if level is None:
        return Text(" " * width)
    price, size, _ = level
    room = max(0, width - len(price) - 1)
    shown = size if len(size) <= room else size[: max(0, room - 1)] + "…" * (room > 0)
    length = round(width * float(size) / largest)
    if mirrored:
        text = Text(f"{shown:>{room}} {price}"[-width:])
        text.stylize(bar, width - length, width)
    else:
        text = Text(f"{price} {shown:<{room}}"[:width])
        text.stylize(bar, 0, length)
    return text


def compact_line(panel: Panel, width: int, name_width: int) -> Text:
    """One instrument in one line: name, state, best bid and ask, rate and latency."""
    bid = f"{panel.bids[0][1]} @ {panel.bids[0][0]}" if panel.bids else "-"
    ask = f"{panel.asks[0][1]} @ {panel.asks[0][0]}" if panel.asks else "-"
    facts = panel.facts
    if width < 80:
        bid, ask = bid.rpartition(" ")[2], ask.rpartition(" ")[2]
        facts = f"{panel.rate:,.0f}/s"
    line = Text(f"{panel.instrument:<{name_width}} ")
    line.append(f"{panel.state:<8}", style=STATE_STYLES.get(panel.state, "dim"))
    line.append(f" {bid} | {ask}  {facts}")
    line.truncate(width)
    return line


def _beside(parts: Sequence[Text | None], column: int) -> Text:
    line = Text()
    for part in parts:
        cell = part.copy() if part is not None else Text("")
        cell.truncate(column, pad=True)
        line.append_text(cell)
    line.rstrip()
    return line


def _last_rows(batch: Any) -> Iterable[Any]:
    """The last row of each instrument in a batch, found from its end."""
    ids = batch.to_numpy()["instrument_id"]
    seen: set[int] = set()
    for index in range(len(ids) - 1, -1, -1):
        if int(ids[index]) not in seen:
            seen.add(int(ids[index]))
            yield batch[index]


def _short_levels(levels: Sequence[Level]) -> list[Level]:
    return [(short(price), short(size), count) for price, size, count in levels]


def short(number: str) -> str:
    """A number without the zeros that a venue pads it with; two decimals stay. For the eye only."""
    whole, point, decimals = number.partition(".")
    return f"{whole}.{decimals.rstrip('0'):0<{min(2, len(decimals))}}" if point else number


def latency_text(latency: Mapping[str, int | None]) -> str:
    """`p50 41 us  p99 117 us` of quantiles in ns; empty where none were measured."""
    return "  ".join(f"{name} {duration_text(value)}" for name, value in latency.items() if value is not None)


def line_texts(summary: Mapping[str, Any]) -> list[str]:
    """How the redundant lines of each lane do, for people: what part of all each brought first, how far its copies were
    behind on the average, and the holes in what it brought. Nothing of lanes that have one line, and of a line that is
    only kept for when another one's connection gets too old."""
    texts = []
    for name, lane in summary.get("lanes", {}).items():
        scores, states = lane.get("lines", []), [row["state"] for row in lane.get("connections", [])]
        firsts, routes = sum(score["firsts"] for score in scores), len(states) // max(len(scores), 1)
        parts = []
        for number, score in enumerate(scores, 1):
            if {*states[(number - 1) * routes : number * routes]} <= {"IDLE"} and not any(score.values()):
                continue
            facts = [f"line {number} {100 * score['firsts'] // max(firsts, 1)}% first"]
            if score["copies"]:
                facts.append(f"copies {duration_text(score['late_ns'] // score['copies'])} behind")
            facts += [f"{score[kind]:,} {kind}" for kind in ("holes", "fills", "doubted") if score[kind]]
            parts.append(", ".join(facts))
        if len(parts) > 1:
            texts.append(f"{name}: {'; '.join(parts)}")
    return texts


def duration_text(nanoseconds: int) -> str:
    """A duration with two or three digits that matter: `850 ns`, `41 us`, `1.2 ms`, `3.4 s`."""
    size = abs(nanoseconds)
    for unit, factor in (("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000)):
        if size >= factor:
            value = nanoseconds / factor
            return f"{value:.1f} {unit}" if abs(value) < 10 else f"{value:.0f} {unit}"
    return f"{nanoseconds} ns"


def clock_text(time_ns: int) -> str:
    """The time of day, UTC, with milliseconds: `09:30:00.123`."""
    seconds, rest = divmod(time_ns, 1_000_000_000)
    return f"{seconds // 3600 % 24:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{rest // 1_000_000:03d}"

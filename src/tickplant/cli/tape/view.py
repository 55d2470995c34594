"""The router's live view: the rate of the last minute and a bar for each pipe."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any

from rich.console import Group
from rich.text import Text

BLOCKS = " ▁▂▃▄▅▆▇█"
CELL_LEAST = 27
HEAD_LINES = 4
NOTICE_LINES = 3
_UNITS = ("", "k", "M", "G", "T")


def number(value: float) -> str:
    """A number in at most five places: 999, 12.3k, 4.56M."""
    unit = 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    places = 0 if unit == 0 or value >= 99.95 else 1 if value >= 9.995 else 2
    return f"{value:.{places}f}{_UNITS[unit]}"


def bar(share: float, width: int) -> str:
    """A bar of `width` places that is filled to `share` of 1, in eighths of a place."""
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    whole, rest = divmod(eighths, 8)
    return ("█" * whole + (" ▏▎▍▌▋▊▉"[rest] if rest else "")).ljust(width)


def sparkline(rates: list[float], width: int) -> str:
    """The last rates, one place each, as high as they are; the newest on the right."""
    shown = rates[-width:]
    top = max(shown, default=0.0)
    heights = [0 if rate <= 0 else max(1, math.ceil(rate / top * 8)) for rate in shown]
    return "".join(BLOCKS[height] for height in heights).rjust(width)


class TapeView:
    """Takes accounts of the router and draws them. Times are of the monotonic clock, in ns."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._rates: deque[float] = deque(maxlen=400)
        self._pipe_rates: list[float] = []
        self._last: tuple[int, Mapping[str, Any]] | None = None
        self.notices: list[str] = []

    def take(self, report: Mapping[str, Any], now_ns: int) -> None:
        """A further account."""
        if self._last is not None:
            then, before = self._last
            seconds = max(now_ns - then, 1) / 1e9
            self._rates.append((report["trades"] - before["trades"]) / seconds)
            pairs = zip(report["pipes"], before["pipes"], strict=False)
            self._pipe_rates = [(new["messages"] - old["messages"]) / seconds for new, old in pairs]
        if report["pipes"]:
            self._last = now_ns, report

    def render(self, width: int, height: int) -> Group:
        """The picture for a terminal of so many columns and lines."""
        if self._last is None:
            return Group(Text(f"{self._title}: starting", no_wrap=True))
        report = self._last[1]
        lines = [*self._head(report, width), *self._pipes(report, width, height - HEAD_LINES - NOTICE_LINES - 1)]
        lines += [
            Text(notice, style="yellow", no_wrap=True, overflow="ellipsis") for notice in self.notices[-NOTICE_LINES:]
        ]
        return Group(*lines)

    def _head(self, report: Mapping[str, Any], width: int) -> list[Text]:
        now = self._rates[-1] if self._rates else 0.0
        top = max(self._rates, default=0.0)
        state = Text(" connected", "green") if report["connected"] else Text(" no connection", "bold red")
        title = Text(self._title, "bold", no_wrap=True, overflow="ellipsis")
        title.truncate(max(width - len(state), 1), overflow="ellipsis")
        pipes = report["pipes"]
        facts = [
            f"{number(report['trades'])} trades",
            f"{number(report['received_bytes'])}B",
            f"max/mean {report['max_over_mean']:.2f}",
            f"queued {number(sum(pipe['queued_bytes'] for pipe in pipes))}B",
        ]
        facts += [
            f"{word} {number(total)}"
            for word, total in (
                ("dropped", sum(pipe["dropped"] for pipe in pipes)),
                ("spilled B", sum(pipe["spilled_bytes"] for pipe in pipes)),
                ("restarts", sum(pipe["restarts"] for pipe in pipes)),
                ("given again", sum(pipe["redelivered"] for pipe in pipes)),
            )
            if total
        ]
        rate = f"{number(now):>6}/s  top {number(top):>5}/s "
        line = Text(sparkline(list(self._rates), max(width - len(rate), 8)), "cyan") + Text(rate.rjust(0), "bold")
        return [title + state, line, Text("  ".join(facts), no_wrap=True, overflow="ellipsis"), Text("")]

    def _pipes(self, report: Mapping[str, Any], width: int, room: int) -> list[Text]:
        """A cell for each pipe, in as many columns as there is room for, first down and then right."""
        pipes = report["pipes"]
        columns = min(max(1, math.ceil(len(pipes) / max(room, 1))), max(width // CELL_LEAST, 1))
        rows = math.ceil(len(pipes) / columns)
        cell = width // columns
        top = max(self._pipe_rates, default=0.0)
        lines = []
        for row in range(min(rows, max(room, 1))):
            line = Text(no_wrap=True)
            for at in range(row, len(pipes), rows):
                line += self._cell(at, pipes[at], top, cell)
            lines.append(line)
        return lines

    def _cell(self, at: int, pipe: Mapping[str, Any], top: float, width: int) -> Text:
        rate = self._pipe_rates[at] if at < len(self._pipe_rates) else 0.0
        word, style = _state(pipe)
        waiting = pipe["queued_bytes"] + pipe["unread_bytes"]
        behind = word or (f"{number(waiting)}B" if waiting else "")
        tail = f" {number(rate):>5}/s {behind:>7} "
        length = max(width - 4 - len(tail), 1)
        filled = bar(rate / top if top else 0.0, length)
        return Text(f"{at:>3} ") + Text(filled, style or "blue") + Text(tail, style)


def _state(pipe: Mapping[str, Any]) -> tuple[str, str]:
    """A word for a pipe that is not well, and its colour."""
    if pipe["broken"]:
        return "broken", "red"
    if pipe["down"]:
        return "down", "red"
    if pipe["stalled"]:
        return "STALLED", "bold red"
    return "", "yellow" if pipe["queued_bytes"] else ""

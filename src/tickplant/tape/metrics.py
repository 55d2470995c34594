"""The router's account as Prometheus reads it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tickplant.telemetry import Family, page

Report = Mapping[str, Any]

_TOTALS = {
    "trades": "Trades that came.",
    "others": "Messages with a symbol that are no trades.",
    "dropped_others": "Messages that are no trades and were not routed.",
    "nameless": "Objects without a symbol, or no JSON.",
    "odd_bytes": "Bytes of frames that belong to no object.",
    "received_bytes": "Decrypted bytes that were received.",
    "connections": "Connections that stood.",
}
_PIPE_TOTALS = {
    "messages": "Messages that are the pipe's.",
    "written_bytes": "Bytes that the pipe took.",
    "spilled_bytes": "Bytes that went over the disk.",
    "dropped": "Messages that were dropped.",
    "redelivered": "Messages that were given again after a worker's death.",
    "restarts": "Workers that followed one that died.",
}
_PIPE_GAUGES = {
    "queued_bytes": "Bytes that wait in the router.",
    "unread_bytes": "Bytes in the pipe that nobody has read yet.",
    "failures": "Deaths of workers in a row, each before it had read much.",
    "stalled": "1: nobody drains the pipe.",
    "down": "1: the worker is gone and another is to come.",
    "broken": "1: nobody will read the pipe any more.",
}


def exposition(report: Report) -> str:
    """The account (`TapeRouter.report()`) in Prometheus' text format."""
    return page(_families(report))


def troubles(report: Report) -> list[str]:
    """Why the router is not ready: it has no connection, or pipes that nobody reads."""
    found = [] if report["connected"] else ["connection"]
    for number, pipe in enumerate(report["pipes"]):
        found.extend(f"pipe {number} is {word}" for word in ("stalled", "down", "broken") if pipe[word])
    return found


def _families(report: Report) -> Iterable[Family]:
    for name, text in _TOTALS.items():
        yield Family(f"tickplant_tape_{name}_total", "counter", text, [("", (), report[name])])
    yield Family("tickplant_tape_connected", "gauge", "1: the connection stands.", [("", (), int(report["connected"]))])
    yield Family(
        "tickplant_tape_max_over_mean",
        "gauge",
        "Messages of the busiest pipe over the mean.",
        [("", (), report["max_over_mean"])],
    )
    for kind, names in (("counter", _PIPE_TOTALS), ("gauge", _PIPE_GAUGES)):
        for name, text in names.items():
            ending = "_total" if kind == "counter" else ""
            samples = [("", (("pipe", str(at)),), int(pipe[name])) for at, pipe in enumerate(report["pipes"])]
            yield Family(f"tickplant_tape_pipe_{name}{ending}", kind, text, list(samples))

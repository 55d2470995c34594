"""Logs on this machine: the one that was named, and the memory files of those that are gone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tickplant import _native
from tickplant.cli.doctor.finding import Finding, mebibytes
from tickplant.errors import TickplantError
from tickplant.log import Log

_OWNERS = {
    "running": ("in use by a running plant", ""),
    "stopped": ("its plant ended without closing", "nothing: the next start takes them over"),
    "gone": ("of a log that is gone", "tickplant doctor --clean removes them"),
    "elsewhere": ("of another container", "look at them from there"),
    "unknown": ("of an owner that cannot be told", "where no plant has them, remove them by hand"),
}


def look_at_log(path: Path) -> Iterator[Finding]:
    """What the log says of itself; nothing where there is none yet."""
    if not (path / "log.json").exists():
        return
    try:
        log = Log.open(path)
        records = sum(log.position().values())
        lanes = log.lanes()
    except TickplantError as error:
        yield Finding("log", f"{path}: {error.what}", False, error.hint)
        return
    facts = {"path": str(path), "lanes": lanes, "instruments": len(log.instruments()), "records": records}
    yield Finding(
        "log",
        f"{path}: {len(lanes)} lanes, {facts['instruments']} instruments, {records} records",
        facts=facts,
    )


def leftovers(root: Path) -> Iterator[Finding]:
    """The memory files below a hot root, a finding for each log. They are no fault: a plant runs beside them."""
    for found in _hot_dirs(root):
        what, advice = _OWNERS[found["owner"]]
        where = f" ({found['log']})" if found["log"] else ""
        text = f"{found['path']}: {mebibytes(found['bytes'])}, {what}{where}"
        yield Finding("memory files of", text, advice=advice, facts=found)


def clean_leftovers(root: Path) -> Iterator[Finding]:
    """Removes the memory files of logs that are gone, and says so."""
    for found in _hot_dirs(root):
        if found["owner"] == "gone" and _native.remove_hot_dir(found["path"]):
            text = f"{found['path']}: {mebibytes(found['bytes'])}, of {found['log']}, which is gone"
            yield Finding("removed", text, facts=found | {"removed": True})


def _hot_dirs(root: Path) -> list[dict[str, Any]]:
    if not root.is_dir():
        return []
    found: list[dict[str, Any]] = json.loads(_native.hot_dirs(root))
    return found

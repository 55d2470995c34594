"""Where a log stands that nobody is to keep."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from tickplant._native import THROWN_AWAY


@contextlib.contextmanager
def thrown_away() -> Iterator[tuple[Path, Path]]:
    """A directory for a log and one for its memory files, both removed afterwards. What a kill leaves of them is found
    by `tickplant doctor`."""
    memory = Path("/dev/shm")
    with (
        TemporaryDirectory(prefix=THROWN_AWAY) as directory,
        TemporaryDirectory(prefix=THROWN_AWAY, dir=memory if memory.is_dir() else None) as hot,
    ):
        yield Path(directory), Path(hot)

"""What all tests share."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tickplant.clock import SECOND_NS, monotonic_ns

# What is waited for may take so long: a machine that is busy or stands still for a while needs some of it.
WITHIN_S = 60
RECORDINGS = Path(__file__).parents[1] / "../shared/data"


@pytest.fixture
def recording() -> Callable[[str], Path]:
    """Gives a venue's recording by its file name. They are not in the repository: without it the test is skipped."""

    def find(name: str) -> Path:
        path = Path(os.environ.get("TICKPLANT_RECORDINGS", RECORDINGS)) / name
        if not path.exists():
            pytest.skip(f"no recording {path} (set TICKPLANT_RECORDINGS)")
        return path

    return find


def until(holds: Callable[[], object]) -> None:
    """Waits, without an event loop, for a condition to be true. Fails the test where it never is."""
    last = monotonic_ns() + WITHIN_S * SECOND_NS
    while not holds():
        if monotonic_ns() > last:
            pytest.fail(f"not within {WITHIN_S} s: {holds}")
        threading.Event().wait(0.02)

"""What all tests share."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tickplant.clock import SECOND_NS, monotonic_ns

# What is waited for may take so long: a machine that is busy or stands still for a while needs some of it.
WITHIN_S = 60
# No example of a property is timed: on a busy machine any of them may take long.
settings.register_profile("untimed", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")
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


def free_port() -> int:
    """A port that nobody has, below those that the kernel gives to whoever asks for any or connects from one."""
    for port in range(20_000 + os.getpid() % 10_000, 32_000):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise OSError("no port is free")


def until(holds: Callable[[], object]) -> None:
    """Waits, without an event loop, for a condition to be true. Fails the test where it never is."""
    last = monotonic_ns() + WITHIN_S * SECOND_NS
    while not holds():
        if monotonic_ns() > last:
            pytest.fail(f"not within {WITHIN_S} s: {holds}")
        threading.Event().wait(0.02)

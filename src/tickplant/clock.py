"""The one door to time and chance in Python: everything else imports it from here.

Code that decides takes its time as a number of nanoseconds from its caller; only drivers (servers, the command line)
read a clock. Chance comes from generators with a seed, so that a run can be had again.
"""

from __future__ import annotations

import asyncio
import random
import time
from datetime import UTC, datetime

Random = random.Random

MICROSECOND_NS = 1_000
MILLISECOND_NS = 1_000_000
SECOND_NS = 1_000_000_000


def wall_ns() -> int:
    """Nanoseconds since the epoch, UTC. It can step back when the machine's clock is set."""
    return time.time_ns()


def monotonic_ns() -> int:
    """Nanoseconds of a clock that never goes back; its zero means nothing."""
    return time.monotonic_ns()


def processor_ns() -> int:
    """Nanoseconds of processor time that this process has used, in all of its threads."""
    return time.process_time_ns()


def seeded(seed: int | str) -> Random:
    """A generator that gives the same numbers for the same seed on every machine."""
    return Random(seed)


def seed_from_system() -> int:
    """A fresh 63-bit seed; the caller says which one it took, so that the run can be had again."""
    return random.SystemRandom().getrandbits(63)


async def sleep(seconds: float) -> None:
    """Gives way for so many seconds (zero: to whatever else is ready)."""
    await asyncio.sleep(seconds)


def rfc3339(time_ns: int) -> str:
    """`2026-11-21T09:30:00.123456Z`: UTC with microseconds, cut and not rounded."""
    seconds, rest = divmod(time_ns, SECOND_NS)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest // MICROSECOND_NS:06d}Z"


class Pace:
    """A wall clock that never steps: the wall's reading at the start plus the monotonic time since."""

    def __init__(self) -> None:
        self._wall = wall_ns()
        self._monotonic = monotonic_ns()

    def now_ns(self) -> int:
        """Nanoseconds since the epoch; never less than a reading before."""
        return self._wall + monotonic_ns() - self._monotonic

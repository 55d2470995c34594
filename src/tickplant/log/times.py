"""Times as users write them, to integer nanoseconds since the epoch, UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

Time: TypeAlias = str | int | datetime

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
# What `fromisoformat` does not keep: digits behind the microseconds.
_FRACTION: Final = re.compile(r"^(?P<head>.*:\d\d)[.,](?P<digits>\d{1,9})(?P<zone>Z|[+-]\d\d:?\d\d(?::?\d\d)?)?$")


def to_nanos(time: Time) -> int:
    """Nanoseconds of an ISO 8601 text, a datetime or an integer, which is taken as nanoseconds already.

    What names no zone is UTC. A text keeps up to nine digits of its seconds; a date alone is its midnight.

    Raises:
        ValueError: the text is no ISO time, or the time lies before 1970.
        TypeError: it is something else (a float would not be exact).
    """
    if isinstance(time, str):
        nanos = _text_nanos(time)
    elif isinstance(time, datetime):
        nanos = _datetime_nanos(time)
    elif isinstance(time, int) and not isinstance(time, bool):
        nanos = time
    else:
        raise TypeError(f"a time is an ISO text, a datetime or integer nanoseconds, not {time!r}")
    if not 0 <= nanos < 2**63:
        raise ValueError(f"{time!r} lies before 1970 or after 2262: give nanoseconds since the epoch, or an ISO time")
    return nanos


def _text_nanos(text: str) -> int:
    fraction = _FRACTION.match(text)
    whole = fraction["head"] + (fraction["zone"] or "") if fraction else text
    try:
        nanos = _datetime_nanos(datetime.fromisoformat(whole))
    except ValueError:
        raise ValueError(f"{text!r} is no ISO time: write it like 2026-11-21T09:30:00Z") from None
    return nanos + (int(fraction["digits"].ljust(9, "0")) if fraction else 0)


def _datetime_nanos(time: datetime) -> int:
    aware = time.replace(tzinfo=UTC) if time.tzinfo is None else time
    return (aware - _EPOCH) // _MICROSECOND * 1_000

"""What doctor finds."""

from __future__ import annotations

from typing import Any, NamedTuple


class Finding(NamedTuple):
    """One thing that doctor looked at. A plant runs with an `ok` one, which can have its advice all the same."""

    check: str
    result: str
    ok: bool = True
    advice: str = ""
    facts: dict[str, Any] | None = None
    """The same for programs, where the result is made of several facts."""


def mebibytes(count: int) -> str:
    """A number of bytes for people."""
    return f"{count / (1 << 20):.0f} MiB" if count >= 10 << 20 else f"{count / (1 << 20):.1f} MiB"

"""What a look at this machine finds, and how it is told."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import typer

from tickplant.cli.common import Exit, print_json, rows_text


class Finding(NamedTuple):
    """One thing that was looked at. A plant or a router runs with an `ok` one, which can have advice too."""

    check: str
    result: str
    ok: bool = True
    advice: str = ""
    facts: dict[str, Any] | None = None
    """The same for programs, where the result is made of several facts."""


def tell(findings: Iterable[Finding], *, json: bool) -> Exit:
    """Prints them, one line each. Exit 1: something is missing."""
    found = list(findings)
    if json:
        for finding in found:
            print_json(finding._asdict())
    else:
        rows = [
            {"": "ok" if f.ok else "!!", "check": f.check, "found": f.result, "what to do": f.advice} for f in found
        ]
        typer.echo(rows_text(rows))
    return Exit.OK if all(finding.ok for finding in found) else Exit.UNPROVEN


def mebibytes(count: int) -> str:
    """A number of bytes for people."""
    return f"{count / (1 << 20):.0f} MiB" if count >= 10 << 20 else f"{count / (1 << 20):.1f} MiB"

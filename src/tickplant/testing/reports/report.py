"""What a simulated seed gave."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tickplant.clock import rfc3339
from tickplant.testing.checks import Violation
from tickplant.testing.faults import Fired
from tickplant.testing.reports.wounds import Wound, healing_text

_VIOLATIONS_SHOWN = 10
_FAULTS_BEFORE = 3


@dataclass(frozen=True, slots=True)
class Report:
    """One seed: the hash of all its records, what did not hold, which faults fired, and how much was checked."""

    seed: int
    faults_name: str
    venues: list[str]
    virtual_minutes: float
    hash: str
    violations: list[Violation]
    fired: list[Fired]
    counts: dict[str, int]
    wounds: list[Wound] = field(default_factory=list)
    """What became of each fault, by time."""
    instruments: int = 2
    rate: int = 10
    only: list[str] | None = None
    """The faults that could fire, where not all could that were drawn."""
    lines: int | None = None
    """Redundant connections of each stream, where they were chosen."""

    @property
    def histogram(self) -> dict[str, int]:
        """How often each fault fired, by name."""
        return dict(sorted(Counter(fired.name for fired in self.fired).items()))

    @property
    def command(self) -> str:
        """The command that plays this seed again."""
        venues = ",".join(self.venues)
        only = "" if self.only is None else f" --only {','.join(self.only)}"
        lines = "" if self.lines is None else f" --lines {self.lines}"
        return (
            f"tickplant sim --seed {self.seed} --faults {self.faults_name} --hours {self.virtual_minutes / 60!r} "
            f"--venues {venues} --instruments {self.instruments} --rate {self.rate}{lines}{only}"
        )

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data."""
        return {
            "seed": self.seed,
            "hash": self.hash,
            "violations": [
                {"at": rfc3339(at_ns), "rule": rule, "instrument": instrument, "what": what}
                for at_ns, rule, instrument, what in self.violations
            ],
            "faults": self.histogram,
            "events": [wound.to_dict() for wound in self.wounds],
            "counts": self.counts,
            "command": self.command,
        }


def report_text(report: Report, *, every_fault: bool = False, width: int = 120) -> str:
    """The report for people: what was checked, what became of the faults, and each violation with those before it."""
    lines = [f"seed {report.seed}  {report.hash}", counts_text(report.counts, width), f"  faults:  {len(report.fired)}"]
    lines += [f"  {line}" for line in healing_text(report.wounds, width - 2)]
    if every_fault:
        wrap = textwrap.TextWrapper(width, "  ", " " * 15, break_on_hyphens=False)
        lines += [wrap.fill(wound.text) for wound in report.wounds]
    for violation in report.violations[:_VIOLATIONS_SHOWN]:
        where = f"{violation.rule}: {violation.instrument}".rstrip(": ")
        lines.append(f"  VIOLATION {_time_text(violation.at_ns)} {where}: {violation.what}")
        before = [fired for fired in report.fired if fired.at_ns <= violation.at_ns and _concerns(fired, violation)]
        lines += [f"      after {_fault_text(fired)}" for fired in before[-_FAULTS_BEFORE:]]
    if len(report.violations) > _VIOLATIONS_SHOWN:
        lines.append(f"  and {len(report.violations) - _VIOLATIONS_SHOWN} more")
    if report.violations:
        lines.append(f"  again: {report.command}")
    return "\n".join(lines)


def counts_text(counts: Mapping[str, int], width: int) -> str:
    """What was checked, wrapped to a width."""
    checked = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items())
    return textwrap.fill(checked, width, initial_indent="  checked: ", subsequent_indent=" " * 11)


def _concerns(fired: Fired, violation: Violation) -> bool:
    return not violation.instrument or violation.instrument.endswith(f".{fired.venue}")


def _fault_text(fired: Fired) -> str:
    return f"{_time_text(fired.at_ns)} {fired.venue} {fired.name} {fired.detail}".rstrip()


def _time_text(at_ns: int) -> str:
    return rfc3339(at_ns)[11:23]

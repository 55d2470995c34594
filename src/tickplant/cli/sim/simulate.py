"""`sim`: a whole world in virtual time, with faults, and the proof that the plant survives them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from tickplant import clock
from tickplant.cli.common import Exit, JsonOption, print_json, terminal_columns
from tickplant.errors import ConfigError
from tickplant.sim.presets import MOST_INSTRUMENTS, VENUES, is_own

if TYPE_CHECKING:
    from tickplant.testing.reports.report import Report

# Columns of what no terminal reads.
_WIDE = 120


def sim(
    seed: Annotated[int | None, typer.Option("--seed", help="Of the world; without it a fresh one, printed.")] = None,
    faults: Annotated[
        str,
        typer.Option(
            "--faults",
            help="calm, flaky, storm, burst, restart, silent, one-line-dead, drop=0.001,..., or a TOML file.",
        ),
    ] = "storm",
    hours: Annotated[float, typer.Option("--hours", min=0.001, help="Virtual time of a seed.")] = 0.5,
    venues: Annotated[str, typer.Option("--venues", help="With commas; module:Class is yours.")] = ",".join(VENUES),
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="So many seeds, one after the other.")] = 1,
    instruments: Annotated[int, typer.Option("--instruments", min=1, max=MOST_INSTRUMENTS, help="Of each venue.")] = 2,
    rate: Annotated[int, typer.Option("--rate", min=1, max=10_000, help="Orders a second of each venue.")] = 10,
    lines: Annotated[
        int | None,
        typer.Option("--lines", min=1, max=4, help="Redundant connections that bring each stream."),
    ] = None,
    sockets: Annotated[
        float | None,
        typer.Option("--sockets", min=1, help="So many real seconds over sockets instead: calm, flaky or storm."),
    ] = None,
    only: Annotated[
        str | None, typer.Option("--only", help="Of the faults that are drawn, only these fire: names with commas.")
    ] = None,
    smallest: Annotated[
        bool, typer.Option("--shrink", help="Leave faults out of a failing seed while it still fails.")
    ] = False,
    fault_log: Annotated[bool, typer.Option("--fault-log", help="Print every fault that fired.")] = False,
    json: JsonOption = False,
) -> Exit:
    """Run market, venues, network, clocks and plant in one process and in virtual time, and check every record.

    The same seed gives the same records and the same hash. Exit 1 where something did not hold: the command that plays
    the seed again is printed. With --json each seed is one line with hash, violations and faults.
    Example: tickplant sim --seed 7 --faults storm
    """
    from tickplant.testing.reports.report import report_text
    from tickplant.testing.world import simulate

    names = [name.strip().replace("-", "_") for name in venues.split(",") if name.strip()]
    unknown = [name for name in names if name not in VENUES and (sockets is not None or not is_own(name))]
    if unknown or not names:
        raise ConfigError(f"there is no simulated venue {', '.join(unknown)}", expected=f"some of {', '.join(VENUES)}")
    first = clock.seed_from_system() if seed is None else seed
    if sockets is not None:
        some_seeds = range(first, first + seeds)
        return _over_sockets(some_seeds, sockets, faults, names, lines or 1, fault_log=fault_log, json=json)
    chosen_faults = None if only is None else _fault_names(only)

    minutes = hours * 60
    run = partial(
        simulate, faults=faults, minutes=minutes, venues=names, instruments=instruments, rate=rate, lines=lines
    )
    proven = True
    for chosen in range(first, first + seeds):
        report = run(chosen, only=chosen_faults)
        proven = proven and not report.violations
        if smallest and report.violations:
            report = _shrunk(report, partial(run, chosen))
        if json:
            print_json(report.to_dict())
        else:
            typer.echo(report_text(report, every_fault=fault_log, width=terminal_columns() or _WIDE))
    return Exit.OK if proven else Exit.UNPROVEN


def _fault_names(text: str) -> list[str]:
    """Reads names with commas. Raises ConfigError."""
    from tickplant.testing.faults import BY_NAME

    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in BY_NAME]
    if unknown:
        raise ConfigError(f"there is no fault {', '.join(unknown)}", expected=f"some of {', '.join(BY_NAME)}")
    return names


def _shrunk(report: Report, run: Callable[..., Report]) -> Report:
    """The same seed with as few sorts of faults as it takes to fail."""
    from tickplant.testing.reports.shrink import shrink

    print(f"seed {report.seed} fails; looking for the faults that it takes", file=sys.stderr, flush=True)
    needed = shrink(list(report.histogram), lambda names: bool(run(only=names).violations))
    return run(only=needed)


def _over_sockets(
    seeds: Iterable[int], seconds: float, faults: str, venues: list[str], lines: int, *, fault_log: bool, json: bool
) -> Exit:
    """A real plant behind fault proxies, once for each seed."""
    from tickplant.testing.sockets.trial import trial

    proven = True
    for seed in seeds:
        found = asyncio.run(trial(seed=seed, seconds=seconds, faults=faults, venues=venues, lines=lines))
        proven = proven and not found.violations
        if json:
            print_json(found.to_dict())
            continue
        typer.echo(found.text(terminal_columns() or _WIDE))
        for wound in found.wounds if fault_log else ():
            typer.echo(f"  {wound.text}")
    return Exit.OK if proven else Exit.UNPROVEN

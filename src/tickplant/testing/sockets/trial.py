"""A plant of its own against simulated venues over real sockets, wounded on the way, and its log held to the truth."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tickplant import clock
from tickplant.clock import MILLISECOND_NS, SECOND_NS, rfc3339
from tickplant.errors import PlantError
from tickplant.log import Log
from tickplant.plant.control import send_command
from tickplant.records import BookState, Subject
from tickplant.sim import build_venues
from tickplant.sim.presets import VENUES
from tickplant.sim.server import SimServer
from tickplant.testing.checks import Violation
from tickplant.testing.reports.report import counts_text
from tickplant.testing.reports.wounds import Sign, Wound, healing_text, percentile, sign_of, wounds
from tickplant.testing.sockets.audit import Witness
from tickplant.testing.sockets.proxy import FaultProxy, socket_faults
from tickplant.venues.settings import VenueSettings
from tickplant.venues.table import find_venue

_STARTED_WITHIN_S = 30.0
_HEALED_WITHIN_S = 120.0
_STOPPED_WITHIN_S = 30.0
_LOOK_EVERY_S = 0.2
# A count that stands still so many looks says that all has arrived.
_STILL_LOOKS = 4
_CUTS = ("rst", "fin")
_ALONE_NS = 60 * SECOND_NS


@dataclass(frozen=True, slots=True)
class Trial:
    """What a run gave: what did not hold, what became of each fault, and how long a lone cut took to heal.

    `dark_ns`: of each lone cut the longest time that one of its venue's books was not LIVE until the cut was healed.
    """

    seed: int
    seconds: float
    violations: list[Violation]
    wounds: list[Wound]
    counts: dict[str, int]
    dark_ns: list[int]

    @property
    def recovery_ms(self) -> dict[str, int]:
        """From a lone cut to live books again, back-off included: p50, p99, and how many of how many cuts were lone.

        A cut is lone where nothing else hurt its venue from a minute before, by when back-off has begun anew, until it
        was healed: a venue counts as healed when all of it is well.
        """
        cuts = [wound for wound in self.wounds if wound.fired.name in _CUTS and wound.healed_ns is not None]
        times = [healed_ns - cut.fired.at_ns for cut, healed_ns in lone_cuts(self.wounds)]
        counts = {"lone": len(times), "cuts": len(cuts)}
        if not times:
            return counts
        return {
            "p50": percentile(times, 50) // MILLISECOND_NS,
            "p99": percentile(times, 99) // MILLISECOND_NS,
            "dark": max(self.dark_ns, default=0) // MILLISECOND_NS,
            **counts,
        }

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "seed": self.seed,
            "seconds": self.seconds,
            "violations": [
                {"at": rfc3339(at_ns), "rule": rule, "instrument": instrument, "what": what}
                for at_ns, rule, instrument, what in self.violations
            ],
            "recovery_ms": self.recovery_ms,
            "events": [wound.to_dict() for wound in self.wounds],
            "counts": self.counts,
        }

    def text(self, width: int = 120) -> str:
        """For people."""
        lines = [f"seed {self.seed}, {self.seconds:g} s over sockets", counts_text(self.counts, width)]
        lines += [f"  {line}" for line in healing_text(self.wounds, width - 2)]
        times = self.recovery_ms
        spread = ""
        if times["lone"]:
            spread = f"p50 {times['p50']} ms, p99 {times['p99']} ms, no book dark for over {times['dark']} ms, "
        lines.append(f"  lone cut to live again: {spread}{times['lone']} of {times['cuts']} cuts were lone")
        lines += [f"  VIOLATION {rfc3339(v.at_ns)[11:23]} {v.rule} {v.instrument}: {v.what}" for v in self.violations]
        return "\n".join(lines)


def lone_cuts(found: Sequence[Wound]) -> Iterator[tuple[Wound, int]]:
    """The cuts that healed and were lone, and when each was healed."""

    def hurts(other: Wound, cut: Wound, healed_ns: int) -> bool:
        if other is cut or other.fired.venue != cut.fired.venue or other.noticed_ns is None:
            return False
        before = other.healed_ns is not None and other.healed_ns + _ALONE_NS <= cut.fired.at_ns
        return not before and other.fired.at_ns <= healed_ns

    for cut in found:
        healed_ns = cut.healed_ns
        if cut.fired.name not in _CUTS or healed_ns is None:
            continue
        if not any(hurts(other, cut, healed_ns) for other in found):
            yield cut, healed_ns


def longest_dark_ns(signs: Sequence[Sign], start_ns: int, end_ns: int) -> int:
    """The longest time from `start_ns` to `end_ns` for which one and the same book was not LIVE. `signs` by time."""
    dark_since: dict[int, int] = {}
    longest = 0
    for sign in signs:
        if sign.subject != Subject.BOOK or sign.at_ns > end_ns:
            continue
        if sign.current != BookState.LIVE:
            dark_since.setdefault(sign.instrument_id, sign.at_ns)
        elif (since_ns := dark_since.pop(sign.instrument_id, None)) is not None:
            longest = max(longest, sign.at_ns - max(since_ns, start_ns))
    return max([longest, *(end_ns - max(since_ns, start_ns) for since_ns in dark_since.values())])


async def trial(
    *,
    seed: int,
    seconds: float,
    faults: str = "flaky",
    venues: Sequence[str] = VENUES,
    instruments: int = 2,
    rate: int = 50,
    lines: int = 1,
) -> Trial:
    """Runs `tickplant run` for so long behind a fault proxy, lets it heal, stops it and checks its log.

    `lines`: so many redundant connections bring each stream.

    Raises ConfigError for unknown faults, PlantError where the plant ends by itself.
    """
    chosen = socket_faults(faults)
    served = build_venues(venues, seed=seed, start_ns=clock.wall_ns(), instrument_count=instruments, rate=rate)
    codes = {venue.name: find_venue(venue.name).code for venue in served}
    witnesses = [Witness(venue, codes[venue.name], _depth(venue.name)) for venue in served]
    with TemporaryDirectory(prefix="tickplant-sim-") as folder:
        log = Path(folder) / "log"
        async with contextlib.AsyncExitStack() as stack:
            server = await stack.enter_async_context(SimServer(served))
            proxies = []
            for venue in served:
                address = server.addresses[venue.name]
                door = FaultProxy(venue.name, codes[venue.name], address.websocket, address.http, chosen, seed=seed)
                proxies.append(await stack.enter_async_context(door))
            plant = await stack.enter_async_context(_plant(log, proxies, {v.name: v.symbols for v in served}, lines))
            await _until_live(log, plant, _STARTED_WITHIN_S)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(plant.wait(), seconds)
            for proxy in proxies:
                proxy.heal()
            await _until_live(log, plant, _HEALED_WITHIN_S)
            server.running(False)
            await _until_still(log)
            rest_ns = clock.wall_ns()
            plant.send_signal(signal.SIGTERM)
            if await asyncio.wait_for(plant.wait(), _STOPPED_WITHIN_S):
                raise PlantError("the plant did not end well", hint="its own words stand above")
        return await asyncio.to_thread(_account, (seed, seconds), rest_ns, log, witnesses, proxies)


def _account(
    run: tuple[int, float], rest_ns: int, log: Path, witnesses: list[Witness], proxies: list[FaultProxy]
) -> Trial:
    violations, found, counts, dark_ns = [], [], dict[str, int](), []
    for witness, proxy in zip(witnesses, proxies, strict=True):
        checker = witness.audit(log, proxy.fired, rest_ns)
        violations += checker.violations
        ids = {checked.listing.instrument.symbol: id_ for id_, checked in checker.instruments.items()}
        lanes = [proxy.code.lower()]
        records = (record for batch in Log.open(log).records(schema=("status", "gap"), lanes=lanes) for record in batch)
        signs = [sign_of(record) for record in records]  # type: ignore[arg-type]
        of_venue = wounds(proxy.fired, signs, ids)
        found += of_venue
        dark_ns += [longest_dark_ns(signs, cut.fired.at_ns, healed_ns) for cut, healed_ns in lone_cuts(of_venue)]
        for name, count in checker.counts.items():
            counts[name] = counts.get(name, 0) + count
    return Trial(*run, sorted(violations), sorted(found, key=lambda wound: wound.fired), counts, dark_ns)


def _depth(venue: str) -> int:
    rules = find_venue(venue)
    return rules.depth(VenueSettings()) if rules.book.truncate else 0


@contextlib.asynccontextmanager
async def _plant(log: Path, proxies: Sequence[FaultProxy], symbols: dict[str, list[str]], lines: int) -> Any:
    variables = {"TICKPLANT_LOG_PATH": str(log), "TICKPLANT_METRICS_PORT": "0"}
    for proxy in proxies:
        prefix = f"TICKPLANT_VENUE_{proxy.code}"
        variables |= {
            f"{prefix}_URL": proxy.websocket,
            f"{prefix}_REST_URL": proxy.http,
            f"{prefix}_LINES": str(lines),
            f"{prefix}_INSTRUMENTS": ",".join(symbols[proxy.dialect.name]),
        }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tickplant", "run",
        env=os.environ | variables, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _summary(log: Path) -> list[dict[str, Any]]:
    with contextlib.suppress(PlantError):
        rows: list[dict[str, Any]] = (await asyncio.to_thread(send_command, log / "plant.sock", {"do": "summary"}))[
            "instruments"
        ]
        return rows
    return []


async def _until_live(log: Path, plant: asyncio.subprocess.Process, within_s: float) -> None:
    """Returns when all books are live, or the time is up: what is not live then, the checks will tell."""
    until_ns = clock.monotonic_ns() + round(within_s * clock.SECOND_NS)
    while clock.monotonic_ns() < until_ns:
        if plant.returncode is not None:
            raise PlantError(f"the plant ended with {plant.returncode}", hint="run it alone to see its words")
        rows = await _summary(log)
        if rows and all(row["state"] == "LIVE" for row in rows):
            return
        await clock.sleep(_LOOK_EVERY_S)


async def _until_still(log: Path) -> None:
    still, before = 0, None
    while still < _STILL_LOOKS:
        await clock.sleep(_LOOK_EVERY_S)
        now = [row["trades"] for row in await _summary(log)], [row["messages"] for row in await _summary(log)]
        still, before = still + 1 if now == before else 0, now

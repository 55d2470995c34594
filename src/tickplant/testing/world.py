"""A whole world in one process and in virtual time: markets, venues, network, clocks and a plant with its log.

The same seed gives the same events, the same records and the same hash, on every machine. Nothing waits: time jumps to
whatever happens next.
"""

from __future__ import annotations

import contextlib
import heapq
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec

from tickplant import _native
from tickplant.clock import SECOND_NS, seeded
from tickplant.log import Log
from tickplant.log.places import thrown_away
from tickplant.plant.budget import Budgets
from tickplant.sim import Venue, build_venue
from tickplant.sim.presets import VENUES
from tickplant.testing.checks import Violation
from tickplant.testing.faults import Chance, Fired, load_faults
from tickplant.testing.reports.report import Report
from tickplant.testing.reports.wounds import Wound, wounds
from tickplant.testing.station import Station
from tickplant.venues.base import Venue as Rules
from tickplant.venues.settings import VenueSettings
from tickplant.venues.table import check_user_venue, find_venue

START_NS = 1_790_000_000 * SECOND_NS
"""When every world begins: some Monday in September 2026."""
MINUTES = 30
RATE = 10
"""Orders a second of each venue."""
INSTRUMENTS = 2

# Orders a second of one instrument.
_USUAL_RATE = RATE // INSTRUMENTS
_CALM_NS = 150 * SECOND_NS
_REST_NS = 5 * SECOND_NS
_LOOK_NS = 5 * SECOND_NS
_MINUTE_NS = 60 * SECOND_NS
_SEGMENT_BYTES = 1 << 20
_HOT_BYTES_MOST = 64 << 20
# Books, buffers and tables have their size by then; what comes later would come again and again.
_GROWN_AFTER_NS = 300 * SECOND_NS
_GROWTH_BYTES_MOST = 1 << 20


class World:
    """Venues, the network and a plant. Times are virtual nanoseconds since the epoch."""

    def __init__(
        self,
        path: Path,
        hot_root: Path,
        *,
        seed: int,
        faults: Mapping[str, float],
        venues: Sequence[str] = VENUES,
        instruments: int = INSTRUMENTS,
        rate: int = RATE,
        only: Collection[str] | None = None,
        lines: int | None = None,
        rotate_every_s: float | None = None,
    ) -> None:
        self.now_ns = START_NS
        # What hurts one of several lines needs several.
        lines = 2 if lines is None and faults.get("line_dead") else lines
        self.budgets = Budgets()
        self._hot_root = hot_root
        # A silence shows by what is usual of a market: a slower one is given longer to be told from quiet.
        self._pace = max(1, -(-_USUAL_RATE * instruments // rate))
        self._memory = 0
        self._heap = Heap()
        self.closed = False
        self.path = path
        options = {
            "segment_bytes": _SEGMENT_BYTES,
            "hot_bytes_max": _HOT_BYTES_MOST,
            "sync": "none",
            "sync_interval_ms": 100,
            "hot_root": str(hot_root),
        }
        self._log = _native.LogHandle(str(path), json.dumps(options).encode())
        self.stations: list[Station] = []
        for name in venues:
            venue = build_venue(
                name, seed=seeded(f"{seed} {name}").getrandbits(60), start_ns=START_NS, instrument_count=instruments,
                rate=rate,
            )  # fmt: skip
            rules = _rules(name, venue)
            settings = msgspec.structs.replace(
                _settings(name, venue.symbols, seed), lines=lines, rotate_every_s=rotate_every_s
            )
            chance = Chance(seeded(f"faults {seed} {name}"), faults, only)
            number = seeded(f"plant {seed} {name}").getrandbits(60)
            self.stations.append(Station(self, venue, rules, settings, self._log, chance, seed=number, pace=self._pace))
        for station in self.stations:
            station.start()
            self.at(station.venue.next_ns(), station.move)
        self.at(self.now_ns + SECOND_NS, self._each_second)
        self.at(self.now_ns + _LOOK_NS, self._look)
        self.at(self.now_ns + _MINUTE_NS, self._each_minute)

    def at(self, at_ns: int, act: Callable[..., None], *arguments: Any) -> None:
        """Lets something happen at a time."""
        self._heap.push(at_ns, act, arguments)

    def run(self, seconds: float) -> None:
        """Lets virtual time pass."""
        until_ns = self.now_ns + round(seconds * SECOND_NS)
        while (due := self._heap.pop(until_ns)) is not None:
            at_ns, act, arguments = due
            self.now_ns = max(self.now_ns, at_ns)
            act(*arguments)
        self.now_ns = until_ns

    def station(self, venue: str) -> Station:
        """A venue's station by its name (`kraken`)."""
        return next(station for station in self.stations if station.venue.name == venue)

    def venue(self, name: str) -> Venue:
        """A simulated venue by its name, for its truth: `world.venue("kraken").book("BTC/USD")`."""
        return self.station(name).venue

    @property
    def log(self) -> Log:
        """The plant's log, to read like any other while the world lasts."""
        return Log.open(self.path)

    def inject(self, fault: str, venue: str) -> None:
        """Lets a named fault fire at a venue at its next opportunity. Raises ConfigError for an unknown one."""
        self.station(venue).chance.call(fault)

    def settle(self) -> None:
        """No more faults, time to heal, then the markets stand still and everything is held against the venues."""
        for station in self.stations:
            station.chance.on = False
            station.mishaps.mend()
        self.run(self._pace * _CALM_NS / SECOND_NS)
        for station in self.stations:
            station.venue.market.running = False
        self.run(_REST_NS / SECOND_NS)
        for station in self.stations:
            station.at_rest()

    def close(self) -> None:
        """Ends the plant in order and derives every lane's records again from its journal. Safe to call twice."""
        if self.closed:
            return
        self.closed = True
        for station in self.stations:
            station.close()
            found = json.loads(_native.rebuild(str(self.path), station.lane, station.decoder))
            if found["first_difference"] is not None:
                station.checker.say(
                    self.now_ns, "rebuild", 0, f"record {found['first_difference']} is derived differently"
                )

    @property
    def violations(self) -> list[Violation]:
        """What did not hold, by time."""
        return sorted(violation for station in self.stations for violation in station.checker.violations)

    @property
    def fired(self) -> list[Fired]:
        """The faults that fired, by time."""
        return sorted(fired for station in self.stations for fired in station.injury.fired)

    @property
    def wounds(self) -> list[Wound]:
        """What became of each of them: when it was noticed, how it was healed, what was lost."""
        found = [
            wound
            for station in self.stations
            for wound in wounds(station.injury.fired, station.checker.signs, station.ids)
        ]
        return sorted(found, key=lambda wound: wound.fired)

    @property
    def hash(self) -> str:
        """Over the records of all lanes and runs, as 32 hexadecimal digits; complete once the world is closed."""
        digest = blake2b(digest_size=16)
        for station in self.stations:
            digest.update(f"{station.lane} {' '.join(station.digests)}\n".encode())
        return digest.hexdigest()

    def _each_second(self) -> None:
        for station in self.stations:
            station.injury.each_second()
        self.at(self.now_ns + SECOND_NS, self._each_second)

    def _each_minute(self) -> None:
        for station in self.stations:
            station.mishaps.each_minute()
        self.at(self.now_ns + _MINUTE_NS, self._each_minute)

    def _look(self) -> None:
        for station in self.stations:
            station.checker.look(self.now_ns)
        self._look_at_memory()
        self.at(self.now_ns + _LOOK_NS, self._look)

    def _look_at_memory(self) -> None:
        """What the loops hold grows at their start and is bounded from then on, and so are the log's memory files."""
        memory = _native.VirtualLoop.memory()
        if self.now_ns < START_NS + _GROWN_AFTER_NS:
            self._memory = max(self._memory, memory)
        grown = memory - self._memory
        hot = sum(path.stat().st_size for path in self._hot_root.rglob("*") if path.is_file())
        for what, bytes_, most in (
            ("the loops", grown, _GROWTH_BYTES_MOST),
            ("the memory files", hot, len(self.stations) * (_HOT_BYTES_MOST + _SEGMENT_BYTES)),
        ):
            if bytes_ > most:
                self.stations[0].checker.say(self.now_ns, "memory", 0, f"{what} take {bytes_} bytes: {most} at most")


def _rules(name: str, venue: Venue) -> Rules:
    """By what the plant speaks to a simulated venue. Raises ConfigError where a user's cannot be used."""
    if venue.rules is None:
        return find_venue(name)
    rules: Rules = venue.rules()
    check_user_venue(rules, rules.code)
    return rules


def _settings(name: str, symbols: list[str], seed: int) -> VenueSettings:
    """Kraken has its private channel too, and in every other seed levels that its checksum does not cover."""
    if name != "kraken":
        return VenueSettings(instruments=symbols)
    return VenueSettings(instruments=symbols, depth=25 if seed % 2 else 10, api_key="key", api_secret="c2VjcmV0")


class Heap:
    """What is to happen, by time and then by the order of asking."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._serial = 0

    def push(self, at_ns: int, act: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        self._serial += 1
        heapq.heappush(self._heap, (at_ns, self._serial, act, arguments))

    def pop(self, until_ns: int) -> tuple[int, Callable[..., None], tuple[Any, ...]] | None:
        """The next thing, if it comes by then."""
        if not self._heap or self._heap[0][0] > until_ns:
            return None
        at_ns, _, act, arguments = heapq.heappop(self._heap)
        return at_ns, act, arguments


@contextlib.contextmanager
def world(
    *,
    seed: int,
    faults: str | Mapping[str, float] = "calm",
    venues: Sequence[str] = VENUES,
    instruments: int = INSTRUMENTS,
    rate: int = RATE,
    only: Collection[str] | None = None,
    lines: int | None = None,
    rotate_every_s: float | None = None,
) -> Iterator[World]:
    """A world whose log is thrown away afterwards. `faults` is a preset, a TOML file, or probabilities by name; of
    those that are drawn, `only` these fire.

    Raises ConfigError for unknown faults, ValueError for an unknown venue.
    """
    chosen = load_faults(faults) if isinstance(faults, str) else faults
    with thrown_away() as (directory, hot):
        simulated = World(
            directory,
            hot,
            seed=seed,
            faults=chosen,
            venues=venues,
            instruments=instruments,
            rate=rate,
            only=only,
            lines=lines,
            rotate_every_s=rotate_every_s,
        )
        try:
            yield simulated
        finally:
            # The archivers of a world that was not closed must not write while its directories go.
            for station in simulated.stations:
                station.loop.kill()


def simulate(
    seed: int,
    *,
    faults: str | Mapping[str, float] = "storm",
    minutes: float = MINUTES,
    venues: Sequence[str] = VENUES,
    instruments: int = INSTRUMENTS,
    rate: int = RATE,
    only: Collection[str] | None = None,
    lines: int | None = None,
) -> Report:
    """One seed from its start to the proof at its end."""
    options = {"seed": seed, "faults": faults, "venues": venues, "instruments": instruments, "rate": rate}
    with world(**options, only=only, lines=lines) as simulated:  # type: ignore[arg-type]
        simulated.run(minutes * 60)
        simulated.settle()
        simulated.close()
        counts: Counter[str] = Counter()
        for station in simulated.stations:
            counts.update(station.checker.counts)
        return Report(
            seed=seed,
            faults_name=faults if isinstance(faults, str) else "given",
            venues=list(venues),
            virtual_minutes=minutes,
            hash=simulated.hash,
            violations=simulated.violations,
            fired=simulated.fired,
            counts=dict(counts),
            wounds=simulated.wounds,
            instruments=instruments,
            rate=rate,
            only=None if only is None else sorted(only),
            lines=lines,
        )

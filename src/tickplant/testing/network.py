"""One connection between a plant and a venue in virtual time, and the plant's own wall clock."""

from __future__ import annotations

from tickplant.clock import MILLISECOND_NS, Random

_LEAST_NS = 2 * MILLISECOND_NS
_SPREAD_NS = 20 * MILLISECOND_NS
_JITTER_NS = 4 * MILLISECOND_NS


class Wire:
    """A connection: its way there and back keep their order, and each message takes its time.

    `number` is the venue's, `route` the plant's. A wire that is `half_open` carries nothing either way and ends only
    when its plant gives up; a `mute` one answers pings and carries nothing else. What is on its way when it is `dead`
    is lost.
    """

    def __init__(self, number: int, route: int, now_ns: int, rng: Random) -> None:
        self.number = number
        self.route = route
        self.since_ns = now_ns
        self.opened = False
        self.dead = False
        self.half_open = False
        self.mute = False
        self.closing = False
        self.at_venue = False
        self.deaf: set[str] = set()
        """Instruments of which nothing comes through."""
        self.kept: str | None = None
        """A message that waits to be merged with the next one."""
        self._rng = rng
        self._latency_ns = _LEAST_NS + rng.randrange(_SPREAD_NS)
        self._here_ns = self._there_ns = now_ns

    def arrival_here(self, now_ns: int, extra_ns: int = 0) -> int:
        """When something that the venue sends now arrives at the plant: after what it sent before."""
        self._here_ns = max(self._here_ns + 1, now_ns + self._time() + extra_ns)
        return self._here_ns

    def arrival_there(self, now_ns: int) -> int:
        """When something that the plant sends now arrives at the venue."""
        self._there_ns = max(self._there_ns + 1, now_ns + self._time())
        return self._there_ns

    def _time(self) -> int:
        return self._latency_ns + self._rng.randrange(_JITTER_NS)


class WallClock:
    """The plant's reading of the time, as its live loop takes it (crates/core/src/clock.rs): it never goes back, and
    goes at half its pace where the clock was set back, until it is level."""

    def __init__(self) -> None:
        self._offset_ns = 0
        self._drift_ppm = 0
        self._drift_since_ns = 0
        self._last_ns = 0
        self._lead_ns = 0
        self._lead_since_ns = 0

    def now(self, true_ns: int) -> int:
        """The reading at a true time."""
        self._last_ns = max(self._last_ns, self._reading(true_ns))
        return self._last_ns

    def when(self, reading_ns: int, true_ns: int) -> int:
        """The true time at which the clock will have this reading, as far as it is known now; not before `true_ns`."""
        ahead_ns = reading_ns - self._reading(true_ns)
        # What is still to be led back takes twice its time; drift moves the goal a little, and who waits looks again.
        slow_ns = min(max(ahead_ns, 0), self._lead(true_ns))
        return max(true_ns, true_ns + ahead_ns + slow_ns)

    def step(self, true_ns: int, by_ns: int) -> None:
        """Somebody sets the clock, and the plant takes it as its new anchor."""
        before_ns = self.now(true_ns)
        self._settle(true_ns)
        self._offset_ns += by_ns
        self._lead_ns, self._lead_since_ns = max(0, before_ns - true_ns - self._error(true_ns)), true_ns

    def drift(self, true_ns: int, ppm: int) -> None:
        """From now on it runs wrong by so many parts in a million."""
        self._settle(true_ns)
        self._drift_ppm = ppm

    def begin_anew(self, true_ns: int) -> int:
        """Another process reads the clock, and goes on behind what is in the log: how far that is ahead of the wall."""
        self._lead_ns, self._lead_since_ns = max(0, self._last_ns - true_ns - self._error(true_ns)), true_ns
        return self._lead_ns

    def _reading(self, true_ns: int) -> int:
        return true_ns + self._error(true_ns) + self._lead(true_ns)

    def _lead(self, true_ns: int) -> int:
        return max(0, self._lead_ns - (true_ns - self._lead_since_ns) // 2)

    def _error(self, true_ns: int) -> int:
        return self._offset_ns + (true_ns - self._drift_since_ns) * self._drift_ppm // 1_000_000

    def _settle(self, true_ns: int) -> None:
        self._offset_ns, self._drift_since_ns = self._error(true_ns), true_ns

"""What befalls a venue, its plant or the machine now and then: faults that are drawn once a minute and may last."""

from __future__ import annotations

import errno
from functools import partial
from typing import TYPE_CHECKING

from tickplant.clock import MILLISECOND_NS, SECOND_NS
from tickplant.records import Reason
from tickplant.sim.venues.kraken import Kraken, status_text

if TYPE_CHECKING:
    from tickplant.testing.network import Wire
    from tickplant.testing.station import Station

_BURST_NS = 300 * MILLISECOND_NS
_BURST_FACTOR = 100
_FLAP_NS = 60 * SECOND_NS
_DOWN_MOST_NS = 5 * SECOND_NS
_SHARED_MOST_NS = 60 * SECOND_NS
_LASTING_MOST_NS = 120 * SECOND_NS
_STEP_MOST_NS = 2 * SECOND_NS
_LEAP_MOST_NS = 3600 * SECOND_NS
_LINE_DEAD_LEAST_NS, _LINE_DEAD_MOST_NS = 20 * SECOND_NS, 100 * SECOND_NS
# By then a line that was dead is back, back-off and all, so that never two are dead at once.
_LINE_BACK_NS = 60 * SECOND_NS
# How long before it hangs up a venue says so to whom has a line to spare. Two lines are replaced one after the other,
# each once the other has all of it and `line_hold_s` more: three seconds each where nothing fails, and three failed
# attempts with their waits (1, 2 and 4 s, and some seconds for a lost answer) fit beside that.
_NOTICE_NS = 30 * SECOND_NS
_SLOW_WRITE_NS = 2 * MILLISECOND_NS


class Mishaps:
    """Draws the faults of a station's minutes and carries them out."""

    def __init__(self, station: Station) -> None:
        self._station = station
        self._rng = station.chance.rng
        self.flapping_until_ns = 0
        self.wants_kill = False
        """The plant is to be killed in the middle of the turn that takes the next frame."""
        self._shared: set[int] = set()
        self._delisted: str | None = None
        self._disk: str | None = None
        self._dead_line, self._dead_until_ns = -1, 0

    def each_minute(self) -> None:
        """A minute of the venue."""
        station = self._station
        name = station.chance.draw("minute")
        if name is None:
            return
        if name in ("restart", "double_subscription", "disk_slow", "disk_full", "disk_torn") and not station.up:
            return
        detail = self._carry_out(name)
        if detail is not None:
            station.injury.note(name, detail)

    def mend(self) -> None:
        """Ends what lasts."""
        self._list_again()
        self._resume()
        self._mend_disk(self._station.run)

    def _carry_out(self, name: str) -> str | None:
        """What was hit; None where nothing could be."""
        station, rng, now_ns = self._station, self._rng, self._station.agenda.now_ns
        match name:
            case "burst":
                market = station.venue.market
                usual, market.rate = market.rate, market.rate * _BURST_FACTOR
                station.agenda.at(now_ns + _BURST_NS, partial(setattr, market, "rate", usual))
            case "flap":
                self.flapping_until_ns = now_ns + _FLAP_NS
                for wire in list(station.by_number.values()):
                    station.hang_up(wire, reset=True)
            case "day_cut":
                self._cut_all(None)
            case "maintenance":
                self._halt()
                self._cut_all(station.dialect.maintenance())
            case "line_dead":
                return self._kill_line(rng.randrange(station.lines))
            case "dead_instrument":
                symbol = rng.choice(sorted(station.ids))
                for wire in station.by_number.values():
                    wire.deaf.add(symbol)
                return symbol
            case "delisted":
                return self._delist(rng.choice(sorted(station.ids)))
            case "clock_step" | "clock_leap":
                most = _STEP_MOST_NS if name == "clock_step" else _LEAP_MOST_NS
                station.set_clock(rng.randrange(-most, most))
            case "clock_drift":
                station.clock.drift(now_ns, rng.randrange(-500, 501))
            case "double_subscription":
                symbol = rng.choice(sorted(station.ids))
                self._share(symbol)
                return symbol
            case "disk_slow" | "disk_full":
                return self._spoil_disk(name)
            case "disk_torn":
                if self._disk is not None:
                    # What a failing disk was never given is not there to be cut.
                    return None
                lost = station.lose_power()
                self.restart_soon()
                return lost
            case "restart":
                if rng.getrandbits(1):
                    self.wants_kill = True
                elif not self.wants_kill:
                    station.kill()
                    self.restart_soon()
        return ""

    def restart_soon(self) -> None:
        """Starts the plant again after a while. The new process finds a disk that is well."""
        station = self._station
        self._disk = None
        station.agenda.at(station.agenda.now_ns + self._rng.randrange(_DOWN_MOST_NS), station.start)

    def is_dead(self, line: int) -> bool:
        """Whether nobody answers on a line at present."""
        return line == self._dead_line and self._station.agenda.now_ns < self._dead_until_ns

    def _kill_line(self, line: int) -> str | None:
        """A line's connections are cut, or fall silent without a word, and nobody answers on it for a while."""
        station, now_ns = self._station, self._station.agenda.now_ns
        if station.lines_wanted == 1 or now_ns < self._dead_until_ns + _LINE_BACK_NS:
            return None
        self._dead_line = line
        self._dead_until_ns = now_ns + _LINE_DEAD_LEAST_NS + self._rng.randrange(_LINE_DEAD_MOST_NS)
        for wire in list(station.wires.values()):
            if station.line_of(wire.route) == line:
                if self._rng.getrandbits(2):
                    wire.half_open = True
                else:
                    station.hang_up(wire, reset=True)
        return f"line {line + 1}"

    def _cut_all(self, notice: str | None) -> None:
        """All connections end, or those that are too old where the world says at what age they rotate; where there is a
        line to spare a notice comes early enough to use it."""
        station, now_ns = self._station, self._station.agenda.now_ns
        for wire in list(station.by_number.values()):
            if notice is not None:
                station.post(wire, notice.encode(), None)
            if notice is None and station.rotate_ns:
                if now_ns - wire.since_ns > station.rotate_ns + _NOTICE_NS:
                    station.hang_up(wire)
            elif notice is not None and station.lines > 1:
                station.agenda.at(now_ns + _NOTICE_NS, self._end_wire, wire)
            else:
                station.hang_up(wire)

    def _halt(self) -> None:
        """Nothing is traded where the venue says that too; it says so to whoever connects, and when it is over."""
        station = self._station
        if isinstance(station.venue, Kraken):
            station.venue.system, station.venue.market.running = "maintenance", False
            after_ns = _NOTICE_NS + self._rng.randrange(_LASTING_MOST_NS)
            station.agenda.at(station.agenda.now_ns + after_ns, self._resume)

    def _resume(self) -> None:
        station = self._station
        if not isinstance(station.venue, Kraken) or station.venue.system == "online":
            return
        station.venue.system, station.venue.market.running = "online", True
        for wire in station.by_number.values():
            station.post(wire, status_text("online").encode(), None)

    def _end_wire(self, wire: Wire) -> None:
        if wire.number in self._station.by_number:
            self._station.hang_up(wire)

    def _share(self, symbol: str) -> None:
        """A second holder comes and goes."""
        station = self._station
        id_ = station.ids[symbol]
        if id_ in self._shared:
            return
        self._shared.add(id_)
        station.subscribe(symbol)
        after_ns = self._rng.randrange(_SHARED_MOST_NS)
        station.agenda.at(station.agenda.now_ns + after_ns, self._unshare, station.run, id_)

    def _unshare(self, run: int, id_: int) -> None:
        self._shared.discard(id_)
        # A plant that began anew knows nothing of the second holder.
        if run == self._station.run:
            self._station.command("unsubscribe", instrument_ids=[id_])

    def _delist(self, symbol: str) -> str | None:
        station = self._station
        if self._delisted is not None:
            return None
        self._delisted = symbol
        station.venue.delist(symbol)
        station.checked[station.ids[symbol]].wanted = False
        after_ns = self._rng.randrange(_LASTING_MOST_NS)
        station.agenda.at(station.agenda.now_ns + after_ns, self._list_again)
        return symbol

    def _list_again(self) -> None:
        station, symbol = self._station, self._delisted
        if symbol is None:
            return
        self._delisted = None
        station.venue.list_again(symbol)
        checked = station.checked[station.ids[symbol]]
        checked.wanted, checked.since_ns = True, station.agenda.now_ns

    def _spoil_disk(self, name: str) -> str | None:
        """A full disk is told to the plant when its archiver has found it out, as its loop does."""
        station = self._station
        if self._disk is not None:
            return None
        self._disk = name
        if name == "disk_slow":
            station.loop.set_disk(delay_ns=_SLOW_WRITE_NS)
        else:
            station.loop.set_disk(errno=errno.ENOSPC)
            station.note(Reason.DISK_FULL, 0, "the archive's disk is full")
            station.loop.await_disk(False)
        after_ns = self._rng.randrange(_LASTING_MOST_NS)
        station.agenda.at(station.agenda.now_ns + after_ns, self._mend_disk, station.run)
        return ""

    def _mend_disk(self, run: int) -> None:
        station, name = self._station, self._disk
        if name is None or run != station.run:
            return
        self._disk = None
        station.loop.set_disk()
        station.loop.await_disk(True)
        if name == "disk_full":
            station.note(Reason.DISK_RECOVERED, 0, "the archive is written again")

"""What faults do to one venue's messages, requests and connections."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tickplant.clock import MILLISECOND_NS, SECOND_NS
from tickplant.records import Reason
from tickplant.sim.venues.kraken import Kraken
from tickplant.sim.venues.kraken_book import CHECKSUM_LEVELS
from tickplant.testing.checks import Meaning
from tickplant.testing.dialects import Spoken
from tickplant.testing.faults import Fired
from tickplant.testing.network import Wire

if TYPE_CHECKING:
    from tickplant.testing.station import Station

_DELAY_MOST_NS = 4 * SECOND_NS
_LATE_MOST_NS = 15 * SECOND_NS
_SLOW_MOST_NS = 9 * SECOND_NS
_NO_REPLY_NS = 10 * SECOND_NS
_OLD_REPLIES = 8
_HOUR_NS = 3600 * SECOND_NS
# Back-off gives 1, 2, 4, 8, 16, 30 s, so seven attempts in a minute; the rest is for connections that failed before.
_ATTEMPTS_MOST = (12, 60)
_REFUSALS: dict[str, tuple[int, bytes, int]] = {
    "rest_500": (500, b'{"code":-1000,"msg":"An unknown error occurred"}', 0),
    "rest_403": (403, b"<html>forbidden</html>", 0),
    "rest_418": (418, b'{"code":-1003,"msg":"IP banned"}', 45),
    "rest_429": (429, b'{"code":-1003,"msg":"Too many requests"}', 0),
    "rest_429_retry": (429, b'{"code":-1003,"msg":"Too many requests"}', 7),
}

Answered = Callable[[int], None]


class Injury:
    """Draws the faults of a station at each opportunity and carries them out."""

    def __init__(self, station: Station) -> None:
        self._station = station
        self._chance = station.chance
        self._rng = station.chance.rng
        self.fired: list[Fired] = []
        self.attempts = 0
        self._attempts: list[tuple[int, int]] = []
        self._patience_ns: dict[str, int] = {}
        self._before: dict[str, tuple[str, Meaning | None]] = {}
        self._replies: dict[str, list[bytes]] = {}

    def note(self, name: str, detail: str = "") -> None:
        """A fault fires now."""
        now_ns = self._station.agenda.now_ns
        self.fired.append(Fired(now_ns, name, self._station.rules.code, detail))
        self._station.checker.last_fault_ns = now_ns

    # messages

    def of_message(self, wire: Wire, text: str, spoken: Spoken, meaning: Meaning | None) -> None:
        """Puts what arrives of a message on the wire."""
        if wire.kept is not None:
            text, wire.kept, meaning = wire.kept + text, None, None
            self._station.post(wire, text.encode(), None)
            return
        if spoken.sort == "answer":
            self._answer(wire, text)
        elif spoken.sort == "snapshot":
            self._snapshot(wire, text, spoken, meaning)
        else:
            self._frame(wire, text, spoken, meaning)
        if spoken.sort == "book":
            self._before[spoken.symbol] = (text, meaning)

    def _frame(self, wire: Wire, text: str, spoken: Spoken, meaning: Meaning | None) -> None:
        post = self._station.post
        name = self._chance.draw("frame")
        dialect = self._station.dialect
        # What the protocol cannot show to anybody is no fault that a plant could cover.
        is_deep_book = self._station.depth > CHECKSUM_LEVELS
        unseen = spoken.sort == "book" and (not dialect.proven or is_deep_book)
        spoiled: str | None = None
        if name in ("wrong_checksum", "sequence_skip", "sequence_reset"):
            spoiled = getattr(dialect, name)(text) if spoken.sort == "book" else None
            name = name if spoiled else None
        elif name == "deep_checksum":
            is_deep = spoken.sort == "book" and meaning is not None and dialect.is_deep(text, meaning.window)
            spoiled = dialect.wrong_checksum(text) if is_deep else None
            name = name if spoiled else None
        elif name in ("drop", "repeat") and unseen:
            name = None
        before = self._before.get(spoken.symbol)
        if name == "repeat" and (spoken.sort != "book" or before is None):
            name = None
        if name is None:
            post(wire, text.encode(), meaning)
            return
        self.note(name, f"{spoken.sort} {spoken.symbol}".strip())
        match name:
            case "drop":
                pass
            case "duplicate":
                post(wire, text.encode(), meaning)
                post(wire, text.encode(), meaning)
            case "repeat" if before is not None:
                post(wire, text.encode(), meaning)
                post(wire, before[0].encode(), before[1])
            case "delay":
                post(wire, text.encode(), meaning, self._rng.randrange(_DELAY_MOST_NS))
            case "truncate":
                post(wire, text.encode()[: self._rng.randrange(1, len(text))], None)
            case "corrupt":
                raw = bytearray(text.encode())
                raw[self._rng.randrange(len(raw))] = 0xFF
                post(wire, bytes(raw), None)
            case "merge":
                wire.kept = text
            case _ if spoiled is not None:
                # A number that is wrong may still be passed over; what it would bring a numbered book to is as it says.
                post(wire, spoiled.encode(), meaning)

    def _snapshot(self, wire: Wire, text: str, spoken: Spoken, meaning: Meaning | None) -> None:
        station = self._station
        name = self._chance.draw("snapshot")
        short = station.dialect.snapshot_short(text) if name == "snapshot_short" else None
        if name is None or (name == "snapshot_short" and short is None):
            station.post(wire, text.encode(), meaning)
            return
        self.note(name, spoken.symbol)
        match name:
            case "snapshot_late":
                station.post(wire, text.encode(), meaning, self._rng.randrange(_LATE_MOST_NS))
            case "snapshot_partial":
                start, end = text.find('"asks":['), text.rfind("]")
                if station.dialect.proven and self._rng.getrandbits(1) and 0 <= start < end:
                    cut = text[: start + 8] + text[text.index("]", start) :]
                    station.post(wire, cut.encode(), None)
                else:
                    station.post(wire, text.encode()[: len(text) // 2], None)
            case "snapshot_cut_off":
                station.hang_up(wire, reset=True)
            case _ if short is not None:
                station.post(wire, short.encode(), None)

    def _answer(self, wire: Wire, text: str) -> None:
        post = self._station.post
        name = self._chance.draw("answer")
        if name is None:
            post(wire, text.encode(), None)
            return
        self.note(name)
        match name:
            case "answer_late":
                post(wire, text.encode(), None, self._rng.randrange(_LATE_MOST_NS))
            case "answer_doubled":
                post(wire, text.encode(), None)
                post(wire, text.encode(), None)
            case "answer_wrong":
                post(wire, self._station.dialect.answer_wrong(text).encode(), None)

    # connections

    def count_attempt(self, route: int) -> None:
        """Notes an attempt and holds it against the venue's budget, its patience, and what back-off allows a route."""
        station = self._station
        now_ns, rate = station.agenda.now_ns, station.rules.connection_rate
        self.attempts += 1
        self._attempts = [attempt for attempt in self._attempts if now_ns - attempt[0] < _HOUR_NS] + [(now_ns, route)]
        self.keep_patience(station.address(route))
        for (most, seconds), whose in ((rate, None), (_ATTEMPTS_MOST, route)):
            recent = sum(
                now_ns - at_ns < seconds * SECOND_NS and whose in (None, of_route) for at_ns, of_route in self._attempts
            )
            if recent > most:
                station.checker.say(now_ns, "budget", 0, f"{recent} attempts in {seconds} s, and {most} are allowed")

    def keep_patience(self, address: str) -> None:
        """Nobody asks again before the time that the venue named. What another run was told, this one cannot know."""
        now_ns = self._station.agenda.now_ns
        early_ns = self._patience_ns.get(address, 0) - now_ns
        if early_ns > 0:
            early = f"{address} is asked {early_ns // MILLISECOND_NS} ms before the time that the venue named"
            self._station.checker.say(now_ns, "patience", 0, early)

    def ask_patience(self, address: str, retry_after: int) -> None:
        """The plant now knows of a Retry-After."""
        self._patience_ns[address] = self._station.agenda.now_ns + retry_after

    def forget_patience(self) -> None:
        """A new run knows nothing of what another was told."""
        self._patience_ns.clear()

    def of_attempt(self, line: int) -> tuple[int, int | None] | None:
        """Why an attempt of a line fails, with the peer's Retry-After in ns; None where it does not."""
        if self._station.mishaps.is_dead(line):
            return int(Reason.CONNECT_FAILED), None
        name = self._chance.draw("connect")
        if name is None:
            return None
        self.note(name)
        if name == "connect_failed":
            return int(Reason.CONNECT_FAILED), None
        if name == "connect_429":
            return int(Reason.RATE_LIMITED), (1 + self._rng.randrange(20)) * SECOND_NS
        return int(Reason.HANDSHAKE_REFUSED), None

    def each_second(self) -> None:
        """A second of every open connection."""
        for wire in list(self._station.wires.values()):
            if not wire.opened or wire.closing or wire.half_open or wire.mute:
                continue
            match self._chance.draw("second"):
                case "rst":
                    self.note("rst")
                    self._station.hang_up(wire, reset=True)
                case "fin":
                    self.note("fin")
                    self._station.hang_up(wire)
                case "half_open":
                    self.note("half_open")
                    wire.half_open = True
                case "mute":
                    self.note("mute")
                    wire.mute = True

    # requests

    def of_request(self, request: int, url: str) -> tuple[int, Answered]:
        """How long a request is under way, and what then answers it. The venue hears it in half of that time."""
        station, rng = self._station, self._rng
        name = self._chance.draw("request")
        parts = urlsplit(url)
        is_book = "depth" in parts.path
        kept = self._replies.setdefault(parts.query, []) if is_book else []
        if name == "snapshot_past" and not kept:
            name = None
        delay_ns = (10 + rng.randrange(60)) * MILLISECOND_NS
        if name is not None:
            self.note(name, parts.path)
        if name == "rest_slow":
            delay_ns += rng.randrange(_SLOW_MOST_NS)
        elif name == "rest_lost":
            return _NO_REPLY_NS, lambda run: station.reply(run, request, 0, b"no reply in time", None)
        elif name in _REFUSALS:
            status, body, retry_s = _REFUSALS[name]
            return delay_ns, lambda run: station.reply(run, request, status, body, retry_s * SECOND_NS or None)

        def heard(run: int) -> None:
            reply = station.venue.http("GET", parts.path, parts.query, station.agenda.now_ns)
            body = reply.body.encode()
            if name == "snapshot_past":
                body = kept[rng.randrange(len(kept))]
            elif is_book:
                kept.append(body)
                del kept[:-_OLD_REPLIES]
            if name == "rest_partial":
                body = body[: len(body) // 2]
            answer = partial(station.reply, run, request, reply.status, body, None)
            station.agenda.at(station.agenda.now_ns + delay_ns // 2, answer)

        return delay_ns // 2, heard

    def of_token(self, ask: Callable[[], bytes]) -> bytes | None:
        """The reply to a request for a token; None where there is none. `ask` asks the venue."""
        name = self._chance.draw("token")
        if name is not None:
            self.note(name)
        if name == "token_refused":
            return None
        reply = ask()
        if name == "token_expired" and isinstance(self._station.venue, Kraken):
            self._station.venue.expire_tokens()
        return reply

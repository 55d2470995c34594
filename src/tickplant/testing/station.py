"""One venue and the plant's loop for it in virtual time: what the control thread and the sockets do on the live way."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from tickplant import _native
from tickplant.clock import MILLISECOND_NS, SECOND_NS
from tickplant.plant.budget import Budget, BudgetName, Budgets
from tickplant.records import Reason
from tickplant.sim.market import Step
from tickplant.sim.venue import Close, Message
from tickplant.sim.venue import Venue as Simulated
from tickplant.testing.checks import Checked, Checker, Meaning
from tickplant.testing.dialects import dialect_of
from tickplant.testing.faults import Chance
from tickplant.testing.injury import Injury
from tickplant.testing.mishaps import Mishaps
from tickplant.testing.network import WallClock, Wire
from tickplant.testing.power import PowerCut
from tickplant.testing.truth import top
from tickplant.venues.base import Venue
from tickplant.venues.lines import plan_lines
from tickplant.venues.settings import VenueSettings
from tickplant.venues.user import UserVenue

# How long the live loop waits for a peer's part of a close, and for a reply.
_CLOSE_WITHIN_NS = 5 * SECOND_NS
_REPLY_WITHIN_NS = 10 * SECOND_NS
_RESOLVED_WITHIN_NS = MILLISECOND_NS
# What the live loop takes for a step of the clock; it follows less without a word.
_CLOCK_STEP_NS = 20 * MILLISECOND_NS

Turn = tuple[list[tuple[str, int, bytes]], int | None, list[tuple[int, int, bytes]]]


class Agenda(Protocol):
    """The world's time and what is to happen in it."""

    path: Path
    """The log's."""
    now_ns: int
    budgets: Budgets

    def at(self, at_ns: int, act: Callable[..., None], *arguments: Any) -> None: ...


class Station:
    """A simulated venue, the wires to it, and the loop at their other end."""

    def __init__(
        self,
        agenda: Agenda,
        venue: Simulated,
        rules: Venue,
        settings: VenueSettings,
        log: _native.LogHandle,
        chance: Chance,
        *,
        seed: int,
        pace: int = 1,
    ) -> None:
        self.agenda, self.venue, self.rules = agenda, venue, rules
        self.chance, self.log = chance, log
        self.lane = rules.code.lower()
        self.dialect = dialect_of(venue.name, rules)
        self.decoder = rules if isinstance(rules, UserVenue) else None
        self.ids = {symbol: log.assign(f"{symbol}.{rules.code}") for symbol in settings.instruments}
        self.settings = settings
        plan = rules.plan(self.ids, settings)
        self.plan = json.dumps(plan).encode()
        self.routes: list[str] = [route["url"] for route in plan["routes"]]  # type: ignore[attr-defined]
        lines = plan_lines(rules, settings)
        self.lines, self.lines_wanted = lines.copies, lines.wanted
        self.rotate_ns = round((settings.rotate_every_s or 0) * SECOND_NS)
        """The age that a world has its venues cut connections at, a while after the plant is to have replaced them; 0:
        they cut them at any age."""
        self.depth = rules.depth(settings) if rules.book.truncate else 0
        self.clock = WallClock()
        self.wires: dict[int, Wire] = {}
        self.by_number: dict[int, Wire] = {}
        self.injury = Injury(self)
        self.mishaps = Mishaps(self)
        self.digests: list[str] = []
        self.up = False
        self._seed = seed
        self._runs = 0
        self._opened = 0
        self._wake_ns: int | None = None
        self._power_cut: PowerCut | None = None
        listings = {listing.instrument.symbol: listing for listing in venue.market.listings}
        self.checked = {
            self.ids[symbol]: Checked(
                f"{symbol}.{rules.code}", listings[symbol], numbered=self.dialect.numbered, windowed=bool(self.depth),
                fetched=rules.backfill is not None,
            )
            for symbol in self.ids
        }  # fmt: skip
        self.checker = Checker(self.checked, pace)
        by_index = [self.checked.get(self.ids.get(listing.instrument.symbol, -1)) for listing in venue.market.listings]

        def witness(step: Step) -> None:
            if (checked := by_index[step.instrument]) is not None:
                checked.truth.note(step)

        venue.market.witness = witness

    # the plant's life

    def start(self) -> None:
        """Begins a run of the loop."""
        self._runs += 1
        self.up = True
        lead_ns = self.clock.begin_anew(self.agenda.now_ns)
        at_ns = self.clock.now(self.agenda.now_ns)
        self.loop = _native.VirtualLoop(
            self.log, self.lane, self.plan, at_ns, seed=self._seed + self._runs, decoder=self.decoder
        )
        self._wake_ns = None
        turn = self.loop.started()
        if self._power_cut is not None:
            self._power_cut.look(self.checker, self.agenda.now_ns, turn[2][0][1])
            self._power_cut = None
        self._after(turn, None)
        if lead_ns > _CLOCK_STEP_NS:
            self.note(Reason.CLOCK_STEP, -lead_ns, "the wall clock is behind what is in the log")

    def kill(self, frame: tuple[int, bytes] | None = None) -> None:
        """The plant dies, its sockets with it; with a frame, while it takes that."""
        if frame is None:
            self._die(self.loop.kill)
        else:
            self._die(partial(self.loop.kill_within, self.clock.now(self.agenda.now_ns), *frame))

    def lose_power(self) -> str:
        """The plant dies with its machine; says what of its archive is gone."""
        self._die(self.loop.close)
        self._power_cut = PowerCut(self.agenda.path, self.lane, self.chance.rng)
        return self._power_cut.detail

    def _die(self, end: Callable[[], None]) -> None:
        self.up = False
        self.digests.append(self.loop.digest())
        end()
        # Those that the venue has hung up on are no longer in `by_number`, and what they still carry reaches nobody.
        for wire in [*self.by_number.values(), *self.wires.values()]:
            self._forget(wire)
        self.wires.clear()
        self._wake_ns = None
        self._runs += 1
        self.injury.forget_patience()
        self.checker.restarted(self.agenda.now_ns)

    def close(self) -> None:
        """Ends the run in order."""
        self.digests.append(self.loop.digest())
        self.loop.close()

    def command(self, do: str, **arguments: Any) -> None:
        """Gives the session a command."""
        self.take("command", payload=json.dumps({"do": do, **arguments}).encode())

    def note(self, reason: Reason, value: int, detail: str) -> None:
        """Tells the session what its loop or the control thread noticed."""
        self.command("note", reason=int(reason), value=value, detail=detail)

    def set_clock(self, by_ns: int) -> None:
        """Somebody sets the wall clock. The plant notices when it looks, and says so with the time as it was."""
        now_ns = self.agenda.now_ns
        if self.up and abs(by_ns) > _CLOCK_STEP_NS:
            self.note(Reason.CLOCK_STEP, by_ns, "the wall clock stepped")
        self.clock.step(now_ns, by_ns)
        if self._wake_ns is not None:
            self.agenda.at(self.clock.when(self._wake_ns, now_ns), self._wake, self._runs, self._wake_ns)

    @property
    def attempts(self) -> int:
        """How often the plant has tried to connect."""
        return self.injury.attempts

    @property
    def run(self) -> int:
        """Grows with each start and each end of the plant."""
        return self._runs

    def subscribe(self, symbol: str) -> None:
        """Adds a holder of an instrument."""
        self.command("subscribe", instruments=[self.rules.instrument(symbol, self.ids[symbol], self.settings)])

    def take(
        self, kind: str, connection: int = 0, payload: bytes = b"", *, meaning: Meaning | None = None, **facts: Any
    ) -> None:
        """One turn of the loop with one input."""
        at_ns = self.clock.now(self.agenda.now_ns)
        self._after(self.loop.take(at_ns, kind, connection, payload, **facts), meaning)

    def _after(self, turn: Turn, meaning: Meaning | None) -> None:
        wishes, wake_ns, records = turn
        if records:
            self.checker.take(self.agenda.now_ns, records, meaning)
        if wake_ns is not None and wake_ns != self._wake_ns:
            self._wake_ns = wake_ns
            self.agenda.at(self.clock.when(wake_ns, self.agenda.now_ns), self._wake, self._runs, wake_ns)
        for word, number, text in wishes:
            _WISHES[word](self, number, text)

    def _wake(self, run: int, wake_ns: int) -> None:
        if run != self._runs or wake_ns != self._wake_ns:
            return
        now_ns = self.agenda.now_ns
        if self.clock.now(now_ns) < wake_ns:
            # The clock was set back in the meantime.
            self.agenda.at(max(now_ns + 1, self.clock.when(wake_ns, now_ns)), self._wake, run, wake_ns)
            return
        self._wake_ns = None
        self.take("timer")

    # the plant's wishes

    def _connect(self, route: int, _: bytes) -> None:
        self._turn("connections", self.routes[route], 1, self._resolve, self._runs, route)

    def _resolve(self, run: int, route: int) -> None:
        self.agenda.at(self.agenda.now_ns + _RESOLVED_WITHIN_NS, self._grant, run, route)

    def _ask(self, route: int, asked: bytes) -> None:
        wanted = json.loads(asked)
        name, amount = wanted["budget"], wanted["amount"]
        self._turn(name, self.routes[route], amount, self._allow, self._runs, name, route, amount)

    def _allow(self, run: int, name: BudgetName, route: int, amount: int) -> None:
        if run == self._runs:
            self.command("allowed", budget=name, connection=route, amount=amount)

    def _hold(self, route: int, asked: bytes) -> None:
        wanted = json.loads(asked)
        budget = self._budget(wanted["budget"], self.routes[route])
        if budget is not None:
            budget.hold(self.agenda.now_ns + wanted["wait_ns"])

    def address(self, route: int) -> str:
        """Whom a route leads to; patience and budgets are an address's."""
        return urlsplit(self.routes[route]).netloc

    def _budget(self, name: BudgetName, url: str) -> Budget | None:
        rules = self.rules
        address = urlsplit(rules.rest(self.settings) if name == "fetches" else url).netloc
        rate = {
            "connections": rules.connection_rate,
            "messages": rules.message_rate,
            "fetches": rules.fetch_rate,
        }[name]
        return None if rate is None else self.agenda.budgets.of(name, address, rate)

    def _turn(self, name: BudgetName, url: str, amount: int, act: Callable[..., None], *arguments: Any) -> None:
        """Acts when it is our turn in a budget; a wait is told as the control thread tells it."""
        budget, now_ns = self._budget(name, url), self.agenda.now_ns
        if budget is None:
            act(*arguments)
            return
        at_ns = budget.take(now_ns, amount)
        if at_ns > now_ns:
            detail = f"the venue's budget of {name} is used up for now"
            self.note(Reason.RATE_LIMITED, at_ns - now_ns, detail)
        self.agenda.at(at_ns, self._turn_came, self._runs, budget, act, arguments)

    def _turn_came(self, run: int, budget: Budget, act: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        if run != self._runs:
            return
        if budget.held_until_ns > self.agenda.now_ns:
            # Meanwhile the venue has asked for patience.
            self.agenda.at(budget.held_until_ns, self._turn_came, run, budget, act, arguments)
        else:
            act(*arguments)

    def _grant(self, run: int, route: int) -> None:
        if run != self._runs:
            return
        self._opened += 1
        wire = self.wires[route] = Wire(self._opened, route, self.agenda.now_ns, self.chance.rng)
        self.command("granted", connection=route)
        if wire.dead:
            return
        self.injury.count_attempt(route)
        refusal = self.injury.of_attempt(self.line_of(route))
        if refusal is not None:
            reason, retry_after = refusal
            self.agenda.at(wire.arrival_here(self.agenda.now_ns), self._end, wire, reason, retry_after)
        else:
            self.agenda.at(wire.arrival_there(self.agenda.now_ns), self._reach, wire)

    def _reach(self, wire: Wire) -> None:
        """The handshake arrives at the venue."""
        if wire.dead:
            return
        wire.at_venue = True
        self.by_number[wire.number] = wire
        if self.agenda.now_ns < self.mishaps.flapping_until_ns:
            self.agenda.at(self.agenda.now_ns + 200 * MILLISECOND_NS, self._flap, wire)
        parts = urlsplit(self.routes[wire.route])
        now_ns = self.agenda.now_ns
        said = self.venue.connect(wire.number, now_ns, parts.path or "/", parts.query)
        self.agenda.at(wire.arrival_here(now_ns), self._open, wire)
        for message in said:
            self.send(wire, message)

    def _flap(self, wire: Wire) -> None:
        if wire.number in self.by_number:
            self.hang_up(wire)

    def _open(self, wire: Wire) -> None:
        if not wire.dead:
            wire.opened = True
            self.take("opened", wire.route)

    def _send(self, route: int, text: bytes) -> None:
        wire = self.wires.get(route)
        if wire is not None and not wire.half_open:
            self.agenda.at(wire.arrival_there(self.agenda.now_ns), self._hear, wire, text.decode())

    def _hear(self, wire: Wire, text: str) -> None:
        if wire.number in self.by_number and not wire.half_open:
            if self.dialect.numbered:
                wire.deaf = {symbol for symbol in wire.deaf if symbol not in text and symbol.lower() not in text}
            for message in self.venue.receive(wire.number, text, self.agenda.now_ns):
                self.send(wire, message)

    def _ping(self, route: int, payload: bytes) -> None:
        wire = self.wires.get(route)
        if wire is not None and not wire.half_open:
            there_ns = wire.arrival_there(self.agenda.now_ns)
            self.agenda.at(there_ns, self._pong, wire, payload)

    def _pong(self, wire: Wire, payload: bytes) -> None:
        if wire.number in self.by_number and not wire.half_open:
            self.agenda.at(wire.arrival_here(self.agenda.now_ns), self._arrive, wire, "pong", payload, None)

    def _close(self, route: int, reason: bytes) -> None:
        wire = self.wires.get(route)
        if wire is None:
            self.take("closed", route, number=reason[0])
            return
        now_ns = self.agenda.now_ns
        wire.closing = True
        if wire.half_open or not wire.opened:
            self.agenda.at(now_ns + _CLOSE_WITHIN_NS, self._end, wire, reason[0], None)
        else:
            self.agenda.at(wire.arrival_there(now_ns), self._leave, wire, reason[0])

    def _leave(self, wire: Wire, reason: int) -> None:
        """Our close frame arrives at the venue, which answers it."""
        if not wire.dead:
            self._forget(wire, dead=False)
            self.agenda.at(wire.arrival_here(self.agenda.now_ns), self._end, wire, reason, None)

    def _end(self, wire: Wire, reason: int, retry_after: int | None, detail: bytes = b"simulated") -> None:
        """The plant learns that a connection has ended."""
        if wire.dead:
            return
        self._forget(wire)
        if self.wires.get(wire.route) is wire:
            del self.wires[wire.route]
            if retry_after is not None:
                self.injury.ask_patience(self.address(wire.route), retry_after)
            self.take("closed", wire.route, detail, number=reason, retry_after=retry_after)

    def _forget(self, wire: Wire, *, dead: bool = True) -> None:
        wire.dead = wire.dead or dead
        if self.by_number.pop(wire.number, None) is not None:
            self.venue.disconnect(wire.number)

    def _fetch(self, request: int, url: bytes) -> None:
        self.injury.keep_patience("requests")
        delay_ns, answered = self.injury.of_request(request, url.decode())
        self.agenda.at(self.agenda.now_ns + delay_ns, answered, self._runs)

    def reply(self, run: int, request: int, status: int, body: bytes, retry_after: int | None) -> None:
        """A reply, or the lack of one (status 0), arrives."""
        if run == self._runs:
            if retry_after is not None:
                self.injury.ask_patience("requests", retry_after)
            self.take("reply", payload=body, number=request, status=status, retry_after=retry_after)

    def _token(self, route: int, _: bytes) -> None:
        self._turn("fetches", self.routes[route], 1, self._fetch_token, self._runs, route)

    def _fetch_token(self, run: int, route: int) -> None:
        request = self.rules.token_request(self.settings, self.agenda.now_ns)
        if run != self._runs or request is None:
            return
        path, headers = urlsplit(request.url).path, request.headers

        def ask() -> bytes:
            return self.venue.http(request.method, path, "", self.agenda.now_ns, headers).body.encode()

        reply = self.injury.of_token(ask)
        token = None if reply is None else self.rules.parse_token(reply)
        detail = "" if token else "no token was given"
        at_ns = self.agenda.now_ns + 2 * _RESOLVED_WITHIN_NS
        self.agenda.at(at_ns, self._give_token, run, route, token, detail)

    def _give_token(self, run: int, route: int, token: str | None, detail: str) -> None:
        if run == self._runs:
            self.command("token", connection=route, token=token, detail=detail)

    # the venue's words

    def move(self) -> None:
        """The venue's next moment."""
        for number, message in self.venue.advance(self.agenda.now_ns):
            wire = self.by_number.get(number)
            if wire is not None:
                self.send(wire, message)
        self.agenda.at(max(self.venue.next_ns(), self.agenda.now_ns + 1), self.move)

    def send(self, wire: Wire, message: Message) -> None:
        """The venue says something; faults may change what arrives."""
        if isinstance(message, Close):
            if "Too many" in message.reason:
                self.checker.say(self.agenda.now_ns, "budget", 0, f"the venue hung up: {message.reason}")
            self.hang_up(wire)
            return
        spoken = self.dialect.read(message)
        meaning = None
        if spoken.sort in ("book", "snapshot") and spoken.symbol in self.ids:
            listing = self.venue.market.listings[self.venue.market.index_of[spoken.symbol]]
            update_id = listing.update_id if spoken.sort == "snapshot" else self.venue.published(spoken.symbol)
            id_ = self.ids[spoken.symbol]
            meaning = Meaning(id_, update_id, top(listing, self.depth) if self.depth else None)
            self.checked[id_].sent_id = update_id
        if spoken.sort == "snapshot":
            # Without numbers, a book that went on in the middle would show nobody that something is missing.
            wire.deaf.discard(spoken.symbol)
        if wire.deaf and spoken.sort != "answer" and any(symbol in message for symbol in wire.deaf):
            return
        self.injury.of_message(wire, message, spoken, meaning)

    def post(self, wire: Wire, text: bytes, meaning: Meaning | None, extra_ns: int = 0) -> None:
        """Puts a message on its way to the plant."""
        self.agenda.at(wire.arrival_here(self.agenda.now_ns, extra_ns), self._arrive, wire, "frame", text, meaning)

    def _arrive(self, wire: Wire, kind: str, payload: bytes, meaning: Meaning | None) -> None:
        if wire.dead or wire.half_open or (wire.mute and kind == "frame"):
            return
        if kind == "frame" and self.mishaps.wants_kill:
            self.mishaps.wants_kill = False
            self.kill((wire.route, payload))
            self.mishaps.restart_soon()
            return
        if meaning is not None:
            self.checker.heard(self.agenda.now_ns, wire.route, meaning)
        self.take(kind, wire.route, payload, meaning=meaning)

    def hang_up(self, wire: Wire, *, reset: bool = False) -> None:
        """The venue ends a connection, after what it has sent, or with a reset that overtakes it."""
        self._forget(wire, dead=False)
        now_ns = self.agenda.now_ns
        at_ns = now_ns + MILLISECOND_NS if reset else wire.arrival_here(now_ns)
        if not wire.half_open:
            self.agenda.at(at_ns, self._end, wire, int(Reason.PEER_CLOSED), None)

    def line_of(self, route: int) -> int:
        """Which line a route belongs to, from 0."""
        return route * self.lines // len(self.routes)

    def expected(self) -> list[int]:
        """How many subscriptions each route is to hold when all is at rest."""
        plan = json.loads(self.plan)
        counts = [0] * len(self.routes)
        for channel in plan["channels"]:
            counts[channel["route"]] += len(self.ids) if "{items}" in channel["subscribe"] else 1
        return counts

    def at_rest(self) -> None:
        """Holds books, trades and subscriptions against the venue's own."""
        now_ns = self.agenda.now_ns
        self.checker.at_rest(now_ns)
        routes = len(self.routes) // self.lines
        for route, expected in enumerate(self.expected()[:routes]):
            wires = [wire for wire in self.by_number.values() if wire.route % routes == route]
            held = [len(self.venue.subscriptions(wire.number)) for wire in wires]
            if held != [expected] * self.lines_wanted:
                self.checker.say(now_ns, "intended", 0, f"route {route} is to hold {expected} subscriptions: {held}")


_WISHES: dict[str, Callable[[Station, int, bytes], None]] = {
    "connect": Station._connect,
    "send": Station._send,
    "ping": Station._ping,
    "close": Station._close,
    "fetch": Station._fetch,
    "token": Station._token,
    "ask": Station._ask,
    "hold": Station._hold,
}

"""A load server: pre-rendered Kraken v2 book frames at a given rate, open-loop, over any number of connections.

    python bench/blaster.py --connections 12 --instruments 48 --rate 100000 --seconds 60

Prints one JSON line with its address, waits until that many connections have subscribed to books of depth 10, blasts,
and prints one JSON line with what it sent. Then it answers on, with heartbeats and without updates, until SIGTERM.

Frames come from the simulated venue's own market, so checksums are right. They form a closed cycle: the books walk
through their steps and back to the first state, so that the cycle can be sent again and again. Each frame's `timestamp`
is overwritten with the moment that its schedule gave it (not when it left), so `ts_recv - ts_event` omits no waiting.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import hashlib
import json
import signal
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from tickplant.clock import SECOND_NS, Pace, Random, rfc3339, seeded, sleep, wall_ns
from tickplant.sim import Close, build_venue
from tickplant.sim.matching import ASK, BID
from tickplant.sim.venue import PrintedLevel, Venue
from tickplant.sim.venues.kraken_book import checksum

DEPTH = 10
_STAMP = b'"timestamp":"'
_STAMP_BYTES = len("2026-11-21T09:30:00.123456Z")
_WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
Sides = tuple[list[PrintedLevel], list[PrintedLevel]]


def frame(payload: bytes, opcode: int = 1) -> bytes:
    """A server's WebSocket frame (RFC 6455, section 5.2): whole and not masked."""
    if len(payload) < 126:
        return struct.pack(">BB", 0x80 | opcode, len(payload)) + payload
    if len(payload) < 1 << 16:
        return struct.pack(">BBH", 0x80 | opcode, 126, len(payload)) + payload
    return struct.pack(">BBQ", 0x80 | opcode, 127, len(payload)) + payload


def book_text(symbol: str, kind: str, rows: Sides, proof: int) -> bytes:
    """A book message in Kraken's spelling; `rows` are bids and asks."""
    bids, asks = (",".join([f'{{"price":{price},"qty":{size}}}' for price, size in side]) for side in rows)
    return (
        f'{{"channel":"book","type":"{kind}","data":[{{"symbol":"{symbol}","bids":[{bids}],"asks":[{asks}],'
        f'"checksum":{proof},"timestamp":"{rfc3339(0)}"}}]}}'
    ).encode()


def window_rows(side: int, before: list[PrintedLevel], after: list[PrintedLevel]) -> list[PrintedLevel]:
    """What turns a side's window into the next: deletes of what is gone, then new and changed levels. A level that only
    fell behind ten better ones is not told, as on the venue."""
    old, new = dict(before), dict(after)
    worst = ticks(after[-1][0]) if len(after) == DEPTH else None
    rows = []
    for price, size in before:
        behind = worst is not None and (ticks(price) > worst if side == ASK else ticks(price) < worst)
        if price not in new and not behind:
            rows.append((price, "".join("." if digit == "." else "0" for digit in f"0.{size.partition('.')[2]}")))
    return rows + [(price, size) for price, size in after if old.get(price) != size]


def ticks(price: str) -> int:
    """A printed price as a whole number; one symbol's prices have one scale."""
    return int(price.replace(".", ""))


def states(venue: Venue, count: int) -> dict[str, list[Sides]]:
    """For each symbol `count` windows, in the order of the market's steps, each unlike the one before."""
    market, found = venue.market, {symbol: [window(venue, symbol)] for symbol in venue.symbols}
    missing = set(found)
    while missing:
        for step in market.steps(market.next_ns):
            symbol = venue.symbols[step.instrument]
            seen = found[symbol]
            if symbol in missing and (now := window(venue, symbol)) != seen[-1]:
                seen.append(now)
                if len(seen) == count:
                    missing.discard(symbol)
    return found


def window(venue: Venue, symbol: str) -> Sides:
    """The best ten levels a side, as printed."""
    listing = venue.market.listings[venue.market.index_of[symbol]]
    bids, asks = (
        [venue.printed(listing, price, size) for price, size in listing.book.levels(side, DEPTH)] for side in (BID, ASK)
    )
    return bids, asks


def cycle(symbol: str, walked: Sequence[Sides]) -> list[bytes]:
    """Update messages through all states and back to the first."""
    way = [*walked, *walked[-2::-1]]
    return [
        book_text(
            symbol,
            "update",
            (window_rows(BID, before[0], after[0]), window_rows(ASK, before[1], after[1])),
            checksum(after[1], after[0]),
        )
        for before, after in pairwise(way)
    ]


class Tape:
    """The cycles of some symbols, shuffled into one run of frames whose timestamps can be written over."""

    def __init__(self, cycles: Sequence[Sequence[bytes]], rng: Random) -> None:
        turns = [number for number, messages in enumerate(cycles) for _ in messages]
        rng.shuffle(turns)
        cursors = [iter(messages) for messages in cycles]
        self.frames = bytearray()
        self.starts = [0]
        self.stamps: list[int] = []
        for number in turns:
            rendered = frame(next(cursors[number]))
            self.stamps.append(len(self.frames) + rendered.index(_STAMP) + len(_STAMP))
            self.frames += rendered
            self.starts.append(len(self.frames))
        self.position = 0
        self._second = -1
        self._second_text = b""

    def __len__(self) -> int:
        return len(self.stamps)

    def take(self, most: int, first_ns: int, step_ns: float) -> tuple[int, bytes]:
        """Up to `most` next frames (fewer at the cycle's end) stamped from `first_ns` on, `step_ns` apart."""
        begin = self.position
        end = min(begin + most, len(self.stamps))
        for number in range(begin, end):
            self._stamp(self.stamps[number], int(first_ns + (number - begin) * step_ns))
        self.position = end % len(self.stamps)
        return end - begin, bytes(memoryview(self.frames)[self.starts[begin] : self.starts[end]])

    def _stamp(self, at: int, time_ns: int) -> None:
        second, rest = divmod(time_ns, SECOND_NS)
        if second != self._second:
            self._second, self._second_text = second, rfc3339(time_ns)[:20].encode()
        self.frames[at : at + _STAMP_BYTES] = b"%s%06dZ" % (self._second_text, rest // 1000)


@dataclass
class Report:
    """What was sent and how well the schedule was kept."""

    messages: int = 0
    bytes: int = 0
    seconds: float = 0.0
    messages_per_second: float = 0.0
    behind_us_most: float = 0.0
    backlog_bytes_most: int = 0
    connections: int = 0
    snapshots: int = 0
    subscribed: dict[str, list[str]] = field(default_factory=dict)


class Client(asyncio.Protocol):
    """One connection: handshake, requests, and its tape once it has subscribed to books."""

    def __init__(self, blaster: Blaster) -> None:
        self._blaster = blaster
        self._input = b""
        self._open = False
        self.transport: asyncio.Transport | None = None
        self.symbols: list[str] = []
        self.tape: Tape | None = None
        self.owed: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.set_write_buffer_limits(high=1 << 30)
        self.transport = transport

    def connection_lost(self, _error: Exception | None) -> None:
        self.transport = None
        self._blaster.gone(self)

    def data_received(self, data: bytes) -> None:
        self._input += data
        if not self._open:
            head, found, rest = self._input.partition(b"\r\n\r\n")
            if not found:
                return
            self._input = rest
            self._answer_head(head)
        while self._open and (parsed := parse_frame(self._input)):
            opcode, payload, self._input = parsed
            if opcode == 8:
                self.send(frame(payload[:2], 8))
                if self.transport:
                    self.transport.close()
            elif opcode == 9:
                self.send(frame(payload, 10))
            elif opcode == 1:
                self._blaster.receive(self, payload.decode(errors="replace"))

    def send(self, data: bytes) -> None:
        if self.transport:
            self.transport.write(data)

    def _answer_head(self, head: bytes) -> None:
        request, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if "sec-websocket-key" in headers:
            digest = hashlib.sha1(headers["sec-websocket-key"].encode() + _WEBSOCKET_GUID).digest()
            accept = base64.b64encode(digest)
            self.send(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
            )
            self._open = True
            self._blaster.opened(self)
            return
        method, target, _ = request.split(" ", 2)
        path, _, query = target.partition("?")
        reply = self._blaster.venue.http(method, path, query, wall_ns(), headers)
        body = reply.body.encode()
        head_text = f"HTTP/1.1 {reply.status} OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        self.send(head_text.encode() + b"Connection: close\r\n\r\n" + body)
        if self.transport:
            self.transport.close()


def parse_frame(data: bytes) -> tuple[int, bytes, bytes] | None:
    """(opcode, payload, rest) of a client's masked frame; None while it is not whole. Requests fit in 64 KiB."""
    if len(data) < 6:
        return None
    length, at = data[1] & 0x7F, 2
    if length == 126:
        length, at = int.from_bytes(data[2:4], "big"), 4
    elif length == 127:
        length, at = int.from_bytes(data[2:10], "big"), 10
    if len(data) < at + 4 + length:
        return None
    mask = data[at : at + 4]
    body = data[at + 4 : at + 4 + length]
    payload = bytes(byte ^ mask[number & 3] for number, byte in enumerate(body))
    return data[0] & 0x0F, payload, data[at + 4 + length :]


class Blaster:
    """The server. `connections` is how many must have subscribed to books before the load starts."""

    def __init__(self, *, connections: int, instruments: int, rate: int, seconds: float, seed: int, steps: int) -> None:
        self.venue = build_venue("kraken", seed=seed, start_ns=0, instrument_count=instruments, rate=10_000)
        self._states = states(self.venue, steps)
        self._cycles = {symbol: cycle(symbol, walked) for symbol, walked in self._states.items()}
        self._rng = seeded(f"tape {seed}")
        self._rate, self._seconds, self._wanted = rate, seconds, connections
        self._clients: dict[Client, int] = {}
        self._opened = 0
        self.ready = asyncio.Event()
        self.report = Report()

    async def listen(self, host: str, port: int) -> asyncio.Server:
        """Starts to accept connections."""
        return await asyncio.get_running_loop().create_server(lambda: Client(self), host, port, backlog=128)

    def opened(self, client: Client) -> None:
        """Greets as the venue does."""
        self._opened += 1
        self._clients[client] = self._opened
        for message in self.venue.connect(self._opened, wall_ns()):
            assert isinstance(message, str)
            client.send(frame(message.encode()))

    def gone(self, client: Client) -> None:
        """Forgets a connection."""
        if client in self._clients:
            self.venue.disconnect(self._clients.pop(client))

    def receive(self, client: Client, text: str) -> None:
        """Answers with the venue's own acknowledgements. Book snapshots are the cycle's first state; a connection that
        is already being blasted gets them when its cycle comes round to that state."""
        if '"book"' in text and json.loads(text)["params"].get("depth", DEPTH) != DEPTH:
            client.send(frame(b'{"error":"Subscription depth not supported","method":"subscribe","success":false}'))
            return
        answers = self.venue.receive(self._clients[client], text, wall_ns())
        for message in answers:
            assert not isinstance(message, Close)
            if not message.startswith('{"channel":"book"'):
                client.send(frame(message.encode()))
                continue
            symbol = json.loads(message)["data"][0]["symbol"]
            if symbol not in client.symbols:
                client.symbols.append(symbol)
            client.owed.append(symbol)
        if client.tape is None or client.tape.position == 0:
            self._pay(client)
        if sum(bool(other.symbols) for other in self._clients) >= self._wanted:
            self.ready.set()

    async def blast(self, tick_us: int) -> Report:
        """Sends for the given time at the given rate, shared equally by the connections that subscribed."""
        await sleep(0.5)  # late subscriptions of the last connection
        clients = [client for client in self._clients if client.symbols]
        for client in clients:
            client.tape = Tape([self._cycles[symbol] for symbol in client.symbols], self._rng)
        self.report = Report(connections=len(clients))
        step_ns = SECOND_NS * len(clients) / self._rate
        clock = Pace()
        start_ns = clock.now_ns()
        # Connections are offset against each other, so that their frames do not fall due all at once.
        next_ns = {client: start_ns + number * step_ns / len(clients) for number, client in enumerate(clients)}
        while next_ns:
            now_ns = clock.now_ns()
            over = now_ns - start_ns >= self._seconds * SECOND_NS
            for client, first_ns in list(next_ns.items()):
                if client.transport is None or (over and client.tape and client.tape.position == 0):
                    del next_ns[client]
                elif now_ns >= first_ns:
                    due = int((now_ns - first_ns) / step_ns) + 1
                    next_ns[client] += self._send(client, due, first_ns, step_ns, over) * step_ns
            await sleep(tick_us / 1e6)
        self.report.seconds = (clock.now_ns() - start_ns) / SECOND_NS
        self.report.messages_per_second = round(self.report.messages / self.report.seconds, 1)
        self.report.subscribed = {str(self._clients.get(client, 0)): client.symbols for client in clients}
        return self.report

    async def heartbeats(self) -> None:
        """Once a second on every open connection."""
        while True:
            await sleep(1)
            for client in self._clients:
                client.send(frame(b'{"channel":"heartbeat"}'))

    def _send(self, client: Client, due: int, first_ns: float, step_ns: float, last_round: bool) -> int:
        """Sends what is due, in the last round only to the cycle's end, so that every book ends in its first state."""
        tape, done = client.tape, 0
        assert tape
        self.report.behind_us_most = max(self.report.behind_us_most, (due - 1) * step_ns / 1000)
        while done < due:
            count, data = tape.take(due - done, int(first_ns + done * step_ns), step_ns)
            client.send(data)
            done += count
            self.report.bytes += len(data)
            if tape.position == 0:
                self._pay(client)
                if last_round:
                    break
        self.report.messages += done
        if client.transport:
            waiting = client.transport.get_write_buffer_size()
            self.report.backlog_bytes_most = max(self.report.backlog_bytes_most, waiting)
        return done

    def _pay(self, client: Client) -> None:
        """Sends the snapshots that are owed; all of the connection's books are in their first state."""
        for symbol in client.owed:
            bids, asks = self._states[symbol][0]
            self.report.snapshots += 1
            client.send(frame(book_text(symbol, "snapshot", (bids, asks), checksum(asks, bids))))
        client.owed.clear()


async def run(arguments: argparse.Namespace) -> None:
    """The command: listens, blasts once, answers until it is told to stop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    blaster = Blaster(
        connections=arguments.connections,
        instruments=arguments.instruments,
        rate=arguments.rate,
        seconds=arguments.seconds,
        seed=arguments.seed,
        steps=arguments.steps,
    )
    server = await blaster.listen(arguments.host, arguments.port)
    address = f"{arguments.host}:{server.sockets[0].getsockname()[1]}"
    facts = {"websocket": f"ws://{address}/v2", "http": f"http://{address}", "symbols": blaster.venue.symbols}
    print(json.dumps(facts), flush=True)
    heart = asyncio.create_task(blaster.heartbeats())

    async def work() -> None:
        await blaster.ready.wait()
        report = await blaster.blast(arguments.tick_us)
        print(json.dumps(vars(report)), flush=True)

    worker, stopped = asyncio.create_task(work()), asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait((worker, stopped), return_when=asyncio.FIRST_COMPLETED)
    if worker in done:
        worker.result()
        await stopped
    for task in (heart, worker):
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    server.close()


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--connections", type=int, default=12, help="that subscribe before the load starts")
    parser.add_argument("--instruments", type=int, default=48)
    parser.add_argument("--rate", type=int, default=100_000, help="messages a second, all connections together")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--steps", type=int, default=400, help="states of each book before it walks back")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--tick-us", type=int, default=1000, help="between writes; 0 spins for the finest pace")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()

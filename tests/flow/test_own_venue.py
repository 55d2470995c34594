"""A venue of the user's own, one Python class, through a whole plant against a server of its dialect."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from websockets import ConnectionClosed
from websockets.asyncio.server import ServerConnection, serve
from websockets.frames import Frame, Opcode

from tickplant import Plant, _native, config
from tickplant.clock import SECOND_NS
from tickplant.records import BookState, Reason, Status, Subject, Trade
from tickplant.venues.plan import BookPlan, Channel, Route, Timing
from tickplant.venues.user import BookEvent, Event, TradeEvent, UserVenue

from .conftest import all_live, exact, rows, until

AB, CD = "AB-X", "CD-X"
BURST = 200


class Ladder(UserVenue):
    """Books and trades in one channel; a frame is one JSON object."""

    code = "LADDER"
    number = 0x8001
    routes = (Route(url="ws://ladder.invalid/feed"),)
    channels = (
        Channel(
            stream="book",
            name="ladder",
            subscribe='{"join":[{items}]}',
            unsubscribe='{"leave":[{items}]}',
            item='"{symbol}"',
            acknowledged="data",
        ),
        Channel(
            stream="trades",
            name="tape",
            subscribe='{"tape":[{items}]}',
            unsubscribe='{"untape":[{items}]}',
            item='"{symbol}"',
            acknowledged="data",
        ),
    )
    book = BookPlan(continuity="range", snapshot="in_band")
    trade_ids_consecutive = True
    timing = Timing(ping_every=SECOND_NS // 20)
    symbol_pattern = r"[A-Z]+-X"
    symbol_example = AB
    reads: ClassVar[list[int]] = []
    gate: ClassVar[threading.Event] = threading.Event()
    """Decoding hangs while it is not set."""
    gate.set()

    def decode(self, frames: Sequence[bytes]) -> list[list[Event]]:
        assert isinstance(frames, list)
        self.gate.wait()
        self.reads.append(len(frames))
        return super().decode(frames)

    def decode_frame(self, frame: bytes) -> list[Event]:
        message = json.loads(frame)
        symbol, number = message["symbol"], message["n"]
        if "price" in message:
            return [TradeEvent(symbol=symbol, price=message["price"], size=message["size"], side="B", id=number)]
        return [
            BookEvent(
                symbol=symbol,
                bids=message["bids"],
                asks=message["asks"],
                snapshot=message["whole"],
                first=number,
                last=number,
                ts_event=message["time"],
            )
        ]


class LadderServer:
    """The other side: numbered books, whole on joining and after each further join."""

    def __init__(self) -> None:
        self.numbers = {AB: 100, CD: 500}
        self.trades = {AB: 0, CD: 0}
        self.bids: dict[str, dict[str, str]] = {symbol: {"10.00": "1.5", "9.50": "2"} for symbol in self.numbers}
        self.asks: dict[str, dict[str, str]] = {symbol: {"10.50": "1", "11.00": "3"} for symbol in self.numbers}
        self.connections = 0
        self._socket: ServerConnection | None = None

    async def serve(self, socket: ServerConnection) -> None:
        self._socket = socket
        self.connections += 1
        with contextlib.suppress(ConnectionClosed):
            async for text in socket:
                request = json.loads(text)
                for symbol in request.get("join", ()):
                    await socket.send(self._book(symbol, self.bids[symbol], self.asks[symbol], whole=True))
                for symbol in request.get("tape", ()):
                    await socket.send(self.trade(symbol))

    def send(self, *frames: str) -> None:
        """Sends frames in one write, so that they are read together."""
        assert self._socket is not None
        whole = [Frame(Opcode.TEXT, frame.encode()).serialize(mask=False) for frame in frames]
        self._socket.transport.write(b"".join(whole))

    def _book(self, symbol: str, bids: dict[str, str], asks: dict[str, str], *, whole: bool) -> str:
        sides = {"bids": list(bids.items()), "asks": list(asks.items())}
        number = self.numbers[symbol]
        return json.dumps({"symbol": symbol, "n": number, "time": number * SECOND_NS, "whole": whole, **sides})

    def update(self, symbol: str, price: str, size: str) -> str:
        self.numbers[symbol] += 1
        if size == "0":
            del self.bids[symbol][price]
        else:
            self.bids[symbol][price] = size
        return self._book(symbol, {price: size}, {}, whole=False)

    def trade(self, symbol: str) -> str:
        self.trades[symbol] += 1
        return json.dumps({"symbol": symbol, "n": self.trades[symbol], "price": "10.00", "size": "0.10"})


@contextlib.asynccontextmanager
async def ladder(log: Path, **more: object) -> AsyncIterator[tuple[LadderServer, Plant]]:
    venue = LadderServer()
    Ladder.reads.clear()
    async with serve(venue.serve, "127.0.0.1", 0, compression=None) as server:
        flags = {
            "log.path": str(log),
            "log.segment_bytes": 1 << 20,
            "log.hot_bytes_max": 32 << 20,
            "venue.ladder.class": f"{__name__}:Ladder",
            "venue.ladder.url": f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}",
            "venue.ladder.instruments": [AB, CD],
            "venue.ladder.streams": ["book", "trades"],
            "venue.ladder.backoff_first_s": 0.05,
            **{name.replace("__", "."): value for name, value in more.items()},
        }
        async with Plant(config.load(flags=flags)) as plant:
            await until(lambda: all_live(plant, 2, messages=2))
            yield venue, plant
    found = json.loads(_native.rebuild(str(log), "ladder", Ladder()))
    assert found["first_difference"] is None
    assert found["same"] > 0


async def row(plant: Plant, symbol: str) -> dict[str, Any]:
    return rows(await plant.summary())[f"{symbol}.LADDER"]


async def equal(plant: Plant, venue: LadderServer) -> bool:
    """Both books of the log are the venue's own."""
    for symbol, number in venue.numbers.items():
        book = plant.log.book(f"{symbol}.LADDER")
        held = (dict(exact(book.bids)), dict(exact(book.asks)))
        if held != (dict(exact(venue.bids[symbol].items())), dict(exact(venue.asks[symbol].items()))):
            return False
        assert (book.state, book.sequence, book.ts_event) == (BookState.LIVE, number, number * SECOND_NS)
    return True


async def test_books_trades_and_reads(tmp_path: Path) -> None:
    async with ladder(tmp_path) as (venue, plant):
        frames = [venue.update(AB, f"9.{count % 50:02}", f"{count + 1}") for count in range(BURST)]
        frames += [venue.update(CD, "9.50", "0"), *(venue.trade(CD) for _ in range(BURST))]
        venue.send(*frames)
        await until(lambda: equal(plant, venue))

        def all_trades() -> list[Trade]:
            return [trade for batch in plant.log.records(f"{CD}.LADDER", schema="trades") for trade in batch]

        trades = await until(lambda: found if len(found := all_trades()) == BURST + 1 else None)
        assert [trade.ref for trade in trades] == list(range(1, BURST + 2))
        assert {(trade.price_text, trade.size_text, trade.side.name) for trade in trades} == {("10.00", "0.10", "BID")}
        for symbol in (AB, CD):
            found = await row(plant, symbol)
            assert (found["gaps"], found["resyncs"], found["duplicates"]) == (0, 0, 0)
        # The border was crossed once a read, not once a frame.
        assert sum(Ladder.reads) == len(frames) + 4
        assert len(Ladder.reads) < len(frames) / 4


@pytest.mark.parametrize("bad", ["no json", '{"symbol":"AB-X"}', '{"symbol":"AB-X","n":1,"price":7,"size":"1"}'])
async def test_an_exception_spoils_its_own_frame_only(tmp_path: Path, bad: str) -> None:
    async with ladder(tmp_path) as (venue, plant):
        venue.send(venue.update(CD, "9.00", "4"), bad, venue.update(CD, "8.00", "5"), venue.update(AB, "8", "1"))

        async def counted() -> bool:
            return (await plant.summary())["lanes"]["ladder"]["session"]["connections"][0]["malformed"] == 1

        await until(counted)
        await until(lambda: equal(plant, venue))
        told = [
            (batch.lane, record)
            for batch in plant.log.records(schema="status")
            for record in batch
            if isinstance(record, Status) and record.reason is Reason.BAD_MESSAGE
        ]
        lane, first = next((lane, record) for lane, record in told if record.subject is Subject.CONNECTION)
        assert plant.log.blob(lane, first.ref) == bad.encode()
        found = await row(plant, CD)
        assert (found["state"], found["gaps"], found["resyncs"]) == ("LIVE", 0, 0)


async def test_a_missing_number_is_a_gap_and_the_venue_is_asked_again(tmp_path: Path) -> None:
    async with ladder(tmp_path) as (venue, plant):
        venue.update(AB, "9.00", "4")
        venue.send(venue.update(AB, "8.00", "5"))

        async def mended() -> bool:
            found = await row(plant, AB)
            return found["gaps"] == 1 and found["state"] == "LIVE"

        await until(mended)
        await until(lambda: equal(plant, venue))
        assert (await row(plant, CD))["resyncs"] == 0


async def test_pings_are_answered(tmp_path: Path) -> None:
    """Protocol pings, since the class names no text for one: their pongs count though frames cross in batches."""
    async with ladder(tmp_path) as (venue, plant):

        def round_trips() -> bool:
            return sum(len(batch) for batch in plant.log.records(schema="heartbeat")) >= 10

        await until(round_trips)
        assert venue.connections == 1

"""A venue of your own in one Python class, run against its own simulated market: python examples/own_venue.py

The dialect is made up. The client sends `join BTC/USD,ETH/USD`; the venue answers with whole books, then tells each
change of them, and deals by consecutive ids. It counts its messages over the whole connection, so a lost one shows.
`PitExchange` speaks the venue's side, on sockets or in a storm: tickplant sim --venues examples.own_venue:PitExchange
"""

import asyncio
import contextlib
import json
import sys
import tempfile

from tickplant import clock, config
from tickplant.plant import Plant
from tickplant.sim import Market, Message, Outbox, SimServer, Step, Subscribers, Venue, build_venue
from tickplant.sim.matching import ASK, BID
from tickplant.venues.plan import BookPlan, Channel, PlanStream, Route
from tickplant.venues.user import BookEvent, Event, FrameNumber, TradeEvent, UserVenue


def channel(stream: PlanStream, verb: str) -> Channel:
    """Nothing is acknowledged in this dialect: the first data is the answer."""
    return Channel(
        stream=stream,
        name=verb,
        subscribe=f"{verb} {{items}}",
        unsubscribe=f"un{verb} {{items}}",
        item="{symbol}",
        acknowledged="data",
    )


class Pit(UserVenue):
    """The dialect. Connecting, numbers, books, proofs and the log are the same as for every venue."""

    code = "PIT"
    number = 0x8000
    routes = (Route(url="wss://pit.example/feed"),)
    channels = (channel("book", "join"), channel("trades", "hear"))
    book = BookPlan(continuity="none", snapshot="in_band", connection_numbered=True)
    trade_ids_consecutive = True

    def decode_frame(self, frame: bytes) -> list[Event]:
        message = json.loads(frame)
        return [FrameNumber(number=message["number"]), self.event(message)]

    def event(self, message: dict[str, object]) -> Event:
        match message:
            case {"type": "book" | "change" as kind, "symbol": symbol, "bids": bids, "asks": asks}:
                return BookEvent(symbol=symbol, snapshot=kind == "book", bids=bids, asks=asks)
            case {"type": "deal", "symbol": symbol, "id": id_, "bought": bought, "price": price, "size": size}:
                return TradeEvent(symbol=symbol, id=id_, side="B" if bought else "A", price=price, size=size)
        raise ValueError("no message of this venue")


class PitExchange(Venue):
    """The venue's side: the simulator's market behind the dialect."""

    name = "pit"
    path = "/feed"
    rules = Pit

    def __init__(self, market: Market) -> None:
        super().__init__(market)
        self._subscribers = Subscribers()
        self._said: dict[int, int] = {}

    def connect(self, connection: int, now_ns: int, path: str = "", query: str = "") -> list[Message]:
        self._said[connection] = 0
        return []

    def disconnect(self, connection: int) -> None:
        self._said.pop(connection, None)
        self._subscribers.drop(connection)

    def receive(self, connection: int, text: str, now_ns: int) -> list[Message]:
        verb, _, symbols = text.partition(" ")
        answer = []
        for index in [self.market.index_of[symbol] for symbol in symbols.split(",") if symbol in self.market.index_of]:
            if verb.startswith("un"):
                self._subscribers.remove((verb.removeprefix("un"), index), connection)
                continue
            self._subscribers.add((verb, index), connection)
            if verb == "join":
                book = self.market.listings[index].book
                levels = [(side, price, size) for side in (BID, ASK) for price, size in book.levels(side)]
                answer.append(self._say(connection, "book", index, **self._sides(index, levels)))
        return answer

    def _step(self, step: Step, out: Outbox) -> None:
        index, book = step.instrument, self.market.listings[step.instrument].book
        for connection in self._subscribers.of(("join", index)) if step.changes else ():
            touched = dict.fromkeys((change.side, change.price) for change in step.changes)
            levels = [(side, price, book.size_at(side, price)) for side, price in touched]
            out.append((connection, self._say(connection, "change", index, **self._sides(index, levels))))
        for connection in self._subscribers.of(("hear", index)):
            for trade in step.trades:
                price, size = self.printed(self.market.listings[index], trade.price, trade.size)
                deal = {"id": trade.id, "bought": trade.side == BID, "price": price, "size": size}
                out.append((connection, self._say(connection, "deal", index, **deal)))

    def _say(self, connection: int, kind: str, index: int, **facts: object) -> str:
        self._said[connection] += 1
        symbol = self.market.listings[index].instrument.symbol
        return json.dumps({"type": kind, "number": self._said[connection], "symbol": symbol, **facts})

    def _sides(self, index: int, levels: list[tuple[int, int, int]]) -> dict[str, list[tuple[str, str]]]:
        sides: dict[int, list[tuple[str, str]]] = {BID: [], ASK: []}
        for side, price, size in levels:
            sides[side].append(self.printed(self.market.listings[index], price, size))
        return {"bids": sides[BID], "asks": sides[ASK]}


async def main(rows: int = 50) -> dict[str, object]:
    """Prints the first rows of a book and gives the plant's summary."""
    name = f"{__name__}:PitExchange"
    exchange = build_venue(name, seed=7, start_ns=clock.wall_ns(), instrument_count=2, rate=500)
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(SimServer([exchange]))
        flags = {
            "log.path": stack.enter_context(tempfile.TemporaryDirectory()),
            "venue.pit.class": f"{__name__}:Pit",
            "venue.pit.url": server.addresses["pit"].websocket,
            "venue.pit.instruments": exchange.symbols,
            "venue.pit.streams": ["book", "trades"],
        }
        plant = await stack.enter_async_context(Plant.open(config.load(flags=flags)))
        async for batch in plant.records("BTC/USD.PIT", schema="mbp-1"):
            for row in batch:
                print(row.as_dict(), file=sys.stderr)
            rows -= len(batch)
            if rows <= 0:
                break
        return await plant.summary()


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main())["instruments"], indent=2))

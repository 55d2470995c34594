"""A venue of your own in one Python class, run against a tiny server of its dialect: python examples/own_venue.py

The dialect is made up. The client sends `join GOLD,SILVER`; the venue answers with a whole book, then numbers each
change of it, one more than the change before, and tells trades by consecutive ids.
"""

import asyncio
import contextlib
import json
import sys
import tempfile
from collections.abc import AsyncIterator

from aiohttp import web

from tickplant import config
from tickplant.plant import Plant
from tickplant.venues.plan import BookPlan, Channel, PlanStream, Route
from tickplant.venues.user import BookEvent, Event, TradeEvent, UserVenue


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
    """The dialect. Connecting, chains, books, proofs and the log are the same as for every venue."""

    code = "PIT"
    number = 0x8000
    routes = (Route(url="wss://pit.example/feed"),)
    channels = (channel("book", "join"), channel("trades", "hear"))
    book = BookPlan(continuity="range", snapshot="in_band")
    trade_ids_consecutive = True

    def decode_frame(self, frame: bytes) -> list[Event]:
        match json.loads(frame):
            case {"type": "book", "symbol": symbol, "number": number, "bids": bids, "asks": asks}:
                return [BookEvent(symbol=symbol, snapshot=True, bids=bids, asks=asks, last=number)]
            case {"type": "change", "symbol": symbol, "number": number, "bids": bids, "asks": asks}:
                return [BookEvent(symbol=symbol, bids=bids, asks=asks, first=number, last=number)]
            case {"type": "deal", "symbol": symbol, "id": number, "bought": bought, "price": price, "size": size}:
                return [TradeEvent(symbol=symbol, id=number, side="B" if bought else "A", price=price, size=size)]
        raise ValueError("no message of this venue")


async def serve(request: web.Request) -> web.WebSocketResponse:
    """The venue's side: a book of three levels whose best bid grows, and a deal now and then."""
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    verb, _, symbols = (await socket.receive_str()).partition(" ")
    second, _, _ = (await socket.receive_str()).partition(" ")
    assert {verb, second} == {"join", "hear"}
    with contextlib.suppress(ConnectionError):
        for number in range(1_000_000):
            for symbol in symbols.split(","):
                for message in tell(symbol, number):
                    await socket.send_json(message)
            await asyncio.sleep(0.01)
    return socket


def tell(symbol: str, number: int) -> list[dict[str, object]]:
    """What the venue says of one instrument at once: first the whole book, then changes, at every tenth a deal."""
    best = ["99.50", f"{number % 90 + 10}.0"]
    if number == 0:
        bids = [best, ["99.00", "7.0"], ["98.50", "9.0"]]
        return [{"type": "book", "symbol": symbol, "number": 0, "bids": bids, "asks": [["100.00", "5.0"]]}]
    told: list[dict[str, object]] = [{"type": "change", "symbol": symbol, "number": number, "bids": [best], "asks": []}]
    if number % 10 == 0:
        told.append(
            {"type": "deal", "symbol": symbol, "id": number // 10, "bought": True, "price": "100.00", "size": "0.5"}
        )
    return told


@contextlib.asynccontextmanager
async def venue() -> AsyncIterator[str]:
    """Runs the venue on loopback and gives its address."""
    application = web.Application()
    application.router.add_get("/feed", serve)
    runner = web.AppRunner(application, shutdown_timeout=0.5)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"ws://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def main(messages: int = 50) -> dict[str, object]:
    """Prints the first rows of the book and gives the plant's summary."""
    async with contextlib.AsyncExitStack() as stack:
        address = await stack.enter_async_context(venue())
        flags = {
            "log.path": stack.enter_context(tempfile.TemporaryDirectory()),
            "venue.pit.class": f"{__name__}:Pit",
            "venue.pit.url": address,
            "venue.pit.instruments": ["GOLD", "SILVER"],
            "venue.pit.streams": ["book", "trades"],
        }
        plant = await stack.enter_async_context(Plant.open(config.load(flags=flags)))
        async for batch in plant.records("GOLD.PIT", schema="mbp-1"):
            for row in batch:
                print(row.as_dict(), file=sys.stderr)
            messages -= len(batch)
            if messages <= 0:
                break
        return await plant.summary()


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main())["instruments"], indent=2))

"""Frames that no venue should send: each is counted, sampled, mended by a resync, and nobody else's affair."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from websockets import ConnectionClosed
from websockets.asyncio.server import ServerConnection, serve

from tickplant import Plant, _native, config
from tickplant.records import BookState, ConnectionState, Reason, Status, Subject
from tickplant.sim.venues.kraken_book import checksum

from .conftest import all_live, rows, until

BAD, GOOD = "BTC/USD", "ETH/USD"
DEPTH = 10
STATUS = {"channel": "status", "type": "update", "data": [{"system": "online", "api_version": "v2", "version": "2"}]}


class TinyKraken:
    """One connection of a venue with two still books; the test says what is sent on top."""

    def __init__(self) -> None:
        self.books = {symbol: self._levels() for symbol in (BAD, GOOD)}
        self.subscribed: set[str] = set()
        self._socket: ServerConnection | None = None

    @staticmethod
    def _levels() -> dict[str, dict[str, str]]:
        return {
            "bids": {f"{100 - rank}.0": f"{rank + 1}.00000000" for rank in range(DEPTH)},
            "asks": {f"{101 + rank}.0": f"{rank + 2}.00000000" for rank in range(DEPTH)},
        }

    async def serve(self, socket: ServerConnection) -> None:
        self._socket, self.subscribed = socket, set()
        await socket.send(json.dumps(STATUS))
        with contextlib.suppress(ConnectionClosed):
            async for text in socket:
                for answer in self._answers(json.loads(text)):
                    await socket.send(answer)

    async def send(self, frame: str | bytes, *, text: bool | None = None) -> None:
        assert self._socket is not None
        await self._socket.send(frame, text=text)

    def _answers(self, request: dict[str, Any]) -> list[str]:
        if request["method"] == "ping":
            return [json.dumps({"method": "pong", "req_id": request["req_id"]})]
        wanted, leaving = request["params"], request["method"] == "unsubscribe"
        answers = []
        for symbol in wanted.get("symbol", [None]):
            result = {"channel": wanted["channel"]} | ({"symbol": symbol} if symbol else {})
            done = {"method": request["method"], "result": result, "success": True, "req_id": request["req_id"]}
            answers.append(json.dumps(done))
            if wanted["channel"] == "book":
                (self.subscribed.discard if leaving else self.subscribed.add)(symbol)
                if not leaving:
                    answers.append(self.message(symbol, "snapshot", self.books[symbol]))
        return answers

    def message(self, symbol: str, kind: str, sides: dict[str, dict[str, str]], proof: int | None = None) -> str:
        rows = {
            side: ",".join(f'{{"price":{price},"qty":{size}}}' for price, size in levels.items())
            for side, levels in sides.items()
        }
        held = self.books[symbol]
        bids = sorted(held["bids"].items(), key=lambda level: -float(level[0]))
        asks = sorted(held["asks"].items(), key=lambda level: float(level[0]))
        proof = checksum(asks, bids) if proof is None else proof
        return (
            f'{{"channel":"book","type":"{kind}","data":[{{"symbol":"{symbol}","bids":[{rows.get("bids", "")}],'
            f'"asks":[{rows.get("asks", "")}],"checksum":{proof},"timestamp":"2026-01-01T00:00:00.000000Z"}}]}}'
        )

    def update(self, symbol: str, price: str, size: str, **options: Any) -> str:
        """Changes a bid and gives the message that tells it."""
        self.books[symbol]["bids"][price] = size
        return self.message(symbol, "update", {"bids": {price: size}}, **options)


@contextlib.asynccontextmanager
async def tiny(log: Path) -> AsyncIterator[tuple[TinyKraken, Plant]]:
    """The tiny venue and a plant whose two books are live."""
    venue = TinyKraken()
    async with serve(venue.serve, "127.0.0.1", 0, compression=None) as server:
        port = server.sockets[0].getsockname()[1]
        flags = {
            "log.path": str(log),
            "log.segment_bytes": 1 << 20,
            "log.hot_bytes_max": 96 << 20,
            "venue.kraken.url": f"ws://127.0.0.1:{port}/v2",
            "venue.kraken.instruments": [BAD, GOOD],
            "venue.kraken.backoff_first_s": 0.05,
        }
        async with Plant(config.load(flags=flags)) as plant:
            await until(lambda: all_live(plant, 2, messages=1))
            yield venue, plant
    found = json.loads(_native.rebuild(str(log), "kraken"))
    assert found["first_difference"] is None


async def row(plant: Plant, symbol: str) -> dict[str, Any]:
    return rows(await plant.summary())[f"{symbol}.KRAKEN"]


def statuses(plant: Plant, subject: Subject, instrument: str | None = None) -> list[tuple[str, Status]]:
    found = []
    for batch in plant.log.records(instrument and f"{instrument}.KRAKEN", schema="status"):
        for record in batch:
            assert isinstance(record, Status)
            if record.subject is subject:
                found.append((batch.lane, record))
    return found


async def resynced(plant: Plant, times: int = 1) -> dict[str, Any] | None:
    found = await row(plant, BAD)
    return found if found["resyncs"] == times and found["state"] == "LIVE" else None


async def check_resync(plant: Plant, venue: TinyKraken, reason: Reason, sample: bytes) -> dict[str, Any]:
    """The bad instrument went LIVE, MISMATCH, SYNCING, LIVE with a sample kept; the other never left LIVE."""
    found = await until(lambda: resynced(plant))
    story = [(record.previous, record.current) for _, record in statuses(plant, Subject.BOOK, BAD)][-3:]
    states = [BookState.LIVE, BookState.MISMATCH, BookState.SYNCING, BookState.LIVE]
    assert story == list(itertools.pairwise(states))
    lane, fault = statuses(plant, Subject.BOOK, BAD)[-3]
    assert fault.reason is reason
    kept = plant.log.blob(lane, fault.ref)
    assert kept is not None
    assert kept == sample[:1024]
    other = await row(plant, GOOD)
    assert (other["state"], other["resyncs"], other["checksums_failed"]) == ("LIVE", 0, 0)
    assert [record.current for _, record in statuses(plant, Subject.BOOK, GOOD)] == [BookState.SYNCING, BookState.LIVE]
    # Both go on.
    for symbol in (BAD, GOOD):
        before = (await row(plant, symbol))["checksums_passed"]
        await venue.send(venue.update(symbol, "98.0", "7.50000000"))

        async def passed(symbol: str = symbol, before: int = before) -> bool:
            return (await row(plant, symbol))["checksums_passed"] == before + 1

        await until(passed)
        assert dict(await bids(plant, symbol))["98.0"] == "7.50000000"
    return found


async def bids(plant: Plant, symbol: str) -> list[tuple[str, str]]:
    return [(level.price, level.size) for level in plant.log.book(f"{symbol}.KRAKEN").bids]


def number(text: str) -> Callable[[TinyKraken], str]:
    return lambda venue: venue.message(BAD, "update", {"bids": {"99.0": text}})


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (number("1234567890" * 4), Reason.NUMBER_RANGE),
        (number("-1.00000000"), Reason.NEGATIVE_SIZE),
        # The ninth bid: a wrong checksum although the touch is right.
        (lambda venue: venue.update(BAD, "92.0", "3.30000000", proof=12345), Reason.CHECKSUM_MISMATCH),
    ],
    ids=["40-digits", "negative-size", "wrong-checksum-deep"],
)
async def test_an_impossible_message_resyncs_its_book(
    tmp_path: Path, frame: Callable[[TinyKraken], str], reason: Reason
) -> None:
    async with tiny(tmp_path) as (venue, plant):
        text = frame(venue)
        await venue.send(text)
        found = await check_resync(plant, venue, reason, text.encode())
        assert found["checksums_failed"] == (reason is Reason.CHECKSUM_MISMATCH)


async def test_a_message_that_never_came_is_shown_by_the_next_checksum(tmp_path: Path) -> None:
    async with tiny(tmp_path) as (venue, plant):
        venue.update(BAD, "92.0", "3.30000000")
        text = venue.update(BAD, "97.0", "1.10000000")
        await venue.send(text)
        await check_resync(plant, venue, Reason.CHECKSUM_MISMATCH, text.encode())


async def test_a_message_without_its_checksum_is_counted(tmp_path: Path) -> None:
    async with tiny(tmp_path) as (venue, plant):
        proof = venue.update(BAD, "97.0", "1.10000000")
        await venue.send(proof.replace(proof[proof.index('"checksum"') : proof.index('"timestamp"')], ""))

        async def counted() -> bool:
            return (await row(plant, BAD))["checksums_absent"] == 1

        await until(counted)
        assert (await row(plant, BAD))["state"] == "LIVE"
        assert (await row(plant, GOOD))["checksums_absent"] == 0


async def test_truncated_json_resyncs_the_book_it_names(tmp_path: Path) -> None:
    async with tiny(tmp_path) as (venue, plant):
        text = venue.message(BAD, "update", {"bids": {"99.0": "1.00000000"}})[:-30]
        await venue.send(text)
        await until(lambda: resynced(plant))
        lane, told = statuses(plant, Subject.CONNECTION)[-1]
        assert (told.reason, told.value) == (Reason.BAD_MESSAGE, 1)
        assert plant.log.blob(lane, told.ref) == text.encode()
        assert (await row(plant, GOOD))["resyncs"] == 0
        assert (await plant.summary())["lanes"]["kraken"]["session"]["connections"][0]["malformed"] == 1


@pytest.mark.parametrize("in_row", [9, 10])
async def test_rubbish_is_borne_for_a_while(tmp_path: Path, in_row: int) -> None:
    """Frames that name nobody resync nobody; ten in a row and the connection is made anew."""
    async with tiny(tmp_path) as (venue, plant):
        for _ in range(in_row):
            await venue.send("\x00rubbish")
        await venue.send(venue.update(GOOD, "98.0", "7.50000000"))

        async def seen() -> bool:
            lane = (await plant.summary())["lanes"]["kraken"]["session"]["connections"][0]
            return lane["malformed"] == in_row

        await until(seen)
        await until(lambda: all_live(plant, 2, messages=1))
        ends = [r.reason for _, r in statuses(plant, Subject.CONNECTION) if r.current is ConnectionState.WAITING][1:]
        assert ends == ([Reason.PROTOCOL_ERROR] if in_row == 10 else [])


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (b'{"channel":"book","data":[{"symbol":"BTC/USD\xff"}]}', "UTF-8"),
        (b"[" + b" " * (16 << 20) + b"]", "limit"),
    ],
    ids=["broken-utf-8", "over-the-limit"],
)
async def test_an_illegal_frame_ends_its_connection_with_the_reason(tmp_path: Path, frame: bytes, words: str) -> None:
    """The protocol itself is broken (RFC 6455, 7.1.7): nothing on this connection can be trusted, all of it is new."""
    async with tiny(tmp_path) as (venue, plant):
        with contextlib.suppress(ConnectionClosed):
            await venue.send(frame, text=True)
        await until(lambda: [r for _, r in statuses(plant, Subject.CONNECTION) if r.reason is Reason.PROTOCOL_ERROR])
        await until(lambda: all_live(plant, 2, messages=2))
        lane, told = next(
            found for found in statuses(plant, Subject.CONNECTION) if found[1].reason is Reason.PROTOCOL_ERROR
        )
        text = plant.log.blob(lane, told.ref)
        assert text is not None
        assert words in text.decode()
        for symbol in (BAD, GOOD):
            assert dict(await bids(plant, symbol)) == venue.books[symbol]["bids"]

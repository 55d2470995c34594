"""Clients that others wrote, with only their addresses changed, hold the simulated venues' books.

They run in an environment of their own (`make peers`), over TLS, as processes that report their books when asked. The
market stands still while books are compared; where a book has a sequence, every state that the client saw is compared.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.peers.report import digest, side

from tickplant.clock import SECOND_NS, monotonic_ns, sleep, wall_ns
from tickplant.sim import SimServer, Venue, build_venue

ROOT = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("TICKPLANT_PEERS_PYTHON", ROOT / ".venv-peers" / "bin" / "python"))
ROUNDS, UPDATES_A_ROUND = 5, 25
"""So many updates of each book, on average, before the market stands still and the books are compared."""
WITHIN_S = 60
LOOK_EVERY_S = 0.1
# How each client calls the instruments of each venue.
NAMES: dict[tuple[str, str], tuple[str, str]] = {
    ("cryptofeed", "kraken"): ("/", "-"),
    ("cryptofeed", "binance"): ("USDT", "-USDT"),
    ("cryptofeed", "binance_usdm"): ("USDT", "-USDT-PERP"),
    ("ccxt", "kraken"): ("/", "/"),
    ("ccxt", "binance"): ("USDT", "/USDT"),
    ("ccxt", "binance_usdm"): ("USDT", "/USDT:USDT"),
}
pytestmark = [
    pytest.mark.proof,
    pytest.mark.skipif(not PYTHON.exists(), reason="the foreign clients are not installed: make peers"),
]


class Peer:
    """A client's process and what it is asked."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def report(self) -> dict[str, Any]:
        """What the client holds now and what it saw since it was asked last."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(b"report\n")
        facts: dict[str, Any] = json.loads(await asyncio.wait_for(self._process.stdout.readline(), 30))
        return facts

    async def until(self, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first report of which this holds, with all that the client saw since the call; after a minute the last,
        for the caller to say what is wrong with it."""
        seen: list[Any] = []
        end_ns = monotonic_ns() + WITHIN_S * SECOND_NS
        while True:
            facts = await self.report()
            seen += facts["seen"]
            if holds(facts) or monotonic_ns() > end_ns:
                return facts | {"seen": seen}
            await sleep(LOOK_EVERY_S)

    async def wait_for_books(self, count: int) -> dict[str, Any]:
        facts = await self.until(lambda facts: len(facts["books"]) >= count)
        assert len(facts["books"]) >= count
        return facts


@contextlib.asynccontextmanager
async def peer(client: str, venue: Venue, server: SimServer, names: list[str]) -> AsyncIterator[Peer]:
    address = server.addresses[venue.name]
    facts = {
        "venue": venue.name,
        "websocket": address.websocket.removesuffix(venue.path),
        "http": address.http,
        "symbols": names,
    }
    process = await asyncio.create_subprocess_exec(
        PYTHON,
        Path(__file__).parent / f"{client}_client.py",
        json.dumps(facts),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 26,
        env=os.environ | {"SSL_CERT_FILE": str(server.ca_path), "REQUESTS_CA_BUNDLE": str(server.ca_path)},
    )
    try:
        yield Peer(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def simulated(name: str) -> Venue:
    return build_venue(name, seed=11, start_ns=wall_ns(), rate=400, history=50_000)


def truth_of(venue: Venue, symbol: str, depth: int | None) -> list[list[list[str]]]:
    """A venue's own book as a client reports its: bids and asks, each level a price and a size."""
    return [[list(level) for level in side(levels[:depth])] for levels in venue.book(symbol)]


def named(client: str, venue: Venue) -> dict[str, str]:
    """The client's name of each symbol."""
    ours, theirs = NAMES[client, venue.name]
    return {symbol.replace(ours, theirs): symbol for symbol in venue.symbols}


@pytest.mark.parametrize(("client", "name"), list(NAMES))
async def test_a_foreign_client_holds_the_same_books(client: str, name: str) -> None:
    venue = simulated(name)
    symbols = named(client, venue)
    depth = 10 if name == "kraken" else None
    updates = compared = 0
    async with SimServer([venue], tls=True) as server, peer(client, venue, server, list(symbols)) as subject:
        await subject.wait_for_books(len(symbols))
        for _ in range(ROUNDS):
            server.running(True)
            wanted = updates + UPDATES_A_ROUND * len(symbols)
            moving = await subject.until(lambda facts, wanted=wanted: facts["updates"] >= wanted or facts["problems"])
            server.running(False)
            truth = {theirs: truth_of(venue, ours, depth) for theirs, ours in symbols.items()}
            # What is on its way may still come; then the books are equal, or the test says how they differ.
            facts = await subject.until(lambda facts, truth=truth: facts["books"] == truth or facts["problems"])
            assert facts["problems"] == []
            assert facts["books"] == truth
            for theirs, sequence, seen in moving["seen"] + facts["seen"]:
                bids, asks = (side(levels) for levels in venue.book(symbols[theirs], sequence))
                assert digest(bids, asks) == seen, (theirs, sequence)
                compared += 1
            updates = facts["updates"]
    assert updates >= ROUNDS * UPDATES_A_ROUND * len(symbols)
    assert compared > 200 or name == "kraken"


@pytest.mark.parametrize(("client", "name"), [pair for pair in NAMES if pair != ("ccxt", "kraken")])
async def test_a_foreign_client_would_have_noticed(client: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their checks are on: after one lost message each of them complains."""
    venue = simulated(name)
    advance = venue.advance
    lose = False

    def lossy(now_ns: int) -> Any:
        nonlocal lose
        out = advance(now_ns)
        for number, (_, message) in enumerate(out):
            if lose and isinstance(message, str) and ("depthUpdate" in message or '"book-10"' in message):
                lose = False
                return out[:number] + out[number + 1 :]
        return out

    monkeypatch.setattr(venue, "advance", lossy)
    symbols = named(client, venue)
    async with SimServer([venue], tls=True) as server, peer(client, venue, server, list(symbols)) as subject:
        before = await subject.wait_for_books(len(symbols))
        wanted = before["updates"] + UPDATES_A_ROUND * len(symbols)
        facts = await subject.until(lambda facts: facts["updates"] >= wanted or facts["problems"])
        assert facts["problems"] == []
        lose = True
        problems = (await subject.until(lambda facts: bool(facts["problems"])))["problems"]
        assert problems
        assert not lose
        assert any(word in problems[0] for word in ("Checksum", "Missing book update")), problems[0]

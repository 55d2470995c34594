"""Clients that others wrote, with only their addresses changed, hold the simulated venues' books.

They run in an environment of their own (`make peers`), over TLS, as processes that report their books when asked. The
market stands still while books are compared; where a book has a sequence, every state that the client saw is compared.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.peers.report import digest, side

from tickplant.clock import sleep, wall_ns
from tickplant.sim import SimServer, Venue, build_venue

ROOT = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("TICKPLANT_PEERS_PYTHON", ROOT / ".venv-peers" / "bin" / "python"))
ROUNDS, ROUND_SECONDS = 5, 2.0
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

    async def wait_for_books(self, count: int) -> None:
        async with asyncio.timeout(60):
            while len((await self.report())["books"]) < count:
                await sleep(0.5)


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
            await sleep(ROUND_SECONDS)
            server.running(False)
            await sleep(1.0)
            facts = await subject.report()
            assert facts["problems"] == []
            for theirs, ours in symbols.items():
                bids, asks = (side(levels[:depth]) for levels in venue.book(ours))
                assert [[tuple(level) for level in levels] for levels in facts["books"][theirs]] == [bids, asks]
            for theirs, sequence, seen in facts["seen"]:
                bids, asks = (side(levels) for levels in venue.book(symbols[theirs], sequence))
                assert digest(bids, asks) == seen, (theirs, sequence)
                compared += 1
            updates = facts["updates"]
    assert updates > 100 * len(symbols)
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
        await subject.wait_for_books(len(symbols))
        await sleep(1.0)
        assert (await subject.report())["problems"] == []
        lose = True
        async with asyncio.timeout(30):
            while not (problems := (await subject.report())["problems"]):
                await sleep(0.2)
        assert not lose
        assert any(word in problems[0] for word in ("Checksum", "Missing book update")), problems[0]

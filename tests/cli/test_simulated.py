"""The simulated venues of `demo` in their own process: they come up, tell their books, and end with their parent."""

import asyncio
import json

import aiohttp
import pytest

from tickplant.cli.simulated import simulated_venues
from tickplant.errors import PlantError


async def test_the_venues_answer_and_give_their_books_when_they_stand_still():
    async with simulated_venues(seed=7, instruments=2, rate=500, venues=["kraken", "binance"]) as venues:
        assert venues.symbols == {"KRAKEN": ["BTC/USD", "ETH/USD"], "BINANCE": ["BTCUSDT", "ETHUSDT"]}
        url = f"{venues.http['BINANCE']}/api/v3/depth?symbol=BTCUSDT&limit=5000"
        first = await venues.freeze()
        async with aiohttp.ClientSession() as client, client.get(url) as reply:
            snapshot = json.loads(await reply.read())
        bids, asks = first["BTCUSDT.BINANCE"]
        assert [tuple(level) for level in snapshot["bids"]] == bids
        assert [tuple(level) for level in snapshot["asks"]] == asks
        assert await venues.freeze() == first
        process = venues._process
    assert process.returncode == 0


async def test_a_child_that_cannot_start_is_an_error():
    with pytest.raises(PlantError, match="do not answer"):
        async with asyncio.timeout(30), simulated_venues(seed=7, instruments=2, rate=500, venues=["nowhere"]):
            pass

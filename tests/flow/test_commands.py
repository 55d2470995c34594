"""Commands at random, with the connection cut under them: in the end what is subscribed is what was intended."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path

from tickplant import Plant
from tickplant.sim import SimServer

from .conftest import rows, settings_for, simulated, until

CALLS, CUTS, SYMBOLS = 1000, 8, 12


def venue_holds(server: SimServer) -> dict[str, set[str]]:
    """What the venue itself has on its list, by channel."""
    venue = server.venue("kraken")
    held: dict[str, set[str]] = {"book": set(), "trade": set(), "ticker": set()}
    subscribers = venue._subscribers
    for connection in subscribers.connections():
        for channel, *rest in subscribers.keys(connection):
            if channel in held:
                held[channel].add(venue.symbols[rest[0]])
    return held


async def test_a_thousand_random_commands_end_as_intended(tmp_path: Path) -> None:
    chance = random.Random(11)
    cuts = set(chance.sample(range(CALLS), CUTS))
    async with simulated(["kraken"], instrument_count=SYMBOLS, rate=100) as server:
        symbols = list(server.venue("kraken").symbols)
        settings = settings_for(
            server,
            ["kraken"],
            tmp_path,
            venue__kraken__instruments=symbols[:3],
            venue__kraken__backoff_first_s=0.02,
            venue__kraken__backoff_most_s=0.1,
        )
        async with Plant(settings) as plant:
            holders = Counter(dict.fromkeys(symbols[:3], 1))
            known = set(symbols[:3])
            cut = 0
            for call in range(CALLS):
                symbol = chance.choice(symbols)
                if chance.random() < 0.4 or symbol not in known:
                    plant.subscribe(f"{symbol}.KRAKEN")
                    holders[symbol] += 1
                    known.add(symbol)
                else:
                    plant.unsubscribe(f"{symbol}.KRAKEN")
                    holders[symbol] = max(0, holders[symbol] - 1)
                if call in cuts:
                    # Once there is a connection to cut; what is called meanwhile in other rounds finds none.
                    await until(lambda: server.connections("kraken"))
                    cut += server.drop_connections("kraken")
                await asyncio.sleep(chance.choice([0, 0, 0.005]))
            assert cut == CUTS
            intended = {symbol for symbol, count in holders.items() if count}
            assert 0 < len(intended) < SYMBOLS

            async def settled() -> bool:
                found = rows(await plant.summary())
                states = {symbol: found[f"{symbol}.KRAKEN"]["state"] for symbol in known}
                return all(state == ("LIVE" if symbol in intended else "CLOSED") for symbol, state in states.items())

            await until(settled)
            await until(lambda: all(held == intended for held in venue_holds(server).values()))
            assert await settled()
            found = rows(await plant.summary())
            assert {symbol: found[f"{symbol}.KRAKEN"]["holders"] for symbol in known} == {s: holders[s] for s in known}
            assert server.connections("kraken") == 1

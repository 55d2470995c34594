"""`python -m tickplant.sim --venues kraken,binance --instruments 4 --seed 7`: venues for as long as it runs.

Prints one JSON line with the addresses once all listen, and stops cleanly on SIGINT or SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys

from tickplant.clock import seed_from_system, wall_ns
from tickplant.sim import SimServer, build_venues
from tickplant.sim.presets import MOST_INSTRUMENTS, VENUES


async def serve(arguments: argparse.Namespace) -> None:
    """Runs the venues until a signal comes."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    venues = build_venues(
        arguments.venues.split(","),
        seed=arguments.seed,
        start_ns=wall_ns(),
        instrument_count=arguments.instruments,
        rate=arguments.rate,
    )
    async with SimServer(venues, tls=arguments.tls, host=arguments.host, port=arguments.port) as server:
        facts = {
            "seed": arguments.seed,
            "ca": str(server.ca_path) if server.ca_path else None,
            "venues": {
                venue.name: {
                    "websocket": server.addresses[venue.name].websocket,
                    "http": server.addresses[venue.name].http,
                    "symbols": venue.symbols,
                }
                for venue in venues
            },
        }
        print(json.dumps(facts), flush=True)
        broken, stopped = asyncio.create_task(server.wait()), asyncio.create_task(stop.wait())
        done, _ = await asyncio.wait((broken, stopped), return_when=asyncio.FIRST_COMPLETED)
        broken.cancel()
        if broken in done:
            broken.result()


def main() -> int:
    """The command. Exit 2 for arguments that make no simulation, 1 where a port is taken."""
    parser = argparse.ArgumentParser(prog="python -m tickplant.sim", description="Simulated venues on loopback.")
    parser.add_argument("--venues", default=",".join(VENUES), help="names with commas (default: all)")
    parser.add_argument("--instruments", type=int, default=4, help=f"of each venue, 1 to {MOST_INSTRUMENTS}")
    parser.add_argument("--seed", type=int, default=None, help="default: a fresh one, printed")
    parser.add_argument("--rate", type=int, default=200, help="orders a second of each venue")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="of the first venue; the others follow (0: any)")
    parser.add_argument("--tls", action="store_true", help="wss and https with a throw-away certificate")
    arguments = parser.parse_args()
    if arguments.seed is None:
        arguments.seed = seed_from_system()
    try:
        asyncio.run(serve(arguments))
    except ValueError as error:
        parser.error(str(error))
    except OSError as error:
        print(f"tickplant.sim: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

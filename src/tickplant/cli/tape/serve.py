"""`serve-tape`: a tape's replay server in this process."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from tickplant.cli.common import Exit, JsonOption, print_json, run_until_stopped, wait
from tickplant.errors import ConfigError
from tickplant.sim.tls import server_context
from tickplant.tape.serve import ServedClient, TapeServer

LOOK_EVERY_S = 0.1

FileArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="FILE|LOGDIR",
        help="A saved tape: NDJSON of objects or of arrays, gzip or not; or the log that `route --record` made.",
    ),
]
AheadOption = Annotated[
    bool,
    typer.Option(
        "--ahead",
        help="Render all of it first, so that sending costs least. With --rate max, --trades, --no-handshake.",
    ),
]


def serve_tape(
    file: FileArgument = None,
    synthetic: Annotated[bool, typer.Option("--synthetic", help="A market from a seed, without a file.")] = False,
    symbols: Annotated[int, typer.Option(min=1, max=200_000, help="Symbols of a synthetic market.")] = 6000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of a synthetic market.")] = 7,
    rate: Annotated[
        str, typer.Option(help="max, trades a second, profile:open, profile:day or profile:burst.")
    ] = "2000",
    speed: Annotated[int, typer.Option(min=1, help="So many times faster; a day's bursts stay at 1,000,000/s.")] = 1,
    trades: Annotated[int | None, typer.Option(min=1, help="The tape ends after so many.", show_default=False)] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 9943,
    tls: Annotated[bool, typer.Option("--tls", help="wss, with a throw-away authority whose file is printed.")] = False,
    per_frame: Annotated[str, typer.Option(help="Trades a frame; auto: as saved, or growing with the rate.")] = "auto",
    key: Annotated[str | None, typer.Option(help="The only key that is let in.", show_default=False)] = None,
    max_connections: Annotated[
        int | None, typer.Option(min=1, help="Clients at a time; a further one is refused.", show_default=False)
    ] = None,
    no_handshake: Annotated[
        bool, typer.Option("--no-handshake", help="Data from the connection on, unasked, without a greeting.")
    ] = False,
    ahead: AheadOption = False,
    one_market: Annotated[
        bool, typer.Option("--one-market", help="Clients join where the market is; otherwise each gets all of it.")
    ] = False,
    close: Annotated[bool, typer.Option("--close", help="Close after the last trade; otherwise stay, silent.")] = False,
    stamp: Annotated[bool, typer.Option("--stamp", help="A trade's t is the ns at which it was due.")] = False,
    clients: Annotated[
        int | None, typer.Option(min=1, help="End when so many have come and gone.", show_default=False)
    ] = None,
    json: JsonOption = False,
) -> Exit:
    """Serve a tape as Polygon's feed serves its own, to any number of clients, and tell what each was sent.

    Any path will do. Example: tickplant serve-tape --synthetic --rate profile:open --trades 1000000
    """
    if (file is None) != synthetic:
        raise ConfigError("there is nothing to serve, or two things", hint="give a FILE or --synthetic")
    if per_frame != "auto" and not (per_frame.isdigit() and int(per_frame) > 0):
        raise ConfigError(f'"{per_frame}" is no size of a frame', file="flag --per-frame", expected="auto or 1 and up")
    with tempfile.TemporaryDirectory(prefix="tickplant-tape-") as folder:
        authority = server_context(Path(folder), host)[1] if tls else None
        options: dict[str, Any] = {
            "symbols": symbols,
            "seed": seed,
            "rate": rate,
            "speed": speed,
            "trades": trades,
            "host": host,
            "port": port,
            "per_frame": None if per_frame == "auto" else int(per_frame),
            "key": key,
            "max_connections": max_connections,
            "no_handshake": no_handshake,
            "ahead": ahead,
            "one_market": one_market,
            "close": close,
            "stamp": stamp,
            "certificate": Path(folder) / "server.pem" if tls else None,
        }
        with TapeServer(file, **options) as server:
            if json:
                print_json({"event": "listening", "url": server.url, "authority": authority and str(authority)})
            else:
                typer.echo(f"serving at {server.url}" + (f", authority {authority}" if authority else ""))
            return run_until_stopped(lambda stop: _attend(server, clients, stop, json=json))


async def _attend(server: TapeServer, most: int | None, stop: asyncio.Event, *, json: bool) -> Exit:
    """Tells of each client as it is complete and as it leaves, until told to stop or enough have left."""
    told: dict[int, str] = {}
    stopped = False
    while not stopped:
        stopped = await wait(stop, LOOK_EVERY_S)
        known = server.clients()
        for client in known:
            event = ("sent" if client.complete else "serving") if client.connected else "left"
            if told.get(client.client) != event:
                told[client.client] = event
                _tell(event, client, json=json)
        if most is not None and sum(not client.connected for client in known) >= most:
            break
    server.stop()
    for client in server.clients():
        if told.get(client.client) != "left":
            _tell("left", client, json=json)
    return Exit.OK


def _tell(event: str, client: ServedClient, *, json: bool) -> None:
    if json:
        print_json({"event": event, **msgspec.to_builtins(client)})
        return
    text = f"client {client.client} {client.peer} {event}"
    if event != "serving":
        seconds = client.elapsed_ns / 1e9
        rate = f", {client.trades / seconds:,.0f}/s" if seconds > 0 else ""
        text += f": {client.trades:,} trades, {client.bytes:,} bytes, checksum {client.checksum}{rate}"
    typer.echo(text)

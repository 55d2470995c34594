"""`route` and `lb`: a whole market on one connection, dealt by symbol to the pipes of a worker."""

from __future__ import annotations

import os
from enum import Enum
from typing import Annotated

import typer

from tickplant.cli.common import Exit, JsonOption
from tickplant.errors import ConfigError
from tickplant.tape.route import RouteSettings, run

KEY_VARIABLE = "TICKPLANT_AUTH"


class Shard(Enum):
    HASH = "hash"
    ALPHABET = "alphabet"


class Policy(Enum):
    SPILL = "spill"
    BLOCK = "block"
    DROP = "drop"


class Spawn(Enum):
    ONE = "one"
    EACH = "each"


class Others(Enum):
    ROUTE = "route"
    DROP = "drop"


def route(
    url: Annotated[str, typer.Argument(help="ws:// or wss:// address of the feed.")],
    command: Annotated[list[str], typer.Argument(metavar="-- WORKER ARGS...", help="The worker's command.")],
    pipes: Annotated[int, typer.Option("--pipes", metavar="N", help="Pipes to deal to.")],
    cwd: Annotated[str | None, typer.Option("--cwd", help="The worker's directory.", show_default=False)] = None,
    spawn: Annotated[Spawn, typer.Option("--spawn", help="One worker with all pipes, or one for each.")] = Spawn.ONE,
    shard_by: Annotated[Shard, typer.Option("--shard-by", help="How symbols are dealt to pipes.")] = Shard.HASH,
    policy: Annotated[Policy, typer.Option("--when-full", help="What a full queue leads to.")] = Policy.SPILL,
    spill_dir: Annotated[str, typer.Option("--spill-dir", help="Where spills go.", show_default=False)] = "",
    queue_bytes: Annotated[int, typer.Option("--queue-bytes", help="Bytes queued for each pipe.")] = 128 << 10,
    pipe_bytes: Annotated[int, typer.Option("--pipe-bytes", help="Size of a pipe.")] = 1 << 20,
    subscribe: Annotated[
        str | None, typer.Option("--subscribe", help='Channels, as "T.*".', show_default=False)
    ] = None,
    others: Annotated[Others, typer.Option("--others", help="Messages that are no trades.")] = Others.DROP,
    ca: Annotated[str | None, typer.Option("--ca", help="PEM file of a further authority.", show_default=False)] = None,
    once: Annotated[bool, typer.Option("--once", help="End with the connection; do not connect anew.")] = False,
    grace_ms: Annotated[int, typer.Option("--grace-ms", help="Time for workers to end.")] = 4000,
    single_writes: Annotated[
        bool, typer.Option("--single-writes", help="One write a message, to measure against.", hidden=True)
    ] = False,
    json: JsonOption = False,
) -> Exit:
    """Deal a whole market's tape by symbol to the pipes of a worker.

    The worker gets the numbers of its pipes' descriptors as further arguments; a message is a 4-byte
    little-endian length and that many bytes of JSON. The feed's key is taken from TICKPLANT_AUTH.

    Example: tickplant route wss://socket.massive.com/stocks --subscribe "T.*" --pipes 8 -- python worker.py
    """
    settings = RouteSettings(
        url=url,
        pipes=pipes,
        command=tuple(command),
        cwd=cwd,
        spawn=spawn.value,
        shard_by=shard_by.value,
        policy=policy.value,
        spill_dir=spill_dir,
        queue_bytes=queue_bytes,
        pipe_bytes=pipe_bytes,
        key=os.environ.pop(KEY_VARIABLE, None),
        subscribe=subscribe,
        ca=ca,
        route_others=others is Others.ROUTE,
        once=once,
        json=json,
        grace_ms=grace_ms,
        single_writes=single_writes,
    )
    run(settings)
    return Exit.OK


def lb(
    key: Annotated[str, typer.Argument(help="The feed's key; -: TICKPLANT_AUTH has it, out of sight of ps.")],
    url: Annotated[str, typer.Argument(help="ws:// or wss:// address of the feed.")],
    pipes: Annotated[int, typer.Argument(help="Pipes to deal to.")],
    folder: Annotated[str, typer.Argument(metavar="DIR", help="The worker's directory.")],
    command: Annotated[list[str], typer.Argument(metavar="WORKER ARGS...", help="The worker's command.")],
    json: JsonOption = False,
) -> Exit:
    """`route` in the positional form of trade-balancer: all trades, one worker with all pipes.

    Options stand before the key: what follows it is the worker's.

    Example: tickplant lb - wss://socket.massive.com/stocks 31 . ./worker abc
    """
    named = os.environ.pop(KEY_VARIABLE, None)
    if key == "-" and not named:
        raise ConfigError("the key is - and TICKPLANT_AUTH is not set", file="command line", hint="set it to the key")
    run(
        RouteSettings(
            url=url,
            pipes=pipes,
            command=tuple(command),
            cwd=folder,
            key=named if key == "-" else key,
            subscribe="T.*",
            json=json,
        )
    )
    return Exit.OK

"""`route-map`: a map for the router that evens out a day's counts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tickplant.cli.common import Exit, JsonOption, print_json
from tickplant.errors import ConfigError
from tickplant.tape import shards


def route_map(
    counts: Annotated[
        Path, typer.Argument(help="A day's counts: lines SYMBOL COUNT, or a saved tape (NDJSON, gzip or not).")
    ],
    pipes: Annotated[int, typer.Option("--pipes", metavar="N", min=1, help="Pipes to deal to.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Where the map goes; else it is printed.", show_default=False)
    ] = None,
    json: JsonOption = False,
) -> Exit:
    """Make a map for `route --shard-by file` that gives each pipe as even a load as a day's counts allow.

    With --json one object tells how even the loads are and, without --out, holds the map: each symbol's pipe.

    Example: tickplant route-map yesterday.ndjson.gz --pipes 32 --out map.txt
    """
    day = shards.read_counts(counts)
    if not day:
        raise ConfigError("there is no trade in it", file=str(counts), expected="lines SYMBOL COUNT, or a saved tape")
    homes = shards.weigh(day, pipes)
    hashed = {symbol: shards.pipe_of(symbol, pipes) for symbol in day}
    before, after = (shards.max_over_mean(day, way, pipes) for way in (hashed, homes))
    text = "".join(shards.map_lines(homes, day))
    if out is not None:
        out.write_text(text)
    if json:
        account = {
            "symbols": len(homes),
            "trades": day.total(),
            "max_over_mean": after,
            "max_over_mean_by_hash": before,
        }
        print_json(account if out else account | {"map": homes})
    else:
        typer.echo("" if out else text, nl=False)
        typer.echo(f"{len(homes)} symbols, {day.total()} trades: max/mean {after:.3f}, by hash {before:.3f}", err=True)
    return Exit.OK

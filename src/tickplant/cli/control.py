"""`resync` and `reconnect`: commands into running plants through the sockets in their log directory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tickplant.cli.common import Exit, JsonOption, print_json
from tickplant.errors import PlantError
from tickplant.plant.control import send_command

DirectoryOption = Annotated[str, typer.Option("--log", metavar="DIR", help="Log directory of the running plant.")]


def resync(
    instruments: Annotated[list[str], typer.Argument(metavar="INSTRUMENT", help="Such as BTC/USD.KRAKEN.")],
    log: DirectoryOption = "data",
    json: JsonOption = False,
) -> Exit:
    """Have a running plant take a new snapshot of a book; until it is joined the book says SYNCING.

    Example: tickplant resync BTC/USD.KRAKEN --log data
    """
    for name in instruments:
        _tell(log, {"do": "resync", "instrument": name}, json=json)
    return Exit.OK


def reconnect(
    venue: Annotated[str, typer.Argument(metavar="VENUE", help="Such as kraken.")],
    log: DirectoryOption = "data",
    json: JsonOption = False,
) -> Exit:
    """Have a running plant close a venue's connections and make them anew at once.

    Example: tickplant reconnect kraken --log data
    """
    _tell(log, {"do": "reconnect", "venue": venue}, json=json)
    return Exit.OK


def _tell(log: str, command: dict[str, Any], *, json: bool) -> None:
    """Gives a command to every plant on this log; raises the first refusal where none of them took it.

    A plant of one share (`run --only`) has a socket of its own and refuses what another process runs.
    """
    doors = sorted(Path(log).glob("plant*.sock"))
    if not doors:
        raise PlantError("no plant answers", where=log, hint="is it running on this log directory? name it with --log")
    taken, refusals = [], []
    for door in doors:
        try:
            send_command(door, command)
            taken.append(door.name)
        except PlantError as error:
            refusals.append(error)
    if not taken:
        raise refusals[0]
    if json:
        print_json(command | {"taken_by": taken})
    else:
        typer.echo(f"{command['do']}: taken by {', '.join(taken)}")

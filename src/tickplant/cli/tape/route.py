"""`route` and `lb`: a whole market on one connection, dealt by symbol to the pipes of a worker."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from tickplant._native import TapeRouter
from tickplant.cli.common import Exit, JsonOption
from tickplant.cli.tape.light import become_router
from tickplant.cli.tape.options import (
    CaOption,
    CheckOption,
    CommandArgument,
    CwdOption,
    GraceMsOption,
    LogBytesOption,
    LogOption,
    MapFileOption,
    MarksOption,
    MetricsHostOption,
    MetricsPortOption,
    OnceOption,
    OnDeathOption,
    Others,
    OthersOption,
    PipeBytesOption,
    PipesOption,
    Policy,
    PolicyOption,
    QueueBytesOption,
    RecordOption,
    RedeliverBytesOption,
    Shard,
    ShardByOption,
    SingleWritesOption,
    Spawn,
    SpawnOption,
    SpillDirOption,
    SubscribeOption,
    UrlArgument,
    ViewOption,
)
from tickplant.errors import ConfigError
from tickplant.tape.route import REDELIVER_BYTES, RouteSettings, run, with_map

KEY_VARIABLE = "TICKPLANT_AUTH"


def route(
    url: UrlArgument = None,
    command: CommandArgument = None,
    pipes: PipesOption = None,
    cwd: CwdOption = None,
    spawn: SpawnOption = Spawn.ONE,
    on_death: OnDeathOption = None,
    redeliver_bytes: RedeliverBytesOption = REDELIVER_BYTES,
    marks: MarksOption = False,
    shard_by: ShardByOption = Shard.HASH,
    map_file: MapFileOption = None,
    policy: PolicyOption = Policy.SPILL,
    spill_dir: SpillDirOption = "",
    queue_bytes: QueueBytesOption = 128 << 10,
    pipe_bytes: PipeBytesOption = 1 << 20,
    subscribe: SubscribeOption = None,
    others: OthersOption = Others.DROP,
    ca: CaOption = None,
    once: OnceOption = False,
    grace_ms: GraceMsOption = 4000,
    view: ViewOption = False,
    metrics_port: MetricsPortOption = None,
    metrics_host: MetricsHostOption = "127.0.0.1",
    log: LogOption = None,
    record: RecordOption = None,
    log_bytes: LogBytesOption = 512 << 20,
    check: CheckOption = False,
    single_writes: SingleWritesOption = False,
    json: JsonOption = False,
) -> Exit:
    """Deal a whole market's tape by symbol to the pipes of a worker.

    The worker gets the numbers of its pipes' descriptors as further arguments; a message is a 4-byte
    little-endian length and that many bytes of JSON. The feed's key is taken from TICKPLANT_AUTH.
    With --log there are no pipes: workers get places as DIR#0 and read the shards of a log, and so may any number
    of others, from now or from the first trade that is kept (tickplant.tape.worker). Behind a router that ended only
    a tape with --record is left.

    Example: tickplant route wss://socket.massive.com/stocks --subscribe "T.*" --pipes 8 -- python worker.py
    Example: tickplant route --check
    """
    options = locals()
    if check:
        # Nobody else needs this module.
        from tickplant.cli.tape.check import check as check_kernel

        return check_kernel(pipe_bytes, json=json)
    if shard_by is Shard.FILE and map_file is None and command:
        # As in `--shard-by file MAP`: the map is the first word that is no option.
        map_file = Path(command.pop(0))
    for name, given in (("URL", url), ("--pipes", pipes)):
        if given is None:
            raise typer.BadParameter("missing", param_hint=f"'{name}'")
    kept = {"log": _one_log(log, record), "lanes": log is not None, "record": record is not None}
    settings = with_map(_settings(options, lines=not view, route_others=others is Others.ROUTE, **kept), map_file)
    beside = _beside(settings, view=view, host=metrics_host, port=metrics_port)
    if beside is None:
        become_router(settings)
    run(settings, beside)
    return Exit.OK


def _settings(options: dict[str, Any], **further: Any) -> RouteSettings:
    """Settings of the options of the same names; the key from the environment, out of sight of ps."""
    fields = {name: options[name] for name in RouteSettings.__struct_fields__ if name in options}
    words = {name: value.value if isinstance(value, Enum) else value for name, value in fields.items()}
    command = tuple(options["command"] or ())
    return RouteSettings(**words | further | {"command": command, "key": os.environ.pop(KEY_VARIABLE, None)})


def _one_log(log: Path | None, record: Path | None) -> str | None:
    if log and record and log != record:
        raise ConfigError(
            "two logs cannot take the tape", file="command line", hint="give --log and --record the same directory"
        )
    folder = log or record
    return None if folder is None else str(folder.absolute())


def _beside(
    settings: RouteSettings, *, view: bool, host: str, port: int | None
) -> Callable[[TapeRouter], AbstractContextManager[None]] | None:
    if not view and port is None:
        return None
    if view and not sys.stdout.isatty():
        raise ConfigError("the view needs a terminal", file="flag --view", hint="leave it away, or take --json")
    # A router without these stays small.
    from tickplant.cli.tape.watch import beside

    title = f"{settings.url.partition('?')[0]} to {settings.pipes} pipes"
    return beside(title, view=view, host=host, port=port)


def lb(
    key: Annotated[str, typer.Argument(help="The feed's key; -: TICKPLANT_AUTH has it, out of sight of ps.")],
    url: Annotated[str, typer.Argument(help="ws:// or wss:// address of the feed.")],
    pipes: Annotated[int, typer.Argument(help="Pipes to deal to.")],
    folder: Annotated[str, typer.Argument(metavar="DIR", help="The worker's directory.")],
    command: Annotated[list[str], typer.Argument(metavar="WORKER ARGS", help="The worker's command.")],
    json: JsonOption = False,
) -> NoReturn:
    """`route` in the positional form of trade-balancer: all trades, one worker with all pipes.

    Options stand before the key: what follows it is the worker's.

    Example: tickplant lb - wss://socket.massive.com/stocks 31 . ./worker abc
    """
    named = os.environ.pop(KEY_VARIABLE, None)
    if key == "-" and not named:
        raise ConfigError("the key is - and TICKPLANT_AUTH is not set", file="command line", hint="set it to the key")
    become_router(
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

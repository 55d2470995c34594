"""The options of `route`: what each is called and what its help says."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer


class Shard(Enum):
    HASH = "hash"
    ALPHABET = "alphabet"
    FILE = "file"


class Policy(Enum):
    SPILL = "spill"
    BLOCK = "block"
    DROP = "drop"


class Spawn(Enum):
    ONE = "one"
    EACH = "each"


class OnDeath(Enum):
    RESTART = "restart"
    FAIL_OVER = "fail-over"
    STOP = "stop"


class Others(Enum):
    ROUTE = "route"
    DROP = "drop"


UrlArgument = Annotated[
    str | None, typer.Argument(metavar="URL", help="ws:// or wss:// address of the feed.", show_default=False)
]
CommandArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="-- WORKER ARGS", help="The worker's command.", show_default=False),
]
PipesOption = Annotated[
    int | None, typer.Option("--pipes", metavar="N", help="Pipes, or with --log shards.", show_default=False)
]
CwdOption = Annotated[str | None, typer.Option("--cwd", help="The worker's directory.", show_default=False)]
SpawnOption = Annotated[Spawn, typer.Option("--spawn", help="One worker with all pipes, or one for each.")]
OnDeathOption = Annotated[
    OnDeath | None,
    typer.Option(
        "--on-death",
        help="What a worker's death leads to; restart with --spawn each, else stop.",
        show_default=False,
    ),
]
RedeliverBytesOption = Annotated[
    int, typer.Option("--redeliver-bytes", help="Bytes that a dead worker had read and that are given again too.")
]
MarksOption = Annotated[bool, typer.Option("--marks", help="Tell in the stream which messages are given again.")]
ShardByOption = Annotated[Shard, typer.Option("--shard-by", help="How symbols are dealt to pipes.")]
MapFileOption = Annotated[
    Path | None,
    typer.Option("--map", help="Symbols and sectors to pipes, for --shard-by file.", show_default=False),
]
PolicyOption = Annotated[Policy, typer.Option("--when-full", help="What a full queue leads to.")]
SpillDirOption = Annotated[str, typer.Option("--spill-dir", help="Where spills go.", show_default=False)]
QueueBytesOption = Annotated[int, typer.Option("--queue-bytes", help="Bytes queued for each pipe.")]
PipeBytesOption = Annotated[int, typer.Option("--pipe-bytes", help="Size of a pipe.")]
SubscribeOption = Annotated[str | None, typer.Option("--subscribe", help='Channels, as "T.*".', show_default=False)]
OthersOption = Annotated[Others, typer.Option("--others", help="Messages that are no trades.")]
CaOption = Annotated[str | None, typer.Option("--ca", help="PEM file of a further authority.", show_default=False)]
OnceOption = Annotated[bool, typer.Option("--once", help="End with the connection; do not connect anew.")]
GraceMsOption = Annotated[int, typer.Option("--grace-ms", help="Time for workers to end.")]
ViewOption = Annotated[bool, typer.Option("--view", help="Show rate and pipes on the terminal.")]
MetricsPortOption = Annotated[
    int | None,
    typer.Option("--metrics-port", help="Serve /metrics, /health, /ready there; 0: any.", show_default=False),
]
MetricsHostOption = Annotated[str, typer.Option("--metrics-host", help="Where to serve them.")]
LogOption = Annotated[
    Path | None, typer.Option("--log", help="Shared memory in place of pipes: a log directory.", show_default=False)
]
RecordOption = Annotated[
    Path | None, typer.Option("--record", help="Keep the tape in this log directory, on disk.", show_default=False)
]
LogBytesOption = Annotated[int, typer.Option("--log-bytes", help="Most memory that the log takes.")]
CheckOption = Annotated[bool, typer.Option("--check", help="Look at what the kernel gives; route nothing.")]
SingleWritesOption = Annotated[
    bool, typer.Option("--single-writes", help="One write a message, to measure against.", hidden=True)
]

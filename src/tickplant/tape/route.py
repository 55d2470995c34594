"""Settings of the tape router, and its run."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

import msgspec

from tickplant._native import TapeRouter
from tickplant.errors import ConfigError

PIPE_BYTES_LEAST, PIPE_BYTES_MOST = 64 << 10, 2 << 30
PIPES_MOST = 1000
# More than `tickplant.tape.worker` or a buffered file of any common language reads ahead.
REDELIVER_BYTES = 256 << 10


class RouteSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a router is told; the core's `tape::Settings`. Sizes in bytes; `key` goes to the feed and nowhere else.

    `on_death` None: `restart` where each pipe has a worker of its own, else `stop`. `log`: a log directory whose lane
    `tape` takes the tape. With `lanes` workers read that lane, a shard for each of `pipes`, and there are no pipes:
    `command` may be empty then. With `record` the lane is kept on disk.
    """

    url: str
    pipes: int
    command: tuple[str, ...]
    cwd: str | None = None
    spawn: Literal["one", "each"] = "one"
    on_death: Literal["restart", "fail-over", "stop"] | None = None
    redeliver_bytes: int = REDELIVER_BYTES
    marks: bool = False
    shard_by: Literal["hash", "alphabet", "file"] = "hash"
    map: dict[str, int] = msgspec.field(default_factory=dict)
    policy: Literal["spill", "block", "drop"] = "spill"
    spill_dir: str = ""
    queue_bytes: int = 128 << 10
    pipe_bytes: int = 1 << 20
    key: str | None = None
    subscribe: str | None = None
    ca: str | None = None
    route_others: bool = False
    once: bool = False
    message_bytes_max: int = 16 << 20
    json: bool = False
    lines: bool = True
    grace_ms: int = 4000
    single_writes: bool = False
    log: str | None = None
    lanes: bool = False
    record: bool = False
    log_bytes: int = 512 << 20

    def check(self) -> RouteSettings:
        """The settings, complete. Raises ConfigError."""
        if not 1 <= self.pipes <= PIPES_MOST:
            raise ConfigError(
                f"--pipes is {self.pipes}", file="command line", expected=f"a number from 1 to {PIPES_MOST}"
            )
        if not self.command and not self.lanes:
            raise ConfigError(
                "no worker is named",
                file="command line",
                hint="name its command behind --, as in: tickplant route URL --pipes 8 -- python worker.py",
            )
        for folder in (self.cwd, self.spill_dir):
            if folder and not Path(folder).is_dir():
                raise ConfigError(f'"{folder}" is no directory', file="command line", hint="make it, or name another")
        if not PIPE_BYTES_LEAST <= self.pipe_bytes <= PIPE_BYTES_MOST:
            raise ConfigError(
                f"a pipe of {self.pipe_bytes} bytes cannot be", file="command line", expected="64 KiB to 2 GiB"
            )
        if self.lanes and self.on_death not in (None, "stop"):
            raise ConfigError(
                "a worker of a log is not replaced",
                file="flag --on-death",
                hint="leave it away: the log keeps what a worker has not read, and another can begin there",
            )
        if self.on_death == "fail-over" and self.spawn == "one":
            raise ConfigError(
                "one worker has no other to fail over to",
                file="command line",
                hint="give --spawn each, or choose --on-death restart",
            )
        return msgspec.structs.replace(
            self,
            spill_dir=self.spill_dir or tempfile.gettempdir(),
            on_death=self.on_death or ("restart" if self.spawn == "each" and not self.lanes else "stop"),
        )


def with_map(settings: RouteSettings, path: Path | None) -> RouteSettings:
    """The settings with the map of a file, where symbols are dealt by one. Raises ConfigError."""
    if settings.shard_by != "file":
        if path is not None:
            raise ConfigError("a map is read with --shard-by file only", file="flag --map")
        return settings
    if path is None:
        raise ConfigError("no map is named", file="flag --shard-by", hint="name it: --shard-by file --map FILE")
    # Nobody else needs this module.
    from tickplant.tape.shards import read_map

    return msgspec.structs.replace(settings, map=read_map(path, settings.pipes))


def run(settings: RouteSettings, beside: Callable[[TapeRouter], AbstractContextManager[None]] | None = None) -> None:
    """Routes until SIGINT or SIGTERM (or the connection's end with `once`), on this thread, with which workers die.

    `beside`: a context for as long as it runs, which may ask the router for its report from other threads.
    Raises ConfigError, WireError or WorkerError.
    """
    router = TapeRouter(msgspec.json.encode(settings.check()))
    with beside(router) if beside else contextlib.nullcontext():
        router.run()

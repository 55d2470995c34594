"""Settings of the tape router, and its run."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Literal

import msgspec

from tickplant._native import TapeRouter
from tickplant.errors import ConfigError

PIPE_BYTES_LEAST, PIPE_BYTES_MOST = 64 << 10, 2 << 30
PIPES_MOST = 1000


class RouteSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a router is told; the core's `tape::Settings`. Sizes in bytes; `key` goes to the feed and nowhere else."""

    url: str
    pipes: int
    command: tuple[str, ...]
    cwd: str | None = None
    spawn: Literal["one", "each"] = "one"
    shard_by: Literal["hash", "alphabet"] = "hash"
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
    grace_ms: int = 4000
    single_writes: bool = False

    def check(self) -> RouteSettings:
        """The settings, complete. Raises ConfigError."""
        if not 1 <= self.pipes <= PIPES_MOST:
            raise ConfigError(
                f"{self.pipes} pipes cannot be", file="command line", expected=f"a number from 1 to {PIPES_MOST}"
            )
        if not self.command:
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
        return self if self.spill_dir else msgspec.structs.replace(self, spill_dir=tempfile.gettempdir())


def run(settings: RouteSettings) -> None:
    """Routes until SIGINT or SIGTERM (or the connection's end with `once`), on this thread, with which workers die.

    Raises ConfigError, WireError or WorkerError.
    """
    TapeRouter(msgspec.json.encode(settings.check())).run()

"""What runs beside the router, on a thread and a loop of its own: the live view, the metrics."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager
from typing import IO, Any

import msgspec
from rich.console import Console
from rich.live import Live

from tickplant import clock
from tickplant._native import TapeRouter
from tickplant.cli.tape.view import TapeView
from tickplant.tape import metrics
from tickplant.telemetry import MetricsServer

FRAME_S = 0.25
NOTICE_BYTES = 4096


def beside(
    title: str, *, view: bool, host: str, port: int | None
) -> Callable[[TapeRouter], AbstractContextManager[None]]:
    """What to run a router within. `view`: take the terminal over; `port`: serve metrics there, 0 takes a free one."""

    @contextlib.contextmanager
    def within(router: TapeRouter) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            if port is not None:
                stack.enter_context(_running(lambda: _serve(router, host, port)))
            if view:
                screen, notices = stack.enter_context(_screen())
                stack.enter_context(_running(lambda: _draw(router, TapeView(title), screen, notices)))
            yield

    return within


@contextlib.contextmanager
def _running(main: Callable[[], Awaitable[None]]) -> Iterator[None]:
    """Runs a coroutine on a thread of its own until the `with` ends."""
    loop = asyncio.new_event_loop()

    async def task() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await main()

    running = loop.create_task(task())
    thread = threading.Thread(target=loop.run_until_complete, args=(running,), name="tape-beside", daemon=True)
    thread.start()
    try:
        yield
    finally:
        # The loop may have ended by itself.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(running.cancel)
        thread.join()
        loop.close()


def report(router: TapeRouter) -> dict[str, Any] | None:
    """The router's account; None before its start."""
    text = router.report()
    return None if text is None else msgspec.json.decode(text, type=dict[str, Any])


async def _serve(router: TapeRouter, host: str, port: int) -> None:
    async def summary() -> dict[str, Any]:
        while (found := report(router)) is None:
            await clock.sleep(FRAME_S)
        return found

    server = MetricsServer(
        host,
        port,
        summary=summary,
        state=lambda: "running",
        required=[],
        text=metrics.exposition,
        missing=lambda found, _: metrics.troubles(found),
    )
    await server.start()
    what = server.fault or f"metrics at {server.address}"
    print(f"tickplant route: {what}", file=sys.stderr, flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        await server.stop()


async def _draw(router: TapeRouter, view: TapeView, screen: IO[str], notices: IO[bytes]) -> None:
    console = Console(file=screen)
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            if (found := report(router)) is not None:
                view.take(found, clock.monotonic_ns())
            view.notices = _last_lines(notices)
            live.update(view.render(console.width, console.height), refresh=True)
            await clock.sleep(FRAME_S)


@contextlib.contextmanager
def _screen() -> Iterator[tuple[IO[str], IO[bytes]]]:
    """The terminal for the view alone: what the router and its workers print goes to a file meanwhile.

    The file's end is shown in the view, and printed after it.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    with tempfile.TemporaryFile() as notices, contextlib.ExitStack() as stack:
        saved = [os.dup(1), os.dup(2)]
        # A descriptor of its own that appends, so that reading here does not move where they write.
        target = os.open(f"/proc/self/fd/{notices.fileno()}", os.O_WRONLY | os.O_APPEND)
        screen = stack.enter_context(os.fdopen(os.dup(saved[0]), "w"))
        try:
            os.dup2(target, 1)
            os.dup2(target, 2)
            yield screen, notices
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os.dup2(saved[0], 1)
            os.dup2(saved[1], 2)
            for fd in (*saved, target):
                os.close(fd)
            for line in _last_lines(notices):
                print(line, file=sys.stderr)


def _last_lines(notices: IO[bytes]) -> list[str]:
    size = notices.seek(0, os.SEEK_END)
    start = max(size - NOTICE_BYTES, 0)
    notices.seek(start)
    lines = notices.read().decode(errors="replace").splitlines()
    # A piece that begins in the middle of a line is shown without it.
    return [line for line in (lines[1:] if start else lines) if line.strip()]

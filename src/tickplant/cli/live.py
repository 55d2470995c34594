"""What `run`, `record`, `watch` and `demo` do while a plant lives: show it, say what changes, end in order."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live

from tickplant import clock
from tickplant.cli import common
from tickplant.cli.summary import with_totals
from tickplant.cli.view import View, clock_text
from tickplant.log import Log
from tickplant.plant import Plant
from tickplant.records import (
    UNDEF_I64,
    UNDEF_U64,
    ConnectionState,
    Reason,
    Status,
    Stream,
    Subject,
    SubscriptionState,
)

if TYPE_CHECKING:
    from tickplant._native import Reader

# What the connection of a STATUS is that is about none.
_NO_CONNECTION = (1 << 32) - 1
# Heartbeats and the venue's own status have no number.
_STREAMS = {int(stream): stream.name.lower() for stream in Stream}
CHANGES_EVERY_S = 0.25
# With so many new records at a look the next one comes so soon.
CHANGES_BUSY_RECORDS, CHANGES_BUSY_EVERY_S = 500, 0.025
FRAME_S = 0.2
PLAIN_S = 1.0


async def account(plant: Plant, started_ns: int) -> dict[str, Any]:
    """The plant's summary with totals since it was started (of the monotonic clock)."""
    return with_totals(await plant.summary(), (clock.monotonic_ns() - started_ns) / clock.SECOND_NS)


async def until_stopped(plant: Plant, stop: asyncio.Event, seconds: float | None) -> None:
    """Waits for the signal, the time or the plant's end. Raises what made the plant fail."""
    told = asyncio.create_task(common.wait(stop, seconds))
    ended = asyncio.create_task(plant.wait())
    done, waiting = await asyncio.wait((told, ended), return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    for task in done:
        task.result()


@contextlib.asynccontextmanager
async def shown(plant: Plant, instruments: Iterable[str], since_ns: int) -> AsyncIterator[View]:
    """Shows the live view while the `async with` lasts: full screen on a terminal, else a line a second.

    Changes of state are looked at from the receive time `since_ns` on, which is when the plant was started.
    """
    view = View(instruments)
    tasks = [
        asyncio.create_task(_take(plant.records(schema="mbp-10"), view.take_books)),
        asyncio.create_task(_take(plant.records(schema="trades"), view.take_trades)),
        asyncio.create_task(_note(plant, since_ns, view)),
        asyncio.create_task(_count(plant, view)),
    ]
    console = common.console()
    tasks.append(asyncio.create_task(_draw(view, console) if console.is_terminal else _print_lines(view)))
    faults: list[BaseException] = []
    watchers = [asyncio.create_task(_end_on_fault(plant, task, faults)) for task in tasks]
    try:
        yield view
    finally:
        for task in (*watchers, *tasks):
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*watchers, return_exceptions=True)
    # The first one ended the plant, and others may have failed for that.
    for fault in (*faults, *results):
        if isinstance(fault, Exception):
            raise fault


async def say_changes(plant: Plant, since_ns: int, say: Callable[[str], None]) -> None:
    """Says each change of state of this plant from a receive time on: connections, books, subscriptions, the disk, the
    clock. Another process that writes to the log says its own."""
    async for record, lane, text in _changes(plant, since_ns):
        say(change_text(record, lane, text))


async def _note(plant: Plant, since_ns: int, view: View) -> None:
    """Keeps what is wrong with connections and subscriptions at the foot of the view until it is well again."""
    async for record, lane, text in _changes(plant, since_ns):
        whose = f"{lane} {record.connection} {record.instrument_id} {record.detail} {record.subject}"
        if is_trouble(record):
            view.notices[whose] = change_text(record, lane, text)
        elif record.current in (ConnectionState.LIVE, SubscriptionState.ACTIVE, SubscriptionState.UNSUBSCRIBED):
            view.notices.pop(whose, None)


def is_trouble(record: Status) -> bool:
    """Whether a change of state is one that a user should see: a connection that waits or is silent, a refusal."""
    match record.subject:
        case Subject.CONNECTION:
            waits = record.current in (ConnectionState.WAITING, ConnectionState.STALE)
            return waits and record.reason is not Reason.REQUESTED
        case Subject.SUBSCRIPTION:
            return record.current is SubscriptionState.REFUSED
    return False


async def _changes(plant: Plant, since_ns: int) -> AsyncIterator[tuple[Status, str, str]]:
    # For the eye: following live would wake this thread for every commit of a busy feed. Readers that stay where they
    # are, and look more often while much comes: finding their place anew, or much at once, keeps a core for
    # milliseconds that a loop waits for. Each reads one lane: read as lines of one stream, two would tell what both say
    # once, and this plant may not be the one that said it.
    readers: dict[str, Reader] = {}
    while True:
        for lane in plant.lanes:
            if lane not in readers:
                readers[lane] = iter(plant.log.records(schema="status", start=since_ns, follow=True, lanes=[lane]))
        behind = sum(sum(reader.lag().values()) for reader in readers.values())
        for lane, reader in readers.items():
            while (batch := reader.poll()) is not None:
                for record in batch:
                    if isinstance(record, Status):
                        yield record, lane, status_text(plant.log, lane, record.ref)
        await clock.sleep(CHANGES_EVERY_S if behind < CHANGES_BUSY_RECORDS else CHANGES_BUSY_EVERY_S)


def status_text(log: Log, lane: str | None, index: int) -> str:
    """What the peer or the system said, where a STATUS record points at it; empty where it does not."""
    found = None if lane is None or index == UNDEF_U64 else log.blob(lane, index)
    return (found or b"").decode(errors="replace")


def change_text(record: Status, lane: str, text: str) -> str:
    """One STATUS record for people: when, whose state, what it is now, why, and when it is tried again."""
    of_lane = lane if record.connection == _NO_CONNECTION else f"{lane} connection {record.connection}"
    stream = _STREAMS.get(record.detail, "") if record.subject is Subject.SUBSCRIPTION else ""
    of_whom = f"{record.instrument or of_lane} {stream}".rstrip()
    whose = f"{record.subject.name.lower():<12} {of_whom:<24}"
    # A plant, a clock or a disk has no states to go through: the reason says it all.
    current = getattr(record.current, "name", str(record.current or ""))
    line = f"{clock_text(record.ts_recv)}  {whose} {'  '.join(filter(None, (current, record.reason.name)))}"
    waits = record.subject is Subject.CONNECTION and record.current is ConnectionState.WAITING
    if waits and record.ts_recv < record.value < UNDEF_I64:
        line += f", next try at {clock_text(record.value)}"
    return f"{line}: {text}" if text else line


async def _end_on_fault(plant: Plant, task: asyncio.Task[None], faults: list[BaseException]) -> None:
    """A part of the view that fails must not leave a frozen picture: the plant is asked to end, the fault is kept."""
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.wait((task,))
        if not task.cancelled() and (fault := task.exception()) is not None:
            faults.append(fault)
            await plant.stop()


async def _take(batches: AsyncIterator[Any], take: Any) -> None:
    async for batch in batches:
        take(batch)


async def _count(plant: Plant, view: View) -> None:
    started_ns = clock.monotonic_ns()
    while True:
        view.take_summary(await account(plant, started_ns), clock.monotonic_ns())
        await clock.sleep(1.0)


async def _draw(view: View, console: Console) -> None:
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(view.render(console.width, console.height), refresh=True)
            await clock.sleep(FRAME_S)


async def _print_lines(view: View) -> None:
    said: set[str] = set()
    while True:
        await clock.sleep(PLAIN_S)
        for notice in set(view.notices.values()) - said:
            print(notice, file=sys.stderr, flush=True)
        said = set(view.notices.values())
        for line in view.plain_lines():
            print(f"{clock_text(clock.wall_ns())}  {line}", flush=True)

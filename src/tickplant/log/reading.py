"""The iterator over a log's past and present, for `for` and for `async for`."""

from __future__ import annotations

import asyncio
import weakref
from typing import TYPE_CHECKING, Final

from tickplant._native import Doorbell

if TYPE_CHECKING:
    from tickplant._native import Batch, Reader

# After so many batches in a row without a pause, an `async for` lets other tasks run.
_STREAK_MOST: Final = 16
# A sleeping reader looks for new lanes so often.
_LOOK_SECONDS: Final = 1.0


class Records:
    """Batches of a log: what is there, and with `follow` what comes, without a gap or a repetition in between.

    Use it with `for` or, inside of an asyncio program, with `async for`. A reader that is too late gets
    `tickplant.errors.LostRecords` once and stands at the next kept record: iterate again to go on from there.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._streak = 0

    def __iter__(self) -> Reader:
        return self._reader

    def __aiter__(self) -> Records:
        return self

    async def __anext__(self) -> Batch:
        while True:
            batch = self._reader.poll()
            if batch is not None:
                self._streak += 1
                if self._streak >= _STREAK_MOST:
                    self._streak = 0
                    await asyncio.sleep(0)
                return batch
            if self._reader.finished:
                raise StopAsyncIteration
            self._streak = 0
            await _bell().wait(self._reader)

    def position(self) -> dict[str, int]:
        """The index of the next record of each lane: pass it as `start` to go on later or elsewhere."""
        return self._reader.position()

    def lag(self) -> dict[str, int]:
        """Committed records of each lane that were not yet given."""
        return self._reader.lag()


class _Bell:
    """What wakes the sleeping readers of one event loop: a doorbell that the one native waiter thread rings."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._doorbell = Doorbell()
        self._sleepers: set[asyncio.Future[None]] = set()
        loop.add_reader(self._doorbell.fileno(), self._ring)

    async def wait(self, reader: Reader) -> None:
        """Sleeps until one of the reader's lanes may have something; about once a second it looks for new lanes."""
        loop = asyncio.get_running_loop()
        sleeper = loop.create_future()
        self._sleepers.add(sleeper)
        look = loop.call_later(_LOOK_SECONDS, self._look, sleeper, reader)
        try:
            # Armed after the sleeper is listed: a ring from now on finds it. Where there is more to look at right away,
            # other tasks still get their turn.
            if reader.arm(self._doorbell):
                await sleeper
            else:
                await asyncio.sleep(0)
        finally:
            look.cancel()
            self._sleepers.discard(sleeper)

    def _ring(self) -> None:
        self._doorbell.clear()
        # Which lane rang is not told: a false alarm costs one look.
        for sleeper in self._sleepers:
            _wake(sleeper)

    def _look(self, sleeper: asyncio.Future[None], reader: Reader) -> None:
        reader.refresh()
        _wake(sleeper)


def _wake(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)


_BELLS: Final[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Bell]] = weakref.WeakKeyDictionary()


def _bell() -> _Bell:
    loop = asyncio.get_running_loop()
    bell = _BELLS.get(loop)
    if bell is None:
        bell = _BELLS[loop] = _Bell(loop)
    return bell

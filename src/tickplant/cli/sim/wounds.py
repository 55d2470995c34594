"""What `demo --faults` adds: proxies before the simulated venues, and the story of each fault while the plant runs."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

from tickplant import clock
from tickplant._native import LogDirectory
from tickplant.cli.simulated import Simulated
from tickplant.cli.view import View
from tickplant.plant import Plant
from tickplant.records import Gap, Status
from tickplant.testing.reports.wounds import Sign, Wound, sign_of, wounds
from tickplant.testing.sockets.proxy import FaultProxy

_LOOK_EVERY_S = 0.5
# So long a healed wound stays in the view.
_HEALED_SHOWN_NS = 5 * clock.SECOND_NS
_HEALED_WITHIN_S = 90.0


@contextlib.asynccontextmanager
async def wounded(
    venues: Simulated, faults: Mapping[str, float], seed: int
) -> AsyncIterator[tuple[Simulated, list[FaultProxy]]]:
    """The same venues behind proxies, for as long as the `async with` lasts. Without faults there are none."""
    async with contextlib.AsyncExitStack() as stack:
        proxies = []
        for code in venues.symbols if faults else ():
            door = FaultProxy(code.lower(), code, venues.websocket[code], venues.http[code], faults, seed=seed)
            proxies.append(await stack.enter_async_context(door))
        websocket = venues.websocket | {proxy.code: proxy.websocket for proxy in proxies}
        http = venues.http | {proxy.code: proxy.http for proxy in proxies}
        yield replace(venues, websocket=websocket, http=http), proxies


class FaultLog:
    """Joins the faults of the proxies to the plant's records as they come."""

    def __init__(self, plant: Plant, proxies: list[FaultProxy], since_ns: int) -> None:
        self._proxies = proxies
        self._signs: dict[str, list[Sign]] = {proxy.code.lower(): [] for proxy in proxies}
        self._reader = iter(plant.log.records(schema=("status", "gap"), start=since_ns, follow=True))
        self._directory = LogDirectory(plant.path)

    def look(self) -> list[Wound]:
        """What became of each fault so far, by time."""
        while (batch := self._reader.poll()) is not None:
            signs = self._signs.get(batch.lane or "")
            if signs is not None:
                signs += [sign_of(record) for record in batch if isinstance(record, Status | Gap)]
        self._reader.refresh()
        ids = {name: number for number, name in self._directory.instruments()}
        found = []
        for proxy in self._proxies:
            mine = {name.removesuffix(f".{proxy.code}"): id_ for name, id_ in ids.items() if name.endswith(proxy.code)}
            found += wounds(proxy.fired, self._signs[proxy.code.lower()], mine)
        return sorted(found, key=lambda wound: wound.fired)

    async def show(self, view: View) -> None:
        """Keeps each wound at the foot of the view until a while after it has healed."""
        while True:
            now_ns = clock.wall_ns()
            for wound in self.look():
                key = f"fault {wound.fired}"
                since_ns = wound.healed_ns or wound.fired.at_ns
                is_over = wound.healed_ns is not None or wound.noticed_ns is None
                if is_over and now_ns - since_ns > _HEALED_SHOWN_NS:
                    view.notices.pop(key, None)
                else:
                    view.notices[key] = f"FAULT {wound.text}"
            await clock.sleep(_LOOK_EVERY_S)


async def heal(plant: Plant, proxies: list[FaultProxy]) -> None:
    """Ends the faults and waits until every book is live again, within reason: what is not, the summary tells."""
    for proxy in proxies:
        proxy.heal()
    until_ns = clock.monotonic_ns() + round(_HEALED_WITHIN_S * clock.SECOND_NS)
    while clock.monotonic_ns() < until_ns:
        rows: list[dict[str, Any]] = (await plant.summary())["instruments"]
        if all(row["state"].upper() == "LIVE" for row in rows):
            return
        await clock.sleep(_LOOK_EVERY_S)

"""How often a venue's address may be connected to: one budget an address, shared by every loop of the process.

A storm of reconnections against a venue's limit makes the outage that it wants to end. Each attempt takes its turn here
before it is made; processes (`run --only`) do not know of each other, so give each its part where there are many.
"""

from __future__ import annotations

from collections import deque

from tickplant.clock import SECOND_NS
from tickplant.venues.plan import Rate


class Budget:
    """At most `rate.most` attempts in any span of `rate.seconds`, wherever it begins. Exact: no float, no average."""

    def __init__(self, rate: Rate) -> None:
        self._window_ns = rate.seconds * SECOND_NS
        self._taken: deque[int] = deque(maxlen=rate.most)

    def take(self, now_ns: int) -> int:
        """Takes the next turn and gives its time in ns, `now_ns` where one is free. Turns keep the order of asking."""
        at = max(now_ns, self._taken[-1]) if self._taken else now_ns
        if len(self._taken) == self._taken.maxlen:
            at = max(at, self._taken[0] + self._window_ns)
        self._taken.append(at)
        return at


class Budgets:
    """The budgets of a process by address (`host:port`). The first venue that names an address sets its rate."""

    def __init__(self) -> None:
        self._budgets: dict[str, Budget] = {}

    def take(self, address: str, rate: Rate, now_ns: int) -> int:
        """As `Budget.take`, of this address."""
        return self._budgets.setdefault(address, Budget(rate)).take(now_ns)

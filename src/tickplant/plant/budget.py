"""What an address may be asked for: budgets shared by every loop of the process.

Connections, messages and REST requests each have their own. A storm against a venue's limit makes the outage that it
wants to end, so each attempt, message and request takes its turn here before it is made; and where a venue asks for
patience (429, 418, `Retry-After`), nobody gets a turn before. Processes do not know of each other: one that is a line
(`run --line`) takes its part, and to shares (`run --only`) give each its part where there are many.
"""

from __future__ import annotations

from collections import deque
from typing import Literal, NamedTuple

from tickplant.clock import SECOND_NS
from tickplant.venues.plan import Rate

BudgetName = Literal["connections", "messages", "fetches"]


class Turn(NamedTuple):
    """What was granted, and when in ns."""

    at_ns: int
    amount: int


class Budget:
    """At most `rate.most` in any span of `rate.seconds`, wherever it begins. Exact: no float, no average."""

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self.held_until_ns = 0
        """Nothing is granted before: the venue asked for patience."""
        self.granted = 0
        self.waited_ns = 0
        self._window_ns = rate.seconds * SECOND_NS
        self._turns: deque[Turn] = deque()
        self._sum = 0

    def take(self, now_ns: int, amount: int = 1) -> int:
        """Takes the next turn and gives its time in ns, `now_ns` where one is free. Turns keep the order of asking.

        More than the rate ever allows at once is granted alone, after a whole span without anything.
        """
        at = max(now_ns, self.held_until_ns, self._turns[-1].at_ns if self._turns else 0)
        while self._turns and (self._turns[0].at_ns + self._window_ns <= at or self._sum + amount > self.rate.most):
            oldest = self._turns.popleft()
            self._sum -= oldest.amount
            at = max(at, oldest.at_ns + self._window_ns)
        self._turns.append(Turn(at, amount))
        self._sum += amount
        self.granted += amount
        self.waited_ns += at - now_ns
        return at

    def hold(self, until_ns: int) -> None:
        """Grants nothing before this time. Who already waits for a turn looks again when it comes."""
        self.held_until_ns = max(self.held_until_ns, until_ns)

    def used(self, now_ns: int) -> int:
        """What was granted within the last span, turns that are still to come included."""
        return sum(turn.amount for turn in self._turns if turn.at_ns + self._window_ns > now_ns)


class Budgets:
    """The budgets of a process by what they are of and the address (`host:port`).

    The first venue that names an address sets its rate.
    """

    def __init__(self) -> None:
        self._budgets: dict[tuple[BudgetName, str], Budget] = {}

    def of(self, name: BudgetName, address: str, rate: Rate) -> Budget:
        """The one budget of this address."""
        return self._budgets.setdefault((name, address), Budget(rate))

    def summary(self, now_ns: int) -> list[dict[str, object]]:
        """A row a budget: what it is of, its address, most and seconds, what is used of it, what was granted, waits."""
        return [
            {
                "budget": name,
                "address": address,
                "most": budget.rate.most,
                "seconds": budget.rate.seconds,
                "used": budget.used(now_ns),
                "granted": budget.granted,
                "waited_ns": budget.waited_ns,
                "held_ns": max(0, budget.held_until_ns - now_ns),
            }
            for (name, address), budget in self._budgets.items()
        ]

"""The budget of connections: never more than the rate in any span, never later than it must be."""

from hypothesis import given
from hypothesis import strategies as st

from tickplant.clock import SECOND_NS
from tickplant.plant.budget import Budget, Budgets
from tickplant.venues.plan import Rate


def earliest(taken: list[int], now_ns: int, rate: Rate) -> int:
    """The plain twin: the first time, in the order of turns, whose window before it has room."""
    at = max([now_ns, *taken])
    window = [time for time in taken if time > at - rate.seconds * SECOND_NS]
    while len(window) >= rate.most:
        at = window.pop(0) + rate.seconds * SECOND_NS
    return at


@given(
    most=st.integers(1, 6),
    seconds=st.integers(1, 4),
    steps=st.lists(st.integers(0, 3 * SECOND_NS), max_size=40),
)
def test_no_span_ever_holds_more_than_the_rate(most, seconds, steps):
    rate = Rate(most, seconds)
    budget, taken, now_ns = Budget(rate), [], 0
    for step in steps:
        now_ns += step
        expected = earliest(taken, now_ns, rate)
        taken.append(budget.take(now_ns))
        assert taken[-1] == expected
    for index, at in enumerate(taken):
        assert sum(at <= other < at + seconds * SECOND_NS for other in taken[index:]) <= most


def test_addresses_do_not_share_and_loops_of_one_do():
    budgets, rate = Budgets(), Rate(1, 10)
    assert budgets.take("a:443", rate, 5) == 5
    assert budgets.take("b:443", rate, 5) == 5
    assert budgets.take("a:443", rate, 6) == 5 + 10 * SECOND_NS

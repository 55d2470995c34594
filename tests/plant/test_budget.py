"""Budgets of an address: never more than the rate in any span, never later than it must be."""

from hypothesis import given
from hypothesis import strategies as st

from tickplant.clock import SECOND_NS
from tickplant.plant.budget import Budget, Budgets
from tickplant.venues.plan import Rate


def earliest(taken: list[tuple[int, int]], now_ns: int, amount: int, rate: Rate) -> int:
    """The plain twin: the first time, in the order of turns, whose window before it has room."""
    at = max([now_ns, *(time for time, _ in taken)])
    window = [turn for turn in taken if turn[0] > at - rate.seconds * SECOND_NS]
    while window and sum(size for _, size in window) + amount > rate.most:
        at = window.pop(0)[0] + rate.seconds * SECOND_NS
    return at


@given(
    most=st.integers(1, 6),
    seconds=st.integers(1, 4),
    steps=st.lists(st.tuples(st.integers(0, 3 * SECOND_NS), st.integers(1, 8)), max_size=40),
)
def test_no_span_ever_holds_more_than_the_rate(most: int, seconds: int, steps: list[tuple[int, int]]) -> None:
    rate = Rate(most, seconds)
    budget, now_ns = Budget(rate), 0
    taken: list[tuple[int, int]] = []
    for step, amount in steps:
        now_ns += step
        expected = earliest(taken, now_ns, amount, rate)
        taken.append((budget.take(now_ns, amount), amount))
        assert taken[-1][0] == expected
    for index, (at, amount) in enumerate(taken):
        within = sum(size for other, size in taken[index:] if at <= other < at + seconds * SECOND_NS)
        assert within <= max(most, amount), "what is larger than the rate stands alone"


def test_addresses_and_kinds_do_not_share_and_loops_of_one_do() -> None:
    budgets, rate = Budgets(), Rate(1, 10)
    assert budgets.of("connections", "a:443", rate).take(5) == 5
    assert budgets.of("connections", "b:443", rate).take(5) == 5
    assert budgets.of("messages", "a:443", rate).take(5) == 5
    assert budgets.of("connections", "a:443", rate).take(6) == 5 + 10 * SECOND_NS


def test_who_is_asked_for_patience_gives_it_on_every_loop() -> None:
    budgets, rate = Budgets(), Rate(10, 1)
    budgets.of("fetches", "a:443", rate).hold(70 * SECOND_NS)
    budgets.of("fetches", "a:443", rate).hold(20 * SECOND_NS)
    assert budgets.of("fetches", "a:443", rate).take(5) == 70 * SECOND_NS
    row = budgets.summary(60 * SECOND_NS)[0]
    assert (row["budget"], row["address"], row["most"], row["granted"]) == ("fetches", "a:443", 10, 1)
    assert (row["held_ns"], row["waited_ns"], row["used"]) == (10 * SECOND_NS, 70 * SECOND_NS - 5, 1)

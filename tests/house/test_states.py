"""The states that ARCHITECTURE.md draws are those by which the machine moves."""

import re
from itertools import pairwise

from tree import ROOT, read

STATE = re.compile(r"`([A-Z]+)`")


def arrows_of_the_machine() -> set[tuple[str, str]]:
    source = read(ROOT / "crates/core/src/session/arrows.rs")
    table = source[source.index("CONNECTION_ARROWS") : source.index("];")]
    return {(a.upper(), b.upper()) for a, b in re.findall(r"\(C::(\w+), C::(\w+)\)", table)}


def arrows_of_the_page(page: str) -> set[tuple[str, str]]:
    """The line of states, each leading to the next, and the table with what each leads to besides."""
    line = next(text for text in page.splitlines() if text.strip().startswith("IDLE ──►"))
    way = re.findall(r"[A-Z]+", line)
    arrows = set(pairwise(way))
    head = page.index("| from | to")
    for row in page[head : page.index("\n\n", head)].splitlines()[2:]:
        start, *ends = STATE.findall(row)
        arrows |= {(start, end) for end in ends}
    return arrows


def test_the_page_draws_the_arrows_of_the_machine():
    machine, page = arrows_of_the_machine(), arrows_of_the_page(read(ROOT / "ARCHITECTURE.md"))
    assert len(machine) > 20
    assert sorted(machine - page) == [], "the machine moves so, and the page does not say it"
    assert sorted(page - machine) == [], "the page says so, and the machine does not move"

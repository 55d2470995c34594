"""Fixtures of the tape's tests."""

from collections.abc import Callable, Iterator

import pytest
from tests.tape.route.routing import Tape


@pytest.fixture
def tapes() -> Iterator[Callable[..., Tape]]:
    made: list[Tape] = []

    def make(frames: list[str | bytes], *, stay: bool = False) -> Tape:
        made.append(Tape(frames, stay=stay))
        return made[-1]

    yield make
    for tape in made:
        tape.close()

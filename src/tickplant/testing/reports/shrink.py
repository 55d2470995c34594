"""Which faults a failing seed needs: the others are left out, as many as can be."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def shrink(names: Sequence[str], fails: Callable[[list[str]], bool]) -> list[str]:
    """A list of names out of these that still fails, from which no single one can be left out.

    `fails` is asked about each candidate; the whole list is known to fail. Large parts are tried first.
    """
    kept = list(names)
    size = max(1, len(kept) // 2)
    while True:
        start = 0
        shrunk = False
        while start < len(kept):
            candidate = kept[:start] + kept[start + size :]
            if fails(candidate):
                kept, shrunk = candidate, True
            else:
                start += size
        if size == 1 and not shrunk:
            return kept
        size = max(1, size // 2)

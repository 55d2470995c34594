"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

RECORDINGS = Path(__file__).parents[1] / "../shared/data"


@pytest.fixture
def recording() -> Callable[[str], Path]:
    """Gives a venue's recording by its file name. They are not in the repository: without it the test is skipped."""

    def find(name: str) -> Path:
        path = Path(os.environ.get("TICKPLANT_RECORDINGS", RECORDINGS)) / name
        if not path.exists():
            pytest.skip(f"no recording {path} (set TICKPLANT_RECORDINGS)")
        return path

    return find

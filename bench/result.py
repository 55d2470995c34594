"""What a bench ends with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def tell(result: Any, out: Path | None) -> None:
    """Prints a result as JSON, and writes it to `out` too where one was named."""
    text = json.dumps(result, indent=1)
    print(text)
    if out:
        out.write_text(text + "\n")

"""What a bench ends with: JSON, an object a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def tell(result: dict[str, Any] | list[dict[str, Any]], out: Path | None) -> None:
    """Prints each row of a result as a line of JSON, and writes them to `out` too where one was named."""
    rows = result if isinstance(result, list) else [result]
    text = "\n".join(json.dumps(row) for row in rows)
    print(text, flush=True)
    if out:
        out.write_text(text + "\n")

"""The example of a venue of one's own runs by itself."""

import json
import re
import subprocess
import sys
from pathlib import Path

from tests.conftest import WITHIN_S

EXAMPLE = Path(__file__).parents[2] / "examples/own_venue.py"


def test_a_venue_of_ones_own():
    ended = subprocess.run([sys.executable, EXAMPLE], capture_output=True, text=True, timeout=WITHIN_S, check=False)
    assert ended.returncode == 0, ended.stderr
    rows = {row["instrument"]: row for row in json.loads(ended.stdout)}
    assert set(rows) == {"BTC/USD.PIT", "ETH/USD.PIT"}
    for row in rows.values():
        assert (row["state"], row["gaps"], row["resyncs"]) == ("LIVE", 0, 0)
        assert row["messages"] >= 10
    # Which price it is depends on how long the market ran before the plant came.
    assert re.search(r"'bid_px_00': '6\d{4}\.\d\d'", ended.stderr)

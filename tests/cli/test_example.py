"""The example of a venue of one's own runs by itself."""

import json
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples/own_venue.py"


def test_a_venue_of_ones_own():
    ended = subprocess.run([sys.executable, EXAMPLE], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    rows = {row["instrument"]: row for row in json.loads(ended.stdout)}
    assert set(rows) == {"BTC/USD.PIT", "ETH/USD.PIT"}
    for row in rows.values():
        assert (row["state"], row["gaps"], row["resyncs"]) == ("LIVE", 0, 0)
        assert row["messages"] >= 10
    assert "'bid_px_00': '61234.56'" in ended.stderr

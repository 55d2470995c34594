"""`bench replay`: what it says of a small recording from a simulated venue. Nothing here is timed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tickplant.cli.bench.replay import guess_venue, measure, measured_text
from tickplant.cli.main import call
from tickplant.venues.table import VENUES

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Recordings by venue, made when they are first asked for."""
    folder = tmp_path_factory.mktemp("recorded")

    def make(venue: str, *flags: str) -> Path:
        path = folder / f"{venue}{''.join(flags)}.raw"
        if not path.exists():
            command = [sys.executable, str(ROOT / "bench/frames.py"), venue, "--messages", "1500", "--rate", "400"]
            subprocess.run([*command, *flags, "--instruments", "2", "--out", str(path)], check=True)
        return path

    return make


@pytest.mark.parametrize("venue", ["kraken", "binance", "binance_usdm", "coinbase"])
def test_every_venues_recording_is_measured_and_proven(recorded, venue):
    path = recorded(venue)
    assert guess_venue(path, "raw").code == venue.upper()
    measured = measure(path, "raw", VENUES[venue.upper()], 10 if venue == "kraken" else None, 0)
    assert measured["messages"] >= 1500
    assert [row["state"] for row in measured["instruments"]] == ["LIVE", "LIVE"]
    assert sum(row["checksums_failed"] for row in measured["instruments"]) == 0
    if venue == "kraken":
        assert sum(row["checksums_passed"] for row in measured["instruments"]) > 5000
    stages = measured["stages"]
    assert set(stages) == {"decode", "apply", "verify", "records", "journal", "waited"}
    # The parts are differences, so together they are the whole, but for their rounding.
    assert abs(sum(stage["ns"] for stage in stages.values()) - measured["ns_per_message"]) < 1
    assert measured["allocations_per_message"] < 0.01
    # The machine's own, whatever was measured before it: messages of all changes take most.
    assert 0 < measured["memory_bytes_most"] < (1_500_000 if venue == "binance_usdm" else 500_000)
    assert f"{measured['messages']:,} messages of {venue.upper()}" in measured_text(measured)


def test_the_command(recorded, capsys):
    path = str(recorded("kraken"))
    assert call(["bench", "replay", path, "--depth", "10", "--seconds", "0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["venue"] == "KRAKEN"
    # Books that are cut elsewhere than the venue cuts its own do not hold.
    assert call(["bench", "replay", path, "--depth", "500", "--seconds", "0"]) == 1
    assert "failed" in capsys.readouterr().out


def test_what_is_no_recording(tmp_path, capsys):
    path = tmp_path / "strange.raw"
    path.write_text('1800000000000000000 {"hello":"world"}\n')
    assert call(["bench", "replay", str(path)]) == 6
    assert "name one with --venue" in capsys.readouterr().err


def test_without_a_command_the_help_is_shown_and_the_usage_is_wrong(capsys):
    assert call(["bench"]) == 2
    shown = capsys.readouterr()
    assert "replay" in shown.out + shown.err

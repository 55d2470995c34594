"""The example for users' own tests runs as it stands, and the fixture fails a test whose world is broken."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run_pytest(folder, *arguments):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def test_the_example_passes():
    done = run_pytest(ROOT / "examples", "test_with_simulator.py")
    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith("... ")


def test_a_broken_world_fails_its_test(tmp_path):
    (tmp_path / "test_broken.py").write_text(
        'pytest_plugins = ["tickplant.testing.fixtures"]\n'
        "def test_broken(sim_world):\n"
        '    world = sim_world(venues=["kraken"])\n'
        "    world.run(10)\n"
        "    next(iter(world.stations[0].checked.values())).trades.add(10**15)\n"
        "    next(iter(world.stations[0].checked.values())).trade_last = 10**6\n"
    )
    done = run_pytest(tmp_path, "test_broken.py")
    assert done.returncode == 1, done.stdout
    assert "lost without a GAP" in done.stdout

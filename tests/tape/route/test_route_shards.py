"""Maps of symbols to pipes: read with their errors, made from counts, obeyed by the router."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.conftest import WITHIN_S
from tests.tape.route.routing import WORKER, command, trade

from tickplant.errors import ConfigError
from tickplant.tape import shards

MAP = """
# a day in spring
AAPL 3     # alone
@energy 1
XOM @energy
CVX @energy
"""


def test_a_map_names_symbols_and_sectors(tmp_path):
    (tmp_path / "map").write_text(MAP)
    assert shards.read_map(tmp_path / "map", 4) == {"AAPL": 3, "XOM": 1, "CVX": 1}


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("A 1\nB", 2, "no line of a map"),
        ("A 4", 1, "0 to 3"),
        ("A -1", 1, "0 to 3"),
        ("A @x", 1, "@x has no pipe"),
        ("A 1\n\nA 2", 3, "twice"),
        ("@x @y", 1, "no pipe"),
    ],
)
def test_a_wrong_map_is_told_with_its_line(tmp_path, text, line, what):
    (tmp_path / "map").write_text(text)
    with pytest.raises(ConfigError, match=what) as raised:
        shards.read_map(tmp_path / "map", 4)
    assert f"map:{line}" in str(raised.value) or f"line {line}" in str(raised.value)


def test_counts_come_from_lines_and_from_tapes(tmp_path):
    tape = [trade("A", 1), f"[{trade('B', 2)},{trade('A', 3)}]", '{"ev":"Q","sym":"A"}']
    (tmp_path / "tape.gz").write_bytes(gzip.compress("\n".join(tape).encode()))
    (tmp_path / "counts").write_text("A 2\n# quiet\nB,1\n")
    for name in ("tape.gz", "counts"):
        assert shards.read_counts(tmp_path / name) == Counter(A=2, B=1)
    for bad in ("A", "A 1 2", "A one", '{"ev":"T"', "[1]"):
        (tmp_path / "counts").write_text(f"Z 1\n{bad}\n")
        with pytest.raises(ConfigError, match="no count"):
            shards.read_counts(tmp_path / "counts")


@given(st.dictionaries(st.text("ABCDE", min_size=1, max_size=4), st.integers(0, 10**9)), st.integers(1, 40))
def test_a_weighted_map_is_as_even_as_its_rule_promises(counts, pipes):
    homes = shards.weigh(counts, pipes)
    assert homes.keys() == counts.keys()
    assert set(homes.values()) <= set(range(pipes))
    loads = Counter(dict.fromkeys(range(pipes), 0))
    for symbol, pipe in homes.items():
        loads[pipe] += counts[symbol]
    # No pipe can do better than its even share or the busiest symbol; the rule stays within 4/3 of the best.
    busiest = [*sorted(counts.values(), reverse=True), 0]
    # Of one symbol more than pipes, two must share one.
    shared = sum(busiest[pipes - 1 : pipes + 1]) if len(counts) > pipes else 0
    best = max(sum(busiest) / pipes, busiest[0], shared)
    assert max(loads.values()) <= best * 4 / 3 + 1e-6


def test_a_market_like_zipfs_is_even_by_map_and_not_by_hash():
    counts = {f"S{rank}": 10_000_000 // rank for rank in range(1, 6001)}
    homes = shards.weigh(counts, 8)
    assert shards.max_over_mean(counts, homes, 8) < 1.01
    assert shards.max_over_mean(counts, {symbol: shards.pipe_of(symbol, 8) for symbol in counts}, 8) > 1.1


def test_a_map_as_json_tells_how_even_it_is(tmp_path):
    counts = tmp_path / "counts"
    counts.write_text("AAPL 10\nMSFT 5\nXOM 4\n")
    command = [sys.executable, "-m", "tickplant", "route-map", str(counts), "--pipes", "2", "--json"]
    told = json.loads(subprocess.run(command, capture_output=True, text=True, timeout=WITHIN_S, check=True).stdout)
    assert (told["symbols"], told["trades"], told["max_over_mean"]) == (3, 19, 20 / 19)
    assert told["map"]["AAPL"] != told["map"]["MSFT"] == told["map"]["XOM"]


def test_the_router_obeys_a_map_made_from_its_own_tape(tapes, tmp_path):
    symbols = ["HOT"] * 10 + [f"S{number}" for number in range(20)]
    sent = [trade(symbols[number % 30], number) for number in range(3000)]
    saved, homes, out = tmp_path / "tape.ndjson", tmp_path / "map", tmp_path / "out"
    saved.write_text("\n".join([*sent[:2000], trade("NEVER", 0)]))
    made = subprocess.run(
        [sys.executable, "-m", "tickplant", "route-map", str(saved), "--pipes", "3", "--out", str(homes)],
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=True,
    )
    assert "22 symbols, 2001 trades: max/mean 1.0" in made.stderr
    out.mkdir()
    sent += [trade("UNKNOWN", number) for number in range(3000, 3050)]
    tape = tapes(["[" + ",".join(sent) + "]"])
    done = subprocess.run(
        command(tape, 3, WORKER, out, "--once", "--json", "--shard-by", "file", "--map", str(homes)),
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    wanted = shards.read_map(homes, 3) | {"UNKNOWN": shards.pipe_of("UNKNOWN", 3)}
    counts = [0, 0, 0]
    for pipe in range(3):
        for line in (out / str(pipe)).read_text().splitlines():
            assert wanted[json.loads(line)["sym"]] == pipe
            counts[pipe] += 1
    report = json.loads(done.stdout.splitlines()[-1])
    assert [pipe["messages"] for pipe in report["pipes"]] == counts
    assert sum(counts) == 3050
    assert report["max_over_mean"] == pytest.approx(max(counts) * 3 / 3050)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (("--shard-by", "file"), "--map"),
        (("--map", "/nowhere"), "--shard-by file"),
        (("--shard-by", "file", "--map", "/nowhere"), "cannot be read"),
    ],
)
def test_a_map_that_is_missing_is_an_error(options, what):
    start = [sys.executable, "-m", "tickplant", "route", "ws://127.0.0.1:1/", "--pipes", "1", *options]
    done = subprocess.run([*start], capture_output=True, text=True, timeout=WITHIN_S, check=False)
    assert done.returncode == 3
    assert what in done.stderr

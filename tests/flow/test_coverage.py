"""The coverage ledger over the river: what a recording lacks, what a killed plant left, proofs beyond checksums."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import signal
from itertools import pairwise
from pathlib import Path

from tickplant import Log, _native
from tickplant.cli import main
from tickplant.clock import SECOND_NS
from tickplant.plant import Plant
from tickplant.plant.control import send_command
from tickplant.records import Quality, Reason, Repair, Stream

from .conftest import process, settings_for, simulated, until
from .test_kills import PLANT

SPOT = "hftbacktest-binance-spot-btcusdt-20240808.gz"


def import_lines(tmp_path: Path, name: str, lines: list[bytes], capsys) -> Log:
    source = tmp_path / f"{name}.gz"
    source.write_bytes(gzip.compress(b"\n".join(lines) + b"\n", 1))
    log = tmp_path / name
    main.call(["import", str(source), "--format", "hftbacktest", "--venue", "BINANCE", "--log", str(log), "--json"])
    capsys.readouterr()
    return Log.open(log)


def test_a_recording_is_complete_and_a_removed_line_is_a_gap_with_its_numbers(recording, tmp_path, capsys):
    lines = gzip.decompress(recording(SPOT).read_bytes()).splitlines()
    whole = import_lines(tmp_path, "whole", lines, capsys).coverage("BTCUSDT.BINANCE")
    book = [one for one in whole if one.stream is Stream.BOOK]
    assert [one.quality for one in book] == [Quality.GAP, Quality.COMPLETE]
    assert (book[0].cause, book[0].repaired_from) == (Reason.AWAITING_SNAPSHOT, Repair.SNAPSHOT)

    depths = [at for at, line in enumerate(lines) if b"depthUpdate" in line]
    removed = depths[len(depths) // 2]
    numbers = [int(re.search(rb'"%s":(\d+)' % key, lines[removed])[1]) for key in (b"U", b"u")]
    times = [int(lines[depths[len(depths) // 2 + side]].split()[0]) for side in (-1, 1)]
    log = import_lines(tmp_path, "holed", lines[:removed] + lines[removed + 1 :], capsys)
    holed = [one for one in log.coverage("BTCUSDT.BINANCE") if one.stream is Stream.BOOK]
    assert [one.quality for one in holed] == [Quality.GAP, Quality.COMPLETE, Quality.GAP]
    gap = holed[-1]
    assert [gap.first, gap.last] == numbers
    assert (gap.cause, gap.repaired_from, gap.count) == (Reason.SEQUENCE_GAP, Repair.NONE, numbers[1] - numbers[0] + 1)
    # It is missing since the last good message, which came before the one that shows it.
    assert gap.start == times[0] < times[1]
    assert holed[1].last == numbers[0] - 1
    assert json.loads(_native.rebuild(log.path, "binance"))["first_difference"] is None


async def test_a_killed_plant_leaves_a_hole_in_its_books_and_its_trades_are_fetched(tmp_path):
    log = tmp_path / "log"
    async with simulated(["kraken"], rate=100) as server:
        address = server.addresses["kraken"]
        [name, *_] = (f"{symbol}.KRAKEN" for symbol in server.venue("kraken").symbols)
        flags = json.dumps(
            {
                "log.path": str(log),
                "log.hot_root": str(tmp_path / "hot"),
                "log.segment_bytes": 1 << 20,
                "log.hot_bytes_max": 32 << 20,
                "venue.kraken.url": address.websocket,
                "venue.kraken.rest_url": address.http,
                "venue.kraken.instruments": list(server.venue("kraken").symbols),
                "venue.kraken.coverage_every_s": 0.2,
            }
        )

        def was_complete(after: int) -> bool:
            """For half a second up to the last trade: a kill ends what is open at the lane's last record."""
            try:
                opened = Log.open(log)
                traded = max(trade.ts_recv for batch in opened.records(name, schema="trades") for trade in batch)
                ledger = opened.coverage(name, after, max(after, traded))
            except Exception:
                return False  # The log, the instrument's number or a trade is not there yet.
            return ledger.nanoseconds(Stream.BOOK)[Quality.COMPLETE] > SECOND_NS // 2

        def trades_whole(at: int) -> bool:
            """What was traded at a time has been fetched, or the ids prove that nothing was."""
            trades = [one for one in Log.open(log).coverage(name) if one.stream is Stream.TRADES]
            return any(one.quality is Quality.COMPLETE and one.start <= at < one.end for one in trades)

        async with process("-c", PLANT, flags) as plant:
            await until(lambda: was_complete(0))
            plant.send_signal(signal.SIGKILL)
            await plant.wait()
        first = Log.open(log).coverage(name)
        async with process("-c", PLANT, flags) as plant:
            await until(lambda: was_complete(first.end) and trades_whole(first.end))
            await asyncio.to_thread(send_command, log / "plant.sock", {"do": "drain"})
            assert await plant.wait() == 0
    ledger = Log.open(log).coverage(name)
    before = [one for one in ledger if one.stream is Stream.BOOK and one.start < first.end]
    after = [one for one in ledger if one.stream is Stream.BOOK and one.start >= first.end]
    for part in (before, after):
        assert [one.quality for one in part][:2] == [Quality.GAP, Quality.COMPLETE]
    # By the plants' own clock: nothing is said of the book of the time between the two.
    assert before[-1].end <= first.end < after[0].start
    assert all(a.end == b.start for a, b in pairwise(before)), "no other hole"
    ids = sorted(trade.ref for batch in Log.open(log).records(name, schema="trades") for trade in batch)
    assert ids == list(range(ids[0], ids[-1] + 1)), "every trade once, those of the time between included"
    assert json.loads(_native.rebuild(str(log), "kraken"))["first_difference"] is None


NAMES = ["binance", "binance_usdm"]


async def test_books_agree_with_fetched_snapshots_and_tickers_and_are_not_disturbed(tmp_path):
    fast = {f"venue__{name}__shadow_every_s": 0.4 for name in NAMES}
    async with simulated(NAMES) as server:
        settings = settings_for(server, NAMES, tmp_path / "log", **fast)
        async with Plant(settings) as plant:
            names = [f"{symbol}.{name.upper()}" for name in NAMES for symbol in server.venue(name).symbols]

            def shadow_checked() -> bool:
                ledgers = [plant.log.coverage(name) for name in names]
                return all(ledger.nanoseconds(Stream.BOOK)[Quality.SHADOW_CHECKED] for ledger in ledgers)

            await until(lambda: set(names) <= set(plant.log.instruments()))
            await until(shadow_checked)

            async def ticker_checked() -> bool:
                summary = await plant.summary()
                return all(row["tickers_agreed"] > 20 for row in summary["instruments"])

            await until(ticker_checked)
            summary = await plant.summary()
    for row in summary["instruments"]:
        assert (row["tickers_differed"], row["resyncs"], row["state"]) == (0, 0, "LIVE"), row

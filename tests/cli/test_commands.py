"""The commands as processes: what they print, how they end, that signals end them in order."""

import csv
import io
import json
import signal
from decimal import Decimal

import pytest
from tests.conftest import until

from tickplant.cli.demo import equals, proof_of
from tickplant.cli.simulated import simulated_venues
from tickplant.log import Book, BookLevel
from tickplant.records import BookState

from .conftest import ENVIRONMENT, all_live, call, finish, start, stop

COUNTED = ["instrument", "messages", "records", "checksums_passed", "checksums_failed", "gaps", "resyncs", "state"]


def test_the_demo_proves_every_book(demo):
    summary = demo.summary
    assert summary["proven"] is True
    assert summary["seed"] == 7
    assert len(summary["instruments"]) == 8
    for row in summary["instruments"]:
        assert set(COUNTED) <= set(row)
        assert (row["state"], row["checksums_failed"], row["gaps"], row["equals_simulator"]) == ("LIVE", 0, 0, True)
        assert (row["checksums_passed"] > 0) == row["instrument"].endswith(".KRAKEN")
    assert 0 < summary["latency_ns"]["p50"] <= summary["latency_ns"]["p99"]
    assert summary["records_per_second"] > 0
    assert demo.err == ""


def test_a_book_without_proof_is_not_proven():
    row = {"checksums_failed": 0, "checksums_passed": 3, "equals_simulator": True, "state": "LIVE"}
    assert proof_of(row) == ["checksum", "simulator"]
    assert proof_of(row | {"checksums_passed": 0}) == ["simulator"]
    for fault in ({"checksums_failed": 1}, {"equals_simulator": False}, {"state": "GAP"}):
        assert proof_of(row | fault) == []
    bids, asks = [("10.0", "1"), ("9.0", "2")], [("11.0", "3")]
    held = [tuple(BookLevel(*level, 0) for level in side) for side in (bids, asks)]
    book = Book("A", BookState.LIVE, *held, None, None, None, None, None)
    assert equals(book, bids, asks, None)
    assert equals(book, [*bids, ("8.0", "1")], asks, 2)
    assert not equals(book, [*bids, ("8.0", "1")], asks, None)
    assert not equals(book, [("10.0", "1"), ("9.0", "2.0")], asks, None)


def tail(demo, *arguments):
    ended = call("tail", "--log", demo.log, *arguments)
    assert ended.code == 0, ended.err
    return ended.out.splitlines()


VIEWS = ["mbp-1", "mbp-10", "bbo", "bbo-1s", "tbbo", "touch", "depth", "impact"]


@pytest.mark.parametrize("schema", ["trades", "levels", *VIEWS, "ticker", "status"])
def test_tail_gives_json_lines_of_each_schema(demo, schema):
    rows = [json.loads(line) for line in tail(demo, "--schema", schema, "--json", "--limit", "40")]
    assert 0 < len(rows) <= 40
    assert {"ts_event", "ts_recv", "sequence"} <= set(rows[0])
    assert all(isinstance(row["ts_recv"], int) for row in rows)


def test_tail_of_one_instrument_has_wire_texts_and_databentos_names(demo):
    rows = [json.loads(line) for line in tail(demo, "--instrument", "BTC/USD.kraken", "--json")]
    assert {row["instrument"] for row in rows} == {"BTC/USD.KRAKEN"}
    for row in rows:
        assert Decimal(row["bid_px_00"]) < Decimal(row["ask_px_00"])
        assert row["bid_px_00"].partition(".")[2].isdigit()
    counted = next(row for row in demo.summary["instruments"] if row["instrument"] == "BTC/USD.KRAKEN")
    assert len(rows) == counted["checksums_passed"]


def test_tail_as_csv_and_as_text(demo):
    table = list(csv.DictReader(io.StringIO("\n".join(tail(demo, "--csv", "--schema", "trades")))))
    lines = [json.loads(line) for line in tail(demo, "--json", "--schema", "trades")]
    assert [row["price"] for row in table] == [row["price"] for row in lines]
    assert table[0]["ts_recv"] == str(lines[0]["ts_recv"])
    assert tail(demo, "--schema", "trades", "--limit", "1")[0].startswith("ts_event=20")
    assert call("tail", "--log", demo.log, "--csv", "--json").code == 3


def test_tail_between_two_times(demo):
    rows = [json.loads(line) for line in tail(demo, "--json", "--schema", "trades")]
    start_ns, end_ns = rows[5]["ts_recv"], rows[-5]["ts_recv"]
    part = [
        json.loads(line) for line in tail(demo, "--json", "--schema", "trades", "--start", start_ns, "--end", end_ns)
    ]
    assert sorted(row["ts_recv"] for row in part) == sorted(
        row["ts_recv"] for row in rows if start_ns <= row["ts_recv"] < end_ns
    )


def test_a_reader_that_leaves_is_no_error(demo):
    process = start("tail", "--log", demo.log, "--schema", "levels", "--json")
    process.stdout.readline()
    process.stdout.close()
    process.stdout = None
    ended = finish(process)
    assert (ended.code, ended.err) == (0, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_following_ends_by_signals(demo, number):
    process = start("tail", "--log", demo.log, "--follow", "--schema", "status", "--json")
    process.stdout.readline()
    ended = stop(process, number)
    assert (ended.code, ended.err) == (0, "")


def test_a_book_now_and_then(demo):
    now = json.loads(call("book", "BTC/USD.KRAKEN", "--log", demo.log, "--json").out)
    rows = [json.loads(line) for line in tail(demo, "--instrument", "BTC/USD.KRAKEN", "--schema", "mbp-10", "--json")]
    levels = [name for name in now if name[:3] in ("bid", "ask")]
    assert len(levels) == 60
    assert {name: now[name] for name in levels} == {name: rows[-1][name] for name in levels}
    middle = rows[len(rows) // 2]
    then = call("book", "BTC/USD.KRAKEN", "--log", demo.log, "--json", "--known-at", middle["ts_recv"])
    known = [row for row in rows if row["ts_recv"] <= middle["ts_recv"]][-1]
    assert json.loads(then.out)["bid_sz_00"] == known["bid_sz_00"]
    text = call("book", "BTC/USD.KRAKEN", "--log", demo.log, "--depth", "3").out.splitlines()
    assert len(text) == 5
    assert text[0].startswith("BTC/USD.KRAKEN  CLOSED  ts_event=20")


def test_a_book_that_is_not_there(demo):
    ended = call("book", "BTC/USDT.KRAKEN", "--log", demo.log)
    assert ended.code == 3
    assert 'did you mean "BTC/USD.KRAKEN"?' in ended.err
    assert call("book", "BTC/USD.KRAKEN", "--log", demo.log / "none").code == 4
    assert call("book", "BTC/USD.KRAKEN", "--log", demo.log, "--at", "noon").code == 3


def test_print_config_shows_where_each_value_came_from(tmp_path):
    file = tmp_path / "plant.toml"
    file.write_text("[log]\nsync = 'none'\n")
    environment = ENVIRONMENT | {"EXCHANGE": "binance", "SYMBOLS": "BTCUSDT"}
    ended = call("run", file, "--print-config", "--json", "--set", "log.path=here", env=environment)
    found = {row["setting"]: (row["value"], row["from"]) for row in map(json.loads, ended.out.splitlines())}
    assert found["log.sync"] == ("none", f"{file}:2")
    assert found["log.path"] == ("here", "flag log.path")
    assert found["venue.BINANCE.instruments"] == (["BTCUSDT"], "environment SYMBOLS")
    assert found["metrics.port"] == (9090, "default")


def test_run_without_an_instrument_and_with_a_wrong_share():
    assert "no instrument is configured" in call("run").err
    wrong = call("run", "--set", "venue.kraken.instruments=BTC/USD", "--only", "kraken:3/2")
    assert wrong.code == 3
    assert "i from 1 to n" in wrong.err


async def test_connectors_shares_and_watch_against_simulated_venues(tmp_path):
    async with simulated_venues(seed=7, instruments=4, rate=400, venues=["kraken", "binance"]) as venues:
        connector = start(
            *("run", "--log", tmp_path / "connector", "--json"),
            env=ENVIRONMENT
            | {
                "EXCHANGE": "binance",
                "SYMBOLS": ",".join(venues.symbols["BINANCE"]),
                "WS_ENDPOINT": venues.websocket["BINANCE"],
                "REST_ENDPOINT": venues.http["BINANCE"],
                "POD_NAME": "md-0",
            },
        )
        sets = ["--set", f"venue.kraken.url={venues.websocket['KRAKEN']}"]
        names = ["--set", f"venue.kraken.instruments={','.join(venues.symbols['KRAKEN'])}", "--json"]
        shares = [start("run", "--log", tmp_path / "shares", "--only", f"kraken:{n}/2", *sets, *names) for n in (1, 2)]
        watching = start("watch", "BTC/USD.KRAKEN", "ETH/USD.KRAKEN", *sets)
        shown = [line := watching.stdout.readline()]
        while line and " LIVE " not in line:
            shown.append(line := watching.stdout.readline())
        watched = stop(watching)
        until(lambda: all_live(tmp_path / "connector", 4))
        doors = [f"plant-kraken-{share}.sock" for share in (0, 1)]
        until(lambda: all_live(tmp_path / "shares", 4, doors=doors))
        told = stop(connector)
        ended = [stop(share, signal.SIGINT) for share in shares]
    assert told.code == 0, told.err
    summary = json.loads(told.out)
    assert summary["name"] == "md-0"
    assert {row["state"] for row in summary["instruments"]} == {"LIVE"}
    assert "BTCUSDT.BINANCE          LIVE  SNAPSHOT_JOINED" in told.err
    rows = [row for share in ended for row in json.loads(share.out)["instruments"]]
    assert [share.code for share in ended] == [0, 0]
    assert sorted(row["instrument"] for row in rows) == sorted(f"{s}.KRAKEN" for s in venues.symbols["KRAKEN"])
    assert {row["state"] for row in rows} == {"LIVE"}
    assert watched.code == 0, watched.err
    assert "\x1b" not in "".join(shown) + watched.out
    assert " LIVE " in shown[-1]


def test_an_address_that_refuses_is_a_state_with_its_reason_and_the_next_try(tmp_path):
    process = start(
        *("run", "--log", tmp_path, "--set", "venue.kraken.instruments=BTC/USD"),
        *("--set", "venue.kraken.url=ws://127.0.0.1:9"),
    )
    said = ""
    while "WAITING  CONNECT_FAILED" not in said or "next try at" not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    assert "refused" in said
    assert stop(process).code == 0


def test_a_run_ends_after_its_seconds(tmp_path):
    nowhere = ("--set", "venue.kraken.instruments=BTC/USD", "--set", "venue.kraken.url=ws://127.0.0.1:9")
    ended = call("run", "--log", tmp_path, *nowhere, "--seconds", "0.1", "--json")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["instruments"][0]["state"] == "CLOSED"


def test_coverage_as_picture_table_and_json(demo, tmp_path):
    shown = call(
        "coverage",
        "BTC/USD.KRAKEN",
        "--log",
        demo.log,
        "--png",
        tmp_path / "c.png",
        env=ENVIRONMENT | {"COLUMNS": "80"},
    )
    assert shown.code == 0, shown.err
    book, trades, ticker = shown.out.splitlines()[:3]
    assert book.startswith("book    ×")
    assert "▓▓▓▓" in book
    assert len(book) <= 80
    assert "▓▓▓▓" in trades
    assert "░░░░" in ticker
    assert "AWAITING_SNAPSHOT  SNAPSHOT" in shown.out
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    said = json.loads(call("coverage", "BTC/USD.KRAKEN", "--log", demo.log, "--json").out)
    assert sum(said["seconds"]["BOOK"].values()) == pytest.approx((said["end"] - said["start"]) / 1e9)
    assert {row["stream"] for row in said["intervals"]} == {"BOOK", "TRADES", "TICKER"}
    none = call("coverage", "BTC/USD.KRAKEN", "2020-01-01", "2020-01-02", "--log", demo.log)
    assert (none.code, none.out) == (0, "BTC/USD.KRAKEN: the log says nothing of this time\n")
    refused = call("coverage", "BTC/USD.KRAKEN", "--log", demo.log, "--png", tmp_path / "no" / "c.png")
    assert refused.code == 3
    assert "cannot be written" in refused.err

"""Recordings through the whole river. Real ones are not in the repository: TICKPLANT_RECORDINGS names their folder."""

import bisect
import gzip
import json
from pathlib import Path

import pytest

from tickplant import Log
from tickplant.cli import main
from tickplant.cli.common import Exit

SNAPSHOT = '{"lastUpdateId":100,"bids":[["10.00","1.0"],["9.00","2.0"]],"asks":[["11.00","3.0"]]}'


def depth(first, last, bids, symbol="BTCUSDT"):
    data = {"e": "depthUpdate", "E": 1_700_000_000_000 + last, "s": symbol, "U": first, "u": last, "b": bids, "a": []}
    return json.dumps({"stream": f"{symbol.lower()}@depth@100ms", "data": data}, separators=(",", ":"))


LINES = [
    depth(98, 100, [["10.00", "9.0"]]),
    SNAPSHOT,
    depth(99, 101, [["10.00", "1.5"]]),
    depth(102, 104, [["10.50", "0.5"]]),
    depth(105, 105, [["9.00", "0"]]),
]


@pytest.fixture
def run(tmp_path, capsys):
    """Imports lines (with consecutive receive times) or files, and gives exit code, summary and log."""

    def run_import(source, *options, venue="BINANCE", form="hftbacktest"):
        if isinstance(source, list):
            path = tmp_path / f"recording-{len(list(tmp_path.iterdir()))}"
            path.write_text("".join(f"{1_700_000_000_000_000_000 + n} {line}\n" for n, line in enumerate(source)))
            files = [path]
        else:
            files = [source] if isinstance(source, Path) else source
        log = tmp_path / f"log-{len(list(tmp_path.iterdir()))}"
        arguments = ["import", *map(str, files), "--format", form, "--venue", venue, "--log", str(log), "--json"]
        code = main.call([*arguments, *options])
        shown = capsys.readouterr()
        return code, json.loads(shown.out), log

    return run_import


OWN_VENUE = """
import json
from tickplant.venues.plan import BookPlan, Channel, Route
from tickplant.venues.user import BookEvent, UserVenue

class Own(UserVenue):
    code, number = "OWN", 0x8001
    routes = (Route(url="wss://own.example"),)
    channels = (Channel(stream="book", name="b", subscribe="b {items}", unsubscribe="u {items}", item="{symbol}",
                        acknowledged="data"),)
    book = BookPlan(continuity="range", snapshot="in_band")

    def decode_frame(self, frame):
        said = json.loads(frame)
        n = said["n"]
        return [BookEvent(symbol=said["symbol"], snapshot=said["whole"], bids=said["bids"], first=n, last=n)]
"""


def test_a_recording_of_a_users_own_venue(run, tmp_path, monkeypatch):
    (tmp_path / "own_venue_of_a_test.py").write_text(OWN_VENUE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")

    def said(number, bid, whole=False):
        return json.dumps({"symbol": "GOLD", "whole": whole, "bids": [bid], "n": number})

    lines = [said(1, ["10.0", "5"], whole=True), said(2, ["10.5", "1"]), said(3, ["10.0", "0"])]
    own = ("--class", "own_venue_of_a_test:Own")
    code, summary, log = run(lines, *own, venue="own", form="raw")
    [row] = summary["instruments"]
    assert (code, row["instrument"], row["state"], row["messages"]) == (Exit.OK, "GOLD.OWN", "LIVE", 3)
    assert [level[:2] for level in Log.open(log).book("GOLD.OWN").bids] == [("10.5", "1")]
    code, summary, _ = run(lines[:1] + lines[2:], *own, venue="own", form="raw")
    assert (code, summary["instruments"][0]["gaps"]) == (Exit.UNPROVEN, 1)


def test_a_recording_gives_books_with_its_own_receive_times(run):
    code, summary, log = run(LINES)
    assert code == Exit.OK
    [row] = summary["instruments"]
    assert (row["instrument"], row["state"], row["gaps"]) == ("BTCUSDT.BINANCE", "LIVE", 0)
    book = Log.open(log).book("BTCUSDT.BINANCE")
    assert [level[:2] for level in book.bids] == [("10.50", "0.5"), ("10.00", "1.5")]
    assert (book.sequence, book.ts_recv) == (105, 1_700_000_000_000_000_004)


def test_a_missing_message_is_a_gap_and_not_absorbed(run):
    code, summary, _ = run(LINES[:3] + LINES[4:])
    assert code == Exit.UNPROVEN
    assert summary["instruments"][0]["gaps"] == 1
    assert summary["instruments"][0]["state"] != "LIVE"


def test_without_a_snapshot_the_book_stays_syncing_and_the_summary_says_why(run):
    code, summary, _ = run([line for line in LINES if line != SNAPSHOT])
    assert code == Exit.UNPROVEN
    assert summary["instruments"][0]["state"] == "SYNCING"
    [url] = summary["snapshots_missing"]
    assert "symbol=BTCUSDT" in url


V1_LINES = [
    '{"connectionID":1,"event":"systemStatus","status":"online","version":"1.8.3"}',
    '[0,{"as":[["5541.30000","2.50700000","1534614248.123678"]],"bs":[["5541.20000","1.52900000","1534614248.765567"]]},'
    '"book-10","XBT/USD"]',
    '[0,[["5541.20000","0.15850568","1534614057.321597","s","l",""]],"trade","XBT/USD"]',
]


def test_the_protocol_of_a_recording_shows_in_its_messages(run):
    code, summary, log = run(V1_LINES, venue="KRAKEN", form="raw")
    assert code == Exit.OK
    [row] = summary["instruments"]
    assert (row["instrument"], row["state"], row["trades"]) == ("BTC/USD.KRAKEN", "LIVE", 1)
    assert [level[:2] for level in Log.open(log).book("BTC/USD.KRAKEN").asks] == [("5541.30000", "2.50700000")]


@pytest.mark.parametrize(("number", "records", "named"), [(48, 10, 2), (49, 18, 10)])
def test_krakens_older_recordings_are_imported(run, recording, number, records, named):
    _, summary, _ = run(recording(f"cryptofeed/KRAKEN.ws.{number}.0.gz"), venue="KRAKEN", form="cryptofeed")
    assert (summary["records"], len(summary["instruments"])) == (records, named)
    assert not any(row["gaps"] or row["resyncs"] for row in summary["instruments"])
    assert not any("XBT" in row["instrument"] for row in summary["instruments"])


def test_a_snapshot_of_nobody_needs_one_instrument(run):
    code, error, _ = run([*LINES, depth(1, 2, [], symbol="ETHUSDT")])
    assert (code, error["error"]) == (Exit.SETTINGS, "ConfigError")
    code, summary, _ = run([*LINES, depth(1, 2, [], symbol="ETHUSDT")], "--instrument", "BTCUSDT")
    assert (code, len(summary["instruments"])) == (Exit.OK, 1)


def test_wrong_formats_and_venues(run):
    code, error, _ = run(LINES, form="cryptofeed")
    assert (code, error["error"]) == (Exit.RECORDING, "ImportFormatError")
    code, error, _ = run(LINES, venue="KRAKEN")
    assert (code, error["what"]) == (Exit.RECORDING, "no message names an instrument of Kraken")


def agreement(path, log, instrument):
    """How many rows that end at a depth message's id have the best bid and ask of the last bookTicker up to that id."""
    quotes, ends = {}, set()
    for line in gzip.decompress(path.read_bytes()).splitlines():
        message = json.loads(line.split(b" ", 1)[1])
        data = message.get("data", {})
        if message.get("stream", "").endswith("@bookTicker"):
            quotes[data["u"]] = (data["b"], data["B"], data["a"], data["A"])
        elif "u" in data:
            ends.add(data["u"])
    ids = sorted(quotes)
    equal = compared = 0
    for batch in Log.open(log).records(instrument, schema="mbp-1"):
        for row in batch:
            place = bisect.bisect_right(ids, row.sequence)
            if row.sequence in ends and place:
                (bid, bid_size, _), (ask, ask_size, _) = row.bids[0], row.asks[0]
                compared += 1
                equal += quotes[ids[place - 1]] == (bid, bid_size, ask, ask_size)
    return equal, compared


@pytest.mark.parametrize(
    ("file", "venue", "least"),
    [
        ("hftbacktest-binance-spot-btcusdt-20240808.gz", "BINANCE", 3449),
        ("hftbacktest-binance-usdm-btcusdt-20240808.gz", "BINANCE_USDM", 6545),
    ],
)
def test_recorded_books_equal_the_recorded_best_bids_and_asks(run, file, venue, least, recording):
    path = recording(file)
    code, summary, log = run(path, venue=venue)
    assert code == Exit.OK
    assert summary["instruments"][0]["gaps"] == 0
    # The plant makes the same comparison by itself, once a ticker that follows the book's id.
    assert summary["instruments"][0]["tickers_agreed"] >= least // 2
    assert summary["instruments"][0]["tickers_differed"] == 0
    equal, compared = agreement(path, log, f"BTCUSDT.{venue}")
    assert equal == compared >= least


def test_the_recorded_coinbase_books_are_whole(run, recording):
    code, summary, _ = run(recording("cryptofeed/COINBASE.ws.28.0.gz"), venue="COINBASE", form="cryptofeed")
    assert code == Exit.OK
    assert {row["state"] for row in summary["instruments"]} == {"LIVE"}
    assert sum(row["trades"] for row in summary["instruments"]) == 97

"""Past trades over the simulated venues' REST: the same trades as on the tape, in pages, as far as they are kept."""

import json

import pytest

from tickplant.clock import SECOND_NS
from tickplant.sim import build_venue
from tickplant.sim.past_trades import PastTrades

START_NS = 1_790_000_000 * SECOND_NS


@pytest.fixture(scope="module")
def venues():
    made = {}
    for name in ("kraken", "binance", "binance_usdm", "coinbase"):
        venue = build_venue(name, seed=5, start_ns=START_NS, instrument_count=2, rate=200)
        made[name] = venue, {symbol: [] for symbol in venue.symbols}
        tape = made[name][1]

        def witness(step, venue=venue, tape=tape):
            tape[venue.symbols[step.instrument]].extend((step.time_ns, trade) for trade in step.trades)

        venue.market.witness = witness
        venue.advance(START_NS + 60 * SECOND_NS)
    return made


def _get(venue, path, query=""):
    reply = venue.http("GET", path, query, START_NS)
    return reply.status, json.loads(reply.body)


def test_kraken_goes_by_time_under_any_name_of_the_pair(venues):
    venue, tape = venues["kraken"]
    trades = tape["BTC/USD"]
    middle = trades[len(trades) // 2]
    for pair in ("XBTUSD", "XXBTZUSD", "BTC/USD"):
        _, body = _get(venue, "/0/public/Trades", f"pair={pair}&since={middle[0]}&count=7")
        rows = body["result"]["XXBTZUSD"]
        after = [trade for time_ns, trade in trades if time_ns > middle[0]][:7]
        assert [row[6] for row in rows] == [trade.id for trade in after]
        assert int(body["result"]["last"]) > middle[0]
    assert _get(venue, "/0/public/Trades", "pair=NONE&since=1")[1]["error"]
    assert _get(venue, "/0/public/Trades", "pair=XBTUSD&since=soon")[1]["error"]


@pytest.mark.parametrize(
    ("name", "path", "query"),
    [
        ("kraken", "/0/public/Trades", "pair=XBTUSD&since=1"),
        ("kraken", "/0/public/Depth", "pair=XBTUSD"),
        ("binance", "/api/v3/historicalTrades", "symbol=BTCUSDT&fromId=1"),
        ("binance_usdm", "/fapi/v1/trades", "symbol=BTCUSDT"),
        ("coinbase", "/products/BTC-USD/trades", ""),
    ],
)
def test_who_asks_for_a_delisted_symbol_is_told_so(name, path, query):
    venue = build_venue(name, seed=3, start_ns=START_NS, instrument_count=1, rate=10)
    symbol = venue.symbols[0]
    before = _get(venue, path, query)
    venue.delist(symbol)
    status, body = _get(venue, path, query)
    assert status >= 400 or body["error"] == ["EQuery:Unknown asset pair"]
    venue.list_again(symbol)
    assert _get(venue, path, query) == before


def test_binance_goes_by_id_and_its_futures_have_only_the_newest(venues):
    venue, tape = venues["binance"]
    ids = [trade.id for _, trade in tape["BTCUSDT"]]
    _, rows = _get(venue, "/api/v3/historicalTrades", f"symbol=BTCUSDT&fromId={ids[10]}&limit=5")
    assert [row["id"] for row in rows] == ids[10:15]
    assert [row["id"] for row in _get(venue, "/api/v3/trades", "symbol=BTCUSDT&limit=3")[1]] == ids[-3:]
    assert _get(venue, "/api/v3/historicalTrades", "symbol=NONE")[0] == 400
    assert _get(venue, "/api/v3/historicalTrades", "symbol=BTCUSDT&limit=few")[0] == 400
    venue, tape = venues["binance_usdm"]
    ids = [trade.id for _, trade in tape["BTCUSDT"]]
    assert [row["id"] for row in _get(venue, "/fapi/v1/trades", "symbol=BTCUSDT&limit=1000")[1]] == ids[-1000:]
    assert _get(venue, "/fapi/v1/trades", "symbol=BTCUSDT&limit=1001")[0] == 400
    assert _get(venue, "/fapi/v1/historicalTrades", "symbol=BTCUSDT&fromId=1")[0] == 401, "it wants a key"


def test_coinbase_pages_backwards_with_the_makers_side(venues):
    venue, tape = venues["coinbase"]
    trades = [trade for _, trade in tape["BTC-USD"]]
    path = "/products/BTC-USD/trades"
    _, rows = _get(venue, path, f"after={trades[20].id}&limit=4")
    assert [row["trade_id"] for row in rows] == [trade.id for trade in reversed(trades[16:20])]
    taker_sold = [trade.side == 1 for trade in reversed(trades[16:20])]
    assert [row["side"] == "buy" for row in rows] == taker_sold
    _, rows = _get(venue, path, f"before={trades[-3].id}")
    assert [row["trade_id"] for row in rows] == [trades[-1].id, trades[-2].id]
    assert _get(venue, path, "after=x")[0] == 400


def test_what_is_too_old_is_forgotten(venues):
    venue, tape = venues["binance"]
    ids = [trade.id for _, trade in tape["BTCUSDT"]]
    kept = PastTrades(venue.market, kept_most=10)
    kept._kept[0].extend(venue.past.newest(venue.market.index_of["BTCUSDT"], 100))
    assert [past.trade.id for past in kept.from_id(0, ids[0], 3)] == ids[-10:-7]
    assert kept.before_id(0, ids[-10], 5) == []
    assert [past.trade.id for past in kept.before_id(0, ids[-1] + 100, 2)] == ids[-2:]
    assert kept.from_id(0, ids[-1] + 1, 5) == []
    assert PastTrades(venue.market).from_id(0, 1, 5) == PastTrades(venue.market).before_id(0, 1, 5) == []

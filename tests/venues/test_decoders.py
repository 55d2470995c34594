"""The native decoders against plain ones: json with the numbers kept as text, and the venues' fields by name."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tickplant._native import Decoder

GOLDEN = Path(__file__).parents[1] / "golden"
VENUES = ("kraken", "binance", "binance_usdm", "coinbase")
TOLD = ("book", "trade", "quote")
Event = dict[str, Any]


def rfc3339_ns(text: str | None) -> int | None:
    if text is None:
        return None
    seconds, _, fraction = text.removesuffix("Z").partition(".")
    whole = int(datetime.fromisoformat(seconds).replace(tzinfo=UTC).timestamp())
    return whole * 10**9 + int(fraction.ljust(9, "0"))


def epoch_ns(count: str) -> int:
    """Milliseconds have 13 digits in this century, microseconds 16."""
    return int(count.ljust(19, "0"))


def plain(number: str) -> str:
    return f"{Decimal(number):f}"


def book(symbol: str, time: int | None, rows: list[tuple[str, str, str]], **rest: Any) -> Event:
    absent = {"first": None, "last": None, "previous": None, "checksum": None, "snapshot": False}
    rows = [(side, plain(price), plain(size)) for side, price, size in rows]
    return {"event": "book", "symbol": symbol, "ts_event": time, "rows": rows} | absent | rest


def trade(symbol: str, time: int | None, price: str, size: str, buys: bool, id_: str, **rest: Any) -> Event:
    fields = {"price": plain(price), "size": plain(size), "side": "B" if buys else "A", "id": int(id_)}
    return {"event": "trade", "symbol": symbol, "ts_event": time} | fields | {"snapshot": False, "last": True} | rest


def kraken(message: dict[str, Any]) -> list[Event]:
    snapshot = message.get("type") == "snapshot"
    events = []
    for data in message["data"] if message.get("channel") in ("book", "trade", "ticker") else []:
        symbol, time = data["symbol"], rfc3339_ns(data.get("timestamp"))
        if message["channel"] == "book":
            rows = [(side, x["price"], x["qty"]) for side, key in (("B", "bids"), ("A", "asks")) for x in data[key]]
            events.append(book(symbol, time, rows, snapshot=snapshot, checksum=int(data["checksum"])))
        elif message["channel"] == "trade":
            bought, last = data["side"] == "buy", data is message["data"][-1]
            rest = {"snapshot": snapshot, "last": last, "sequence": None}
            events.append(trade(symbol, time, data["price"], data["qty"], bought, data["trade_id"], **rest))
        else:
            sides = {side: (plain(data[side]), plain(data[f"{side}_qty"])) for side in ("bid", "ask")}
            events.append({"event": "quote", "symbol": symbol, "ts_event": time, "sequence": None} | sides)
    return events


def binance(message: dict[str, Any], time_key: str = "E") -> list[Event]:
    message = message.get("data", message)
    kind = message.get("e")
    if kind == "depthUpdate":
        rows = [(side, *level) for side, key in (("B", "b"), ("A", "a")) for level in message[key]]
        chain = {"first": int(message["U"]), "last": int(message["u"])}
        if "pu" in message:
            chain["previous"] = int(message["pu"])
        return [book(message["s"], epoch_ns(message[time_key]), rows, **chain)]
    if kind == "trade":
        text = (message["p"], message["q"], not message["m"], message["t"])
        return [trade(message["s"], epoch_ns(message["T"]), *text, sequence=None)]
    if "A" in message:
        sides = {
            name: (plain(message[price]), plain(message[size])) if Decimal(message[price]) else None
            for name, price, size in (("bid", "b", "B"), ("ask", "a", "A"))
        }
        time = epoch_ns(message["T"]) if "T" in message else None
        return [{"event": "quote", "symbol": message["s"], "ts_event": time, "sequence": int(message["u"])} | sides]
    return []


def coinbase(message: dict[str, Any]) -> list[Event]:
    symbol, time = message.get("product_id", ""), rfc3339_ns(message.get("time"))
    match message["type"]:
        case "snapshot":
            rows = [(side, *level) for side, key in (("B", "bids"), ("A", "asks")) for level in message[key]]
            return [book(symbol, time, rows, snapshot=True)]
        case "l2update":
            return [book(symbol, time, [({"buy": "B", "sell": "A"}[s], p, q) for s, p, q in message["changes"]])]
        case "match":
            bought = message["side"] == "sell"  # the maker's side
            text = (message["price"], message["size"], bought, message["trade_id"])
            return [trade(symbol, time, *text, sequence=int(message["sequence"]))]
        case "ticker":
            sides = {
                side: (plain(message[f"best_{side}"]), plain(message[f"best_{side}_size"]))
                if f"best_{side}_size" in message
                else None
                for side in ("bid", "ask")
            }
            head = {"event": "quote", "symbol": symbol, "ts_event": time, "sequence": int(message["sequence"])}
            return [head | sides]
    return []


PLAIN: dict[str, Callable[[dict[str, Any]], list[Event]]] = {
    "kraken": kraken,
    "binance": binance,
    "binance_usdm": lambda message: binance(message, "T"),
    "coinbase": coinbase,
}


def plainly(venue: str, frame: str) -> list[Event]:
    return PLAIN[venue](json.loads(frame, parse_float=str, parse_int=str))


@pytest.mark.parametrize("venue", VENUES)
def test_golden_frames(venue):
    compared = 0
    lines = (GOLDEN / venue / "frames.txt").read_text().splitlines()
    for frame, said in pairwise(lines):
        if not frame.startswith("{"):
            continue
        if said.startswith("= refused"):
            with pytest.raises(ValueError):
                Decoder(venue).decode(frame.encode())
            continue
        native = [event for event in Decoder(venue).decode(frame.encode()) if event["event"] in TOLD]
        assert native == plainly(venue, frame), frame
        compared += bool(native)
    assert compared >= 4


numbers = st.one_of(
    st.builds(
        lambda mantissa, scale: f"{Decimal(mantissa).scaleb(-scale):f}", st.integers(0, 10**17), st.integers(0, 9)
    ),
    st.sampled_from(["0", "0.00000000", "0.10", "61837.63000000", "0.000001"]),
)
levels = st.lists(st.tuples(numbers, numbers), max_size=6)
symbols = st.from_regex(r"[A-Z0-9]{2,6}[/-]?[A-Z]{3}", fullmatch=True)
times = st.datetimes(datetime(2001, 9, 10), datetime(2100, 1, 1)).map(lambda time: f"{time.isoformat()}Z")  # noqa: DTZ001
stamps = st.one_of(st.integers(10**12, 10**13 - 1), st.integers(10**15, 10**16 - 1))


@st.composite
def frames(draw: st.DrawFn, venue: str) -> str:
    symbol, bids, asks = draw(symbols), draw(levels), draw(levels)
    if venue == "kraken":
        kind = draw(st.sampled_from(["snapshot", "update"]))
        sides = [",".join(f'{{"price":{price},"qty":{size}}}' for price, size in side) for side in (bids, asks)]
        return (
            f'{{"channel":"book","type":"{kind}","data":[{{"symbol":"{symbol}",'
            f'"bids":[{sides[0]}],"asks":[{sides[1]}],"checksum":{draw(st.integers(0, 2**32 - 1))},'
            f'"timestamp":"{draw(times)}"}}]}}'
        )
    if venue == "coinbase":
        changes = [["buy", *level] for level in bids] + [["sell", *level] for level in asks]
        message = {"type": "l2update", "product_id": symbol, "changes": changes, "time": draw(times)}
        return json.dumps(message, separators=(",", ":"))
    stamp, first = draw(stamps), draw(st.integers(1, 2**53))
    futures = venue == "binance_usdm"
    message = {"e": "depthUpdate", "E": stamp} | ({"T": stamp} if futures else {}) | {"s": symbol, "U": first}
    message |= {"u": first + 5} | ({"pu": first - 1} if futures else {}) | {"b": bids, "a": asks}
    if draw(st.booleans()):
        message = {"stream": f"{symbol.lower()}@depth@100ms", "data": message}
    return json.dumps(message, separators=(",", ":"))


@pytest.mark.parametrize("venue", VENUES)
def test_made_up_book_messages(venue):
    strict, tolerant = Decoder(venue), Decoder(venue, tolerant=True)

    @settings(max_examples=150)
    @given(frames(venue))
    def agree(frame: str) -> None:
        expected = plainly(venue, frame)
        assert strict.decode(frame.encode()) == expected
        assert tolerant.decode(frame.encode()) == expected

    agree()
    assert strict.slow_path < tolerant.slow_path / 2, "the strict scanner knows the venue's own layout"


def test_an_unknown_venue_has_no_decoder():
    with pytest.raises(ValueError, match="bitmex"):
        Decoder("bitmex")

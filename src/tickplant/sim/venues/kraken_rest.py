"""Kraken's REST answers that a market-data client asks for, in the old names (`XXBTZUSD`) and the new (`BTC/USD`)."""

from __future__ import annotations

import json
from typing import Any

from tickplant.clock import SECOND_NS, rfc3339
from tickplant.sim.market import Instrument, Listing, Market
from tickplant.sim.matching import ASK, BID
from tickplant.sim.past_trades import PastTrades
from tickplant.sim.venue import HttpReply, decimal_text, parameters

_TRADES_MOST = 1000
_SECONDS_DIGITS = 11
_OLD_NAMES = {"BTC": "XBT", "DOGE": "XDG"}
# Assets of the first years have an X (crypto) or Z (cash) before their name.
_PREFIXED = {"XBT", "XDG", "ETH", "ETC", "LTC", "XLM", "XRP", "ZEC", "USD"}


def answer(market: Market, past: PastTrades, path: str, query: str, now_ns: int) -> HttpReply:
    """The answer to a public GET below `/0/public/`; the venue's own error shape for what there is not."""
    asked = parameters(query)
    match path.removeprefix("/0/public/"):
        case "Time":
            return _result({"unixtime": now_ns // SECOND_NS, "rfc1123": rfc3339(now_ns)})
        case "SystemStatus":
            return _result({"status": "online", "timestamp": f"{rfc3339(now_ns)[:19]}Z"})
        case "Assets":
            return _result(_assets(market))
        case "AssetPairs":
            chosen = _chosen(market, asked.get("pair"))
            return _unknown_pair() if chosen is None else _result({_pair(i): _pair_facts(i) for i in chosen})
        case "Depth":
            chosen = _listed(market, asked.get("pair"))
            if not chosen:
                return _unknown_pair()
            listing = market.listings[market.index_of[chosen[0].symbol]]
            count = asked.get("count", "100")
            depth = min(500, int(count)) if count.isdigit() else 100
            return _result({_pair(chosen[0]): _depth(listing, depth, now_ns)})
        case "Trades":
            chosen = _listed(market, asked.get("pair"))
            if not chosen:
                return _unknown_pair()
            return _trades(market, past, chosen[0], asked)
    return HttpReply(404, '{"error":["EGeneral:Unknown method"]}')


def instrument_channel(market: Market) -> str:
    """The `data` of the WebSocket `instrument` channel's snapshot."""
    assets = sorted({i for listing in market.listings for i in (listing.instrument.base, listing.instrument.quote)})
    rows = ",".join(
        f'{{"id":"{asset}","status":"enabled","precision":{4 if asset == "USD" else 10},'
        f'"precision_display":{2 if asset == "USD" else 5},"borrowable":false,"collateral_value":0.00}}'
        for asset in assets
    )
    pairs = ",".join(_channel_pair(listing.instrument) for listing in market.listings)
    return f'{{"assets":[{rows}],"pairs":[{pairs}]}}'


def _channel_pair(instrument: Instrument) -> str:
    tick, lot = decimal_text(1, instrument.price_scale), decimal_text(1, instrument.size_scale)
    return (
        f'{{"symbol":"{instrument.symbol}","base":"{instrument.base}","quote":"{instrument.quote}","status":"online",'
        f'"qty_precision":{instrument.size_scale},"qty_increment":{lot},"price_precision":{instrument.price_scale},'
        f'"cost_precision":5,"marginable":false,"has_index":true,"cost_min":0.50,"tick_size":{tick},'
        f'"price_increment":{tick},"qty_min":{lot}}}'
    )


def old_name(asset: str) -> str:
    """An asset's name before v2: XBT for BTC."""
    return _OLD_NAMES.get(asset, asset)


def _asset(name: str) -> str:
    old = old_name(name)
    return ("Z" if old == "USD" else "X") + old if old in _PREFIXED else old


def _pair(instrument: Instrument) -> str:
    base, quote = _asset(instrument.base), _asset(instrument.quote)
    if len(base) == 4 and base[1:] == old_name(instrument.base):
        return base + quote
    return old_name(instrument.base) + old_name(instrument.quote)


def _chosen(market: Market, pair: str | None) -> list[Instrument] | None:
    """Instruments by any of their names; all of them without a wish, None where a name is unknown."""
    instruments = [listing.instrument for listing in market.listings]
    if not pair:
        return instruments
    names = {
        name: i
        for i in instruments
        for name in (i.symbol, _pair(i), old_name(i.base) + old_name(i.quote), i.base + i.quote)
    }
    wanted = pair.split(",")
    return [names[name] for name in wanted] if all(name in names for name in wanted) else None


def _listed(market: Market, pair: str | None) -> list[Instrument]:
    """Instruments that can be asked for now; none where one of them is unknown or delisted."""
    chosen = _chosen(market, pair) if pair else None
    return chosen if chosen and all(instrument.symbol in market.index_of for instrument in chosen) else []


def _pair_facts(instrument: Instrument) -> dict[str, Any]:
    base, quote = old_name(instrument.base), old_name(instrument.quote)
    return {
        "altname": base + quote, "wsname": f"{base}/{quote}", "aclass_base": "currency",
        "base": _asset(instrument.base), "aclass_quote": "currency", "quote": _asset(instrument.quote),
        "lot": "unit", "cost_decimals": 5, "pair_decimals": instrument.price_scale,
        "lot_decimals": instrument.size_scale, "lot_multiplier": 1, "leverage_buy": [], "leverage_sell": [],
        "fees": [[0, 0.4]], "fees_maker": [[0, 0.25]], "fee_volume_currency": "ZUSD", "margin_call": 80,
        "margin_stop": 40, "ordermin": decimal_text(1, instrument.size_scale), "costmin": "0.5",
        "tick_size": decimal_text(1, instrument.price_scale), "status": "online",
    }  # fmt: skip


def _assets(market: Market) -> dict[str, Any]:
    names = sorted({i for listing in market.listings for i in (listing.instrument.base, listing.instrument.quote)})
    return {
        _asset(name): {
            "aclass": "currency", "altname": old_name(name), "decimals": 4 if name == "USD" else 10,
            "display_decimals": 2 if name == "USD" else 5, "status": "enabled",
        }
        for name in names
    }  # fmt: skip


def _depth(listing: Listing, count: int, now_ns: int) -> dict[str, Any]:
    scales = listing.instrument.price_scale, listing.instrument.size_scale
    return {
        name: [
            [decimal_text(price, scales[0]), decimal_text(size, scales[1]), now_ns // SECOND_NS]
            for price, size in listing.book.levels(side, count)
        ]
        for name, side in (("asks", ASK), ("bids", BID))
    }


def _trades(market: Market, past: PastTrades, instrument: Instrument, asked: dict[str, str]) -> HttpReply:
    """Trades after the time `since` (ns, or seconds where it is short), oldest first; without it the newest."""
    count, since = asked.get("count", str(_TRADES_MOST)), asked.get("since", "0")
    if not (count.isdecimal() and since.isdecimal()):
        return HttpReply(200, '{"error":["EGeneral:Invalid arguments"]}')
    index, most = market.index_of[instrument.symbol], min(int(count), _TRADES_MOST)
    since_ns = int(since) * (SECOND_NS if len(since) <= _SECONDS_DIGITS else 1)
    found = past.since(index, since_ns, most) if since_ns else past.newest(index, most)
    rows = [
        f'["{decimal_text(trade.price, instrument.price_scale)}","{decimal_text(trade.size, instrument.size_scale)}",'
        f'{_seconds(time_ns)},"{"s" if trade.side == ASK else "b"}","m","",{trade.id}]'
        for time_ns, trade in found
    ]
    last = found[-1].time_ns if found else since_ns
    body = f'{{"error":[],"result":{{"{_pair(instrument)}":[{",".join(rows)}],"last":"{last}"}}}}'
    return HttpReply(200, body)


def _seconds(time_ns: int) -> str:
    """Seconds with seven decimals, the last of them rounded down, as the venue prints the times of trades."""
    return f"{time_ns // SECOND_NS}.{time_ns % SECOND_NS // 100:07d}"


def _result(result: dict[str, Any]) -> HttpReply:
    return HttpReply(200, json.dumps({"error": [], "result": result}, separators=(",", ":")))


def _unknown_pair() -> HttpReply:
    return HttpReply(200, '{"error":["EQuery:Unknown asset pair"]}')

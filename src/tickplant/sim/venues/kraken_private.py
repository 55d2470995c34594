"""Kraken's private side: tokens from REST that expire, and the balances of the one account that there is."""

from __future__ import annotations

import json
from collections.abc import Sequence

from tickplant.clock import SECOND_NS, Random, rfc3339
from tickplant.sim.market import Instrument, Step
from tickplant.sim.venue import HttpReply, decimal_text

# The account takes part in every 16th trade of an instrument.
_ACCOUNT_TRADE_EVERY = 16
_CASH_SCALE = 4
_ASSET_SCALE = 8


class Tokens:
    """Tokens and until when they may be used to subscribe. A subscription lasts as long as its connection."""

    def __init__(self, rng: Random, lifetime_ns: int) -> None:
        self._rng = rng
        self._lifetime_ns = lifetime_ns
        self._expires_ns: dict[str, int] = {}

    def issue(self, now_ns: int) -> HttpReply:
        """The answer to `GetWebSocketsToken` (docs.kraken.com: the token should be used within 15 minutes)."""
        token = f"{self._rng.getrandbits(256):064x}"
        self._expires_ns = {t: e for t, e in self._expires_ns.items() if e > now_ns}
        self._expires_ns[token] = now_ns + self._lifetime_ns
        result = {"token": token, "expires": self._lifetime_ns // SECOND_NS}
        return HttpReply(200, json.dumps({"error": [], "result": result}, separators=(",", ":")))

    def expire(self) -> None:
        """Ends the time of all tokens."""
        self._expires_ns.clear()

    def refusal(self, token: object, now_ns: int) -> str | None:
        """Why a subscription with this token is refused, or None."""
        if not isinstance(token, str) or not token:
            return "EGeneral:Invalid arguments:token"
        return None if self._expires_ns.get(token, 0) > now_ns else "ESession:Invalid session"


class Account:
    """Balances that change with the account's share of the market's trades, always as the resting side."""

    def __init__(self, instruments: Sequence[Instrument]) -> None:
        self._instruments = instruments
        self._balances = {i.base: 100 * 10**_ASSET_SCALE for i in instruments}
        self._balances |= {i.quote: 1_000_000 * 10**_CASH_SCALE for i in instruments}
        self._cash = {i.quote for i in instruments}

    def snapshot(self) -> str:
        """The `data` of a balances snapshot."""
        return ",".join(
            f'{{"asset":"{asset}","asset_class":"currency","balance":{self._text(asset)},"wallets":'
            f'[{{"type":"spot","id":"main","balance":{self._text(asset)}}}]}}'
            for asset in self._balances
        )

    def take(self, step: Step) -> list[str]:
        """The `data` of one balances update for each of the account's trades in a step."""
        instrument = self._instruments[step.instrument]
        updates = []
        for trade in step.trades:
            if trade.id % _ACCOUNT_TRADE_EVERY:
                continue
            sign = 1 if trade.side else -1
            size = trade.size * 10**_ASSET_SCALE // 10**instrument.size_scale
            cost = trade.size * trade.price * 10**_CASH_SCALE // 10 ** (instrument.size_scale + instrument.price_scale)
            rows = [
                self._move(asset, amount, trade.id, step.time_ns)
                for asset, amount in ((instrument.base, sign * size), (instrument.quote, -sign * cost))
            ]
            updates.append(",".join(rows))
        return updates

    def _move(self, asset: str, amount: int, trade_id: int, time_ns: int) -> str:
        self._balances[asset] += amount
        return (
            f'{{"ledger_id":"L{trade_id}-{asset}","ref_id":"T{trade_id}","timestamp":"{rfc3339(time_ns)}",'
            f'"type":"trade","asset":"{asset}","asset_class":"currency","category":"trade","wallet_type":"spot",'
            f'"wallet_id":"main","amount":{self._signed(asset, amount)},"fee":0.0,"balance":{self._text(asset)}}}'
        )

    def _text(self, asset: str) -> str:
        return self._signed(asset, self._balances[asset])

    def _signed(self, asset: str, amount: int) -> str:
        scale = _CASH_SCALE if asset in self._cash else _ASSET_SCALE
        return f"{'-' if amount < 0 else ''}{decimal_text(abs(amount), scale)}"

"""What a simulated venue's message is, read from its text, and how to spoil it so that the protocol can show it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Literal, NamedTuple

from tickplant.sim.venues.kraken import status_text
from tickplant.sim.venues.kraken_book import CHECKSUM_LEVELS
from tickplant.venues.base import Venue
from tickplant.venues.user import BookEvent, TradeEvent, UserVenue

Sort = Literal["book", "snapshot", "trade", "answer", "other"]


class Spoken(NamedTuple):
    """A message: its sort, and the instrument's symbol in capitals as the venue's markets name it, where it has one."""

    sort: Sort
    symbol: str


_OTHER = Spoken("other", "")
_KRAKEN_SYMBOL = re.compile(r'"symbol":"([^"]+)"')
_COINBASE_SYMBOL = re.compile(r'"product_id":"([^"]+)"')
_BINANCE_STREAM = re.compile(r'\{"stream":"([^"@]+)@([a-zA-Z]+)')
_CHECKSUM = re.compile(r'"checksum":(\d+)')
_ASKS_BEHIND_BEST = re.compile(r'("asks":\[\{[^}]*\})[^\]]*')
_NUMBERS = re.compile(r'"(U|u|pu)":(\d+)')


class Dialect:
    """How one venue's texts are read. `numbered`: each book message says which update it brings the book to.
    `proven`: a lost or old book message cannot go unseen."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.numbered = name.startswith("binance")
        self.proven = name != "coinbase"

    def read(self, text: str) -> Spoken:
        """The sort and symbol of a text."""
        if self.numbered:
            return self._binance(text)
        return self._kraken(text) if self.name == "kraken" else self._coinbase(text)

    def _binance(self, text: str) -> Spoken:
        found = _BINANCE_STREAM.match(text)
        if found is None:
            return Spoken("answer", "") if text.startswith('{"result"') else _OTHER
        sorts: dict[str, Sort] = {"depth": "book", "trade": "trade"}
        return Spoken(sorts.get(found[2], "other"), found[1].upper())

    def _kraken(self, text: str) -> Spoken:
        if text.startswith('{"channel":"book"'):
            sort: Sort = "snapshot" if text.startswith('"snapshot"', 25) else "book"
        elif text.startswith('{"channel":"trade"'):
            sort = "trade"
        elif text.startswith('{"method":"pong"'):
            return _OTHER
        elif text.startswith(('{"method":', '{"error":')):
            sort = "answer"
        else:
            return _OTHER
        found = _KRAKEN_SYMBOL.search(text)
        return Spoken(sort, found[1] if found else "")

    def _coinbase(self, text: str) -> Spoken:
        sort: Sort
        if text.startswith('{"type":"l2update"'):
            sort = "book"
        elif text.startswith('{"type":"snapshot"'):
            sort = "snapshot"
        elif text.startswith(('{"type":"match"', '{"type":"last_match"')):
            sort = "trade"
        elif text.startswith('{"type":"subscriptions"'):
            return Spoken("answer", "")
        else:
            return _OTHER
        found = _COINBASE_SYMBOL.search(text)
        return Spoken(sort, found[1] if found else "")

    def wrong_checksum(self, text: str) -> str | None:
        """The same with another checksum; None where there is none."""
        if _CHECKSUM.search(text) is None:
            return None
        return _CHECKSUM.sub(lambda found: f'"checksum":{int(found[1]) ^ 0x5A5A}', text)

    def snapshot_short(self, text: str) -> str | None:
        """A snapshot with the best level of its asks alone; None where no checksum tells that others are missing."""
        if _CHECKSUM.search(text) is None:
            return None
        spoiled = _ASKS_BEHIND_BEST.sub(r"\1", text, count=1)
        return spoiled if spoiled != text else None

    def is_deep(self, text: str, window: Mapping[tuple[int, int], int] | None) -> bool:
        """Whether an update touches only levels that the checksum does not cover; `window` is the book after it."""
        if self.name != "kraken" or window is None:
            return False
        update = json.loads(text, parse_float=str)["data"][0]
        for side, name in enumerate(("bids", "asks")):
            sign = 1 if side else -1
            # The best first; prices are printed with all their decimals, so that their digits are ticks.
            prices = sorted(sign * price for of_side, price in window if of_side == side)
            touched = [sign * int(str(level["price"]).replace(".", "")) for level in update[name]]
            if touched and (len(prices) <= CHECKSUM_LEVELS or min(touched) <= prices[CHECKSUM_LEVELS - 1]):
                return False
        return True

    def sequence_skip(self, text: str) -> str | None:
        """The same, claiming that it follows an update that nobody sent; what it brings the book to stays true."""
        if not self.numbered:
            return None
        claims = "pu" if '"pu":' in text else "U"
        last = next((int(found[2]) for found in _NUMBERS.finditer(text) if found[1] == "u"), 0)

        def claim(found: re.Match[str]) -> str:
            return f'"{claims}":{min(int(found[2]) + 1, last)}' if found[1] == claims else found[0]

        spoiled = _NUMBERS.sub(claim, text)
        return spoiled if spoiled != text else None

    def sequence_reset(self, text: str) -> str | None:
        """The same with numbers from the beginning."""
        if not self.numbered:
            return None
        return _NUMBERS.sub(lambda found: f'"{found[1]}":{int(found[2]) % 1000}', text)

    def answer_wrong(self, text: str) -> str:
        """An answer that names something else: another id, another symbol."""
        if self.numbered:
            return re.sub(r'"id":(\d+)', lambda found: f'"id":{int(found[1]) + 100_000}', text)
        if self.name == "kraken":
            return re.sub(r'"symbol":"[^"]+"', '"symbol":"NONE/USD"', text)
        return re.sub(r'"product_ids":\[[^\]]*\]', '"product_ids":["NONE-USD"]', text)

    def maintenance(self) -> str | None:
        """What the venue says before it hangs up; None where it says nothing."""
        if self.name == "kraken":
            return status_text("maintenance")
        return '{"e":"serverShutdown","E":1770123456789}' if self.numbered else None


class OwnDialect(Dialect):
    """A user's venue, read as its own class reads it. Nobody knows how to spoil its numbers."""

    def __init__(self, rules: UserVenue) -> None:
        super().__init__(rules.code.lower())
        self._rules = rules
        self.proven = rules.book.connection_numbered or rules.book.continuity != "none" or rules.book.checksum != "none"

    def read(self, text: str) -> Spoken:
        for event in self._rules.decode_frame(text.encode()):
            if isinstance(event, BookEvent):
                return Spoken("snapshot" if event.snapshot else "book", event.symbol)
            if isinstance(event, TradeEvent):
                return Spoken("trade", event.symbol)
        return _OTHER


def dialect_of(name: str, rules: Venue) -> Dialect:
    """The dialect of a simulated venue that a plant speaks to by these rules."""
    return OwnDialect(rules) if isinstance(rules, UserVenue) else Dialect(name)

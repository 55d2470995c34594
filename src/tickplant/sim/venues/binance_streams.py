"""What Binance's spot and futures streams share: names of streams, subscriptions by name, batched depth, envelopes.

Facts: binance-spot-api-docs, web-socket-streams.md. A stream name that is well formed but unknown is acknowledged and
stays silent, as on the venue.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar
from urllib.parse import unquote

from tickplant.clock import MILLISECOND_NS, SECOND_NS
from tickplant.sim.market import Listing, Market, Step, Trade
from tickplant.sim.matching import ASK, BID
from tickplant.sim.past_trades import Past
from tickplant.sim.statistics import Statistics
from tickplant.sim.venue import Close, Message, Outbox, Subscribers, Venue, decimal_text, milliseconds, parameters

Rows = list[tuple[int, int]]
_BAD_JSON = {"code": 3, "msg": "Invalid JSON: expected value at line 1 column 1"}


class Batch:
    """What changed in one book since the last message of one rhythm."""

    __slots__ = ("first_id", "last_id", "previous", "prices", "time_ns")

    def __init__(self, last_id: int) -> None:
        self.prices: tuple[dict[int, None], dict[int, None]] = ({}, {})
        self.first_id = 0
        self.last_id = self.previous = last_id
        self.time_ns = 0

    def take(self, step: Step) -> None:
        self.first_id = self.first_id or step.first_id
        self.last_id, self.time_ns = step.last_id, step.time_ns
        for change in step.changes:
            self.prices[change.side][change.price] = None

    def sent(self) -> None:
        self.prices = ({}, {})
        self.first_id, self.previous = 0, self.last_id


class BinanceStreams(Venue):
    """The base of both dialects. A subclass says which depth rhythms there are and how each message reads."""

    depth_rhythms: ClassVar[dict[str, int]]
    """Stream kinds with their periods in ns; 0 sends each change at once. The first is what `published` means."""
    messages_per_second: ClassVar[int]
    pong_within_ns = 60 * SECOND_NS

    def __init__(self, market: Market) -> None:
        super().__init__(market)
        self._subscribers = Subscribers()
        self._wrapped: dict[int, bool] = {}
        self._requests: dict[int, deque[int]] = {}
        self._index_of = {listing.instrument.symbol.lower(): i for i, listing in enumerate(market.listings)}
        self._statistics = [Statistics(listing) for listing in market.listings]
        self._batches = {
            (index, kind): Batch(listing.update_id)
            for index, listing in enumerate(market.listings)
            for kind in self.depth_rhythms
        }
        self._aggregate_ids = [1_000 for _ in market.listings]

    def connect(self, connection: int, now_ns: int, path: str = "", query: str = "") -> list[Message]:
        """Says nothing. Streams named in the path (`/ws/a/b`) or the query (`?streams=a/b`) are subscribed."""
        route = self._route(path or self.path)
        self._wrapped[connection] = route.endswith("/stream")
        self._requests[connection] = deque(maxlen=self.messages_per_second)
        named = parameters(query).get("streams", "") if self._wrapped[connection] else path.removeprefix(route)
        for stream in filter(None, unquote(named).split("/")):
            self._subscribe(connection, stream)
        return []

    def disconnect(self, connection: int) -> None:
        self._wrapped.pop(connection, None)
        self._requests.pop(connection, None)
        self._subscribers.drop(connection)

    def receive(self, connection: int, text: str, now_ns: int) -> list[Message]:
        if self._too_fast(connection, now_ns):
            return [Close(1008, "Too many requests")]
        try:
            request = json.loads(text)
        except ValueError:
            return [_json(_BAD_JSON)]
        if not isinstance(request, dict):
            return [_json({"code": 2, "msg": "Invalid request: request must be an object"})]
        number = request.get("id")
        if isinstance(number, bool | float | list | dict):
            return [_json({"code": 2, "msg": "Invalid request: request ID must be an unsigned integer"})]
        streams = request.get("params", [])
        if not isinstance(streams, list) or not all(isinstance(stream, str) for stream in streams):
            refusal = {"code": 2, "msg": "Invalid request: property name must be a string"}
            return [_json(refusal | {"id": number})]
        result = None
        match request.get("method"):
            case "SUBSCRIBE":
                for stream in streams:
                    self._subscribe(connection, stream)
            case "UNSUBSCRIBE":
                for stream in streams:
                    self._subscribers.remove(stream, connection)
            case "LIST_SUBSCRIPTIONS":
                result = self._subscribers.keys(connection)
            case method:
                what = "Invalid request: missing field `method`" if method is None else f"unknown variant `{method}`"
                return [_json({"code": 2, "msg": what, "id": number})]
        return [_json({"result": result, "id": number})]

    def serves(self, path: str) -> bool:
        return bool(self._route(path))

    def published(self, symbol: str) -> int:
        """The `u` of the last depth message of the quickest rhythm."""
        index = self.market.index_of[symbol]
        return self._batches[index, next(iter(self.depth_rhythms))].previous

    @abstractmethod
    def _route(self, path: str) -> str:
        """The served path that this one begins with (`/ws`, `/stream`), or nothing."""

    @abstractmethod
    def _depth(self, listing: Listing, batch: Batch, rows: tuple[Rows, Rows], at_ns: int) -> str: ...

    @abstractmethod
    def _book_ticker(self, listing: Listing, statistics: Statistics, update_id: int, at_ns: int) -> str: ...

    @abstractmethod
    def _trade(self, listing: Listing, trade: Trade, at_ns: int) -> str: ...

    @abstractmethod
    def _aggregate(self, listing: Listing, number: int, trades: list[Trade], at_ns: int) -> str: ...

    def _hears(self, connection: int, kind: str) -> bool:
        """Whether a connection may have a kind of stream at all; if not, it is acknowledged and silent."""
        return True

    def _subscribe(self, connection: int, stream: str) -> None:
        _, _, kind = stream.partition("@")
        if self._hears(connection, kind):
            self._subscribers.add(stream, connection)

    def _concerns(self, key: Any, index: int) -> bool:
        # Who is subscribed to a name stays so, and hears again when it trades again.
        return False

    def _too_fast(self, connection: int, now_ns: int) -> bool:
        """Whether this message is one too many within a second."""
        times = self._requests.setdefault(connection, deque(maxlen=self.messages_per_second))
        full = len(times) == self.messages_per_second and now_ns - times[0] < SECOND_NS
        times.append(now_ns)
        return full

    def _step(self, step: Step, out: Outbox) -> None:
        index, at_ns = step.instrument, step.time_ns
        listing, statistics = self.market.listings[index], self._statistics[index]
        statistics.take(step)
        for trade in step.trades:
            self._publish(out, index, "trade", partial(self._trade, listing, trade, at_ns))
        for trades in _by_price(step.trades):
            self._aggregate_ids[index] += 1
            number = self._aggregate_ids[index]
            self._publish(out, index, "aggTrade", partial(self._aggregate, listing, number, trades, at_ns))
        if not step.changes:
            return
        for kind, period_ns in self.depth_rhythms.items():
            batch = self._batches[index, kind]
            batch.take(step)
            if not period_ns:
                self._send_batch(index, kind, at_ns, out)
        if statistics.touch_moved():
            self._publish(
                out, index, "bookTicker", partial(self._book_ticker, listing, statistics, step.last_id, at_ns)
            )

    def _tick(self, cadence_ns: int, at_ns: int, out: Outbox) -> None:
        for (index, kind), batch in self._batches.items():
            if self.depth_rhythms[kind] == cadence_ns and batch.first_id:
                self._send_batch(index, kind, at_ns, out)

    def _send_batch(self, index: int, kind: str, at_ns: int, out: Outbox) -> None:
        listing, batch = self.market.listings[index], self._batches[index, kind]

        def render() -> str:
            bids, asks = (
                [(price, listing.book.size_at(side, price)) for price in batch.prices[side]] for side in (BID, ASK)
            )
            return self._depth(listing, batch, (bids, asks), at_ns)

        self._publish(out, index, kind, render)
        batch.sent()

    def _publish(self, out: Outbox, index: int, kind: str, render: Callable[[], str]) -> None:
        stream = f"{self.market.listings[index].instrument.symbol.lower()}@{kind}"
        connections = self._subscribers.of(stream)
        if not connections or self.market.listings[index].instrument.symbol in self._delisted:
            return
        text = render()
        wrapped = f'{{"stream":"{stream}","data":{text}}}'
        out.extend((connection, wrapped if self._wrapped[connection] else text) for connection in connections)

    def _rows(self, listing: Listing, rows: Rows) -> str:
        return ",".join([f'["{price}","{size}"]' for price, size in (self.printed(listing, *row) for row in rows)])

    def _past_trades(self, listing: Listing, past: list[Past], more: str = "") -> str:
        """The body of a REST list of trades, oldest first."""
        rows = []
        for time_ns, trade in past:
            price, size = self.printed(listing, trade.price, trade.size)
            quoted = decimal_text(
                trade.price * trade.size, listing.instrument.price_scale + listing.instrument.size_scale
            )
            rows.append(
                f'{{"id":{trade.id},"price":"{price}","qty":"{size}","quoteQty":"{quoted}",'
                f'"time":{milliseconds(time_ns)},"isBuyerMaker":{boolean(trade.side == ASK)}{more}}}'
            )
        return f"[{','.join(rows)}]"

    def _touch(self, listing: Listing, statistics: Statistics) -> str:
        """The best levels as `bookTicker` prints them: b, B, a, A."""
        texts = [text for level in statistics.touch() for text in self.printed(listing, *level)]
        return ",".join(f'"{name}":"{text}"' for name, text in zip("bBaA", texts, strict=True))


def boolean(value: object) -> str:
    """JSON's spelling."""
    return "true" if value else "false"


def whole_number(text: str | None, default: int) -> int | None:
    """A query parameter that counts something; None where it is no positive whole number."""
    if text is None:
        return default
    return int(text) if text.isdecimal() and text.isascii() and int(text) > 0 else None


def time_body(now_ns: int) -> str:
    """The answer to `/time`."""
    return f'{{"serverTime":{milliseconds(now_ns)}}}'


def cadences(rhythms: dict[str, int]) -> tuple[int, ...]:
    """The periods among depth rhythms, each once."""
    return tuple(sorted({period for period in rhythms.values() if period}))


def rhythm(count_ms: int) -> int:
    """Milliseconds as a period in ns."""
    return count_ms * MILLISECOND_NS


def _by_price(trades: tuple[Trade, ...]) -> list[list[Trade]]:
    """Neighbouring trades at one price: what an aggregate trade sums up."""
    groups: list[list[Trade]] = []
    for trade in trades:
        if groups and groups[-1][0].price == trade.price:
            groups[-1].append(trade)
        else:
            groups.append([trade])
    return groups


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))

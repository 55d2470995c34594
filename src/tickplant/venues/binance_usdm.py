"""Binance USD-M futures.

Like spot, but updates chain by `pu` (the `u` before), the join is inclusive, and the paths are routed since April 2026:
depth, bookTicker and trade stand under `/public`. The old unrouted path acknowledges a subscription and stays silent.

Facts (developers.binance.com, USDS-Margined Futures): 2400 of weight a minute and address; depth weighs 2 to 20 by its
limit, the newest 1000 trades 5. Older trades by id (historicalTrades) want an API key, so here a hole that is more than
1000 trades old stays one. Assumed: that ids of raw trades have no jumps of their own (insurance fund and liquidation
trades are left out of REST: what is not served is told as a gap), and the weight 1 of exchangeInfo.
"""

from __future__ import annotations

from tickplant.venues.base import Definition, Venue
from tickplant.venues.binance import ROTATE_EVERY_S, parse_exchange_info, stream_channel
from tickplant.venues.limits import up_to
from tickplant.venues.plan import BackfillPlan, BookPlan, Fetched, FetchedSnapshot, Rate, Route, Weights
from tickplant.venues.settings import VenueSettings


class BinanceUsdm(Venue):
    code = "BINANCE_USDM"
    number = 3
    title = "Binance USD-M futures"
    decoder = "binance_usdm"
    routes = (Route(url="wss://fstream.binance.com/public/stream"),)
    rest_url = "https://fapi.binance.com"
    instruments_path = "/fapi/v1/exchangeInfo"
    definitions_path = instruments_path
    channels = (
        stream_channel("book", "depth@100ms"),
        # Sources disagree whether raw trades are public or market; the maintained clients have them here.
        stream_channel("trades", "trade"),
        stream_channel("ticker", "bookTicker"),
    )
    book = BookPlan(
        continuity="previous",
        snapshot=FetchedSnapshot(Fetched("/fapi/v1/depth?symbol={symbol}&limit={depth}")),
        ticker_shares_sequence=True,
    )
    trade_ids_consecutive = True
    backfill = BackfillPlan(url="/fapi/v1/trades?symbol={symbol}&limit=1000", page=1000)
    # The venue allows ten, pings and pongs included.
    messages_per_second = 6
    connection_rate = Rate(300, 300)
    rotate_every_s = ROTATE_EVERY_S
    # Request weight of an address a minute, of which a tenth is left to whatever else the user runs there.
    fetch_rate = Rate(2160, 60)
    depths = (5, 10, 20, 50, 100, 500, 1000)
    default_depth = 1000
    # One page of the documentation says 200, another 1024: the smaller is safe, and loops lift it.
    subscriptions_most = 200
    # Delivery contracts end with their date (BTCUSDT_260327).
    symbol_pattern = r"[^\W_a-z]{2,}(_\d{6})?"
    symbol_example = "BTCUSDT"
    symbol_separator = ""
    symbol_in_frame = r'"s":\s*"([^"]+)"'

    def weights(self, settings: VenueSettings) -> Weights:
        # 2, 5, 10, 20 up to 50, 100, 500, 1000 levels.
        depth = self.depth(settings)
        return Weights(snapshot=up_to(depth, {50: 2, 100: 5, 500: 10, 1000: 20}), definitions=1, trades=5)

    def parse_instruments(self, body: bytes) -> list[Definition]:
        return parse_exchange_info(body, self.code)

"""Instruments with the names, prices and steps that the real venues show."""

from __future__ import annotations

from tickplant.sim.market import Instrument

# Base asset and a price in quote currency, in tenths of a thousandth: whole numbers, so that nothing is rounded.
_PRICES = {
    "BTC": 612_345_600, "ETH": 26_123_400, "SOL": 1_523_200, "XRP": 5_931, "ADA": 3_812, "DOGE": 1_214, "DOT": 46_210,
    "LINK": 112_340, "AVAX": 257_100, "LTC": 653_800, "BCH": 3_412_500, "ATOM": 43_870, "UNI": 62_140,
    "AAVE": 1_423_000, "NEAR": 41_730, "FIL": 37_550, "ETC": 186_700, "XLM": 941, "ALGO": 1_274, "TRX": 1_489,
    "SUI": 9_871, "APT": 61_230, "ARB": 5_621, "OP": 14_310, "INJ": 201_400, "TIA": 53_760, "SEI": 2_984,
    "IMX": 13_520, "GRT": 1_621, "SNX": 13_890, "CRV": 2_871, "LDO": 10_620, "ENS": 176_200, "COMP": 452_300,
    "MANA": 2_713, "SAND": 2_564, "AXS": 47_810, "CHZ": 612, "EGLD": 268_400, "FLOW": 5_432, "KAVA": 3_214,
    "KSM": 194_300, "MINA": 4_421, "QNT": 672_900, "RUNE": 41_120, "STX": 16_230, "TAO": 3_821_000, "XTZ": 6_781,
    "ZEC": 364_500, "DASH": 241_200, "WIF": 18_430, "PEPE": 1, "JUP": 7_921, "PYTH": 3_120, "ENA": 3_870,
    "ONDO": 6_940, "RENDER": 51_230, "FET": 11_940, "HNT": 67_810, "STRK": 3_940,
}  # fmt: skip
_SCALE = 4
MOST_INSTRUMENTS = len(_PRICES)

# What each venue quotes in, how it joins the names, least decimals of prices, least and most decimals of sizes.
_STYLES = {
    "kraken": ("USD", "/", 1, 8, 8),
    "binance": ("USDT", "", 2, 0, 5),
    "binance_usdm": ("USDT", "", 1, 0, 3),
    "coinbase": ("USD", "-", 2, 8, 8),
}
VENUES = tuple(_STYLES)
_OWN_STYLE = ("USD", "/", 2, 8, 8)


def is_own(venue: str) -> bool:
    """Whether a name is that of a user's class, `module:Class`."""
    return ":" in venue


def instruments(venue: str, count: int = 4) -> list[Instrument]:
    """The first `count` instruments of a venue. Raises ValueError for an unknown venue or more than there are."""
    if venue not in _STYLES and not is_own(venue):
        raise ValueError(f"no simulated venue {venue!r}; there are {', '.join(VENUES)}")
    if not 1 <= count <= MOST_INSTRUMENTS:
        raise ValueError(f"{count} instruments asked of {venue}; 1 to {MOST_INSTRUMENTS} can be had")
    return [_instrument(venue, base, _PRICES[base]) for base in list(_PRICES)[:count]]


def _instrument(venue: str, base: str, price: int) -> Instrument:
    quote, joint, price_scale_least, size_scale_least, size_scale_most = _STYLES.get(venue, _OWN_STYLE)
    # Dear assets have few decimals, cheap ones many: mostly 100,000 to 999,999 ticks in a price, as on the venues.
    digits = len(str(price))
    price_scale = min(8, max(price_scale_least, 10 - digits))
    ticks = price * 10 ** (price_scale - _SCALE) if price_scale >= _SCALE else price // 10 ** (_SCALE - price_scale)
    size_scale = min(size_scale_most, max(size_scale_least, digits - 3))
    # A usual order is worth about 1,000 of the quote currency.
    lot = max(1, 1000 * 10 ** (size_scale + _SCALE) // price)
    step = 10 ** max(0, len(str(lot)) - 2)
    return Instrument(f"{base}{joint}{quote}", base, quote, price_scale, size_scale, ticks, lot // step * step)

"""What a venue allows one address and one connection, compiled into a plan or checked against it."""

from __future__ import annotations

from typing import ClassVar, Protocol

import msgspec

from tickplant.errors import ConfigError
from tickplant.venues.plan import BackfillPlan, Budgets, Rate, Weights
from tickplant.venues.settings import VenueSettings


class Limited(Protocol):
    """The limits in a venue's description."""

    code: ClassVar[str]
    title: ClassVar[str]
    message_rate: ClassVar[Rate | None]
    fetch_rate: ClassVar[Rate | None]
    subscriptions_most: ClassVar[int]

    def weights(self, settings: VenueSettings) -> Weights:
        """What the venue counts for our requests."""


def budgets(venue: Limited, settings: VenueSettings) -> Budgets:
    """Which budgets the session asks the control thread for: those that the venue counts by address."""
    fetches = None if venue.fetch_rate is None else venue.weights(settings)
    return Budgets(messages=venue.message_rate is not None, fetches=fetches)


def backfill(form: BackfillPlan | None, rest_url: str, settings: VenueSettings) -> BackfillPlan | None:
    """Where and how many missed trades are fetched by these settings; None: none are."""
    most = settings.backfill_trades_max
    if form is None or most == 0 or "trades" not in settings.streams:
        return None
    return msgspec.structs.replace(form, url=rest_url + form.url, trades_most=most)


def check_subscriptions(venue: Limited, count: int, settings: VenueSettings) -> None:
    """Raises ConfigError for more instruments than one connection may carry."""
    subscriptions = count * len(settings.streams)
    if venue.subscriptions_most and subscriptions > venue.subscriptions_most:
        loops = -(-subscriptions * settings.loops // venue.subscriptions_most)
        raise ConfigError(
            f"{count} instruments with {len(settings.streams)} streams each are {subscriptions} subscriptions, "
            f"and a connection to {venue.title} carries {venue.subscriptions_most}",
            hint=f"set loops = {loops + 1} or more, or fewer streams",
            venue=venue.code,
        )


def up_to(value: int, weights: dict[int, int]) -> int:
    """The weight of the first step, ascending, that holds `value`; the last one's beyond."""
    return next((weight for most, weight in weights.items() if value <= most), max(weights.values()))

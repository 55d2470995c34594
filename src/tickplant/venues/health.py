"""Times and proofs of a plan as the settings say: the health machine's times, state hashes, shadow checks."""

from __future__ import annotations

from typing import Final

import msgspec

from tickplant.errors import ConfigError
from tickplant.venues.plan import BookPlan, FetchedSnapshot, HashPlan, Timing
from tickplant.venues.settings import VenueSettings

SHADOW_EVERY_S: Final = 300.0
"""Seconds between two shadow checks of one book where nothing is said: a fetch each, of the venue's budget."""


def timing(of_venue: Timing, settings: VenueSettings) -> Timing:
    """The venue's times with those that the settings name in their place."""
    changes = {}
    for name in Timing.__struct_fields__:
        seconds = getattr(settings, f"{name}_s")
        if seconds is not None:
            changes[name] = round(seconds * 1_000_000_000)
    return msgspec.structs.replace(of_venue, **changes)


def hash_plan(settings: VenueSettings) -> HashPlan:
    """How often books are hashed."""
    return HashPlan(every=round(settings.hash_every_s * 1_000_000_000), updates=settings.hash_updates)


def shadow_every(title: str, book: BookPlan, settings: VenueSettings) -> int:
    """Nanoseconds between two shadow checks of one book; 0: never.

    Raises:
        ConfigError: a check was asked for where no fetched snapshot can be aligned with the updates.
    """
    possible = isinstance(book.snapshot, FetchedSnapshot) and book.continuity != "none"
    if settings.shadow_every_s and not possible:
        raise ConfigError(
            f"a shadow check is not possible at {title}: no fetched snapshot shares a sequence with its updates",
            hint="leave shadow_every_s out for this venue",
        )
    seconds = SHADOW_EVERY_S if settings.shadow_every_s is None else settings.shadow_every_s
    return round(seconds * 1_000_000_000) if possible else 0

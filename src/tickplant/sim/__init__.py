"""Simulated venues: a seeded market behind the real venues' protocols, on sockets or in virtual time."""

from typing import TYPE_CHECKING, Any

from tickplant.sim.build import build_venue, build_venues
from tickplant.sim.market import Market, Step
from tickplant.sim.venue import Close, HttpReply, Message, Outbox, Subscribers, Venue

if TYPE_CHECKING:
    from tickplant.sim.server import Address, SimServer

__all__ = [
    "Address",
    "Close",
    "HttpReply",
    "Market",
    "Message",
    "Outbox",
    "SimServer",
    "Step",
    "Subscribers",
    "Venue",
    "build_venue",
    "build_venues",
]


def __getattr__(name: str) -> Any:
    # The server's HTTP library takes longer to import than all else together, and only a server needs it.
    if name in ("Address", "SimServer"):
        from tickplant.sim import server

        return getattr(server, name)
    raise AttributeError(name)

"""Simulated venues: a seeded market behind the real venues' protocols, on sockets or in virtual time."""

from tickplant.sim.build import build_venue, build_venues
from tickplant.sim.server import Address, SimServer
from tickplant.sim.venue import Close, HttpReply, Venue

__all__ = ["Address", "Close", "HttpReply", "SimServer", "Venue", "build_venue", "build_venues"]

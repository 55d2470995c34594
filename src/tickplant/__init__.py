"""tickplant: market data with its proof. Public names only; see ARCHITECTURE.md for the map.

A name is loaded when it is first asked for: a worker of the tape router needs one module and loads one.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tickplant._native import Batch, Checkpointer, LaneWriter, __version__
    from tickplant.errors import TickplantError
    from tickplant.log import Book, BookLevel, Log, Position, Records
    from tickplant.plant import Line, Only, Plant, PlantState
    from tickplant.records import (
        Action,
        BookState,
        ConnectionState,
        Coverage,
        Definition,
        Gap,
        Heartbeat,
        Kind,
        Level,
        Mbp,
        Quality,
        Quote,
        Reason,
        Record,
        Repair,
        Rung,
        Side,
        StateHash,
        Status,
        Stream,
        Subject,
        SubscriptionState,
        Trade,
        TradingState,
    )
    from tickplant.venues.user import UserVenue

__all__ = [
    "Action",
    "Batch",
    "Book",
    "BookLevel",
    "BookState",
    "Checkpointer",
    "ConnectionState",
    "Coverage",
    "Definition",
    "Gap",
    "Heartbeat",
    "Kind",
    "LaneWriter",
    "Level",
    "Line",
    "Log",
    "Mbp",
    "Only",
    "Plant",
    "PlantState",
    "Position",
    "Quality",
    "Quote",
    "Reason",
    "Record",
    "Records",
    "Repair",
    "Rung",
    "Side",
    "StateHash",
    "Status",
    "Stream",
    "Subject",
    "SubscriptionState",
    "TickplantError",
    "Trade",
    "TradingState",
    "UserVenue",
    "__version__",
]


if not TYPE_CHECKING:  # To a type checker the imports above are all there is.
    # Of those names that are no words of the records.
    _HOMES = {
        "tickplant._native": ("Batch", "Checkpointer", "LaneWriter", "__version__"),
        "tickplant.errors": ("TickplantError",),
        "tickplant.log": ("Book", "BookLevel", "Log", "Position", "Records"),
        "tickplant.plant": ("Line", "Only", "Plant", "PlantState"),
        "tickplant.venues.user": ("UserVenue",),
    }

    def __getattr__(name):
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import importlib

        home = next((module for module, names in _HOMES.items() if name in names), "tickplant.records")
        found = globals()[name] = getattr(importlib.import_module(home), name)
        return found

    def __dir__():
        return sorted({*globals(), *__all__})

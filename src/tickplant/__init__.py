"""tickplant: market data with its proof. Public names only; see ARCHITECTURE.md for the map."""

from tickplant._native import __version__

__all__ = ["__version__"]

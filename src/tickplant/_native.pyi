"""Typed face of the native module; `tests/house` checks it against the binary."""

__version__: str

"""The border between Python and the native module: both sides must be of one build.

The stub `_native.pyi` stands on both sides: the native module carries the text that it was built with and has it
compared here when it is imported. What goes over as JSON is checked where it is read.
"""

from __future__ import annotations

from pathlib import Path

from tickplant.errors import NativeOutdated

STUB = Path(__file__).with_name("_native.pyi")


def check(built_with: bytes) -> None:
    """Called by the native module with its stub. Raises NativeOutdated where this package has another one."""
    # A package without its stub (some bundlers leave it out) was put together from one build.
    if STUB.exists() and STUB.read_bytes() != built_with:
        raise NativeOutdated("the native module was built from other sources than this Python package")

"""The command line: `main.py` holds the door, each other file a few commands or what they show."""

import importlib
import sys

from tickplant.errors import NativeOutdated

try:
    # Before anything else needs it: what is wrong with the installation is one message too.
    importlib.import_module("tickplant._native")
except NativeOutdated as error:
    print(f"tickplant: {error.what}\n  where: {error.where}\n  what to do: {error.hint}", file=sys.stderr)
    sys.exit(70)

"""Reading TOML so that an error can say its line: the standard parser keeps none."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from tickplant.errors import ConfigError

_KEY = r"""(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')"""
_PATH = rf"{_KEY}(?:\s*\.\s*{_KEY})*"
_TABLE = re.compile(rf"\s*\[\s*({_PATH})\s*\]")
_ASSIGNMENT = re.compile(rf"\s*({_PATH})\s*=")


def read_toml(path: Path) -> tuple[str, dict[str, Any]]:
    """The file's text and content. Raises ConfigError with the line where it is no TOML, no UTF-8 or not there."""
    try:
        text = path.read_bytes().decode()
        return text, tomllib.loads(text)
    except OSError as error:
        raise ConfigError(
            f"the settings cannot be read: {error.strerror}", file=str(path), hint="give the path of a TOML file"
        ) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError("this is no UTF-8 text", file=str(path), line=line, expected="a TOML file") from None
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"\(at line (\d+)", str(error))
        reason = re.sub(r"\s*\(at .*\)$", "", str(error))
        line = int(place[1]) if place else text.count("\n") + 1
        hint = 'texts stand in quotes, lists in brackets: instruments = ["BTC/USD"]'
        raise ConfigError(f"this is no TOML: {reason}", file=str(path), line=line, hint=hint) from None


def key_lines(text: str) -> dict[tuple[str, ...], int]:
    """Lines, from 1, of tables and keys by their path.

    Keys inside an inline table have no entry. A line inside a text of several lines that looks like a key is taken for
    one, which at worst makes an error point there.
    """
    lines: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        if match := _TABLE.match(line):
            table = _split(match[1])
            lines.setdefault(table, number)
        elif match := _ASSIGNMENT.match(line):
            lines.setdefault((*table, *_split(match[1])), number)
    return lines


def _split(path: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in re.findall(_KEY, path))

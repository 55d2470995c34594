"""Which pipe a symbol goes to: the router's hash, maps in files, and maps that even out a day's counts.

A map is a text file. Each line is a symbol and a pipe, or a symbol and a sector; a sector is a word that begins with
@ and has a line of its own with its pipe. What stands behind # is a remark. Symbols that the map does not name are
dealt by hash.

    AAPL 3
    @energy 5
    XOM @energy
"""

from __future__ import annotations

import gzip
import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import msgspec

from tickplant.errors import ConfigError

_GZIP = b"\x1f\x8b"
_FACTOR, _MASK = 0x9E3779B97F4A7C15, (1 << 64) - 1


def pipe_of(symbol: str, pipes: int) -> int:
    """The pipe to which the router's hash deals a symbol; the plain twin of the core's `tape::shard::hash`."""
    state, data = 0, symbol.encode()
    for at in range(0, len(data), 8):
        state = (state ^ int.from_bytes(data[at : at + 8], "little")) * _FACTOR & _MASK
        state ^= state >> 32
    return (state & 0xFFFFFFFF) * pipes >> 32


def read_map(path: Path, pipes: int) -> dict[str, int]:
    """The pipe of each symbol that a map names. Raises ConfigError with the line that is wrong."""
    sectors: dict[str, int] = {}
    symbols: dict[str, tuple[int, str]] = {}
    seen: set[str] = set()
    for number, words in _lines(path):
        if len(words) != 2:
            raise ConfigError(
                f"{' '.join(words)!r} is no line of a map", file=str(path), line=number, expected="NAME PIPE"
            )
        name, target = words
        if name in seen:
            raise ConfigError(f"{name} stands twice", file=str(path), line=number)
        seen.add(name)
        if name.startswith("@"):
            sectors[name] = _pipe(target, pipes, path, number)
        else:
            symbols[name] = (number, target)
    found: dict[str, int] = {}
    for symbol, (number, target) in symbols.items():
        if target.startswith("@"):
            if target not in sectors:
                raise ConfigError(
                    f"the sector {target} has no pipe", file=str(path), line=number, hint=f"add a line: {target} PIPE"
                )
            found[symbol] = sectors[target]
        else:
            found[symbol] = _pipe(target, pipes, path, number)
    return found


def _pipe(word: str, pipes: int, path: Path, line: int) -> int:
    if word.isascii() and word.isdigit() and int(word) < pipes:
        return int(word)
    raise ConfigError(f"{word!r} is no pipe", file=str(path), line=line, expected=f"a number from 0 to {pipes - 1}")


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        what = f"the map cannot be read: {getattr(error, 'strerror', None) or error}"
        hint = "name one with --map: lines SYMBOL PIPE, as `tickplant route-map` makes them"
        raise ConfigError(what, file=str(path), hint=hint) from error
    for number, line in enumerate(text.splitlines(), 1):
        if words := line.partition("#")[0].split():
            yield number, words


class _Trade(msgspec.Struct):
    sym: str
    ev: str = "T"


def read_counts(path: Path) -> Counter[str]:
    """How many trades each symbol had, from lines `SYMBOL COUNT` (or `SYMBOL,COUNT`), or counted in a saved tape.

    A tape is NDJSON of objects or of arrays, plain or gzip. Raises ConfigError with the line that is wrong.
    """
    counts: Counter[str] = Counter()
    decoder = msgspec.json.Decoder(_Trade | list[_Trade])
    line_number = 0
    try:
        with _open(path) as file:
            for line in file:
                line_number += 1
                if line[:1] in (b"{", b"["):
                    found = decoder.decode(line)
                    counts.update(t.sym for t in (found if isinstance(found, list) else [found]) if t.ev == "T")
                elif words := line.partition(b"#")[0].replace(b",", b" ").split():
                    symbol, count = words
                    counts[symbol.decode()] += int(count)
    except (OSError, EOFError) as error:
        what = f"the counts cannot be read: {getattr(error, 'strerror', None) or error}"
        raise ConfigError(what, file=str(path), hint="give lines SYMBOL COUNT, or a saved tape") from error
    except (ValueError, msgspec.MsgspecError) as error:
        raise ConfigError(
            f"no count: {error}", file=str(path), line=line_number, expected="SYMBOL COUNT, or a trade as a JSON object"
        ) from error
    return counts


def _open(path: Path) -> BinaryIO:
    with path.open("rb") as file:
        packed = file.read(2) == _GZIP
    return gzip.open(path) if packed else path.open("rb")  # type: ignore[return-value]


def weigh(counts: Mapping[str, int], pipes: int) -> dict[str, int]:
    """A pipe for each symbol so that the pipes' counts are as even as they can easily be made.

    The busiest symbols first, each to the pipe that has least: at most a third above the best that can be. A symbol
    that is busier than a pipe's even share stands alone as far as possible.
    """
    loads = [(0, pipe) for pipe in range(pipes)]
    found: dict[str, int] = {}
    for symbol, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        load, pipe = heapq.heappop(loads)
        found[symbol] = pipe
        heapq.heappush(loads, (load + count, pipe))
    return found


def max_over_mean(counts: Mapping[str, int], homes: Mapping[str, int], pipes: int) -> float:
    """The busiest pipe's trades over the mean, where each symbol has its count. 0 without trades."""
    loads = [0] * pipes
    for symbol, count in counts.items():
        loads[homes[symbol]] += count
    return max(loads) * pipes / sum(loads) if any(loads) else 0.0


def map_lines(homes: Mapping[str, int], counts: Mapping[str, int]) -> Iterable[str]:
    """The lines of a map, the busiest symbols first."""
    for symbol in sorted(homes, key=lambda name: (-counts.get(name, 0), name)):
        yield f"{symbol} {homes[symbol]}\n"

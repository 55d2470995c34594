"""A small canvas that is written as PNG: bars and labels, which needs no drawing library.

The format is RFC 2083; zlib and NumPy do the work. Letters are 5 by 7 dots, drawn at twice their size.
"""

from __future__ import annotations

import struct
import zlib
from os import PathLike
from pathlib import Path
from typing import Final

import numpy as np

_DOT: Final = 2
_ADVANCE: Final = 6 * _DOT
# Each letter as its five columns, the lowest bit at the top.
_TABLE: Final = (
    "0=3E5149453E 1=00427F4000 2=4261514946 3=2141454B31 4=1814127F10 5=2745454539 6=3C4A494930 7=0171090503 "
    "8=3649494936 9=064949291E A=7E1111117E B=7F49494936 C=3E41414122 D=7F4141221C E=7F49494941 F=7F09090901 "
    "G=3E4149497A H=7F0808087F I=00417F4100 J=2040413F01 K=7F08142241 L=7F40404040 M=7F020C027F N=7F0408107F "
    "O=3E4141413E P=7F09090906 Q=3E4151215E R=7F09192946 S=4649494931 T=01017F0101 U=3F4040403F V=1F2040201F "
    "W=3F4038403F X=6314081463 Y=0708700807 Z=6151494543 -=0808080808 :=0036360000 .=0060600000 /=2010080402 "
    "_=4040404040"
)
_LETTERS: Final = {entry[0]: bytes.fromhex(entry[2:]) for entry in _TABLE.split()}
_UNKNOWN: Final = bytes.fromhex("7F4141417F")


class Canvas:
    """White until something is drawn. What lies outside is cut off."""

    def __init__(self, width: int, height: int) -> None:
        self._pixels = np.full((height, width, 3), 255, np.uint8)

    def fill(self, left: int, top: int, width: int, height: int, colour: tuple[int, int, int]) -> None:
        """Fills a box."""
        self._pixels[max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)] = colour

    def text(self, left: int, top: int, text: str) -> None:
        """Writes capitals, digits and a few signs in dark grey; any other character is a box."""
        for letter in text.upper():
            columns = b"" if letter == " " else _LETTERS.get(letter, _UNKNOWN)
            for column, dots in enumerate(columns):
                for row in range(7):
                    if dots >> row & 1:
                        self.fill(left + column * _DOT, top + row * _DOT, _DOT, _DOT, (50, 50, 50))
            left += _ADVANCE

    @staticmethod
    def text_width(text: str) -> int:
        """Pixels that a text takes."""
        return len(text) * _ADVANCE

    def save(self, path: str | PathLike[str]) -> None:
        """Writes the file; raises OSError where it cannot."""
        height, width, _ = self._pixels.shape
        # Each line begins with its filter's number; 0 is none.
        lines = np.hstack([np.zeros((height, 1), np.uint8), self._pixels.reshape(height, width * 3)])
        head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(lines.tobytes())), (b"IEND", b"")]
        Path(path).write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

"""The corpora of the fuzz targets: one packed file each is kept, `corpus/TARGET.packed`; the fuzzer works on folders.

    fuzz/corpus.py unpack TARGET FOLDER     the kept inputs, golden frames and frames of our simulated venues as files
    fuzz/corpus.py pack TARGET FOLDER       a folder (minimised: see `fuzz/run`) as the kept file

A packed corpus is its inputs one after the other, each behind its length as a little-endian u16, shortest first.
Nothing of a venue's recordings may get in: start from `unpack` only. Run it with the environment's Python: frames come
from the simulator.
"""

from __future__ import annotations

import hashlib
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

from tickplant.clock import MILLISECOND_NS, SECOND_NS
from tickplant.sim import build_venue

ROOT = Path(__file__).resolve().parent.parent
INPUT_BYTES_MOST = 4096
PACKED_BYTES_MOST = 110_000
FRAMES = 150
START_NS = 1_800_000_000 * SECOND_NS
# A target, the simulated venue that speaks its dialect, the path of the connection and what is asked there.
DIALECTS = {
    "decode_kraken": (
        "kraken",
        "/v2",
        '{"method":"subscribe","params":{"channel":"book","symbol":["BTC/USD"]}}',
        '{"method":"subscribe","params":{"channel":"trade","symbol":["BTC/USD"]}}',
        '{"method":"subscribe","params":{"channel":"ticker","symbol":["BTC/USD"]}}',
        '{"method":"subscribe","params":{"channel":"instrument"}}',
    ),
    "decode_kraken_v1": (
        "kraken",
        "/",
        '{"event":"subscribe","pair":["XBT/USD"],"subscription":{"name":"book","depth":10}}',
        '{"event":"subscribe","pair":["XBT/USD"],"subscription":{"name":"trade"}}',
        '{"event":"subscribe","pair":["XBT/USD"],"subscription":{"name":"ticker"}}',
    ),
    "decode_binance": (
        "binance",
        "/ws",
        '{"method":"SUBSCRIBE","params":["btcusdt@depth@100ms","btcusdt@trade","btcusdt@bookTicker"],"id":1}',
    ),
    "decode_binance_usdm": (
        "binance_usdm",
        "/public/ws",
        '{"method":"SUBSCRIBE","params":["btcusdt@depth@100ms","btcusdt@bookTicker"],"id":1}',
    ),
    "decode_coinbase": (
        "coinbase",
        "",
        '{"type":"subscribe","product_ids":["BTC-USD"],"channels":["level2_batch","matches","ticker","heartbeat"]}',
    ),
}


def kept(target: str) -> Iterator[bytes]:
    """The inputs of the packed file; none where there is no such file yet."""
    path = ROOT / "fuzz/corpus" / f"{target}.packed"
    packed = path.read_bytes() if path.exists() else b""
    at = 0
    while at < len(packed):
        (length,) = struct.unpack_from("<H", packed, at)
        yield packed[at + 2 : at + 2 + length]
        at += 2 + length


def golden(target: str) -> Iterator[bytes]:
    """Frames from the venues' documentation."""
    path = ROOT / "tests/golden" / target.removeprefix("decode_") / "frames.txt"
    for line in path.read_text().splitlines() if path.exists() else []:
        if line and line[0] not in "#=":
            yield line.removeprefix("reply ").encode()


def simulated(target: str) -> Iterator[bytes]:
    """Frames of the simulated venue, those that are short enough."""
    if target not in DIALECTS:
        return
    name, path, *requests = DIALECTS[target]
    venue = build_venue(name, seed=7, start_ns=START_NS, instrument_count=1, rate=20, depth=20)
    said = venue.connect(1, START_NS, path)
    for request in requests:
        said += venue.receive(1, request, START_NS)
    frames = [message for message in said if isinstance(message, str)]
    for step in range(1, 400):
        if len(frames) >= FRAMES:
            break
        now = START_NS + step * 100 * MILLISECOND_NS
        frames += [message for _, message in venue.advance(now) if isinstance(message, str)]
    yield from (frame.encode() for frame in frames if len(frame) <= INPUT_BYTES_MOST)


def unpack(target: str, folder: Path) -> int:
    """Writes every input that is known to a folder, named by what it holds."""
    folder.mkdir(parents=True, exist_ok=True)
    inputs = {*kept(target), *golden(target), *simulated(target)}
    for one in inputs:
        (folder / hashlib.sha1(one, usedforsecurity=False).hexdigest()).write_bytes(one)
    return len(inputs)


def pack(target: str, folder: Path) -> int:
    """Keeps a folder's inputs, the short ones where they are too many."""
    inputs = sorted({path.read_bytes() for path in folder.iterdir()}, key=lambda one: (len(one), one))
    packed, count = bytearray(), 0
    for one in inputs:
        if len(packed) + 2 + len(one) <= PACKED_BYTES_MOST and len(one) <= INPUT_BYTES_MOST:
            packed += struct.pack("<H", len(one)) + one
            count += 1
    (ROOT / "fuzz/corpus" / f"{target}.packed").write_bytes(packed)
    return count


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] not in ("unpack", "pack"):
        sys.exit(__doc__)
    print((pack if sys.argv[1] == "pack" else unpack)(sys.argv[2], Path(sys.argv[3])), "inputs")

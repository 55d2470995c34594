"""A worker of the tape router: the volume of each symbol, told as it goes.

tickplant serve-tape --synthetic --rate 5000 &
tickplant route ws://127.0.0.1:9943/ --subscribe "T.*" --pipes 8 -- python examples/tape_worker.py
"""

from collections import Counter

import msgspec

from tickplant.tape import worker


class Trade(msgspec.Struct):
    sym: str
    s: int


volume: Counter[str] = Counter()
for count, trade in enumerate(worker.trades(Trade), 1):
    volume[trade.sym] += trade.s
    if count % 10_000 == 0:
        print(count, volume.most_common(5), flush=True)

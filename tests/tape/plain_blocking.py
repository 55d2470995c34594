"""A worker that knows nothing of tickplant: the public reference's protocol, one child a pipe, blocking reads."""

import json
import os
import sys


def read_exactly(pipe, count):
    data = b""
    while len(data) < count:
        got = os.read(pipe, count - len(data))
        if not got:
            return data
        data += got
    return data


def child(pipe, out):
    symbols, count = set(), 0
    with open(f"{out}.{pipe}", "w", buffering=1) as file:  # noqa: PTH123
        while header := read_exactly(pipe, 4):
            trade = json.loads(read_exactly(pipe, int.from_bytes(header, byteorder="little")))
            symbols.add(trade["sym"])
            count += 1
            file.write(f"{count} {trade['sym']} {trade['q']}\n")


out, pipes = sys.argv[1], [int(number) for number in sys.argv[2:]]
children = []
for pipe in pipes:
    process = os.fork()
    if process == 0:
        for other in pipes:
            if other != pipe:
                os.close(other)
        child(pipe, out)
        os._exit(0)
    children.append(process)
for process in children:
    os.waitpid(process, 0)

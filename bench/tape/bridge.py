"""Readers of a log's shards in front of the verifying worker, which knows pipes only.

    bridge.py VERIFY OUT EXPECTED STAMPED DIR#0@N DIR#1@N ...      (the router appends the shards)

One process a shard reads it with `tickplant.tape.worker` and passes each message on as the router would, on a pipe of
its
own; the verifying worker takes the place of this process and reads them.
"""

from __future__ import annotations

import os
import sys

from tickplant.tape import worker


def pass_on(place: str, end: int) -> None:
    """Writes every message of a shard behind its length, until the tape ends."""
    for _, found in worker.messages([place]):
        data = memoryview(b"".join(part for text in found for part in (len(text).to_bytes(4, "little"), text)))
        while data:
            data = data[os.write(end, data) :]


def main() -> None:
    places = worker.shards()
    ends = [os.pipe() for _ in places]
    for place, (_, mine) in zip(places, ends, strict=True):
        if os.fork() == 0:
            for read, write in ends:
                os.close(read)
                if write != mine:
                    os.close(write)
            pass_on(place, mine)
            os._exit(0)
    for read, write in ends:
        os.close(write)
        os.set_inheritable(read, True)
    command = sys.argv[1 : len(sys.argv) - len(places)]
    os.execv(command[0], [*command, *(str(read) for read, _ in ends)])


if __name__ == "__main__":
    main()

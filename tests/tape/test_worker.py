"""The worker library against pipes that are written in every unlucky way."""

import json
import os
import subprocess
import sys
import threading

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickplant.tape import worker


class Trade(msgspec.Struct):
    sym: str
    p: float


def framed(objects):
    return b"".join(len(text).to_bytes(4, "little") + text for text in objects)


def plain_split(data):
    """The obvious twin: one message after the other, as the router's README tells it."""
    found = []
    while len(data) >= 4 and len(data) >= 4 + int.from_bytes(data[:4], "little"):
        end = 4 + int.from_bytes(data[:4], "little")
        found.append(data[4:end])
        data = data[end:]
    return found


@given(st.lists(st.binary(max_size=300), max_size=30), st.lists(st.integers(1, 200), min_size=1, max_size=20))
def test_messages_come_whole_however_they_are_cut(objects, cuts):
    data, splitter, found, at = framed(objects), worker.Splitter(), [], 0
    for number in range(len(data) + 1):
        piece = data[at : at + cuts[number % len(cuts)]]
        at += len(piece)
        found += splitter.feed(piece)
    splitter.finish()
    assert found == objects == plain_split(data)


def piped(*contents):
    """Read ends of pipes that threads fill in small pieces."""

    def fill(end, content):
        for start in range(0, len(content), 7):
            os.write(end, content[start : start + 7])
        os.close(end)

    ends = [os.pipe() for _ in contents]
    for (_, end), content in zip(ends, contents, strict=True):
        threading.Thread(target=fill, args=(end, content), daemon=True).start()
    return [end for end, _ in ends]


@pytest.mark.parametrize("pipes", [1, 3])
def test_trades_of_all_pipes_in_the_order_of_each(pipes):
    written = [[{"sym": f"S{pipe}", "p": number} for number in range(200)] for pipe in range(pipes)]
    ends = piped(*(framed(json.dumps(trade).encode() for trade in trades) for trades in written))
    taken = list(worker.trades(Trade, places=ends))
    for pipe, trades in enumerate(written):
        assert [t.p for t in taken if t.sym == f"S{pipe}"] == [t["p"] for t in trades]
    assert len(taken) == 200 * pipes


def test_a_pipe_that_ends_within_a_message_is_told():
    with pytest.raises(worker.BrokenTapeError, match="6 bytes"):
        list(worker.messages(piped(framed([b"{}"]) + b"\x09\0\0\0{}")))


def test_what_is_no_tape_is_told():
    with pytest.raises(worker.BrokenTapeError, match="not the router's"):
        list(worker.messages(piped(b"HTTP/1.1 400 Bad Request\r\n")))
    with pytest.raises(ValueError, match="no place"):
        next(worker.messages([]))


def test_descriptors_are_the_numbers_at_the_end():
    assert worker.descriptors(["abc", "1", "x", "4", "6", "8"]) == [4, 6, 8]
    assert worker.descriptors(["abc"]) == []


def test_a_number_of_the_workers_own_is_no_descriptor(monkeypatch):
    monkeypatch.setenv("TICKPLANT_PLACES", "2")
    assert worker.descriptors(["abc", "400000", "6", "8"]) == [6, 8]
    assert worker.descriptors(["one_of_its_children", "8"]) == [8]


def test_a_worker_process_reads_what_it_inherits():
    [end] = piped(framed([b'{"sym":"A","p":1}', b'{"sym":"B","p":2.5}']))
    program = "from tickplant.tape import worker\nprint(sum(trade['p'] for trade in worker.trades()))"
    run = subprocess.run([sys.executable, "-c", program, str(end)], pass_fds=[end], capture_output=True, check=True)
    os.close(end)
    assert run.stdout == b"3.5\n"


@pytest.mark.parametrize("module", ["tickplant.tape.worker", "tickplant.cli.tape.light"])
def test_a_worker_and_a_router_load_little(module):
    program = f"import sys, {module}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = run.stdout.split()
    assert not {"numpy", "asyncio", "typer", "tickplant.log", "tickplant.plant"} & set(loaded)
    assert len(loaded) < 120, loaded

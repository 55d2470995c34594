"""The live view on a real terminal: it draws, follows a resize, gives the terminal back as it was; on a pipe it ends
with who reads it."""

import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time

from tests.conftest import WITHIN_S

from .conftest import ENVIRONMENT, finish, start

ENTER, LEAVE = b"\x1b[?1049h", b"\x1b[?1049l"


def resize(descriptor, rows, columns):
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def read_until(descriptor, wanted):
    """Everything that came until the wanted bytes did."""
    seen, end = b"", time.monotonic() + WITHIN_S
    while wanted not in seen and time.monotonic() < end:
        if select.select([descriptor], [], [], 0.1)[0]:
            try:
                seen += os.read(descriptor, 65536)
            except OSError:
                break
    assert wanted in seen, seen[-2000:]
    return seen


def test_the_view_on_a_narrow_terminal_that_is_resized():
    ours, theirs = pty.openpty()
    resize(theirs, 40, 60)
    process = start(
        *("demo", "--seed", 7, "--instruments", 1),
        stdin=theirs, stdout=theirs, stderr=theirs, text=False, env=ENVIRONMENT | {"TERM": "xterm-256color"},
        start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    try:
        read_until(ours, ENTER)
        read_until(ours, b"4 of 4 live")
        read_until(ours, "│".encode())
        resize(ours, 30, 130)
        os.killpg(process.pid, signal.SIGWINCH)
        read_until(ours, b"wire to log")
        os.killpg(process.pid, signal.SIGINT)
        rest = read_until(ours, b"all 4 books proven")
        assert LEAVE in rest
        assert process.wait(WITHIN_S) == 0
    finally:
        process.kill()
        os.close(ours)


def test_the_view_ends_with_the_reader_of_its_pipe():
    process = start("demo", "--seed", 7, "--instruments", 1)
    line = process.stdout.readline()
    process.stdout.close()
    ended = finish(process)
    assert (ended.code, ended.err) == (0, "")
    assert "BTC/USD.KRAKEN" in line

"""What a stranger does wrong gives one message that says what to do, and an exit code that says whose affair it is."""

import socket

import pytest
from tests.cli.conftest import ENVIRONMENT, call

from tickplant.cli.common import Exit
from tickplant.tape.serve import TapeServer

NOWHERE = "ws://127.0.0.1:1/"
# A worker that reads its pipe to the end.
READER = ["sh", "-c", "cat <&$0 >/dev/null"]

MISTAKES = {
    "a symbol without its exchange": (
        ["run"],
        {"SYMBOLS": "BTC/USD"},
        Exit.SETTINGS,
        "EXCHANGE and SYMBOLS go together",
        "set both, such as EXCHANGE=kraken SYMBOLS=BTC/USD",
    ),
    "a command to a plant that does not run": (
        ["resync", "BTC/USD.KRAKEN", "--log", "here"],
        {},
        Exit.PLANT,
        "no plant answers",
        "is it running on this log directory?",
    ),
    "a key that is nowhere": (
        ["lb", "-", NOWHERE, "2", ".", "cat"],
        {},
        Exit.SETTINGS,
        "the key is - and TICKPLANT_AUTH is not set",
        "set it to the key",
    ),
    "a worker in no directory": (
        ["lb", "KEY", NOWHERE, "2", "nowhere", "cat"],
        {},
        Exit.SETTINGS,
        '"nowhere" is no directory',
        "make it, or name another",
    ),
    "a feed that is not there": (
        ["route", NOWHERE, "--pipes", "1", "--once", "--", *READER],
        {},
        Exit.PEER,
        "no connection to 127.0.0.1:1: connection refused (ws://127.0.0.1:1)\n",
        "check host and port: nothing listens there",
    ),
    "a worker that is not there": (
        ["route", NOWHERE, "--pipes", "1", "--", "/no/such/worker"],
        {},
        Exit.WORKER,
        'the worker "/no/such/worker" cannot be run: No such file or directory',
        "what to do: check the command and its directory",
    ),
    "a tape that is not there": (
        ["serve-tape", "nowhere"],
        {},
        Exit.SETTINGS,
        "the tape cannot be read: No such file or directory\n",
        "give a file of NDJSON",
    ),
    "a recording that is not there": (
        ["import", "nowhere", "--format", "raw", "--venue", "kraken", "--log", "log"],
        {},
        Exit.RECORDING,
        "the recording cannot be read: No such file or directory\n",
        "give a file that is there",
    ),
}


@pytest.mark.parametrize(
    ("arguments", "variables", "code", "what", "hint"), list(MISTAKES.values()), ids=list(MISTAKES)
)
def test_a_mistake_is_said(arguments, variables, code, what, hint, tmp_path):
    ended = call(*arguments, cwd=tmp_path, env=ENVIRONMENT | variables)
    assert ended.code == code
    said, mark, to_do = ended.err.partition("what to do: ")
    assert what in said
    assert hint in mark + to_do


def test_a_port_in_use_is_said():
    with socket.create_server(("127.0.0.1", 0)) as other:
        ended = call("serve-tape", "--synthetic", "--port", other.getsockname()[1])
    assert ended.code == Exit.SETTINGS
    assert "cannot be listened on (Address already in use" in ended.err
    assert "choose another --host or --port" in ended.err


@pytest.mark.parametrize(
    ("key", "what", "hint"),
    [
        (None, "the server refused the subscription: not authenticated", "set TICKPLANT_AUTH to the feed's key"),
        ("WRONG", "the server refused the key: authentication failed", "check the key and what it may subscribe to"),
    ],
)
def test_a_refused_key_is_said(key, what, hint):
    with TapeServer(symbols=2, trades=10, key="RIGHT") as server:
        arguments = ["route", server.url, "--pipes", "1", "--subscribe", "T.*", "--once", "--", *READER]
        ended = call(*arguments, env=ENVIRONMENT | ({"TICKPLANT_AUTH": key} if key else {}))
    assert ended.code == Exit.PEER
    assert f"tickplant: {what}\n  what to do: {hint}\n" in ended.err


def test_a_book_before_its_first_snapshot_is_said_to_have_none(demo):
    early = call("book", "BTC/USD.KRAKEN", "--log", demo.log, "--at", "2020-01-01")
    assert early.code == Exit.OK
    assert "no snapshot had come by then" in early.out
    unknown = call("book", "XRP/USD.KRAKEN", "--log", demo.log)
    assert unknown.code == Exit.SETTINGS
    assert "expected one of BTC-USD.COINBASE, BTC/USD.KRAKEN" in unknown.err

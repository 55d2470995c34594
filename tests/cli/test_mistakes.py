"""What a stranger does wrong gives one message that says what to do, and an exit code that says whose affair it is."""

import socket

import pytest

from tickplant.cli import main
from tickplant.cli.common import Exit
from tickplant.tape.serve import TapeServer

NOWHERE = "ws://127.0.0.1:1/"

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
        ["route", NOWHERE, "--pipes", "1", "--once", "--", "true"],
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
def test_a_mistake_is_said(arguments, variables, code, what, hint, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("EXCHANGE", "SYMBOLS", "TICKPLANT_AUTH"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert main.call(arguments) == code
    told = capfd.readouterr().err
    assert what in told
    assert hint in told.partition("what to do: ")[1] + told.partition("what to do: ")[2]


def test_a_port_in_use_is_said(capfd):
    with socket.create_server(("127.0.0.1", 0)) as other:
        assert main.call(["serve-tape", "--synthetic", "--port", str(other.getsockname()[1])]) == Exit.SETTINGS
    told = capfd.readouterr().err
    assert "cannot be listened on (Address already in use" in told
    assert "choose another --host or --port" in told


@pytest.mark.parametrize(
    ("key", "what", "hint"),
    [
        (None, "the server refused the subscription: not authenticated", "set TICKPLANT_AUTH to the feed's key"),
        ("WRONG", "the server refused the key: authentication failed", "check the key and what it may subscribe to"),
    ],
)
def test_a_refused_key_is_said(key, what, hint, capfd, monkeypatch):
    if key:
        monkeypatch.setenv("TICKPLANT_AUTH", key)
    with TapeServer(symbols=2, trades=10, key="RIGHT") as server:
        arguments = ["route", server.url, "--pipes", "1", "--subscribe", "T.*", "--once", "--", "cat", "/dev/null"]
        assert main.call(arguments) == Exit.PEER
    told = capfd.readouterr().err
    assert f"tickplant: {what}\n  what to do: {hint}\n" in told


def test_a_book_before_its_first_snapshot_is_said_to_have_none(demo, capsys):
    assert main.call(["book", "BTC/USD.KRAKEN", "--log", str(demo.log), "--at", "2020-01-01"]) == Exit.OK
    assert "no snapshot had come by then" in capsys.readouterr().out
    assert main.call(["book", "XRP/USD.KRAKEN", "--log", str(demo.log)]) == Exit.SETTINGS
    assert "expected one of BTC-USD.COINBASE, BTC/USD.KRAKEN" in capsys.readouterr().err

"""The door: exit codes, one message without a traceback, help with an example."""

import json
import signal
import subprocess
import sys

import pytest

from tickplant import errors
from tickplant.cli import about, common, main
from tickplant.cli.common import Exit


def test_each_error_has_the_exit_code_that_help_names():
    cases = {
        errors.ConfigError: Exit.SETTINGS,
        errors.UnknownVenue: Exit.SETTINGS,
        errors.LaneLocked: Exit.LOG,
        errors.TlsFailed: Exit.PEER,
        errors.VenueError: Exit.PEER,
        errors.ImportFormatError: Exit.RECORDING,
        errors.WorkerError: Exit.WORKER,
        errors.PlantError: Exit.PLANT,
        errors.TickplantError: Exit.INTERNAL,
    }
    for kind, code in cases.items():
        assert common.exit_code(kind("what")) == code
        assert f"{int(code)} " in main.EPILOG


def test_a_users_mistake_is_one_message(capsys):
    assert main.call(["venues", "krakn"]) == Exit.SETTINGS
    shown = capsys.readouterr()
    assert shown.out == ""
    assert 'tickplant: "krakn" is no known venue\n' in shown.err
    assert 'did you mean "KRAKEN"?' in shown.err
    assert "Traceback" not in shown.err


def test_a_mistake_is_json_too(capsys):
    assert main.call(["venues", "krakn", "--json"]) == Exit.SETTINGS
    error = json.loads(capsys.readouterr().out)
    assert (error["error"], error["exit"], error["fault"]) == ("UnknownVenue", 3, "user")


def test_wrong_usage(capsys):
    assert main.call(["venues", "--no-such-option"]) == Exit.USAGE
    assert main.call(["no-such-command"]) == Exit.USAGE
    assert "No such" in capsys.readouterr().err


def test_a_fault_of_ours_says_so(capsys, monkeypatch):
    monkeypatch.setattr(main, "app", lambda *_, **__: 1 / 0)
    assert main.call(["venues"]) == Exit.INTERNAL
    assert "a fault of ours" in capsys.readouterr().err


INTERRUPTED = """
import os, sys
class Interrupts:
    def find_spec(self, name, *rest):
        if name == "tickplant.cli":
            os.kill(os.getpid(), int(sys.argv[1]))
sys.meta_path.insert(0, Interrupts())
from tickplant.__main__ import main
main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_the_command_is_loaded_ends_it_without_a_word(number):
    command = [sys.executable, "-c", INTERRUPTED, str(int(number))]
    ended = subprocess.run(command, capture_output=True, timeout=30, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")


def test_ctrl_c_ends_any_command_in_order(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(about, "rows_text", interrupted)
    assert main.call(["venues"]) == Exit.OK


def test_venues_as_json_lines(capsys):
    assert main.call(["venues", "--json"]) == Exit.OK
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["venue"] for row in rows] == ["KRAKEN", "BINANCE", "BINANCE_USDM", "COINBASE"]


def test_doctor_finds_what_is_wrong(capsys, tmp_path):
    assert main.call(["doctor", "--log", str(tmp_path), "--json"]) == Exit.OK
    assert {json.loads(line)["ok"] for line in capsys.readouterr().out.splitlines()} == {True}
    bad = tmp_path / "plant.toml"
    bad.write_text("[log]\npaht = 'x'\n")
    assert main.call(["doctor", str(bad)]) == Exit.UNPROVEN
    assert f"{bad}:2" in capsys.readouterr().out


def commands():
    import typer.main

    for name, command in sorted(typer.main.get_command(main.app).commands.items()):
        inner = getattr(command, "commands", None)
        yield from ((name, command),) if inner is None else ((f"{name} {one}", each) for one, each in inner.items())


@pytest.mark.parametrize(
    ("name", "command"), list(commands()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_command_has_an_example_and_json(name, command):
    assert f"Example: tickplant {name}" in command.help
    assert "--json" in {option for parameter in command.params for option in parameter.opts}
    assert all(parameter.help for parameter in command.params if parameter.param_type_name == "option")

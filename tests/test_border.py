"""A native module of another build is refused with the way out, at its import and where it reads what Python wrote."""

import json
import pickle
import subprocess
import sys

import pytest

from tickplant import _native, border
from tickplant.errors import NativeOutdated, TickplantError

OTHER = """
import pathlib, sys
import tickplant.border
tickplant.border.STUB = pathlib.Path(sys.argv[1])
"""


def run(code, *arguments):
    return subprocess.run([sys.executable, "-c", OTHER + code, *arguments], capture_output=True, text=True, timeout=60)


def test_the_native_module_compares_its_stub(tmp_path):
    other = tmp_path / "other.pyi"
    other.write_bytes(border.STUB.read_bytes() + b"# newer\n")
    ended = run("import tickplant._native", str(other))
    assert ended.returncode == 1
    assert "NativeOutdated: the native module was built from other sources" in ended.stderr
    assert "make setup" in ended.stderr


def test_the_command_says_it_in_one_message(tmp_path):
    other = tmp_path / "other.pyi"
    other.write_text("")
    ended = run("from tickplant.cli.main import main", str(other))
    assert (ended.returncode, ended.stdout) == (70, "")
    assert [line.split(":")[0].strip() for line in ended.stderr.splitlines()] == ["tickplant", "where", "what to do"]


def test_a_package_without_its_stub_is_taken(tmp_path):
    assert run("import tickplant._native", str(tmp_path / "none.pyi")).returncode == 0


def test_json_of_another_build_is_told(tmp_path):
    settings = {"segment_bytes": 65536, "hot_bytes_max": 1 << 20, "sync": "none", "sync_interval_ms": 1}
    for changed in ({**settings, "newer": 1}, {name: settings[name] for name in list(settings)[1:]}):
        with pytest.raises(NativeOutdated, match=r"(unknown|missing) field") as raised:
            _native.LogHandle(str(tmp_path / "log"), json.dumps(changed).encode())
        assert "make setup" in raised.value.hint
    with pytest.raises(ValueError, match="invalid type"):
        _native.LogHandle(str(tmp_path / "log"), json.dumps({**settings, "sync": 1}).encode())


def test_it_is_both_of_ours_and_an_import_error():
    error = pickle.loads(pickle.dumps(NativeOutdated("one")))
    assert isinstance(error, TickplantError)
    assert isinstance(error, ImportError)
    assert error.what == "one"

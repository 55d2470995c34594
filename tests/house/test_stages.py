"""Stages import the ground and not each other; time and chance come through one door; the public face stays small."""

import ast
import re

import pytest
from tree import python_files, read, rust_files, without_tests

import tickplant

STAGES = {
    "wire", "venues", "session", "book", "log", "gateway", "bridge", "analytics", "orders", "refdata", "tape", "sim"
}  # fmt: skip
# A session owns its books, and so does a reader's view; all else is joined above the stages (plant, cli, config).
MAY_IMPORT = {("session", "book"), ("views", "book"), ("views", "log"), ("tape", "wire"), ("tape", "log")}
ABOVE = {"cli", "testing"}


def imported_modules(source: str):
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", python_files("src"), ids=str)
def test_python_stages_do_not_import_each_other(path):
    stage = path.parts[2]
    if stage not in STAGES:
        return
    for module in imported_modules(read(path)):
        parts = module.split(".")
        other = parts[1] if parts[0] == "tickplant" and len(parts) > 1 else ""
        assert other not in (STAGES | ABOVE) - {stage}, f"{path} imports {module}"


@pytest.mark.parametrize("path", [p for p in rust_files() if p.match("crates/core/src/**/*.rs")], ids=str)
def test_rust_stages_do_not_import_each_other(path):
    stage = path.parts[3].removesuffix(".rs")
    if stage in ("plant", "lib"):
        return
    code = re.sub(r"//.*", "", without_tests(read(path)))
    for other in re.findall(r"\bcrate::(\w+)", code):
        assert other not in (STAGES | {"plant"}) - {stage} or (stage, other) in MAY_IMPORT, (
            f"{path} uses crate::{other}"
        )


@pytest.mark.parametrize("path", [p for p in rust_files() if p.match("crates/core/**/*.rs")], ids=str)
def test_the_core_knows_no_python(path):
    assert "pyo3" not in read(path)


def test_the_table_of_venues_is_not_imported_from_below():
    for path in python_files("src"):
        if path.parts[2] == "venues" and path.name != "table.py":
            assert "tickplant.venues.table" not in imported_modules(read(path)), path


CLOCKS = {"time", "random", "secrets", "uuid"}
ASKS = {("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today"), ("date", "today"), ("os", "urandom")}


@pytest.mark.parametrize("path", python_files("src"), ids=str)
def test_python_asks_the_clock_for_time_and_chance(path):
    if path.name == "clock.py":
        return
    source = read(path)
    assert not CLOCKS & {module.split(".")[0] for module in imported_modules(source)}, f"{path}: use tickplant.clock"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert (node.value.id, node.attr) not in ASKS, f"{path}:{node.lineno}: use tickplant.clock"


@pytest.mark.parametrize("path", rust_files(), ids=str)
def test_rust_asks_the_clock_for_time_and_chance(path):
    if path.name == "clock.rs" or path.parent.name == "clock":
        return
    code = re.sub(r"//.*", "", without_tests(read(path)))
    asked = re.findall(r"Instant::now|SystemTime::now|clock_gettime|getrandom|\brand::|RandomState", code)
    assert not asked, f"{path}: {asked}"


def test_public_names_are_sorted_few_and_there():
    names = tickplant.__all__
    assert list(names) == sorted(names)
    assert len(names) <= 70
    assert [name for name in names if not hasattr(tickplant, name)] == []

"""Nothing grows past what one can read: files, functions, folders."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest
from tree import files, python_files, read, rust_files, without_tests

PYTHON_LINES, RUST_LINES, VENUE_LINES, FUNCTION_LINES, FOLDER_FILES = 500, 600, 300, 70, 12
# Families of like files, one a member, may be as large as the family; the root holds what tools look for there.
FAMILIES = re.compile(r"(^|/)venues$|^tests/golden|^docs/adr$|^bench/record|^examples$|^\.$|^fuzz/")


def lines_most(path: Path) -> int:
    if path.parent.name == "venues" and path.parts[0] in ("src", "crates"):
        return VENUE_LINES
    return RUST_LINES if path.suffix == ".rs" else PYTHON_LINES


@pytest.mark.parametrize("path", [*python_files("src", "tests", "examples", "bench"), *rust_files()], ids=str)
def test_a_file_is_not_too_long(path):
    source = read(path)
    count = (without_tests(source) if path.suffix == ".rs" else source).count("\n")
    assert count <= lines_most(path), f"{path} has {count} lines: split it by what it does"


def python_functions(source: str):
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node.end_lineno - node.lineno + 1


def rust_functions(source: str):
    """Names and lengths; rustfmt puts a function's last brace under its first letter."""
    lines = source.split("\n")
    for start, line in enumerate(lines):
        match = re.match(r'(\s*)(?:pub(?:\([\w:\s]+\))? )?(?:(?:const|async|unsafe|extern(?: "\w+")?) )*fn (\w+)', line)
        if not match:
            continue
        for end in range(start, len(lines)):
            if lines[end].startswith(match[1] + "}") or (end == start and re.search(r"[};]$", line)):
                yield match[2], end - start + 1
                break
            # A declaration in a trait ends with a semicolon at its own indentation and has no body.
            if lines[end].endswith(";") and len(lines[end]) - len(lines[end].lstrip()) <= len(match[1]):
                break


@pytest.mark.parametrize("path", [*python_files("src", "tests", "examples", "bench"), *rust_files()], ids=str)
def test_a_function_is_not_too_long(path):
    functions = rust_functions if path.suffix == ".rs" else python_functions
    long = [(name, count) for name, count in functions(read(path)) if count > FUNCTION_LINES]
    assert not long, f"{path}: {long}"


def test_the_measure_of_functions_measures():
    rust = (
        "impl A {\n    pub fn b(\n        &self,\n    ) -> u8 {\n        1\n    }\n    fn c() {}\n    fn d(&self);\n}\n"
    )
    assert list(rust_functions(rust)) == [("b", 5), ("c", 1), ("d", 1)]
    assert list(python_functions("def a():\n    return 1\n")) == [("a", 2)]


def test_a_folder_holds_few_files():
    counts = Counter(path.parent.as_posix() for path in files() if path.name != "__init__.py")
    full = {folder: count for folder, count in counts.items() if count > FOLDER_FILES and not FAMILIES.search(folder)}
    assert not full, f"more than {FOLDER_FILES} files: {full}"


def test_nothing_is_left_for_later():
    words = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|HA" + r"CK)\b")
    kinds = {".py", ".pyi", ".rs", ".md", ".toml", ".ts", ".yml", ""}
    found = [
        f"{path}:{number}"
        for path in files()
        if path.suffix in kinds and not {"golden", "corpus"} & {*path.parts}
        for number, line in enumerate(read(path).split("\n"), 1)
        if words.search(line)
    ]
    assert not found, found

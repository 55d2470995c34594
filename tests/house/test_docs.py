"""What the documents tell to type can be typed: commands parse, settings load, Python imports, links lead somewhere."""

import ast
import importlib
import re
import shlex

import pytest
import typer.main
from tree import ROOT, files, read

from tickplant import config
from tickplant.cli.main import app

PAGES = [path for path in files() if path.suffix == ".md" and path.parts[0] != "bench"]
TARGETS = set(re.findall(r"^([a-z]+):", read(ROOT / "Makefile"), re.MULTILINE))


def blocks(language):
    fence = re.compile(rf"^```{language}\n(.*?)^```", re.MULTILINE | re.DOTALL)
    return [(path, text) for path in PAGES for text in fence.findall(read(path))]


def commands():
    for path, text in [*blocks("sh"), *blocks("console")]:
        for line in text.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
                words.pop(0)
            for cut in ("|", ">", "&&", "&"):
                words = words[: words.index(cut)] if cut in words else words
            if words:
                yield path, words


@pytest.mark.parametrize(("path", "words"), list(commands()), ids=lambda value: value if isinstance(value, str) else "")
def test_a_command_can_be_typed(path, words):
    name = words[0].rpartition("/")[2]
    if name == "tickplant":
        # A context that is only made finds unknown commands and options, and runs nothing.
        commands = typer.main.get_command(app).commands
        assert words[1] in commands, f"{path}: {words}"
        commands[words[1]].make_context(words[1], words[2:]).close()
    elif name == "make":
        assert set(words[1:]) - {word for word in words if "=" in word} <= TARGETS, f"{path}: {words}"
    elif name in ("python", "python3") and words[-1].endswith(".py"):
        assert (ROOT / words[-1]).is_file(), f"{path}: {words}"


@pytest.mark.parametrize(("path", "text"), blocks("toml"), ids=lambda value: "")
def test_settings_load(path, text, tmp_path):
    file = tmp_path / "plant.toml"
    file.write_text(text)
    (tmp_path / "own_venue.py").write_text((ROOT / "examples/own_venue.py").read_text())
    config.load(file)


@pytest.mark.parametrize(("path", "text"), blocks("python"), ids=lambda value: "")
def test_python_names_what_there_is(path, text):
    tree = compile(text, str(path), "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tickplant"):
            module = importlib.import_module(node.module)
            assert all(hasattr(module, alias.name) for alias in node.names), f"{path}: from {node.module}"
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "tp":
            assert hasattr(importlib.import_module("tickplant"), node.attr), f"{path}: tp.{node.attr}"


def test_links_lead_somewhere():
    for path in PAGES:
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", read(path)):
            assert (ROOT / path.parent / target).exists(), f"{path}: {target}"

"""The typed stub of the native module says what the binary has: names, members and the names of parameters."""

import ast
import inspect

import pytest
from tree import ROOT

from tickplant import _native

STUB = ast.parse((ROOT / "src/tickplant/_native.pyi").read_text())
# What every class or exception has anyway, or what the stub need not say.
# Python 3.11 shows no `__buffer__` on a class that has the buffer protocol.
IMPLIED = {"__buffer__", "__doc__", "__module__", "__dict__", "__weakref__", "__new__", "__init__", "__all__"}


def stub_names(body):
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def class_names(node):
    """Members that the stub writes for a class, those of its bases in the stub included."""
    bases = {base.id for base in node.bases if isinstance(base, ast.Name)}
    yield from stub_names(node.body)
    for base in CLASSES:
        if base.name in bases:
            yield from class_names(base)


def public(names):
    return {name for name in names if not name.startswith("_")}


CLASSES = [node for node in STUB.body if isinstance(node, ast.ClassDef)]


def test_the_module_has_the_names_of_the_stub():
    types = {node.name for node in CLASSES if not hasattr(_native, node.name)}
    assert not {name for name in types if not name.startswith("_")}, "classes of the stub that the binary lacks"
    assert public(vars(_native)) == public(set(stub_names(STUB.body)))


@pytest.mark.parametrize(
    "node", [node for node in CLASSES if not node.name.startswith("_")], ids=lambda node: node.name
)
def test_a_class_has_the_members_of_the_stub(node):
    native = getattr(_native, node.name)
    written = set(class_names(node))
    assert public(vars(native)) == public(written)
    for name in written - IMPLIED:
        assert hasattr(native, name), f"{node.name}.{name}"


def overloaded(node):
    return any(isinstance(decorator, ast.Name) and decorator.id == "overload" for decorator in node.decorator_list)


def functions():
    for node in STUB.body:
        if isinstance(node, ast.FunctionDef):
            yield node.name, node, getattr(_native, node.name, None)
        if isinstance(node, ast.ClassDef) and hasattr(_native, node.name):
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and not method.name.startswith("_") and not overloaded(method):
                    yield f"{node.name}.{method.name}", method, getattr(getattr(_native, node.name), method.name, None)


@pytest.mark.parametrize(
    ("name", "node", "native"), list(functions()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_function_has_the_parameters_of_the_stub(name, node, native):
    if not callable(native):
        decorators = {decorator.id for decorator in node.decorator_list if isinstance(decorator, ast.Name)}
        assert "property" in decorators, f"{name} is an attribute: say @property"
        return
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    written = [argument.arg for argument in arguments if argument.arg not in ("self", "cls")]
    parameters = inspect.signature(native).parameters.values()
    found = [p.name for p in parameters if p.kind is not p.VAR_KEYWORD and p.name not in ("self", "cls")]
    # What takes any keyword passes them on to Python code, which names them.
    passes_on = any(p.kind is p.VAR_KEYWORD for p in parameters)
    assert found == (written[: len(found)] if passes_on else written), name

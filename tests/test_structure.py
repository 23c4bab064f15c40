"""The house rules that a parser can check: sizes, arguments, docstrings, names.

`python tests/test_structure.py` prints all violations. A rule is a function that takes a file and
yields violations; add it to RULES.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("src/tinyvox", "bench", "models")
MODULE_LINES = 400
FUNCTION_LINES = 40
BOOLEANS = 2

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = Function | ast.ClassDef


@dataclass(frozen=True)
class File:
    """A Python file, its text and its tree."""

    path: Path
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def definitions(self) -> list[tuple[str, Definition]]:
        """Every class and function with its dotted name, those inside others too."""
        return list(_definitions(self.tree, ""))


def _definitions(node: ast.AST, prefix: str) -> Iterator[tuple[str, Definition]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Definition):
            yield prefix + child.name, child
            inside = "" if isinstance(child, ast.ClassDef) else "<locals>."
            yield from _definitions(child, f"{prefix}{child.name}.{inside}")
        else:
            yield from _definitions(child, prefix)


@dataclass(frozen=True)
class Violation:
    """Where a rule is broken, and by how much."""

    path: Path
    line: int
    name: str
    measure: str

    def __str__(self) -> str:
        path = self.path.relative_to(ROOT) if self.path.is_relative_to(ROOT) else self.path
        return f"{path}:{self.line} {self.name}: {self.measure}"


Rule = Callable[[File], Iterator[Violation]]


def module_length(file: File) -> Iterator[Violation]:
    """A module has at most 400 lines."""
    lines = file.text.count("\n")
    if lines > MODULE_LINES:
        measure = f"{lines} lines, at most {MODULE_LINES}"
        yield Violation(file.path, 1, file.path.stem, measure)


def function_length(file: File) -> Iterator[Violation]:
    """A function has at most 40 lines of code: docstrings and blank lines do not count."""
    for name, node in file.definitions:
        if isinstance(node, Function) and (lines := code_lines(file, node)) > FUNCTION_LINES:
            measure = f"{lines} lines of code, at most {FUNCTION_LINES}"
            yield Violation(file.path, node.lineno, name, measure)


def code_lines(file: File, node: Function) -> int:
    lines = file.text.splitlines()
    count = sum(bool(line.strip()) for line in lines[node.lineno - 1 : node.end_lineno])
    docstring = node.body[0]
    if ast.get_docstring(node) is not None:
        inside = lines[docstring.lineno - 1 : docstring.end_lineno]
        count -= sum(bool(line.strip()) for line in inside)
    return count


def boolean_parameters(file: File) -> Iterator[Violation]:
    """A function has at most two boolean parameters."""
    for name, node in file.definitions:
        if not isinstance(node, Function):
            continue
        parameters = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        booleans = [p.arg for p in parameters if _is_boolean(p.annotation)]
        if len(booleans) > BOOLEANS:
            measure = f"{len(booleans)} booleans ({', '.join(booleans)}), at most {BOOLEANS}"
            yield Violation(file.path, node.lineno, name, measure)


def _is_boolean(annotation: ast.expr | None) -> bool:
    """`bool`, `bool | None`, `Annotated[bool, ...]`, `Optional[bool]`, or one of these quoted."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return _is_boolean(ast.parse(annotation.value, mode="eval").body)
    if isinstance(annotation, ast.BinOp):
        return _is_boolean(annotation.left) or _is_boolean(annotation.right)
    if isinstance(annotation, ast.Subscript):
        inner = annotation.slice
        named = ast.unparse(annotation.value).split(".")[-1] in ("Annotated", "Optional")
        return named and _is_boolean(inner.elts[0] if isinstance(inner, ast.Tuple) else inner)
    return isinstance(annotation, ast.Name) and annotation.id == "bool"


def docstrings(file: File) -> Iterator[Violation]:
    """Every module, and every public class, function and method, has a docstring."""
    if ast.get_docstring(file.tree) is None:
        yield Violation(file.path, 1, file.path.stem, "the module has no docstring")
    for name, node in file.definitions:
        hidden = any(part.startswith(("_", "<")) for part in name.split("."))
        if not hidden and not _is_variant(node) and ast.get_docstring(node) is None:
            yield Violation(file.path, node.lineno, name, "has no docstring")


def _is_variant(node: Definition) -> bool:
    """An overload, or the setter of a property: the docstring stands elsewhere."""
    names = [ast.unparse(decorator).split(".")[-1] for decorator in node.decorator_list]
    return bool({"overload", "setter", "deleter"} & set(names))


def submodule_names(file: File) -> Iterator[Violation]:
    """No public name of a package equals the name of one of its submodules.

    The import of the submodule would bind the name to the module.
    """
    if file.path.name != "__init__.py":
        return
    folder = file.path.parent
    modules = {path.stem for path in folder.glob("*.py")}
    modules |= {path.parent.name for path in folder.glob("*/__init__.py")}
    for node in ast.walk(file.tree):
        if isinstance(node, ast.ImportFrom):
            itself = (node.module or "").split(".")[-1] == folder.name  # imports the submodule
            for alias in node.names if not itself else ():
                if (name := alias.asname or alias.name) in modules:
                    yield Violation(file.path, node.lineno, name, "is a submodule's name too")
    for name, definition in file.definitions:
        if name in modules:
            yield Violation(file.path, definition.lineno, name, "is a submodule's name too")


RULES: tuple[Rule, ...] = (
    module_length,
    function_length,
    boolean_parameters,
    docstrings,
    submodule_names,
)


def files() -> list[File]:
    paths = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    return [File(path, path.read_text(encoding="utf-8")) for path in paths]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_file_keeps_the_rule(rule: Rule) -> None:
    found = [str(violation) for file in files() for violation in rule(file)]
    assert not found, f"{rule.__doc__}\n" + "\n".join(found)


# The rules themselves.


def broken(rule: Rule, text: str, path: Path = Path("a.py")) -> list[str]:
    return [f"{v.line} {v.name}: {v.measure}" for v in rule(File(path, text))]


def test_lines_of_a_module_are_counted() -> None:
    assert not broken(module_length, "x = 1\n" * 400)
    assert broken(module_length, "x = 1\n" * 401) == ["1 a: 401 lines, at most 400"]


def test_docstrings_and_blank_lines_are_not_code() -> None:
    head = 'def f():\n    """One.\n\n    Two.\n    """\n\n'
    assert not broken(function_length, head + "    x = 1\n" * 39)
    assert broken(function_length, head + "    x = 1\n" * 40) == [
        "1 f: 41 lines of code, at most 40"
    ]
    inside = "class A:\n" + "".join(f"    {line}\n" for line in ["def f():", *["    x = 1"] * 40])
    assert broken(function_length, inside) == ["2 A.f: 41 lines of code, at most 40"]


def test_boolean_parameters_are_counted_in_every_form() -> None:
    assert not broken(boolean_parameters, "def f(a: bool, b: int, *, c: bool): pass")
    text = "def f(a: bool | None, b: Annotated[bool, 1], *, c: 'bool', d: list[bool]): pass"
    assert broken(boolean_parameters, text) == ["1 f: 3 booleans (a, b, c), at most 2"]


def test_public_definitions_need_docstrings() -> None:
    text = (
        '"""Module."""\nclass A:\n    """A."""\n    def f(self): pass\n    def _g(self): pass\n'
        "class _B:\n    def f(self): pass\ndef h():\n    def inner(): pass\n"
    )
    assert broken(docstrings, text) == ["4 A.f: has no docstring", "8 h: has no docstring"]
    assert broken(docstrings, "x = 1") == ["1 a: the module has no docstring"]


def test_a_public_name_must_not_be_that_of_a_submodule(tmp_path: Path) -> None:
    folder = tmp_path / "room"
    folder.mkdir()
    for name in ("plan.py", "layers.py"):
        (folder / name).touch()
    text = "from room import layers\nfrom room.plan import Plan, plan\n"
    assert broken(submodule_names, text, folder / "__init__.py") == [
        "2 plan: is a submodule's name too"
    ]


if __name__ == "__main__":
    for file in files():
        for rule in RULES:
            for violation in rule(file):
                print(violation)

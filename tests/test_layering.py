"""Who may import whom: the arrows between packages, and between the rooms of `passes` and `native`.

`python tests/test_layering.py` prints the arrows that the code has now.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src"
PACKAGE = SOURCE / "tinyvox"
NATIVE = ROOT / "native" / "src"
NATIVE_MODULE = "_native"

LAYERS: dict[str, set[str]] = {
    "errors": set(),
    "progress": set(),
    "language_model": {"_native", "errors"},
    "decode": {"_native", "language_model"},
    "runtime": {"_native", "decode", "errors", "language_model"},
    "stt": {"decode", "errors", "language_model", "runtime"},
    "packages": {"errors"},
    "storage": {"errors"},
    "records": {"errors", "storage"},
    "report": {"errors", "packages", "records", "storage"},
    "lm": {"errors", "progress", "storage"},
    "model": {"errors", "storage"},
    "recipe": {"errors", "storage"},
    "speech": {"errors", "runtime", "storage"},
    "workers": {"errors", "packages"},
    "hearing": {"decode", "errors", "runtime", "speech", "storage", "workers"},
    "executor": {"errors", "model"},
    "formats": {"_native", "errors", "lm", "model", "storage"},
    "quantizers": {"_native", "errors", "model"},
    "calibration": {"errors", "executor", "model", "progress", "runtime", "speech", "storage"},
    "evaluation": {
        "decode",
        "errors",
        "executor",
        "language_model",
        "model",
        "packages",
        "progress",
        "runtime",
        "speech",
    },
    "exporters": {"errors", "executor", "model", "storage"},
    "importers": {"errors", "executor", "formats", "model", "storage"},
    "passes": {"calibration", "errors", "executor", "model", "progress", "quantizers", "recipe"},
    "planner": {
        "calibration",
        "errors",
        "formats",
        "model",
        "passes",
        "progress",
        "quantizers",
        "recipe",
        "storage",
    },
    "training": {
        "calibration",
        "decode",
        "errors",
        "evaluation",
        "executor",
        "formats",
        "importers",
        "model",
        "passes",
        "progress",
        "quantizers",
        "recipe",
        "runtime",
        "speech",
        "storage",
    },
    "workflow": {
        "calibration",
        "errors",
        "evaluation",
        "exporters",
        "formats",
        "hearing",
        "importers",
        "language_model",
        "lm",
        "model",
        "passes",
        "planner",
        "progress",
        "quantizers",
        "recipe",
        "records",
        "runtime",
        "speech",
        "storage",
        "training",
        "workers",
    },
    "sweeps": {
        "errors",
        "evaluation",
        "importers",
        "model",
        "packages",
        "planner",
        "progress",
        "recipe",
        "records",
        "speech",
        "storage",
        "workers",
        "workflow",
    },
}
"""Packages and single modules from the bottom up, and those below that each may import."""

FREE = {"__init__", "__main__", "cli"}
"""They may import every layer, and no layer imports them."""

INSIDE_PASSES: dict[str, set[str]] = {
    "least_squares": set(),
    "moment_propagation": set(),
    "outcome": set(),
    "bias_correction": {"moment_propagation", "outcome"},
    "checks": {"outcome"},
    "equalization": {"moment_propagation", "outcome"},
    "lowrank": {"least_squares", "outcome"},
    "pruning": {"bias_correction", "least_squares", "outcome"},
    "quantization": {"bias_correction", "least_squares", "lowrank", "outcome"},
    "recipe_steps": {"checks", "equalization", "lowrank", "outcome", "pruning", "quantization"},
}
"""The same inside `passes`."""

TABLES = {"tinyvox": LAYERS, "tinyvox.passes": INSIDE_PASSES}


@dataclass(frozen=True)
class Import:
    """One name that a file imports; `module` is dotted, and absolute."""

    path: Path
    line: int
    module: str
    name: str | None

    def __str__(self) -> str:
        place = f"{self.path.relative_to(ROOT)}:{self.line}"
        statement = f"from {self.module} import {self.name}" if self.name else self.module
        return f"{place}: {statement}"


def files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def dotted(path: Path) -> str:
    """`tinyvox.model.graph`; a package's own name for its `__init__`."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[Import]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(path, node.lineno, alias.name, None)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import; write the full name"
            for alias in node.names:
                yield Import(path, node.lineno, node.module or "", alias.name)


def is_module(module: str) -> bool:
    path = SOURCE.joinpath(*module.split("."))
    return is_package(module) or path.with_suffix(".py").exists() or path.name == NATIVE_MODULE


def is_package(module: str) -> bool:
    return (SOURCE.joinpath(*module.split(".")) / "__init__.py").exists()


def target(found: Import) -> str:
    """The dotted module that an import reads: `from a import b` reads `a.b` where that is one."""
    inner = f"{found.module}.{found.name}"
    return inner if found.name and is_module(inner) else found.module


def room(module: str, parent: str) -> str | None:
    """The room inside `parent` that a module is in; None for what lies outside, `__init__` for
    the package itself."""
    if module == parent:
        return "__init__"
    if not module.startswith(parent + "."):
        return None
    return module.removeprefix(parent + ".").split(".")[0]


def arrows(parent: str) -> dict[str, set[str]]:
    """The rooms of a package, and those of its other rooms that each imports."""
    found: dict[str, set[str]] = {}
    for path in files():
        own = room(dotted(path), parent)
        if own is None:
            continue
        rooms = {room(target(each), parent) for each in imports(path)}
        found.setdefault(own, set()).update(r for r in rooms if r and r != own)
    return found


@pytest.mark.parametrize("parent", TABLES)
def test_every_room_has_its_row_and_every_row_its_room(parent: str) -> None:
    rooms, rows = set(arrows(parent)) - FREE, set(TABLES[parent])
    assert not rooms - rows, f"new in {parent}: {sorted(rooms - rows)}; say what they may import"
    assert not rows - rooms, f"no longer in {parent}: {sorted(rows - rooms)}; take their rows out"


@pytest.mark.parametrize("parent", TABLES)
def test_allowed_arrows_point_down(parent: str) -> None:
    below = {NATIVE_MODULE}
    for name, allowed in TABLES[parent].items():
        assert not allowed - below, f"{name} may import {sorted(allowed - below)}, not below it"
        below.add(name)


@pytest.mark.parametrize("parent", TABLES)
def test_imports_follow_the_arrows(parent: str) -> None:
    table = TABLES[parent]
    strange = [
        str(found)
        for path in files()
        if (own := room(dotted(path), parent)) is not None and own not in FREE
        for found in imports(path)
        if (other := room(target(found), parent)) not in (None, own)
        and other not in table.get(own, set())
    ]
    assert not strange, "against the arrows:\n" + "\n".join(strange)


@pytest.mark.parametrize("parent", TABLES)
def test_every_allowed_arrow_is_used(parent: str) -> None:
    used = arrows(parent)
    idle = {n: sorted(allowed - used.get(n, set())) for n, allowed in TABLES[parent].items()}
    idle = {name: rooms for name, rooms in idle.items() if rooms}
    assert not idle, f"allowed in {parent}, and used by nothing: {idle}; take them out"


def test_nothing_imports_the_command_line() -> None:
    users = {
        str(found)
        for path in files()
        if room(dotted(path), "tinyvox") not in ("cli", "__main__")
        for found in imports(path)
        if room(target(found), "tinyvox") == "cli"
    }
    assert not users


# A package is imported, not its private files.


def public_names(package: str) -> set[str]:
    """The `__all__` of a package, and its packages; all names where it has no `__all__`."""
    folder = SOURCE.joinpath(*package.split("."))
    names = {path.parent.name for path in folder.glob("*/__init__.py")}
    for node in ast.parse((folder / "__init__.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            names |= set(ast.literal_eval(node.value))
    return names


def common_package(one: str, other: str) -> str:
    """The innermost package that both modules are in; a package is in itself."""
    package = []
    for a, b in zip(one.split("."), other.split("."), strict=False):
        if a != b or not is_package(".".join([*package, a])):
            break
        package.append(a)
    return ".".join(package)


def is_private(found: Import, importer: str) -> bool:
    """Whether an import reads a file, or a name, that a package keeps to itself.

    From the innermost package that importer and module have in common, the way to the name may
    lead through packages, and in the end to a module of the common package or a public name.
    """
    if not found.module.startswith("tinyvox"):
        return False
    common = common_package(importer, found.module)
    if found.module == common:
        return False
    direct = found.module.removeprefix(common + ".").count(".") == 0
    if not is_package(found.module):
        return not direct or (found.name or "").startswith("_")
    return found.name is not None and found.name not in public_names(found.module)


def test_other_packages_are_imported_by_their_public_names() -> None:
    private = [
        str(found)
        for path in files()
        for found in imports(path)
        if is_private(found, dotted(path) + (".__init__" if path.stem == "__init__" else ""))
    ]
    assert not private, "import these from the package's __init__:\n" + "\n".join(private)


@pytest.mark.parametrize(
    ("importer", "module", "name", "private"),
    [
        ("tinyvox.passes.recipe_steps", "tinyvox.model", "Dense", False),
        ("tinyvox.passes.recipe_steps", "tinyvox.model", "layers", False),
        ("tinyvox.passes.recipe_steps", "tinyvox.model.graph", "Model", True),
        ("tinyvox.passes.recipe_steps", "tinyvox.model", "graph", True),
        ("tinyvox.passes.recipe_steps", "tinyvox.passes.outcome", "Note", False),
        ("tinyvox.passes.recipe_steps", "tinyvox.passes.pruning", "prune", False),
        ("tinyvox.passes.recipe_steps", "tinyvox.passes.pruning.units", "prune", True),
        ("tinyvox.planner.search", "tinyvox.passes.outcome", "Note", True),
        ("tinyvox.planner.search", "tinyvox.formats", "tvx", False),
        ("tinyvox.planner.search", "tinyvox.formats.tvx", "size", False),
        ("tinyvox.model.layers.frames", "tinyvox.model.matrix", "Dense", False),
        ("tinyvox.planner.search", "tinyvox.errors", "ModelError", False),
        ("tinyvox.planner.search", "tinyvox.storage", "_dotted", True),
    ],
)
def test_what_counts_as_private(importer: str, module: str, name: str, private: bool) -> None:
    assert is_private(Import(PACKAGE, 1, module, name), importer) is private


# What runs without torch.


NUMPY_ALONE = {"errors", "language_model", "decode", "runtime", "stt"}


@pytest.mark.parametrize("name", sorted(NUMPY_ALONE))
def test_the_runtime_needs_numpy_alone(name: str) -> None:
    allowed = {"numpy", "tinyvox", *sys.stdlib_module_names}
    strange = [
        str(found)
        for path in files()
        if room(dotted(path), "tinyvox") == name
        for found in imports(path)
        if found.module.split(".")[0] not in allowed
    ]
    assert not strange
    assert LAYERS[name] <= {*NUMPY_ALONE, NATIVE_MODULE}


def test_to_import_tinyvox_takes_numpy_alone() -> None:
    code = "import sys, tinyvox; print(*{name.split('.')[0] for name in sys.modules})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "pydantic", "typer", "rich", "yaml", "soundfile", "soxr", "jiwer"}
    assert not heavy & set(run.stdout.split())


# The map.


def test_the_architecture_names_every_package() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    packages = [path.parent for path in PACKAGE.glob("*/**/__init__.py")]
    names = [f"{folder.relative_to(PACKAGE).as_posix()}/" for folder in packages]
    names += [path.name for path in PACKAGE.glob("*.py") if path.stem not in FREE]
    missing = [name for name in names if not re.search(rf"(?<![\w/]){re.escape(name)}", text)]
    missing = [name for name in missing if f"src/tinyvox/{name}" not in text]
    assert not missing, f"ARCHITECTURE.md does not name {sorted(missing)}"


# Native.

NATIVE_ALLOWED: dict[str, set[str]] = {
    "features": set(),
    "kernels": set(),
    "trellis": set(),
    "rans": {"bytes", "trellis"},
    "rdo": {"trellis"},
    "bytes": {"budget", "file"},
    "container": {"budget", "bytes"},
    "bits": set(),
    "monotone": {"bits", "bytes"},
    "word_list": {"bytes", "monotone"},
    "ngram_file": {"bits", "bytes", "container", "monotone", "ngram", "word_list"},
    "ngram": {"mapped_file", "ngram_file"},
    "budget": {"bytes", "file"},
    "coded": {"budget", "file", "bytes", "rans"},
    "format": set(),
    "card": {"file", "bytes", "format"},
    "records": {"budget", "file", "bytes", "coded", "format", "layers"},
    "file": {"budget", "card", "container", "features", "bytes", "layers", "records"},
    "threads": set(),
    "forms": {"file", "kernels"},
    "large_pages": set(),
    "matrix": {"file", "forms", "kernels", "large_pages", "threads"},
    "layers": {"file", "bytes", "format", "kernels", "matrix"},
    "model": {"file", "features", "layers"},
    "frames": set(),
    "stream": {"budget", "model", "frames"},
    "open": {"budget", "model", "stream", "decode_ctc"},
    "exclusive": set(),
    "lexicon": set(),
    "hot_words": {"lexicon"},
    "prefixes": {"ngram"},
    "vocabulary": {"lexicon", "ngram"},
    "decode_greedy": set(),
    "word_scores": {"hot_words", "prefixes", "vocabulary"},
    "decode_ctc": {"budget", "decode_greedy", "word_scores"},
    "speech": {"stream", "decode_ctc"},
    "mapped_file": {"file"},
    "c_api": {"tinyvox", "budget", "exclusive", "mapped_file", "open", "speech"},
}
"""Native rooms and those whose headers they include; `file` knows the settings of features, no
code of theirs. Bindings and tests may include all."""


def native_room(path: Path) -> str:
    return path.parent.name if path.parent.name in ("kernels", "layers", "c_api") else path.stem


def native_arrows() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for path in sorted(p for p in NATIVE.rglob("*.*") if p.parent.name != "bindings"):
        text = path.read_text(encoding="utf-8")
        headers = re.findall(r'^#include "([^"]+)"', text, re.MULTILINE)
        own = native_room(path)
        rooms = {native_room(NATIVE / header) for header in headers}
        found.setdefault(own, set()).update(rooms - {own})
    return found


def test_native_includes_follow_the_arrows() -> None:
    found = native_arrows()
    assert set(found) == set(NATIVE_ALLOWED)
    strange = {name: sorted(rooms - NATIVE_ALLOWED[name]) for name, rooms in found.items()}
    strange = {name: rooms for name, rooms in strange.items() if rooms}
    assert not strange, f"included against the arrows: {strange}"
    idle = {name: sorted(rooms - found[name]) for name, rooms in NATIVE_ALLOWED.items()}
    idle = {name: rooms for name, rooms in idle.items() if rooms}
    assert not idle, f"allowed, and used by nothing: {idle}; take them out"


def test_only_the_bindings_know_python() -> None:
    for path in NATIVE.rglob("*.*"):
        knows = "nanobind" in path.read_text(encoding="utf-8")
        assert not knows or path.parent.name == "bindings", path.name


def in_order(found: Mapping[str, set[str]]) -> Iterator[str]:
    """Rooms from the bottom up; those of a cycle at the end."""
    left, done = {name: set(rooms) for name, rooms in found.items()}, {NATIVE_MODULE}
    while left:
        ready = sorted(name for name, rooms in left.items() if rooms <= done) or sorted(left)
        yield from ready
        done |= set(ready)
        left = {name: rooms for name, rooms in left.items() if name not in done}


if __name__ == "__main__":
    for parent in TABLES:
        print(parent)
        now = {name: rooms for name, rooms in arrows(parent).items() if name not in FREE}
        for name in in_order(now):
            print(f'    "{name}": {{{", ".join(map(repr, sorted(now[name])))}}},')


def test_the_architecture_names_files_that_exist() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:src|tests|native|docs|bench)/[\w./-]+)`", text)
    missing = [name for name in named if "NAME" not in name and not (ROOT / name).exists()]
    missing = [name for name in missing if not (ROOT / "native" / name).exists()]
    assert missing == []
    assert len(named) > 30

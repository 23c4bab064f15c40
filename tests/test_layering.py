"""Who may import whom: the arrows of CONTRIBUTING, enforced."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "tinyvox"
NATIVE = ROOT / "native" / "src"

ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "matrix": {"errors"},
    "card": {"errors"},
    "layers": {"errors", "matrix"},
    "model": {"errors", "matrix", "layers", "card"},
    "groups": {"errors", "matrix", "layers", "model"},
    "execute": {"matrix", "layers", "model"},
    "runtime": {"errors", "_native"},
    "codebooks": {"errors", "matrix"},
    "recipe": {"errors", "card"},
    "passes": {"errors", "matrix", "model", "groups", "codebooks", "recipe"},
    "importers": {"errors", "matrix", "layers", "model", "card", "execute"},
    "packfile": {"errors", "matrix", "layers", "model", "card", "_native"},
    "plan": {"errors", "matrix", "model", "codebooks", "recipe", "passes"},
    "corpus": {"errors"},
    "train": {"errors", "matrix", "layers", "model", "card", "execute", "corpus", "runtime"},
    "finetune": {"errors", "model", "execute", "corpus", "train", "codebooks", "recipe"},
    "export": {"model", "execute"},
    "files": {"errors", "matrix", "model", "card", "importers", "packfile"},
    "evaluate": {"errors", "model", "card", "execute", "corpus", "runtime"},
    "bench": {"model", "execute", "runtime"},
    "console": set(),
    "demo": {"errors", "bench", "console", "corpus", "evaluate", "files", "packfile", "passes",
             "plan", "runtime"},
}  # fmt: skip
FREE = {"cli", "__init__"}
"""They may import every public room, and no room imports them."""


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py").removesuffix(".pyi")


def imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "tinyvox":
            rooms |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tinyvox."):
            rooms.add((node.module or "").split(".")[1])
        elif isinstance(node, ast.Import):
            names = [a.name for a in node.names if a.name.startswith("tinyvox.")]
            rooms |= {name.split(".")[1] for name in names}
    return rooms - {room(path)}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: p.stem)
def test_imports_follow_the_arrows(path: Path) -> None:
    name = room(path)
    if name in FREE:
        return
    assert name in ALLOWED, f"{path.name} is a new room: say here what it may import"
    strange = imported_rooms(path) - ALLOWED[name]
    assert not strange, f"{name} imports {sorted(strange)}, against the arrows"


def test_every_arrow_is_used_by_a_room_that_exists() -> None:
    rooms = {room(path) for path in PACKAGE.rglob("*.py")}
    assert set(ALLOWED) <= rooms


def test_the_runtime_imports_numpy_alone() -> None:
    heavy = {"torch", "pydantic", "typer", "rich", "yaml", "soundfile", "soxr", "jiwer"}
    for name in ("runtime.py", "errors.py"):
        tree = ast.parse((PACKAGE / name).read_text(encoding="utf-8"))
        names = {
            alias.name.split(".")[0]
            for node in ast.walk(tree)
            if isinstance(node, ast.Import)
            for alias in node.names
        }
        names |= {
            (node.module or "").split(".")[0]
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
        }
        assert not names & heavy


NATIVE_ALLOWED: dict[str, set[str]] = {}
"""Filled below: native rooms and the headers of other rooms that they may include."""


def native_includes(path: Path) -> set[str]:
    found = re.findall(r'^#include "([^"]+)"', path.read_text(encoding="utf-8"), re.MULTILINE)
    return {Path(name).stem for name in found} - {path.stem}

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
    "weights": {"matrix"},
    "cells": set(),
    "layer_modules": {"matrix", "layers", "weights", "cells"},
    "execute": {"matrix", "layers", "layer_modules", "model", "weights"},
    "runtime": {"errors", "_native"},
    "codebooks": {"errors", "matrix", "_native"},
    "recipe": {"errors", "card"},
    "statistics": {"layers", "model", "execute"},
    "statistics_from_audio": {"errors", "card", "corpus", "statistics", "model", "runtime", "divergence"},
    "synthesize_speech": set(),
    "synthetic_statistics": {"synthesize_speech", "card", "statistics", "model", "runtime"},
    "divergence": {"statistics", "matrix", "layers", "layer_modules", "model", "execute"},
    "passes": {"errors", "matrix", "layers", "layer_modules", "model", "groups", "execute",
               "codebooks", "statistics", "synthetic_statistics", "recipe"},
    "importers": {"errors", "matrix", "layers", "model", "card", "execute"},
    "packfile": {"errors", "matrix", "layers", "model", "card", "_native"},
    "plan": {"errors", "matrix", "model", "codebooks", "statistics", "synthetic_statistics", "divergence", "recipe",
             "passes", "packfile"},
    "corpus": {"errors"},
    "pruner": {"errors", "matrix", "layers", "model", "groups", "execute", "passes", "recipe",
               "weights"},
    "deepspeech": {"matrix", "layers", "model", "card"},
    "train": {
        "errors", "model", "card", "execute", "corpus", "deepspeech", "runtime", "files", "pruner",
        "recipe",
    },
    "finetune": {
        "errors", "matrix", "model", "execute", "corpus", "train", "codebooks", "recipe", "passes",
        "statistics", "synthetic_statistics", "layer_modules", "pruner",
    },
    "export": {"layers", "layer_modules", "model", "execute"},
    "files": {"errors", "matrix", "model", "card", "importers", "packfile", "recipe"},
    "evaluate": {"errors", "model", "card", "execute", "corpus", "runtime"},
    "bench": {"model", "execute", "runtime"},
    "console": set(),
    "demo": {"errors", "bench", "console", "corpus", "evaluate", "files", "packfile", "plan",
             "runtime"},
}  # fmt: skip
FREE = {"cli", "__init__", "__main__"}
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


NATIVE_ALLOWED: dict[str, set[str]] = {
    "features": set(),
    "kernels": set(),
    "trellis": set(),
    "rans": {"bytes", "trellis"},
    "rdo": {"trellis"},
    "bytes": {"file"},
    "shapes": {"file", "bytes"},
    "coded": {"file", "bytes", "rans"},
    "records": {"file", "bytes", "coded", "shapes"},
    "file": {"features", "bytes", "records", "shapes"},
    "threads": set(),
    "matrix": {"file", "kernels", "threads"},
    "layers": {"file", "matrix"},
    "convolution": {"layers"},
    "recurrent": {"layers"},
    "model": {"file", "features", "layers"},
    "frames": set(),
    "stream": {"model", "frames"},
    "decode_ctc": set(),
    "speech": {"stream", "decode_ctc"},
    "mapped_file": set(),
    "c_api": {"tinyvox", "mapped_file", "speech"},
}
"""Native rooms and those whose headers they include; `file` knows the settings of features, no
code of theirs. Bindings and tests may include all."""


def native_room(path: Path) -> str:
    return "kernels" if path.parent.name == "kernels" else path.stem


@pytest.mark.parametrize(
    "path",
    sorted(p for p in NATIVE.rglob("*.*") if p.parent.name != "bindings"),
    ids=lambda p: p.name,
)
def test_native_includes_follow_the_arrows(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    headers = re.findall(r'^#include "([^"]+)"', text, re.MULTILINE)
    rooms = {native_room(NATIVE / header) for header in headers} - {native_room(path)}
    strange = rooms - NATIVE_ALLOWED[native_room(path)]
    assert not strange, f"{path.name} includes {sorted(strange)}, against the arrows"


def test_only_the_bindings_know_python() -> None:
    for path in NATIVE.rglob("*.*"):
        knows = "nanobind" in path.read_text(encoding="utf-8")
        assert not knows or path.parent.name == "bindings", path.name

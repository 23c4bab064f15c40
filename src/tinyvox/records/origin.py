"""Where a result comes from: what was asked, hashes, machine, versions."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from tinyvox.records.schema import SCHEMA_VERSION
from tinyvox.storage import open_input

LIBRARIES = ("numpy", "torch", "onnx", "soundfile", "soxr", "jiwer")
"""What computes beside tinyvox."""
BLOCK = 1 << 20


def stamp(
    command: str,
    asked: Mapping[str, Any],
    files: Mapping[str, Path | Sequence[Path] | None],
    *,
    recipe: Mapping[str, Any] | None = None,
    seconds: float | None = None,
) -> dict[str, Any]:
    """The `record` of a result.

    `asked` are the options of the command, of which those that were not given (None, False, empty)
    are left out; `files` what it read and wrote, by the names in `hashes`, in one file or several.
    Raises FileError where one of the files cannot be read.
    """
    found = {name: (f,) if isinstance(f, Path) else f for name, f in files.items() if f}
    hashes = {name: hash_of(*paths) for name, paths in found.items()}
    if recipe is not None:
        hashes["recipe"] = hash_of_document(recipe)
    given = {name: _plain(value) for name, value in asked.items() if _is_given(value)}
    return {
        "schema_version": SCHEMA_VERSION,
        "command": command,
        "asked": given,
        "hashes": hashes,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": seconds,
        "machine": machine(),
        "versions": versions(),
    }


def _is_given(value: object) -> bool:
    return value is not None and value is not False and value != {} and value != ()


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Path) else value


def hash_of(*paths: Path) -> str:
    """The SHA-256 of a file, or of several one after the other; of a folder, of the names and the
    bytes of all its files. Raises FileError."""
    digest = hashlib.sha256()
    for path in paths:
        for each in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else (path,):
            if each != path:
                digest.update(each.relative_to(path).as_posix().encode() + b"\0")
            for block in _blocks(each):
                digest.update(block)
    return digest.hexdigest()


def _blocks(path: Path) -> Iterator[bytes]:
    with open_input(path) as file:
        while block := file.read(BLOCK):
            yield block


def hash_of_document(document: Mapping[str, Any]) -> str:
    """The SHA-256 of a document as JSON, its keys in order, without spaces."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def machine() -> dict[str, Any]:
    """What computes: the keys of a `Machine`."""
    return {
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "memory_bytes": _memory(),
    }


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory() -> int | None:
    with suppress(AttributeError, OSError, ValueError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def versions() -> dict[str, str]:
    """Of tinyvox, Python, and those of LIBRARIES that are installed."""
    found = {"tinyvox": _own_version(), "python": platform.python_version()}
    for name in LIBRARIES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _own_version() -> str:
    found: str = importlib.import_module("tinyvox").__version__
    return found

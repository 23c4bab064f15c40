"""Packages that only some exporters need."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from tinyvox.errors import FileError


def needs(package: str, path: Path) -> None:
    """Raise FileError where a package that writes this file is missing; its extra has its name."""
    if find_spec(package) is None:
        raise FileError(
            f"{path}: writing {path.suffix} files needs {package!r}; pip install "
            f"'tinyvox[{package}]'"
        )

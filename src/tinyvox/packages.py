"""Packages that only some uses of tinyvox need."""

from __future__ import annotations

import importlib
from typing import Any

from tinyvox.errors import TinyvoxError


def load_package(name: str, use: str, install: str, error: type[TinyvoxError]) -> Any:
    """A package, or a module of one, by its name.

    Where it is not installed, raises `error`: one line with the `use` that takes it, and what to
    `install`.
    """
    try:
        return importlib.import_module(name)
    except ImportError as missing:
        raise error(f"{use} takes {missing.name or name!r}; pip install {install}") from None

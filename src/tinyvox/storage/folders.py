"""Where tinyvox keeps things on this machine."""

from __future__ import annotations

from pathlib import Path

from platformdirs import user_cache_path


def cache_folder() -> Path:
    """Where tinyvox keeps what it can compute again: the user's cache folder."""
    return user_cache_path("tinyvox", appauthor=False)

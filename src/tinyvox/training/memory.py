"""Memory that a training frees and takes again at every step stays with the process."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable

TRIM_THRESHOLD, MMAP_MAX = -1, -4
"""Parameters of glibc's mallopt (malloc.h)."""
MOST = 2**31 - 1


def keep_freed_memory() -> None:
    """Let the C library give large blocks from its heap, and keep that when they are freed.

    glibc otherwise asks the system for each block above 32 MB and gives it back, and the system
    then clears every page: a quarter of the time of a training step. Other systems are left as they
    are.
    """
    mallopt = _of_glibc("mallopt")
    if mallopt is not None:
        mallopt(MMAP_MAX, 0)
        mallopt(TRIM_THRESHOLD, MOST)


def give_back_memory() -> None:
    """Give the system what is freed between blocks that are not: as batches have many sizes, it
    would grow to several times what is in use."""
    trim = _of_glibc("malloc_trim")
    if trim is not None:
        trim(0)


def _of_glibc(name: str) -> Callable[..., int] | None:
    """A function of the C library; None where that is not glibc."""
    if not sys.platform.startswith("linux"):
        return None
    found: Callable[..., int] | None = getattr(ctypes.CDLL(None), name, None)
    return found

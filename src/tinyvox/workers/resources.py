"""What this machine has for jobs."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

LIMITS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ),
)
"""Where containers say how much memory they may have, and how much they have."""


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_memory() -> int | None:
    """Bytes that new processes may take; None where the system does not say."""
    found = [_available(), *(_left(*paths) for paths in LIMITS)]
    return min((each for each in found if each is not None), default=None)


def _available() -> int | None:
    with suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    return None


def _left(limit: str, used: str) -> int | None:
    with suppress(OSError, ValueError):  # "max" is no number
        return max(0, int(Path(limit).read_text()) - int(Path(used).read_text()))
    return None

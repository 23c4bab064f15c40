"""Files of other packages, converted once."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from tinyvox.errors import FileError
from tinyvox.storage import cache_folder
from tinyvox.workflow.api import compress

_LOG = logging.getLogger("tinyvox")


def converted(path: Path, suffix: str) -> Path:
    """A `.tvx` of a model of another package, without loss; made now, or found in the user's cache.

    A line in the log says what is done. Raises FileError for what cannot be converted, and the
    errors of `compress`.
    """
    if suffix != ".tvx":
        raise FileError(
            f"{path}: expected a {suffix} file; make one: tinyvox lm compress {path.name} -o "
            f"{path.with_suffix(suffix).name}"
        )
    state = path.stat()
    facts = f"{path.resolve()} {state.st_size} {state.st_mtime_ns}"
    name = f"{path.stem}-{hashlib.sha256(facts.encode()).hexdigest()[:16]}{suffix}"
    made = cache_folder() / "converted" / name
    if made.exists():
        return made
    _LOG.warning("%s: converted once, without loss, to %s", path, made)
    made.parent.mkdir(parents=True, exist_ok=True)
    compress(path, lossless=True).save(made)
    return made

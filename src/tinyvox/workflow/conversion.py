"""Files of other packages, converted once."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

from tinyvox.formats.tvlm import save_ngrams
from tinyvox.importers import load
from tinyvox.lm import read_foreign_file
from tinyvox.storage import cache_folder, check_folder
from tinyvox.workflow.api import compress

_LOG = logging.getLogger("tinyvox")


def converted_model(path: Path) -> Path:
    """A `.tvx` file of an acoustic model of another package, without loss.

    It is made once, and lies in the user's cache folder; a line in the log says so once the file
    is known to be a model. Raises the errors of `load` and `compress`, and FileError where the
    folder cannot be written.
    """
    made = _place(path, ".tvx")
    if not made.exists():
        model = load(path)
        _announce(path, made)
        compress(model, lossless=True).save(made)
    return made


def converted_scorer(path: Path, letters: Sequence[str]) -> Path:
    """A `.tvlm` file of a language model of another package, for an acoustic model with these
    letters by their labels; as `converted_model`. It keeps the alpha and beta of a scorer."""
    made = _place(path, ".tvlm")
    if not made.exists():
        found = read_foreign_file(path, letters=letters)
        _announce(path, made)
        save_ngrams(found.model, made, weights=found.weights)
    return made


def _place(path: Path, suffix: str) -> Path:
    """Where the result belongs: a name that changes with the file."""
    state = path.stat()
    facts = f"{path.resolve()} {state.st_size} {state.st_mtime_ns}"
    name = f"{path.stem}-{hashlib.sha256(facts.encode()).hexdigest()[:16]}{suffix}"
    made = cache_folder() / "converted" / name
    if not made.exists():
        check_folder(made.parent)
    return made


def _announce(path: Path, made: Path) -> None:
    _LOG.warning("%s: is converted once, to %s", path, made)

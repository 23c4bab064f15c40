"""What an HDF5 file holds, read by a process of its own: the file may be hostile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tinyvox.errors import ImporterError

_READER = Path(__file__).with_name("reader.py")
_SECONDS, _BYTES_A_SECOND = 20, 10_000_000
"""How long reading may take: for any file, and for its bytes."""
_MEMORY, _MEMORY_A_BYTE = 400 << 20, 64
"""Address space that the process may have: for any file, and for each of its bytes."""
_SAVE = "save the model again with Keras"


class Contents:
    """Groups, arrays and texts of a file, by their paths. Methods raise ImporterError."""

    def __init__(self, objects: dict[str, dict[str, Any]], values: np.ndarray[Any, Any]) -> None:
        self._objects, self._values = objects, values

    def is_group(self, path: str) -> bool:
        """Whether there is a group at a path."""
        return "members" in self._objects.get(path, ())

    def arrays(self) -> list[str]:
        """The paths of all arrays that can be read."""
        return [path for path, found in self._objects.items() if "shape" in found]

    def faults(self) -> dict[str, str]:
        """Why arrays were not read, by their paths."""
        return {path: found["error"] for path, found in self._objects.items() if "error" in found}

    def members(self, path: str) -> int:
        """How many objects the group at a path holds; 0 where there is none."""
        return len(self._objects[path]["members"]) if self.is_group(path) else 0

    def shape(self, path: str) -> tuple[int, ...]:
        """The shape of the array at a path."""
        found = self._objects.get(path, {"error": "is missing"})
        if "shape" not in found:
            raise ImporterError(f"{path} {found.get('error', 'is no array')}; {_SAVE}")
        return tuple(found["shape"])

    def tensor(self, path: str) -> Tensor:
        """The array at a path, float32."""
        shape, start = self.shape(path), self._objects[path]["start"]
        values = self._values[start : start + int(np.prod(shape))].reshape(shape).copy()
        if not np.isfinite(values).all():
            raise ImporterError(f"{path} holds NaN or infinity; mend the source model")
        return torch.from_numpy(values)

    def attribute(self, path: str, name: str) -> str | list[str] | None:
        """The text or the list of texts in an attribute of a group; None where there is none.

        Keras splits lists that are too long for one attribute: `NAME0`, `NAME1` and so on.
        """
        found: dict[str, str | list[str]] = self._objects.get(path, {}).get("attributes", {})
        if name in found or f"{name}0" not in found:
            return found.get(name)
        texts: list[str] = []
        for i in range(len(found)):
            part = found.get(f"{name}{i}")
            texts += part if isinstance(part, list) else []
        return texts

    def names(self, path: str, name: str) -> list[str]:
        """The list of texts in an attribute, which may be empty or missing."""
        found = self.attribute(path, name)
        return found if isinstance(found, list) else []


def contents_of(path: Path, what: str) -> Contents:
    """What the HDF5 file at a path holds. Raises ImporterError, which calls it `what`."""
    size = path.stat().st_size
    with tempfile.TemporaryDirectory() as folder:
        index, values = Path(folder, "index.json"), Path(folder, "values")
        memory = str(_MEMORY + _MEMORY_A_BYTE * size)
        command = [sys.executable, str(_READER), str(path.absolute()), str(index), str(values)]
        paths = os.pathsep.join(each for each in sys.path if each)
        try:
            subprocess.run(
                [*command, memory],
                check=True,
                timeout=_SECONDS + size / _BYTES_A_SECOND,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env={**os.environ, "PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1"},
            )
        except subprocess.SubprocessError as error:
            reason = "takes too long" if isinstance(error, subprocess.TimeoutExpired) else "fails"
            raise _damaged(what, f"reading it {reason}") from error
        found = json.loads(index.read_text(encoding="utf-8"))
        if "error" in found:
            raise _damaged(what, found["error"])
        return Contents(found["objects"], np.fromfile(values, dtype="<f4"))


def _damaged(what: str, reason: str) -> ImporterError:
    return ImporterError(f"{what} cannot be read, the file is damaged: {reason}; {_SAVE}")

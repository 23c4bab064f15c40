"""The tensors in a file of named tensors, by name; nothing in it is executed."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tinyvox.errors import ImporterError
from tinyvox.importers.hdf5 import contents_of

MAX_BYTES = 1 << 32
"""Most bytes of all tensors of a file."""


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of real numbers, as float32. Raises ImporterError with the file's name."""
    read = _READERS[path.suffix.lower()]
    try:
        return {name: _single(values) for name, values in read(path).items() if _is_real(values)}
    except ImporterError:
        raise
    except Exception as error:  # a damaged file raises many kinds, from zip, numpy or safetensors
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ImporterError(
            f"{path}: no {path.suffix} file of plain tensors, or damaged: {said[:200]}"
        ) from error


def _npz(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        total = sum(part.file_size for part in archive.infolist())
        if total > MAX_BYTES:
            raise ImporterError(f"{path}: unpacks to {total} bytes, expected at most {MAX_BYTES}")
    with np.load(path, allow_pickle=False) as held:
        return {name: held[name] for name in held.files}


def _safetensors(path: Path) -> dict[str, Any]:
    try:
        from safetensors.torch import load_file
    except ModuleNotFoundError as error:
        raise ImporterError(
            f"{path}: reading it needs {error.name!r}; pip install 'tinyvox[safetensors]'"
        ) from error
    held: dict[str, Any] = load_file(path)
    return held


def _hdf5(path: Path) -> dict[str, Any]:
    held = contents_of(path, str(path))
    return {name.lstrip("/"): held.tensor(name) for name in held.arrays()}


_READERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    ".npz": _npz,
    ".safetensors": _safetensors,
    ".h5": _hdf5,
    ".hdf5": _hdf5,
}


def _is_real(values: Any) -> bool:
    if isinstance(values, Tensor):
        return values.is_floating_point()
    return isinstance(values, np.ndarray) and values.dtype.kind == "f"


def _single(values: Tensor | npt.NDArray[Any]) -> Tensor:
    if isinstance(values, Tensor):
        return values.float().contiguous()
    return torch.from_numpy(np.array(values, np.float32))

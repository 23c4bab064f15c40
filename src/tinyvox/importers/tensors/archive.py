"""The tensors in a file of named tensors, by name; nothing in it is executed."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tinyvox.errors import ImporterError
from tinyvox.importers.hdf5 import contents_of

_ROOM, _EXPANSION = 1 << 20, 16
"""Bytes that may be read in any case, and how many times its own size a file may hold."""
_MOST_HEADER = 1 << 14
"""Bytes of an array's part in which its header must end."""
_KINDS = {"O": "objects", "c": "complex numbers", "U": "text", "S": "text", "V": "records"}
"""What arrays hold that no layer can take, by NumPy's letter."""


@dataclass
class Archive:
    """The tensors that were asked for, float32; `refused` says of others what they are, `names`
    has all of the file."""

    names: list[str] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def tensor(self, name: str) -> Tensor:
        """A tensor. Raises ImporterError where it is missing, or holds no real numbers."""
        if name in self.refused:
            raise ImporterError(f"{name!r} {self.refused[name]}")
        if name not in self.tensors:
            known = ", ".join(self.names) or "none"
            raise ImporterError(f"no tensor is called {name!r}; there are {known}")
        return self.tensors[name]


def read_tensors(path: Path, used: Collection[str]) -> Archive:
    """The tensors of these names; what else is in the file is not read.

    Raises ImporterError with the file's name where it is damaged, or holds much more than its size.
    """
    read = _READERS[path.suffix.lower()]
    try:
        return read(path, used)
    except ImporterError:
        raise
    except Exception as error:  # a damaged file raises many kinds, from zip, numpy or safetensors
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ImporterError(
            f"{path}: no {path.suffix} file of plain tensors, or damaged: {said[:200]}"
        ) from error


def _npz(path: Path, used: Collection[str]) -> Archive:
    found, size = Archive(), path.stat().st_size
    left = size * _EXPANSION + _ROOM
    with zipfile.ZipFile(path) as archive:
        for part, name in _arrays(archive):
            found.names.append(name)
            if name not in used:
                continue
            shape, dtype = _declared(archive, part)
            if dtype.kind != "f":
                found.refused[name] = _no_floats(dtype)
                continue
            left -= math.prod(shape) * dtype.itemsize
            if left < 0:
                raise ImporterError(
                    f"{path}: {name!r} of shape {list(shape)} brings the arrays to more than "
                    f"{_EXPANSION} times the file's {size:,} bytes"
                )
            with archive.open(part) as file:
                found.tensors[name] = _single(np.lib.format.read_array(file, allow_pickle=False))
    return found


def _arrays(archive: zipfile.ZipFile) -> Iterator[tuple[zipfile.ZipInfo, str]]:
    """The parts that are arrays, and their names."""
    for part in archive.infolist():
        if part.filename.endswith(".npy"):
            yield part, part.filename.removesuffix(".npy")


def _declared(
    archive: zipfile.ZipFile, part: zipfile.ZipInfo
) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """The shape and the type that the header of an array declares."""
    with archive.open(part) as file:
        start = io.BytesIO(file.read(_MOST_HEADER))
    version = np.lib.format.read_magic(start)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise ValueError(f"{part.filename} is of version {version}, expected 1.0 or 2.0")
    shape, _, dtype = readers[version](start)
    if max(shape, default=0) >> 63:
        raise ValueError(f"{part.filename} declares an array that is too large")
    return shape, dtype


def _no_floats(dtype: np.dtype[Any]) -> str:
    return f"holds {_KINDS.get(dtype.kind, f'{dtype} values')}, expected floats"


def _safetensors(path: Path, used: Collection[str]) -> Archive:
    try:
        from safetensors import safe_open
    except ModuleNotFoundError as error:
        raise ImporterError(
            f"{path}: reading it needs {error.name!r}; pip install 'tinyvox[safetensors]'"
        ) from error
    found = Archive()
    with safe_open(path, "pt") as held:
        found.names = list(held.keys())
        for name in set(used) & set(found.names):
            values: Tensor = held.get_tensor(name)
            if values.is_floating_point():
                found.tensors[name] = values.float().contiguous()
            else:
                found.refused[name] = f"holds {values.dtype} values, expected floats"
    return found


def _hdf5(path: Path, used: Collection[str]) -> Archive:
    held = contents_of(path, str(path))
    paths = {place.lstrip("/"): place for place in (*held.arrays(), *held.faults())}
    found = Archive(list(paths))
    for name in paths.keys() & set(used):
        if paths[name] in held.faults():
            found.refused[name] = held.faults()[paths[name]]
        else:
            found.tensors[name] = held.tensor(paths[name])
    return found


_READERS: dict[str, Callable[[Path, Collection[str]], Archive]] = {
    ".npz": _npz,
    ".safetensors": _safetensors,
    ".h5": _hdf5,
    ".hdf5": _hdf5,
}


def _single(values: npt.NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.array(values, np.float32))

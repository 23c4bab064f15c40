"""HDF5 files from strangers: only what lies in the file itself, and no more than it can hold."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from tinyvox.errors import ImporterError

_ROOM = 1 << 20
"""Bytes that may be read in any case."""
_EXPANSION = 16
"""How many times its own size a file may hold: some are compressed."""


@contextlib.contextmanager
def reading(what: str) -> Iterator[None]:
    """Errors of h5py, as ImporterError that says what was read."""
    try:
        yield
    except (ImporterError, MemoryError):
        raise
    except Exception as error:  # h5py raises many kinds for a damaged file
        text = str(error).strip().splitlines() or [type(error).__name__]
        raise ImporterError(
            f"{what} cannot be read, the file is damaged: {text[0][:200]}; save the model again"
        ) from error


class Hdf5:
    """An open file of `size` bytes. All methods raise ImporterError with the object's name."""

    def __init__(self, file: h5py.File, size: int) -> None:
        self.root: h5py.Group = file
        self._size = size
        self._left = size * _EXPANSION + _ROOM

    def find(self, group: h5py.Group, path: str) -> h5py.Group | h5py.Dataset | None:
        """The object at a path below a group, or None. Links to other places are refused."""
        found = group
        with reading(_label(group, path)):
            for name in path.split("/"):
                link = found.get(name, getlink=True) if isinstance(found, h5py.Group) else None
                if link is None:
                    return None
                if not isinstance(link, h5py.HardLink):
                    raise ImporterError(
                        f"{_label(found, name)} is a link to another place or file, which is not "
                        "followed; save the model again with Keras"
                    )
                found = found[name]
        return found

    def group(self, group: h5py.Group, path: str) -> h5py.Group | None:
        """The group at a path below a group, or None."""
        found = self.find(group, path)
        return found if isinstance(found, h5py.Group) else None

    def members(self, group: h5py.Group, path: str) -> int:
        """How many objects the group at a path holds; 0 where there is none."""
        found = self.group(group, path)
        with reading(_label(group, path)):
            return 0 if found is None else len(found)

    def tensor(self, group: h5py.Group, path: str) -> Tensor:
        """The array at a path as float32."""
        data = self.find(group, path)
        label = _label(group, path)
        if not isinstance(data, h5py.Dataset):
            raise ImporterError(f"{label} is no array, or missing; save the model again with Keras")
        with reading(label), np.errstate(over="ignore"):
            self._check(data, label)
            values = np.asarray(data[()], dtype=np.float32)
        if not np.isfinite(values).all():
            raise ImporterError(f"{label} holds NaN or infinity; mend the source model")
        return torch.from_numpy(values)

    def shape(self, group: h5py.Group, path: str) -> tuple[int, ...] | None:
        """The shape of the array at a path; None where there is none."""
        data = self.find(group, path)
        with reading(_label(group, path)):
            return tuple(data.shape or ()) if isinstance(data, h5py.Dataset) else None

    def _check(self, data: h5py.Dataset, label: str) -> None:
        if data.external or data.is_virtual:
            raise ImporterError(
                f"{label} lies in another file, which is not read; save the model again with Keras"
            )
        if data.dtype.kind != "f":
            raise ImporterError(
                f"{label} holds {data.dtype} values, expected floats; "
                "save the model in float32, before it is quantized"
            )
        self._take(int(data.nbytes), label)

    def _take(self, amount: int, label: str) -> None:
        """Count bytes that are to be read: a few bytes of a file can declare any amount."""
        self._left -= amount
        if self._left < 0:
            raise ImporterError(
                f"{label} brings the arrays to more than {_EXPANSION} times the file's "
                f"{self._size:,} bytes; the file is damaged"
            )

    def attribute(self, group: h5py.Group, name: str) -> str | list[str] | None:
        """The text or the list of texts in an attribute; None where there is none.

        Keras splits lists that are too long for one attribute: `NAME0`, `NAME1` and so on.
        """
        with reading(f"the attribute {_label(group, name)}"):
            if name in group.attrs:
                found = self._texts(group, name)
                return found[0] if group.attrs.get_id(name).shape == () and found else found
            if f"{name}0" not in group.attrs:
                return None
            parts: list[str] = []
            while (part := f"{name}{len(parts)}") in group.attrs:
                parts.append(part)
            return [text for part in parts for text in self._texts(group, part)]

    def names(self, group: h5py.Group, name: str) -> list[str]:
        """The list of texts in an attribute, which may be empty or missing."""
        found = self.attribute(group, name)
        return found if isinstance(found, list) else []

    def _texts(self, group: h5py.Group, name: str) -> list[str]:
        identifier = group.attrs.get_id(name)
        size = math.prod(identifier.shape or ()) * identifier.dtype.itemsize
        self._take(size, _label(group, name))
        value: Any = group.attrs[name]
        if isinstance(value, h5py.Empty):
            return []
        found = [value] if isinstance(value, bytes | str) else np.asarray(value).ravel().tolist()
        return [_text(each, _label(group, name)) for each in found if each != 0.0]


def _text(value: object, label: str) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="replace")
    if not isinstance(value, str):
        raise ImporterError(f"the attribute {label} holds {value!r}, expected text")
    return value


def _label(group: h5py.Group, path: str) -> str:
    return f"{group.name or ''}/{path}".replace("//", "/")

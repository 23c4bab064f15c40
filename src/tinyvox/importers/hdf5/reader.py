"""A program that copies what an HDF5 file holds into a JSON file and a file of float32 values.

    python reader.py FILE INDEX VALUES BYTES_OF_MEMORY

HDF5's own library hangs or crashes on some damaged files, so it runs in a process of its own, which
`contents` starts and watches. Links to other places and arrays in other files are not followed, and
no more is read than the file can hold. This imports nothing of tinyvox.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np

_ROOM = 1 << 20
"""Bytes that may be read in any case."""
_EXPANSION = 16
"""How many times its own size a file may hold: some are compressed."""
_MOST_OBJECTS = 100_000
_SKIPPED = ("optimizer_weights", "optimizer")


class _RefusedError(Exception):
    """One line on why something is not read."""


class _Copy:
    """What was found so far."""

    def __init__(self, size: int, values: BinaryIO) -> None:
        self.index: dict[str, dict[str, Any]] = {}
        self._size, self._values = size, values
        self._left = size * _EXPANSION + _ROOM
        self._written = 0

    def walk(self, root: h5py.Group) -> None:
        """Copy everything below a group. A group that holds itself is entered once."""
        waiting: list[tuple[str, h5py.Group, tuple[int, ...]]] = [("", root, ())]
        while waiting:
            path, group, above = waiting.pop()
            address = h5py.h5o.get_info(group.id).addr
            names = [] if address in above else [n for n in group if n not in _SKIPPED]
            self.index[path] = {"members": names, "attributes": self._attributes(group)}
            for name in names:
                inside = f"{path}/{name}"
                found = self._object(group, name)
                if isinstance(found, h5py.Group):
                    waiting.append((inside, found, (*above, address)))
                else:
                    self.index[inside] = found
            if len(self.index) > _MOST_OBJECTS:
                raise _RefusedError(f"holds more than {_MOST_OBJECTS} objects")

    def _object(self, group: h5py.Group, name: str) -> h5py.Group | dict[str, Any]:
        """A group, or the record of an array or of an error."""
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            return {"error": "is a link to another place or file, which is not followed"}
        found = group[name]
        if isinstance(found, h5py.Group):
            return found
        try:
            return self._array(found)
        except _RefusedError as error:
            return {"error": str(error)}

    def _array(self, data: Any) -> dict[str, Any]:
        if not isinstance(data, h5py.Dataset):
            raise _RefusedError("is no array")
        if data.external or data.is_virtual:
            raise _RefusedError("lies in another file, which is not read")
        if data.dtype.kind != "f":
            raise _RefusedError(f"holds {data.dtype} values, expected floats: save it unquantized")
        self._take(int(data.nbytes))
        with np.errstate(over="ignore"):
            values = np.ascontiguousarray(data[()], dtype="<f4")
        self._values.write(values.tobytes())
        self._written += values.size
        return {"shape": list(values.shape), "start": self._written - values.size}

    def _take(self, amount: int) -> None:
        """Count bytes that are to be read: a few bytes of a file can declare any amount."""
        if amount > self._left:
            raise _RefusedError(
                f"brings the arrays to more than {_EXPANSION} times the file's {self._size:,} bytes"
            )
        self._left -= amount

    def _attributes(self, group: h5py.Group) -> dict[str, Any]:
        """The attributes that are texts or lists of texts."""
        found = {name: self._texts(group, name) for name in group.attrs}
        return {name: texts for name, texts in found.items() if texts is not None}

    def _texts(self, group: h5py.Group, name: str) -> str | list[str] | None:
        held = group.attrs.get_id(name)
        self._take(math.prod(held.shape or ()) * held.dtype.itemsize)
        value: Any = group.attrs[name]
        if isinstance(value, h5py.Empty):
            return []
        if isinstance(value, bytes | str):
            return _text(value)
        values = np.asarray(value)
        if values.size and values.dtype.kind not in "SUO":
            return None
        return [_text(each) for each in values.ravel().tolist()] if values.size else []


def _text(value: object) -> str:
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)


def copy(source: Path, index: Path, values: Path) -> None:
    """Write the index of a file, or `{"error": ...}`, and its values."""
    try:
        with values.open("wb") as out, h5py.File(source, "r", locking=False) as file:
            made = _Copy(source.stat().st_size, out)
            made.walk(file)
            found: dict[str, Any] = {"objects": made.index}
    except _RefusedError as error:
        found = {"error": str(error)}
    except Exception as error:  # h5py raises many kinds for a damaged file
        lines = str(error).strip().splitlines() or [type(error).__name__]
        found = {"error": lines[0][:200]}
    index.write_text(json.dumps(found), encoding="utf-8")


def _limit_memory(most: int) -> None:
    """Let this process have no more, where the system can say so."""
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


if __name__ == "__main__":
    _limit_memory(int(sys.argv[4]))
    copy(*map(Path, sys.argv[1:4]))

"""The bytes of a foreign file: numbers at places that are checked, and packed bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from tinyvox.errors import FileError

MOST_BITS = 57
"""The longest number of packed bits: with 7 bits in front of it, it still fits into 8 bytes."""


class Bytes:
    """A file in memory. Reading outside it raises FileError, with the place."""

    def __init__(self, path: Path, data: NDArray[np.uint8]) -> None:
        self.path, self._data = path, data

    @classmethod
    def open(cls, path: Path) -> Bytes:
        """The bytes of a file, mapped. Raises FileError where it cannot be read."""
        try:
            if path.stat().st_size == 0:
                raise FileError(f"{path}: is empty")
            return cls(path, np.memmap(path, np.uint8, "r"))
        except OSError as error:
            raise FileError(f"{path}: cannot be read: {error.strerror}") from error

    def __len__(self) -> int:
        return len(self._data)

    def fault(self, message: str) -> NoReturn:
        """Raise FileError for the file."""
        raise FileError(f"{self.path}: {message}")

    def slice(self, place: int, count: int, what: str) -> NDArray[np.uint8]:
        """So many bytes from a place on; `what` says in messages what they are."""
        if place < 0 or count < 0 or place + count > len(self._data):
            self.fault(
                f"{what} would end at byte {place + count:,}, the file has {len(self._data):,}; it "
                "is cut off, or damaged"
            )
        return self._data[place : place + count]

    def array(self, place: int, kind: Any, count: int, what: str) -> NDArray[Any]:
        """So many numbers, or records, of a little-endian kind."""
        kind = np.dtype(kind)
        return np.frombuffer(self.slice(place, count * kind.itemsize, what).tobytes(), kind)

    def number(self, place: int, kind: str, what: str) -> Any:
        """One number."""
        return self.array(place, kind, 1, what)[0].item()


def packed(data: NDArray[np.uint8], offsets: NDArray[np.int64], bits: int) -> NDArray[np.uint64]:
    """Numbers of at most 57 bits at offsets in bits, least significant first, [len(offsets)].

    The data have 8 bytes after the first byte of each number.
    """
    if bits == 0:
        return np.zeros(len(offsets), np.uint64)
    words = np.ndarray(max(0, len(data) - 7), "<u8", np.ascontiguousarray(data), strides=(1,))
    shifts = (offsets & 7).astype(np.uint64)
    values: NDArray[np.uint64] = (words[offsets >> 3] >> shifts) & np.uint64((1 << bits) - 1)
    return values

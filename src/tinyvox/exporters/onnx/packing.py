"""Codes in as few bits as ONNX operators can unpack.

A byte holds 8, 4, 2 or 1 codes of 1, 2, 4 or 8 bits; codes of other widths are split into such
pieces. Codes that are rare and far from the others would widen all of them: they stand apart, each
with its distance from the one before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]

PIECES = (8, 4, 2, 1)
"""Bits of the pieces of a code."""
NODES_APART = 300
"""About the bytes of the nodes that put back the codes that stand apart."""


@dataclass(frozen=True)
class Packed:
    """Codes [count]: each is `start` plus `bits` bits, but for those that stand apart.

    `pieces` holds the bytes of each width, the highest bits first. `gaps` are the distances from
    one code that stands apart to the next, the first from -1; `apart` are these codes.
    """

    count: int
    bits: int
    start: int
    pieces: tuple[tuple[int, Bytes], ...]
    gaps: Bytes
    apart: Bytes

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(piece.nbytes for _, piece in self.pieces) + 2 * self.apart.nbytes


def pack(codes: Bytes) -> Packed:
    """Codes, uint8 of any shape, in the form that takes the fewest bytes."""
    flat = codes.reshape(-1)
    counts = np.bincount(flat, minlength=256)
    low, high = int(flat.min()), int(flat.max())
    full = (high - low).bit_length()
    choices = [(_size(flat, bits, _window(counts, bits)), bits) for bits in range(full)]
    size, bits = min(choices, default=(flat.size, full))
    if size >= flat.size * full / 8:
        return _packed(flat, full, low)
    return _packed(flat, bits, _window(counts, bits))


def _window(counts: npt.NDArray[np.int64], bits: int) -> int:
    """The first of so many neighboring codes that are together the most frequent."""
    total = np.concatenate([[0], np.cumsum(counts)])
    return int((total[1 << bits :] - total[: -(1 << bits)]).argmax())


def _size(flat: Bytes, bits: int, start: int) -> float:
    return flat.size * bits / 8 + 2 * _places(flat, bits, start).size + NODES_APART


def _places(flat: Bytes, bits: int, start: int) -> npt.NDArray[np.int64]:
    """Where codes stand apart: those outside the window, and so many others that no gap is wider
    than a byte."""
    found = np.flatnonzero((flat < start) | (flat >= start + (1 << bits)))
    gaps = np.diff(found, prepend=-1)
    more = (gaps - 1) // 255
    owner = np.repeat(np.arange(found.size), more)
    step = np.arange(owner.size) - np.repeat(np.cumsum(more) - more, more) + 1
    fillers = (found - gaps)[owner] + 255 * step
    return np.sort(np.concatenate([found, fillers]))


def _packed(flat: Bytes, bits: int, start: int) -> Packed:
    places = _places(flat, bits, start)
    codes = (flat - np.uint8(start)).astype(np.uint8)
    codes[places] = 0
    pieces, left = [], bits
    for width in widths(bits):
        left -= width
        pieces.append((width, _joined(codes >> np.uint8(left), width)))
    gaps = np.diff(places, prepend=-1).astype(np.uint8)
    return Packed(flat.size, bits, start, tuple(pieces), gaps, flat[places])


def widths(bits: int) -> Iterator[int]:
    """The widths of the pieces of a code of so many bits, the highest bits first."""
    yield from (width for width in PIECES if bits & width)


def _joined(codes: Bytes, width: int) -> Bytes:
    """The lowest bits of codes, the first code in the lowest bits of each byte, uint8 [bytes]."""
    a_byte = 8 // width
    codes = codes & np.uint8((1 << width) - 1)
    columns = np.pad(codes, (0, -codes.size % a_byte)).reshape(-1, a_byte)
    shifts = np.arange(0, 8, width, dtype=np.uint8)
    joined: Bytes = np.bitwise_or.reduce(columns << shifts, axis=1).astype(np.uint8)
    return joined

"""CRC-32C, the checksum of tables and tensors.

Source: Koopman, "32-bit cyclic redundancy codes for internet applications", 2002; the polynomial of
Castagnoli et al., 1993. A long text is cut in strips whose checksums are computed side by side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_POLYNOMIAL = 0x82F63B78
_MOST_STRIPS = 4096


def _table() -> npt.NDArray[np.uint32]:
    values = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        values = np.where(values & 1, (values >> 1) ^ np.uint32(_POLYNOMIAL), values >> 1)
    return values


_TABLE = _table()


def crc32c(data: memoryview | bytes) -> int:
    """The checksum of some bytes."""
    raw = np.frombuffer(data, np.uint8)
    count = min(math.isqrt(len(raw)), _MOST_STRIPS)
    length = len(raw) // count if count else 0
    state = 0xFFFFFFFF
    if length:
        strips = raw[: length * count].reshape(count, length)
        states = _run(strips.T, np.zeros(count, np.uint32))
        shift = _zeros(length)
        for each in states.tolist():
            state = _times(shift, state) ^ each
    rest = raw[length * count :]
    return int(_run(rest[:, None], np.array([state], np.uint32))[0]) ^ 0xFFFFFFFF


def unmasked(value: int) -> int:
    """The checksum that is stored under a mask, so that no checksum is taken of a checksum."""
    rotated = (value - 0xA282EAD8) & 0xFFFFFFFF
    return (rotated >> 17 | rotated << 15) & 0xFFFFFFFF


def _run(columns: npt.NDArray[np.uint8], states: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """The states after these bytes, one column after the other for all strips."""
    for column in columns:
        states = (states >> 8) ^ _TABLE[(states ^ column) & 255]
    return states


def _zeros(count: int) -> list[int]:
    """What so many bytes of zero do to each of the 32 bits of a state."""
    step = _run(np.zeros((1, 32), np.uint8), np.uint32(1) << np.arange(32, dtype=np.uint32))
    power: Sequence[int] = step.tolist()
    total = [1 << i for i in range(32)]
    while count:
        if count & 1:
            total = [_times(power, bit) for bit in total]
        power = [_times(power, bit) for bit in power]
        count >>= 1
    return total


def _times(columns: Sequence[int], state: int) -> int:
    """A matrix of bits times a state."""
    found = 0
    for i, column in enumerate(columns):
        if state >> i & 1:
            found ^= column
    return found

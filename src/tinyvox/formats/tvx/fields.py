"""The smallest parts of a record: numbers, texts, floats, packed codes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tinyvox.errors import ModelError


def varint(value: int) -> bytes:
    """A number in LEB128: seven bits a byte, the lowest first, the high bit set where more follow.

    Raises ModelError where it does not fit 32 bits.
    """
    if not 0 <= value < 1 << 32:
        raise ModelError(f"{value} does not fit the .tvx format, expected 0 to 4294967295")
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def text(text: str) -> bytes:
    """UTF-8 with its length in bytes before it."""
    data = text.encode()
    return varint(len(data)) + data


def floats(values: Tensor) -> tuple[bool, bytes]:
    """The bytes of the values: float16 if that holds every value exactly, else float32.

    The first result says whether it is float16.
    """
    single = np.ascontiguousarray(values.detach().cpu().numpy(), dtype="<f4")
    with np.errstate(over="ignore"):
        half = single.astype("<f2")
    exact = bool((half.astype("<f4") == single).all())
    return exact, (half if exact else single).tobytes()


def pack(codes: NDArray[np.uint8], bits: int) -> bytes:
    """Codes of `bits` bits each, without gaps, the lowest bit first."""
    unpacked = np.unpackbits(codes[:, None], axis=1, count=bits, bitorder="little")
    return np.packbits(unpacked, bitorder="little").tobytes()


def decimal(value: float) -> float:
    """The shortest decimal number that gives this float32, so that 1e-5 is read back as 1e-5."""
    return float(str(np.float32(value)))

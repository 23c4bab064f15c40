"""WAV files: where their samples are, whatever their sizes say, and what their bytes mean.

`native/examples/wav.c` reads the same files in the same way.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO

import numpy as np
from numpy.typing import NDArray

from tinyvox.errors import DataError

PCM, FLOAT, A_LAW, MU_LAW, EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
"""Values of the format tag."""
UNKNOWN = 0x7FFFF000
"""Programs that do not know yet how long they will record write 0, or a size from here on."""

Raw = NDArray[np.uint8]
Values = NDArray[np.float32]
Decode = Callable[[Raw], Values]
"""The values, float32 [count], of raw samples, [count, bytes of a sample]."""


@dataclass(frozen=True)
class Layout:
    """What the samples of a file are: `width` is in bytes, `rate` in Hz."""

    rate: int
    channels: int
    width: int
    decode: Decode


@dataclass(frozen=True)
class WavSamples:
    """The samples of a WAV file: so many frames (one sample of each channel) from byte `start`."""

    file: IO[bytes]
    layout: Layout
    start: int
    frames: int

    @property
    def rate(self) -> int:
        """Frames a second."""
        return self.layout.rate

    def read(self, first: int, count: int) -> Values:
        """Frames, float32 [frames, channels], from `first` on."""
        layout = self.layout
        block = layout.channels * layout.width
        self.file.seek(self.start + first * block)
        raw = np.frombuffer(self.file.read(count * block), np.uint8)
        return layout.decode(raw.reshape(-1, layout.width)).reshape(-1, layout.channels)


def find_samples(file: IO[bytes], name: str) -> WavSamples | None:
    """The samples of a WAV file; None where it is no WAV file, or of a coding that is not here.

    A data size of 0 or near the largest means that the samples go on until the end of the file.
    Raises DataError, with the name, where the file is cut short or its format makes no sense.
    """
    end = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(12)
    if head[:4] != b"RIFF" or head[8:] != b"WAVE":
        return None
    layout, has_format = None, False
    while len(head := file.read(8)) == 8:
        tag, size = struct.unpack("<4sI", head)
        start = file.tell()
        if tag == b"fmt ":
            layout, has_format = _layout(name, file.read(min(size, 40))), True
        if tag == b"data":
            if not has_format:
                raise DataError(f"{name}: its samples come before their format")
            there = _bytes_there(name, size, end - start)
            if layout is None:
                return None
            return WavSamples(file, layout, start, there // (layout.width * layout.channels))
        file.seek(start + size + size % 2)  # chunks are padded to even sizes
    raise DataError(f"{name}: ends before its samples")


def _bytes_there(name: str, size: int, available: int) -> int:
    """Bytes of the samples, of which the header says that there are `size`."""
    if size == 0 or size >= UNKNOWN:
        return min(size or available, available)
    if size > available:
        raise DataError(
            f"{name}: is cut short: its header promises {size} bytes of samples, "
            f"there are {available}"
        )
    return size


def _layout(name: str, chunk: bytes) -> Layout | None:
    """The layout that a format chunk describes; None for a coding that is not here."""
    if len(chunk) < 16:
        raise DataError(f"{name}: its format is cut short")
    tag, channels, rate, _, _, bits = struct.unpack("<HHIIHH", chunk[:16])
    if tag == EXTENSIBLE:
        tag = int.from_bytes(chunk[24:26], "little")
    if tag not in DECODERS:
        return None
    decode, allowed = DECODERS[tag]
    if bits not in allowed or channels == 0:
        expected = "1 to 64" if tag == PCM else " or ".join(map(str, allowed))
        raise DataError(
            f"{name}: {channels} channels of {bits} bits, expected 1 or more of {expected}"
        )
    return Layout(rate, channels, -(-bits // 8), decode)


def from_integers(raw: Raw) -> Values:
    """Little-endian integers, full scale at -1 and 1; those of one byte are unsigned."""
    width = raw.shape[1]
    if width == 1:
        return (raw[:, 0].astype(np.float32) - np.float32(128)) / np.float32(128)
    container = 2 if width == 2 else 4 if width <= 4 else 8
    wide = np.zeros((len(raw), container), np.uint8)
    wide[:, container - width :] = raw
    values: Values = wide.view(f"<i{container}")[:, 0].astype(np.float32)
    return values * np.float32(2.0 ** (1 - 8 * container))


def from_floats(raw: Raw) -> Values:
    """Floats as they are; what is beyond float32 becomes infinite."""
    with np.errstate(over="ignore", invalid="ignore"):
        return raw.view(f"<f{raw.shape[1]}")[:, 0].astype(np.float32)


def from_a_law(raw: Raw) -> Values:
    """A-law (ITU-T G.711, table 1)."""
    code = raw[:, 0].astype(np.int32) ^ 0x55
    segment = code >> 4 & 7
    step = ((code & 15) << 4) + np.where(segment == 0, 8, 0x108)
    size = step << np.maximum(segment - 1, 0)
    return _scaled(np.where(code & 0x80, size, -size))


def from_mu_law(raw: Raw) -> Values:
    """Mu-law (ITU-T G.711, table 2)."""
    code = ~raw[:, 0].astype(np.int32) & 0xFF
    size = ((((code & 15) << 3) + 0x84) << (code >> 4 & 7)) - 0x84
    return _scaled(np.where(code & 0x80, -size, size))


def _scaled(integers: NDArray[np.int32]) -> Values:
    return integers.astype(np.float32) / np.float32(32768)


DECODERS: dict[int, tuple[Decode, Sequence[int]]] = {
    PCM: (from_integers, range(1, 65)),
    FLOAT: (from_floats, (32, 64)),
    A_LAW: (from_a_law, (8,)),
    MU_LAW: (from_mu_law, (8,)),
}
"""How samples of each format tag are decoded, and of how many bits they may be."""

"""Matrices as ONNX Runtime's `MatMulNBits` takes them: codes in blocks along each row, a scale for
each block."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinyvox.exporters.onnx.graph import Array
from tinyvox.model import Coded, Grid

BITS = (2, 4, 8)
BLOCKS = (16, 32, 64, 128, 256)
"""The bits and the blocks that ONNX Runtime has; larger blocks it has not for all bits."""


@dataclass(frozen=True)
class BlockQuantized:
    """Codes uint8 [out, blocks, bytes], scales float32 [out, blocks], zeros uint8 [out, bytes].

    Without zeros that of every block is in the middle of the codes.
    """

    bits: int
    size: int
    codes: Array
    scales: Array
    zeros: Array | None

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(a.nbytes for a in (self.codes, self.scales, self.zeros) if a is not None)


def block_quantized(matrix: Coded) -> BlockQuantized | None:
    """The same values in blocks, in the fewest bits; None where the codes are on no grid."""
    if not isinstance(matrix.codebook, Grid):
        return None
    codes = matrix.codes.numpy().astype(np.int64)
    zero = np.broadcast_to(matrix.codebook.zero.numpy(), codes.shape[:1])
    size = best_block(codes.shape[1])
    blocks = -(-codes.shape[1] // size)
    scales = np.repeat(matrix.scale.numpy()[:, None], blocks, axis=1)
    for bits in BITS:
        middle = 1 << bits - 1
        moved = codes - zero[:, None] + middle
        if moved.min() >= 0 and moved.max() < 1 << bits:
            return BlockQuantized(bits, size, _blocks(moved, size, bits), scales, None)
        if matrix.codebook.entries <= 1 << bits:
            zeros = joined(np.repeat(zero[:, None], blocks, axis=1), bits)
            return BlockQuantized(bits, size, _blocks(codes, size, bits), scales, zeros)
    return None


def best_block(columns: int) -> int:
    """The block size with the fewest bytes where all blocks of a row have the same scale."""
    return min(BLOCKS, key=lambda size: -(-columns // size) * (size // 2 + 4))


def _blocks(codes: Array, size: int, bits: int) -> Array:
    rows, columns = codes.shape
    padded = np.pad(codes, ((0, 0), (0, -columns % size)))
    return joined(padded, bits).reshape(rows, -1, size * bits // 8)


def joined(codes: Array, bits: int) -> Array:
    """Codes [out, in] with several in a byte, the first in the lowest bits, uint8 [out, bytes]."""
    a_byte = 8 // bits
    padded = np.pad(codes, ((0, 0), (0, -codes.shape[1] % a_byte))).astype(np.uint8)
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    split = padded.reshape(len(codes), -1, a_byte) << shifts
    packed: Array = np.bitwise_or.reduce(split, axis=2).astype(np.uint8)
    return packed

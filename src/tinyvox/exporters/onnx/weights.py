"""Matrices as arrays and operators that give their values, in the form that takes fewest bytes.

`DequantizeLinear` is not used: ONNX Runtime turns it and the product after it into one that rounds
the other factor to 8 bits, and does not compute it when it opens a file. What stands here instead
is computed once, when the file is opened.
"""

from __future__ import annotations

import numpy as np

from tinyvox.exporters.forms import Form
from tinyvox.exporters.onnx.blocks import BlockQuantized, block_quantized
from tinyvox.exporters.onnx.graph import CONTRIBUTED, Array, Graph
from tinyvox.exporters.onnx.packing import Packed, pack
from tinyvox.model import Binary, Coded, Dense, Grid, Matrix, Product, Table, signs

NEAR = 1.1
"""A matrix that stays packed in memory may take so many times the bytes of one that does not."""


class Weights:
    """The tensors of a model in a graph. Each is stored once, however often it is used."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.forms: list[Form] = []
        self._values: dict[int, tuple[object, str]] = {}
        self._packed: dict[int, tuple[object, Packed]] = {}

    def vector(self, name: str, values: Array) -> str:
        """The name of a float32 array, which is stored as it is."""
        before = self.graph.nbytes
        stored = self.graph.floats(values)
        if (added := self.graph.nbytes - before) > 0:
            kind = "float32" if added == 4 * values.size else "float16"
            self.forms.append(Form(name, kind, added))
        return stored

    def values(self, name: str, matrix: Matrix) -> str:
        """The values of a matrix, float32 [out, in], computed from its leaves."""
        if isinstance(matrix, Product):
            left = self.values(f"{name}.left", matrix.left)
            return self.graph.op("MatMul", left, self.values(f"{name}.right", matrix.right))
        known = self._values.get(id(matrix))
        if known is None:
            known = self._values[id(matrix)] = matrix, self._stored(name, matrix)
        return known[1]

    def times(self, x: str, name: str, matrix: Matrix) -> str:
        """The product of a matrix and frames [1, frames, in]: one product for each leaf."""
        if isinstance(matrix, Product):
            inner = self.times(x, f"{name}.right", matrix.right)
            return self.times(inner, f"{name}.left", matrix.left)
        if isinstance(matrix, Coded):
            blocks = block_quantized(matrix)
            if blocks is not None and self._is_near(matrix, blocks):
                return self._by_blocks(x, name, matrix, blocks)
        return self.graph.op("MatMul", x, self.graph.transpose(self.values(name, matrix), 1, 0))

    def _is_near(self, matrix: Coded, blocks: BlockQuantized) -> bool:
        scales = 0 if matrix.shares_scale else 4 * matrix.shape[0]
        return blocks.nbytes <= NEAR * (self._pack(matrix).nbytes + scales)

    def _pack(self, matrix: Coded) -> Packed:
        known = self._packed.get(id(matrix))
        if known is None:
            known = self._packed[id(matrix)] = matrix, pack(matrix.codes.numpy())
        return known[1]

    def _by_blocks(self, x: str, name: str, matrix: Coded, blocks: BlockQuantized) -> str:
        before, graph = self.graph.nbytes, self.graph
        arrays = (blocks.codes, blocks.scales, blocks.zeros)
        inputs = [graph.constant(array) for array in arrays if array is not None]
        settings = {"bits": blocks.bits, "block_size": blocks.size}
        rows, columns = matrix.shape
        if (added := graph.nbytes - before) > 0:  # else the matrix is stored already
            self.forms.append(Form(name, f"MatMulNBits, {blocks.bits} bits", added))
        return graph.op(
            "MatMulNBits", x, *inputs, domain=CONTRIBUTED, K=columns, N=rows, **settings
        )

    def _stored(self, name: str, matrix: Dense | Coded) -> str:
        if isinstance(matrix, Dense):
            return self.vector(name, matrix.values.numpy())
        before, packed = self.graph.nbytes, self._pack(matrix)
        values = decoded(self.graph, matrix, packed)
        form = f"{packed.bits}-bit codes"
        if packed.apart.size:
            form += f", {packed.apart.size / packed.count:.1%} apart"
        if (added := self.graph.nbytes - before) > 0:  # else the matrix is stored already
            self.forms.append(Form(name, form, added))
        return values


def decoded(graph: Graph, matrix: Coded, packed: Packed) -> str:
    """The values of a coded matrix, float32 [out, in], from its packed codes."""
    codes = graph.reshape(unpacked(graph, packed), *matrix.shape)
    values = _levels(graph, matrix, codes)
    if bool((matrix.scale == 1).all()):
        return values
    return graph.op("Mul", values, _column(graph, matrix.scale.numpy()))


def unpacked(graph: Graph, packed: Packed) -> str:
    """The codes, int32 [count], by operators that ONNX has had since version 11."""
    codes = graph.constant(np.array([packed.start], np.int32))
    left = packed.bits
    for width, piece in packed.pieces:
        left -= width
        part = graph.cast(_piece(graph, width, piece, packed.count), "int32")
        if left:
            part = graph.op("Mul", part, graph.constant(np.array([1 << left], np.int32)))
        codes = graph.op("Add", part, codes)
    if not packed.pieces:
        codes = graph.op("Expand", codes, graph.integers(packed.count))
    if not packed.apart.size:
        return codes
    gaps, apart = (graph.cast(graph.constant(v), "int32") for v in (packed.gaps, packed.apart))
    last = graph.op("CumSum", gaps, graph.constant(np.array(0, np.int32)))
    places = graph.op("Sub", last, graph.constant(np.array([1], np.int32)))
    return graph.op("ScatterElements", codes, places, apart, axis=0)


def _piece(graph: Graph, width: int, piece: Array, count: int) -> str:
    """The pieces of this width of all codes, uint8 [count]."""
    if width == 8:
        return graph.constant(piece)
    shifts = graph.constant(np.arange(0, 8, width, dtype=np.uint8))
    bits = graph.op("BitShift", graph.constant(piece[:, None]), shifts, direction="RIGHT")
    base = graph.constant(np.array([1 << width], np.uint8))
    flat = graph.reshape(graph.op("Mod", bits, base), -1)
    if count % (8 // width):
        flat = graph.slice(flat, 0, graph.integers(count), 0)
    return flat


def _levels(graph: Graph, matrix: Coded, codes: str) -> str:
    """What the codes, int32 [out, in], stand for before the row scale."""
    book = matrix.codebook
    if isinstance(book, Grid):
        zero = graph.constant(book.zero.numpy().astype(np.uint8)[:, None])
        return graph.cast(graph.op("Sub", codes, graph.cast(zero, "int32")), "float")
    if isinstance(book, Table) and book.centroids.ndim == 1:
        return graph.op("Gather", graph.floats(book.centroids.numpy()), codes)
    if isinstance(book, Binary):
        each_sign = graph.floats(signs(book.alphas.shape[1]).T.numpy())
        levels = graph.op("MatMul", graph.floats(book.alphas.numpy()), each_sign)
    else:
        groups = graph.constant(matrix.row_group_index.numpy().astype(np.uint8))
        tables = graph.floats(book.centroids.numpy())
        levels = graph.op("Gather", tables, graph.cast(groups, "int32"))
    return graph.op("GatherElements", levels, codes, axis=1)


def _column(graph: Graph, values: Array) -> str:
    """A float32 vector as a column [out, 1]; few values are stored once each."""
    found, places = np.unique(values, return_inverse=True)
    if found.size == 1:
        return graph.constant(found[:, None])
    if found.size > values.size // 2 or found.size > 256:
        return graph.floats(values[:, None])
    index = graph.cast(graph.constant(places.astype(np.uint8)), "int32")
    return graph.op("Gather", graph.floats(found[:, None]), index)

"""Models that hold every layer and every kind of matrix, and files made of bytes by hand."""

from __future__ import annotations

import dataclasses
import struct
import zlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from places import ROOT
from torch import Tensor
from trellis_walk import follow

from tinyvox import _native
from tinyvox.formats.tvx import MAGIC, fields, varint
from tinyvox.model import (
    INPUT,
    Binary,
    Cell,
    Coded,
    Dense,
    Features,
    Grid,
    Layer,
    Matrix,
    Model,
    Node,
    Product,
    SpeechCard,
    Table,
    layers,
)

FORMAT = ROOT / "docs" / "format.md"
Make = Callable[[int, int], Matrix]


def dense(rows: int, columns: int) -> Dense:
    return Dense(torch.randn(rows, columns))


def half(rows: int, columns: int) -> Dense:
    return Dense(torch.randn(rows, columns).half().float())


def coded(rows: int, columns: int, entries: int = 16) -> Coded:
    centroids = torch.randn(entries).sort().values
    codes = torch.randint(0, entries, (rows, columns), dtype=torch.uint8)
    return Coded(codes, Table(centroids), torch.rand(rows) + 0.5)


def skewed(rows: int, columns: int) -> Coded:
    codes = (torch.rand(rows, columns) ** 8 * 5).to(torch.uint8)
    return Coded(codes, Table(torch.arange(5.0)), torch.full((rows,), 0.25))


def product(rows: int, columns: int) -> Product:
    return Product(coded(rows, 3), Product(dense(3, 2), skewed(2, columns)))


def groups_of(rows: int, most: int = 3) -> Tensor:
    """Groups in no order, each with a row; a single one is told too."""
    order = torch.randperm(rows) % most
    return order.to(torch.uint8)


def tables(rows: int, columns: int) -> Coded:
    """A table, a scale and, as they are skewed, a model for each group of rows."""
    group = groups_of(rows)
    count = int(group.max()) + 1
    base = skewed(rows, columns)
    book = Table(torch.randn(count, 5).sort(1).values) if count > 1 else base.codebook
    return Coded(base.codes, book, torch.rand(count)[group.long()], group)


def grid(rows: int, columns: int) -> Coded:
    codes = torch.randint(0, 9, (rows, columns), dtype=torch.uint8)
    return Coded(codes, Grid(9, torch.tensor([4])), torch.full((rows,), 0.1))


def zeros(rows: int, columns: int) -> Coded:
    """A zero for each row, and a scale."""
    codes = torch.randint(0, 9, (rows, columns), dtype=torch.uint8)
    return Coded(codes, Grid(9, torch.arange(rows) % 9), torch.rand(rows))


def group_zeros(rows: int, columns: int) -> Coded:
    """A zero and a scale for each group of rows."""
    base, group = zeros(rows, columns), groups_of(rows)
    zero = torch.tensor([3, 0, 8])[group.long()]
    return Coded(base.codes, Grid(9, zero), base.scale[group.long()], group)


def trellis(rows: int, columns: int) -> Coded:
    codes = torch.from_numpy(follow(rows, columns, 11, 5, rows * columns))
    return Coded(codes, Grid(11, torch.tensor([5]), trellis=True), torch.full((rows,), 0.25))


def trellis_groups(rows: int, columns: int) -> Coded:
    base, group = trellis(rows, columns), groups_of(rows)
    return Coded(base.codes, base.codebook, torch.tensor([1.0, 0.5, 0.1])[group.long()], group)


def binary(rows: int, columns: int) -> Coded:
    codes = torch.randint(0, 8, (rows, columns), dtype=torch.uint8)
    return Coded(codes, Binary(torch.randn(rows, 3).half().float()), torch.ones(rows))


def fine(rows: int, columns: int) -> Coded:
    """Its input is rounded to 16 bits."""
    return dataclasses.replace(coded(rows, columns), fine_input=True)


MATRICES: dict[str, Make] = {
    "dense": dense, "half": half, "coded": coded, "skewed": skewed, "product": product,
    "tables": tables, "grid": grid, "zeros": zeros, "group_zeros": group_zeros, "trellis": trellis,
    "trellis_groups": trellis_groups, "binary": binary, "fine": fine,
}  # fmt: skip


def cell(make: Make, kind: str, size: int, hidden: int) -> Cell:
    rows = layers.GATES[kind] * hidden
    bias_hn = torch.randn(hidden) if kind == "gru" else None
    return Cell(make(rows, size), make(rows, hidden), torch.randn(rows), bias_hn)


def chain(size: int, *stack: Layer, **facts: Any) -> Model:
    names = [INPUT, *(f"{type(layer).__name__}{i}" for i, layer in enumerate(stack))]
    nodes = (
        Node(names[i + 1], layer, (names[i],) * (2 if layer.arity is None else 1))
        for i, layer in enumerate(stack)
    )
    return Model(size, tuple(nodes), **facts)


def recurrent_model(make: Make) -> Model:
    no_bias = Cell(make(12, 7), make(12, 3))
    return chain(
        6,
        layers.Recurrent("lstm", cell(make, "lstm", 6, 5)),
        layers.Recurrent("gru", cell(make, "gru", 5, 4), cell(make, "gru", 5, 3)),
        layers.Recurrent("lstm", None, no_bias),
        layers.Recurrent("rnn_tanh", cell(make, "rnn_tanh", 3, 2)),
        layers.Recurrent("rnn_relu", cell(make, "rnn_relu", 2, 4)),
        layers.Linear(make(3, 4)),
        layers.LogSoftmax(),
    )


def convolution_model(make: Make) -> Model:
    return chain(
        12,
        layers.Unflatten(2),
        layers.Conv2d(make(3, 2 * 2 * 3), torch.randn(3), (2, 3), (2, 1), (1, 0, 1, 2)),
        layers.BatchNorm(torch.randn(3), torch.rand(3), torch.randn(3), torch.randn(3), 1e-3),
        layers.Activation("clipped_relu", 20.0),
        layers.Activation("clipped_relu", None, torch.rand(3) + 0.5),
        layers.Flatten(),
        layers.Conv1d(make(6, 7 * 3), None, 3, 2, 2, (2, 1), 3),
        layers.Activation("relu"),
    )


def join_model(make: Make) -> Model:
    return chain(
        4,
        layers.ContextWindow(2, 1),
        layers.FrameStacking(3, 2),
        layers.Subsample(2),
        layers.LayerNorm(torch.randn(48), torch.randn(48)),
        layers.Add(),
        layers.Concat(),
        layers.Linear(make(5, 96), torch.randn(5)),
        layers.Activation("tanh"),
        layers.Activation("sigmoid"),
    )


def gated_model(make: Make) -> Model:
    """What version 5 brought; `again` has the layer of `one`."""
    one = layers.Linear(make(6, 6), torch.randn(6))
    stack = (
        *(one, layers.Multiply(), layers.Softmax(), layers.Activation("silu")),
        layers.Activation("leaky_relu", slopes=torch.tensor([0.25])),
        layers.Activation("leaky_relu", slopes=torch.randn(6)),
    )
    ends = (layers.Reduce(kind) for kind in layers.REDUCTIONS[:4])
    return chain(6, *stack, one, *ends)


def shared_model(make: Make = coded) -> Model:
    """Two cells and a dense layer, two factors that are shared, and a product that shares none."""
    first, second = make(2, 5), Product(make(2, 3), make(3, 4))
    lstm = Cell(make(20, 6), Product(make(20, 2), first), torch.randn(20))
    rnn = Cell(Product(Product(make(4, 3), make(3, 2)), first), Product(make(4, 2), second))
    return chain(
        6,
        layers.Recurrent("lstm", lstm),
        layers.Recurrent("rnn_tanh", rnn),
        layers.Linear(Product(make(7, 2), second), torch.randn(7)),
        layers.Linear(Product(make(3, 2), make(2, 7))),
    )


def projected_model(make: Make) -> Model:
    """Both ways, one way, and beside a cell that is not projected."""

    def projected(inputs: int, hidden: int, size: int) -> Cell:
        rows = 4 * hidden
        matrices = make(rows, inputs), make(rows, size)
        return Cell(*matrices, torch.randn(rows), None, make(size, hidden))

    return chain(
        6,
        layers.Recurrent("lstm", projected(6, 5, 3), projected(6, 4, 2)),
        layers.Recurrent("lstm", None, projected(5, 4, 3)),
        layers.Recurrent("lstm", cell(make, "lstm", 3, 4), projected(3, 2, 5)),
        layers.Recurrent("gru", cell(make, "gru", 9, 4)),
    )


def varied_model(make: Make) -> Model:
    """What version 6 brought."""

    def peeping(inputs: int, hidden: int) -> Cell:
        plain = cell(make, "lstm", inputs, hidden)
        return dataclasses.replace(plain, peepholes=torch.randn(3 * hidden))

    return chain(
        6,
        layers.Recurrent("lstm", peeping(6, 5), cell(make, "lstm", 6, 3)),
        layers.Slice(2, 7),
        layers.Recurrent("gru_reset_before", cell(make, "gru_reset_before", 5, 4)),
        layers.Recurrent("gru", cell(make, "gru", 4, 4), gates="hard_sigmoid_keras"),
        layers.Recurrent("lstm", None, peeping(4, 4), "hardsigmoid", "relu"),
        layers.Recurrent("rnn_tanh", cell(make, "rnn_tanh", 4, 3), activation="identity"),
        *(layers.Activation(kind) for kind in layers.ACTIVATIONS[11:18]),
        layers.Linear(make(12, 3)),
        layers.Unflatten(2),
        layers.Conv2d(make(4, 4), None, (2, 2), (1, 1), (1, 0, 0, 1), (2, 3), 2),
    )


def signals_model(make: Make) -> Model:
    """What version 7 brought: layers over time and bands, norms, reciprocals."""
    pools = (layers.Pool(kind, (2, 2), (1, 1), (1, 0, 0, 1)) for kind in layers.POOLINGS)
    stack = (
        *(layers.Unflatten(2), *pools, layers.Pool("mean", (1, 2), (2, 2)), layers.Flatten()),
        *(layers.Take((3, -1, 0, 1, 2, 2)), layers.Unflatten(3), layers.Take((1, -1, 0, 1), 1)),
        *(layers.Flatten(), layers.FrameUnstacking(2), layers.Linear(make(4, 6))),
        layers.LayerNorm(torch.randn(4), torch.randn(4), 1e-3, "rms", 2),
        layers.LayerNorm(torch.randn(4), torch.randn(4), groups=2),
        *(layers.Activation("reciprocal"), layers.Softmax("time"), layers.Softmax()),
    )
    model = chain(8, *stack)
    ends = [f"end{i}" for i in range(4)]
    last = model.output
    nodes = (
        *(
            Node(end, layers.Reduce(kind), (last,))
            for end, kind in zip(ends, layers.REDUCTIONS[4:], strict=True)
        ),
        Node("both", layers.Add(), tuple(ends)),
        Node("spread", layers.Spread(), ("both", last)),
        Node("out", layers.Multiply(), ("spread", last)),
    )
    return Model(8, (*model.nodes, *nodes))


def token_model(make: Make) -> Model:
    """Token ids to scores of the next: a linear layer with the matrix of the embedding."""
    table = make(9, 5)
    return chain(
        1,
        layers.Embedding(table),
        layers.Recurrent("lstm", cell(make, "lstm", 5, 5)),
        layers.Linear(table, torch.randn(9)),
        layers.LogSoftmax(),
    )


def cell_model(make: Make) -> Model:
    """The recurrent layers that version 7 brought."""

    def normed(kind: str, inputs: int | None, hidden: int) -> Cell:
        rows = layers.GATES[kind] * hidden
        weight = None if inputs is None else make(rows, inputs)
        vectors = {"norm_hh": torch.rand(rows), "bias_hh": torch.randn(rows)}
        if kind == "lstm":
            vectors["norm_cell"] = torch.rand(2 * hidden)
        return Cell(weight, make(rows, hidden), torch.randn(rows), **vectors)

    return chain(
        6,
        layers.Recurrent("lstm", normed("lstm", 6, 4), None, eps=1e-3),
        layers.Recurrent("lstm", None, normed("lstm", 4, 4), carries_norm=False),
        layers.Recurrent("li_gru", normed("li_gru", 4, 2), activation="relu"),
        layers.Recurrent("rnn_relu", Cell(None, make(2, 2)), normed("rnn_relu", None, 2)),
        layers.ElementwiseRecurrence(),
        layers.ElementwiseRecurrence(torch.randn(4), reverse=True),
        layers.Recurrent("gru", Cell(make(6, 4), make(6, 2))),
    )


MODELS = {
    "recurrent": recurrent_model,
    "projected": projected_model,
    "convolution": convolution_model,
    "join": join_model,
    "gated": gated_model,
    "varied": varied_model,
    "signals": signals_model,
    "tokens": token_model,
    "cells": cell_model,
}


def example() -> Model:
    """The model of the example in docs/format.md."""
    codes = torch.tensor([[0, 1, 2, 3], [3, 2, 1, 0], [1, 1, 2, 2]], dtype=torch.uint8)
    table = Table(torch.tensor([-1.5, -0.5, 0.5, 1.5]))
    weight = Coded(codes, table, torch.tensor([0.25, 0.5, 1.0]))
    features = Features(kind="log_mel", bands=4, high_hz=8000.0)
    return Model(
        4,
        (
            Node("out", layers.Linear(weight, torch.tensor([0.0, 0.1, -1.0])), (INPUT,)),
            Node("softmax", layers.LogSoftmax(), ("out",)),
        ),
        SpeechCard(features=features, tokens=("", "a", "é"), blank=0),
        {"source": "example"},
    )


def assert_same(a: Any, b: Any) -> None:
    """Equal all the way down: frozen values compare by identity otherwise."""
    assert type(a) is type(b)
    if isinstance(a, Tensor):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)
    elif dataclasses.is_dataclass(a):
        for field in dataclasses.fields(a):
            assert_same(getattr(a, field.name), getattr(b, field.name))
    elif isinstance(a, tuple):
        assert len(a) == len(b)
        for left, right in zip(a, b, strict=True):
            assert_same(left, right)
    else:
        assert a == b


def seal(*sections: tuple[bytes, bytes], version: int = 2, end: int = 0) -> bytes:
    """A file of these sections with right sizes and checksums; `end` is added to its size."""
    offset = 24 + 24 * len(sections) + 4
    table = b""
    for tag, data in sections:
        table += struct.pack("<4sIQQ", tag, zlib.crc32(data), offset, len(data))
        offset += len(data)
    head = struct.pack("<8sIIQ", MAGIC, version, len(sections), offset + end) + table
    return head + struct.pack("<I", zlib.crc32(head)) + b"".join(data for _, data in sections)


def sections_of(data: bytes) -> list[tuple[bytes, bytes]]:
    (count,) = struct.unpack_from("<I", data, 12)
    entries = [struct.unpack_from("<4sIQQ", data, 24 + 24 * i) for i in range(count)]
    return [(tag, data[at : at + length]) for tag, _, at, length in entries]


def error_of(data: bytes) -> str:
    with pytest.raises(_native.FormatError) as caught:
        _native.parse_file(data)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    return message


def try_to_parse(data: bytes) -> dict[str, Any] | None:
    """What the bytes hold, None where they are refused with the one expected error."""
    try:
        return _native.parse_file(data)
    except _native.FormatError:
        return None


# Files made by hand.


def v(*numbers: int) -> bytes:
    return b"".join(map(varint, numbers))


def t(text: str) -> bytes:
    return fields.text(text)


def vector(length: int, value: float = 0.0) -> bytes:
    return b"\x09" + v(length) + struct.pack("<e", value) * length


def matrix(rows: int, columns: int) -> bytes:
    return b"\x0a" + v(rows, columns) + bytes(2 * rows * columns)


def model(*nodes: bytes, size: int = 4) -> bytes:
    return v(size, len(nodes)) + b"".join(nodes)


def linear(weight: bytes, bias: bytes = b"\0", name: str = "n", source: int = 0) -> bytes:
    return t(name) + v(0, source) + weight + bias


def coded_record(rows: int, columns: int, payload: bytes, scale: float = 1.0) -> bytes:
    """Two centroids, one scale, entropy-coded."""
    head = b"\x3b" + v(rows, columns, 0, 1, 2, 1)
    return head + struct.pack("<3e", -1, 1, scale) + v(len(payload)) + payload


def constant_payload() -> bytes:
    """Every code is 0, as many as one likes."""
    return b"\x01\x80\x20\x00" + STATES


def halves(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}e", *values)


def grid_record(
    *zeros: int, rows: int = 2, groups: bytes = b"\x01", flags: int = 40, kind: int = 1
) -> bytes:
    """Three levels, scales of one, packed codes of 0; four columns."""
    head = bytes([3 | flags]) + v(rows, 4, kind) + groups + v(3, len(zeros)) + bytes(zeros)
    scales = groups[0] if flags & 32 else rows
    return head + halves(*[1] * scales) + b"\0" + bytes(rows)


def trellis_record(*zeros: int, codes: bytes) -> bytes:
    head = b"\x2b" + v(2, 4, 2, 1, 3, len(zeros)) + bytes(zeros)
    return head + halves(1) + codes


def two_groups(*groups: int) -> bytes:
    """Packed, of at most eight rows."""
    return v(2, 0) + bytes([sum(group << row for row, group in enumerate(groups))])


STATES = 8 * (1 << 16).to_bytes(4, "little")


def deep(levels: int) -> bytes:
    return matrix(4, 4) if levels == 0 else b"\x04" + deep(levels - 1) + matrix(4, 4)


def product_record(left: bytes, right: bytes) -> bytes:
    return b"\x04" + left + right


def shared_record(left: bytes, product: int) -> bytes:
    return b"\x05" + left + v(product)


def cells(*tensors: bytes, kind: int = 0, slots: int = 8) -> bytes:
    return t("n") + v(1, 0, kind) + b"".join(tensors) + bytes(slots - len(tensors))


def activation(kind: int, limit: float = 0.0, limits: bytes = b"\0", slopes: bytes = b"") -> bytes:
    return t("n") + v(6, 0, kind) + struct.pack("<f", limit) + limits + slopes


def norm(name: str, *vectors: bytes, eps: float = 1e-5) -> bytes:
    return t("n") + v(4 if name == "batch" else 5, 0) + struct.pack("<f", eps) + b"".join(vectors)

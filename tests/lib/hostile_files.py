"""Small files that ask for much: memory, time to open, or time to run."""

from __future__ import annotations

import struct

import torch
from tvx_files import STATES, cells, chain, linear, matrix, model, product_record, seal, t, v

from tinyvox.formats.tvx import encode
from tinyvox.model import Binary, Coded, Table
from tinyvox.model.layers import Linear

LARGEST = 1 << 16
"""Bytes of the files."""

Layers = list[bytes]


def zeros(rows: int, columns: int, groups: int = 1) -> bytes:
    """A matrix of zeros on a grid of 256 levels, with one scale, in as few bytes as may be.

    Every frequency that is written allows 4096 codes more.
    """
    head = b"\x6b" if groups > 1 else b"\x2b"
    index = b""
    if groups > 1:  # rows in turn, packed
        bits = (groups - 1).bit_length()
        packed = sum((row % groups) << (row * bits) for row in range(rows))
        index = b"\0" + packed.to_bytes((rows * bits + 7) // 8, "little")
    book = v(1, groups) + index + v(256, 1) + b"\0" + struct.pack("<e", 1) * groups
    payload = (b"\x01\x80\x20" + bytes(255)) * groups + STATES
    return head + v(rows, columns) + book + v(len(payload)) + payload


def tables(rows: int, columns: int, entries: int = 256) -> bytes:
    """A table for each of two groups of rows."""
    group = (torch.arange(rows) % 1000 == 0).to(torch.uint8)
    codes = torch.zeros(rows, columns, dtype=torch.uint8)
    codebook = Table(torch.randn(2, entries).half().float())
    return encode(chain(columns, Linear(Coded(codes, codebook, torch.ones(rows), group))))


def binary(rows: int) -> bytes:
    """Alphas of its own for each row."""
    codes = torch.zeros(rows, 1, dtype=torch.uint8)
    matrix = Coded(codes, Binary(torch.ones(rows, 8)), torch.ones(rows))
    return encode(chain(1, Linear(matrix)))


def conv1d(
    weight: bytes, kernel: int = 1, groups: int = 1, dilation: int = 1, after: int = 0,
    source: int = 0, name: str = "n",
) -> bytes:  # fmt: skip
    return t(name) + v(2, source, kernel, 1, dilation, 0, after, groups) + weight + b"\0"


def conv2d(rows: int, columns: int, kernel: tuple[int, int], padding: int, source: int) -> bytes:
    settings = v(3, source, *kernel, 1, 1, 0, 0, padding, padding)
    return t("n") + settings + zeros(rows, columns) + b"\0"


def grouped(groups: int, rows: int, size: int, kernel: int) -> bytes:
    weight = zeros(groups * rows, size * kernel)
    return file([conv1d(weight, kernel, groups)], groups * size)


def in_a_row(make: Layers, size: int) -> bytes:
    """As many of the layers as there is room for."""
    chosen, used = [], 200
    for layer in make:
        used += len(layer)
        if used > LARGEST:
            break
        chosen.append(layer)
    return file(chosen, size)


def file(layers: Layers, size: int, card: bytes = b"") -> bytes:
    sections = [(b"MODL", model(*layers, size=size))]
    return seal(*sections, *([(b"SPCH", card)] if card else []), version=4)


def named(i: int) -> str:
    return f"{i:x}"


def card(rate: int, window: float, hop: float, bands: int, kind: int = 0) -> bytes:
    head = b"\x01" + v(kind, rate, bands, bands) + struct.pack("<4f", window, hop, 0, rate / 2)
    return head + v(1, 0) + t("")


def spoken(
    rate: int, window: float, hop: float, bands: int, wide: bytes = b"", kind: int = 0
) -> bytes:
    """With a matrix `wide` whose result another makes one value of."""
    layers = [linear(wide, name="wide")] if wide else []
    layers.append(linear(zeros(1, bands), name="out"))
    return file(layers, bands, card(rate, window, hop, bands, kind))


def wide_lstm(hidden: int) -> bytes:
    rows = 4 * hidden
    return cells(
        product_record(zeros(rows, 1), zeros(1, 4)),
        product_record(zeros(rows, 1), zeros(1, hidden)),
        slots=10,
    )


def square(size: int) -> bytes:
    groups = -(-size * size // (4096 * 258))
    return zeros(size, size, min(groups, 200))


def deep_product(size: int) -> bytes:
    weight = zeros(size, size)
    for _ in range(4):
        weight = product_record(weight, zeros(size, size))
    return file([linear(weight)], size)


def add(*inputs: int, name: str = "sum") -> bytes:
    return t(name) + v(12, len(inputs), *inputs)


def waiting() -> bytes:
    """A wide signal that waits for one that looks ahead."""
    ahead = conv1d(zeros(1, 4096), 4096, dilation=200, after=4096, name="ahead")
    wide = linear(zeros(4096, 1), name="wide", source=0)
    spread = linear(zeros(4096, 1), name="spread", source=1)
    return file([ahead, wide, spread, add(2, 3)], 1)


MEMORY = r"takes at least [\d ]+ bytes of memory, the limit is [\d ]+; pass a larger max_memory"
REACH = r"look over \d+ frames of the input, the limit is"
WORK = r"features take \d+ steps a second of audio, the limit is \d+; take a longer hop"
PRODUCTS = r"takes [\d ]+ products a second of audio, the limit is [\d ]+; take fewer weights"

FILES: dict[str, tuple[bytes, str | None]] = {
    "many groups": (grouped(1 << 17, 1, 1, 1), MEMORY),
    "depthwise": (grouped(1 << 14, 1, 1, 1), None),
    "depthwise, long": (grouped(1 << 10, 1, 1, 1000), None),
    "groups of 8 rows": (grouped(1 << 14, 8, 1, 1), None),
    "groups of 9 rows": (grouped(1 << 12, 9, 4, 8), None),
    "groups of 40 rows": (grouped(1 << 10, 40, 4, 4), None),
    "eight groups": (grouped(8, 1, 1 << 7, 1 << 10), None),
    "seven groups": (grouped(7, 1, 1 << 7, 1 << 10), MEMORY),
    "one large matrix": (file([linear(square(14000))], 14000), MEMORY),
    "matrices in a row": (
        in_a_row([linear(zeros(1000, 1000), name=named(i), source=i) for i in range(300)], 1000),
        MEMORY,
    ),
    "matrices that fit": (
        file([linear(zeros(1000, 1000), name=named(i), source=i) for i in range(18)], 1000),
        None,
    ),
    "rows": (in_a_row([linear(zeros(1 << 20, 1), name=named(i)) for i in range(300)], 1), MEMORY),
    "columns": (file([linear(zeros(1, 1 << 20))], 1 << 20), MEMORY),
    "columns in a row": (
        in_a_row([linear(zeros(1, 1 << 20), name=named(i)) for i in range(60)], 1 << 20),
        MEMORY,
    ),
    "tables": (tables(1 << 18, 1), MEMORY),
    "tables that fit": (tables(1 << 16, 1), None),
    "tables of four": (tables(1 << 16, 1, 4), None),
    "alphas": (binary(3000), None),
    "product": (file([linear(product_record(zeros(1 << 20, 1), zeros(1, 1 << 20)))], 1 << 20),
                MEMORY),
    "deep product": (deep_product(1000), None),
    "lstm": (file([wide_lstm(1 << 18)], 4), MEMORY),
    "waiting": (waiting(), MEMORY),
    "look-ahead": (
        in_a_row([conv1d(matrix(1, 1), after=4096, name=named(i), source=i) for i in range(4000)],
                 1),
        REACH,
    ),
    "dilations": (
        in_a_row([conv1d(matrix(1, 2), 2, dilation=4096, name=named(i), source=i)
                  for i in range(4000)], 1),
        REACH,
    ),
    "subsampling": (
        in_a_row([t(named(i)) + v(9, i, 4 if i < 10 else 1) for i in range(4090)], 1), REACH
    ),
    "sums": (in_a_row([t(named(i)) + v(12, 64, *([i] * 64)) for i in range(4000)], 1), None),
    "wide sums": (file([add(*([0] * 64))], 1 << 19), MEMORY),
    "windows": (file([t("n") + v(7, 0, 4096, 4096)], 127), MEMORY),
    "windows in a row": (
        in_a_row([t(named(i)) + v(7, 0, 4096, 4096) for i in range(60)], 127), MEMORY
    ),
    "two dimensions": (
        file([t("c") + v(10, 0, 1), conv2d(100, 1000, (1, 1000), 4096, 1)], 1000), MEMORY
    ),
    "bands": (
        file([t("c") + v(10, 0, 1), conv2d(100, 5000, (5, 1000), 3000, 1)], 1000), PRODUCTS
    ),
    "entropy models": (file([linear(zeros(350, 1 << 16, groups=200))], 1 << 16), MEMORY),
    "products": (
        spoken(192_000, 2 / 192, 1 / 192, 8, zeros(1 << 17, 8)), PRODUCTS
    ),
    "features of a second for each sample": (spoken(192_000, 1000, 1 / 192, 80), WORK),
    "features of two samples": (spoken(192_000, 2 / 192, 1 / 192, 256, kind=1), WORK),
    "features of a second": (spoken(192_000, 1000, 1000, 256), None),
    "features of TensorFlow": (spoken(192_000, 1000, 1000, 256, kind=2), None),
}  # fmt: skip
"""Each file, and the error of `tinyvox.open`; None: it opens."""

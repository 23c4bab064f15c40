"""The .tvx file: files made by hand, each wrong in one place."""

from __future__ import annotations

import math
import struct

import pytest
import torch
from tvx_files import (
    STATES,
    activation,
    cells,
    coded_record,
    constant_payload,
    deep,
    error_of,
    grid_record,
    linear,
    matrix,
    model,
    norm,
    product_record,
    seal,
    shared_record,
    t,
    trellis_record,
    try_to_parse,
    two_groups,
    v,
    vector,
)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


WRONG = {
    "no layers": (model(), "model: number of layers is 0, expected 1 to 4096"),
    "input size": (model(linear(matrix(2, 4)), size=0), "input size is 0"),
    "bytes after": (model(linear(matrix(2, 4))) + b"\0", "has 1 bytes too many"),
    "nameless": (model(linear(matrix(2, 4), name="")), "layer name '' is used twice, reserved or"),
    "reserved": (model(linear(matrix(2, 4), name="input")), "layer name 'input' is used twice"),
    "same names": (model(linear(matrix(4, 4)), linear(matrix(4, 4))), "name 'n' is used twice"),
    "bad utf-8": (model(b"\x02\xc0\x80" + v(14, 0)), "a layer name is not UTF-8"),
    "surrogate": (model(b"\x03\xed\xa0\x80" + v(14, 0)), "a layer name is not UTF-8"),
    "control": (model(t("a\x1b[2J") + v(14, 0)), "holds control characters"),
    "kind": (model(t("n") + v(15, 0)), "layer 'n': kind of layer is 15, expected 0 to 14"),
    "long varint": (model(t("n") + b"\x8e\x00\x00"), "kind of layer is not written in its short"),
    "endless varint": (b"\xff" * 9, "input size is not written in its shortest form"),
    "itself": (model(linear(matrix(2, 4), source=1)), "layer 'n': input is 1, expected 0 to 0"),
    "one input": (model(t("n") + v(12, 1, 0)), "number of inputs is 1, expected 2 to 64"),
    "no weight": (model(linear(b"\0")), "layer 'n': weight: is absent"),
    "vector for matrix": (model(linear(vector(4))), "weight: is a vector, expected a matrix"),
    "matrix for vector": (model(linear(matrix(2, 4), matrix(2, 1))), "bias: is a matrix"),
    "tensor kind": (model(linear(b"\x05")), "weight: kind of tensor is 5, expected 0 to 4"),
    "tensor flags": (model(linear(b"\x12")), "weight: a tensor has flags that its kind"),
    "unknown flag": (model(linear(b"\x83")), "weight: a tensor has flags that its kind"),
    "no rows": (model(linear(matrix(0, 4))), "weight: rows is 0, expected 1 to 1048576"),
    "cut off": (model(linear(matrix(2, 4)[:-2])), "weight: needs 16 more bytes where 15 are"),
    "nan": (model(linear(matrix(2, 4), vector(2, math.nan))), "bias: holds NaN or infinity"),
    "infinity": (model(linear(matrix(2, 4), vector(2, math.inf))), "bias: holds NaN or infinity"),
    "input misfit": (model(linear(matrix(2, 3))), "input size is 4, expected 3"),
    "bias misfit": (model(linear(matrix(2, 4), vector(3))), "bias length is 3, expected 2"),
    "factor misfit": (model(linear(b"\x04" + matrix(2, 3) + matrix(2, 4))), "factors do not fit"),
    "factor absent": (model(linear(b"\x04" + matrix(2, 3) + b"\0")), "a factor is not a matrix"),
    "deep": (model(linear(deep(5))), "products lie more than 4 deep"),
    "very deep": (model(linear(b"\x04" * 100_000)), "products lie more than 4 deep"),
    "bomb, one matrix": (
        model(linear(coded_record(1 << 15, 1 << 14, constant_payload()))),
        "a matrix of 32768 x 16384 weights, expected 2^28 at most",
    ),
    "bomb, ratio": (
        model(linear(coded_record(1 << 14, 1 << 14, constant_payload()))),
        "decodes 36 bytes to 268435456 codes, expected at most 4096 a byte",
    ),
    "bomb, dense": (model(linear(b"\x02" + v(1 << 14, 1 << 14))), "needs 1073741824 more bytes"),
    "bomb, packed": (
        model(linear(b"\x3b" + v(1 << 14, 1 << 14, 0, 1, 2, 1) + bytes(6) + v(0))),
        "needs 33554432 more bytes where 1 are left",
    ),
    "scale overflows": (
        model(linear(b"\x13" + v(1, 4, 0, 1, 2, 1) + struct.pack("<2ef", 2, 2, 3e38))),
        "levels times scales overflow",
    ),
    "alphas overflow": (
        model(linear(b"\x03" + v(1, 4, 3, 1, 4) + struct.pack("<3f", 1e38, 1e38, 1))),
        "levels times scales overflow",
    ),
    "steps overflow": (
        model(linear(b"\x03" + v(1, 4, 1, 1, 2, 1, 0) + struct.pack("<f", 1e38))),
        "levels times scales overflow",
    ),
    "codebook": (model(linear(b"\x3b" + v(1, 4, 4))), "kind of codebook is 4, expected 0 to 3"),
    "one centroid": (model(linear(b"\x3b" + v(1, 4, 0, 1, 1))), "number of entries is 1, expected"),
    "many centroids": (model(linear(b"\x3b" + v(1, 4, 0, 1, 257))), "number of entries is 257"),
    "no group": (model(linear(b"\x3b" + v(1, 4, 0, 0))), "number of groups is 0, expected 1 to 1"),
    "more groups than rows": (
        model(linear(b"\x3b" + v(2, 4, 0, 3))),
        "number of groups is 3, expected 1 to 2",
    ),
    "many groups": (
        model(linear(b"\x3b" + v(999, 4, 0, 257))),
        "number of groups is 257, expected 1 to 256",
    ),
    "group without rows": (
        model(linear(b"\x3b" + v(3, 4, 0, 3, 0) + b"\x22" + v(2, 3) + bytes(18) + v(0) + bytes(2))),
        "group 1 has no rows",
    ),
    "group outside": (
        model(linear(b"\x3b" + v(3, 4, 0, 3, 0) + b"\x3f")),
        "code 3 lies outside a table of 3",
    ),
    "group bomb": (
        model(linear(b"\x3b" + v(1 << 20, 4, 0, 2, 36) + constant_payload())),
        "decodes 36 bytes to 1048576 codes, expected at most 4096 a byte",
    ),
    "tables": (
        model(linear(b"\x3b" + v(8, 4, 0, 3, 0) + b"\x24\0" + v(2, 2))),
        "2 tables, expected one, or one for each of 3 groups",
    ),
    "two tables of one group": (
        model(linear(b"\x3b" + v(8, 4, 0, 1, 2, 2))),
        "number of tables is 2, expected 1 to 1",
    ),
    "zero outside": (model(linear(grid_record(3))), "a zero lies outside a grid of 3"),
    "no zero": (model(linear(grid_record())), "number of zeros is 0, expected 1 to 1"),
    "zeros of one scale": (model(linear(grid_record(1, 1))), "number of zeros is 2, expected 1 to"),
    "zeros of some rows": (
        model(linear(grid_record(1, 1, rows=3, flags=8))),
        "2 zeros, expected one, or as many as scales",
    ),
    "zeros of rows, scales of groups": (
        model(linear(grid_record(1, 1, 1, rows=3, groups=two_groups(0, 1, 0)))),
        "number of zeros is 3, expected 1 to 2",
    ),
    "zeros of a trellis": (
        model(linear(grid_record(1, 1, kind=2, flags=8))),
        "2 zeros, expected one",
    ),
    "levels of a grid": (model(linear(grid_record(1, flags=56))), "a grid has the flag of levels"),
    "model a group": (
        model(linear(grid_record(1, flags=104))),
        "a model for each group, but there is one group",
    ),
    "entries of bits": (
        model(linear(b"\x3b" + v(1, 4, 3, 1, 6))),
        "binary codes have 6 entries, expected a power of 2",
    ),
    "trellis, packed": (
        model(linear(trellis_record(1, codes=v(0) + bytes(2)))),
        "codes of a trellis are packed, expected rANS",
    ),
    "trellis, not followed": (
        model(linear(trellis_record(1, codes=v(38) + b"\x01\x80\x20" + bytes(3) + STATES))),
        "a code does not follow the trellis",
    ),
    "absent model": (
        model(linear(trellis_record(0, codes=v(34) + bytes(2) + STATES))),
        "a code has a model without frequencies",
    ),
    "code outside": (
        model(linear(b"\x3b" + v(1, 4, 0, 1, 3, 1) + bytes(8) + b"\0\xff")),
        "code 3 lies outside a table of 3",
    ),
    "bits after": (
        model(linear(b"\x3b" + v(3, 1, 0, 1, 2, 1) + bytes(6) + b"\0\x08")),
        "bits after the last code are not zero",
    ),
    "codes' end": (
        model(linear(coded_record(2, 4, constant_payload()[:-1] + b"\x01"))),
        "do not end where they should",
    ),
    "no cell": (model(cells()), "has no cell"),
    "half a cell": (model(cells(matrix(4, 4))), "a cell needs both weight_ih and weight_hh"),
    "bias alone": (model(cells(b"\0", b"\0", vector(4))), "a cell needs both"),
    "cell kind": (model(cells(kind=4)), "kind is 4, expected 0 to 3"),
    "gates": (model(cells(matrix(3, 4), matrix(4, 1))), "weight_ih is 3 x 4, expected 4 x 4"),
    "bias_hn": (
        model(cells(matrix(4, 4), matrix(4, 1), b"\0", vector(1))),
        "only a GRU has bias_hn",
    ),
    "variance": (
        model(norm("batch", vector(4), vector(4, -1.0), vector(4), vector(4))),
        "variance plus eps is not above 0",
    ),
    "eps": (model(norm("layer", vector(4), vector(4), eps=-1.0)), "eps is below 0"),
    "activation": (model(activation(1, 0)), "limit is 0.000000"),
    "no limit": (model(activation(0, 1)), "clipped_relu alone"),
    "two limits": (model(activation(1, 1, vector(4, 1))), "limit is 1.000000; clipped_relu alone"),
    "limits of relu": (model(activation(0, 0, vector(4, 1))), "only a clipped_relu has limits"),
    "limits misfit": (model(activation(1, 0, vector(3, 1))), "limits length is 3, expected 4"),
    "limit of zero": (model(activation(1, 0, vector(4, 0))), "a limit is 0.000000, expected above"),
    "limit below": (model(activation(1, 0, vector(4, -1))), "a limit is -1.000000, expected above"),
    "endless limit": (
        model(activation(1, 0, vector(4, math.inf))),
        "limits: holds NaN or infinity",
    ),
    "limits as matrix": (model(activation(1, 0, matrix(4, 1))), "limits: is a matrix, expected"),
    "kernel": (model(t("n") + v(2, 0, 0)), "kernel is 0, expected 1 to 4096"),
    "groups": (
        model(t("n") + v(2, 0, 1, 1, 1, 0, 0, 2) + matrix(3, 2) + b"\0"),
        "output channels modulo groups is 1, expected 0",
    ),
    "columns": (
        model(t("n") + v(2, 0, 3, 1, 1, 0, 0, 1) + matrix(3, 13) + b"\0"),
        "weight columns modulo kernel is 1, expected 0",
    ),
    "flat conv2d": (model(t("n") + v(3, 0, *[1] * 8) + matrix(1, 1) + b"\0"), "takes frames of"),
    "wide kernel": (
        model(
            t("c") + v(10, 0, 2),
            t("n") + v(3, 1, 1, 3, 1, 1, 0, 0, 0, 0) + matrix(1, 6) + b"\0",
        ),
        "a kernel of 3 bands does not fit 2",
    ),
    "unflatten": (model(t("n") + v(10, 0, 3)), "input size modulo channels is 1, expected 0"),
    "not flat": (model(t("c") + v(10, 0, 2), t("n") + v(14, 1)), "takes flat frames, found 2 x 2"),
    "sum": (model(t("c") + v(7, 0, 0, 1), t("n") + v(12, 2, 0, 1)), "channels of an input is 8"),
    "frame rates": (model(t("c") + v(9, 0, 2), t("n") + v(13, 2, 0, 1)), "input frames to a frame"),
    "signal": (model(t("n") + v(7, 0, 4096, 4096), size=1 << 20), "more than 2^20 values a frame"),
    "rate": (
        model(*(t(str(i)) + v(9, i, 4096) for i in range(2))),
        "layer '1': needs more than 2^20 input frames a frame",
    ),
    "memory": (
        model(*(t(str(i)) + v(14, i) for i in range(65)), size=1 << 20),
        "layer '64': the frames of the model hold more than 2^26 values",
    ),
    "history": (
        model(
            t("n") + v(2, 0, 4096, 1, 4096, 4096, 4096, 4) + matrix(4, 4096) + b"\0"
        ),
        "the frames of the model hold more than 2^26 values",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_record_is_refused_and_named(case: str) -> None:
    body, message = WRONG[case]
    assert message in error_of(seal((b"MODL", body)))


FIRST = linear(product_record(matrix(4, 2), matrix(2, 4)), name="a")
"""A product of which others may take the right factor, 2 x 4."""


WRONG_SHARED = {
    "no product": (
        model(linear(shared_record(matrix(4, 2), 0))),
        "layer 'n': weight: shares a factor, but no product comes before it",
    ),
    "itself": (
        model(FIRST, linear(shared_record(matrix(4, 2), 1), source=1)),
        "layer 'n': weight: product whose factor is shared is 1, expected 0 to 0",
    ),
    "far": (
        model(FIRST, linear(shared_record(matrix(4, 2), (1 << 32) - 1), source=1)),
        "product whose factor is shared is 4294967295, expected 0 to 0",
    ),
    "later": (
        model(linear(shared_record(matrix(4, 2), 0)), FIRST),
        "shares a factor, but no product comes before it",
    ),
    "another that shares": (
        model(
            FIRST,
            linear(shared_record(matrix(4, 2), 0), name="b", source=1),
            linear(shared_record(matrix(4, 2), 1), source=2),
        ),
        "layer 'n': weight: product whose factor is shared is 1, expected 0 to 0",
    ),
    "inside a product": (
        model(
            FIRST,
            linear(product_record(shared_record(matrix(4, 2), 0), matrix(4, 4)), source=1),
        ),
        "a product with a shared factor is itself a factor",
    ),
    "product inside a product": (
        model(
            linear(matrix(4, 4), name="a"),
            linear(
                b"\x05" + product_record(matrix(4, 3), matrix(3, 2)) + v(0), source=1
            ),
        ),
        "shares a factor, but no product comes before it",
    ),
    "rank": (
        model(FIRST, linear(shared_record(matrix(4, 3), 0), source=1)),
        "factors do not fit: 3 columns times 2 rows",
    ),
    "columns": (
        model(
            linear(product_record(matrix(3, 2), matrix(2, 4)), name="a"),
            linear(shared_record(matrix(4, 2), 0), source=1),
        ),
        "layer 'n': input size is 3, expected 4",
    ),
    "no left": (model(FIRST, linear(b"\x05\0\0", source=1)), "a factor is not a matrix"),
    "vector": (
        model(FIRST, linear(shared_record(vector(2), 0), source=1)),
        "a factor is not a matrix",
    ),
    "cut off": (model(FIRST, b"\x01n" + v(0, 1) + b"\x05" + matrix(4, 2)), "needs 1 more bytes"),
    "flags": (model(FIRST, linear(b"\x0d" + matrix(4, 2) + v(0), source=1)), "has flags that its"),
    "kind": (model(linear(b"\x06")), "weight: kind of tensor is 6, expected 0 to 5"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG_SHARED)
def test_a_wrong_shared_factor_is_refused_and_named(case: str) -> None:
    body, message = WRONG_SHARED[case]
    assert message in error_of(seal((b"MODL", body), version=3))


def test_version_2_knows_no_shared_factors() -> None:
    body = model(FIRST, linear(shared_record(matrix(4, 2), 0), source=1))
    assert try_to_parse(seal((b"MODL", body), version=3))
    assert "kind of tensor is 5, expected 0 to 4" in error_of(seal((b"MODL", body)))


def test_a_shared_factor_counts_against_the_limit_each_time() -> None:
    """A few bytes a layer must not make work without bounds."""
    size = 1 << 16
    nodes = [linear(product_record(matrix(1, 4), matrix(4, size)), name="0")]
    nodes += [linear(shared_record(matrix(1, 4), 0), name=str(i)) for i in range(1, 2048)]
    message = error_of(seal((b"MODL", model(*nodes, size=size)), version=3))
    assert "layer '2047': weight: the file holds more than 2^29 weights" in message
    assert try_to_parse(seal((b"MODL", model(*nodes[:-1], size=size)), version=3))


def projected_cell(weight_hh: bytes, weight_hr: bytes, kind: int = 0) -> bytes:
    """A cell of three units, four inputs, 12 rows."""
    rows = 12 if kind == 0 else 9
    return cells(matrix(rows, 4), weight_hh, b"\0", b"\0", weight_hr, kind=kind, slots=10)


WRONG_PROJECTED = {
    "size": (projected_cell(matrix(12, 2), matrix(3, 3)), "weight_hr is 3 x 3, expected 2 x 3"),
    "rows": (projected_cell(matrix(8, 2), matrix(2, 3)), "weight_hh is 8 x 2, expected 12 x 2"),
    "gru": (projected_cell(matrix(9, 2), matrix(2, 3), kind=1), "only an LSTM has weight_hr"),
    "vector": (projected_cell(matrix(12, 2), vector(3)), "forward.weight_hr: is a vector"),
    "alone": (cells(*[b"\0"] * 9, matrix(2, 3), slots=10), "a cell needs both weight_ih and"),
    "no state": (projected_cell(b"\0", matrix(2, 3)), "a cell needs both weight_ih and"),
    "cut off": (cells(slots=9), "needs 1 more bytes"),
}


@pytest.mark.parametrize("case", WRONG_PROJECTED)
def test_a_wrong_projection_is_refused_and_named(case: str) -> None:
    body, message = WRONG_PROJECTED[case]
    assert message in error_of(seal((b"MODL", model(body)), version=4))


def repeat(name: str, *numbers: int) -> bytes:
    return t(name) + v(255, *numbers)


ONE = linear(matrix(4, 4), name="one")
WRONG_GATED = {
    "kind": (model(t("n") + v(18, 0)), "layer 'n': kind of layer is 18, which is unknown"),
    "activation": (model(t("n") + v(6, 0, 11)), "kind is 11, expected 0 to 10"),
    "reduction": (model(t("n") + v(16, 0, 4)), "kind is 4, expected 0 to 3"),
    "no slopes": (model(activation(4, slopes=b"\0")), "alone has slopes, and needs them"),
    "slopes": (model(activation(5, slopes=vector(4))), "a leaky_relu alone has slopes"),
    "slopes misfit": (model(activation(4, slopes=vector(3))), "slopes length is 3, expected 4"),
    "rates": (
        model(t("one") + v(16, 0, 0), t("n") + v(15, 2, 0, 1)),
        "input frames to a frame is 0, expected 1",
    ),
    "first": (model(repeat("n", 0, 0)), "repeats a layer, but no layer comes before it"),
    "later": (model(ONE, repeat("n", 1, 0)), "layer that is repeated is 1, expected 0 to 0"),
    "again": (model(ONE, repeat("m", 0, 1), repeat("n", 1, 0)), "or is a repetition itself"),
    "bare": (model(t("one") + v(14, 0), repeat("n", 0, 0)), "which has no tensors"),
    "shape": (
        model(linear(matrix(3, 4), name="one"), repeat("n", 0, 1)),
        "layer 'n': repeats layer 'one' for frames of another shape",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG_GATED)
def test_what_version_5_brought_is_checked(case: str) -> None:
    body, message = WRONG_GATED[case]
    assert message in error_of(seal((b"MODL", body), version=5))


def test_version_4_knows_nothing_of_version_5() -> None:
    known = "expected 0 to 14"
    for body, message in (
        (model(ONE, repeat("n", 0, 1)), f"kind of layer is 255, {known}"),
        (model(t("n") + v(15, 2, 0, 0)), f"kind of layer is 15, {known}"),
        (model(t("n") + v(16, 0, 0)), f"kind of layer is 16, {known}"),
        (model(t("n") + v(17, 0)), f"kind of layer is 17, {known}"),
        (model(activation(5)), "kind is 5, expected 0 to 3"),
    ):
        assert message in error_of(seal((b"MODL", body), version=4))
    body = model(ONE, repeat("n", 0, 1))
    assert try_to_parse(seal((b"MODL", body), version=5))


def test_a_repeated_layer_counts_against_the_limit_each_time() -> None:
    """A few bytes a layer must not make work without bounds."""
    size = 1024
    nodes = [linear(matrix(size, size), name="0")]
    nodes += [repeat(str(i), 0, i) for i in range(1, 513)]
    message = error_of(seal((b"MODL", model(*nodes, size=size)), version=5))
    assert "layer '512': the file holds more than 2^29 weights" in message
    assert try_to_parse(seal((b"MODL", model(*nodes[:-1], size=size)), version=5))


def test_version_3_knows_no_projections() -> None:
    body = model(projected_cell(matrix(12, 2), matrix(2, 3)))
    assert try_to_parse(seal((b"MODL", body), version=4))
    assert "forward.weight_hr" not in error_of(seal((b"MODL", body), version=3))

"""What version 6 brought: cells with other functions and peepholes, slices, more activations."""

from __future__ import annotations

import pytest
import torch
from tvx_files import (
    activation,
    cell,
    cells,
    chain,
    dense,
    error_of,
    matrix,
    model,
    recurrent_model,
    seal,
    t,
    try_to_parse,
    v,
    varied_model,
    vector,
)

from tinyvox import _native
from tinyvox.formats.tvx import encode, model_of
from tinyvox.model import Layer, layers


def varied_cell(*tensors: bytes, kind: int = 0, gates: int = 0, bend: int = 0) -> bytes:
    """Of version 6: two settings and two tensors more."""
    return t("n") + v(1, 0, kind, gates, bend) + b"".join(tensors) + bytes(12 - len(tensors))


def convolved(*settings: int, rows: int = 4) -> bytes:
    """A kernel of 2 x 2 over 2 channels of 2 bands, with these dilations and groups."""
    image = t("image") + v(10, 0, 2)
    kernel = v(3, 1, 2, 2, 1, 1, 0, 0, 0, 0, *settings)
    return image + t("n") + kernel + matrix(rows, 4) + b"\0"


LSTM, GRU, RNN = ((matrix(rows, 4), matrix(rows, 3)) for rows in (12, 9, 3))
PEEPHOLES = (*LSTM, b"\0", b"\0", b"\0", vector(9))


def test_hand_made_records_are_read() -> None:
    for body in (
        varied_cell(*PEEPHOLES, gates=2, bend=3),
        varied_cell(*GRU, kind=4, gates=1, bend=1),
        varied_cell(*RNN, kind=2, bend=2),
        varied_cell(*RNN, kind=3),
        t("n") + v(18, 0, 1, 3),
        activation(17, slopes=b"\0"),
    ):
        assert try_to_parse(seal((b"MODL", model(body)), version=6))


WRONG = {
    "kind": (varied_cell(*GRU, kind=5), "kind is 5, expected 0 to 4"),
    "gates": (varied_cell(*LSTM, gates=3), "gates is 3, expected 0 to 2"),
    "activation": (varied_cell(*LSTM, bend=4), "activation is 4, expected 0 to 3"),
    "gates of an RNN": (varied_cell(*RNN, kind=2, gates=1), "only an LSTM or a GRU has a function"),
    "bent ReLU": (varied_cell(*RNN, kind=3, bend=2), "a ReLU cell has another activation"),
    "peepholes of a GRU": (
        varied_cell(*GRU, b"\0", b"\0", b"\0", vector(9), kind=1),
        "only an LSTM has peepholes",
    ),
    "peepholes misfit": (
        varied_cell(*LSTM, b"\0", b"\0", b"\0", vector(3)),
        "peepholes length is 3, expected 9",
    ),
    "peepholes alone": (
        varied_cell(b"\0", b"\0", b"\0", b"\0", b"\0", vector(9)),
        "a cell needs both weight_ih and weight_hh",
    ),
    "peepholes that are a matrix": (
        varied_cell(*LSTM, b"\0", b"\0", b"\0", matrix(3, 3)),
        "forward.peepholes: is a matrix, expected a vector",
    ),
    "bias_hn": (
        varied_cell(*GRU, b"\0", vector(3), kind=4),
        "only a GRU has bias_hn",
    ),
    "dilation": (convolved(0, 1, 1), "dilation in time is 0, expected 1 to 4096"),
    "groups": (convolved(1, 1, 3), "weight columns is 12, expected 8"),
    "rows of groups": (convolved(1, 1, 2, rows=3), "output channels modulo groups is 1"),
    "reach": (convolved(1, 3, 2), "a kernel of 4 bands does not fit 2"),
    "empty slice": (t("n") + v(18, 0, 2, 2), "takes values 2 to 2 of 4"),
    "slice beyond": (t("n") + v(18, 0, 2, 5), "takes values 2 to 5 of 4"),
    "unknown activation": (activation(18, slopes=b"\0"), "kind is 18, expected 0 to 17"),
    "unknown layer": (t("n") + v(19, 0), "kind of layer is 19, which is unknown"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_version_6_brought_is_checked(case: str) -> None:
    body, message = WRONG[case]
    nodes = 2 if body.startswith(t("image")) else 1
    assert message in error_of(seal((b"MODL", v(4, nodes) + body), version=6))


def test_version_5_knows_nothing_of_version_6() -> None:
    for body, message in (
        (t("n") + v(18, 0, 1, 3), "kind of layer is 18, which is unknown"),
        (activation(11, slopes=b"\0"), "kind is 11, expected 0 to 10"),
        (cells(*GRU, kind=4, slots=10), "kind is 4, expected 0 to 3"),
    ):
        assert message in error_of(seal((b"MODL", model(body)), version=5))
    old = cells(*LSTM, slots=10)
    assert try_to_parse(seal((b"MODL", model(old)), version=5))
    assert error_of(seal((b"MODL", model(old)), version=6))


def version(*stack: Layer) -> int:
    return encode(chain(6, *stack))[8]


def test_only_what_needs_version_6_is_written_in_it() -> None:
    torch.manual_seed(0)
    lstm, gru = cell(dense, "lstm", 6, 4), cell(dense, "gru", 6, 4)
    assert version(layers.Recurrent("lstm", lstm, activation="tanh")) == 2
    assert version(layers.Recurrent("gru", gru, gates="sigmoid")) == 2
    assert version(layers.Recurrent("gru", gru, gates="hardsigmoid")) == 6
    # Of the same name as the function that gates always had.
    assert version(layers.Recurrent("lstm", lstm, activation="sigmoid")) == 6
    assert version(layers.Activation("sigmoid")) == 2
    assert version(layers.Activation("hardsigmoid")) == 5
    assert encode(varied_model(dense))[8] == 6
    for kind in ("softplus", "softsign", "mish", "exp", "sqrt", "log", "abs"):
        assert version(layers.Activation(kind)) == 6
    assert version(layers.Slice(1, 3)) == 6
    image, weight = layers.Unflatten(2), dense(4, 4)
    assert version(image, layers.Conv2d(weight, None, (2, 1))) == 2
    assert version(image, layers.Conv2d(weight, None, (2, 1), dilation=(2, 1))) == 6
    assert version(image, layers.Conv2d(weight, None, (2, 2), groups=2)) == 6


def test_a_convolution_with_groups_is_read() -> None:
    body = convolved(7, 1, 2)
    assert try_to_parse(seal((b"MODL", v(4, 2) + body), version=6))


def test_a_plain_cell_beside_them_comes_back() -> None:
    """In a file of version 6 every cell has all settings."""
    torch.manual_seed(0)
    plain = recurrent_model(dense)
    both = chain(6, *(node.layer for node in plain.nodes[:2]), layers.Slice(0, 3))
    content = _native.parse_file(encode(both))
    assert [node["ints"] for node in content["nodes"][:2]] == [[0, 0, 0, 0], [1, 0, 0, 0]]
    again = model_of(content)
    assert encode(again) == encode(both)

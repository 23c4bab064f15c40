"""PyTorch's operators for one step of a cell, written out, so that steps in a loop are found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tinyvox.importers.tape import Tape

aten = torch.ops.aten


def lstm_cell(
    tape: Tape, x: Any, states: Sequence[Any], by_input: Tensor, by_state: Tensor, *biases: Any
) -> tuple[Any, Any]:
    """`lstm_cell(input, hx, w_ih, w_hh, b_ih, b_hh)`."""
    one, two = _products(tape, x, states[0], by_input, by_state, biases)
    sums = tape.apply(aten.add.Tensor, one, two)
    i, f, g, o = tape.apply(aten.chunk.default, sums, 4, -1)
    i, f, o = (tape.apply(aten.sigmoid.default, gate) for gate in (i, f, o))
    kept = tape.apply(aten.mul.Tensor, f, states[1])
    new = tape.apply(aten.mul.Tensor, i, tape.apply(aten.tanh.default, g))
    memory = tape.apply(aten.add.Tensor, kept, new)
    return tape.apply(aten.mul.Tensor, o, tape.apply(aten.tanh.default, memory)), memory


def gru_cell(
    tape: Tape, x: Any, state: Any, by_input: Tensor, by_state: Tensor, *biases: Any
) -> Any:
    """`gru_cell(input, hx, w_ih, w_hh, b_ih, b_hh)`."""
    products = _products(tape, x, state, by_input, by_state, biases)
    one, two = (tape.apply(aten.chunk.default, product, 3, -1) for product in products)
    r, z = (
        tape.apply(aten.sigmoid.default, tape.apply(aten.add.Tensor, a, b))
        for a, b in zip(one[:2], two[:2], strict=True)
    )
    seen = tape.apply(aten.mul.Tensor, r, two[2])
    new = tape.apply(aten.tanh.default, tape.apply(aten.add.Tensor, one[2], seen))
    rest = tape.apply(aten.mul.Tensor, tape.apply(aten.rsub.Scalar, z, 1), new)
    return tape.apply(aten.add.Tensor, tape.apply(aten.mul.Tensor, z, state), rest)


def plain_cell(activation: Any) -> Callable[..., Any]:
    """`rnn_tanh_cell` or `rnn_relu_cell`, with the same arguments as `gru_cell`."""

    def cell(
        tape: Tape, x: Any, state: Any, by_input: Tensor, by_state: Tensor, *biases: Any
    ) -> Any:
        one, two = _products(tape, x, state, by_input, by_state, biases)
        return tape.apply(activation, tape.apply(aten.add.Tensor, one, two))

    return cell


def _products(
    tape: Tape, x: Any, state: Any, by_input: Tensor, by_state: Tensor, biases: Sequence[Any]
) -> tuple[Any, Any]:
    """What the matrices make of a frame and of the state before it."""
    b_ih, b_hh = biases or (None, None)
    return (
        tape.apply(aten.linear.default, x, by_input, b_ih),
        tape.apply(aten.linear.default, state, by_state, b_hh),
    )


CELLS: dict[str, Callable[..., Any]] = {
    "lstm_cell": lstm_cell,
    "gru_cell": gru_cell,
    "rnn_tanh_cell": plain_cell(aten.tanh.default),
    "rnn_relu_cell": plain_cell(aten.relu.default),
}
"""What writes each operator out, by its name."""

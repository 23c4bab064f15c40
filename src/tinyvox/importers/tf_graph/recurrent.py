"""Operators of TensorFlow that are recurrent layers, or one step of a cell."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tinyvox.errors import ImporterError
from tinyvox.importers.tf_graph.translation import Context, Translator
from tinyvox.model import Cell, Dense, Recurrent

aten = torch.ops.aten
_IFGO = {"BlockLSTM": (0, 2, 1, 3), "BlockLSTMV2": (0, 1, 2, 3)}
"""Where each gate of ours, i f g o, stands in the weights of an operator."""


def _clipped(c: Context) -> None:
    """Raise ImporterError where the state is limited; the operators that have no such setting
    limit it to 3 in their first version."""
    default = 3.0 if c.node.op in ("BlockLSTM", "LSTMBlockCell") else 0.0
    given = "cell_clip" in c.node.attributes
    clip = c.attribute("cell_clip").real if given else default
    if clip > 0:
        raise ImporterError(
            f"limits its state to {clip:g}, which no layer does; use cell_clip=None"
        )


def _forget_bias(c: Context) -> float:
    """What is added to the forget gate; the second version adds nothing."""
    if c.node.op == "BlockLSTMV2":
        return 0.0
    return c.attribute("forget_bias").real if "forget_bias" in c.node.attributes else 1.0


def _block_lstm(c: Context) -> Any:
    """`BlockLSTM(seq_len_max, x, cs_prev, h_prev, w, wci, wcf, wco, b)`, x [frames, batch, size].

    It gives each gate and state at all frames; here the output, and the cell state of the last one.
    """
    _clipped(c)
    frames, (_, bias) = c.given(1), (c.given(1), c.constant(8))
    count = frames.shape[0]
    if c.number(0) < count:
        raise ImporterError(f"runs {c.number(0)} of {count} frames, expected all")
    cell = _lstm_cell(c, c.constant(4), bias, [c.constant(i) for i in (5, 6, 7)])
    over_time = c.tape.apply(aten.transpose.int, frames, 0, 1)
    states = [c.given(3), c.given(2)]
    outputs, _, final = c.tape.recurrent(Recurrent("lstm", cell), over_time, states)
    laid = c.tape.apply(aten.transpose.int, outputs, 0, 1)
    memory = c.tape.apply(aten.expand.default, final, [count, *final.shape[1:]])
    return memory, memory, memory, memory, memory, memory, laid


def _lstm_cell(c: Context, weight: Tensor, bias: Tensor, peepholes: list[Tensor]) -> Cell:
    """A cell of [inputs and state, gates] weights."""
    hidden = weight.shape[1] // 4
    if weight.shape[1] % 4 or bias.shape != weight.shape[1:] or weight.shape[0] <= hidden:
        raise ImporterError(f"has weights {list(weight.shape)} and biases {list(bias.shape)}")
    order = _IFGO[c.node.op]
    rows = torch.cat([torch.split(weight.T, hidden)[i] for i in order])
    biases = [torch.split(bias, hidden)[i] for i in order]
    biases[1] = biases[1] + _forget_bias(c)
    by_input, by_state = rows[:, :-hidden].contiguous(), rows[:, -hidden:].contiguous()
    cell = Cell(Dense(by_input), Dense(by_state), torch.cat(biases))
    used = c.attribute("use_peephole").whole and any(p.any() for p in peepholes)
    return replace(cell, peepholes=torch.cat(peepholes)) if used else cell


def _sums(c: Context, frame: Any, state: Any, weight: Tensor, bias: Tensor) -> Any:
    joined = c.tape.apply(aten.cat.default, [frame, state], -1)
    return c.tape.apply(aten.linear.default, joined, weight.T, bias)


def _lstm_step(c: Context) -> Any:
    """`LSTMBlockCell(x, cs_prev, h_prev, w, wci, wcf, wco, b)`, whose gates are i g f o."""
    _clipped(c)
    if c.attribute("use_peephole").whole:
        raise ImporterError("has peepholes in one step, expected an LSTM over all frames")
    tape, weight = c.tape, c.constant(3)
    sums = _sums(c, c.given(0), c.given(2), weight, c.constant(7))
    i, g, f, o = tape.apply(aten.split.Tensor, sums, max(weight.shape[1] // 4, 1), -1)
    f = tape.apply(aten.add.Tensor, f, torch.tensor(_forget_bias(c)))
    i, f, o = (tape.apply(aten.sigmoid.default, gate) for gate in (i, f, o))
    new = tape.apply(aten.tanh.default, g)
    kept = tape.apply(aten.mul.Tensor, f, c.given(1))
    state = tape.apply(aten.add.Tensor, kept, tape.apply(aten.mul.Tensor, i, new))
    out = tape.apply(aten.tanh.default, state)
    return i, state, f, o, new, out, tape.apply(aten.mul.Tensor, o, out)


def _gru_step(c: Context) -> Any:
    """`GRUBlockCell(x, h_prev, w_ru, w_c, b_ru, b_c)`."""
    tape, frame, state = c.tape, c.given(0), c.given(1)
    sums = _sums(c, frame, state, c.constant(2), c.constant(4))
    gates = tape.apply(aten.sigmoid.default, sums)
    reset, update = tape.apply(aten.split.Tensor, gates, max(c.constant(2).shape[1] // 2, 1), -1)
    seen = tape.apply(aten.mul.Tensor, reset, state)
    inner = _sums(c, frame, seen, c.constant(3), c.constant(5))
    new = tape.apply(aten.tanh.default, inner)
    rest = tape.apply(aten.rsub.Scalar, update, 1.0)
    kept = tape.apply(aten.mul.Tensor, update, state)
    after = tape.apply(aten.add.Tensor, kept, tape.apply(aten.mul.Tensor, rest, new))
    return reset, update, new, after


RECURRENT: dict[str, Translator] = {
    "BlockLSTM": _block_lstm,
    "BlockLSTMV2": _block_lstm,
    "GRUBlockCell": _gru_step,
    "LSTMBlockCell": _lstm_step,
}
"""What translates each recurrent operator, by its name."""

"""TensorFlow Lite's recurrent operators as layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tinyvox.errors import ImporterError
from tinyvox.importers.tflite.translation import Context, Translator
from tinyvox.model import Cell, Dense, Recurrent

aten = torch.ops.aten


def _lstm_cell(c: Context, first: int) -> Cell:
    """The cell of a sequence operator, whose tensors begin at input `first`.

    Gates are in the order input, forget, cell, output, which is PyTorch's. Without an input gate,
    it is one minus the forget gate, which is the sigmoid of the negative sum.
    """
    gates = range(4)
    by_input = [c.optional(first + i) for i in gates]
    by_state = [c.optional(first + 4 + i) for i in gates]
    peepholes = [c.optional(first + 8 + i) for i in range(3)]
    biases = [c.optional(first + 11 + i) for i in gates]
    for row in (by_input, by_state, peepholes, biases):
        if row[0] is None and row[1] is not None:
            row[0] = -row[1]
    if any(w is None for w in (*by_input, *by_state)):
        raise ImporterError("lacks weights of a gate; the file is damaged")
    cell = Cell(_stacked(by_input), _stacked(by_state))
    if any(b is not None for b in biases):
        cell = replace(cell, bias=torch.cat([b for b in biases if b is not None]))
    projection = c.optional(first + 15)
    if projection is not None:
        cell = replace(cell, weight_hr=Dense(projection.contiguous()))
    bias = c.optional(first + 16)
    if bias is not None and bias.any():
        raise ImporterError("has a bias after its projection, which no layer has")
    found = [p for p in peepholes if p is not None]
    return replace(cell, peepholes=torch.cat(found)) if found else cell


def _stacked(gates: Sequence[Tensor | None]) -> Dense:
    return Dense(torch.cat([gate for gate in gates if gate is not None]).contiguous())


_FAR = 10.0
"""A limit of the cell state that hardly any state reaches. TensorFlow 2's converter sets it for
every LSTM of Keras."""


def _check_lstm(c: Context, options: Any) -> None:
    if options.FusedActivationFunction() != 4:
        raise ImporterError("has another activation than tanh")
    clip = options.CellClip()
    if 0 < clip < _FAR or options.ProjClip():
        raise ImporterError(
            f"limits its states to {clip:g} and {options.ProjClip():g}, which no "
            "layer does; export without cell_clip and proj_clip"
        )
    note = f"an LSTM limits its cell state to {clip:g}, which the model does not do"
    if clip and note not in c.notes:
        c.notes.append(note)


def _over_time(c: Context, time_major: bool) -> Any:
    """The input as [batch, frames, size]."""
    value = c.given(0)
    return c.tape.apply(aten.transpose.int, value, 0, 1) if time_major else value


def _laid(c: Context, value: Any, time_major: bool) -> Any:
    return c.tape.apply(aten.transpose.int, value, 0, 1) if time_major else value


def _one_way(c: Context, layer: Recurrent, time_major: bool, states: Sequence[Any]) -> Any:
    outputs, _, _ = c.tape.recurrent(layer, _over_time(c, time_major), states)
    return _laid(c, outputs, time_major)


def _both_ways(c: Context, layer: Recurrent, time_major: bool, merged: bool) -> Any:
    outputs, _, _ = c.tape.recurrent(layer, _over_time(c, time_major))
    if merged:
        return _laid(c, outputs, time_major)
    sizes = [cell.size for cell in layer.cells().values()]
    parts = c.tape.apply(aten.split_with_sizes.default, outputs, sizes, 2)
    return tuple(_laid(c, part, time_major) for part in parts)


def _sequence_lstm(c: Context) -> Any:
    options = c.options("UnidirectionalSequenceLSTMOptions")
    _check_lstm(c, options)
    if any(c.optional(i) is not None for i in range(20, 24)):
        raise ImporterError("normalizes the sums of its gates, which no layer does")
    layer = Recurrent("lstm", _lstm_cell(c, 1))
    return _one_way(c, layer, bool(options.TimeMajor()), [c.given(18), c.given(19)])


def _both_lstm(c: Context) -> Any:
    options = c.options("BidirectionalSequenceLSTMOptions")
    _check_lstm(c, options)
    layer = Recurrent("lstm", _lstm_cell(c, 1), _lstm_cell(c, 18))
    return _both_ways(c, layer, bool(options.TimeMajor()), bool(options.MergeOutputs()))


def _rnn_cell(c: Context, first: int) -> Cell:
    by_input, by_state = (Dense(c.constant(first + i).contiguous()) for i in range(2))
    return Cell(by_input, by_state, c.constant(first + 2))


def _rnn_kind(activation: int) -> str:
    kinds = {1: "rnn_relu", 4: "rnn_tanh"}
    if activation not in kinds:
        raise ImporterError(f"has fused activation {activation}, expected tanh or relu")
    return kinds[activation]


def _sequence_rnn(c: Context) -> Any:
    options = c.options("SequenceRNNOptions")
    layer = Recurrent(_rnn_kind(options.FusedActivationFunction()), _rnn_cell(c, 1))
    return _one_way(c, layer, bool(options.TimeMajor()), [c.given(4)])


def _both_rnn(c: Context) -> Any:
    options = c.options("BidirectionalSequenceRNNOptions")
    kind = _rnn_kind(options.FusedActivationFunction())
    layer = Recurrent(kind, _rnn_cell(c, 1), _rnn_cell(c, 5))
    return _both_ways(c, layer, bool(options.TimeMajor()), bool(options.MergeOutputs()))


def _basic_lstm(c: Context) -> Any:
    """One step of an LSTM, from its state to the next: output and cell state.

    Gates are in the order input, cell, forget, output.
    """
    if len(c.inputs) != 5:
        raise ImporterError("is a full LSTM of one step, expected a basic one or a sequence")
    tape, joined = c.tape, c.tape.apply(aten.cat.default, [c.given(0), c.given(1)], -1)
    weight = c.constant(2)
    sums = tape.apply(aten.linear.default, joined, weight, c.constant(3))
    i, new, f, o = tape.apply(aten.split.Tensor, sums, weight.shape[0] // 4, -1)
    i, f, o = (tape.apply(aten.sigmoid.default, gate) for gate in (i, f, o))
    kept = tape.apply(aten.mul.Tensor, f, c.given(4))
    added = tape.apply(aten.mul.Tensor, i, tape.apply(aten.tanh.default, new))
    state = tape.apply(aten.add.Tensor, kept, added)
    output = tape.apply(aten.mul.Tensor, o, tape.apply(aten.tanh.default, state))
    return output, state


RECURRENT: dict[str, Translator] = {
    "BIDIRECTIONAL_SEQUENCE_LSTM": _both_lstm,
    "BIDIRECTIONAL_SEQUENCE_RNN": _both_rnn,
    "LSTM": _basic_lstm,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _sequence_lstm,
    "UNIDIRECTIONAL_SEQUENCE_RNN": _sequence_rnn,
}
"""What translates each recurrent operator, by its name."""

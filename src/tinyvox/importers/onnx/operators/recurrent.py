"""ONNX's LSTM, GRU and RNN as recurrent layers of frames [batch, time, size]."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tinyvox.errors import ImporterError
from tinyvox.importers.onnx.operation import Given, Operation, aten
from tinyvox.importers.onnx.operators.plumbing import Translator
from tinyvox.importers.tape import Value
from tinyvox.model import Cell, Dense, Recurrent

_SIDES: dict[str, tuple[str, ...]] = {
    **{"forward": ("forward",), "reverse": ("backward",)},
    "bidirectional": ("forward", "backward"),
}
"""The cells of each direction, by their names in a layer."""
_DEFAULTS = {"LSTM": ("sigmoid", "tanh", "tanh"), "GRU": ("sigmoid", "tanh"), "RNN": ("tanh",)}
_GATES = {
    "LSTM": (0, 2, 3, 1),  # ONNX: i o f c
    "GRU": (1, 0, 2),  # ONNX: z r h
    "RNN": (0,),
}
"""For each gate in the order of a cell, its place in ONNX's order."""
_PEEPHOLES = (0, 2, 1)  # ONNX: i o f; a cell: i f o
_MOST_FRAMES = 1 << 14
"""Frames of an example; a file that takes one number of frames may have many."""
_LINES = {"affine", "leakyrelu", "thresholdedrelu", "scaledtanh", "hardsigmoid", "elu"}
"""Functions that have alpha or beta, each of which takes one from the list of these."""


class Weights(NamedTuple):
    """The weights of all directions: [sides, gates * hidden, inputs] and so on, or None."""

    of_input: Tensor
    of_state: Tensor
    bias: Tensor | None
    peepholes: Tensor | None

    def of_side(self, index: int) -> Weights:
        """Those of one direction, without the dimension of these."""
        bias = None if self.bias is None else self.bias[index]
        peepholes = None if self.peepholes is None else self.peepholes[index]
        return Weights(self.of_input[index], self.of_state[index], bias, peepholes)


def recurrent(op: Operation) -> Sequence[Given]:
    """`LSTM`, `GRU` or `RNN`, of float weights."""
    weights = Weights(op.constant(1), op.constant(2), _constant(op, 3), _constant(op, 7))
    return run(op, op.kind, weights)


def _constant(op: Operation, index: int) -> Tensor | None:
    return op.constant(index) if op.given(index) else None


def run(op: Operation, kind: str, weights: Weights) -> Sequence[Given]:
    """The outputs Y, Y_h and Y_c of a recurrent operator with these weights."""
    sides = _sides(op, kind, weights)
    layer = _layer(op, kind, weights, sides)
    batch_first = bool(op.get("layout", 0))
    given = op.input(0)
    if len(given.shape) != 3:
        raise ImporterError(f"takes frames of shape {list(given.shape)}, expected 3 dimensions")
    frames = given if batch_first else op.apply(aten.transpose.int, given, 0, 1)
    _check_lengths(op, frames)
    if frames.shape[1] > _MOST_FRAMES:
        raise ImporterError(f"runs over {frames.shape[1]} frames, expected {_MOST_FRAMES} at most")
    if not isinstance(frames, Value):
        raise ImporterError("runs over constants, expected frames that depend on the input")
    found = op.findings.tape.recurrent(layer, frames, _states(op))
    return _outputs(op, found, len(sides), batch_first)


def _sides(op: Operation, kind: str, weights: Weights) -> tuple[str, ...]:
    """The directions. Raises ImporterError where the weights do not have their shapes."""
    direction = op.get("direction", b"forward").decode(errors="replace")
    if direction not in _SIDES:
        raise ImporterError(f"direction is {direction!r}, expected one of {', '.join(_SIDES)}")
    sides, gates, hidden = _SIDES[direction], len(_GATES[kind]), weights.of_state.shape[-1]
    rows, inputs = gates * hidden, weights.of_input.shape[-1]
    expected = {"W": (rows, inputs), "R": (rows, hidden), "B": (2 * rows,), "P": (3 * hidden,)}
    for (name, shape), found in zip(expected.items(), weights, strict=True):
        if found is not None and tuple(found.shape) != (len(sides), *shape):
            raise ImporterError(
                f"{name} has shape {list(found.shape)}, expected {[len(sides), *shape]}"
            )
    if op.get("hidden_size", hidden) != hidden:
        raise ImporterError(f"hidden_size is {op.attributes['hidden_size']}, R has {hidden}")
    if op.attributes.get("clip"):
        raise ImporterError("clips what enters its gates, which no layer does; export without clip")
    if op.get("input_forget", 0):
        raise ImporterError("couples input and forget gate, which no layer does")
    return sides


def _layer(op: Operation, kind: str, weights: Weights, sides: tuple[str, ...]) -> Recurrent:
    gates, activation = _functions(op, kind, len(sides))
    before = kind == "GRU" and not op.get("linear_before_reset", 0)
    name = {"LSTM": "lstm", "GRU": "gru_reset_before" if before else "gru"}.get(kind, "rnn_tanh")
    cells = {side: _cell(name, _GATES[kind], weights.of_side(i)) for i, side in enumerate(sides)}
    forward, backward = cells.get("forward"), cells.get("backward")
    return Recurrent(name, forward, backward, gates, activation)


def _cell(kind: str, order: tuple[int, ...], weights: Weights) -> Cell:
    """One direction. A GRU that resets after its product keeps the hidden bias of the new gate."""

    def ordered(rows: Tensor, places: tuple[int, ...] = order) -> Tensor:
        parts = rows.chunk(len(places))
        return torch.cat([parts[place] for place in places]).contiguous()

    peepholes = weights.peepholes
    cell = Cell(
        Dense(ordered(weights.of_input)),
        Dense(ordered(weights.of_state)),
        peepholes=None if peepholes is None else ordered(peepholes, _PEEPHOLES),
    )
    if weights.bias is None:
        return cell
    of_input, of_state = (ordered(part) for part in weights.bias.chunk(2))
    if kind != "gru":
        return dataclasses.replace(cell, bias=of_input + of_state)
    hidden = weights.of_state.shape[-1]
    outside = torch.cat([of_state[:-hidden], torch.zeros(hidden)])
    return dataclasses.replace(cell, bias=of_input + outside, bias_hn=of_state[-hidden:].clone())


def _functions(op: Operation, kind: str, sides: int) -> tuple[str, str]:
    """The function of the gates, and that which takes the place of tanh."""
    default = list(_DEFAULTS[kind]) * sides
    names = [
        each.decode(errors="replace").lower() for each in op.attributes.get("activations") or []
    ] or default
    count = len(_DEFAULTS[kind])
    functions = [_named(op, names, i) for i in range(len(names))]
    each = [functions[i * count : (i + 1) * count] for i in range(sides)]
    if len(names) != count * sides or any(side != each[0] for side in each):
        raise ImporterError(f"has activations {names}, expected {count}, the same each direction")
    if kind == "RNN":
        return "sigmoid", _bend(names, each[0])
    if each[0][0] not in ("sigmoid", "hardsigmoid", "hard_sigmoid_keras"):
        raise ImporterError(f"has {names[0]} gates, expected sigmoid or hardsigmoid")
    return each[0][0], _bend(names, each[0][1:])


def _bend(names: list[str], functions: list[str]) -> str:
    known = ("tanh", "relu", "sigmoid", "identity")
    if len(set(functions)) != 1 or functions[0] not in known:
        raise ImporterError(
            f"has activations {names}, expected one of {', '.join(known)} beside the gates"
        )
    return functions[0]


def _named(op: Operation, names: list[str], index: int) -> str:
    """A function by our name; alpha and beta belong to those functions that have them, in order."""
    name = names[index]
    before = sum(each in _LINES for each in names[:index])
    alpha, beta = (
        values[before] if before < len(values) else default
        for values, default in (
            (op.attributes.get("activation_alpha") or [], 0.2 if name == "hardsigmoid" else 1.0),
            (op.attributes.get("activation_beta") or [], 0.5 if name == "hardsigmoid" else 0.0),
        )
    )
    if name == "affine" and (alpha, beta) == (1, 0):
        return "identity"
    if name != "hardsigmoid":
        return name
    if math.isclose(alpha, 0.2, rel_tol=1e-5) and beta == 0.5:
        return "hard_sigmoid_keras"
    if math.isclose(alpha, 1 / 6, rel_tol=1e-4) and beta == 0.5:
        return "hardsigmoid"
    raise ImporterError(f"has HardSigmoid of alpha {alpha} and beta {beta}, expected 0.2 and 0.5")


def _check_lengths(op: Operation, frames: Given) -> None:
    """Lengths of the utterances are those of the frames."""
    lengths = op.optional(4)
    if lengths is None:
        return
    count = frames.shape[1]
    if isinstance(lengths, Tensor) and bool((lengths == count).all()):
        op.note("sequence_lens is left out: every utterance has all frames")
        return
    found = "the model's input" if isinstance(lengths, Value) else lengths.flatten().tolist()
    raise ImporterError(f"sequence_lens is {found}, expected the number of frames, {count}")


def _states(op: Operation) -> list[Given]:
    """The states that it starts from, where they are given: [sides, batch, hidden]."""
    return [op.input(i) for i in (5, 6) if op.given(i)]


def _outputs(
    op: Operation, found: tuple[Value, Value, Value], sides: int, batch_first: bool
) -> Sequence[Given]:
    outputs, hidden, memory = found
    batch, time, size = outputs.shape
    if batch_first:
        y = op.reshape(outputs, [batch, time, sides, size // sides])
        states = [_batch_first(op, state, sides) for state in (hidden, memory)]
        return y, *states
    turned = op.apply(aten.transpose.int, outputs, 0, 1)
    y = op.reshape(turned, [time, batch, sides, size // sides])
    return op.apply(aten.permute.default, y, [0, 2, 1, 3]), hidden, memory


def _batch_first(op: Operation, state: Value, sides: int) -> Given:
    return op.apply(aten.permute.default, state, [1, 0, 2])


RECURRENT: dict[str, Translator] = dict.fromkeys(("LSTM", "GRU", "RNN"), recurrent)
"""What translates each recurrent operator, by its name."""

"""ATen operators that are layers with matrices, and the softmaxes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tinyvox.errors import ImporterError
from tinyvox.importers.final_states import States
from tinyvox.importers.gate_sums import absorbed
from tinyvox.importers.layer_graph import ColumnOrder
from tinyvox.importers.operators.call import Call, Carried, Unusable
from tinyvox.importers.operators.convolutions import conv1d, conv2d, dense, frame_windows
from tinyvox.importers.operators.features import matmul as any_matmul
from tinyvox.importers.operators.single_steps import one_step, runs_along_batch
from tinyvox.importers.operators.time import over_time, weighted_sum
from tinyvox.importers.signal import Axis, Stream, feature_dims
from tinyvox.model import (
    INPUT,
    Cell,
    Concat,
    Conv2d,
    Dense,
    Embedding,
    Layer,
    Linear,
    LogSoftmax,
    Recurrent,
    Slice,
    Softmax,
    Unflatten,
)


def _linear(call: Call, name: str, weight: Tensor, bias: Tensor | None) -> Stream:
    stream = call.graph.settled(call.stream(name))
    if stream.feature_dim() is None and len(feature_dims(stream)) == 2 and not stream.window:
        return _of_each_band(call, stream, weight, bias)
    node, order = call.graph.flat(stream, -1)
    layer = Linear(dense(weight, order), bias)
    axes = stream.with_axis(-1, Axis("feature", weight.shape[0]))
    return stream.becomes(call.graph.add(layer, node), axes)


def _of_each_band(call: Call, stream: Stream, weight: Tensor, bias: Tensor | None) -> Stream:
    """A linear layer over one of two dimensions of features: a convolution of one band."""
    last = stream.dim(-1)
    other = next(dim for dim in feature_dims(stream) if dim != last)
    node = call.graph.image(stream, last, other)
    node = call.graph.add(Conv2d(dense(weight), bias, (1, 1)), node)
    axes = stream.with_image(last, other)
    return stream.becomes(node, (*axes[:-1], (Axis("feature", len(weight), 0),)))


def linear(call: Call) -> Stream:
    """`linear(input, weight, bias)`."""
    return _linear(call, "input", call.tensor("weight"), call.optional("bias"))


def matmul(call: Call) -> Stream:
    """A signal times a constant matrix: a linear layer without bias."""
    name, other = [key for key in call.arguments if key != "out"][:2]
    if isinstance(call[name], States):
        call = call.given(**{**call.arguments, name: call.stream(name)})
    weight = call[other]
    if isinstance(call[name], Stream) and isinstance(weight, Stream):
        return weighted_sum(call, call.stream(name), call.stream(other))
    if not isinstance(call[name], Stream) or not isinstance(weight, Tensor) or weight.ndim != 2:
        return any_matmul(call)
    weight = call.tensor(other)
    return _linear(call, name, weight.T, None)


def addmm(call: Call) -> Stream:
    """A bias plus a signal times a constant matrix."""
    weight, bias = call.tensor("mat2").T, call.tensor("self")
    if (call["beta"], call["alpha"]) != (1, 1):
        raise ImporterError(f"has beta {call['beta']} and alpha {call['alpha']}, expected 1 and 1")
    return _linear(call, "mat1", weight, bias.expand(weight.shape[0]).clone())


_MEMORY = Unusable("the final cell state is used, expected outputs or final hidden states alone")


def recurrent(
    kind: str,
) -> Callable[[Call], tuple[Stream, States | Unusable, *tuple[Unusable, ...]]]:
    """The handler of `aten.lstm.input`, `aten.gru.input` and the like."""

    def handler(call: Call) -> tuple[Stream, States | Unusable, *tuple[Unusable, ...]]:
        stream = call.graph.settled(call.stream("input"))
        alone: list[str] = []
        each_frame = runs_along_batch(call.graph, stream, *_batch_and_time(call))
        _check_recurrent(call, each_frame)
        node, order = call.graph.flat(stream, -1)
        for cells in _cells(call, kind):
            if order is not None:
                cells = [_ordered(c, order) for c in cells]
                order = None
            if each_frame:
                node = one_step(call.graph, kind, cells, node)
                continue
            sides = [[cell] for cell in cells] if len(cells) > 1 else [cells]
            backwards = [stream.backwards, True]
            parts = (_layer(kind, *each) for each in zip(sides, backwards, strict=False))
            alone += [call.graph.add(part, node) for part in parts]
            node = call.graph.add(_layer(kind, cells, stream.backwards), node)
        outputs = call.result
        axes = stream.with_axis(2, Axis("feature", outputs[0].shape[2]))
        states = States(tuple(alone), stream.axes[0 if call["batch_first"] else 1])
        hidden = _MEMORY if each_frame else states
        return (stream.becomes(node, axes), hidden, *(_MEMORY for _ in outputs[2:]))

    return handler


def recurrent_layer(call: Call) -> tuple[Stream, States | Stream, Unusable]:
    """`Tape.recurrent(layer, input, states)`: a layer over frames [batch, time, size]."""
    for state in call["states"]:
        if not isinstance(state, Carried) and (not isinstance(state, Tensor) or state.any()):
            raise ImporterError("the initial state is not zero; start from the default state")
    stream = call.graph.settled(call.stream("input"))
    one_frame = call.result[0].shape[1] == 1
    if not stream.is_batch(0) or not (one_frame or stream.is_time(1)):
        raise ImporterError(f"runs along dimension 1 of {stream}, which is not time")
    node, order = call.graph.flat(stream, -1)
    cells = {name: _ordered(cell, order) for name, cell in call["layer"].cells().items()}
    if len(cells) == 1 and call.only_use:
        side, cell = next(iter(cells.items()))
        cells[side], node = absorbed(call.graph, cell, node)
    if stream.backwards:
        cells = _turned(cells)
    layer = dataclasses.replace(call["layer"], **{"forward": None, "backward": None, **cells})
    alone = [
        call.graph.add(
            dataclasses.replace(layer, **{"forward": None, "backward": None, name: cell}), node
        )
        for name, cell in cells.items()
    ]
    outputs = call.result[0]
    axes = stream.with_axis(-1, Axis("feature", outputs.shape[-1]))
    found = stream.becomes(call.graph.add(layer, node), axes)
    if one_frame and len(alone) == 1:  # the final state is the output of the only frame
        return found, Stream(found.node, ((), axes[0], axes[2])), _MEMORY
    return found, States(tuple(alone), stream.axes[0]), _MEMORY


def elementwise_recurrence(call: Call) -> Stream:
    """`Tape.elementwise_recurrence(layer, gate, input)`, over frames [batch, time, size]."""
    gate, stream = call.whole("gate"), call.whole("input")
    if stream.axes != gate.axes or stream.backwards != gate.backwards or not stream.is_time(1):
        raise ImporterError(f"runs over {gate} and {stream}, expected frames of the same kind")
    layer = call["layer"]
    if stream.backwards:
        layer = dataclasses.replace(layer, reverse=not layer.reverse)
    return stream.becomes(call.graph.add(layer, gate.node, stream.node), stream.axes)


def _ordered(cell: Cell, order: ColumnOrder) -> Cell:
    """A cell that takes the features as the node gives them."""
    if order is None or cell.weight_ih is None:
        return cell
    return dataclasses.replace(cell, weight_ih=cell.weight_ih.take(columns=torch.tensor(order)))


def _turned(cells: dict[str, Cell]) -> dict[str, Cell]:
    """The cell of a layer that runs over frames of which the last comes first."""
    if len(cells) > 1:
        raise ImporterError(
            "a bidirectional layer runs over reversed frames; run it over the frames in their order"
        )
    other = {"forward": "backward", "backward": "forward"}
    return {other[name]: cell for name, cell in cells.items()}


def _batch_and_time(call: Call) -> tuple[int, int]:
    return (0, 1) if call["batch_first"] else (1, 0)


def _check_recurrent(call: Call, each_frame: bool) -> None:
    states = call["hx"] if isinstance(call["hx"], list | tuple) else [call["hx"]]
    for state in states:
        if not isinstance(state, Carried) and (not isinstance(state, Tensor) or state.any()):
            raise ImporterError("the initial state is not zero; start from the default state")
    if call["train"] and call["dropout"]:
        raise ImporterError("dropout in training mode; call .eval() on the module before export")
    stream = call.stream("input")
    if each_frame:
        return
    batch, time = _batch_and_time(call)
    one_frame = stream.shape[time] == 1 and isinstance(states[0], Carried)
    if not stream.is_batch(batch) or not (stream.is_time(time) or one_frame):
        swapped = stream.is_time(batch) and stream.is_batch(time)
        what_to_do = (
            "set batch_first or transpose the input"
            if swapped
            else "recurrent layers over bands, or over time for each band apart, have no layer here"
        )
        raise ImporterError(
            f"runs along dimension {time} of {stream}, which is not time with a batch of one; "
            + what_to_do
        )
    if stream.backwards and call["bidirectional"]:
        raise ImporterError(
            "a bidirectional layer runs over reversed frames; run it over the frames in their order"
        )


def _cells(call: Call, kind: str) -> list[list[Cell]]:
    """The cells of each layer, the forward one before the backward one."""
    sides = 2 if call["bidirectional"] else 1
    weights, count = list(call["params"]), call["num_layers"] * sides
    each = 4 if call["has_biases"] else 2
    projected = len(weights) == count * (each + 1)
    each += projected
    if len(weights) != count * each or any(not isinstance(w, Tensor) for w in weights):
        raise ImporterError(f"has {len(weights)} weights, expected {count * each}")
    starts = range(0, len(weights), each)
    cells = [_cell(kind, weights[start : start + each], projected) for start in starts]
    return [cells[i : i + sides] for i in range(0, count, sides)]


def _cell(kind: str, weights: list[Tensor], projected: bool) -> Cell:
    """A cell from torch's weights of one: two matrices, the biases and the projection if any.

    torch's GRU adds both biases of its reset and update gates, so they become one.
    """
    ih, hh, *biases = weights[: len(weights) - projected]
    cell = Cell(dense(ih), dense(hh), weight_hr=dense(weights[-1]) if projected else None)
    if not biases:
        return cell
    bias_ih, bias_hh = biases
    if kind != "gru":
        return dataclasses.replace(cell, bias=bias_ih + bias_hh)
    hidden = hh.shape[1]
    outside = torch.cat([bias_hh[:-hidden], torch.zeros(hidden)])
    return dataclasses.replace(cell, bias=bias_ih + outside, bias_hn=bias_hh[-hidden:].clone())


def _layer(kind: str, cells: list[Cell], backwards: bool) -> Recurrent:
    if backwards:
        return Recurrent(kind, backward=cells[0])
    return Recurrent(kind, cells[0], cells[1] if len(cells) > 1 else None)


def softmax(layer: Layer) -> Callable[[Call], Stream]:
    """The handler of `softmax(self, dim)` or `log_softmax(self, dim)`, over all features of a
    frame."""

    def handler(call: Call) -> Stream:
        stream = call.whole("self")
        if stream.is_time(call["dim"]) and isinstance(layer, Softmax):
            return over_time(call, stream)
        if stream.feature_dim() != stream.dim(call["dim"]):
            return _softmax_of_parts(call, stream, layer)
        return stream.becomes(call.graph.add(layer, stream.node), stream.axes)

    return handler


def _softmax_of_parts(call: Call, stream: Stream, layer: Layer) -> Stream:
    """A softmax over one of two dimensions of features: of each part of a frame by itself."""
    dim = stream.dim(call["dim"])
    other = next((i for i in feature_dims(stream) if i != dim), None)
    if dim not in feature_dims(stream) or other is None:
        raise ImporterError(f"runs over dimension {call['dim']} of {stream}, expected features")
    graph, count = call.graph, stream.shape[other]
    flat = graph.flatten(graph.image(stream, other, dim))
    size = stream.shape[dim]
    parts = (graph.add(Slice(i * size, (i + 1) * size), flat) for i in range(count))
    joined = graph.add(Concat(), *(graph.add(layer, part) for part in parts))
    node = graph.add(Unflatten(count), joined)
    return stream.becomes(node, stream.with_image(other, dim))


def embedding(call: Call) -> Stream:
    """`embedding(weight, indices)`: the rows of a table for token ids, which are the input."""
    weight, stream = call.tensor("weight"), call.stream("indices").unpadded()
    if stream.node != INPUT or stream.features():
        raise ImporterError("looks up values that are computed, expected the input: token ids")
    node = call.graph.add(Embedding(Dense(weight)), stream.node)
    return stream.becomes(node, (*stream.axes, (Axis("feature", weight.shape[1]),)))


LAYER_OPERATORS: dict[str, Callable[[Call], Any]] = {
    "linear": linear,
    **dict.fromkeys(("matmul", "mm", "mv", "bmm"), matmul),
    "addmm": addmm,
    "lstm": recurrent("lstm"),
    "gru": recurrent("gru"),
    "rnn_tanh": recurrent("rnn_tanh"),
    "rnn_relu": recurrent("rnn_relu"),
    "recurrent": recurrent_layer,
    "elementwise_recurrence": elementwise_recurrence,
    "conv1d": conv1d,
    "conv2d": conv2d,
    "im2col": frame_windows,
    **dict.fromkeys(("softmax", "_softmax"), softmax(Softmax())),
    **dict.fromkeys(("log_softmax", "_log_softmax"), softmax(LogSoftmax())),
    "embedding": embedding,
}
"""The handler of every operator that is a layer, by the operator's name without overload."""

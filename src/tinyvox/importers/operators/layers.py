"""ATen operators that are layers with weights, and the softmaxes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tinyvox.errors import ImporterError
from tinyvox.importers.layer_graph import ColumnOrder
from tinyvox.importers.operators.call import Call, Carried, Unusable
from tinyvox.importers.reduction import States
from tinyvox.importers.signal import Axes, Axis, Stream
from tinyvox.model import (
    BatchNorm,
    Cell,
    Conv1d,
    Conv2d,
    Dense,
    Layer,
    LayerNorm,
    Linear,
    LogSoftmax,
    Recurrent,
    Softmax,
)


def _dense(weight: Tensor, order: ColumnOrder = None) -> Dense:
    """The weight [out, in, ...] as a matrix, its columns in the order of the node's features."""
    if order is not None:
        weight = weight[:, list(order)]
    return Dense(weight.flatten(1).contiguous())


def _linear(call: Call, name: str, weight: Tensor, bias: Tensor | None) -> Stream:
    stream = call.stream(name).unpadded()
    node, order = call.graph.flat(stream, -1)
    layer = Linear(_dense(weight, order), bias)
    axes = stream.with_axis(-1, Axis("feature", weight.shape[0]))
    return stream.becomes(call.graph.add(layer, node), axes)


def linear(call: Call) -> Stream:
    """`linear(input, weight, bias)`."""
    return _linear(call, "input", call.tensor("weight"), call.optional("bias"))


def matmul(call: Call) -> Stream:
    """A signal times a constant matrix: a linear layer without bias."""
    name, other = [key for key in call.arguments if key != "out"][:2]
    weight = call.tensor(other)
    if weight.ndim != 2:
        raise ImporterError(f"multiplies by a tensor of {weight.ndim} dimensions, expected 2")
    return _linear(call, name, weight.T, None)


def addmm(call: Call) -> Stream:
    """A bias plus a signal times a constant matrix."""
    weight, bias = call.tensor("mat2").T, call.tensor("self")
    if (call["beta"], call["alpha"]) != (1, 1):
        raise ImporterError(f"has beta {call['beta']} and alpha {call['alpha']}, expected 1 and 1")
    return _linear(call, "mat1", weight, bias.expand(weight.shape[0]).clone())


_MEMORY = Unusable("the final cell state is used, expected outputs or final hidden states alone")


def recurrent(kind: str) -> Callable[[Call], tuple[Stream, States, *tuple[Unusable, ...]]]:
    """The handler of `aten.lstm.input`, `aten.gru.input` and the like."""

    def handler(call: Call) -> tuple[Stream, States, *tuple[Unusable, ...]]:
        _check_recurrent(call)
        stream = call.stream("input").unpadded()
        node, order = call.graph.flat(stream, -1)
        alone: list[str] = []
        for cells in _cells(call, kind):
            if order is not None:
                cells = [
                    dataclasses.replace(c, weight_ih=_dense(c.weight_ih.decode(), order))
                    for c in cells
                ]
                order = None
            sides = [[cell] for cell in cells] if len(cells) > 1 else [cells]
            backwards = [stream.backwards, True]
            parts = (_layer(kind, *each) for each in zip(sides, backwards, strict=False))
            alone += [call.graph.add(part, node) for part in parts]
            node = call.graph.add(_layer(kind, cells, stream.backwards), node)
        outputs = call.result
        axes = stream.with_axis(2, Axis("feature", outputs[0].shape[2]))
        states = States(tuple(alone), stream.axes[0 if call["batch_first"] else 1])
        return (stream.becomes(node, axes), states, *(_MEMORY for _ in outputs[2:]))

    return handler


def recurrent_layer(call: Call) -> tuple[Stream, States | Stream, Unusable]:
    """`Tape.recurrent(layer, input, states)`: a layer over frames [batch, time, size]."""
    for state in call["states"]:
        if not isinstance(state, Carried) and (not isinstance(state, Tensor) or state.any()):
            raise ImporterError("the initial state is not zero; start from the default state")
    stream = call.stream("input").unpadded()
    one_frame = call.result[0].shape[1] == 1
    if not stream.is_batch(0) or not (one_frame or stream.is_time(1)):
        raise ImporterError(f"runs along dimension 1 of {stream}, which is not time")
    node, order = call.graph.flat(stream, -1)
    cells = {name: _ordered(cell, order) for name, cell in call["layer"].cells().items()}
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


def _ordered(cell: Cell, order: ColumnOrder) -> Cell:
    """A cell that takes the features as the node gives them."""
    if order is None:
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


def _check_recurrent(call: Call) -> None:
    states = call["hx"] if isinstance(call["hx"], list | tuple) else [call["hx"]]
    for state in states:
        if not isinstance(state, Carried) and (not isinstance(state, Tensor) or state.any()):
            raise ImporterError("the initial state is not zero; start from the default state")
    if call["train"] and call["dropout"]:
        raise ImporterError("dropout in training mode; call .eval() on the module before export")
    stream = call.stream("input")
    batch, time = (0, 1) if call["batch_first"] else (1, 0)
    one_frame = stream.shape[time] == 1 and isinstance(states[0], Carried)
    if not stream.is_batch(batch) or not (stream.is_time(time) or one_frame):
        raise ImporterError(
            f"runs along dimension {time} of {stream}, which is not time; "
            "set batch_first or transpose the input"
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
    cell = Cell(_dense(ih), _dense(hh), weight_hr=_dense(weights[-1]) if projected else None)
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


def _padding(call: Call, index: int, reach: int) -> tuple[int, int]:
    """Zeros before and after along one axis of a convolution whose kernel reaches so far."""
    padding = call["padding"]
    if padding == "valid":
        return 0, 0
    if padding == "same":
        return (reach - 1) // 2, reach - 1 - (reach - 1) // 2
    amount = padding[index % len(padding)]
    return amount, amount


def _around(span: tuple[int, int], padding: tuple[int, int]) -> tuple[int, int]:
    """The convolution's own padding along time, and that of its input."""
    if span[0] > 0 or span[1] < 0:
        raise ImporterError(
            f"a convolution over cut or shifted frames {span} is not supported, expected all"
        )
    return padding[0] - span[0], padding[1] + span[1]


def conv1d(call: Call) -> Stream:
    """`conv1d(input, weight, bias, stride, padding, dilation, groups)`, along time or bands."""
    stream, weight = call.stream("input"), call.tensor("weight")
    if all(axis.kind == "feature" for axis in stream.axes[-1]):
        return _along_bands(call, stream, weight)
    if not stream.is_time(-1) or stream.backwards:
        raise ImporterError(f"runs along the last dimension of {stream}, expected time")
    node, order = call.graph.flat(stream, -2)
    groups = call["groups"]
    if order is not None and groups > 1:
        raise ImporterError("a grouped convolution takes channels in the order of the layer before")
    kernel, dilation = weight.shape[2], call["dilation"][0]
    padding = _around(stream.span, _padding(call, 0, dilation * (kernel - 1) + 1))
    layer = Conv1d(
        _dense(weight, order),
        call.optional("bias"),
        kernel,
        call["stride"][0],
        dilation,
        padding,
        groups,
    )
    return stream.becomes(call.graph.add(layer, node), _convolved(call, stream, -2))


def _along_bands(call: Call, stream: Stream, weight: Tensor) -> Stream:
    """A one-dimensional convolution within each frame."""
    if stream.span != (0, 0):
        raise ImporterError(f"convolves bands of cut or shifted frames {stream.span}")
    kernel, dilation = weight.shape[2], call["dilation"][0]
    below, above = _padding(call, 0, dilation * (kernel - 1) + 1)
    if stream.shape[-1] == call.result.shape[-1] == call["groups"] == 1 and not below % dilation:
        return _of_one_band(call, stream, weight[:, :, below // dilation])
    layer = Conv2d(
        _dense(weight),
        call.optional("bias"),
        (1, kernel),
        (1, call["stride"][0]),
        (0, 0, below + stream.bands[0], above + stream.bands[1]),
        (1, dilation),
        call["groups"],
    )
    node = call.graph.add(layer, call.graph.image(stream, -2, -1))
    return stream.becomes(node, _convolved(call, stream, -2, -1))


def _of_one_band(call: Call, stream: Stream, weight: Tensor) -> Stream:
    """A convolution of one band, and zeros around it: a linear layer of the channels."""
    node, order = call.graph.flat(stream.unpadded(), -2)
    node = call.graph.add(Linear(_dense(weight, order), call.optional("bias")), node)
    return stream.becomes(node, stream.with_axis(-2, Axis("feature", len(weight))))


def conv2d(call: Call) -> Stream:
    """`conv2d(input, weight, bias, stride, padding, dilation, groups)`, along time and bands in
    either order."""
    stream, weight = call.stream("input"), call.tensor("weight")
    channel, time = -3, (-2 if stream.is_time(-2) else -1)
    band = -3 - time
    if not stream.is_time(time) or stream.backwards:
        raise ImporterError(f"runs along the last two dimensions of {stream}, expected time in one")
    node = call.graph.image(stream, channel, band)
    if time == -1:
        weight = weight.transpose(2, 3)
    kernel = (weight.shape[2], weight.shape[3])
    first, second = time + 2, band + 2
    dilation = (call["dilation"][first], call["dilation"][second])
    reach = tuple(d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True))
    frames = _around(stream.span, _padding(call, first, reach[0]))
    bands = _padding(call, second, reach[1])
    layer = Conv2d(
        _dense(weight),
        call.optional("bias"),
        kernel,
        (call["stride"][first], call["stride"][second]),
        (*frames, bands[0] + stream.bands[0], bands[1] + stream.bands[1]),
        dilation,
        call["groups"],
    )
    return stream.becomes(call.graph.add(layer, node), _convolved(call, stream, channel, band))


def _convolved(call: Call, stream: Stream, channel: int, band: int | None = None) -> Axes:
    """The axes of a convolution's output."""
    shape = tuple(call.result.shape)
    axes = stream.with_axis(channel, Axis("feature", shape[channel], 0))
    if band is not None:
        axes = dataclasses.replace(stream, axes=axes).with_axis(
            band, Axis("feature", shape[band], 1)
        )
    return dataclasses.replace(stream, axes=axes).resized(shape)


def batch_norm(call: Call) -> Stream:
    """Batch norm in evaluation mode, over features, or over the channels of frames with bands."""
    if call["training"] or call["running_mean"] is None:
        raise ImporterError("batch norm in training mode; call .eval() on the module before export")
    mean, variance = call.tensor("running_mean"), call.tensor("running_var")
    weight, bias = call.optional("weight"), call.optional("bias")
    layer = BatchNorm(
        mean,
        variance,
        torch.ones_like(mean) if weight is None else weight,
        torch.zeros_like(mean) if bias is None else bias,
        call["eps"],
    )
    stream = call.whole("input")
    if stream.feature_dim() != 1:
        return _norm_channels(call, layer, call.stream("input").unpadded())
    return stream.becomes(call.graph.add(layer, stream.node), stream.axes)


def _norm_channels(call: Call, layer: BatchNorm, stream: Stream) -> Stream:
    """Batch norm of frames of shape (channels, bands), in two dimensions."""
    bands = [i for i in range(len(stream.axes)) if i != 1 and not stream.is_time(i)]
    band = next((i for i in bands if any(a.kind == "feature" for a in stream.axes[i])), None)
    if band is None:
        raise ImporterError(f"takes the channels in dimension 1, found {stream}")
    node = call.graph.add(layer, call.graph.image(stream, 1, band))
    axes = stream.with_axis(band, Axis("feature", stream.shape[band], 1))
    return stream.becomes(node, axes)


def layer_norm(call: Call) -> Stream:
    """`layer_norm(input, normalized_shape, weight, bias, eps)`, over all features of a frame."""
    stream = call.whole("input")
    size = math.prod(call["normalized_shape"])
    if stream.feature_dim() != stream.dim(-1) or len(call["normalized_shape"]) != 1:
        raise ImporterError(f"normalizes {call['normalized_shape']} of {stream}, expected features")
    weight, bias = call.optional("weight"), call.optional("bias")
    layer = LayerNorm(
        torch.ones(size) if weight is None else weight,
        torch.zeros(size) if bias is None else bias,
        call["eps"],
    )
    return stream.becomes(call.graph.add(layer, stream.node), stream.axes)


def softmax(layer: Layer) -> Callable[[Call], Stream]:
    """The handler of `softmax(self, dim)` or `log_softmax(self, dim)`, over all features of a
    frame."""

    def handler(call: Call) -> Stream:
        stream = call.whole("self")
        if stream.feature_dim() != stream.dim(call["dim"]):
            raise ImporterError(f"runs over dimension {call['dim']} of {stream}, expected features")
        return stream.becomes(call.graph.add(layer, stream.node), stream.axes)

    return handler


def embedding(call: Call) -> Stream:
    """An embedding of token ids, which are no features."""
    raise ImporterError(
        "embeds token ids, expected features; wrap the module so that it takes the embedded "
        "frames [batch, frames, size]"
    )


LAYER_OPERATORS: dict[str, Callable[[Call], Any]] = {
    "linear": linear,
    **dict.fromkeys(("matmul", "mm"), matmul),
    "addmm": addmm,
    "lstm": recurrent("lstm"),
    "gru": recurrent("gru"),
    "rnn_tanh": recurrent("rnn_tanh"),
    "rnn_relu": recurrent("rnn_relu"),
    "recurrent": recurrent_layer,
    "conv1d": conv1d,
    "conv2d": conv2d,
    "batch_norm": batch_norm,
    "layer_norm": layer_norm,
    **dict.fromkeys(("softmax", "_softmax"), softmax(Softmax())),
    **dict.fromkeys(("log_softmax", "_log_softmax"), softmax(LogSoftmax())),
    "embedding": embedding,
}
"""The handler of every operator that is a layer, by the operator's name without overload."""

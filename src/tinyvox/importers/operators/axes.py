"""ATen operators that are no layers of their own: they move, merge, cut and pad axes.

What each does to a stream is in `importers.axis_operations`; here are ATen's names and arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tinyvox.errors import ImporterError
from tinyvox.importers import axis_operations as operations
from tinyvox.importers.axis_operations import Zeros
from tinyvox.importers.layer_graph import LayerGraph
from tinyvox.importers.operators.activations import maximum, minimum
from tinyvox.importers.operators.call import Call, Unusable
from tinyvox.importers.operators.features import averaged, is_features, largest_of, summed
from tinyvox.importers.per_frame import outside, spread
from tinyvox.importers.reduction import States, frame, reduced
from tinyvox.importers.signal import Axis, Stream
from tinyvox.model import Concat, Conv2d, Dense, Linear, Slice


def unchanged(call: Call) -> Stream:
    """An operator that changes nothing: copies, and types that are float32 already."""
    stream = call.stream(next(iter(call.arguments)))
    return _checked(call, stream)


def expand(call: Call) -> Stream:
    """`expand(size)` and `expand_as(other)`, of features."""
    stream, shape = call.stream("self"), tuple(call.result.shape)
    if shape == stream.shape:
        return _checked(call, stream)
    outer = ((),) * (len(shape) - len(stream.axes)) + outside(stream)
    other = call.arguments.get("other")
    return spread(call.graph, stream, shape, outside(other) if isinstance(other, Stream) else outer)


def _checked(call: Call, stream: Stream) -> Stream:
    if tuple(call.result.shape) != stream.shape:
        raise ImporterError(
            f"repeats values: {stream} becomes {list(call.result.shape)}, expected the same shape"
        )
    if call.result.dtype != torch.float32:
        raise ImporterError(f"converts to {call.result.dtype}, expected float32; export in float32")
    return stream


def dropout(call: Call) -> Stream:
    """Dropout, which does nothing in evaluation mode."""
    if call["train"] and call["p"]:
        raise ImporterError(
            "dropout in training mode; call .eval() on the module before export, and give "
            "F.dropout training=self.training: without it, it drops values after .eval() too"
        )
    return unchanged(call)


def permute(call: Call) -> Stream:
    """`permute(dims)`; of final states, the batch before the cells."""
    if isinstance(states := call["self"], States) and list(call["dims"]) == [1, 0, 2]:
        return operations.reshape(call.graph, states.joined(call.graph), call.result.shape)
    return operations.permute(call.stream("self"), call["dims"])


def transpose(call: Call) -> Stream:
    """`transpose(dim0, dim1)`."""
    return operations.transpose(call.stream("self"), call["dim0"], call["dim1"])


def transpose_last(call: Call) -> Stream:
    """The last two dimensions exchanged; less than two stay as they are."""
    stream = call.stream("self")
    return operations.transpose(stream, -2, -1) if len(stream.axes) > 1 else stream


def reshape(call: Call) -> Stream:
    """Any view of the same values; the shape is the one that torch computes."""
    if isinstance(states := call["self"], States) and len(states.nodes) == 1:
        return operations.reshape(call.graph, states.select(call.graph, 0), call.result.shape)
    return operations.reshape(call.graph, call.stream("self"), tuple(call.result.shape))


def select(call: Call) -> Stream:
    """`select(dim, index)`: of a dimension of size 1, of frames, or of final states."""
    if isinstance(call["self"], States) and call["dim"] in (0, -3):
        return call["self"].select(call.graph, call["index"])
    stream = call.stream("self")
    if stream.is_time(call["dim"]):
        return frame(call.graph, stream, call["dim"], call["index"])
    return operations.select(call.graph, stream, call["dim"], call["index"])


def cut(call: Call) -> Stream | States:
    """`slice(dim, start, end, step)`."""
    part = slice(call["start"], call["end"], call["step"])
    if isinstance(call["self"], States) and call["dim"] == 0:
        return call["self"].cut(part)
    stream = call.stream("self")
    index = _only_frame(stream, call["dim"], part)
    if index is not None:
        return frame(call.graph, stream, call["dim"], index, keep=True)
    return operations.cut(call.graph, stream, call["dim"], part)


def _only_frame(stream: Stream, dim: int, part: slice) -> int | None:
    """Which of the frames is left, where a slice leaves the first or the last one of many."""
    count = stream.shape[stream.dim(dim)]
    first, last, _ = part.indices(count)
    if not stream.is_time(dim) or last - first != 1 or stream.is_padded:
        return None
    if part.start == -1 or (first == count - 1 and count > _FEW):
        return -1
    return 0 if first == 0 and count > _FEW else None


_FEW = 2
"""Frames of which one frame may be all but those that a shift cuts off."""


def flip(call: Call) -> Stream:
    """`flip(dims)`."""
    return operations.flip(call.graph, call.stream("self"), call["dims"])


def pad(call: Call) -> Stream:
    """`pad(pad)`: amounts before and after for each dimension, the last dimension first."""
    stream = call.stream("self")
    if call.arguments.get("mode", "constant") != "constant" or call["value"]:
        raise ImporterError("pads with something else than zeros; pad with zeros")
    amounts = list(call["pad"])
    for i, (before, after) in enumerate(zip(amounts[::2], amounts[1::2], strict=True)):
        stream = operations.pad(stream, -1 - i, before, after)
    return stream


def reflect(call: Call) -> Stream:
    """`reflection_pad1d(padding)` of the features of a frame: a part of them, turned round by a
    matrix, is joined to each end."""
    stream, (before, after) = call.whole("self"), call["padding"]
    if stream.feature_dim() != stream.dim(-1) or len(call.graph.signals[stream.node].shape) != 1:
        raise ImporterError(f"reflects the last dimension of {stream}, expected features")
    size = stream.shape[-1]
    left = _turned(call.graph, stream.node, 1, before + 1)
    right = _turned(call.graph, stream.node, size - 1 - after, size - 1)
    node = call.graph.add(Concat(), *left, stream.node, *right)
    return stream.becomes(node, stream.with_axis(-1, Axis("feature", before + size + after)))


def _turned(graph: LayerGraph, node: str, start: int, stop: int) -> tuple[str, ...]:
    """The node of features in a row, the last one first; none where there are none."""
    if start == stop:
        return ()
    mirror = Linear(Dense(torch.eye(stop - start).flip(0)))
    return (graph.add(mirror, graph.add(Slice(start, stop), node)),)


def unfold(call: Call) -> Stream:
    """`unfold(dimension, size, step)`."""
    stream = call.stream("self")
    return operations.unfold(call.graph, stream, call["dimension"], call["size"], call["step"])


def concatenate(call: Call) -> Stream | States:
    """`cat(tensors, dim)`; final states of several layers along the cells."""
    states = [t for t in call["tensors"] if isinstance(t, States)]
    if states and len(states) == len(call["tensors"]) and call["dim"] in (0, -3):
        return States(tuple(node for each in states for node in each.nodes), states[0].batch)
    tensors = [_of_one_cell(call.graph, tensor) for tensor in call["tensors"]]
    streams = [t for t in tensors if isinstance(t, Stream)]
    if any(isinstance(t, States) for t in tensors) or not streams:
        raise ImporterError("joins the final states of recurrent layers with something else")
    dim = streams[0].dim(call["dim"])
    parts = [t if isinstance(t, Stream) else _zeros(t, dim) for t in tensors]
    return operations.concatenate(call.graph, parts, dim)


def _of_one_cell(graph: LayerGraph, given: Any) -> Any:
    """The final state of a single cell as a stream [1, batch, size]; anything else as it is."""
    if not isinstance(given, States) or len(given.nodes) != 1:
        return given
    state = given.select(graph, 0)
    return operations.reshape(graph, state, (1, *state.shape))


def _zeros(values: Any, dim: int) -> Zeros:
    if not isinstance(values, Tensor):
        raise ImporterError("joins a signal with the states of a layer, expected signals alone")
    if values.any():
        raise ImporterError(
            "joins a signal with a constant that is not zero; only zeros can be put around one"
        )
    return Zeros(values.shape[dim])


def stack(call: Call) -> Stream:
    """`stack(tensors, dim)`."""
    streams = [t for t in call["tensors"] if isinstance(t, Stream)]
    if len(streams) != len(call["tensors"]):
        raise ImporterError("stacks signals and constants, expected signals alone")
    return operations.stack(call.graph, streams, call["dim"])


def total(call: Call) -> Stream:
    """`sum(dim, keepdim)`."""
    stream, dims = call.stream("self"), call["dim"] or ()
    if is_features(stream, dims) and not operations.has_directions(call.graph, stream, dims):
        return summed(call, stream, dims, call["keepdim"])
    return operations.sum_directions(call.graph, stream, dims, call["keepdim"])


def reduction(kind: str) -> Callable[[Call], Stream]:
    """The handler of `mean(dim, keepdim)` and `amax(dim, keepdim)`."""

    def handler(call: Call) -> Stream:
        dims: Sequence[int] = call.arguments.get("dim") or ()
        keep = call.arguments.get("keepdim", False)
        if kind == "mean" and len(dims) == 1 and _is_band(call.stream("self"), dims[0]):
            return _mean_of_bands(call, call.whole("self"), dims[0])
        if is_features(call.stream("self"), dims):
            stream = call.whole("self")
            found = averaged if kind == "mean" else largest_of
            return found(call, stream, dims, keep)
        return reduced(call.graph, call.stream("self"), kind, dims, keep)

    return handler


def _is_band(stream: Stream, dim: int) -> bool:
    """Whether a dimension is the bands of frames of shape (channels, bands)."""
    axes = stream.axes[stream.dim(dim)]
    return [(axis.kind, axis.index) for axis in axes] == [("feature", 1)]


def _mean_of_bands(call: Call, stream: Stream, dim: int) -> Stream:
    """The mean over bands: a convolution of each channel with equal weights."""
    channels, bands = call.graph.signals[stream.node].shape
    weight = Dense(torch.full((channels, bands), 1 / bands))
    node = call.graph.add(Conv2d(weight, None, (1, bands), groups=channels), stream.node)
    return operations.reshape(
        call.graph, stream.becomes(node, stream.with_axis(dim)), call.result.shape
    )


def largest(call: Call) -> Stream | tuple[Stream, Unusable]:
    """`max(dim, keepdim)`: the values alone; of two signals, the larger one."""
    if "other" in call.arguments:
        return maximum(call)
    if is_features(call.stream("self"), (call["dim"],)):
        return largest_of(call, call.stream("self"), (call["dim"],), call["keepdim"]), _WHERE
    stream = reduced(call.graph, call.stream("self"), "max", (call["dim"],), call["keepdim"])
    return stream, _WHERE


def pooled(kind: str) -> Callable[[Call], Any]:
    """The handler of `adaptive_avg_pool1d` and `adaptive_max_pool1d`, to one frame."""

    def handler(call: Call) -> Any:
        if list(call["output_size"]) != [1]:
            raise ImporterError(f"pools to {list(call['output_size'])} frames, expected one")
        stream = reduced(call.graph, call.stream("self"), kind, (-1,), keep=True)
        return (stream, _WHERE) if isinstance(call.result, tuple) else stream

    return handler


_WHERE = Unusable("the places of the largest values are used, expected the values alone")


AXIS_OPERATORS: dict[str, Callable[[Call], Any]] = {
    **dict.fromkeys(("alias", "clone", "contiguous", "detach", "lift_fresh"), unchanged),
    **dict.fromkeys(("expand", "expand_as"), expand),
    **dict.fromkeys(("lift_fresh_copy", "to", "_to_copy"), unchanged),
    **dict.fromkeys(("dropout", "feature_dropout", "alpha_dropout"), dropout),
    "permute": permute,
    "transpose": transpose,
    **dict.fromkeys(("t", "mT", "numpy_T", "matrix_H"), transpose_last),
    **dict.fromkeys(
        ("view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze"), reshape
    ),
    "select": select,
    "slice": cut,
    "flip": flip,
    **dict.fromkeys(("pad", "constant_pad_nd"), pad),
    "reflection_pad1d": reflect,
    "unfold": unfold,
    **dict.fromkeys(("cat", "concat"), concatenate),
    "stack": stack,
    "sum": total,
    "mean": reduction("mean"),
    "amax": reduction("max"),
    "max": largest,
    "min": minimum,
    "adaptive_avg_pool1d": pooled("mean"),
    "adaptive_max_pool1d": pooled("max"),
}
"""The handler of every operator that is no layer, by the operator's name without overload."""

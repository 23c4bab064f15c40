"""ATen operators that are no layers of their own: they move, merge, cut and pad axes.

What each does to a stream is in `importers.axis_operations`; here are ATen's names and arguments.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tinyvox.errors import ImporterError
from tinyvox.importers import axis_operations as operations
from tinyvox.importers.axis_operations import Zeros
from tinyvox.importers.broadcasting import alike, repeated
from tinyvox.importers.directions import has_directions, sum_directions
from tinyvox.importers.final_states import States, gathered
from tinyvox.importers.operators.activations import maximum, minimum
from tinyvox.importers.operators.arithmetic import scaled_by
from tinyvox.importers.operators.call import Call, Unusable
from tinyvox.importers.operators.features import averaged, is_features, largest_of, summed
from tinyvox.importers.operators.pooling import padded_by
from tinyvox.importers.pooling import adapted, is_band, of_bands_and_time
from tinyvox.importers.reduction import ONE_BY_ONE, frame, reduced
from tinyvox.importers.signal import Stream


def unchanged(call: Call) -> Stream | States:
    """An operator that changes nothing: copies, and types that are float32 already."""
    if isinstance(states := next(iter(call.arguments.values())), States):
        return states
    stream = call.stream(next(iter(call.arguments)))
    return _checked(call, stream)


def expand(call: Call) -> Stream:
    """`expand(size)` and `expand_as(other)`, of features."""
    stream, shape = call.stream("self"), tuple(call.result.shape)
    if shape == stream.shape:
        return _checked(call, stream)
    if isinstance(other := call.arguments.get("other"), Stream):
        return alike(call.graph, call.graph.whole(stream), call.graph.whole(other))[0]
    return repeated(call.graph, call.graph.whole(stream), shape)


def overwritten(call: Call) -> Stream:
    """`copy(self, src)`: all of a tensor filled with other values."""
    return expand(call.given(self=call.stream("src")))


def _checked(call: Call, stream: Stream) -> Stream:
    if tuple(call.result.shape) != stream.shape:
        raise ImporterError(
            f"repeats values: {stream} becomes {list(call.result.shape)}, expected the same shape"
        )
    if call.result.dtype != torch.float32 and stream.features():
        raise ImporterError(f"converts to {call.result.dtype}, expected float32; export in float32")
    return stream


def dropout(call: Call) -> Stream | States:
    """Dropout, which does nothing in evaluation mode."""
    if call["train"] and call["p"]:
        raise ImporterError(
            "dropout in training mode; call .eval() on the module before export, and give "
            "F.dropout training=self.training: without it, it drops values after .eval() too"
        )
    return unchanged(call)


def permute(call: Call) -> Stream | States:
    """`permute(dims)`."""
    if isinstance(states := call["self"], States):
        return states.permute(call["dims"])
    return operations.permute(call.stream("self"), call["dims"])


def transpose(call: Call) -> Stream | States:
    """`transpose(dim0, dim1)`."""
    if isinstance(states := call["self"], States):
        order = list(range(len(states.dims)))
        one, two = call["dim0"], call["dim1"]
        order[one], order[two] = order[two], order[one]
        return states.permute(order)
    return operations.transpose(call.stream("self"), call["dim0"], call["dim1"])


def transpose_last(call: Call) -> Stream:
    """The last two dimensions exchanged; less than two stay as they are."""
    stream = call.stream("self")
    return operations.transpose(stream, -2, -1) if len(stream.axes) > 1 else stream


def reshape(call: Call) -> Stream | States:
    """Any view of the same values; the shape is the one that torch computes."""
    if isinstance(states := call["self"], States):
        return states.reshape(call.graph, tuple(call.result.shape))
    return operations.reshape(call.graph, call.stream("self"), tuple(call.result.shape))


def select(call: Call) -> Stream | States:
    """`select(dim, index)`: of a dimension of size 1, of frames, or of final states."""
    if isinstance(states := call["self"], States):
        return states.select(call.graph, call["dim"], call["index"])
    stream = call.stream("self")
    if stream.is_time(call["dim"]):
        return frame(call.graph, stream, call["dim"], call["index"])
    return operations.select(call.graph, stream, call["dim"], call["index"])


def cut(call: Call) -> Stream | States:
    """`slice(dim, start, end, step)`."""
    part = slice(call["start"], call["end"], call["step"])
    if isinstance(states := call["self"], States):
        return states.cut(call.graph, call["dim"], part)
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
    stream, amounts = call.stream("self"), list(call["pad"])
    if (mode := call.arguments.get("mode", "constant")) != "constant":
        return padded_by(call, mode, amounts)
    if call["value"]:
        raise ImporterError("pads with something else than zeros; pad with zeros")
    for i, (before, after) in enumerate(zip(amounts[::2], amounts[1::2], strict=True)):
        stream = operations.pad(stream, -1 - i, before, after)
    return stream


def unfold(call: Call) -> Stream:
    """`unfold(dimension, size, step)`."""
    stream = call.stream("self")
    return operations.unfold(call.graph, stream, call["dimension"], call["size"], call["step"])


def concatenate(call: Call) -> Stream | States:
    """`cat(tensors, dim)`; final states of several layers along the cells."""
    if (states := gathered(call.graph, call["tensors"], call["dim"])) is not None:
        return states
    tensors = [t.final(call.graph) if isinstance(t, States) else t for t in call["tensors"]]
    streams = [t for t in tensors if isinstance(t, Stream)]
    if any(isinstance(t, States) for t in tensors) or not streams:
        raise ImporterError("joins the final states of recurrent layers with something else")
    dim = streams[0].dim(call["dim"])
    parts = [t if isinstance(t, Stream) else _zeros(t, dim) for t in tensors]
    return operations.concatenate(call.graph, parts, dim)


def _zeros(values: Any, dim: int) -> Zeros:
    if not isinstance(values, Tensor):
        raise ImporterError("joins a signal with the states of a layer, expected signals alone")
    if values.any():
        raise ImporterError(
            "joins a signal with a constant that is not zero; only zeros can be put around one"
        )
    return Zeros(values.shape[dim])


def stack(call: Call) -> Stream | States:
    """`stack(tensors, dim)`."""
    if (states := gathered(call.graph, call["tensors"], call["dim"], new=True)) is not None:
        return states
    streams = [t for t in call["tensors"] if isinstance(t, Stream)]
    if len(streams) != len(call["tensors"]):
        raise ImporterError("stacks signals and constants, expected signals alone")
    return operations.stack(call.graph, streams, call["dim"])


def unbind(call: Call) -> tuple[Any, ...]:
    """`unbind(dim)`."""
    dim = call.arguments.get("dim", 0)
    parts = range(len(call.result))
    if isinstance(states := call["self"], States):
        return tuple(states.select(call.graph, dim, i) for i in parts)
    if call.stream("self").is_time(dim):
        raise ImporterError(ONE_BY_ONE)
    return tuple(operations.select(call.graph, call.stream("self"), dim, i) for i in parts)


def _combined(call: Call, states: States, mean: bool) -> Stream:
    """The sum or the mean of the final states of cells."""
    dims: Sequence[int] = call.arguments.get("dim") or ()
    if len(dims) != 1:
        raise ImporterError(f"adds up dimensions {list(dims)} of final states, expected one")
    keep = call.arguments.get("keepdim", False)
    stream, factor = states.combined(call.graph, dims[0], mean, keep)
    return dataclasses.replace(stream, node=scaled_by(call, stream.node, factor))


def total(call: Call) -> Stream:
    """`sum(dim, keepdim)`: over time, or of the two directions of a recurrent layer."""
    if isinstance(call["self"], States):
        return _combined(call, call["self"], mean=False)
    stream = call.stream("self")
    dims: Sequence[int] = call["dim"] or ()
    if _have_one_step(stream, dims):
        return operations.reshape(call.graph, stream, tuple(call.result.shape))
    if len(dims) == 1 and stream.is_time(dims[0]):
        return reduced(call.graph, stream, "sum", dims, call["keepdim"])
    if is_features(stream, dims) and not has_directions(call.graph, stream, dims):
        return summed(call, stream, dims, call["keepdim"])
    return sum_directions(call.graph, stream, dims, call["keepdim"])


def _have_one_step(stream: Stream, dims: Sequence[int]) -> bool:
    """Whether these dimensions have size 1, so that there is nothing to sum or compare."""
    return bool(dims) and not any(stream.axes[stream.dim(dim)] for dim in dims)


def reduction(kind: str) -> Callable[[Call], Stream]:
    """The handler of `mean(dim, keepdim)` and `amax(dim, keepdim)`."""

    def handler(call: Call) -> Stream:
        dims: Sequence[int] = call.arguments.get("dim") or ()
        keep = call.arguments.get("keepdim", False)
        if isinstance(call["self"], States) and kind == "mean":
            return _combined(call, call["self"], mean=True)
        stream = call.stream("self")
        if _have_one_step(stream, dims):
            shape = call.result[0].shape if isinstance(call.result, tuple) else call.result.shape
            return operations.reshape(call.graph, stream, tuple(shape))
        if kind == "mean" and (both := _mean_of_frames_and_features(call, stream, dims)):
            return both
        if is_features(stream, dims) and not all(is_band(stream, dim) for dim in dims):
            found = averaged if kind == "mean" else largest_of
            return found(call, call.graph.whole(stream), dims, keep)
        return of_bands_and_time(call.graph, stream, kind, dims, keep)

    return handler


def _mean_of_frames_and_features(call: Call, stream: Stream, dims: Sequence[int]) -> Stream | None:
    """The mean over time, then over features, where there are both among the dimensions."""
    time = [dim for dim in dims if stream.is_time(dim)]
    features = [dim for dim in dims if stream.axes[stream.dim(dim)] and dim not in time]
    if len(time) != 1 or not is_features(stream, features):
        return None
    of_frames = reduced(call.graph, stream, "mean", time, True)
    found = averaged(call, of_frames, features, True)
    return operations.reshape(call.graph, found, tuple(call.result.shape))


def largest(call: Call) -> Stream | tuple[Stream, Unusable]:
    """`max(dim, keepdim)`: the values alone; of two signals, the larger one."""
    if "other" in call.arguments:
        return maximum(call)
    dims = (call["dim"],) if "dim" in call.arguments else ()
    of = {"self": call["self"], "dim": dims, "keepdim": call.arguments.get("keepdim", False)}
    return reduction("max")(call.given(**of)), _WHERE


def pooled(kind: str) -> Callable[[Call], Any]:
    """The handler of `adaptive_avg_pool2d` and the like."""

    def handler(call: Call) -> Any:
        stream = adapted(call.graph, call.stream("self"), kind, call["output_size"])
        return (stream, _WHERE) if isinstance(call.result, tuple) else stream

    return handler


_WHERE = Unusable("the places of the largest values are used, expected the values alone")


AXIS_OPERATORS: dict[str, Callable[[Call], Any]] = {
    **dict.fromkeys(("alias", "clone", "contiguous", "detach", "lift_fresh"), unchanged),
    **dict.fromkeys(("expand", "expand_as"), expand),
    "copy": overwritten,
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
    "unfold": unfold,
    **dict.fromkeys(("cat", "concat"), concatenate),
    "stack": stack,
    "sum": total,
    "mean": reduction("mean"),
    "amax": reduction("max"),
    "max": largest,
    "min": minimum,
    **{f"adaptive_avg_pool{n}d": pooled("mean") for n in (1, 2)},
    **{f"adaptive_max_pool{n}d": pooled("max") for n in (1, 2)},
    "unbind": unbind,
}
"""The handler of every operator that is no layer, by the operator's name without overload."""

"""Operators that are no layers of their own: they move, merge, cut and pad axes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from tinyvox.errors import ImporterError
from tinyvox.importers.torch.graph import Axis, Call, Stream, context
from tinyvox.model import Add, Concat, FrameStacking, Layer, Recurrent, Subsample, Unflatten


def same(call: Call) -> Stream:
    """The operator changes nothing."""
    stream = call.stream(next(iter(call.arguments)))
    if call.result.shape != stream.example.shape:
        raise ImporterError(f"repeats values: {stream} becomes {list(call.result.shape)}")
    if call.result.dtype != stream.example.dtype:
        raise ImporterError(f"converts to {call.result.dtype}, expected float32; export in float32")
    return dataclasses.replace(stream, example=call.result)


def dropout(call: Call) -> Stream:
    if call["train"] and call["p"]:
        raise ImporterError("dropout in training mode; call .eval() on the module before export")
    return same(call)


def constant(call: Call) -> Any:
    """The result depends on the input's shape alone."""
    return call.result


def permute(call: Call) -> Stream:
    return _permuted(call, call["dims"])


def transpose(call: Call) -> Stream:
    stream = call.stream("self")
    dims = list(range(stream.example.ndim))
    a, b = stream.dim(call["dim0"]), stream.dim(call["dim1"])
    dims[a], dims[b] = b, a
    return _permuted(call, dims)


def turn(call: Call) -> Stream:
    """The last two dimensions exchanged."""
    dims = list(range(call.stream("self").example.ndim))
    return _permuted(call, [*dims[:-2], *dims[-2:][::-1]])


def _permuted(call: Call, dims: Sequence[int]) -> Stream:
    stream = call.stream("self")
    axes = tuple(stream.axes[stream.dim(d)] for d in dims)
    return dataclasses.replace(stream, example=call.result, axes=axes)


def reshape(call: Call) -> Stream:
    """Any view: the axes dealt out again to the new dimensions, split where a border cuts them."""
    stream = call.stream("self")
    left = [axis for dim in stream.axes for axis in dim]
    dims = []
    for size in call.result.shape:
        dim: list[Axis] = []
        while size > 1:
            axis = left.pop(0)
            if size % axis.size:
                stream, axis, rest = _split(call, stream, axis, size)
                left.insert(0, rest)
            dim.append(axis)
            size //= axis.size
        dims.append(tuple(dim))
    stream = dataclasses.replace(stream, example=call.result, axes=tuple(dims))
    merged = len(stream.features()) > 1 and stream.feature_dim() is not None
    if merged and call.graph.columns(stream)[1] is None:
        return call.graph.finalize(stream)
    return stream


def _split(call: Call, stream: Stream, axis: Axis, size: int) -> tuple[Stream, Axis, Axis]:
    """An axis as `size` steps of the rest."""
    rest, odd = divmod(axis.size, size)
    if odd or stream.window or axis.kind not in ("time", "feature"):
        raise ImporterError(f"{stream} becomes {list(call.result.shape)}, which mixes axes")
    if axis.kind == "time":
        return _stacked(call, stream, rest), Axis("time", size), Axis("window", rest)
    if len(call.graph.signals[stream.node].shape) != 1 or stream.bands != (0, 0):
        raise ImporterError(f"{stream} becomes {list(call.result.shape)}: more than two axes")
    stream = dataclasses.replace(stream, node=call.graph.add(Unflatten(size), stream.node))
    return stream, Axis("feature", size, 0), Axis("feature", rest, 1)


def _stacked(call: Call, stream: Stream, count: int) -> Stream:
    if stream.span[0] or not -count < stream.span[1] <= 0 or stream.backwards:
        raise ImporterError(f"stacks {count} frames of padded or shifted frames {stream.span}")
    window = call.graph.window(stream.node, FrameStacking(count, count))
    return dataclasses.replace(stream, span=(0, 0), window=window)


def select(call: Call) -> Stream:
    stream = call.stream("self")
    dim = stream.dim(call["dim"])
    if stream.axes[dim]:
        raise ImporterError(f"takes one step out of dimension {dim} of {stream}")
    axes = (*stream.axes[:dim], *stream.axes[dim + 1 :])
    return dataclasses.replace(stream, example=call.result, axes=axes)


def cut(call: Call) -> Stream:
    """A slice: all, a span of frames, or every n-th frame."""
    stream, step = call.stream("self"), call["step"]
    size = stream.example.shape[call["dim"]]
    first, last, _ = slice(call["start"], call["end"]).indices(size)
    if call.result.shape == stream.example.shape:
        return dataclasses.replace(stream, example=call.result)
    if not stream.is_time(call["dim"]):
        raise ImporterError(f"keeps {first}:{last} of dimension {call['dim']} of {stream}")
    if step == 1 and not stream.window and not stream.backwards:
        span = (stream.span[0] + first, stream.span[1] + last - size)
        return dataclasses.replace(
            stream, example=call.result, axes=stream.resized(call.result), span=span
        )
    stream = call.whole("self")
    if first or last != size or stream.backwards:
        raise ImporterError(f"keeps frames {first}:{last}:{step}, expected all or every n-th")
    return call.becomes(
        stream, call.graph.add(Subsample(step), stream.node), stream.resized(call.result)
    )


def flip(call: Call) -> Stream:
    stream = call.whole("self")
    if any(not stream.is_time(dim) for dim in call["dims"]):
        raise ImporterError(f"turns dimensions {call['dims']} of {stream}, expected time alone")
    turned = len(call["dims"]) % 2 == 1
    return dataclasses.replace(stream, example=call.result, backwards=stream.backwards != turned)


def pad(call: Call) -> Stream:
    """Zeros around frames or bands; convolutions and windows take them in."""
    stream = call.stream("self")
    if call.arguments.get("mode", "constant") != "constant" or call["value"]:
        raise ImporterError("pads with something else than zeros")
    for i in range(len(call["pad"]) // 2):
        before, after = call["pad"][2 * i : 2 * i + 2]
        if before or after:
            stream = _padded(call, stream, -1 - i, before, after)
    return dataclasses.replace(stream, example=call.result, axes=stream.resized(call.result))


def _padded(call: Call, stream: Stream, dim: int, before: int, after: int) -> Stream:
    if stream.is_time(dim) and not stream.window:
        return _padded_time(stream, before, after)
    last = max(stream.features(), key=lambda axis: axis.index, default=None)
    if stream.axes[dim] != (last,) or stream.bands != (0, 0) or min(before, after) < 0:
        raise ImporterError(f"pads dimension {dim} of {stream}, expected time or bands")
    return dataclasses.replace(stream, bands=(before, after))


def _padded_time(stream: Stream, before: int, after: int) -> Stream:
    first, last = stream.span
    if min(before, after) < 0 or (before and first > 0) or (after and last < 0) or stream.backwards:
        raise ImporterError("pads frames that were cut before, or cuts by padding")
    return dataclasses.replace(stream, span=(first - before, last + after))


def unfold(call: Call) -> Stream:
    """Windows of frames: a context window around every frame, or stacked frames."""
    stream, size, step = call.stream("self"), call["size"], call["step"]
    dim = stream.dim(call["dimension"])
    if not stream.is_time(dim) or stream.window or stream.backwards:
        raise ImporterError(f"cuts windows out of dimension {dim} of {stream}, expected time")
    first, last = stream.span
    layers: tuple[Layer, ...] = (FrameStacking(size, step),)
    if (first, last) != (0, 0):
        if last - first != size - 1:
            raise ImporterError(f"{size} frames of context around padding {-first}, {last}")
        layers = (context(first, last), *([Subsample(step)] if step > 1 else []))
    window = (Axis("window", size),) if size > 1 else ()
    axes = (*stream.with_axis(dim, Axis("time", call.result.shape[dim])), window)
    return Stream(call.result, stream.node, axes, window=call.graph.window(stream.node, *layers))


def cat(call: Call) -> Stream:
    """Padding, the shifts of a context window, the two directions of a layer, or features."""
    tensors = list(call["tensors"])
    streams = [t for t in tensors if isinstance(t, Stream)]
    if len(tensors) == 1:
        return dataclasses.replace(streams[0], example=call.result)
    dim = streams[0].dim(call["dim"])
    if streams[0].is_time(dim):
        return _zeros_around(call, tensors, dim)
    if len(streams) != len(tensors):
        raise ImporterError("joins features with constants")
    if len({s.span for s in streams}) == len(streams) > 1:
        return _shifts(call, streams, dim, merged=True)
    return _joined(call, [call.graph.finalize(s) for s in streams], dim)


def stack(call: Call) -> Stream:
    streams = [t for t in call["tensors"] if isinstance(t, Stream)]
    if len(streams) != len(call["tensors"]):
        raise ImporterError("stacks signals and constants")
    return _shifts(call, streams, call["dim"] % call.result.ndim, merged=False)


def _zeros_around(call: Call, tensors: list[Stream | Tensor], dim: int) -> Stream:
    places = [i for i, t in enumerate(tensors) if isinstance(t, Stream)]
    others = [t for t in tensors if isinstance(t, Tensor)]
    stream = tensors[places[0]]
    if len(places) != 1 or any(t.any() for t in others) or not isinstance(stream, Stream):
        raise ImporterError("joins signals in time; only zeros can be put around one")
    before, after = (
        sum(t.shape[dim] for t in part if isinstance(t, Tensor))
        for part in (tensors[: places[0]], tensors[places[0] :])
    )
    stream = _padded(call, stream, dim, before, after)
    return dataclasses.replace(stream, example=call.result, axes=stream.resized(call.result))


def _shifts(call: Call, streams: list[Stream], dim: int, merged: bool) -> Stream:
    """Copies of one signal, each one frame later than the one before: a context window."""
    base = streams[0]
    first = base.span[0]
    expected = [(first + i, first + i) for i in range(len(streams))]
    if [s.span for s in streams] != expected or {s.node for s in streams} != {base.node}:
        raise ImporterError(
            "joins shifted signals, expected one signal shifted by 1, 2, 3... frames"
        )
    if any(s.window or s.bands != (0, 0) or s.backwards or s.axes != base.axes for s in streams):
        raise ImporterError("joins shifted signals of different layouts")
    if merged and base.feature_dim() not in (None, dim):
        raise ImporterError(f"joins shifted signals in dimension {dim} of {base}")
    axis = Axis("window", len(streams))
    old = (axis, *base.axes[dim]) if merged else (axis,)
    axes = (*base.axes[:dim], old, *base.axes[dim + merged :])
    window = call.graph.window(base.node, context(first, first + len(streams) - 1))
    return Stream(call.result, base.node, axes, window=window)


def _joined(call: Call, streams: list[Stream], dim: int) -> Stream:
    layouts = {(s.with_axis(dim), s.backwards) for s in streams}
    flat = all(not s.features() or s.feature_dim() == dim for s in streams)
    padded = any(s.span != (0, 0) or s.bands != (0, 0) for s in streams)
    if len(layouts) != 1 or not flat or padded:
        raise ImporterError(
            f"joins {', '.join(map(str, streams))}, expected features of equal frames"
        )
    node = _both_directions(call, streams) or call.graph.add(Concat(), *(s.node for s in streams))
    axes = streams[0].with_axis(dim, Axis("feature", call.result.shape[dim]))
    return call.becomes(streams[0], node, axes)


def _both_directions(call: Call, streams: list[Stream]) -> str | None:
    """One recurrent layer for a forward one and a backward one that read the same."""
    nodes = [call.graph.nodes.get(stream.node) for stream in streams]
    if len(nodes) != 2 or nodes[0] is None or nodes[1] is None:
        return None
    one, two = nodes[0].layer, nodes[1].layer
    if not isinstance(one, Recurrent) or not isinstance(two, Recurrent):
        return None
    pair = (one.backward, two.forward) == (None, None) and one.kind == two.kind
    if not pair or nodes[0].inputs != nodes[1].inputs:
        return None
    return call.graph.add(Recurrent(one.kind, one.forward, two.backward), *nodes[0].inputs)


def total(call: Call) -> Stream:
    """The sum of the two directions of a recurrent layer, as Deep Speech 2 takes it."""
    stream = call.stream("self")
    source = call.graph.nodes.get(stream.node)
    dims = [stream.dim(d) for d in call["dim"] or ()]
    halves = len(dims) == 1 and stream.axes[dims[0]] == (Axis("feature", 2, 0),)
    both = call.graph.nodes.get(source.inputs[0]) if source else None
    if not halves or both is None or not isinstance(both.layer, Recurrent) or source is None:
        raise ImporterError(f"sums over dimension {call['dim']} of {stream}")
    if not isinstance(source.layer, Unflatten) or len(both.layer.cells()) != 2:
        raise ImporterError(f"sums over dimension {call['dim']} of {stream}")
    sides = (
        call.graph.add(side, *both.inputs)
        for side in (
            dataclasses.replace(both.layer, backward=None),
            dataclasses.replace(both.layer, forward=None),
        )
    )
    node = call.graph.add(Add(), *sides)
    size = math.prod(call.graph.signals[node].shape)
    kept = stream.with_axis(dims[0])
    axes = kept if call["keepdim"] else (*kept[: dims[0]], *kept[dims[0] + 1 :])
    return call.becomes(stream, node, tuple(tuple(_renamed(a, size) for a in dim) for dim in axes))


def _renamed(axis: Axis, size: int) -> Axis:
    return Axis("feature", size) if axis.kind == "feature" else axis


AXES: dict[str, Callable[[Call], Any]] = {
    **dict.fromkeys(
        ("alias", "clone", "contiguous", "detach", "expand", "expand_as", "lift_fresh"), same
    ),
    **dict.fromkeys(("lift_fresh_copy", "to", "_to_copy"), same),
    **dict.fromkeys(("dropout", "feature_dropout", "alpha_dropout"), dropout),
    **dict.fromkeys(("sym_size", "new_zeros", "new_ones", "new_full", "zeros_like"), constant),
    "permute": permute,
    "transpose": transpose,
    **dict.fromkeys(("t", "mT", "numpy_T", "matrix_H"), turn),
    **dict.fromkeys(
        ("view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze"), reshape
    ),
    "select": select,
    "slice": cut,
    "flip": flip,
    **dict.fromkeys(("pad", "constant_pad_nd"), pad),
    "unfold": unfold,
    **dict.fromkeys(("cat", "concat"), cat),
    "stack": stack,
    "sum": total,
}
"""What an operator that is no layer does to a stream, by its name without overload."""

"""Operators that are no layers of their own, on streams: they move, merge, cut and pad axes.

Every framework has them under names of its own. Each function gives the stream of the result, and
adds a layer to the graph where the operators seen so far make one up: a context window, stacked
frames, every n-th frame. All raise ImporterError where no layer does what the operator does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from tinyvox.errors import ImporterError
from tinyvox.importers.layer_graph import LayerGraph, picked
from tinyvox.importers.per_frame import in_order_of_dims, outside, rearranged
from tinyvox.importers.signal import Axis, Stream, feature_dims
from tinyvox.model import (
    ZERO,
    Concat,
    ContextWindow,
    FrameStacking,
    Layer,
    Recurrent,
    Subsample,
    Take,
    Unflatten,
)


@dataclass(frozen=True)
class Zeros:
    """A constant that is joined to a stream: `size` steps of zeros along the joined dimension."""

    size: int


def permute(stream: Stream, dims: Sequence[int]) -> Stream:
    """The dimensions in another order."""
    return dataclasses.replace(stream, axes=tuple(stream.axes[stream.dim(d)] for d in dims))


def transpose(stream: Stream, one: int, two: int) -> Stream:
    """Two dimensions exchanged."""
    dims = list(range(len(stream.axes)))
    one, two = stream.dim(one), stream.dim(two)
    dims[one], dims[two] = two, one
    return permute(stream, dims)


def reshape(graph: LayerGraph, stream: Stream, shape: Sequence[int]) -> Stream:
    """Another shape for the same values: the axes dealt out again to the new dimensions.

    An axis that a border cuts is split: time into stacks of frames, features into channels and
    bands.
    """
    left = [axis for dim in stream.axes for axis in dim]
    dims = []
    for size in shape:
        dim: list[Axis] = []
        while size > 1:
            axis = left.pop(0)
            if size % axis.size:
                stream, axis, rest = _split(graph, stream, axis, size, shape)
                left.insert(0, rest)
            dim.append(axis)
            size //= axis.size
        dims.append(tuple(dim))
    stream = dataclasses.replace(stream, axes=tuple(dims))
    merged = len(stream.features()) > 1 and stream.feature_dim() is not None
    if merged and graph.columns(stream)[1] is None:
        return graph.finalize(stream)
    return stream


def _split(
    graph: LayerGraph, stream: Stream, axis: Axis, size: int, shape: Sequence[int]
) -> tuple[Stream, Axis, Axis]:
    """An axis as two: `size` steps, each of them over the rest."""
    rest, odd = divmod(axis.size, size)
    if odd or stream.window or axis.kind not in ("time", "feature"):
        raise ImporterError(f"{stream} becomes {list(shape)}, which mixes axes")
    if axis.kind == "time":
        return _stacked(graph, stream, rest), Axis("time", size), Axis("window", rest)
    if len(graph.signals[stream.node].shape) != 1 or stream.bands != (0, 0):
        raise ImporterError(
            f"{stream} becomes {list(shape)}: more than two feature axes, expected channels and "
            "bands at most"
        )
    stream = dataclasses.replace(stream, node=graph.add(Unflatten(size), stream.node))
    return stream, Axis("feature", size, 0), Axis("feature", rest, 1)


def _stacked(graph: LayerGraph, stream: Stream, count: int) -> Stream:
    """Stacks of `count` frames; some frames at the end may have been cut off."""
    first, last = stream.span
    if not first and 0 < last < count and not stream.backwards:  # padded to a multiple
        window = graph.window(stream.node, ContextWindow(0, count - 1), Subsample(count))
        return dataclasses.replace(stream, span=(0, 0), window=window)
    if first or not -count < last <= 0 or stream.backwards:
        raise ImporterError(
            f"stacks {count} frames of padded or shifted frames {stream.span}, expected frames "
            f"of a layer, of which at most the last {count - 1} are cut off or added"
        )
    window = graph.window(stream.node, FrameStacking(count, count))
    return dataclasses.replace(stream, span=(0, 0), window=window)


def select(graph: LayerGraph, stream: Stream, dim: int, index: int) -> Stream:
    """One step of a dimension of features, or of size 1, which is dropped."""
    dim = stream.dim(dim)
    kept = (*stream.axes[:dim], *stream.axes[dim + 1 :])
    if not stream.axes[dim]:
        return dataclasses.replace(stream, axes=kept)
    outer = outside(stream)
    if outer[dim]:
        raise ImporterError(f"takes one step out of dimension {dim} of {stream}, expected features")
    outer = (*outer[:dim], *outer[dim + 1 :])
    return rearranged(graph, stream, lambda frame: frame.select(dim, index), outer)


def cut(graph: LayerGraph, stream: Stream, dim: int, part: slice) -> Stream:
    """A slice of a dimension: all of it, a span of frames, or every n-th frame."""
    size = stream.shape[stream.dim(dim)]
    first, last, step = part.indices(size)
    count = len(range(first, last, step))
    if count == size:
        return stream
    if not stream.is_time(dim):
        return cut_features(graph, stream, dim, range(first, last, step))
    if step == 1 and not stream.window and not stream.backwards:
        span = (stream.span[0] + first, stream.span[1] + last - size)
        return dataclasses.replace(stream, axes=stream.with_size(dim, count), span=span)
    stream = graph.whole(stream)
    if step < 1 or stream.backwards:
        raise ImporterError(f"keeps frames {first}:{last}:{step}, expected all or every n-th")
    node = graph.every(stream.node, first, first + size - last + 1, step)
    return stream.becomes(node, stream.with_size(dim, count))


def cut_features(graph: LayerGraph, stream: Stream, dim: int, part: range) -> Stream:
    """Some of the features of a dimension, in a row or every n-th."""
    dim = stream.dim(dim)
    if not len(part) or outside(stream)[dim]:
        raise ImporterError(
            f"keeps {part.start}:{part.stop}:{part.step} of dimension {dim} of {stream}, expected "
            "all of it, or some features"
        )
    taken = (*(slice(None),) * dim, slice(part.start, part.stop, part.step))
    return rearranged(graph, stream, lambda frame: frame[taken])


def flip(graph: LayerGraph, stream: Stream, dims: Sequence[int]) -> Stream:
    """Dimensions in reverse: time, or features."""
    if not any(stream.is_time(dim) for dim in dims):
        return rearranged(graph, stream, lambda frame: frame.flip(list(dims)))
    stream = graph.whole(stream)
    if any(not stream.is_time(dim) for dim in dims):
        raise ImporterError(
            f"reverses dimensions {list(dims)} of {stream}, expected time or features alone"
        )
    return dataclasses.replace(stream, backwards=stream.backwards != (len(dims) % 2 == 1))


def pad(stream: Stream, dim: int, before: int, after: int) -> Stream:
    """Zeros around the frames or the bands. Convolutions and windows take them in."""
    if before == after == 0:
        return stream
    dim = stream.dim(dim)
    axes = stream.with_size(dim, before + stream.shape[dim] + after)
    if stream.is_time(dim) and not stream.window:
        first, last = stream.span
        cut_before = (before and first > 0) or (after and last < 0)
        if min(before, after) < 0 or cut_before or stream.backwards:
            raise ImporterError(
                "pads frames that were cut before, or cuts by padding; "
                "expected zeros around all frames"
            )
        return dataclasses.replace(stream, axes=axes, span=(first - before, last + after))
    bands = max(stream.features(), key=lambda axis: axis.index, default=None)
    if stream.axes[dim] != (bands,) or stream.bands != (0, 0) or min(before, after) < 0:
        raise ImporterError(f"pads dimension {dim} of {stream}, expected time or bands")
    return dataclasses.replace(stream, axes=axes, bands=(before, after))


def unfold(graph: LayerGraph, stream: Stream, dim: int, size: int, step: int) -> Stream:
    """Windows of `size` frames, one every `step` frames; the window is a new last dimension.

    With padding of `size - 1` frames in all they are the context windows around every frame,
    without any they are stacked frames.
    """
    dim = stream.dim(dim)
    if not stream.is_time(dim) or stream.window or stream.backwards:
        raise ImporterError(f"cuts windows out of dimension {dim} of {stream}, expected time")
    first, last = stream.span
    layers: tuple[Layer, ...] = (FrameStacking(size, step),)
    if (first, last) != (0, 0):
        if last - first != size - 1:
            raise ImporterError(
                f"{size} frames of context around padding {-first}, {last}, "
                f"expected padding of {size - 1} in all"
            )
        layers = (_context(first, last), *([Subsample(step)] if step > 1 else []))
    window = (Axis("window", size),) if size > 1 else ()
    count = (stream.shape[dim] - size) // step + 1
    axes = (*stream.with_axis(dim, Axis("time", count)), window)
    return Stream(stream.node, axes, window=graph.window(stream.node, *layers))


def concatenate(graph: LayerGraph, parts: Sequence[Stream | Zeros], dim: int) -> Stream:
    """Tensors joined along a dimension.

    That may be padding, the shifts of a context window, the two directions of a recurrent layer,
    or the features of several layers.
    """
    streams = [part for part in parts if isinstance(part, Stream)]
    if len(parts) == 1:
        return streams[0]
    if len({len(stream.axes) for stream in streams}) > 1:
        found = ", ".join(map(str, streams))
        raise ImporterError(f"joins {found}, expected tensors of as many dimensions")
    dim = streams[0].dim(dim)
    if streams[0].is_time(dim):
        return _with_zeros(parts, dim)
    if len(streams) != len(parts):
        return _among_zeros(graph, parts, dim)
    spans, nodes = {s.span for s in streams}, {s.node for s in streams}
    if len(spans) == len(streams) and len(nodes) == 1:
        return _shifts(graph, streams, dim, merged=True)
    return _joined(graph, [graph.whole(s) for s in streams], dim)


def _among_zeros(graph: LayerGraph, parts: Sequence[Stream | Zeros], dim: int) -> Stream:
    """Features with zeros before, between or after them."""
    joined = concatenate(graph, [part for part in parts if isinstance(part, Stream)], dim)
    joined = graph.whole(joined)
    if joined.feature_dim() != dim:
        raise ImporterError(f"joins {joined} with zeros, expected all features of a frame")
    places: list[int] = []
    for part in parts:
        if isinstance(part, Zeros):
            places += [ZERO] * part.size
        else:
            first = sum(place != ZERO for place in places)
            places += range(first, first + part.shape[dim])
    node = graph.add(Take(tuple(places)), joined.node)
    return joined.becomes(node, joined.with_axis(dim, Axis("feature", len(places))))


def stack(graph: LayerGraph, streams: Sequence[Stream], dim: int) -> Stream:
    """Tensors joined in a new dimension: the shifts of a context window, or features."""
    dim %= len(streams[0].axes) + 1
    if len(streams) == 1:
        axes = streams[0].axes
        return dataclasses.replace(streams[0], axes=(*axes[:dim], (), *axes[dim:]))
    if any(stream.span != (0, 0) for stream in streams):
        return _shifts(graph, streams, dim, merged=False)
    return _side_by_side(graph, streams, dim)


def _side_by_side(graph: LayerGraph, streams: Sequence[Stream], dim: int) -> Stream:
    """The features of several signals in a new dimension."""
    streams = [in_order_of_dims(graph, graph.whole(stream)) for stream in streams]
    axes, wide = streams[0].axes, len(feature_dims(streams[0]))
    if len({(s.axes, s.backwards) for s in streams}) != 1 or wide > 1:
        raise ImporterError(
            f"joins {', '.join(map(str, streams))}, expected features of equal frames"
        )
    node = graph.add(Concat(), *(stream.node for stream in streams))
    if wide:
        node = graph.add(Unflatten(len(streams)), node)
        axes = tuple(tuple(_second(axis) for axis in dim) for dim in axes)
    new = (Axis("feature", len(streams), 0),)
    return streams[0].becomes(node, (*axes[:dim], new, *axes[dim:]))


def _with_zeros(parts: Sequence[Stream | Zeros], dim: int) -> Stream:
    """One stream with zero frames before and after."""
    places = [i for i, part in enumerate(parts) if isinstance(part, Stream)]
    stream = parts[places[0]]
    if len(places) != 1 or not isinstance(stream, Stream):
        raise ImporterError("joins signals in time; only zeros can be put around one")
    before, after = (
        sum(part.size for part in side if isinstance(part, Zeros))
        for side in (parts[: places[0]], parts[places[0] :])
    )
    return pad(stream, dim, before, after)


def _shifts(graph: LayerGraph, streams: Sequence[Stream], dim: int, merged: bool) -> Stream:
    """Copies of one signal, each one frame later than the one before: a context window.

    `merged` says that they are joined in a dimension that was there, not in a new one.
    """
    ordered = sorted(streams, key=lambda stream: stream.span)
    if merged and list(streams) != ordered:
        places = [ordered.index(stream) for stream in streams]
        return _in_this_order(graph, _shifts(graph, ordered, dim, merged), dim, places)
    base = streams[0]
    first = base.span[0]
    expected = [(first + i, first + i) for i in range(len(streams))]
    if [s.span for s in streams] != expected or {s.node for s in streams} != {base.node}:
        raise ImporterError(
            "joins shifted signals, expected one signal shifted by 1, 2, 3... frames"
        )
    if any(s.window or s.bands != (0, 0) or s.backwards or s.axes != base.axes for s in streams):
        raise ImporterError("joins shifted signals of different layouts, expected one layout")
    if merged and base.feature_dim() not in (None, dim):
        raise ImporterError(
            f"joins shifted signals in dimension {dim} of {base}, expected that of the features"
        )
    axis = Axis("window", len(streams))
    new = (axis, *base.axes[dim]) if merged else (axis,)
    axes = (*base.axes[:dim], new, *base.axes[dim + merged :])
    window = graph.window(base.node, _context(first, first + len(streams) - 1))
    return Stream(base.node, axes, window=window)


def _in_this_order(graph: LayerGraph, stream: Stream, dim: int, places: Sequence[int]) -> Stream:
    """A context window with its frames in another order: `places` has that of each."""
    stream = graph.finalize(stream)
    size = stream.shape[dim] // len(places)
    values = [place * size + i for place in places for i in range(size)]
    return stream.becomes(picked(graph, stream.node, values), stream.axes)


def _context(first: int, last: int) -> ContextWindow:
    """The window over the frames from `first` to `last`, relative to the present one."""
    if first > 0 or last < 0:
        raise ImporterError(
            f"a window of frames {first} to {last} leaves the present frame (0) out"
        )
    return ContextWindow(-first, last)


def _joined(graph: LayerGraph, streams: Sequence[Stream], dim: int) -> Stream:
    """The features of several layers after one another."""
    if any(set(feature_dims(stream)) - {dim} for stream in streams):
        return _joined_images(graph, streams, dim)
    layouts = {(s.with_axis(dim), s.backwards) for s in streams}
    if len(layouts) != 1 or not all(s.feature_dim() in (None, dim) for s in streams):
        raise _unlike(streams, "features")
    node = _both_directions(graph, streams) or graph.add(Concat(), *(s.node for s in streams))
    size = sum(stream.shape[dim] for stream in streams)
    return streams[0].becomes(node, streams[0].with_axis(dim, Axis("feature", size)))


def _joined_images(graph: LayerGraph, streams: Sequence[Stream], dim: int) -> Stream:
    """Frames of channels and bands after one another, along one of these; some may have one
    channel alone."""
    others = {other for stream in streams for other in feature_dims(stream)} - {dim}
    other = min(others)
    layouts = {(_outer(s, dim, other), s.shape[other], s.backwards) for s in streams}
    if len(others) != 1 or len(layouts) != 1:
        raise _unlike(streams, "channels or bands")
    flat = [graph.flatten(graph.image(stream, dim, other)) for stream in streams]
    size = sum(stream.shape[dim] for stream in streams)
    node = graph.add(Unflatten(size), graph.add(Concat(), *flat))
    axes = streams[0].with_axis(dim, Axis("feature", size))
    joined = dataclasses.replace(streams[0], axes=axes)
    return streams[0].becomes(node, joined.with_image(dim, other))


def _outer(stream: Stream, *dims: int) -> tuple[tuple[Axis, ...], ...]:
    """The axes of the other dimensions."""
    return tuple(axes for i, axes in enumerate(stream.axes) if i not in dims)


def _unlike(streams: Sequence[Stream], what: str) -> ImporterError:
    if len({stream.backwards for stream in streams}) > 1:
        return ImporterError(
            "joins frames with the same in reverse, as a batch of both directions, which goes "
            "through a loop that is no recurrent layer known here; run nn.LSTM, nn.GRU or nn.RNN "
            "with bidirectional=True, or write one of the cells that the docs list"
        )
    found = ", ".join(map(str, streams))
    return ImporterError(f"joins {found}, expected {what} of equal frames")


def _both_directions(graph: LayerGraph, streams: Sequence[Stream]) -> str | None:
    """One recurrent layer for a forward and a backward one that have the same input."""
    nodes = [graph.nodes.get(stream.node) for stream in streams]
    if len(nodes) != 2 or nodes[0] is None or nodes[1] is None:
        return None
    one, two = nodes[0].layer, nodes[1].layer
    if not isinstance(one, Recurrent) or not isinstance(two, Recurrent):
        return None
    both = dataclasses.replace(two, forward=one.forward)
    alike = dataclasses.replace(one, backward=two.backward).settings() == both.settings()
    pair = (one.backward, two.forward) == (None, None) and alike
    if not pair or nodes[0].inputs != nodes[1].inputs:
        return None
    return graph.add(both, *nodes[0].inputs)


def _second(axis: Axis) -> Axis:
    return dataclasses.replace(axis, index=1) if axis.kind == "feature" else axis

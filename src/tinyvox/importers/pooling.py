"""Pooling of signals: over time, over bands, or both."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tinyvox.errors import ImporterError
from tinyvox.importers.layer_graph import LayerGraph
from tinyvox.importers.reduction import reduced
from tinyvox.importers.signal import Axis, Stream
from tinyvox.model import Pool, Unflatten


def pool(
    graph: LayerGraph,
    stream: Stream,
    kind: str,
    dims: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[tuple[int, int]],
) -> Stream:
    """Pooling along dimensions that are time or bands, each with its kernel, stride and padding
    (before, after).

    Raises ImporterError where a dimension holds something else.
    """
    stream, dims = graph.whole(stream), [stream.dim(dim) for dim in dims]
    settings = {_role(stream, dim): i for i, dim in enumerate(dims)}
    if len(settings) < len(dims) or stream.backwards:
        raise ImporterError(f"pools dimensions {list(dims)} of {stream}, expected time and bands")
    pairs = [
        (kernel[i], stride[i], padding[i]) if i is not None else (1, 1, (0, 0))
        for i in (settings.get("time"), settings.get("band"))
    ]
    kernels, strides, paddings = zip(*pairs, strict=True)
    layer = Pool(kind, kernels, strides, (*paddings[0], *paddings[1]))
    node = stream.node
    if "band" in settings:
        node = _image(graph, stream, dims, dims[settings["band"]])
    node = graph.add(layer, node)
    shape = list(stream.shape)
    for i, dim in enumerate(dims):
        shape[dim] = (shape[dim] + sum(padding[i]) - kernel[i]) // stride[i] + 1
    return stream.becomes(node, _resized(stream, shape, dims, settings.get("band")))


def _role(stream: Stream, dim: int) -> str:
    """What a dimension is to a pooling: time, bands, or neither."""
    if stream.is_time(dim):
        return "time"
    return "band" if all(axis.kind == "feature" for axis in stream.axes[dim]) else "neither"


def _image(graph: LayerGraph, stream: Stream, dims: Sequence[int], band: int) -> str:
    """The node of channels and bands; the channels are in the one other dimension of features, if
    there is one."""
    others = [i for i in range(len(stream.axes)) if i not in dims]
    channels = [i for i in others if any(axis.kind == "feature" for axis in stream.axes[i])]
    if channels:
        return graph.image(stream, channels[-1], band)
    if len(graph.signals[stream.node].shape) == 1:
        return graph.add(Unflatten(1), stream.node)
    return stream.node


def _resized(
    stream: Stream, shape: Sequence[int], dims: Sequence[int], band: int | None
) -> tuple[tuple[Axis, ...], ...]:
    axes = list(stream.axes)
    for i, dim in enumerate(dims):
        if i == band:
            size = shape[dim]
            axes[dim] = (Axis("feature", size, 1),) if size > 1 else ()
        else:
            axes[dim] = tuple(dataclasses.replace(a, size=shape[dim]) for a in axes[dim])
    return tuple(axes)


def of_bands_and_time(
    graph: LayerGraph, stream: Stream, kind: str, dims: Sequence[int], keep: bool
) -> Stream:
    """The mean or the maximum over whole dimensions: bands, time, or both."""
    if not dims:
        return reduced(graph, stream, kind, dims, keep)
    dims = sorted(stream.dim(dim) for dim in dims)
    for dim in [d for d in dims if is_band(stream, d)]:
        size = stream.shape[dim]
        stream = pool(graph, stream, kind, (dim,), (size,), (size,), ((0, 0),))
        dims.remove(dim)
        if not keep:
            axes = (*stream.axes[:dim], *stream.axes[dim + 1 :])
            stream = dataclasses.replace(stream, axes=axes)
            dims = [d - (d > dim) for d in dims]
    return reduced(graph, stream, kind, dims, keep) if dims else graph.finalize(stream)


def is_band(stream: Stream, dim: int) -> bool:
    """Whether a dimension is the bands of frames of shape (channels, bands)."""
    return [(axis.kind, axis.index) for axis in stream.axes[dim]] == [("feature", 1)]


def adapted(graph: LayerGraph, stream: Stream, kind: str, sizes: Sequence[int | None]) -> Stream:
    """Pooling of the last dimensions to these sizes: of time to one frame, or left as it is; of
    bands to so many that they divide them."""
    for dim, size in enumerate(sizes, -len(sizes)):
        here = stream.shape[dim]
        if size is None or size == here:
            continue
        if size == 1:
            stream = of_bands_and_time(graph, stream, kind, (dim,), True)
            continue
        if stream.is_time(dim) or here % size:
            raise ImporterError(
                f"pools dimension {dim} of {stream} to {size}, expected one frame, or a number of "
                "bands that divides them"
            )
        width = here // size
        stream = pool(graph, stream, kind, (dim,), (width,), (width,), ((0, 0),))
    return stream

"""ATen operators that are convolutions, along time, bands or both."""

from __future__ import annotations

import dataclasses

from torch import Tensor

from tinyvox.errors import ImporterError
from tinyvox.importers.layer_graph import ColumnOrder, picked
from tinyvox.importers.operators.call import Call
from tinyvox.importers.signal import Axes, Axis, Stream
from tinyvox.model import Conv1d, Conv2d, Dense, FrameStacking, Linear


def dense(weight: Tensor, order: ColumnOrder = None) -> Dense:
    """The weight [out, in, ...] as a matrix, its columns in the order of the node's features."""
    if order is not None:
        weight = weight[:, list(order)]
    return Dense(weight.flatten(1).contiguous())


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
    stream, weight = call.graph.uncut(call.stream("input")), call.tensor("weight")
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
        dense(weight, order),
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
        dense(weight),
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
    node = call.graph.add(Linear(dense(weight, order), call.optional("bias")), node)
    return stream.becomes(node, stream.with_axis(-2, Axis("feature", len(weight))))


def conv2d(call: Call) -> Stream:
    """`conv2d(input, weight, bias, stride, padding, dilation, groups)`, along time and bands in
    either order."""
    stream, weight = call.graph.uncut(call.stream("input")), call.tensor("weight")
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
        dense(weight),
        call.optional("bias"),
        kernel,
        (call["stride"][first], call["stride"][second]),
        (*frames, bands[0] + stream.bands[0], bands[1] + stream.bands[1]),
        dilation,
        call["groups"],
    )
    return stream.becomes(call.graph.add(layer, node), _convolved(call, stream, channel, band))


def frame_windows(call: Call) -> Stream:
    """`im2col(self, kernel_size, dilation, padding, stride)` of [batch, 1, frames, size]: windows
    of whole frames, [batch, frames of a window * size, windows]."""
    stream, graph = call.whole("self"), call.graph
    kernel, dilation = call["kernel_size"], call["dilation"]
    size = stream.shape[-1]
    is_whole = kernel[1] == size and stream.is_time(-2) and not stream.axes[-3]
    if not is_whole or any(call["padding"]) or stream.backwards:
        raise ImporterError(f"takes windows of {list(kernel)} out of {stream}, expected frames")
    reach = dilation[0] * (kernel[0] - 1) + 1
    node = graph.window(stream.node, FrameStacking(reach, call["stride"][0]))
    starts = range(0, reach * size, dilation[0] * size)
    node = picked(graph, node, [start + i for start in starts for i in range(size)])
    features, windows = call.result.shape[-2:]
    axes = ((Axis("feature", features),), (Axis("time", windows),))
    return stream.becomes(node, (*stream.axes[:-3], *axes))


def _convolved(call: Call, stream: Stream, channel: int, band: int | None = None) -> Axes:
    """The axes of a convolution's output."""
    shape = tuple(call.result.shape)
    axes = stream.with_axis(channel, Axis("feature", shape[channel], 0))
    if band is not None:
        axes = dataclasses.replace(stream, axes=axes).with_axis(
            band, Axis("feature", shape[band], 1)
        )
    return dataclasses.replace(stream, axes=axes).resized(shape)

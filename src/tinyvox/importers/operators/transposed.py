"""Transposed convolutions, as convolutions that give several frames and bands at once.

A transposed convolution of stride s gives value `s q + r` from the inputs `q - d` by the taps
`s d + r + p` of its kernel, where p is the padding. So each r in 0..s-1 is a convolution of its
own, all of them over the same inputs; their outputs are put one between the other.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tinyvox.errors import ImporterError
from tinyvox.importers.layer_graph import LayerGraph
from tinyvox.importers.operators.call import Call
from tinyvox.importers.signal import Axis, Stream
from tinyvox.model import Conv1d, Conv2d, Dense, FrameUnstacking, Take, Unflatten


@dataclass(frozen=True)
class _Direction:
    """Time or bands: the kernel, stride and padding, and by how much the output is longer."""

    kernel: int
    stride: int
    padding: int
    more: int

    @property
    def latest(self) -> int:
        """The largest d: how many inputs back the oldest is."""
        return (self.kernel - 1 - self.padding) // self.stride

    @property
    def ahead(self) -> int:
        """The smallest d, negative: how many inputs ahead the newest is."""
        return (self.stride - 1 + self.padding) // self.stride

    @property
    def excess(self) -> int:
        """Values that there are beyond `stride` for each input, or, negative, too few."""
        return self.kernel + self.more - self.stride - 2 * self.padding

    @property
    def around(self) -> tuple[int, int]:
        """The padding of the convolution."""
        return self.latest, self.ahead + math.ceil(self.excess / self.stride)

    def taps(self, weight: Tensor, dim: int) -> Tensor:
        """The kernels of all r: this dimension of the weight becomes [r, taps of each]."""
        behind = range(self.latest, -self.ahead - 1, -1)
        places = [[self.stride * d + r + self.padding for d in behind] for r in range(self.stride)]
        index = torch.tensor(places)
        inside = (index >= 0) & (index < self.kernel)
        taken = weight.movedim(dim, -1)[..., index.clamp(0, self.kernel - 1)] * inside
        return taken.movedim((-2, -1), (dim, dim + 1))


def conv_transpose1d(call: Call) -> Stream:
    """`conv_transpose1d(input, weight, bias, stride, padding, output_padding, groups, dilation)`,
    along time."""
    stream, weight = call.whole("input"), call.tensor("weight")
    if not stream.is_time(-1) or stream.backwards:
        raise ImporterError(f"runs along the last dimension of {stream}, expected time")
    time = _direction(call, 0, weight.shape[2])
    groups, graph = call["groups"], call.graph
    kernel = time.taps(_by_output(weight, groups), 3)  # [groups, out, in, r, taps]
    rows = kernel.permute(0, 3, 1, 2, 4).flatten(0, 2)
    layer = Conv1d(
        Dense(rows.flatten(1).contiguous()),
        _repeated(call, groups, time.stride),
        kernel.shape[-1],
        padding=time.around,
        groups=groups,
    )
    node = graph.add(layer, graph.flat(stream, -2)[0])
    node = _frames_apart(graph, node, groups, time)
    size = call.result.shape[-2]
    return _result(call, stream, node, -1, -2, Axis("feature", size))


def conv_transpose2d(call: Call) -> Stream:
    """As `conv_transpose1d`, along time and bands in either order."""
    stream, weight = call.whole("input"), call.tensor("weight")
    at = -2 if stream.is_time(-2) else -1
    if not stream.is_time(at) or stream.backwards:
        raise ImporterError(f"runs along the last two dimensions of {stream}, expected time in one")
    other = -3 - at
    graph, groups = call.graph, call["groups"]
    time = _direction(call, at + 2, weight.shape[at])
    band = _direction(call, other + 2, weight.shape[other])
    weight = _by_output(weight if at == -2 else weight.mT, groups)
    kernel = band.taps(time.taps(weight, 3), 5)  # [groups, out, in, r, taps, r of bands, taps]
    rows = kernel.permute(0, 3, 1, 5, 2, 4, 6).flatten(0, 3)
    layer = Conv2d(
        Dense(rows.flatten(1).contiguous()),
        _repeated(call, groups, time.stride, band.stride),
        (kernel.shape[4], kernel.shape[6]),
        (1, 1),
        (*time.around, *band.around),
        groups=groups,
    )
    node = graph.add(layer, graph.image(stream, -3, other))
    node = _bands_between(graph, node, band.stride, call.result.shape[other])
    node = _frames_apart(graph, node, groups, time)
    axes = stream.with_axis(other, Axis("feature", call.result.shape[other], 1))
    stream = dataclasses.replace(stream, axes=axes)
    return _result(call, stream, node, at, -3, Axis("feature", call.result.shape[-3]))


def _direction(call: Call, index: int, kernel: int) -> _Direction:
    if any(step != 1 for step in call["dilation"]):
        raise ImporterError(f"has dilation {list(call['dilation'])}, expected 1")
    stride, padding, more = (
        call[name][index % len(call[name])] for name in ("stride", "padding", "output_padding")
    )
    found = _Direction(kernel, stride, padding, more)
    if min(found.latest, *found.around) < 0:
        raise ImporterError(f"pads {padding} around a kernel of {kernel}, expected less")
    return found


def _by_output(weight: Tensor, groups: int) -> Tensor:
    """[groups, out, in, kernel...] from torch's [groups * in, out, kernel...]."""
    return weight.reshape(groups, -1, *weight.shape[1:]).transpose(1, 2)


def _repeated(call: Call, groups: int, frames: int, bands: int = 1) -> Tensor | None:
    """The bias of the rows, which are in the order groups, frames, channels, bands."""
    bias = call.optional("bias")
    if bias is None:
        return None
    spread = bias.view(groups, 1, -1, 1).expand(-1, frames, -1, bands)
    return spread.flatten().contiguous()


def _bands_between(graph: LayerGraph, node: str, stride: int, count: int) -> str:
    """The bands of `stride` channels each, one between the other; `count` of them."""
    channels, bands = graph.signals[node].shape
    places = tuple(i % stride * bands + i // stride for i in range(count))
    if stride > 1:
        node = graph.add(Unflatten(channels // stride), graph.flatten(node))
    if places == tuple(range(graph.signals[node].shape[1])):
        return node
    return graph.add(Take(places, 1), node)


def _frames_apart(graph: LayerGraph, node: str, groups: int, time: _Direction) -> str:
    """The frames of a node whose channels are in the order groups, frames, channels."""
    shape = graph.signals[node].shape
    if time.stride > 1:
        if groups > 1:
            order = torch.arange(shape[0]).view(groups, time.stride, -1).transpose(0, 1)
            node = graph.add(Take(tuple(order.flatten().tolist())), node)
        node = graph.add(FrameUnstacking(time.stride), graph.flatten(node))
        if len(shape) > 1:
            node = graph.add(Unflatten(shape[0] // time.stride), node)
    surplus = -time.excess % time.stride
    return graph.every(node, 0, surplus + 1, 1) if surplus else node


def _result(call: Call, stream: Stream, node: str, time: int, channel: int, axis: Axis) -> Stream:
    axes = stream.with_axis(channel, axis)
    axes = dataclasses.replace(stream, axes=axes).with_size(time, call.result.shape[time])
    return stream.becomes(node, axes)


TRANSPOSED = {"conv_transpose1d": conv_transpose1d, "conv_transpose2d": conv_transpose2d}
"""The handlers, by the operator's name without overload."""

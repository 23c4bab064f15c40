"""ATen operators that pool, and those that pad with values of the signal."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from tinyvox.errors import ImporterError
from tinyvox.importers.operators.call import Call, Unusable
from tinyvox.importers.pooling import pool
from tinyvox.importers.signal import Axis, Stream
from tinyvox.model import Take

_WHERE = Unusable("the places of the largest values are used, expected the values alone")


def largest(count: int) -> Callable[[Call], Any]:
    """The handler of `max_pool1d(self, kernel_size, stride, padding, dilation, ceil_mode)` and of
    the like over `count` dimensions."""

    def handler(call: Call) -> Any:
        if any(step != 1 for step in call["dilation"]):
            raise ImporterError(f"pools with dilation {list(call['dilation'])}, expected 1")
        stream = _pooled(call, "max", count)
        return (stream, _WHERE) if isinstance(call.result, tuple) else stream

    return handler


def average(count: int) -> Callable[[Call], Stream]:
    """The handler of `avg_pool1d(self, kernel_size, stride, padding, ceil_mode,
    count_include_pad)` and of the like over `count` dimensions."""

    def handler(call: Call) -> Stream:
        if call.arguments.get("divisor_override") is not None:
            raise ImporterError(
                f"divides by {call['divisor_override']}, expected the window's size"
            )
        padded, ceils = any(call["padding"]), call["ceil_mode"]
        if padded and ceils and call["count_include_pad"]:
            raise ImporterError(
                "counts its padding, and not what ceil_mode adds; take count_include_pad=False"
            )
        inside = ceils or (padded and not call["count_include_pad"])
        return _pooled(call, "mean_inside" if inside else "mean", count)

    return handler


def _pooled(call: Call, kind: str, count: int) -> Stream:
    stream = call.whole("self")
    kernel = _each(call["kernel_size"], count)
    stride = _each(call["stride"] or kernel, count)
    amounts = _each(call["padding"], count)
    padding = []
    for i, dim in enumerate(range(-count, 0)):
        rest = 0
        if call["ceil_mode"]:
            rest = _rest(stream, dim, kernel[i], stride[i], amounts[i])
        padding.append((amounts[i], amounts[i] + rest))
    return pool(call.graph, stream, kind, range(-count, 0), kernel, stride, padding)


def _each(values: Sequence[int] | int, count: int) -> list[int]:
    given = [values] if isinstance(values, int) else list(values)
    return given * count if len(given) == 1 else given


def _rest(stream: Stream, dim: int, kernel: int, stride: int, padding: int) -> int:
    """What ceil_mode adds to the padding after the end. A window must begin before the end."""
    if stream.is_time(dim):
        if padding + stride > kernel:
            raise ImporterError(
                f"pools time with ceil_mode, kernel {kernel}, stride {stride} and padding "
                f"{padding}, expected stride and padding of {kernel} at most together"
            )
        return stride - 1
    size = stream.shape[dim]
    windows = math.ceil((size + 2 * padding - kernel) / stride) + 1
    windows -= (windows - 1) * stride >= size + padding
    return max(0, (windows - 1) * stride + kernel - size - 2 * padding)


def mirrored(mode: str) -> Callable[[Call], Stream]:
    """The handler of `reflection_pad1d(self, padding)` and the like, of bands or features."""

    def handler(call: Call) -> Stream:
        return padded_by(call, mode, call["padding"])

    return handler


def padded_by(call: Call, mode: str, amounts: Sequence[int]) -> Stream:
    """A signal with values of its own around its bands; `amounts` are those of the last dimension,
    before and after, then of the one before."""
    stream = call.whole("self")
    pairs = list(zip(amounts[::2], amounts[1::2], strict=True))
    for i, (before, after) in enumerate(pairs):
        if before or after:
            stream = _around(call, stream, len(stream.axes) - 1 - i, mode, (before, after))
    return stream


def _around(call: Call, stream: Stream, dim: int, mode: str, pair: tuple[int, int]) -> Stream:
    if stream.is_time(dim):
        raise ImporterError(
            f"pads time by {mode}: the frames before the first one are not known when it comes; "
            "pad time with zeros, or with nothing"
        )
    axes, graph = stream.axes[dim], call.graph
    shape = graph.signals[stream.node].shape
    if len(axes) != 1 or axes[0].kind != "feature" or axes[0].size not in shape:
        raise ImporterError(f"pads dimension {dim} of {stream} by {mode}, expected bands")
    axis = axes[0].index if len(shape) > 1 else 0
    numbers = torch.arange(float(axes[0].size))[None, None]
    places = F.pad(numbers, pair, mode=mode).flatten().long().tolist()
    node = graph.add(Take(tuple(places), axis), stream.node)
    return stream.becomes(node, stream.with_axis(dim, Axis("feature", len(places), axes[0].index)))


POOLING: dict[str, Callable[[Call], Any]] = {
    **{f"max_pool{n}d": largest(n) for n in (1, 2)},
    **{f"max_pool{n}d_with_indices": largest(n) for n in (1, 2)},
    **{f"avg_pool{n}d": average(n) for n in (1, 2)},
    **{f"reflection_pad{n}d": mirrored("reflect") for n in (1, 2)},
    **{f"replication_pad{n}d": mirrored("replicate") for n in (1, 2)},
}
"""The handler of every operator that pools or mirrors, by the operator's name without overload."""

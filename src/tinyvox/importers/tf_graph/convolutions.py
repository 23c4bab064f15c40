"""Convolutions and batch norm, whose layout is [batch, height, width, channels]."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tinyvox.errors import ImporterError
from tinyvox.importers import tensorflow as shared
from tinyvox.importers.tf_graph.translation import Context, Translator

aten = torch.ops.aten


def _convolution(depthwise: bool) -> Translator:
    def translate(c: Context) -> Any:
        weight, source = c.constant(1), c.given(0)
        if weight.ndim != 4 or len(source.shape) != 4:
            raise ImporterError(f"has weights {list(weight.shape)} for {list(source.shape)}")
        height, width, channels, count = weight.shape
        if depthwise:
            shape = (channels * count, 1, height, width)
            turned = weight.permute(2, 3, 0, 1).reshape(shape).contiguous()
        else:
            turned = weight.permute(3, 2, 0, 1).contiguous()
        return _convolved(c, turned, channels if depthwise else 1)

    return translate


def _convolved(c: Context, weight: Tensor, groups: int) -> Any:
    padding, layout = c.attribute("padding").text, c.attribute("data_format").text
    if layout not in ("", "NHWC"):
        raise ImporterError(f"has the layout {layout!r}, expected NHWC")
    if padding not in ("SAME", "VALID"):
        raise ImporterError(f"pads {padding!r}, expected SAME or VALID")
    stride, dilation = _sides(c, "strides"), _sides(c, "dilations")
    convolution = shared.Convolution(stride, dilation, groups, padding == "SAME")
    return convolution.apply(c.tape, c.given(0), weight, None)


def _sides(c: Context, name: str) -> tuple[int, int]:
    """A setting for height and width, of four numbers."""
    given = c.attribute(name).wholes or [1, 1, 1, 1]
    if len(given) != 4 or not all(1 <= n <= 1 << 16 for n in given):
        raise ImporterError(f"has {name} {given}, expected four numbers from 1")
    return given[1], given[2]


def _pool(kind: str) -> Translator:
    def translate(c: Context) -> Any:
        padding, layout = c.attribute("padding").text, c.attribute("data_format").text
        if layout not in ("", "NHWC") or padding not in ("SAME", "VALID"):
            raise ImporterError(
                f"has the layout {layout!r} and pads {padding!r}, expected NHWC, and SAME or VALID"
            )
        sides = _sides(c, "ksize"), _sides(c, "strides")
        return shared.pooled(c.tape, c.given(0), kind, *sides, padding == "SAME")

    return translate


def _batch_norm(c: Context) -> Any:
    """Batch norm as it runs: a factor and an offset for each channel, which come last."""
    if c.attribute("data_format").text not in ("", "NHWC"):
        raise ImporterError("has channels first (NCHW), expected NHWC")
    if "is_training" not in c.node.attributes or c.attribute("is_training").whole:
        raise ImporterError("normalizes by the batch (is_training); freeze the graph for inference")
    scale, offset, mean, variance = (c.constant(i).float() for i in range(1, 5))
    epsilon = c.attribute("epsilon").real if "epsilon" in c.node.attributes else 1e-4
    factor = scale / torch.sqrt(variance + epsilon)
    scaled = c.tape.apply(aten.mul.Tensor, c.given(0), factor)
    return c.tape.apply(aten.add.Tensor, scaled, offset - mean * factor)


CONVOLUTIONS: dict[str, Translator] = {
    "Conv2D": _convolution(depthwise=False),
    "DepthwiseConv2dNative": _convolution(depthwise=True),
    "MaxPool": _pool("max"),
    "AvgPool": _pool("mean"),
    "FusedBatchNorm": _batch_norm,
    "FusedBatchNormV2": _batch_norm,
    "FusedBatchNormV3": _batch_norm,
}
"""What translates each of them, by its name."""

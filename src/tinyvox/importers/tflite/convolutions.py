"""Convolutions, whose layout is [batch, height, width, channels]."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tinyvox.importers.tflite.translation import Context, Translator

aten = torch.ops.aten


def _conv2d(c: Context) -> Any:
    options = c.options("Conv2DOptions")
    dilation = (options.DilationHFactor(), options.DilationWFactor())
    weight = c.constant(1).permute(0, 3, 1, 2).contiguous()
    return _convolved(c, options, weight, dilation, groups=1)


def _depthwise(c: Context) -> Any:
    options = c.options("DepthwiseConv2DOptions")
    dilation = (options.DilationHFactor(), options.DilationWFactor())
    weight = c.constant(1).permute(3, 0, 1, 2).contiguous()
    return _convolved(c, options, weight, dilation, groups=c.given(0).shape[3])


def _convolved(
    c: Context, options: Any, weight: Tensor, dilation: tuple[int, int], groups: int
) -> Any:
    """A convolution [batch, height, width, channels]; of height 1 it is one-dimensional."""
    tape, source, bias = c.tape, c.given(0), c.optional(2)
    stride = (options.StrideH(), options.StrideW())
    value = tape.apply(aten.permute.default, source, [0, 3, 1, 2])
    if options.Padding() == 0:
        value = _padded(c, value, weight, stride, dilation)
    if source.shape[1] == 1 and weight.shape[2] == 1:
        value = tape.apply(aten.squeeze.dim, value, 2)
        value = tape.apply(
            aten.conv1d.default, value, weight.squeeze(2), bias,
            stride[1:], [0], dilation[1:], groups,
        )  # fmt: skip
        value = tape.apply(aten.unsqueeze.default, value, 2)
    else:
        value = tape.apply(
            aten.conv2d.default, value, weight, bias, list(stride), [0, 0], list(dilation), groups
        )
    value = tape.apply(aten.permute.default, value, [0, 2, 3, 1])
    return c.activated(value, options.FusedActivationFunction())


def _padded(
    c: Context, value: Any, weight: Tensor, stride: tuple[int, int], dilation: tuple[int, int]
) -> Any:
    """The zeros of padding SAME."""
    amounts = []
    for dim in (3, 2):
        size, step = value.shape[dim], stride[dim - 2]
        reach = dilation[dim - 2] * (weight.shape[dim] - 1) + 1
        total = max((-(-size // step) - 1) * step + reach - size, 0)
        amounts += [total // 2, total - total // 2]
    return c.tape.apply(aten.constant_pad_nd.default, value, amounts) if any(amounts) else value


CONVOLUTIONS: dict[str, Translator] = {
    "CONV_2D": _conv2d,
    "DEPTHWISE_CONV_2D": _depthwise,
}
"""What translates each of them, by its name."""

"""Convolutions, whose layout is [batch, height, width, channels]."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from tinyvox.importers import tensorflow as shared
from tinyvox.importers.tflite.translation import Context, Translator


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
    stride = (options.StrideH(), options.StrideW())
    convolution = shared.Convolution(stride, dilation, groups, same=options.Padding() == 0)
    value = convolution.apply(c.tape, c.given(0), weight, c.optional(2))
    return c.activated(value, options.FusedActivationFunction())


def _pool(kind: str) -> Translator:
    def translate(c: Context) -> Any:
        options = c.options("Pool2DOptions")
        kernel = (options.FilterHeight(), options.FilterWidth())
        stride = (options.StrideH(), options.StrideW())
        value = shared.pooled(c.tape, c.given(0), kind, kernel, stride, options.Padding() == 0)
        return c.activated(value, options.FusedActivationFunction())

    return translate


CONVOLUTIONS: dict[str, Translator] = {
    "MAX_POOL_2D": _pool("max"),
    "AVERAGE_POOL_2D": _pool("mean"),
    "CONV_2D": _conv2d,
    "DEPTHWISE_CONV_2D": _depthwise,
}
"""What translates each of them, by its name."""

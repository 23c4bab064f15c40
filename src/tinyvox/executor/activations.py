"""What every activation computes, in torch."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from tinyvox.model import Activation

TINY = torch.finfo(torch.float32).tiny
"""The smallest normal float32."""
NEAREST = 2.0**-63
"""The least magnitude that is inverted: the slope there is finite, too."""

ELEMENTWISE: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "elu": F.elu,
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": functools.partial(F.gelu, approximate="tanh"),
    "hardsigmoid": F.hardsigmoid,
    "hardswish": F.hardswish,
    "softplus": F.softplus,
    "softsign": F.softsign,
    "mish": F.mish,
    "exp": lambda values: values.clamp(max=88).exp(),
    "sqrt": lambda values: values.clamp(min=TINY).sqrt(),  # at 0 its slope is infinite
    "log": lambda values: values.clamp(min=TINY).log(),
    "abs": torch.abs,
    "reciprocal": lambda values: _away_from_zero(values).reciprocal(),
}
"""The activations without limits and slopes, by their kind."""


def _away_from_zero(values: Tensor) -> Tensor:
    least = torch.full_like(values, NEAREST).copysign(values)
    return torch.where(values.abs() < NEAREST, least, values)


def activated(
    layer: Activation, values: Tensor, limits: Tensor | None, slopes: Tensor | None
) -> Tensor:
    """An activation of frames [..., channels] or [batch, frames, channels, bands].

    `limits` and `slopes` are the present values of the layer's own.
    """
    if limits is not None:
        return torch.minimum(torch.relu(values), _on_channels(limits, values))
    if slopes is not None:
        return torch.where(values > 0, values, values * _on_channels(slopes, values))
    if layer.kind == "clipped_relu":
        return torch.clamp(values, 0, layer.limit)
    return ELEMENTWISE[layer.kind](values)


def _on_channels(vector: Tensor, values: Tensor) -> Tensor:
    return vector[:, None] if values.ndim == 4 else vector

"""Layers over frames and bands that have no tensors: pooling, places, frames apart and repeated."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from tinyvox.executor.counts import frames_after
from tinyvox.executor.frames import Frames
from tinyvox.model import layers

if TYPE_CHECKING:
    from tinyvox.executor.modules import LayerModule


def pool(module: LayerModule, x: Frames) -> Frames:
    """The largest value or the mean of each window."""
    layer = module.layer
    assert isinstance(layer, layers.Pool)
    image = _padded(layer, x, -math.inf if layer.kind == "max" else 0.0)
    if layer.kind == "max":
        y = F.max_pool2d(image, layer.kernel, layer.stride)
    else:
        y = F.avg_pool2d(image, layer.kernel, layer.stride)
    if layer.kind == "mean_inside":
        ones = _padded(layer, x.map(torch.ones_like), 0.0)
        y = y / F.avg_pool2d(ones, layer.kernel, layer.stride).clamp(min=1e-9)
    y = y.transpose(1, 2)
    lengths = None if x.lengths is None else frames_after(layer, x.lengths)
    if lengths is not None:  # windows past the end hold padding alone
        y = y.nan_to_num(neginf=0.0)
    return Frames(y.flatten(2) if x.values.ndim == 3 else y, lengths)


def _padded(layer: layers.Pool, x: Frames, value: float) -> Tensor:
    """[batch, channels, frames, bands] with this value in the padding and past the ends."""
    values = x.padded(*layer.padding[:2], value)
    values = values[..., None] if values.ndim == 3 else values
    return F.pad(values, layer.padding[2:], value=value).transpose(1, 2)


def take(module: LayerModule, x: Frames) -> Frames:
    """Values by their places, and zeros."""
    layer = module.layer
    assert isinstance(layer, layers.Take)
    dim = 2 + layer.axis
    places = torch.tensor(layer.indices, device=x.values.device)
    if int(min(layer.indices)) >= 0:
        return x.map(lambda values: values.index_select(dim, places))
    inside = (places >= 0).view(-1, *[1] * (x.values.ndim - 1 - dim))
    return x.map(lambda values: values.index_select(dim, places.clamp(min=0)) * inside)


def frame_unstacking(module: LayerModule, x: Frames) -> Frames:
    """Several frames out of each."""
    layer = module.layer
    assert isinstance(layer, layers.FrameUnstacking)
    batch, frames, size = x.values.shape
    values = x.values.reshape(batch, frames * layer.count, size // layer.count)
    return Frames(values, None if x.lengths is None else frames_after(layer, x.lengths))


def spread(module: LayerModule, one: Frames, other: Frames) -> Frames:
    """One frame for each frame of another signal."""
    values = one.values.expand(-1, other.values.shape[1], *one.values.shape[2:])
    if one.lengths is None or other.lengths is None:
        return Frames(values, other.lengths)
    return Frames(values, frames_after(module.layer, one.lengths, other.lengths))


def softmax(module: LayerModule, x: Frames) -> Frames:
    """The softmax of each frame, or over the frames of each utterance."""
    layer = module.layer
    assert isinstance(layer, layers.Softmax)
    if layer.over == "features" or x.lengths is None:
        return x.map(lambda values: F.softmax(values, -1 if layer.over == "features" else 1))
    inside = x.inside()
    return x.map(lambda v: v.masked_fill(~inside, -math.inf).softmax(1).nan_to_num(0.0))

"""How many frames each layer makes of how many, and how many it needs for one."""

from __future__ import annotations

import torch
from torch import Tensor

from tinyvox.model import Layer, layers


def span_of(layer: Layer) -> tuple[int, int, int]:
    """The frames that one frame of output reads, those from it to the next one, and the padding."""
    if isinstance(layer, layers.Conv1d):
        reach = layer.dilation * (layer.kernel - 1) + 1
        return reach, layer.stride, sum(layer.padding)
    if isinstance(layer, layers.Conv2d):
        return layer.reach[0], layer.stride[0], sum(layer.padding[:2])
    if isinstance(layer, layers.Pool):
        return layer.kernel[0], layer.stride[0], sum(layer.padding[:2])
    if isinstance(layer, layers.FrameStacking):
        return layer.count, layer.stride, 0
    return 1, layer.factor if isinstance(layer, layers.Subsample) else 1, 0


def frames_after(layer: Layer, *inputs: Tensor) -> Tensor:
    """Frames that a layer makes of utterances of so many frames in each of its inputs, int64.

    Of no frames it makes none, whatever its padding.
    """
    if isinstance(layer, layers.Spread):
        return torch.where(inputs[0] > 0, inputs[1], 0)
    lengths = torch.stack(inputs).amin(0)
    if isinstance(layer, layers.Reduce):
        return lengths.clamp(max=1)
    if isinstance(layer, layers.FrameUnstacking):
        return lengths * layer.count
    reach, stride, padding = span_of(layer)
    made = torch.clamp((lengths + padding - reach) // stride + 1, min=0)
    return torch.where(lengths > 0, made, 0)


def frames_needed(layer: Layer) -> int:
    """Frames from which on a layer makes one."""
    reach, _, padding = span_of(layer)
    return max(1, reach - padding)

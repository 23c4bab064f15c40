"""Inputs with too few frames for a layer: torch refuses them, and the meaning is no frame."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tinyvox.executor.frames import Frames
from tinyvox.model import Layer, layers


def too_short(layer: Layer, inputs: Sequence[Frames]) -> bool:
    """Whether no utterance has enough frames for one of the layer's.

    False while a model is exported, which is for any number of frames.
    """
    if torch.compiler.is_compiling():
        return False
    return min(x.values.shape[1] for x in inputs) < max(1, _frames_needed(layer))


def no_frames(like: Frames, shape: tuple[int, ...]) -> Frames:
    """As many utterances as `like` has, without a frame; frames would be of this shape."""
    lengths = None if like.lengths is None else torch.zeros_like(like.lengths)
    return Frames(like.values.new_zeros(like.values.shape[0], 0, *shape), lengths)


def _frames_needed(layer: Layer) -> int:
    if isinstance(layer, layers.Conv1d):
        return layer.dilation * (layer.kernel - 1) + 1 - sum(layer.padding)
    if isinstance(layer, layers.Conv2d):
        return layer.reach[0] - sum(layer.padding[:2])
    return layer.count if isinstance(layer, layers.FrameStacking) else 1

"""Inputs with too few frames for a layer: torch refuses them, and the meaning is no frame."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tinyvox.executor.counts import frames_needed
from tinyvox.executor.frames import Frames
from tinyvox.model import Layer


def too_short(layer: Layer, inputs: Sequence[Frames]) -> bool:
    """Whether no utterance has enough frames for one of the layer's.

    False while a model is exported, which is for any number of frames.
    """
    if torch.compiler.is_compiling():
        return False
    return min(x.values.shape[1] for x in inputs) < frames_needed(layer)


def no_frames(like: Frames, shape: tuple[int, ...]) -> Frames:
    """As many utterances as `like` has, without a frame; frames would be of this shape."""
    lengths = None if like.lengths is None else torch.zeros_like(like.lengths)
    return Frames(like.values.new_zeros(like.values.shape[0], 0, *shape), lengths)

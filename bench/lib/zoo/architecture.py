"""What the bench knows of a published architecture: how to build it, call it, and read it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

Inputs = tuple[Any, ...]
LENGTHS = (48, 96, 75)
"""Frames of the example, and of the other inputs for which outputs are compared."""


def batch_first(inputs: Inputs) -> Tensor:
    """Frames of an input [1, frames, size]."""
    frames: Tensor = inputs[0][0]
    return frames


def time_first(inputs: Inputs) -> Tensor:
    """Frames of an input [frames, 1, size]."""
    frames: Tensor = inputs[0][:, 0]
    return frames


def feature_first(inputs: Inputs) -> Tensor:
    """Frames of an input [1, size, frames]."""
    frames: Tensor = inputs[0][0].T
    return frames


def image(inputs: Inputs) -> Tensor:
    """Frames of an input [1, channels, size, frames], the channels one after the other."""
    frames: Tensor = inputs[0][0].flatten(0, 1).T
    return frames


def channel_of_frames(inputs: Inputs) -> Tensor:
    """Frames of an input [1, 1, frames, size]."""
    frames: Tensor = inputs[0][0, 0]
    return frames


def channels_of_frames(inputs: Inputs) -> Tensor:
    """Frames of an input [1, channels, frames, size], the channels one after the other."""
    frames: Tensor = inputs[0][0].transpose(0, 1).flatten(1)
    return frames


def tokens(inputs: Inputs) -> Tensor:
    """Token ids, of whichever shape, as frames of one value."""
    ids: Tensor = inputs[0].reshape(-1, 1)
    return ids.float()


def first(outputs: Any) -> Tensor:
    """The first tensor of what a module returns."""
    while not isinstance(outputs, Tensor):
        outputs = outputs[0]
    return outputs


def rows(outputs: Any) -> Tensor:
    """[1, frames, size], [frames, 1, size] or [1, size] as frames."""
    tensor = first(outputs)
    return tensor.reshape(-1, tensor.shape[-1])


def columns(outputs: Any) -> Tensor:
    """[1, size, frames] or [1, channels, size, frames] as frames."""
    tensor = first(outputs)
    return tensor.reshape(-1, tensor.shape[-1]).T


@dataclass(frozen=True)
class Architecture:
    """A published architecture at small width.

    `source` is its repository and file; `example` gives inputs for so many frames, as the
    repository's own code passes them to the module. `features` and `outputs` say what of inputs and
    outputs are the frames [frames, size] of the native runtime. A `stepwise` module takes one frame
    and a state, and returns its output and the next state.
    """

    name: str
    source: str
    build: Callable[[], nn.Module]
    example: Callable[[int], Inputs]
    features: Callable[[Inputs], Tensor] = batch_first
    outputs: Callable[[Any], Tensor] = rows
    lengths: tuple[int, ...] = LENGTHS
    stepwise: bool = False

"""The layers: frozen values that know their tensors and the shape of their output.

What each layer computes is defined by `tinyvox.executor`.
"""

from tinyvox.model.layers.base import Layer, Signal, Tensors
from tinyvox.model.layers.frames import (
    REDUCTIONS,
    Add,
    Concat,
    ContextWindow,
    Flatten,
    FrameStacking,
    Multiply,
    Reduce,
    Subsample,
    Unflatten,
)
from tinyvox.model.layers.pointwise import (
    ACTIVATIONS,
    SCALING,
    Activation,
    BatchNorm,
    LayerNorm,
    LogSoftmax,
    Softmax,
)
from tinyvox.model.layers.recurrent import GATES, Cell, Recurrent, is_projection
from tinyvox.model.layers.weighted import Conv1d, Conv2d, Linear

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "Add",
    "BatchNorm",
    "Cell",
    "Concat",
    "ContextWindow",
    "Conv1d",
    "Conv2d",
    "Flatten",
    "FrameStacking",
    "GATES",
    "Layer",
    "LayerNorm",
    "Linear",
    "LogSoftmax",
    "Multiply",
    "REDUCTIONS",
    "Recurrent",
    "Reduce",
    "SCALING",
    "Signal",
    "Softmax",
    "Subsample",
    "Tensors",
    "Unflatten",
    "is_projection",
]

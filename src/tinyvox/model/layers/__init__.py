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
    Slice,
    Subsample,
    Unflatten,
)
from tinyvox.model.layers.pointwise import (
    ACTIVATIONS,
    MOVING_ZERO,
    NORMS,
    SCALING,
    SOFTMAX_AXES,
    Activation,
    BatchNorm,
    LayerNorm,
    LogSoftmax,
    Softmax,
)
from tinyvox.model.layers.recurrent import (
    CELL_ACTIVATIONS,
    GATE_FUNCTIONS,
    GATES,
    PEEPHOLES,
    Cell,
    ElementwiseRecurrence,
    Recurrent,
    is_projection,
)
from tinyvox.model.layers.weighted import Conv1d, Conv2d, Embedding, Linear
from tinyvox.model.layers.windows import POOLINGS, ZERO, FrameUnstacking, Pool, Spread, Take

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "Add",
    "BatchNorm",
    "CELL_ACTIVATIONS",
    "Cell",
    "Concat",
    "ContextWindow",
    "Conv1d",
    "Conv2d",
    "ElementwiseRecurrence",
    "Embedding",
    "Flatten",
    "FrameStacking",
    "FrameUnstacking",
    "GATES",
    "GATE_FUNCTIONS",
    "Layer",
    "LayerNorm",
    "Linear",
    "LogSoftmax",
    "MOVING_ZERO",
    "NORMS",
    "Multiply",
    "PEEPHOLES",
    "POOLINGS",
    "Pool",
    "REDUCTIONS",
    "Recurrent",
    "Reduce",
    "SCALING",
    "SOFTMAX_AXES",
    "Signal",
    "Slice",
    "Softmax",
    "Spread",
    "Subsample",
    "Take",
    "Tensors",
    "Unflatten",
    "ZERO",
    "is_projection",
]

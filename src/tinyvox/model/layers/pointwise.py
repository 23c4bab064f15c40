"""Layers that work on each frame by itself and have no matrix: normalization, activations."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from tinyvox.errors import ModelError
from tinyvox.model.layers.base import Layer, Signal, expect, flat_size


@dataclass(frozen=True, eq=False)
class BatchNorm(Layer):
    """`(x - mean) / sqrt(variance + eps) * weight + bias`, each [channels], statistics fixed."""

    mean: Tensor
    variance: Tensor
    weight: Tensor
    bias: Tensor
    eps: float = 1e-5

    def _infer(self, *inputs: Signal) -> Signal:
        for name, vector in self.vectors().items():
            expect(f"{name} shape", tuple(vector.shape), (inputs[0].shape[0],))
        least = float(self.variance.min())
        if not (self.eps >= 0 and least >= 0 and least + self.eps > 0):
            raise ModelError(f"variance {least} with eps {self.eps}, expected a sum above 0")
        return inputs[0]


NORMS = ("layer", "rms")
"""The kinds of layer norm: to mean 0 and variance 1, or to a mean of squares of 1 alone."""


@dataclass(frozen=True, eq=False)
class LayerNorm(Layer):
    """Each frame scaled by `kind` of NORMS, times weight [size] plus bias [size].

    The values are scaled in `groups` of as many, one after the other. A `layer` norm gives
    `(x - mean) / sqrt(variance + eps)`, an `rms` norm `x / sqrt(mean of squares + eps)`.
    """

    weight: Tensor
    bias: Tensor
    eps: float = 1e-5
    kind: str = "layer"
    groups: int = 1

    def _infer(self, *inputs: Signal) -> Signal:
        if self.kind not in NORMS:
            raise ModelError(f"kind is {self.kind!r}, expected one of {', '.join(NORMS)}")
        size = flat_size(inputs[0])
        if self.groups < 1 or size % self.groups:
            raise ModelError(f"size {size} does not divide into {self.groups} groups")
        for name, vector in self.vectors().items():
            expect(f"{name} shape", tuple(vector.shape), (flat_size(inputs[0]),))
        return inputs[0]


ACTIVATIONS = (
    *("relu", "clipped_relu", "tanh", "sigmoid"),
    *("leaky_relu", "elu", "silu", "gelu", "gelu_tanh", "hardsigmoid", "hardswish"),
    *("softplus", "softsign", "mish", "exp", "sqrt", "log", "abs", "reciprocal"),
)
"""The kinds of activation. No value is NaN or infinite: exp takes 88 for what is above it, sqrt 0
for what is below it, log the smallest normal float32, 2^-126, for what is below that, and
reciprocal 2^-63, with the sign of the value, for what is smaller in magnitude."""

MOVING_ZERO = ("sigmoid", "hardsigmoid", "softplus", "exp", "log", "reciprocal")
"""The kinds that do not map 0 to 0."""

SCALING = ("relu", "clipped_relu", "leaky_relu", "abs")
"""The kinds that give s y for s x, where s > 0 and their limits are scaled as well."""


@dataclass(frozen=True, eq=False)
class Activation(Layer):
    """An elementwise function, `kind` of ACTIVATIONS; clipped_relu is `min(max(x, 0), limit)`.

    A clipped_relu has one `limit` for all channels, or `limits` [channels]; both are above 0. A
    leaky_relu multiplies values below 0 by `slopes`, [channels], or [1] for all of them.
    """

    kind: str
    limit: float | None = None
    limits: Tensor | None = None
    slopes: Tensor | None = None

    def _infer(self, *inputs: Signal) -> Signal:
        if self.kind not in ACTIVATIONS:
            raise ModelError(f"kind is {self.kind!r}, expected one of {', '.join(ACTIVATIONS)}")
        self._check_limit()
        if self.limits is not None:
            expect("limits shape", tuple(self.limits.shape), (inputs[0].shape[0],))
        expect("whether it has slopes", self.slopes is not None, self.kind == "leaky_relu")
        if self.slopes is not None and self.slopes.numel() != 1:
            expect("slopes shape", tuple(self.slopes.shape), (inputs[0].shape[0],))
        return inputs[0]

    def _check_limit(self) -> None:
        if self.limits is not None and self.limit is not None:
            raise ModelError(f"{self.kind} has limit {self.limit} and limits, expected one of them")
        found = self.limit if self.limits is None else float(self.limits.min())
        limited = found is not None and 0 < found < math.inf
        if limited != (self.kind == "clipped_relu") or (found is not None and not limited):
            raise ModelError(
                f"{self.kind} has limit {found}; clipped_relu alone needs one, above 0"
            )


SOFTMAX_AXES = ("features", "time")
"""What a softmax may run over."""


@dataclass(frozen=True, eq=False)
class Softmax(Layer):
    """The softmax of each frame, or of each value over the frames of the whole utterance."""

    over: str = "features"

    def _infer(self, *inputs: Signal) -> Signal:
        if self.over not in SOFTMAX_AXES:
            raise ModelError(f"over is {self.over!r}, expected {' or '.join(SOFTMAX_AXES)}")
        if inputs[0].stride == 0 and self.over == "time":
            raise ModelError("runs over time, found one frame an utterance")
        flat_size(inputs[0])
        return inputs[0]


@dataclass(frozen=True, eq=False)
class LogSoftmax(Layer):
    """The logarithm of the softmax of each frame."""

    def _infer(self, *inputs: Signal) -> Signal:
        flat_size(inputs[0])
        return inputs[0]

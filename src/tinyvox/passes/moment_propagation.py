"""Moment propagation: estimates of the mean and variance of every signal of a model, without data.

Inputs have mean 0 and variance 1. The moments of a layer's output are computed as if all values
were independent and, before an activation, normally distributed. The output of a batch norm has the
moments of its parameters, whatever its inputs are. A recurrent layer is run on synthetic inputs.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tinyvox.calibration import synthetic_features
from tinyvox.executor import ELEMENTWISE, Executor
from tinyvox.model import INPUT, Model, Node, layers

QUADRATURE = 32
"""Points of the Gauss-Hermite rule: six exact digits for tanh up to a deviation of 5."""
FRAMES = 100
"""Frames of an utterance that is reduced to one."""
SAMPLES = 16
"""Synthetic utterances that a recurrent layer is run on, and as many of the opposite sign, so that
the mean of all is exactly 0."""


@dataclass(frozen=True)
class Normal:
    """Mean and variance of each value of a frame, float64, both of the signal's shape; or of each
    channel, [channels]."""

    mean: Tensor
    variance: Tensor

    def map(self, change: Callable[[Tensor], Tensor]) -> Normal:
        """The same change of both the mean and the variance."""
        return Normal(change(self.mean), change(self.variance))

    def spread(self, shape: tuple[int, ...]) -> Normal:
        """The moments of channels as those of every value of a frame of this shape."""
        return self.map(lambda v: v.view(-1, *[1] * (len(shape) - v.ndim)).expand(shape))


Known = Mapping[str, Normal]
"""Moments of the outputs of layers that are known, by the layer's name."""

UNKNOWN: Known = MappingProxyType({})


def propagate_moments(model: Model, known: Known = UNKNOWN) -> dict[str, Normal]:
    """The moments of the frames of the input and of each layer, by name; of a recurrent layer,
    those of its hidden states. Moments that are `known` replace the estimates.

    Source: Nagel et al., "Data-free quantization through weight equalization and bias correction",
    2019, section 4.2.1 and appendix C (batch norm, relu, clipped relu); the rest is ours.
    """
    size = model.input_size
    found = {INPUT: Normal(torch.zeros(size).double(), torch.ones(size).double())}
    for node in model.nodes:
        if node.name in known:
            found[node.name] = known[node.name].spread(model.signals[node.name].shape)
        else:
            inputs = [found[name] for name in node.inputs]
            found[node.name] = _HANDLERS[type(node.layer)](node.layer, *inputs)
    return found


def batch_norm_output(layer: layers.BatchNorm) -> Normal:
    """The moments of the output of a batch norm by its parameters, [channels]."""
    weight, bias, variance = (v.double() for v in (layer.weight, layer.bias, layer.variance))
    return Normal(bias, weight.square() * variance / (variance + layer.eps))


def apply_weight(layer: layers.Layer, weight: Tensor, inputs: Tensor) -> Tensor:
    """The output of a linear layer or convolution for a constant frame, without padding in time:
    float64, of the shape of an output frame.

    `weight` is used in place of the layer's own; `inputs` have the shape of an input frame.
    """
    if isinstance(layer, layers.Conv1d):
        taps = weight.view(weight.shape[0], -1, layer.kernel).sum(2)
        groups = inputs.view(layer.groups, -1, 1)
        return (taps.view(layer.groups, -1, taps.shape[1]) @ groups).flatten()
    if isinstance(layer, layers.Conv2d):
        kernel = weight.view(weight.shape[0], -1, *layer.kernel).sum(2)
        padded = F.pad(inputs, layer.padding[2:])
        return F.conv1d(
            padded[None], kernel, None, layer.stride[1], 0, layer.dilation[1], layer.groups
        )[0]
    product: Tensor = weight @ inputs
    return product


def rectified(normal: Normal, limit: Tensor | float = math.inf) -> Normal:
    """The moments of min(max(x, 0), limit) for normally distributed x. Source: Nagel 2019,
    appendix C."""
    deviation = normal.variance.sqrt().clamp(min=1e-12)
    limits = torch.as_tensor(limit, dtype=torch.float64).expand_as(deviation)
    low, high = -normal.mean / deviation, (limits - normal.mean) / deviation
    between = _below(high) - _below(low)
    density_low, density_high = _density(low), _density(high)
    above = 1 - _below(high)
    clipped = torch.where(above > 0, limits, 0.0)  # infinity times nothing is nothing
    edge = torch.where(density_high > 0, high, 0.0) * density_high
    mean = normal.mean * between + deviation * (density_low - density_high) + clipped * above
    second = (
        (normal.mean.square() + deviation.square()) * between
        + 2 * normal.mean * deviation * (density_low - density_high)
        + deviation.square() * (low * density_low - edge)
        + clipped.square() * above
    )
    return Normal(mean, (second - mean.square()).clamp(min=0))


def _below(x: Tensor) -> Tensor:
    share: Tensor = torch.special.ndtr(x)
    return share


def _density(x: Tensor) -> Tensor:
    return torch.exp(-x.square() / 2) / math.sqrt(2 * math.pi)


def through(normal: Normal, function: Callable[[Tensor], Tensor], *, smooth: bool = True) -> Normal:
    """The moments of a function of normally distributed values, by quadrature: that of Gauss and
    Hermite if it is smooth, else at many points."""
    points, weights = _hermite() if smooth else _evenly()
    deviation = normal.variance.sqrt()
    values = function(normal.mean[..., None] + deviation[..., None] * points)
    mean = values @ weights
    return Normal(mean, (values.square() @ weights - mean.square()).clamp(min=0))


def _hermite() -> tuple[Tensor, Tensor]:
    """Points of a standard normal distribution, and weights of sum 1."""
    points, weights = (torch.from_numpy(v) for v in np.polynomial.hermite.hermgauss(QUADRATURE))
    return points * math.sqrt(2), weights / math.sqrt(math.pi)


def _evenly() -> tuple[Tensor, Tensor]:
    points = torch.linspace(-6, 6, 1001, dtype=torch.float64)
    density = _density(points)
    return points, density / density.sum()


def _linear(layer: Any, x: Normal) -> Normal:
    weight = layer.weight.decode().double()
    mean = apply_weight(layer, weight, x.mean)
    variance = apply_weight(layer, weight.square(), x.variance)
    if layer.bias is not None:
        mean = mean + layer.bias.double().view(-1, *[1] * (mean.ndim - 1))
    return Normal(mean, variance)


def _recurrent(layer: Any, x: Normal) -> Normal:
    """The moments of the hidden states for synthetic inputs that drift as features do."""
    return _states(Model(x.mean.numel(), (Node("cell", layer, (INPUT,)),)), x)


def _states(model: Model, x: Normal) -> Normal:
    """The moments of a model's outputs for synthetic features with these moments."""
    features = synthetic_features(SAMPLES, model.input_size, seed=0)
    features = torch.cat([features, -features])
    features = features * x.variance.sqrt().float() + x.mean.float()
    with torch.no_grad():
        states = Executor(model).eval()(features).flatten(0, 1).double()
    return Normal(states.mean(0), states.var(0, correction=0))


def _embedding(layer: Any, x: Normal) -> Normal:
    """As if every id were as frequent."""
    table = layer.weight.decode().double()
    return Normal(table.mean(0), table.var(0, correction=0))


def _elementwise_recurrence(layer: Any, gate: Normal, x: Normal) -> Normal:
    """The moments of the states for synthetic signals that drift as features do."""
    size = x.mean.numel()
    nodes = [
        Node("gate", layers.Slice(0, size), (INPUT,)),
        Node("values", layers.Slice(size, 2 * size), (INPUT,)),
    ]
    gate_node = "gate"
    if layer.weight is None:  # a gate is between 0 and 1, so that states do not explode
        nodes.append(Node("open", layers.Activation("clipped_relu", 1.0), ("gate",)))
        gate_node = "open"
    nodes.append(Node("states", layer, (gate_node, "values")))
    return _states(Model(2 * size, tuple(nodes)), _concat(layer, gate, x))


def _batch_norm(layer: Any, x: Normal) -> Normal:
    return batch_norm_output(layer).spread(tuple(x.mean.shape))


def _layer_norm(layer: Any, x: Normal) -> Normal:
    """Computed as if every frame had the mean and the variance of all frames."""
    grouped = x.map(lambda v: v.view(layer.groups, -1))
    centers = grouped.mean.mean(1, keepdim=True) if layer.kind == "layer" else 0.0
    centered = grouped.mean - centers
    total = (centered.square() + grouped.variance).mean(1, keepdim=True) + layer.eps
    weight = layer.weight.double()
    mean = (centered / total.sqrt()).flatten() * weight + layer.bias.double()
    return Normal(mean, (grouped.variance / total).flatten() * weight.square())


def _activation(layer: Any, x: Normal) -> Normal:
    if layer.slopes is not None:
        return _leaky(x, layer.slopes.double().view(-1, *[1] * (x.mean.ndim - 1)))
    if layer.kind == "reciprocal":
        return _reciprocal(x)
    if layer.kind == "abs":
        return _leaky(x, torch.full((1,), -1.0))
    if layer.kind not in layers.SCALING:
        smooth = layer.kind not in ("sqrt", "log")  # these end at 0
        return through(x, ELEMENTWISE[layer.kind], smooth=smooth)
    if layer.limits is not None:
        return rectified(x, layer.limits.double().view(-1, *[1] * (x.mean.ndim - 1)))
    return rectified(x, math.inf if layer.limit is None else layer.limit)


def _reciprocal(x: Normal) -> Normal:
    """A rough estimate, for values that stay a tenth of their deviation away from 0: without a
    least magnitude, the inverse of normally distributed values has no mean."""
    near = (x.variance / 100)[..., None].clamp(min=1e-30)
    return through(x, lambda values: values / (values.square() + near), smooth=False)


def _leaky(x: Normal, slopes: Tensor) -> Normal:
    """The moments of relu(x) - slopes relu(-x), of which one or the other is 0."""
    above, below = rectified(x), rectified(Normal(-x.mean, x.variance))
    mean = above.mean - slopes * below.mean
    second = above.variance + above.mean.square()
    second = second + slopes.square() * (below.variance + below.mean.square())
    return Normal(mean, (second - mean.square()).clamp(min=0))


def _window(layer: Any, x: Normal) -> Normal:
    if isinstance(layer, layers.FrameStacking):
        return x.map(lambda v: v.repeat(layer.count))
    return x.map(lambda v: v.repeat(layer.left + 1 + layer.right))


def _same(layer: Any, x: Normal) -> Normal:
    return x


def _slice(layer: Any, x: Normal) -> Normal:
    return x.map(lambda v: v[layer.start : layer.stop])


def _unflatten(layer: Any, x: Normal) -> Normal:
    return x.map(lambda v: v.reshape(layer.channels, -1))


def _flatten(layer: Any, x: Normal) -> Normal:
    return x.map(torch.flatten)


def _add(layer: Any, *inputs: Normal) -> Normal:
    return Normal(_sum([x.mean for x in inputs]), _sum([x.variance for x in inputs]))


def _multiply(layer: Any, *inputs: Normal) -> Normal:
    mean, second = (
        functools.reduce(torch.mul, parts)
        for parts in ([x.mean for x in inputs], [x.variance + x.mean.square() for x in inputs])
    )
    return Normal(mean, (second - mean.square()).clamp(min=0))


def _reduce(layer: Any, x: Normal) -> Normal:
    """As if an utterance had FRAMES frames that do not depend on each other."""
    if layer.kind == "mean":
        return Normal(x.mean, x.variance / FRAMES)
    if layer.kind == "sum":
        return Normal(x.mean * FRAMES, x.variance * FRAMES)
    if layer.kind.startswith("variance"):
        return Normal(x.variance, x.variance.square() * 2 / FRAMES)
    return _max_of(x, FRAMES) if layer.kind == "max" else x


def _max_of(x: Normal, count: int) -> Normal:
    """The moments of the largest of so many values that do not depend on each other."""
    mean, variance = _largest(count)
    return Normal(x.mean + mean * x.variance.sqrt(), x.variance * variance)


def _pool(layer: Any, x: Normal) -> Normal:
    """Without padding in time, as if the values of a window did not depend on each other."""
    count = math.prod(layer.kernel)
    image = x if x.mean.ndim == 2 else x.map(lambda v: v[:, None])

    def pooled(v: Tensor) -> Tensor:
        return F.avg_pool1d(F.pad(v, layer.padding[2:])[None], layer.kernel[1], layer.stride[1])[0]

    mean = pooled(image.mean)
    if layer.kind == "max":
        second = pooled(image.variance + image.mean.square())
        found = _max_of(Normal(mean, (second - mean.square()).clamp(min=0)), count)
    else:
        inside = pooled(torch.ones_like(image.mean)) if layer.kind == "mean_inside" else 1.0
        found = Normal(mean / inside, pooled(image.variance) / count / inside**2)
    return found.map(lambda v: v.view(-1)) if x.mean.ndim == 1 else found


def _take(layer: Any, x: Normal) -> Normal:
    places = torch.tensor(layer.indices)
    inside = (places >= 0).view(-1, *[1] * (x.mean.ndim - 1 - layer.axis))
    return x.map(lambda v: v.index_select(layer.axis, places.clamp(min=0)) * inside)


def _frame_unstacking(layer: Any, x: Normal) -> Normal:
    """Over all frames: their parts have moments of their own."""
    mean, second = (v.view(layer.count, -1).mean(0) for v in (x.mean, x.variance + x.mean.square()))
    return Normal(mean, (second - mean.square()).clamp(min=0))


def _spread(layer: Any, one: Normal, other: Normal) -> Normal:
    return one


@functools.cache
def _largest(count: int) -> tuple[float, float]:
    """Mean and variance of the largest of so many values of mean 0 and variance 1."""
    points = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    density = count * _density(points) * _below(points).pow(count - 1)
    weights = density / density.sum()
    mean = float(weights @ points)
    return mean, float(weights @ points.square()) - mean**2


def _concat(layer: Any, *inputs: Normal) -> Normal:
    return Normal(torch.cat([x.mean for x in inputs]), torch.cat([x.variance for x in inputs]))


def _sum(parts: list[Tensor]) -> Tensor:
    return torch.stack(parts).sum(0)


def _softmax(layer: Any, x: Normal) -> Normal:
    """A rough estimate: the softmax of the means, and how steep it is there."""
    if layer.over == "time":
        return Normal(torch.full_like(x.mean, 1 / FRAMES), x.variance / FRAMES**2)
    mean = torch.softmax(x.mean, 0)
    return Normal(mean, x.variance * (mean * (1 - mean)).square())


def _log_softmax(layer: Any, x: Normal) -> Normal:
    """A rough estimate: the log-softmax of the means, the variance of the inputs."""
    return dataclasses.replace(x, mean=torch.log_softmax(x.mean, 0))


_HANDLERS: dict[type, Callable[..., Normal]] = {
    layers.Linear: _linear,
    layers.Recurrent: _recurrent,
    layers.Conv1d: _linear,
    layers.Conv2d: _linear,
    layers.BatchNorm: _batch_norm,
    layers.LayerNorm: _layer_norm,
    layers.Activation: _activation,
    layers.ContextWindow: _window,
    layers.FrameStacking: _window,
    layers.Subsample: _same,
    layers.Slice: _slice,
    layers.Unflatten: _unflatten,
    layers.Flatten: _flatten,
    layers.Add: _add,
    layers.Multiply: _multiply,
    layers.Reduce: _reduce,
    layers.Concat: _concat,
    layers.Softmax: _softmax,
    layers.LogSoftmax: _log_softmax,
    layers.Pool: _pool,
    layers.Take: _take,
    layers.FrameUnstacking: _frame_unstacking,
    layers.Spread: _spread,
    layers.Embedding: _embedding,
    layers.ElementwiseRecurrence: _elementwise_recurrence,
}

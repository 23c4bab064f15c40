"""What is known of what a model's matrices are given: from features of speech, or without data.

A card with normalised features says what speech looks like to the model: features of mean 0 and
deviation 1 that drift from frame to frame. Made-up features of that kind, run through the model,
show which directions its inner signals take, and what its outputs suffer from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from tinyvox.execute import Executor
from tinyvox.layers import LogSoftmax
from tinyvox.matrix import Dense
from tinyvox.model import Model

UTTERANCES, FRAMES = 32, 150
CORRELATION = 0.7
"""Of each made-up feature from one frame to the next; about that of cepstra every 20 ms."""
DAMPING = 0.3
"""Made-up features do not show all: this share of the mean energy is added to every direction."""
REAL_DAMPING = 0.02
"""The same of features of real speech, which show what there is."""
NOISE = 0.1
"""Energy of the noise that a sensitivity is measured with, relative to the matrix's."""
TRIALS = 6
"""Made-up utterances that a changed model is held against."""


@dataclass(frozen=True)
class Moments:
    """Of a matrix's inputs x [in]: `second`, the mean of x x^T over frames, float64 [in, in], and
    `mean`, that of x, float64 [in].

    `damping` of the mean energy is added to every direction where `second` has to be inverted.
    """

    second: Tensor
    mean: Tensor
    damping: float = DAMPING

    def deviation(self) -> Tensor:
        """The standard deviation of each input, float64 [in]."""
        return (self.second.diagonal() - self.mean.square()).clamp(min=0).sqrt()

    def damped(self) -> Tensor:
        """`second`, positive definite."""
        mean = self.second.diagonal().mean().clamp(min=torch.finfo(torch.float32).tiny)
        return self.second + self.damping * mean * torch.eye(len(self.second), dtype=torch.float64)


Evidence = Mapping[str, Moments]
"""Moments by the full name of the matrix; what is missing is not known."""

NOTHING: Evidence = MappingProxyType({})


def imagine(model: Model, seed: int = 0) -> Evidence:
    """Moments for the matrices of linear and recurrent layers from made-up features.

    Nothing where the model has no card that normalises its features, since no scale is known then.
    Deterministic by `seed`.
    """
    if model.card is None or not model.card.features.mean:
        return NOTHING
    return gather(model, [imagined_features(UTTERANCES, model.input_size, seed)], DAMPING)


def gather(model: Model, batches: Iterable[Tensor], damping: float = REAL_DAMPING) -> Evidence:
    """Moments for the matrices of linear and recurrent layers from batches of features,
    [utterances, frames, size]. Memory does not grow with their number."""
    sums: dict[str, tuple[Tensor, Tensor, int]] = {}

    def add(name: str, inputs: Tensor) -> None:
        x = inputs.double()
        second, total, count = sums.get(name, (0.0, 0.0, 0))
        sums[name] = (second + x.T @ x, total + x.sum(0), count + len(x))

    executor = Executor(model).eval()
    executor.watch(add)
    with torch.inference_mode():
        for features in batches:
            executor(features)
    return {
        name: Moments((second / count).clone(), (total / count).clone(), damping)
        for name, (second, total, count) in sums.items()
        if count
    }


def imagined_features(utterances: int, size: int, seed: int) -> Tensor:
    """Stand-ins for normalised features of speech, [utterances, FRAMES, size]."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(utterances, FRAMES, size, generator=generator)
    new = (1 - CORRELATION**2) ** 0.5
    for frame in range(1, FRAMES):
        features[:, frame] = CORRELATION * features[:, frame - 1] + new * features[:, frame]
    return features


def energy(values: Tensor, metric: Tensor | None) -> float:
    """The mean squared norm of the outputs of a matrix, `metric` being its inputs' second moment;
    its own squared norm where nothing is known."""
    values = values.double()
    return float(((values if metric is None else values @ metric) * values).sum())


class Trial:
    """Made-up utterances, and what a model gives for them, to hold changed models against."""

    def __init__(self, model: Model, seed: int = 1) -> None:
        self.model = model
        self.features = imagined_features(TRIALS, model.input_size, seed)
        self.outputs = self._run(model)

    def distance(self, changed: Model) -> float:
        """How far the outputs move, mean over the frames: KL divergence of log-probabilities, of
        other outputs the squared error over their variance."""
        outputs = self._run(changed)
        if isinstance(self.model.nodes[-1].layer, LogSoftmax):
            return float((self.outputs.exp() * (self.outputs - outputs)).sum(dim=-1).mean())
        variance = self.outputs.var().clamp(min=torch.finfo(torch.float64).tiny)
        return float((self.outputs - outputs).square().mean() / variance)

    def sensitivities(self, evidence: Evidence, seed: int = 0) -> dict[str, float]:
        """For each matrix, the distance that a unit of relative error of its own outputs makes.

        Measured with noise on its weights; deterministic by `seed`.
        """
        generator = torch.Generator().manual_seed(seed)
        tiny = torch.finfo(torch.float32).tiny
        result = {}
        for name, matrix in self.model.matrices():
            values = matrix.decode()
            metric = evidence[name].second if name in evidence else None
            noise = torch.randn(values.shape, generator=generator)
            noise *= (NOISE * values.square().mean()).sqrt()
            relative = energy(noise, metric) / max(energy(values, metric), tiny)
            moved = self.distance(self.model.with_tensors({name: Dense(values + noise)}))
            result[name] = moved / max(relative, tiny)
        return result

    def _run(self, model: Model) -> Tensor:
        with torch.inference_mode():
            outputs: Tensor = Executor(model).eval()(self.features)
            return outputs.double()

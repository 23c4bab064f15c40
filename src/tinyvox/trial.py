"""How far a changed model's outputs move: on made-up features, or on speech."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tinyvox.evidence import Batch, Evidence, alive, energy
from tinyvox.execute import Executor
from tinyvox.layers import LogSoftmax
from tinyvox.matrix import Dense
from tinyvox.model import Model

NOISE = 0.1
"""Energy of the noise that a sensitivity is measured with, relative to the matrix's."""


class Trial:
    """Utterances, and what a model gives for them, to hold changed models against."""

    def __init__(self, model: Model, batches: Sequence[Batch]) -> None:
        self.model, self.batches = model, batches
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
        """The frames inside the utterances, end to end."""
        executor = Executor(model).eval()
        found = []
        with torch.inference_mode():
            for batch in self.batches:
                outputs, lengths = executor.run(batch.features, batch.lengths)
                found.append(outputs[alive(outputs, lengths)].double())
        return torch.cat(found)

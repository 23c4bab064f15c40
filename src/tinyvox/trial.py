"""How far a changed model's outputs move: on made-up features, or on speech."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from tinyvox.evidence import Batch, alive
from tinyvox.execute import Executor
from tinyvox.layers import LogSoftmax
from tinyvox.matrix import Matrix
from tinyvox.model import Model


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

    def distance_with(self, tensors: Mapping[str, Matrix | Tensor]) -> float:
        """The distance of the model with these tensors in place of its own."""
        return self.distance(self.model.with_tensors(tensors))

    def _run(self, model: Model) -> Tensor:
        """The frames inside the utterances, end to end."""
        executor = Executor(model).eval()
        found = []
        with torch.inference_mode():
            for batch in self.batches:
                outputs, lengths = executor.run(batch.features, batch.lengths)
                found.append(outputs[alive(outputs, lengths)].double())
        return torch.cat(found)

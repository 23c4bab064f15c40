"""Output divergence: how far the outputs of a changed model are from those of the original."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from tinyvox.calibration.statistics import Batch
from tinyvox.executor import Executor, Frames, quick_products
from tinyvox.model import INPUT, LogSoftmax, Matrix, Model


def outputs_of(model: Model, utterances: Sequence[Tensor]) -> Tensor:
    """The outputs of utterances, float32 [frames, size] each, by torch: end to end, each frame
    flat, float64 [frames, size]."""
    executor = Executor(model).eval()
    with torch.inference_mode():
        return torch.cat([executor(each[None])[0].flatten(1) for each in utterances]).double()


class OutputDivergence:
    """The outputs of a model on some batches, with which those of changed models are compared."""

    def __init__(self, model: Model, batches: Sequence[Batch], *, keep: bool = False) -> None:
        """Run the model. With `keep`, the signals of every layer are kept, and of a changed model
        only the layers from the first change on are run."""
        self.model, self.batches = model, batches
        self.signals: list[Mapping[str, Frames]] = []  # by batch, where they are kept
        self.outputs = self._run(model, keep)

    def shorter(self, model: Model, frames: int) -> OutputDivergence:
        """The divergence from another model, on the first utterances: about `frames` frames."""
        batches, left = [], frames
        for batch in self.batches:
            count = int((batch.lengths.cumsum(0) < left).sum()) + 1
            longest = int(batch.lengths[:count].max())
            batches.append(Batch(batch.features[:count, :longest], batch.lengths[:count]))
            left -= int(batch.lengths.sum())
            if left <= 0:
                break
        return OutputDivergence(model, batches, keep=True)

    def distance(self, changed: Model) -> float:
        """How far the outputs of a changed model are, mean over the frames: of log-probabilities
        the KL divergence in nats, of other outputs the squared error over their variance."""
        return self._distance(self._run(changed))

    def _distance(self, outputs: Tensor) -> float:
        if isinstance(self.model.nodes[-1].layer, LogSoftmax):
            return float((self.outputs.exp() * (self.outputs - outputs)).sum(dim=-1).mean())
        variance = self.outputs.var().clamp(min=torch.finfo(torch.float64).tiny)
        return float((self.outputs - outputs).square().mean() / variance)

    def apart(self, changed: Model) -> tuple[float, float]:
        """The distance, and the share of the frames whose largest output is another one."""
        outputs = self._run(changed)
        other = self.outputs.argmax(-1) != outputs.argmax(-1)
        return self._distance(outputs), float(other.double().mean())

    def distance_with(self, tensors: Mapping[str, Matrix | Tensor]) -> float:
        """The distance of the original with these tensors, by full name, in place of its own."""
        return self.distance(self.model.with_tensors(tensors))

    def _run(self, model: Model, keep: bool = False) -> Tensor:
        """The outputs of the frames inside the utterances, end to end, float64 [frames, ...]."""
        executor = Executor(model).eval()
        same = self._unchanged(model) if self.signals else set()
        found, kept = [], []
        with torch.inference_mode(), quick_products(self.model):
            for i, batch in enumerate(self.batches):
                known = {name: self.signals[i][name] for name in same}
                signals = executor.signals(Frames(batch.features, batch.lengths), known)
                found.append(signals[model.output].alive().double())
                kept += [signals] if keep else []
        if keep:
            self.signals = kept
        return torch.cat(found)

    def _unchanged(self, model: Model) -> set[str]:
        """The layers whose signals are those that were kept."""
        same = {INPUT}
        for node, own in zip(model.nodes, self.model.nodes, strict=True):
            if node.layer is own.layer and same.issuperset(node.inputs):
                same.add(node.name)
        return same - {INPUT}

"""Sums over the frames of batches: the moments of a model's matrices, and cross-moments."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from tinyvox.calibration.statistics import DAMPING, Batch, Moments, Statistics
from tinyvox.executor import Executor, Frames, quick_products
from tinyvox.model import LogSoftmax, Model

WIDE = 1024
"""Inputs from which on the outer products of a batch are summed in float32, which is quicker."""
FISHER_FRAMES = 8000
"""Frames after which the mean that is the Fisher information has converged."""
PART = 4000
"""Frames of a backward pass."""


def gather(
    model: Model,
    batches: Iterable[Batch],
    damping: float = DAMPING,
    *,
    fisher: bool = False,
    seed: int = 0,
) -> Statistics:
    """The moments of every matrix, by its full name, but for those of grouped convolutions.

    With `fisher`, the Fisher diagonals and saliencies too, by one backward pass a batch over the
    first FISHER_FRAMES frames: of the tokens of the transcripts (CTC, the empirical Fisher
    information), or, where a batch has no tokens, of outputs drawn from the model's own
    distribution. The draws depend on `seed` alone. Memory does not grow with the number of batches.

    Source: Kunstner et al., "Limitations of the empirical Fisher approximation", 2019, section 2.
    """
    sums = _MatrixSums(model, fisher)
    generator = torch.Generator().manual_seed(seed)
    executor = Executor(model).eval().requires_grad_(False)  # gradients of outputs alone
    frames = 0
    for batch in _in_parts(batches, FISHER_FRAMES if fisher else 0):
        backward = fisher and frames < FISHER_FRAMES
        frames += int(batch.lengths.sum())
        sums.keeps_inputs = backward
        executor.watch(sums.add_inputs, sums.add_gradients if backward else None)
        with torch.set_grad_enabled(backward), quick_products(model):
            features = batch.features.detach().requires_grad_(backward)
            outputs, lengths = executor.run(features, batch.lengths)
            if backward:
                _surprise(model, batch, outputs, lengths, generator).backward()  # type: ignore[no-untyped-call]
    return Statistics(sums.moments(damping))


def _in_parts(batches: Iterable[Batch], frames: int) -> Iterator[Batch]:
    """The batches; those that hold the first frames, so many, in parts, as a backward pass takes
    several times the memory."""
    for batch in batches:
        yield from batch.parts(PART) if frames > 0 else (batch,)
        frames -= int(batch.lengths.sum())


class _MatrixSums:
    """The sums of every matrix of a model, by its full name."""

    def __init__(self, model: Model, fisher: bool) -> None:
        self.keeps_inputs = False  # of the batch, until its gradients come
        self._inputs: dict[str, _Sums] = defaultdict(_Sums)
        self._squares: dict[str, _Sums] = defaultdict(_Sums)
        self._saliencies: dict[str, _Sums] = defaultdict(_Sums)
        self._sensitivities: dict[str, _Sums] = defaultdict(_Sums)
        self._kept: dict[str, list[Tensor]] = defaultdict(list)
        self._values = {name: m.decode() for name, m in model.matrices()} if fisher else {}

    def add_inputs(self, name: str, x: Tensor) -> None:
        """Inputs of a matrix, [..., in]."""
        self._inputs[name].add(x)
        if self.keeps_inputs:
            self._kept[name].append(x.detach())

    def add_gradients(self, name: str, gradients: Tensor) -> None:
        """Gradients of the outputs, [..., out], for the inputs that came last of those that have
        had none: the backward pass goes through the uses of a matrix in reverse."""
        self._squares[name].add(gradients.square(), second=False)
        of_inputs = gradients.detach() @ self._values[name]
        self._sensitivities[name].add(of_inputs)
        self._saliencies[name].add((self._kept[name].pop() * of_inputs).square(), second=False)

    def moments(self, damping: float) -> dict[str, Moments]:
        """What the sums come to."""
        return {
            name: Moments(
                sums.mean_square(),
                sums.mean(),
                damping,
                self._squares[name].mean() if name in self._squares else None,
                self._saliencies[name].mean() if name in self._saliencies else None,
                self._sensitivities[name].mean_square() if name in self._sensitivities else None,
            )
            for name, sums in self._inputs.items()
            if sums.count
        }


class _Sums:
    """The number of vectors, their sum, and the sum of their outer products."""

    def __init__(self) -> None:
        self.count = 0
        self.first = self.second = torch.zeros((), dtype=torch.float64)

    def add(self, vectors: Tensor, *, second: bool = True) -> None:
        """Add vectors, [..., size]; their outer products too if `second`."""
        rows = vectors.detach().flatten(0, -2)
        rows = rows.float() if rows.shape[1] >= WIDE else rows.double()
        self.count += len(rows)
        self.first = self.first + rows.sum(0, dtype=torch.float64)
        if second:
            with torch.autocast("cpu", enabled=False):
                self.second = self.second + (rows.T @ rows).double()

    def mean(self) -> Tensor:
        """The mean vector, float64 [size]."""
        return self.first / self.count

    def mean_square(self) -> Tensor:
        """The mean outer product of a vector with itself, float64 [size, size]."""
        return self.second / self.count


class CrossMoments:
    """Moments of inputs x, x' and y of the same frames: x is the input of a matrix in the original
    model, x' that of the same matrix in a changed model, y that of this or another matrix in the
    changed model. Sums are float64."""

    def __init__(self) -> None:
        self.count = 0
        self._firsts: tuple[Tensor, ...] = (torch.zeros((), dtype=torch.float64),) * 3
        self._before = self._after = self._firsts[0]

    def add(self, before: Tensor, after: Tensor, other: Tensor) -> None:
        """Add frames of x, x' and y, [frames, size] each."""
        self.count += len(other)
        rows = (before, after, other)
        sums = (each.sum(0, dtype=torch.float64) for each in rows)
        self._firsts = tuple(a + b for a, b in zip(self._firsts, sums, strict=True))
        self._before = self._before + (before.T @ other).double()
        self._after = self._after + (after.T @ other).double()

    @property
    def mean_before(self) -> Tensor:
        """E[x]."""
        return self._firsts[0] / self.count

    @property
    def mean_after(self) -> Tensor:
        """E[x']."""
        return self._firsts[1] / self.count

    def before(self, centered: bool) -> Tensor:
        """E[x y^T], around the means if `centered`."""
        return self._moment(self._before, self.mean_before, centered)

    def after(self, centered: bool) -> Tensor:
        """E[x' y^T], around the means if `centered`."""
        return self._moment(self._after, self.mean_after, centered)

    def _moment(self, sums: Tensor, mean: Tensor, centered: bool) -> Tensor:
        found = sums / self.count
        return found - torch.outer(mean, self._firsts[2] / self.count) if centered else found


def _surprise(
    model: Model, batch: Batch, outputs: Tensor, lengths: Tensor, generator: torch.Generator
) -> Tensor:
    """The negative log-likelihood of the transcripts, or of drawn outputs, summed over frames."""
    outputs = outputs.float()
    inside = Frames(outputs, lengths).alive()
    if not isinstance(model.nodes[-1].layer, LogSoftmax):  # a Gaussian around the outputs
        noise = torch.randn(inside.shape, generator=generator)
        return (inside * noise).sum() / inside.detach().std().clamp(min=1e-6)
    if batch.tokens is None:
        drawn = torch.multinomial(inside.detach().exp(), 1, generator=generator)
        return -inside.gather(1, drawn).sum()
    assert model.card is not None
    tokens = torch.tensor([token for each in batch.tokens for token in each])
    counts = torch.tensor([len(each) for each in batch.tokens])
    blank = model.card.blank
    return F.ctc_loss(outputs.transpose(0, 1), tokens, lengths, counts, blank, "sum", True)

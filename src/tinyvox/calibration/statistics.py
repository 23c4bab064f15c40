"""What is known of a model's matrices: what they are multiplied by, what their outputs matter.

`statistics_from_audio` learns it from speech, `synthetic_statistics` without data.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor

from tinyvox.executor import Executor
from tinyvox.model import LogSoftmax, Model

DAMPING = 0.02
"""The share of the mean energy that real speech is taken to lack in every direction."""
FISHER_FRAMES = 8000
"""Frames after which the mean that Fisher information is has finalized."""
LEAST_FISHER, FISHER_POWER = 0.03, 0.7
"""How Fisher information becomes importance: a share of its mean is added, and the power taken."""


@dataclass(frozen=True)
class Moments:
    """Of a matrix's inputs x [in]: `second`, the mean of x x^T over frames, float64 [in, in], and
    `mean`, that of x, float64 [in].

    `fisher`, float64 [out], where it is known, is the diagonal of the Fisher information of the
    outputs y = W x: the mean of (dL/dy)^2 over frames, L being the negative logarithm of an
    utterance's likelihood. An error e of the outputs then costs sum(fisher * e^2) / 2 nats a frame.
    `saliency`, float64 [in], is known with it: the mean of (x dL/dx)^2 by way of these outputs. To
    be without an input costs half of that; unlike the product of both means, it tells inputs that
    are rare but matter whenever they are there.
    `damping` of the mean energy is added to every direction where `second` has to be inverted.
    """

    second: Tensor
    mean: Tensor
    damping: float = DAMPING
    fisher: Tensor | None = None
    saliency: Tensor | None = None

    def deviation(self) -> Tensor:
        """The standard deviation of each input, float64 [in]."""
        return (self.second.diagonal() - self.mean.square()).clamp(min=0).sqrt()

    def importance(self) -> Tensor | None:
        """How much the squared error of each output counts, float64 [out] of mean 1, where their
        Fisher information is known.

        Less unevenly than that says: what it predicts holds for small errors, and rows that seem
        not to matter, since their gates are shut, matter once errors open them.
        """
        if self.fisher is None or not bool(self.fisher.any()):
            return None
        weights = (self.fisher / self.fisher.mean() + LEAST_FISHER) ** FISHER_POWER
        return weights / weights.mean()

    @functools.cached_property
    def damped(self) -> Tensor:
        """`second`, positive definite."""
        mean = self.second.diagonal().mean().clamp(min=torch.finfo(torch.float32).tiny)
        return self.second + self.damping * mean * torch.eye(len(self.second), dtype=torch.float64)


Statistics = Mapping[str, Moments]
"""Moments by the full name of the matrix; what is missing is not known."""

NO_STATISTICS: Statistics = MappingProxyType({})


@dataclass(frozen=True)
class Batch:
    """Features [utterances, frames, size], how many frames each has, int64 [utterances], and the
    tokens that were said, where they are known."""

    features: Tensor
    lengths: Tensor
    tokens: Sequence[Sequence[int]] | None = None

    @classmethod
    def of(cls, features: Sequence[Tensor], tokens: Sequence[Sequence[int]] | None = None) -> Batch:
        """Utterances of unequal length, [frames, size] each."""
        lengths = torch.tensor([len(each) for each in features])
        return cls(
            torch.nn.utils.rnn.pad_sequence(list(features), batch_first=True), lengths, tokens
        )


class CalibratedStatistics(dict[str, Moments]):
    """Statistics of which is known whose it is, the model's that was heard, and that can be heard
    again: `batches` gives what the model was given."""

    def __init__(
        self, statistics: Statistics, model: Model, batches: Callable[[], Iterable[Batch]]
    ) -> None:
        super().__init__(statistics)
        self.model, self.batches = model, batches


def gather(
    model: Model,
    batches: Iterable[Batch],
    damping: float = DAMPING,
    *,
    fisher: bool = False,
    seed: int = 0,
) -> Statistics:
    """Moments for every matrix but those of grouped convolutions. Memory does not grow with the
    number of batches.

    With `fisher` their Fisher diagonals and saliencies too, by one backward pass a batch over the
    first FISHER_FRAMES frames: of the tokens that were said (CTC, the empirical Fisher
    information), or where a batch does not tell them, of outputs drawn from the model's own
    distribution (Kunstner et al., "Limitations of the empirical Fisher approximation", 2019,
    section 2). Deterministic by `seed`.
    """
    inputs: dict[str, _Sums] = defaultdict(_Sums)
    squares: dict[str, _Sums] = defaultdict(_Sums)
    saliencies: dict[str, _Sums] = defaultdict(_Sums)
    present: dict[str, Tensor] = {}  # inputs of the batch, until the gradients come
    matrices = {name: matrix.decode() for name, matrix in model.matrices()} if fisher else {}

    def add_gradients(name: str, gradients: Tensor) -> None:
        squares[name].add(gradients.square(), moment=False)
        through = gradients.detach() @ matrices[name]
        saliencies[name].add((present.pop(name) * through).square(), moment=False)

    executor = Executor(model).eval().requires_grad_(False)  # gradients of outputs alone

    def add_inputs(name: str, x: Tensor) -> None:
        inputs[name].add(x)
        if surprised:
            present[name] = x.detach()

    generator = torch.Generator().manual_seed(seed)
    frames = 0  # that Fisher information is known of
    for batch in batches:
        surprised = fisher and frames < FISHER_FRAMES
        frames += surprised * int(batch.lengths.sum())
        executor.watch(add_inputs, add_gradients if surprised else None)
        with torch.set_grad_enabled(surprised):
            features = batch.features.detach().requires_grad_(surprised)
            outputs, lengths = executor.run(features, batch.lengths)
            if surprised:
                _surprise(model, batch, outputs, lengths, generator).backward()  # type: ignore[no-untyped-call]
    return {
        name: Moments(
            sums.second / sums.count,
            sums.mean(),
            damping,
            squares[name].mean() if name in squares else None,
            saliencies[name].mean() if name in squares else None,
        )
        for name, sums in inputs.items()
        if sums.count
    }


class _Sums:
    """Of vectors: how many, their sum, and that of their outer products."""

    def __init__(self) -> None:
        self.count = 0
        self.first = self.second = torch.zeros((), dtype=torch.float64)

    def add(self, vectors: Tensor, *, moment: bool = True) -> None:
        """Vectors, [..., size]."""
        rows = vectors.detach().flatten(0, -2).double()
        self.count += len(rows)
        self.first = self.first + rows.sum(0)
        if moment:
            self.second = self.second + rows.T @ rows

    def mean(self) -> Tensor:
        return self.first / self.count


class Together:
    """Moments of inputs x, x' and y, which go together frame by frame: x of a matrix before others
    changed, x' of the same one after that, y of that one or of another. Sums, float64."""

    def __init__(self) -> None:
        self.count = 0
        self.firsts: tuple[Tensor, ...] = (torch.zeros((), dtype=torch.float64),) * 3
        self.before = self.now = self.firsts[0]

    def add(self, before: Tensor, now: Tensor, other: Tensor) -> None:
        """x, x' and y, [frames, size]."""
        self.count += len(other)
        rows = (before, now, other)
        sums = (each.sum(0, dtype=torch.float64) for each in rows)
        self.firsts = tuple(a + b for a, b in zip(self.firsts, sums, strict=True))
        self.before = self.before + (before.T @ other).double()
        self.now = self.now + (now.T @ other).double()

    @property
    def mean_before(self) -> Tensor:
        """E[x]."""
        return self.firsts[0] / self.count

    @property
    def mean(self) -> Tensor:
        """E[x']."""
        return self.firsts[1] / self.count

    def across(self, centered: bool) -> Tensor:
        """E[x y^T], of what differs from the means if `centered`."""
        return self._moment(self.before, self.mean_before, centered)

    def after(self, centered: bool) -> Tensor:
        """E[x' y^T], likewise."""
        return self._moment(self.now, self.mean, centered)

    def _moment(self, sums: Tensor, mean: Tensor, centered: bool) -> Tensor:
        found = sums / self.count
        return found - torch.outer(mean, self.firsts[2] / self.count) if centered else found


def _surprise(
    model: Model, batch: Batch, outputs: Tensor, lengths: Tensor, generator: torch.Generator
) -> Tensor:
    """The negative logarithm of the likelihood of what was said, or of something drawn, summed."""
    outputs = outputs.float()
    inside = alive(outputs, lengths)
    if not isinstance(model.nodes[-1].layer, LogSoftmax):  # a Gaussian around the outputs
        values = outputs[inside]
        noise = torch.randn(values.shape, generator=generator)
        return (values * noise).sum() / values.detach().std().clamp(min=1e-6)
    if batch.tokens is None:
        log_probs = outputs[inside]
        drawn = torch.multinomial(log_probs.detach().exp(), 1, generator=generator)
        return -log_probs.gather(1, drawn).sum()
    assert model.card is not None
    said = torch.tensor([token for tokens in batch.tokens for token in tokens])
    counts = torch.tensor([len(tokens) for tokens in batch.tokens])
    return F.ctc_loss(outputs.transpose(0, 1), said, lengths, counts, model.card.blank, "sum", True)


def alive(outputs: Tensor, lengths: Tensor) -> Tensor:
    """Which frames of [batch, frames, ...] are within the utterances, bool [batch, frames]."""
    inside: Tensor = torch.arange(outputs.shape[1])[None] < lengths[:, None]
    return inside


def energy(values: Tensor, second_moment: Tensor | None, importance: Tensor | None = None) -> float:
    """The mean squared norm of the outputs of a matrix, `second_moment` being its inputs' second moment;
    its own squared norm where nothing is known. Each output counts `importance` [out] times."""
    values = values.double()
    rows = ((values if second_moment is None else values @ second_moment) * values).sum(1)
    return float((rows if importance is None else rows * importance).sum())

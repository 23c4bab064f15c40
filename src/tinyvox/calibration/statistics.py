"""Statistics of a model's matrices: moments of their inputs, Fisher information of their outputs.

`Calibration` gathers them from speech, real or synthetic; passes use them to know which errors
matter.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch
from torch import Tensor

from tinyvox.errors import ModelError
from tinyvox.model import Model

DAMPING = 0.02
"""Share of the mean energy that is added in every direction, as real speech does not show all."""
LEAST_FISHER, FISHER_POWER = 0.03, 0.7
"""How Fisher information becomes importance: a share of its mean is added, and the power taken."""


@dataclass(frozen=True)
class Batch:
    """Features [utterances, frames, size], the number of frames of each utterance, int64
    [utterances], and the tokens of each transcript, where they are known."""

    features: Tensor
    lengths: Tensor
    tokens: Sequence[Sequence[int]] | None = None

    @classmethod
    def of(cls, features: Sequence[Tensor], tokens: Sequence[Sequence[int]] | None = None) -> Batch:
        """Utterances of unequal length, [frames, size] each, padded with zeros."""
        lengths = torch.tensor([len(each) for each in features])
        padded = torch.nn.utils.rnn.pad_sequence(list(features), batch_first=True)
        return cls(padded, lengths, tokens)

    def parts(self, frames: int) -> Iterator[Batch]:
        """The utterances in batches of about so many frames each."""
        start, count = 0, len(self.lengths)
        while start < count:
            within = int((self.lengths[start:].cumsum(0) <= frames).sum())
            stop = start + max(1, within)
            lengths = self.lengths[start:stop]
            tokens = None if self.tokens is None else self.tokens[start:stop]
            yield Batch(self.features[start:stop, : int(lengths.max())], lengths, tokens)
            start = stop


@dataclass(frozen=True)
class Moments:
    """Statistics of one matrix W, whose inputs are x [in] and whose outputs are y = W x [out].

    `second` is the mean of x x^T over frames, float64 [in, in], and `mean` that of x, float64 [in].

    `fisher`, float64 [out] or None where it is not known, is the diagonal of the Fisher information
    of the outputs: the mean of (dL/dy)^2 over frames, where L is the negative log-likelihood of an
    utterance. An error e of the outputs costs sum(fisher * e^2) / 2 nats a frame.

    `saliency`, float64 [in], is known together with `fisher`: the mean of (x dL/dx)^2, of the
    gradient that comes through these outputs. Removing an input costs half of that. Unlike the
    product of the two means, it finds inputs that are rarely active but matter whenever they are.

    `sensitivity`, float64 [in, in], is known together with `fisher`: the second moment of the
    gradient that comes through these outputs, W^T G W for the Fisher information G of all outputs
    together. A change of the inputs by d costs d^T sensitivity d / 2 nats a frame.

    `damping` is the share of the mean energy that is added to the diagonal of `second` where it has
    to be inverted.
    """

    second: Tensor
    mean: Tensor
    damping: float = DAMPING
    fisher: Tensor | None = None
    saliency: Tensor | None = None
    sensitivity: Tensor | None = None

    def deviation(self) -> Tensor:
        """The standard deviation of each input, float64 [in]."""
        return (self.second.diagonal() - self.mean.square()).clamp(min=0).sqrt()

    def importance(self) -> Tensor | None:
        """The weight of the squared error of each output, float64 [out] of mean 1; None where the
        Fisher information is not known.

        It is more even than the Fisher information, which holds for small errors only: rows whose
        gates are closed seem not to matter, until errors open the gates.
        """
        if self.fisher is None or not bool(self.fisher.any()):
            return None
        weights = (self.fisher / self.fisher.mean() + LEAST_FISHER) ** FISHER_POWER
        return weights / weights.mean()

    def of_outputs(self, outputs: Tensor) -> Moments:
        """The statistics of these rows of the matrix alone, int64 indices."""
        if self.fisher is None:
            return self
        part = replace(self, fisher=self.fisher[outputs])
        vars(part)["damped"] = self.damped  # what has been computed of it serves both
        return part

    @functools.cached_property
    def damped(self) -> Tensor:
        """`second` with damping, positive definite, float64 [in, in]."""
        mean = self.second.diagonal().mean().clamp(min=torch.finfo(torch.float32).tiny)
        return self.second + self.damping * mean * torch.eye(len(self.second), dtype=torch.float64)


class Statistics(Mapping[str, Moments]):
    """Moments by the full name of the matrix, read-only; a matrix that is missing is not known.

    `model` is the model that was calibrated, and `batches()` gives the batches again that it was
    calibrated on. `model` is None where there are no batches.
    """

    def __init__(
        self,
        moments: Mapping[str, Moments] = MappingProxyType({}),
        model: Model | None = None,
        batches: Callable[[], Iterable[Batch]] | None = None,
    ) -> None:
        self._moments = dict(moments)
        self._batches = batches
        self.model = model if batches is not None else None

    @classmethod
    def of(cls, moments: Mapping[str, Moments]) -> Statistics:
        """The same statistics, or those of a plain mapping, which come without batches."""
        return moments if isinstance(moments, Statistics) else cls(moments)

    def batches(self) -> Iterable[Batch]:
        """The batches that the model was calibrated on. Raises ModelError where there are none."""
        if self._batches is None:
            raise ModelError("these statistics come without the batches that they were gathered on")
        return self._batches()

    def __getitem__(self, name: str) -> Moments:
        return self._moments[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._moments)

    def __len__(self) -> int:
        return len(self._moments)


NO_STATISTICS = Statistics()
"""Nothing is known of any matrix."""


def energy(values: Tensor, second_moment: Tensor | None, importance: Tensor | None = None) -> float:
    """The mean squared norm of the outputs of a matrix [out, in], for inputs of this second moment
    [in, in]; the squared norm of the matrix itself where that is None. The squares of each output
    are weighted by `importance` [out]."""
    values = values.double()
    rows = ((values if second_moment is None else values @ second_moment) * values).sum(1)
    return float((rows if importance is None else rows * importance).sum())

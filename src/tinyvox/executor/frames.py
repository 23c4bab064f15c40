"""Batches of signals: values of utterances of different lengths, and what is done to them whole."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


class Frames:
    """A batch of signals: values [batch, frames, ...shape], lengths int64 [batch] in frames.

    Without lengths every utterance fills all frames, and no operation depends on the data, so that
    `torch.export` can trace the model.
    """

    def __init__(self, values: Tensor, lengths: Tensor | None = None) -> None:
        self.values, self.lengths = values, lengths

    def map(self, function: Callable[[Tensor], Tensor]) -> Frames:
        """The batch with `function` applied to its values; lengths do not change."""
        return Frames(function(self.values), self.lengths)

    def padded(self, before: int, after: int, value: float = 0.0) -> Tensor:
        """Values with `value` past the end of each utterance, and in frames before and after."""
        values = self.values
        if self.lengths is not None and int(self.lengths.min()) < values.shape[1]:
            inside = self.inside()
            values = values * inside if value == 0 else values.masked_fill(~inside, value)
        return F.pad(values, [0, 0] * (values.ndim - 2) + [before, after], value=value)

    def alive(self) -> Tensor:
        """The frames inside the utterances, one utterance after the other, [total, ...shape]."""
        if self.lengths is None:
            return self.values.flatten(0, 1)
        inside: Tensor = self.inside().flatten(1)
        return self.values[inside]

    def inside(self) -> Tensor:
        """Which frames are inside the utterances, bool [batch, frames, 1...]; takes lengths."""
        assert self.lengths is not None
        index = torch.arange(self.values.shape[1], device=self.values.device)
        inside = index[None] < self.lengths.to(self.values.device)[:, None]
        return inside.view(*inside.shape, *[1] * (self.values.ndim - 2))

    def reversed(self) -> Frames:
        """Each utterance in reverse order; the frames past its end keep their place."""
        if self.lengths is None:
            return self.map(lambda v: v.flip(1))
        index = torch.arange(self.values.shape[1], device=self.values.device)[None]
        lengths = self.lengths.to(self.values.device)[:, None]
        index = torch.where(index < lengths, lengths - 1 - index, index)
        return self.map(lambda v: v.gather(1, index[:, :, None].expand(-1, -1, v.shape[2])))

    def reduced(self, kind: str) -> Frames:
        """One frame for each utterance, by a kind of REDUCTIONS; none where it has no frames."""
        values = self.values
        if values.shape[1] == 0:
            return self
        if self.lengths is None:
            return Frames(_REDUCED[kind](values))
        # An utterance without frames gives a frame past its end, which has no meaning.
        lengths = self.lengths.to(values.device).clamp(min=1)
        lengths = lengths.view(-1, *[1] * (values.ndim - 1))
        if kind in ("last", "middle"):
            values = values.take_along_dim(lengths - 1 if kind == "last" else lengths // 2, 1)
        elif kind in ("sum", "mean"):
            values = self._sum() / (lengths if kind == "mean" else 1)
        elif kind.startswith("variance"):
            apart = Frames((values - self._sum() / lengths).square(), self.lengths)._sum()
            values = apart / (lengths - int(kind == "variance_unbiased")).clamp(min=1)
        elif kind == "max":
            values = values.masked_fill(~self.inside(), -math.inf).amax(1, keepdim=True)
            values = values.nan_to_num(neginf=0.0)
        return Frames(values[:, :1], self.lengths.clamp(max=1))

    def _sum(self) -> Tensor:
        return self.padded(0, 0).sum(1, keepdim=True)


_REDUCED: dict[str, Callable[[Tensor], Tensor]] = {
    "last": lambda values: values[:, -1:],
    "first": lambda values: values[:, :1],
    "mean": lambda values: values.mean(1, keepdim=True),
    "max": lambda values: values.amax(1, keepdim=True),
    "sum": lambda values: values.sum(1, keepdim=True),
    "variance": lambda values: values.var(1, correction=0, keepdim=True),
    "variance_unbiased": lambda values: _spread(values) / torch.sym_max(values.shape[1] - 1, 1),  # type: ignore[no-untyped-call]
    "middle": lambda values: values[:, values.shape[1] // 2 :][:, :1],
}


def _spread(values: Tensor) -> Tensor:
    """The sum of squares around the mean, for which one frame is enough."""
    return (values - values.mean(1, keepdim=True)).square().sum(1, keepdim=True)


def combined(function: Callable[[Tensor, Tensor], Tensor], inputs: tuple[Frames, ...]) -> Frames:
    """A function of two values, over all inputs; their frames past the shortest are dropped."""
    frames = min(x.values.shape[1] for x in inputs)
    values = functools.reduce(function, [x.values[:, :frames] for x in inputs])
    return Frames(values, shortest(inputs))


def shortest(inputs: tuple[Frames, ...]) -> Tensor | None:
    """For each utterance the length in the input where it is shortest, or None."""
    lengths = [x.lengths for x in inputs if x.lengths is not None]
    return torch.stack(lengths).amin(0) if lengths else None

"""Tensors that modules make, then fill in place, part by part."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch_modules import FEATURES, Function, speech

from tinyvox.errors import ImporterError
from tinyvox.executor import Executor
from tinyvox.importers.torch import from_torch

ONE, TWO = nn.Linear(FEATURES, 4), nn.Linear(FEATURES, 4)


def features(x: Tensor) -> Tensor:
    y = x.new_zeros(*x.shape[:2], 9)
    y[..., :4] = ONE(x)
    y[..., 5:] = TWO(x)
    return y.tanh()


def twice(x: Tensor) -> Tensor:
    y = x.new_zeros(*x.shape[:2], 4)
    y[..., :2] = ONE(x)[..., :2]
    y[..., :2] = TWO(x)[..., 2:]
    return y.tanh()


def read_between(x: Tensor) -> Tensor:
    """Parts are read from while the rest is filled; a part that was taken before sees it."""
    y = x.new_zeros(*x.shape[:2], 8)
    late = y[..., 4:]
    y[..., :4] = ONE(x)
    y[..., 4:] = y[..., :4].sigmoid()
    return y + torch.cat([late, late], -1)


def delayed(x: Tensor) -> Tensor:
    y = torch.zeros_like(x)
    y[:, 1:] = x[:, :-1]
    return TWO(y) + ONE(x)


def of_a_signal(x: Tensor) -> Tensor:
    y = ONE(x)
    y[..., 1:3] = TWO(x)[..., 1:3]
    return y.sigmoid()


BOTH = nn.GRU(FEATURES, 3, batch_first=True, bidirectional=True)


def in_pieces(x: Tensor) -> Tensor:
    """A layer in both directions over pieces of 512 frames, in two passes over one buffer."""
    h = torch.zeros(2, len(x), 3)
    y = torch.zeros(len(x), x.shape[1], 6)
    starts = range(0, x.shape[1], 512)
    for start in starts:
        y[:, start : start + 512, :], h = BOTH(x[:, start : start + 512, :], h)
    h.zero_()
    for start in reversed(starts):
        found, h = BOTH(x[:, start : start + 512, :], h)
        y[:, start : start + 512, 3:] = found[:, :, 3:]
    return y


def whole(x: Tensor) -> Tensor:
    y = torch.ones(len(x), x.shape[1], 4)
    y[:, : x.shape[1]] = ONE(x)
    y[..., 2:] = TWO(x)[..., :2]
    return y.tanh()


@pytest.mark.parametrize(
    "function", [features, twice, read_between, delayed, of_a_signal, in_pieces, whole]
)
def test_a_filled_tensor_is_its_parts(function: Callable[[Tensor], Tensor]) -> None:
    module = Function(function)
    model = from_torch(module, speech())
    x = speech(31)
    with torch.no_grad():
        torch.testing.assert_close(Executor(model)(x), module(x), atol=1e-5, rtol=1e-5)


def overlapping(x: Tensor) -> Tensor:
    y = x.new_zeros(*x.shape[:2], 5)
    y[..., :4] = ONE(x)
    y[..., 1:] = TWO(x)
    return y.tanh()


@pytest.mark.parametrize("function", [overlapping])
def test_what_cannot_be_followed_is_refused(function: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(ImporterError, match="changes in place through another view"):
        from_torch(Function(function), speech())

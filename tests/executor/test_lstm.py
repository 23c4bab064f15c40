"""Our LSTM: torch's own in values and gradients; with truncation, the gradients of stretches whose
first states are given."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from runtime_models import MODELS, build, inputs_of
from torch import Tensor

from tinyvox.executor import Executor
from tinyvox.executor.lstm import lstm
from tinyvox.executor.parametrize import Rounding, rounded_to_grid
from tinyvox.model import Coded, Grid, decoded

BATCH, FRAMES, HIDDEN, RANK = 3, 203, 10, 4


@pytest.fixture
def tensors() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Products with the inputs, a bias, and the factors of the recurrent matrix."""
    rng = torch.Generator().manual_seed(0)
    shapes = (BATCH, FRAMES, 4 * HIDDEN), (4 * HIDDEN,), (4 * HIDDEN, RANK), (RANK, HIDDEN)
    made = [torch.randn(shape, generator=rng) * 0.5 for shape in shapes]
    product, bias, left, right = (each.requires_grad_() for each in made)
    return product, bias, left, right


def in_torch(product: Tensor, bias: Tensor, left: Tensor, right: Tensor, stretch: int) -> Tensor:
    """Torch's LSTM, stretch by stretch, with the states carried on and detached."""
    size = product.shape[2]
    weights = [torch.eye(size), left @ right, bias, torch.zeros(size)]
    state, outputs = [torch.zeros(1, len(product), HIDDEN)] * 2, []
    for part in product.split(stretch, 1):
        options = (True, 1, 0.0, True, False, True)
        found, *state = torch.lstm(part, [s.detach() for s in state], weights, *options)
        outputs.append(found)
    return torch.cat(outputs, 1)


@pytest.mark.parametrize(("truncate", "stretch"), [(1000, FRAMES), (30, 29), (29, 29)])
def test_values_and_gradients_are_those_of_torch(
    tensors: tuple[Tensor, ...], truncate: int, stretch: int
) -> None:
    """203 frames are 7 stretches of 29, also where 30 are allowed: all are as long."""
    product, bias, left, right = tensors
    own = lstm(product, bias, (left, right), truncate, torch.float32)
    expected = in_torch(product, bias, left, right, stretch)
    torch.testing.assert_close(own, expected, rtol=1e-5, atol=1e-6)
    weights = torch.randn(own.shape, generator=torch.Generator().manual_seed(1))
    found = torch.autograd.grad(own, tensors, weights)
    for one, other in zip(found, torch.autograd.grad(expected, tensors, weights), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_a_whole_matrix_does_what_its_factors_do(tensors: tuple[Tensor, ...]) -> None:
    product, bias, left, right = tensors
    matrix = (left @ right).detach().requires_grad_()
    whole = lstm(product, bias, (matrix,), 40, torch.float32)
    torch.testing.assert_close(whole, lstm(product, bias, (left, right), 40, torch.float32))
    (of_matrix,) = torch.autograd.grad(whole.sum(), matrix)
    own = lstm(product, bias, (left, right), 40, torch.float32)
    (of_left,) = torch.autograd.grad(own.sum(), left)
    torch.testing.assert_close(of_matrix @ right.T, of_left, rtol=1e-4, atol=1e-4)


def test_bfloat16_products_stay_close_over_hundreds_of_frames(tensors: tuple[Tensor, ...]) -> None:
    product, bias, left, right = tensors
    exact = lstm(product, bias, (left, right), 50, torch.float32)
    rough = lstm(product, bias, (left, right), 50, torch.bfloat16)
    assert rough.dtype == torch.bfloat16
    assert float((rough.float() - exact).detach().abs().max()) < 0.05


@pytest.mark.parametrize("name", MODELS)
def test_truncation_does_not_change_what_a_model_computes(name: str) -> None:
    """Nor, where it is longer than the utterance, its gradients."""
    any_model = build(name)
    x = torch.from_numpy(np.stack([inputs_of(any_model, 40, seed) for seed in (3, 4)]))
    plain, short, long = (Executor(any_model) for _ in range(3))
    short.truncate(7)
    long.truncate(100)
    expected = plain(x)
    torch.testing.assert_close(short(x), expected, rtol=1e-4, atol=1e-5)
    for executor in (plain, long):
        executor(x).square().sum().backward()
    for one, other in zip(plain.parameters(), long.parameters(), strict=True):
        if one.grad is not None:
            assert other.grad is not None
            torch.testing.assert_close(other.grad, one.grad, rtol=1e-3, atol=1e-4)


def test_rounding_to_a_grid_is_that_to_the_nearest_level() -> None:
    """Also halfway between two levels, beyond the outer ones, and in rows without a scale."""
    rng = torch.Generator().manual_seed(0)
    values = torch.randn(7, 300, generator=rng) * 3
    ties = torch.tensor([0.62, -0.62, 1.62, -1.62, 2.62, -2.62, 0.12, -0.12, 0.0, 0.61999995])
    values[0, : len(ties)] = ties
    scale = torch.tensor([1.0, 0.5, 0.25, 0.0, 2.0, 0.1, 1.0])
    book = Grid(9, torch.tensor([4]))
    rounding = Rounding(Coded(torch.zeros(7, 300, dtype=torch.uint8), book, scale), 2.0)
    codes, levels = rounding._codes(values)
    expected = decoded(codes, levels, scale)
    assert torch.equal(rounded_to_grid(values, book, scale), expected)
    values.requires_grad_()
    rounded = rounding(values)
    assert torch.equal(rounded, expected)
    (gradient,) = torch.autograd.grad(rounded.sum(), values)
    assert torch.equal(gradient, torch.ones_like(values))

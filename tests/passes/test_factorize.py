"""Factorization against the best approximation of its rank."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import chain, deepspeech, dense, linear, weight, what
from torch import Tensor

from tinyvox.calibration import Moments
from tinyvox.executor import Executor
from tinyvox.model import Dense, Model, Product, layers
from tinyvox.passes import Weighting
from tinyvox.passes.lowrank import decompose, factorize, factors, product
from tinyvox.passes.quantization import quantize, relative_error
from tinyvox.recipe import FactorizeSettings, QuantizeSettings


def run(model: Model, x: Tensor) -> Tensor:
    with torch.no_grad():
        return Executor(model)(x)


def test_a_factored_matrix_is_the_best_of_its_rank() -> None:
    model = deepspeech()
    outcome = factorize(model, FactorizeSettings(layers="lstm", rank=7))
    new = dict(outcome.model.matrices())
    for name, matrix in model.matrices():
        if not name.startswith("lstm"):
            assert new[name] is matrix
            continue
        found = new[name]
        assert isinstance(found, Product)
        assert found.rank == 7
        u, s, v = torch.linalg.svd(matrix.decode().double(), full_matrices=False)
        best = (u[:, :7] * s[:7]) @ v[:7]
        torch.testing.assert_close(found.decode().double(), best, rtol=1e-4, atol=1e-5)
        error = (found.decode() - matrix.decode()).double().square().sum()
        torch.testing.assert_close(error, s[7:].square().sum(), rtol=1e-4, atol=0)
        assert what(outcome, name).startswith(f"rank 7 of {len(s)}, relative squared error ")
        said = float(what(outcome, name).split()[-1])
        assert said == pytest.approx(float(error / s.square().sum()), rel=5e-3)


@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(2, 24),
    columns=st.integers(2, 24),
    rank=st.integers(1, 12),
    seed=st.integers(0, 99),
)
def test_the_error_is_that_of_eckart_and_young(
    rows: int, columns: int, rank: int, seed: int
) -> None:
    torch.manual_seed(seed)
    model = chain(columns, out=linear(rows, columns))
    outcome = factorize(model, FactorizeSettings(rank=rank))
    before, after = weight(model), weight(outcome.model)
    rank = min(rank, rows, columns)
    if rank * (rows + columns) >= rows * columns:
        assert after is before
        assert what(outcome, "out.weight").startswith(f"left alone: at rank {rank} the factors")
        return
    singular = torch.linalg.svdvals(before.decode().double()).square()
    expected = float(singular[rank:].sum() / singular.sum())
    assert relative_error(before, after) == pytest.approx(expected, rel=1e-3, abs=1e-9)


def test_both_factors_are_of_one_size() -> None:
    model = chain(40, out=linear(60, 40))
    product = weight(factorize(model, FactorizeSettings(rank=8)).model)
    assert isinstance(product, Product)
    left, right = product.left.decode(), product.right.decode()
    torch.testing.assert_close(left.norm(dim=0), right.norm(dim=1), rtol=1e-4, atol=1e-5)


def test_a_matrix_that_would_not_shrink_is_left_alone_and_named() -> None:
    torch.manual_seed(0)
    model = chain(20, a=linear(20, 20), b=linear(30, 20))
    outcome = factorize(model, FactorizeSettings(rank=10))
    assert weight(outcome.model, "a") is weight(model, "a")
    assert what(outcome, "a.weight") == (
        "left alone: at rank 10 the factors hold 400 weights, the matrix 400"
    )
    assert isinstance(weight(outcome.model, "b"), Product)
    by_energy = factorize(model, FactorizeSettings(layers="a", energy=1.0))
    assert weight(by_energy.model, "a") is weight(model, "a")
    assert what(by_energy, "a.weight").startswith("left alone: at rank 20 the factors hold 800")
    assert what(by_energy, "b.weight") == "left alone: no pattern matches it"


@pytest.mark.parametrize(("rank", "expected"), [(0.25, 5), (0.01, 1), (3, 3), (0.125, 2)])
def test_rank_is_a_fraction_of_the_full_rank_or_a_count(rank: float, expected: int) -> None:
    model = chain(40, out=linear(20, 40))
    product = weight(factorize(model, FactorizeSettings(rank=rank)).model)
    assert isinstance(product, Product)
    assert product.rank == expected


def low_rank(rows: int, columns: int, singular: list[float]) -> Dense:
    left, right = (torch.linalg.qr(torch.randn(n, len(singular)))[0] for n in (rows, columns))
    return Dense((left * torch.tensor(singular)) @ right.T)


@pytest.mark.parametrize(("energy", "rank"), [(0.5, 1), (0.64, 1), (0.65, 2), (0.95, 2), (0.99, 3)])
def test_energy_takes_the_smallest_rank_that_keeps_it(energy: float, rank: int) -> None:
    torch.manual_seed(0)
    singular = [0.801, 0.571, 0.18]  # squared: 0.6416, 0.3260, 0.0324
    model = chain(30, out=layers.Linear(low_rank(20, 30, singular)))
    product = weight(factorize(model, FactorizeSettings(energy=energy)).model)
    assert isinstance(product, Product)
    assert product.rank == rank


def test_factorization_names_what_is_factored_or_coded_already() -> None:
    coded = quantize(chain(40, a=linear(30, 40)), QuantizeSettings(bits=4)).model
    model = chain(40, a=coded.node("a").layer, b=layers.Linear(Product(dense(20, 3), dense(3, 30))))
    outcome = factorize(model, FactorizeSettings(rank=2))
    assert [matrix for _, matrix in outcome.model.matrices()] == [m for _, m in model.matrices()]
    assert what(outcome, "a.weight") == (
        "left alone: it is coded already; factorize before you quantize"
    )
    assert what(outcome, "b.weight") == "left alone: it is a product of rank 3 already"


def test_a_matrix_of_zeros_is_factored_without_error() -> None:
    model = chain(30, out=layers.Linear(Dense(torch.zeros(20, 30))))
    outcome = factorize(model, FactorizeSettings(energy=0.9))
    assert torch.equal(weight(outcome.model).decode(), torch.zeros(20, 30))
    assert what(outcome, "out.weight") == "rank 1 of 20, relative squared error 0"


@pytest.mark.parametrize("shape", [(40, 24), (24, 40)])
def test_a_large_matrix_is_decomposed_by_its_gram_matrix_to_the_same_products(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(shape, generator=generator)
    inputs = torch.randn(300, shape[1], generator=generator).double()
    weighting = Weighting(inputs.T @ inputs / 300, torch.rand(shape[0], generator=generator) + 0.1)
    exact = decompose(values, weighting)
    monkeypatch.setattr(factors, "LARGE", 16)
    found = decompose(values, weighting)
    torch.testing.assert_close(found.singular, exact.singular)
    for rank in (1, 7, 20):
        torch.testing.assert_close(
            product(found, rank).decode(), product(exact, rank).decode(), rtol=1e-5, atol=1e-5
        )


def test_directions_whose_errors_cancel_go_first() -> None:
    """Where the outputs matter together, truncation loses less of what its error costs than by each
    output alone, and no rank loses more than one below it."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(12, 9, generator=generator)
    mixed = torch.randn(12, 3, generator=generator).double()
    information = mixed @ mixed.T + 0.01 * torch.eye(12).double()
    inputs = torch.randn(200, 9, generator=generator).double()
    wide = values.double()
    moments = Moments(
        inputs.T @ inputs / 200,
        torch.zeros(9).double(),
        0.0,
        information.diagonal().clone(),
        None,
        wide.T @ information @ wide,
    )
    together = decompose(values, Weighting.of(moments))
    alone = decompose(values, Weighting(moments.damped, moments.importance()))
    costs = []
    for rank in range(1, 9):
        lost = [wide - product(parts, rank).decode().double() for parts in (together, alone)]
        cost, other = (
            float((information @ each @ moments.damped @ each.T).trace()) for each in lost
        )
        costs.append(cost)
        assert cost < 1.05 * other
    assert costs[2] < 0.3 * costs[0]  # three directions hold nearly all that matters
    assert costs == sorted(costs, reverse=True)
    assert together.singular.shape == (9,)
    whole = together.left * together.singular @ together.right
    torch.testing.assert_close(whole, values, atol=1e-4, rtol=1e-4)

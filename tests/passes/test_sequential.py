"""Matrices fitted to what reaches them, against least squares frame by frame."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from small_models import chain, linear, recurrent, what
from torch import Tensor, nn

from tinyvox.calibration import (
    NO_STATISTICS,
    Batch,
    Calibration,
    OutputDivergence,
    Statistics,
)
from tinyvox.executor import Executor
from tinyvox.model import Coded, Dense, Model, Product, layers
from tinyvox.passes.lowrank import factorize
from tinyvox.passes.pruning import sparsify
from tinyvox.passes.quantization import SequentialFit, quantize
from tinyvox.recipe import FactorizeSettings, QuantizeSettings, SparsifySettings

CELLS = {
    "lstm": lambda: nn.LSTM(12, 10),
    "gru": lambda: nn.GRU(12, 10),
    "rnn": lambda: nn.RNN(12, 10),
    "both ways": lambda: nn.LSTM(12, 10, bidirectional=True),
    "projected": lambda: nn.LSTM(12, 20, proj_size=10),
}


def model_with(cell: str) -> Model:
    torch.manual_seed(0)
    module = CELLS[cell]()
    width = 20 if module.bidirectional else 10
    return chain(
        8,
        first=linear(12, 8),
        relu=layers.Activation("relu"),
        cell=recurrent(module),
        out=linear(6, width),
        softmax=layers.LogSoftmax(),
    )


def speech(size: int = 8, count: int = 3) -> list[Batch]:
    generator = torch.Generator().manual_seed(2)
    lengths = torch.tensor([40, 33, 25, 40])
    return [Batch(torch.randn(4, 40, size, generator=generator), lengths) for _ in range(count)]


def calibrated(model: Model, damping: float = 1e-9) -> Statistics:
    return Calibration.from_batches(speech(model.input_size), damping=damping).of(model)


def inputs(model: Model, name: str) -> Tensor:
    """What a matrix is multiplied by, float64 [frames, in]."""
    found: list[Tensor] = []
    executor = Executor(model).eval()
    executor.watch(lambda at, x: found.append(x.flatten(0, -2)) if at == name else None)
    with torch.no_grad():
        for batch in speech(model.input_size):
            executor.run(batch.features, batch.lengths)
    return torch.cat(found).double()


def noisy(matrix: Dense) -> Dense:
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn(matrix.shape, generator=generator)
    return Dense(matrix.values + 0.3 * matrix.values.std() * noise)


def through(fit: SequentialFit, until: str) -> None:
    """Every matrix before one, with noise for codes."""
    for name, _ in fit.model.matrices():
        if name == until:
            return
        fitted, _ = fit.fit(name)
        assert isinstance(fitted, Dense)
        fit.put(name, noisy(fitted))


def test_a_matrix_stays_as_it_is_while_its_inputs_do() -> None:
    model = model_with("lstm")
    fit = SequentialFit(model, calibrated(model))
    fitted, moments = fit.fit("first.weight")
    before = dict(model.matrices())["first.weight"].decode()
    torch.testing.assert_close(fitted.decode(), before, atol=1e-4, rtol=1e-4)
    x = inputs(model, "first.weight")
    assert moments is not None
    torch.testing.assert_close(moments.second, torch.cov(x.T, correction=0), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("cell", CELLS)
def test_a_matrix_is_fitted_to_what_reaches_it(cell: str) -> None:
    """The outputs as they were, less what the matrix beside it gives now: by least squares with a
    bias, over all frames."""
    model = model_with(cell)
    names = [name for name, _ in model.matrices()]
    before = dict(model.matrices())
    for name in names[1:-1]:  # the last one is fitted to the outputs of the model
        fit = SequentialFit(model, calibrated(model))
        through(fit, name)
        fitted, _ = fit.fit(name)
        now = fit.model
        wanted = inputs(model, name) @ before[name].decode().double().T
        if name.endswith("weight_hh"):
            other = name.replace("hh", "ih")
            left = inputs(model, other) @ before[other].decode().double().T
            left -= inputs(now, other) @ dict(now.matrices())[other].decode().double().T
            if cell == "gru":
                left[:, 20:] = 0
            wanted += left
        y = inputs(now, name)
        if not name.endswith("weight_hr"):
            wanted, y = wanted - wanted.mean(0), y - y.mean(0)
        best = torch.linalg.lstsq(y, wanted, driver="gelsd").solution.T
        error = ((fitted.decode().double() - best) @ y.T).square().mean()
        assert error < 1e-5 * wanted.square().mean(), name


def test_the_means_of_outputs_stay() -> None:
    layer = "first"
    model = model_with("lstm")
    fit = SequentialFit(model, calibrated(model))
    through(fit, "")

    def mean(which: Model) -> Tensor:
        weight = dict(which.matrices())[f"{layer}.weight"].decode().double()
        found = inputs(which, f"{layer}.weight") @ weight.T
        return found.mean(0) + dict(which.vectors())[f"{layer}.bias"]

    torch.testing.assert_close(mean(fit.model), mean(model), atol=1e-5, rtol=1e-5)


def test_the_last_layer_is_where_the_divergence_is_least() -> None:
    """Its gradient is zero there, but for what holds the weights; and it is less than anywhere that
    least squares go."""
    model = model_with("lstm")
    fit = SequentialFit(model, calibrated(model))
    through(fit, "out.weight")
    held, _ = fit.fit("out.weight")
    fit.put("out.weight", held)
    divergence = OutputDivergence(model, speech())
    least = divergence.distance(fit.model)
    x, wanted = inputs(fit.model, "out.weight").float(), divergence.outputs.float()
    weight = held.decode().clone().requires_grad_()
    bias = dict(fit.model.vectors())["out.bias"].clone().requires_grad_()
    found = (x @ weight.T + bias).log_softmax(1)
    loss = (wanted.exp() * (wanted - found)).sum(1).mean()
    assert float(loss.detach()) == pytest.approx(least, rel=1e-3)
    slope, of_bias = torch.autograd.grad(loss, (weight, bias))
    before = model.matrix("out.weight").decode()
    far = (before.clone().requires_grad_(), torch.zeros(6, requires_grad=True))
    there = (x @ far[0].T + far[1]).log_softmax(1)
    steep = torch.autograd.grad((wanted.exp() * (wanted - there)).sum(1).mean(), far)
    assert slope.norm() < 0.1 * steep[0].norm()
    assert of_bias.norm() < 0.1 * steep[1].norm()


def test_a_recurrent_matrix_is_fitted_again_to_what_its_own_codes_give() -> None:
    model = model_with("lstm")
    fit = SequentialFit(model, calibrated(model))
    name = "cell.forward.weight_hh"
    through(fit, name)
    begun = fit.model
    first, _ = fit.fit(name)
    assert isinstance(first, Dense)
    fit.put(name, noisy(first))
    assert fit.feeds_back(name)
    states = inputs(fit.model, name)
    again, moments = fit.fit(name)
    assert moments is not None
    torch.testing.assert_close(
        moments.second, torch.cov(states.T, correction=0), atol=1e-5, rtol=1e-4
    )
    assert not torch.equal(again.decode(), first.decode())
    fit.put(name, again)
    assert dict(fit.model.vectors()).keys() == dict(begun.vectors()).keys()
    assert not fit.feeds_back("first.weight")


@pytest.mark.parametrize("cell", CELLS)
def test_less_is_lost(cell: str) -> None:
    model = model_with(cell)
    heard = calibrated(model, 0.02)
    divergence = OutputDivergence(model, speech())
    plain = QuantizeSettings(method="kmeans", bits=2)
    small, notes = quantize(model, plain, heard)
    fitted, more = quantize(model, plain.model_copy(update={"sequential": True}), heard)
    assert divergence.distance(fitted) < 0.9 * divergence.distance(small)
    assert [note.layer for note in notes] == [note.layer for note in more]


def test_factors_keep_their_rank_and_lose_less() -> None:
    model = model_with("lstm")
    heard = calibrated(model, 0.02)
    factored = factorize(model, FactorizeSettings(rank=4), heard).model
    divergence = OutputDivergence(model, speech())
    plain = QuantizeSettings(method="entropy", bits=4)
    fitted = quantize(factored, plain.model_copy(update={"sequential": True}), heard).model
    assert divergence.distance(fitted) < 0.9 * divergence.distance(
        quantize(factored, plain, heard).model
    )
    for name, matrix in factored.matrices():
        now = dict(fitted.matrices())[name]
        assert isinstance(matrix, Product) is isinstance(now, Product)
        if isinstance(matrix, Product):
            assert isinstance(now, Product)
            assert now.rank == matrix.rank


def test_a_factor_that_products_share_stays_shared() -> None:
    model = model_with("lstm")
    heard = calibrated(model, 0.02)
    settings = FactorizeSettings(layers=("cell*hh", "out*"), rank=4, shared_projection=True)
    joined = factorize(model, settings, heard).model
    assert joined.shared_factors()
    fitted = quantize(joined, QuantizeSettings(bits=4, sequential=True), heard).model
    names = set(joined.shared_factors().values())
    assert set(fitted.shared_factors().values()) == names
    plain = quantize(joined, QuantizeSettings(bits=4), heard).model
    divergence = OutputDivergence(model, speech())
    assert divergence.distance(fitted) < divergence.distance(plain)


@pytest.mark.parametrize("factored", [False, True])
def test_zeros_that_were_asked_for_stay(factored: bool) -> None:
    model = model_with("lstm")
    heard = calibrated(model, 0.02)
    if factored:
        model = factorize(model, FactorizeSettings(rank=4), heard).model
    thin = sparsify(model, SparsifySettings(fraction=0.5), heard).model
    fitted = quantize(thin, QuantizeSettings(method="entropy", bits=2, sequential=True), heard)
    after = fitted.model.leaves()
    for (name, leaf), (_, coded) in zip(thin.leaves(), after, strict=True):
        zeros = leaf.decode() == 0
        assert zeros.any()
        assert not coded.decode()[zeros].any()
        assert "not fitted" in what(fitted, name)


def test_what_no_rule_matches_and_what_is_not_told_is_left_alone() -> None:
    torch.manual_seed(0)
    kernel = Dense(torch.randn(8, 2 * 3))
    model = chain(
        8,
        first=linear(8, 8),
        grouped=layers.Conv1d(kernel, None, kernel=3, groups=4),
        out=linear(6, 8),
    )
    heard = calibrated(model, 0.02)
    assert "grouped.weight" not in heard
    settings = QuantizeSettings(layers=("grouped*", "out*"), bits=2, sequential=True)
    outcome = quantize(model, settings, heard)
    matrices = dict(outcome.model.matrices())
    assert matrices["first.weight"] is dict(model.matrices())["first.weight"]
    assert isinstance(matrices["grouped.weight"], Coded)
    assert isinstance(matrices["out.weight"], Coded)
    assert "left alone" in what(outcome, "first.weight")
    assert "not fitted" in what(outcome, "grouped.weight")
    assert "not fitted" not in what(outcome, "out.weight")


def test_without_evidence_it_is_said_that_nothing_was_fitted() -> None:
    model = model_with("lstm")
    settings = QuantizeSettings(bits=2, sequential=True)
    outcome = quantize(model, settings, NO_STATISTICS)
    assert "not sequential" in what(outcome, "all layers")
    plain = quantize(model, settings.model_copy(update={"sequential": False}), NO_STATISTICS).model
    assert outcome.model.digest() == plain.digest()


def test_a_branch_that_is_read_late_is_kept() -> None:
    """Signals are dropped once nothing reads them, and not before."""
    model = model_with("lstm")
    first, relu, cell, out, softmax = model.nodes
    sum_of = dataclasses.replace
    add = layers.Linear(Dense(torch.randn(10, 8)), None)
    side = type(first)("side", add, ("input",))
    joined = type(first)("sum", layers.Add(), ("side", "cell"))
    late = Model(8, (first, relu, cell, side, joined, sum_of(out, inputs=("sum",)), softmax))
    heard = calibrated(late, 0.02)
    plain = QuantizeSettings(method="kmeans", bits=2)
    fitted = quantize(late, plain.model_copy(update={"sequential": True}), heard).model
    divergence = OutputDivergence(late, speech())
    assert divergence.distance(fitted) < divergence.distance(quantize(late, plain, heard).model)

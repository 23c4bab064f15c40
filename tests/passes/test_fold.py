"""Batch norms folded into the layers before them, high biases absorbed by the layers behind."""

from __future__ import annotations

import pytest
import torch
from small_models import chain, dense, features, linear, recurrent, rounded, run, speech_model
from torch import Tensor, nn
from uneven_models import MODELS, PLAIN, batch_norm, convolution_model, uneven, what

from tinyvox.calibration import NO_STATISTICS, Moments
from tinyvox.model import INPUT, Activation, BatchNorm, Conv1d, Dense, Linear, Model, Node, layers
from tinyvox.passes import apply, correct_biases
from tinyvox.passes.equalization import equalize, equalize_known, fold_batch_norms
from tinyvox.recipe import EqualizeSettings, Recipe


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


# Folding.


def test_batch_norms_go_into_the_layer_before_them() -> None:
    model = convolution_model()
    found = fold_batch_norms(model)
    assert [n.name for n in found.model.nodes if isinstance(n.layer, BatchNorm)] == []
    x = features(12, 40)
    torch.testing.assert_close(run(found.model, x), run(model, x), rtol=1e-4, atol=1e-5)
    norm = model.node("norm1").layer
    assert isinstance(norm, BatchNorm)
    torch.testing.assert_close(found.known["conv1"].mean, norm.bias.double())
    factor = norm.weight.double().square() * norm.variance / (norm.variance + norm.eps)
    torch.testing.assert_close(found.known["conv1"].variance, factor)


def test_two_batch_norms_in_a_row_and_one_at_the_end_are_folded() -> None:
    model = chain(6, a=linear(5, 6), n1=batch_norm(5), n2=batch_norm(5))
    found = fold_batch_norms(model)
    assert [node.name for node in found.model.nodes] == ["a"]
    x = features(6)
    torch.testing.assert_close(run(found.model, x), run(model, x), rtol=1e-4, atol=1e-5)


def test_a_batch_norm_that_cannot_be_folded_is_named() -> None:
    nodes = (
        ("a", linear(4, 4), (INPUT,)),
        ("first", batch_norm(4), ("a",)),
        ("sum", layers.Add(), ("first", "a")),
        ("relu", Activation("relu"), ("sum",)),
        ("second", batch_norm(4), ("relu",)),
        ("out", linear(2, 4), ("second",)),
    )
    outcome = equalize(Model(4, tuple(Node(*node) for node in nodes)), PLAIN)
    assert what(outcome, "first") == "left alone: others read 'a' too"
    assert "no linear layer or convolution stands before it" in what(outcome, "second")
    assert len(outcome.model.nodes) == 6


# Absorbing.


def high_model(activation: Activation, mean: float = 6.0) -> Model:
    """A layer behind a batch norm that puts out N(mean, 1), but for one low unit."""
    weight = torch.randn(16, 8)
    norm = BatchNorm(
        torch.zeros(16), weight.square().sum(1), torch.ones(16), torch.full((16,), mean), 0.0
    )
    norm.bias[3] = 0.5
    return chain(
        8,
        a=Linear(Dense(weight)),
        norm=norm,
        act=activation,
        flat=layers.Subsample(2),
        b=linear(5, 16),
    )


@pytest.mark.parametrize("limit", [None, 50.0, 5.0])
def test_high_biases_are_absorbed_and_few_frames_change(limit: float | None) -> None:
    kind = "relu" if limit is None else "clipped_relu"
    model = high_model(Activation(kind, limit))
    outcome, known = equalize_known(model, EqualizeSettings())
    most = 3.0 if limit is None else min(3.0, limit / 2)
    assert f"absorbed the biases of 15 of 16 units, up to {most:.3g}" in what(outcome, "a")
    folded = dict(fold_batch_norms(model).model.vectors())["a.bias"]
    scale = known["a"].variance.sqrt()  # it was 1
    expected = (folded - torch.where(torch.arange(16) == 3, 0.0, most)) * scale
    torch.testing.assert_close(known["a"].mean, expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(
        dict(outcome.model.vectors())["a.bias"].double(), expected, rtol=1e-3, atol=1e-4
    )
    x = features(8, 400, 8)
    moved = (run(outcome.model, x) - run(model, x)).abs().amax(-1) > 1e-3
    assert 0 < float(moved.float().mean()) < 16 / 740 * 1.5


def test_absorbing_is_exact_where_units_stay_above_what_is_absorbed() -> None:
    model = high_model(Activation("clipped_relu", 5.0))
    x = features(8, 50) * 0.3
    after = equalize(model, EqualizeSettings()).model
    torch.testing.assert_close(run(after, x), run(model, x), rtol=1e-4, atol=1e-4)


def test_absorbed_biases_reach_recurrent_layers_from_evidence() -> None:
    model = chain(
        6, a=linear(8, 6), relu=Activation("relu"), rnn=recurrent(nn.GRU(8, 5)), out=linear(3, 5)
    )
    model = model.with_tensors({"a.bias": torch.full((8,), 9.0)})
    x = features(6, 300, 4)
    hidden = run(chain(6, a=model.node("a").layer, relu=Activation("relu")), x).flatten(0, 1)
    second = (hidden.T @ hidden).double() / len(hidden)
    statistics = {"rnn.forward.weight_ih": Moments(second, hidden.double().mean(0))}
    outcome = equalize(model, EqualizeSettings(), statistics)
    assert "absorbed the biases of 8 of 8 units" in what(outcome, "a")
    difference = (run(outcome.model, x) - run(model, x)).abs()
    assert float((difference > 1e-3).double().mean()) < 0.02
    assert "absorbed" not in what(equalize(model, EqualizeSettings(), NO_STATISTICS), "a")


def test_high_biases_that_zeros_would_stand_beside_stay_and_are_named() -> None:
    base = high_model(Activation("relu"))
    window = chain(
        8, **{n: base.node(n).layer for n in ("a", "norm", "act")},
        window=layers.ContextWindow(1, 0), b=linear(5, 32),
    )  # fmt: skip
    outcome = equalize(window, EqualizeSettings())
    assert "15 high biases left where they are: 'window' lies between" in what(outcome, "a")
    padded = chain(
        8, **{n: base.node(n).layer for n in ("a", "norm", "act")},
        conv=Conv1d(dense(5, 48), None, 3, padding=(1, 1)), b=linear(5, 5),
    )  # fmt: skip
    assert "'conv' puts zeros around them" in what(equalize(padded, EqualizeSettings()), "a")
    for model in (window, padded):
        x = features(8, 20)
        torch.testing.assert_close(
            run(equalize(model, EqualizeSettings()).model, x), run(model, x), rtol=1e-4, atol=1e-3
        )


# What it is for.


@pytest.mark.parametrize("bits", [4, 6, 8])
@pytest.mark.parametrize("name", ["mobile", "clipped"])
def test_an_ill_scaled_model_loses_much_less_on_one_grid_a_matrix(name: str, bits: int) -> None:
    """Uneven units are undone: a unit's rows times f and its readers' columns by 1/f."""
    model = equalize(MODELS[name](), PLAIN).model
    bad = ill_scaled(model)
    x = features(10, 200)
    expected = run(bad, x)
    good = equalize(bad, PLAIN).model
    loss = [relative_error(run(rounded(m, bits), x), expected) for m in (bad, good)]
    assert loss[1] < loss[0] / 5
    corrected = correct_biases(good, rounded(good, bits)).model
    both = relative_error(run(corrected, x), expected)
    assert both < loss[1] / 2
    assert both < {4: 0.4, 6: 0.04, 8: 0.004}[bits]


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Squared error over the variance from frame to frame."""
    variance = (expected - expected.mean((0, 1))).square().mean()
    return float((found - expected).square().mean() / variance)


def ill_scaled(model: Model) -> Model:
    """The same function with the units of each group that can be scaled, scaled at random."""
    from tinyvox.passes.equalization import spell_limits
    from tinyvox.passes.equalization.ranges import _Scales, _sort

    spelled = spell_limits(model)
    groups, _ = _sort(spelled, lambda _: True)
    scales = _Scales(spelled)
    for group in groups:
        step = torch.exp(6 * torch.rand(group.size, dtype=torch.float64) - 3)
        scales.units[group.name] = step
        scales._put(group, step)
    return scales.apply(groups)


def test_the_step_of_a_recipe() -> None:
    model = uneven(speech_model())
    outcome = apply(model, Recipe.of(PLAIN))
    assert outcome.model.provenance["recipe"] == {"steps": [{"equalize": {"absorb": False}}]}
    assert "units scaled by" in what(outcome, "dense1")

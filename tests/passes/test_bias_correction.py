"""Means of signals against sampling, and biases that give compressed layers their mean back."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from small_models import chain, dense, features, linear, recurrent, rounded, run, speech_model, what
from torch import Tensor, nn

from tinyvox.calibration import Moments, synthetic_features
from tinyvox.errors import ModelError
from tinyvox.executor import Executor
from tinyvox.model import (
    ACTIVATIONS,
    INPUT,
    REDUCTIONS,
    Activation,
    BatchNorm,
    Conv1d,
    Conv2d,
    Dense,
    Linear,
    Model,
    Node,
    Product,
    Recurrent,
    layers,
)
from tinyvox.passes import Normal, Note, correct_biases, propagate_moments, rectified, through
from tinyvox.passes.equalization import fold_batch_norms


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


# Closed forms and quadrature.

LIMITS = torch.arange(1.0, 7)
NORMALS = Normal(
    torch.tensor([-3.0, -0.5, 0.0, 0.4, 2.0, 7.0]).double(),
    torch.tensor([1.0, 4.0, 1.0, 0.01, 0.25, 9.0]).double(),
)


def measured(model: Model, x: Tensor) -> dict[str, Moments]:
    """The moments of what each matrix is multiplied by for these features."""
    found: dict[str, Moments] = {}

    def gather(name: str, inputs: Tensor) -> None:
        wide = inputs.double()
        found[name] = Moments(wide.T @ wide / len(wide), wide.mean(0))

    executor = Executor(model).eval()
    executor.watch(gather)
    with torch.no_grad():
        executor(x)
    return found


@pytest.mark.parametrize(
    ("analytic", "function"),
    [
        (rectified, torch.relu),
        (lambda n: rectified(n, 1.5), lambda x: x.clamp(0, 1.5)),
        (lambda n: rectified(n, LIMITS.double()), lambda x: x.clamp(0).minimum(LIMITS)),
        (lambda n: through(n, torch.tanh), torch.tanh),
        (lambda n: through(n, torch.sigmoid), torch.sigmoid),
    ],
    ids=["relu", "clipped", "limits", "tanh", "sigmoid"],
)
def test_moments_of_activations_are_those_of_samples(
    analytic: Callable[[Normal], Normal], function: Callable[[Tensor], Tensor]
) -> None:
    found = analytic(NORMALS)
    samples = NORMALS.mean + NORMALS.variance.sqrt() * torch.randn(400_000, 6).double()
    values = function(samples)
    torch.testing.assert_close(found.mean, values.mean(0), rtol=5e-3, atol=3e-3)
    torch.testing.assert_close(found.variance, values.var(0), rtol=2e-2, atol=1e-3)


def test_values_that_do_not_vary_pass_as_they_are() -> None:
    point = Normal(torch.tensor([-1.0, 0.5, 3.0]).double(), torch.zeros(3).double())
    for limit, expected in ((math.inf, [0, 0.5, 3]), (2.0, [0, 0.5, 2])):
        found = rectified(point, limit)
        torch.testing.assert_close(found.mean, torch.tensor(expected).double())
        torch.testing.assert_close(found.variance, torch.zeros(3).double(), atol=1e-9, rtol=0)


# Propagation.


def check_against_samples(model: Model, tolerance: float = 0.05) -> None:
    """Means and variances of the output over white inputs, apart from the edges in time."""
    x = torch.randn(300, 120, model.input_size, generator=torch.Generator().manual_seed(3))
    outputs = run(model, x)[:, 10:-10].flatten(0, 1).double()
    found = propagate_moments(model)[model.output]
    scale = float(outputs.std(0).mean())
    torch.testing.assert_close(found.mean, outputs.mean(0), rtol=0, atol=tolerance * scale)
    torch.testing.assert_close(found.variance.sqrt(), outputs.std(0), rtol=0.1, atol=0.02 * scale)


OTHERS = ("clipped_relu", "leaky_relu", "reciprocal")
"""Activations with limits or slopes, and the one whose mean is infinite around 0."""


def test_moments_after_a_linear_layer_and_an_activation() -> None:
    kinds = [kind for kind in ACTIVATIONS if kind not in OTHERS]
    for kind in kinds:
        check_against_samples(chain(30, a=linear(12, 30), act=Activation(kind)))
    check_against_samples(chain(30, a=linear(12, 30), act=Activation("clipped_relu", 0.6)))
    above = Linear(Dense(dense(12, 30).values / 10), torch.full((12,), 4.0))
    check_against_samples(chain(30, a=above, act=Activation("reciprocal")), tolerance=0.1)
    leaky = Activation("leaky_relu", slopes=torch.linspace(-0.5, 1.5, 12))
    check_against_samples(chain(30, a=linear(12, 30), act=leaky))


def test_moments_of_reductions() -> None:
    x = torch.randn(4000, 100, 5, generator=torch.Generator().manual_seed(3))
    for kind in REDUCTIONS:
        model = chain(5, one=layers.Reduce(kind))
        outputs = run(model, x).flatten(0, 1).double()
        found = propagate_moments(model)["one"]
        error = 5 * float(outputs.std()) / math.sqrt(len(outputs))  # of the mean of the samples
        torch.testing.assert_close(found.mean, outputs.mean(0), rtol=0.02, atol=error)
        torch.testing.assert_close(found.variance, outputs.var(0), rtol=0.1, atol=1e-3)


def test_moments_of_features_that_are_picked() -> None:
    picked = layers.Take((3, 10, 5, 8, 3, 10, 1, 8, 3, 6, 1, 8))
    check_against_samples(chain(30, a=linear(12, 30), picked=picked))


def test_moments_of_a_product() -> None:
    both = Model(
        16,
        (
            Node("a", Linear(Dense(F.pad(torch.randn(6, 8), (0, 8))), torch.randn(6)), (INPUT,)),
            Node("b", Linear(Dense(F.pad(torch.randn(6, 8), (8, 0))), torch.randn(6)), (INPUT,)),
            Node("product", layers.Multiply(), ("a", "b")),
        ),
    )
    check_against_samples(both)


def test_moments_after_convolutions() -> None:
    one = Conv1d(dense(12, 5 * 3), torch.randn(12), 3, 2, 2, (1, 1), groups=4)
    check_against_samples(chain(20, conv=one, act=Activation("relu")))
    two = Conv2d(dense(4, 2 * 9), torch.randn(4), (3, 3), (1, 2), (1, 1, 2, 1))
    check_against_samples(chain(18, image=layers.Unflatten(2), conv=two, clip=Activation("relu")))
    three = Conv2d(dense(4, 9), torch.randn(4), (3, 3), (1, 1), (1, 1, 2, 1), (2, 2), 2)
    check_against_samples(chain(18, image=layers.Unflatten(2), conv=three, clip=Activation("relu")))


def test_moments_through_windows_sums_and_joins() -> None:
    nodes = (
        ("window", layers.ContextWindow(1, 1), (INPUT,)),
        ("stack", layers.FrameStacking(2, 1), (INPUT,)),
        ("sub", layers.Subsample(1), ("window",)),
        ("a", linear(9, 24), ("sub",)),
        ("b", linear(9, 16), ("stack",)),
        ("sum", layers.Add(), ("a", "b")),
        ("both", layers.Concat(), ("sum", INPUT)),
    )
    model = Model(8, tuple(Node(*node) for node in nodes))
    found = propagate_moments(model)["both"]
    torch.testing.assert_close(found.mean[9:], torch.zeros(8).double())
    weights = [m.decode().double().square().sum(1) for _, m in model.matrices()]
    torch.testing.assert_close(found.variance[:9], weights[0] + weights[1])
    biases = dict(model.vectors())
    torch.testing.assert_close(found.mean[:9], (biases["a.bias"] + biases["b.bias"]).double())


def test_a_batch_norm_says_what_it_puts_out() -> None:
    norm = BatchNorm(torch.randn(5), torch.rand(5) + 1, torch.randn(5), torch.randn(5), 0.0)
    model = chain(4, a=linear(5, 4), norm=norm, relu=Activation("relu"))
    expected = rectified(Normal(norm.bias.double(), norm.weight.double().square()))
    torch.testing.assert_close(propagate_moments(model)["relu"].mean, expected.mean)
    folded = fold_batch_norms(model)
    found = propagate_moments(folded.model, folded.known)["relu"]
    torch.testing.assert_close(found.mean, expected.mean)


def test_layer_norm_and_log_softmax_have_an_estimate() -> None:
    weight, bias = torch.rand(40) + 0.5, torch.randn(40)
    model = chain(30, a=linear(40, 30), norm=layers.LayerNorm(weight, bias))
    check_against_samples(model, tolerance=0.2)
    soft = propagate_moments(chain(30, a=linear(9, 30), soft=layers.LogSoftmax()))["soft"].mean
    assert float(soft.exp().sum()) == pytest.approx(1)


@pytest.mark.parametrize(("kind", "groups"), [("rms", 1), ("layer", 2), ("rms", 4)])
def test_norms_of_groups_have_an_estimate(kind: str, groups: int) -> None:
    """Where all values of a group vary alike."""
    weight, bias = torch.rand(400) + 0.5, torch.randn(400)
    model = chain(400, norm=layers.LayerNorm(weight, bias, kind=kind, groups=groups))
    check_against_samples(model)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_hidden_states_have_the_moments_of_a_run(kind: type[nn.RNNBase]) -> None:
    model = chain(20, rnn=recurrent(kind(20, 12, bidirectional=True)))
    states = run(model, synthetic_features(200, 20, seed=3)).flatten(0, 1).double()
    found = propagate_moments(model)["rnn"]
    torch.testing.assert_close(found.mean, states.mean(0), rtol=0, atol=0.03)
    torch.testing.assert_close(found.variance, states.var(0), rtol=0.15, atol=0.005)


# Correction.


def test_the_mean_error_of_a_linear_layer_becomes_zero() -> None:
    model = chain(16, out=linear(9, 16))
    x = features(16, 500) + torch.randn(16)
    changed = rounded(model, 3)
    outcome = correct_biases(model, changed, measured(model, x))
    expected = run(model, x)
    before, after = ((run(m, x) - expected).mean((0, 1)) for m in (changed, outcome.model))
    assert float(before.abs().max()) > 0.05
    torch.testing.assert_close(after, torch.zeros(9), rtol=0, atol=1e-5)
    moved = dict(outcome.model.vectors())["out.bias"] - dict(model.vectors())["out.bias"]
    largest = f"{float(moved.abs().max()):.3g}"
    said = f"corrected, by up to {largest}; means of the inputs: statistics"
    assert outcome.notes == (Note("out.bias", said),)


def test_inputs_of_mean_zero_need_no_correction() -> None:
    model = chain(16, out=linear(9, 16))
    changed = rounded(model, 3)
    outcome = correct_biases(model, changed)
    assert torch.equal(dict(outcome.model.vectors())["out.bias"], dict(model.vectors())["out.bias"])
    assert outcome.notes[0].what == "left alone: the means of the inputs are 0"


def test_a_layer_without_a_bias_gets_one_and_nothing_given_changes() -> None:
    model = chain(
        10,
        a=linear(20, 10),
        relu=Activation("relu"),
        b=Linear(dense(8, 20)),
        conv=Conv1d(dense(6, 8 * 3), None, 3),
    )
    changed = rounded(model, 3)
    before = {name: matrix.decode().clone() for name, matrix in changed.matrices()}
    outcome = correct_biases(model, changed)
    vectors = dict(outcome.model.vectors())
    assert vectors["b.bias"].shape == (8,)
    assert vectors["conv.bias"].shape == (6,)
    largest = f"{float(vectors['b.bias'].abs().max()):.3g}"
    assert what(outcome, "b.bias").startswith(f"added, by up to {largest}; means of the inputs: ")
    assert all(torch.equal(m.decode(), before[name]) for name, m in changed.matrices())
    assert "b.bias" not in dict(changed.vectors())
    x = features(10, 400, 8)
    expected = run(model, x).mean((0, 1))
    moved = [(run(m, x).mean((0, 1)) - expected).square().sum() for m in (changed, outcome.model)]
    assert float(moved[1]) < float(moved[0]) / 4


@pytest.mark.parametrize("norms", ["there", "folded"])
def test_batch_norms_say_the_means_where_there_is_no_data(norms: str) -> None:
    """Inputs unlike those assumed, which the statistics of the batch norm tell of."""
    a = linear(32, 10)
    x = 3 * features(10, 500, 8) + 2
    hidden = run(chain(10, a=a), x).flatten(0, 1)
    norm = BatchNorm(hidden.mean(0), hidden.var(0), torch.rand(32) + 0.5, torch.randn(32))
    model = chain(10, a=a, norm=norm, clip=Activation("clipped_relu", 1.0), out=linear(6, 32))
    folded = fold_batch_norms(model)
    if norms == "folded":
        model = folded.model
    known = folded.known if norms == "folded" else {}
    after = rounded(chain(32, out=model.node("out").layer), 3).node("out").layer
    assert isinstance(after, Linear)
    changed = model.with_tensors({"out.weight": after.weight})
    outcome = correct_biases(model, changed, known=known)
    expected = run(model, x).mean((0, 1))
    moved = [(run(m, x).mean((0, 1)) - expected).square().sum() for m in (changed, outcome.model)]
    assert float(moved[1]) < float(moved[0]) / 25


def test_convolutions_over_bands_are_corrected_on_average() -> None:
    model = chain(
        12,
        image=layers.Unflatten(2),
        one=Conv2d(dense(5, 18), torch.randn(5), (3, 3), (1, 1), (0, 0, 1, 1)),
        relu=Activation("relu"),
        two=Conv2d(dense(4, 45), None, (3, 3)),
    )
    changed = rounded(model, 3)
    x = features(12, 400, 8)
    expected = run(model, x).mean((0, 1, 3))
    after = correct_biases(model, changed).model
    moved = [(run(m, x).mean((0, 1, 3)) - expected).square().sum() for m in (changed, after)]
    assert float(moved[1]) < float(moved[0]) / 4


def recurrent_model(kind: type[nn.RNNBase]) -> tuple[Model, Model]:
    """A recurrent layer with inputs and states far from mean 0, and the same rounded to 3 bits."""
    module = kind(24, 20)
    with torch.no_grad():
        for name, value in module.named_parameters():
            value.mul_(2 if "weight" in name else 1).add_(0.3 if "bias" in name else 0)
    model = chain(10, a=linear(24, 10), relu=Activation("relu"), rnn=recurrent(module))
    return model, rounded(model, 3).with_tensors({"a.weight": dict(model.matrices())["a.weight"]})


def gates(model: Model, inputs: Tensor, states: Tensor) -> Tensor:
    """What the gates of a cell are given: sides of the input and of the state, and biases, of
    which a GRU's hidden side of the new gate is kept apart."""
    layer = model.node("rnn").layer
    assert isinstance(layer, Recurrent)
    cell = layer.forward
    assert cell is not None
    assert cell.bias is not None
    given = inputs @ cell.weight_ih.decode().T + cell.bias
    side = states @ cell.weight_hh.decode().T
    if layer.kind != "gru":
        return given + side
    hidden = side[:, -cell.hidden :]
    if cell.bias_hn is not None:
        hidden = hidden + cell.bias_hn
    rows = 2 * cell.hidden
    return torch.cat([given[:, :rows] + side[:, :rows], given[:, rows:], hidden], dim=1)


@pytest.mark.parametrize("known", [True, False], ids=["statistics", "estimate"])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_the_gates_get_their_means_back(kind: type[nn.RNNBase], known: bool) -> None:
    model, changed = recurrent_model(kind)
    x = features(10, 300, 16)
    statistics = measured(model, x) if known else {}
    after = correct_biases(model, changed, statistics).model
    inputs = run(Model(10, model.nodes[:2]), x)
    states = run(model, x)
    before_states = torch.cat([states.new_zeros(16, 1, 20), states[:, :-1]], dim=1)
    flat = inputs.flatten(0, 1), before_states.flatten(0, 1)
    expected = gates(model, *flat).mean(0)
    moved = [(gates(m, *flat).mean(0) - expected).square().mean() for m in (changed, after)]
    assert float(moved[1]) < float(moved[0]) * (1e-6 if known else 0.05)


def test_the_outputs_of_a_recurrent_layer_keep_their_mean_better() -> None:
    for kind in (nn.LSTM, nn.GRU):
        model, changed = recurrent_model(kind)
        x = features(10, 200, 16)
        after = correct_biases(model, changed).model
        expected = run(model, x)
        moved = [float((run(m, x) - expected).square().mean()) for m in (changed, after)]
        assert moved[1] < moved[0]


def test_a_gru_without_biases_gets_the_one_that_its_reset_gate_multiplies() -> None:
    model, _ = recurrent_model(nn.GRU)
    layer = model.node("rnn").layer
    assert isinstance(layer, Recurrent)
    assert layer.forward is not None
    bare = layers.Cell(layer.forward.weight_ih, layer.forward.weight_hh)
    model = Model(10, (*model.nodes[:2], Node("rnn", Recurrent("gru", bare), ("relu",))))
    outcome = correct_biases(model, rounded(model, 3))
    cell = outcome.model.node("rnn").layer.forward
    assert cell.bias.shape == (60,)
    assert cell.bias_hn.shape == (20,)
    assert {note.layer for note in outcome.notes} >= {"rnn.forward.bias", "rnn.forward.bias_hn"}


def test_both_directions_and_factors_are_corrected() -> None:
    module = nn.LSTM(12, 8, bidirectional=True)
    model = chain(10, a=linear(12, 10), relu=Activation("relu"), rnn=recurrent(module))
    tensors = dict(model.matrices())
    changed = model
    for name in ("rnn.forward.weight_ih", "rnn.backward.weight_hh"):
        u, s, v = torch.linalg.svd(tensors[name].decode(), full_matrices=False)
        product = Product(Dense((u[:, :3] * s[:3]).contiguous()), Dense(v[:3].contiguous()))
        changed = changed.with_tensors({name: product})
    x = features(10, 100, 8)
    statistics = measured(model, x)
    outcome = correct_biases(model, changed, statistics)
    assert [n.layer for n in outcome.notes] == ["rnn.forward.bias", "rnn.backward.bias"]
    for side, field in (("forward", "weight_ih"), ("backward", "weight_hh")):
        name = f"rnn.{side}.{field}"
        error = dict(changed.matrices())[name].decode() - tensors[name].decode()
        moved = [dict(m.vectors())[f"rnn.{side}.bias"] for m in (model, outcome.model)]
        expected = error.double() @ statistics[name].mean
        torch.testing.assert_close((moved[0] - moved[1]).double(), expected, rtol=1e-3, atol=1e-5)


# What does not fit.


def test_models_of_other_layers_are_refused_in_one_line() -> None:
    model = speech_model()
    with pytest.raises(ModelError, match="layer 'lstm' is not what layer 'lstm' was before"):
        correct_biases(model, speech_model(hidden=20))
    with pytest.raises(ModelError, match="the models have 5 and 4 layers, expected the same ones"):
        correct_biases(model, Model(10, model.nodes[:4]))


def test_evidence_of_another_size_is_refused_in_one_line() -> None:
    model = speech_model()
    wrong = Moments(torch.eye(3).double(), torch.zeros(3).double())
    message = "the statistics of 'dense1.weight' are of 3 inputs, expected 10; calibrate the model"
    with pytest.raises(ModelError, match=message):
        correct_biases(model, rounded(model, 3), {"dense1.weight": wrong})


def test_a_model_that_did_not_change_is_left_as_it_is() -> None:
    model = speech_model()
    outcome = correct_biases(model, model)
    assert outcome.notes == ()
    assert all(
        torch.equal(a, b)
        for (_, a), (_, b) in zip(model.vectors(), outcome.model.vectors(), strict=True)
    )

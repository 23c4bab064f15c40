"""Equalization leaves the function as it is, and makes it easier to round."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_models import chain, dense, features, linear, recurrent, run, speech_model
from torch import Tensor, nn

from tinyvox import importers
from tinyvox.calibration import NO_STATISTICS, Moments
from tinyvox.errors import RecipeError
from tinyvox.model import (
    INPUT,
    Activation,
    BatchNorm,
    Cell,
    Coded,
    Conv1d,
    Conv2d,
    Dense,
    Group,
    Linear,
    Matrix,
    Model,
    Node,
    Product,
    Recurrent,
    Table,
    all_groups,
    layers,
)
from tinyvox.passes import Outcome, apply, correct_biases
from tinyvox.passes.equalization import LARGEST, equalize, equalize_known, fold_batch_norms
from tinyvox.recipe import EqualizeSettings, Recipe

BUNDLED = Path(__file__).resolve().parents[1] / "models" / "commands" / "commands.pt2"
PLAIN = EqualizeSettings(absorb=False)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def what(outcome: Outcome, layer: str) -> str:
    return "; ".join(note.what for note in outcome.notes if note.layer == layer)


def batch_norm(channels: int) -> BatchNorm:
    return BatchNorm(
        torch.randn(channels), torch.rand(channels) + 0.5, torch.randn(channels) + 0.1,
        torch.randn(channels),
    )  # fmt: skip


def uneven(model: Model, spread: float = 3.0) -> Model:
    """Rows of very different ranges: each is multiplied by up to e^spread."""

    def scale(_: str, matrix: Matrix) -> Dense:
        factors = torch.exp(spread * (2 * torch.rand(matrix.shape[0], 1) - 1))
        return Dense(matrix.decode() * factors / factors.square().mean().sqrt())

    return model.map_matrices(scale)


def ranges(model: Model, group: Group) -> tuple[Tensor, Tensor]:
    """The largest weights that make, and that read, each unit; of ungrouped matrices."""
    matrices = dict(model.matrices())
    found: tuple[list[Tensor], list[Tensor]] = ([], [])
    for member in group.members:
        if member.tensor in matrices:
            largest = matrices[member.tensor].decode().abs().amax(1 - member.axis)
            positions = member.positions(torch.arange(group.size))
            found[member.axis].append(largest[positions].view(group.size, -1).amax(1))
    return torch.stack(found[0]).amax(0), torch.stack(found[1]).amax(0)


# The function stays the same.


def clipped_model() -> Model:
    return chain(
        10,
        window=layers.ContextWindow(2, 2),
        a=linear(32, 50),
        clip=Activation("clipped_relu", 0.7),
        b=linear(24, 32),
        relu=Activation("relu"),
        lstm=recurrent(nn.LSTM(24, 16)),
        c=linear(20, 16),
        clip2=Activation("clipped_relu", 0.3),
        out=linear(7, 20),
        softmax=layers.LogSoftmax(),
    )


def convolution_model() -> Model:
    return chain(
        12,
        image=layers.Unflatten(2),
        conv1=Conv2d(dense(4, 18), torch.randn(4), (3, 3), (2, 1), (1, 1, 1, 1)),
        norm1=batch_norm(4),
        clip=Activation("clipped_relu", 0.5),
        conv2=Conv2d(dense(6, 4 * 6), None, (3, 2)),
        norm2=batch_norm(6),
        relu=Activation("relu"),
        flat=layers.Flatten(),
        clip2=Activation("clipped_relu", 0.8),
        stack=layers.FrameStacking(2, 1),
        out=linear(3, 2 * 6 * 5),
    )


def mobile_model() -> Model:
    """Depthwise and pointwise convolutions in turn, as in MobileNet, over time."""
    named: dict[str, layers.Layer] = {
        "first": Conv1d(dense(16, 30), None, 3),
        "norm": batch_norm(16),
    }
    named["relu"] = Activation("clipped_relu", 6.0)
    for i in range(2):
        named |= {
            f"depth{i}": Conv1d(dense(16, 3), torch.randn(16), 3, padding=(1, 1), groups=16),
            f"clip{i}": Activation("clipped_relu", 1.0),
            f"point{i}": Conv1d(dense(16, 16), None, 1),
            f"norm{i}": batch_norm(16),
            f"relu{i}": Activation("relu"),
        }
    return calibrated(chain(10, **named, out=linear(5, 16)))


def calibrated(model: Model) -> Model:
    """The model with the statistics that its batch norms would have learned of white inputs."""
    for i, node in enumerate(model.nodes):
        if isinstance(node.layer, BatchNorm):
            seen = run(Model(model.input_size, model.nodes[:i]), features(model.input_size, 200, 8))
            frames = seen.flatten(0, 1)
            model = model.with_tensors(
                {f"{node.name}.mean": frames.mean(0), f"{node.name}.variance": frames.var(0)}
            )
    return model


def grouped_model() -> Model:
    return chain(
        6,
        a=linear(8, 6),
        relu=Activation("relu"),
        conv=Conv1d(dense(12, 4 * 3), torch.randn(12), 3, 2, 2, (2, 2), groups=2),
        clip=Activation("clipped_relu", 0.4),
        out=linear(3, 12),
    )


def relu_network() -> Model:
    first = Cell(dense(20, 10), Dense(torch.randn(20, 20) / 9), torch.randn(20))
    two = [Cell(dense(9, 20), Dense(torch.randn(9, 9) / 6), torch.randn(9)) for _ in range(2)]
    return chain(
        10,
        rnn=Recurrent("rnn_relu", first),
        both=Recurrent("rnn_relu", *two),
        out=linear(4, 18),
    )


def residual_model() -> Model:
    nodes = (
        ("a", linear(12, 10), (INPUT,)),
        ("relu_a", Activation("relu"), ("a",)),
        ("b", linear(12, 12), ("relu_a",)),
        ("sum", layers.Add(), ("relu_a", "b")),
        ("clip", Activation("clipped_relu", 0.6), ("sum",)),
        ("norm", batch_norm(12), ("clip",)),
        ("side", linear(5, 10), (INPUT,)),
        ("both", layers.Concat(), ("norm", "side")),
        ("relu", Activation("relu"), ("both",)),
        ("out", linear(4, 17), ("relu",)),
    )
    return Model(10, tuple(Node(*node) for node in nodes))


def product_model() -> Model:
    return chain(
        10,
        a=Linear(Product(dense(16, 4), dense(4, 10)), torch.randn(16)),
        relu=Activation("relu"),
        out=Linear(Product(Product(dense(5, 3), dense(3, 4)), dense(4, 16))),
    )


MODELS = {
    "speech": speech_model, "clipped": clipped_model, "convolution": convolution_model,
    "mobile": mobile_model, "grouped": grouped_model, "relu network": relu_network,
    "residual": residual_model, "product": product_model,
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_the_function_stays_the_same_and_the_model_given_too(name: str) -> None:
    model = MODELS[name]()
    if name not in ("product", "relu network"):
        model = uneven(model)
    tensors = {n: m.decode().clone() for n, m in model.matrices()}
    tensors |= {n: v.clone() for n, v in model.vectors()}
    outcome = equalize(model, PLAIN)
    x = features(model.input_size, 60)
    expected = run(model, x)
    assert any("units scaled by" in note.what for note in outcome.notes)
    scale = float(expected.abs().max())
    torch.testing.assert_close(run(outcome.model, x), expected, rtol=1e-4, atol=2e-5 * scale)
    now = {n: m.decode() for n, m in model.matrices()} | dict(model.vectors())
    assert all(torch.equal(now[n], value) for n, value in tensors.items())


@pytest.mark.parametrize("name", ["speech", "clipped", "relu network", "residual"])
def test_ranges_are_equal(name: str) -> None:
    model = MODELS[name]()
    model = uneven(model) if name != "relu network" else model
    outcome = equalize(model, PLAIN)
    checked = 0
    for group in all_groups(outcome.model):
        if "units scaled by" in what(outcome, group.name):
            made, read = ranges(outcome.model, group)
            torch.testing.assert_close(made, read, rtol=2e-3, atol=0)
            checked += 1
    assert checked


def test_a_pair_of_layers_gets_the_scales_of_the_paper() -> None:
    first = torch.tensor([[4.0, 1.0], [0.5, -1.0]])
    second = torch.tensor([[1.0, 8.0], [-0.5, 2.0]])
    model = chain(
        2,
        a=Linear(Dense(first), torch.tensor([2.0, 3.0])),
        relu=Activation("relu"),
        b=Linear(Dense(second)),
    )
    after = equalize(model, PLAIN).model
    s = torch.tensor([(4 * 1) ** 0.5 / 1, (1 * 8) ** 0.5 / 8])  # sqrt(r1 r2) / r2
    made, read = (dict(after.matrices())[name].decode() for name in ("a.weight", "b.weight"))
    torch.testing.assert_close(made, first / s[:, None])
    torch.testing.assert_close(read, second * s)
    torch.testing.assert_close(dict(after.vectors())["a.bias"], torch.tensor([2.0, 3.0]) / s)


def test_a_clipped_relu_moves_its_clip_and_one_that_does_not_keeps_its_number() -> None:
    model = uneven(clipped_model())
    outcome = equalize(model, EqualizeSettings(layers="a", absorb=False))
    clip, other = (outcome.model.node(name).layer for name in ("clip", "clip2"))
    assert isinstance(clip, Activation)
    assert clip.limit is None
    assert clip.limits is not None
    before, after = (dict(m.matrices())["a.weight"].decode() for m in (model, outcome.model))
    s = (before / after).mean(1)
    torch.testing.assert_close(clip.limits, 0.7 / s, rtol=1e-4, atol=0)
    assert other is model.node("clip2").layer


def test_the_bundled_model_keeps_its_function() -> None:
    model = importers.load(BUNDLED)
    outcome = equalize(model, PLAIN)
    x = features(model.input_size, 100)
    torch.testing.assert_close(run(outcome.model, x), run(model, x), rtol=1e-4, atol=2e-4)
    assert "its units are bent by the cell of 'lstm'" in what(outcome, "lstm")
    for name in ("dense1", "dense2", "dense3", "dense5"):
        assert "512 units scaled by" in what(outcome, name)


def test_units_that_nobody_makes_or_reads_stay_and_scales_have_a_bound() -> None:
    weight, reader = torch.randn(3, 4), torch.randn(2, 3)
    weight[0], reader[:, 1], weight[2] = 0, 0, weight[2] * 1e9
    model = chain(4, a=Linear(Dense(weight)), relu=Activation("relu"), out=Linear(Dense(reader)))
    outcome = equalize(model, PLAIN)
    after = outcome.model.node("a").layer.weight.decode()
    assert torch.equal(after[:2], weight[:2])
    torch.testing.assert_close(after[2], weight[2] / LARGEST)
    assert "1 of them as far as is allowed" in what(outcome, "a")


# What is left alone is named.


def left_alone() -> Model:
    nodes = (
        ("a", linear(6, 5), (INPUT,)),
        ("tanh", Activation("tanh"), ("a",)),
        ("b", linear(6, 6), ("tanh",)),
        ("layer_norm", layers.LayerNorm(torch.ones(6), torch.zeros(6)), ("b",)),
        ("gru", recurrent(nn.GRU(6, 4, bidirectional=True)), ("layer_norm",)),
        ("side", linear(8, 6), ("layer_norm",)),
        ("unlike", layers.Add(), ("gru", "side")),
        ("c", linear(8, 8), ("unlike",)),
        ("image", layers.Unflatten(2), ("c",)),
        ("norm", batch_norm(2), ("image",)),
        ("conv", Conv2d(dense(3, 2), None, (1, 1)), ("norm",)),
        ("flat", layers.Flatten(), ("conv",)),
        ("d", linear(5, 12), ("flat",)),
        ("sum", layers.Add(), ("d", INPUT)),
        ("soft", layers.LogSoftmax(), ("d",)),
        ("e", linear(5, 5), ("soft",)),
        ("gate", linear(5, 5), ("sum",)),
        ("sigmoid", Activation("sigmoid"), ("gate",)),
        ("all", layers.Concat(), ("sigmoid", "e")),
        ("out", linear(3, 10), ("all",)),
    )
    return Model(5, tuple(Node(*node) for node in nodes))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("a", "left alone: its units are bent by 'tanh' (tanh)"),
        ("b", "left alone: its units are normalized together by 'layer_norm'"),
        ("gru.forward", "left alone: its units are bent by the cell of 'gru' (gru)"),
        ("gru.backward", "left alone: its units are bent by the cell of 'gru' (gru)"),
        ("side", "left alone: 'unlike' adds its units to parts of other sizes"),
        ("c", "left alone: 'image' makes channels of its units"),
        ("norm", "left alone: no linear layer or convolution stands before it"),
        ("conv", "3 units scaled by"),
        ("d", "left alone: its units are tied to the model's input"),
        ("gate", "left alone: its units are bent by 'sigmoid' (sigmoid)"),
        ("e", "5 units scaled by"),
        ("out", "left alone: its units are tied to the model's output"),
    ],
)
def test_a_layer_that_is_left_alone_is_named_with_the_reason(layer: str, message: str) -> None:
    assert message in what(equalize(left_alone(), PLAIN), layer)


def test_every_layer_with_a_matrix_has_a_note() -> None:
    for model in (left_alone(), *(build() for build in MODELS.values())):
        named = {note.layer for note in equalize(model, PLAIN).notes}
        for node in model.nodes:
            if node.layer.matrices():
                assert any(n == node.name or n.startswith(f"{node.name}.") for n in named)


def test_log_softmax_between_layers_is_named() -> None:
    model = chain(4, a=linear(5, 4), soft=layers.LogSoftmax(), out=linear(3, 5))
    assert "its units are mixed by 'soft' (LogSoftmax)" in what(equalize(model, PLAIN), "a")


def test_coded_matrices_are_left_alone_and_named() -> None:
    model = speech_model()
    codes = torch.randint(0, 4, (32, 10), dtype=torch.uint8)
    coded = Coded(codes, Table(torch.tensor([-1.0, -0.5, 0.5, 1.0])), torch.rand(32))
    outcome = equalize(model.with_tensors({"dense1.weight": coded}), PLAIN)
    assert "dense1.weight is coded already; equalize before you quantize" in what(outcome, "dense1")


def test_patterns_choose_groups_and_one_that_matches_nothing_is_an_error() -> None:
    model = uneven(clipped_model())
    outcome = equalize(model, EqualizeSettings(layers=("b",), absorb=False))
    assert "no pattern matches it" in what(outcome, "a")
    assert "units scaled by" in what(outcome, "b")
    with pytest.raises(RecipeError, match="equalize: 'x' matches nothing; there are: a, b, lstm"):
        equalize(model, EqualizeSettings(layers=("x",)))


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


def rounded(model: Model, bits: int) -> Model:
    """Every matrix on one symmetric grid of 2^bits - 1 levels."""

    def code(_: str, matrix: Matrix) -> Dense:
        values = matrix.decode()
        step = values.abs().max() / (2 ** (bits - 1) - 1)
        return Dense((values / step).round() * step)

    return model.map_matrices(code)


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

"""Equalization leaves the function as it is, and makes it easier to round."""

from __future__ import annotations

import pytest
import torch
from places import COMMANDS
from small_models import chain, dense, features, linear, recurrent, run, speech_model
from torch import Tensor, nn
from uneven_models import MODELS, PLAIN, batch_norm, clipped_model, uneven, what

from tinyvox import importers
from tinyvox.errors import RecipeError
from tinyvox.model import (
    INPUT,
    Activation,
    Coded,
    Conv2d,
    Dense,
    Group,
    Linear,
    Model,
    Node,
    Table,
    all_groups,
    layers,
)
from tinyvox.passes.equalization import LARGEST, equalize
from tinyvox.recipe import EqualizeSettings

BUNDLED = COMMANDS / "commands.pt2"


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


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
        ("side", "left alone: 'unlike' combines its units with parts of other sizes"),
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

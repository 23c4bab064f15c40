"""Pruning against hand slicing and least squares on the actual inputs."""

from __future__ import annotations

import pytest
import torch
from pruned_models import branches, convolutions, heard, inputs_of, moved, path_of, weight
from small_models import chain, deepspeech, dense, linear, recurrent, what
from torch import Tensor, nn

from tinyvox.calibration import NO_STATISTICS
from tinyvox.errors import ModelError
from tinyvox.model import (
    GATES,
    Activation,
    Coded,
    Conv1d,
    Conv2d,
    Dense,
    Linear,
    Model,
    Product,
    groups,
    layers,
)
from tinyvox.passes.pruning import NORM, prune
from tinyvox.passes.quantization import quantize
from tinyvox.recipe import PruneSettings, QuantizeSettings

IMPORTANCES = ("norm", "energy", "fisher", "reconstruction", "random")


# Without refit: hand slicing.


def rows_of(units: Tensor, hidden: int, gates: int) -> Tensor:
    return torch.cat([units + gate * hidden for gate in range(gates)])


def by_random(model: Model, keep: int) -> tuple[Model, dict[str, Tensor]]:
    """The model with `keep` random units a group, and which these are."""
    choice = PruneSettings(keep=keep, importance="random", refit=False, seed=3)
    kept = {
        group.name: path_of(model, group.name, NO_STATISTICS, "random", seed=3).kept(keep)
        for group in groups(model)
    }
    return prune(model, choice, heard(model)).model, kept


def expect_tensors(model: Model, expected: dict[str, Tensor]) -> None:
    found = {name: matrix.decode() for name, matrix in model.matrices()} | dict(model.vectors())
    assert set(found) == set(expected)
    assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("both_ways", [False, True])
def test_a_pruned_stack_of_cells_is_torchs_cut_by_hand(kind: type, both_ways: bool) -> None:
    torch.manual_seed(0)
    module, out = kind(5, 8, 2, bidirectional=both_ways), linear(3, 16 if both_ways else 8)
    model = chain(5, one=recurrent(module), two=recurrent(module, 1), out=out)
    pruned, kept = by_random(model, 5)
    read, expected = torch.arange(5), {}
    for layer, node in enumerate(("one", "two")):
        outputs = []
        for side, suffix in enumerate(["", "_reverse"][: 1 + both_ways]):
            name = ("forward", "backward")[side]
            units = kept[f"{node}.{name}" if both_ways else node]
            tensors = {
                part: module.get_parameter(f"{part}_l{layer}{suffix}").detach()
                for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            }
            rows = rows_of(units, 8, GATES[model.node(node).layer.kind])
            bias_hh = tensors["bias_hh"].clone()
            if kind is nn.GRU:
                expected[f"{node}.{name}.bias_hn"] = bias_hh[-8:][units]
                bias_hh[-8:] = 0
            expected[f"{node}.{name}.weight_ih"] = tensors["weight_ih"][rows][:, read]
            expected[f"{node}.{name}.weight_hh"] = tensors["weight_hh"][rows][:, units]
            expected[f"{node}.{name}.bias"] = (tensors["bias_ih"] + bias_hh)[rows]
            outputs.append(units + 8 * side)
        read = torch.cat(outputs)
    expected |= {"out.weight": out.weight.decode()[:, read], "out.bias": out.bias}
    expect_tensors(pruned, expected)


def test_pruned_convolutions_are_torchs_cut_by_hand() -> None:
    torch.manual_seed(1)
    one, two = nn.Conv2d(2, 6, 3), nn.Conv1d(36, 7, 3)  # 8 bands become 6
    out, wide = nn.Linear(7, 3), nn.BatchNorm2d(6).eval()
    model = chain(
        16,
        maps=layers.Unflatten(2),
        one=Conv2d(Dense(one.weight.detach().flatten(1)), one.bias.detach(), (3, 3)),
        norm=layers.BatchNorm(wide.running_mean, wide.running_var, wide.weight.detach(),
                              wide.bias.detach()),
        flat=layers.Flatten(),
        two=Conv1d(Dense(two.weight.detach().flatten(1)), two.bias.detach(), 3),
        relu=Activation("relu"),
        out=Linear(Dense(out.weight.detach()), out.bias.detach()),
    )  # fmt: skip
    pruned, kept = by_random(model, 4)
    a, b = kept["one"], kept["two"]
    bands = (a[:, None] * 6 + torch.arange(6)).flatten()
    expected = {
        "one.weight": one.weight[a].flatten(1), "one.bias": one.bias[a],
        "two.weight": two.weight[b][:, bands].flatten(1), "two.bias": two.bias[b],
        "out.weight": out.weight[:, b], "out.bias": out.bias,
    }  # fmt: skip
    vectors = {"mean": wide.running_mean, "variance": wide.running_var, "weight": wide.weight,
               "bias": wide.bias}  # fmt: skip
    expected |= {f"norm.{name}": value[a] for name, value in vectors.items()}
    expect_tensors(pruned, {name: value.detach() for name, value in expected.items()})


def test_a_residual_sum_and_a_concatenation_are_cut_by_hand() -> None:
    model = branches()
    pruned, kept = by_random(model, 4)
    a, c, w = kept["a"], kept["c"], {name: m.decode() for name, m in model.matrices()}
    bias = dict(model.vectors())
    expected = {
        "a.weight": w["a.weight"][a], "a.bias": bias["a.bias"][a],
        "b.weight": w["b.weight"][a][:, a], "b.bias": bias["b.bias"][a],
        "c.weight": w["c.weight"][c], "c.bias": bias["c.bias"][c],
        "out.weight": w["out.weight"][:, torch.cat([a, c + 6])], "out.bias": bias["out.bias"],
    }  # fmt: skip
    expect_tensors(pruned, expected)


# Refit: least squares on the actual inputs.


def least_squares(x: Tensor, values: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """The weights of the kept inputs [out, kept], and the constant [out], that come closest to
    what all inputs gave."""
    some = torch.cat([x[:, kept], torch.ones(len(x), 1).double()], dim=1)
    found = torch.linalg.lstsq(some, x @ values.double().T).solution.T
    return found[:, :-1], found[:, -1]


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_what_reads_hidden_units_is_refitted_to_those_that_stay(kind: type) -> None:
    torch.manual_seed(3)
    cells = recurrent(kind(5, 8))
    model = chain(5, rnn=cells, out=linear(3, 8))
    statistics, inputs = heard(model), inputs_of(model)
    small = prune(model, PruneSettings(keep=5), statistics).model
    kept = path_of(model, "rnn", statistics, "reconstruction").kept(5)
    bias, found = dict(model.vectors()), dict(small.vectors())
    columns, constant = least_squares(inputs["out.weight"], weight(model), kept)
    close(weight(small), columns)
    close(found["out.bias"], bias["out.bias"] + constant)
    name = "rnn.forward.weight_hh"
    columns, constant = least_squares(inputs[name], weight(model, name), kept)
    rows = rows_of(kept, 8, GATES[cells.kind])
    close(weight(small, name), columns[rows])
    if kind is nn.GRU:  # the reset gate multiplies the new gate's share
        close(found["rnn.forward.bias_hn"], (bias["rnn.forward.bias_hn"] + constant[-8:])[kept])
        constant[-8:] = 0
    close(found["rnn.forward.bias"], (bias["rnn.forward.bias"] + constant)[rows])
    before = weight(model, "rnn.forward.weight_ih")
    assert torch.equal(weight(small, "rnn.forward.weight_ih"), before[rows])


def test_all_that_a_concatenation_lost_is_made_up_for_at_once() -> None:
    model = branches()
    statistics, inputs = heard(model), inputs_of(model)
    small = prune(model, PruneSettings(keep=4), statistics).model
    kept = torch.cat([
        path_of(model, "a", statistics, "reconstruction").kept(4),
        path_of(model, "c", statistics, "reconstruction").kept(4) + 6,
    ])  # fmt: skip
    columns, constant = least_squares(inputs["out.weight"], weight(model), kept)
    close(weight(small), columns)
    close(dict(small.vectors())["out.bias"], dict(model.vectors())["out.bias"] + constant)


def test_convolutions_and_windows_are_refitted_to_what_they_see() -> None:
    model = convolutions()
    statistics, inputs = heard(model), inputs_of(model)
    small = prune(model, PruneSettings(keep=5), statistics).model
    one, two = (path_of(model, n, statistics, "reconstruction").kept(5) for n in ("one", "two"))
    taps = (one[:, None] * 2 + torch.arange(2)).flatten()
    columns, constant = least_squares(inputs["two.weight"], weight(model, "two.weight"), taps)
    close(weight(small, "two.weight"), columns[two])
    before, after = dict(model.vectors()), dict(small.vectors())
    close(after["two.bias"], (before["two.bias"] + constant)[two])
    frames = torch.cat([two, two + 7, two + 14])
    columns, constant = least_squares(inputs["out.weight"], weight(model), frames)
    close(weight(small), columns)
    close(after["out.bias"], before["out.bias"] + constant)


@pytest.mark.parametrize("importance", IMPORTANCES)
@pytest.mark.parametrize("make", [deepspeech, convolutions, branches])
def test_refitting_brings_the_outputs_nearer(make: type, importance: str) -> None:
    model = make()
    statistics = heard(model, 1e-3)
    errors = [
        moved(model, prune(model, PruneSettings(keep=5, importance=importance, refit=refit),
                           statistics).model)
        for refit in (False, True)
    ]  # fmt: skip
    assert errors[1] < errors[0]


def test_of_a_product_the_right_factor_is_refitted() -> None:
    torch.manual_seed(5)
    product = Product(dense(6, 4), dense(4, 8))
    whole = chain(5, one=linear(8, 5), relu=Activation("relu"), out=Linear(Dense(product.decode())))
    model = whole.with_tensors({"out.weight": product})
    statistics = heard(whole)
    settings = PruneSettings(keep=5)
    found = dict(prune(model, settings, statistics).model.matrices())["out.weight"]
    assert isinstance(found, Product)
    assert torch.equal(found.left.decode(), product.left.decode())
    expected = weight(prune(whole, settings, statistics).model)
    torch.testing.assert_close(found.decode(), expected, rtol=1e-4, atol=1e-5)


def test_what_cannot_be_refitted_is_cut_and_named() -> None:
    model = quantize(deepspeech(), QuantizeSettings(layers="out", bits=4)).model
    statistics = {n: m for n, m in heard(model).items() if n != "lstm.forward.weight_ih"}
    outcome = prune(model, PruneSettings(keep=16), statistics)
    assert what(outcome, "out.weight") == "cut, not refitted: it is coded already"
    found = dict(outcome.model.matrices())["out.weight"]
    kept = path_of(model, "dense2", statistics, "reconstruction").kept(16)
    assert isinstance(found, Coded)
    assert torch.equal(found.codes, dict(model.matrices())["out.weight"].codes[:, kept])
    name = "lstm.forward.weight_ih"
    assert what(outcome, name) == "cut, not refitted: nothing is known of its inputs"
    lstm = path_of(model, "lstm", statistics, "reconstruction").kept(16)
    dense1 = path_of(model, "dense1", statistics, "reconstruction")
    assert dense1.unit == NORM
    rows = rows_of(lstm, 24, 4)
    expected = weight(model, name)[rows][:, dense1.kept(16)]
    assert torch.equal(weight(outcome.model, name), expected)


def test_without_evidence_pruning_goes_by_norm_and_says_so() -> None:
    model = deepspeech()
    by_norm = prune(model, PruneSettings(keep=16, importance="norm", refit=False)).model
    outcome = prune(model, PruneSettings(keep=16))
    for (_, one), (_, other) in zip(by_norm.matrices(), outcome.model.matrices(), strict=True):
        assert torch.equal(one.decode(), other.decode())
    assert what(outcome, "lstm").endswith(
        "of its norm; by norm: nothing is known of the inputs of what reads them"
    )


def test_a_layer_norm_on_the_way_is_named() -> None:
    torch.manual_seed(6)
    norm = layers.LayerNorm(torch.ones(8), torch.zeros(8))
    model = chain(5, one=linear(8, 5), norm=norm, out=linear(3, 8))
    outcome = prune(model, PruneSettings(keep=5), heard(model))
    assert what(outcome, "one").endswith("; the statistics of layer norm norm change")


def test_evidence_of_another_model_is_refused() -> None:
    model = deepspeech()
    small = prune(model, PruneSettings(keep=16), heard(model)).model
    with pytest.raises(ModelError, match="calibrate the model as it is"):
        prune(small, PruneSettings(keep=8), heard(model))

"""Pruning against hand slicing, least squares on the actual inputs, and brute force."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import chain, deepspeech, dense, features, linear, recurrent, run, what
from torch import Tensor, nn

import tinyvox as tv
from tinyvox.calibration import (
    NO_STATISTICS,
    Batch,
    Calibration,
    Moments,
    Statistics,
    gather,
)
from tinyvox.errors import ModelError, RecipeError
from tinyvox.executor import Executor
from tinyvox.formats import tvx
from tinyvox.model import (
    GATES,
    INPUT,
    Activation,
    Coded,
    Conv1d,
    Conv2d,
    Dense,
    Linear,
    Matrix,
    Model,
    Node,
    Product,
    groups,
    layers,
    leaves,
)
from tinyvox.passes import Note, apply
from tinyvox.passes.pruning import ENERGY, NATS, NORM, norms, prune, rank_units
from tinyvox.passes.pruning import ranking as ranking
from tinyvox.passes.quantization import quantize
from tinyvox.recipe import PruneSettings, QuantizeSettings, Recipe

IMPORTANCES = ("norm", "energy", "fisher", "reconstruction", "random")


def parameters(matrix: Matrix) -> int:
    return sum(leaf.shape[0] * leaf.shape[1] for leaf in leaves(matrix))


def weight(model: Model, name: str = "out.weight") -> Tensor:
    return dict(model.matrices())[name].decode()


def batches(size: int, utterances: int = 12, frames: int = 40) -> list[Batch]:
    """Inputs of which some nearly say what others do."""
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(utterances, frames, size, generator=generator)
    x = x + 0.5 * x.roll(1, dims=2) + 0.3
    return [Batch(x, torch.full((utterances,), frames))]


def heard(model: Model, damping: float = 1e-9, *, fisher: bool = True) -> Statistics:
    return gather(model, batches(model.input_size), damping, fisher=fisher)


def path_of(
    model: Model, name: str, statistics: Statistics, importance: str, **more
) -> ranking.UnitRanking:
    (group,) = (group for group in groups(model) if group.name == name)
    return rank_units(model, group, statistics, importance, **more)


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


def branches() -> Model:
    """A residual sum, and a concatenation of it with another branch."""
    torch.manual_seed(2)
    return Model(
        5,
        (
            Node("a", linear(6, 5), (INPUT,)),
            Node("relu", Activation("relu"), ("a",)),
            Node("b", linear(6, 6), ("relu",)),
            Node("sum", layers.Add(), ("relu", "b")),
            Node("c", linear(7, 5), (INPUT,)),
            Node("tanh", Activation("tanh"), ("c",)),
            Node("both", layers.Concat(), ("sum", "tanh")),
            Node("out", linear(3, 13), ("both",)),
        ),
    )


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


def inputs_of(model: Model) -> dict[str, Tensor]:
    """What each matrix is multiplied by over `batches`, float64 [frames, in]."""
    found: dict[str, list[Tensor]] = {}
    executor = Executor(model).eval()
    executor.watch(lambda name, x: found.setdefault(name, []).append(x.flatten(0, -2)))
    with torch.no_grad():
        for batch in batches(model.input_size):
            executor.run(batch.features, batch.lengths)
    return {name: torch.cat(parts).double() for name, parts in found.items()}


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


def convolutions() -> Model:
    torch.manual_seed(4)
    return chain(
        6,
        one=Conv1d(dense(8, 18), torch.randn(8), 3, padding=(1, 1)),
        relu=Activation("relu"),
        two=Conv1d(dense(7, 16), torch.randn(7), 2),
        tanh=Activation("tanh"),
        window=layers.ContextWindow(1, 1),
        out=linear(3, 21),
    )


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


def moved(model: Model, small: Model) -> float:
    """Mean squared difference of the outputs on utterances that the statistics did not hear."""
    x = torch.randn(6, 50, model.input_size, generator=torch.Generator().manual_seed(9))
    x = x + 0.5 * x.roll(1, dims=2) + 0.3
    return float((run(model, x) - run(small, x)).square().mean())


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


# The order in which units go.


def two_layers(values: Tensor | None = None, units: int = 8) -> Model:
    torch.manual_seed(7)
    out = linear(4, units) if values is None else Linear(Dense(values), torch.zeros(4))
    return chain(5, one=linear(units, 5), relu=Activation("relu"), out=out)


def test_a_unit_that_another_repeats_goes_first_and_costs_nothing() -> None:
    model = two_layers()
    w, b = weight(model, "one.weight").clone(), dict(model.vectors())["one.bias"].clone()
    w[6], b[6] = 2 * w[3], 2 * b[3]
    model = model.with_tensors({"one.weight": Dense(w), "one.bias": b})
    statistics = heard(model)
    path = path_of(model, "one", statistics, "reconstruction")
    assert int(path.order[0]) in (3, 6)
    assert float(path.loss[0]) < 1e-6 * float(path.loss[-1])
    assert float(path.loss[1]) > 1e-4 * float(path.loss[-1])
    small = prune(model, PruneSettings(keep=7), statistics).model
    assert moved(model, small) < 1e-8
    cut = PruneSettings(keep=7, refit=False)
    assert moved(model, prune(model, cut, statistics).model) > 1e-3


@pytest.mark.parametrize("importance", ["energy", "fisher", "reconstruction"])
def test_a_unit_that_nobody_reads_goes_first(importance: str) -> None:
    values = dense(4, 8).values
    values[:, 5] = 0
    model = two_layers(values)
    path = path_of(model, "one", heard(model), importance, refit=False)
    assert int(path.order[0]) == 5
    assert float(path.loss[0]) == 0


def test_a_silent_unit_goes_first_by_energy_whatever_its_norm() -> None:
    model = two_layers()
    w, b = weight(model, "one.weight").clone(), dict(model.vectors())["one.bias"].clone()
    w[2], b[2] = 9 * w[2], -1000
    model = model.with_tensors({"one.weight": Dense(w), "one.bias": b})
    statistics = heard(model)
    assert int(path_of(model, "one", statistics, "energy").order[0]) == 2
    assert int(path_of(model, "one", statistics, "norm").order[-1]) == 2


def test_fisher_information_tells_outputs_that_matter() -> None:
    """Units 0 to 3 feed outputs 0 and 1, the others 2 and 3, which do not matter."""
    values = torch.ones(4, 8)
    values[:2, 4:], values[2:, :4] = 0.01, 3
    model = two_layers(values)
    white = torch.eye(8).double()
    fisher = torch.tensor([1.0, 1, 0, 0]).double()
    saliency = fisher @ values.double().square()
    statistics = {"out.weight": Moments(white, torch.zeros(8).double(), 0.0, fisher, saliency)}
    path = path_of(model, "one", statistics, "fisher", refit=False)
    assert set(path.order[:4].tolist()) == {4, 5, 6, 7}
    assert path.unit == NATS
    torch.testing.assert_close(path.loss[-1], torch.tensor(4 + 4e-4).double())
    blind = {"out.weight": Moments(white, torch.zeros(8).double(), 0.0)}
    by_energy = path_of(model, "one", blind, "energy", refit=False)
    assert set(by_energy.order[:4].tolist()) == {4, 5, 6, 7}
    assert by_energy.unit == ENERGY
    torch.testing.assert_close(by_energy.loss[-1], torch.tensor(1.0).double())


def one_by_one(model: Model, weigh: Callable[[str, Tensor], Tensor]) -> list[int]:
    """The units of the LSTM, each time the one with which `weigh` finds least in what the outputs
    of both matrices that read it then lack; brute force."""
    inputs, gone = inputs_of(model), []
    names = ("lstm.forward.weight_hh", "out.weight")

    def lost(units: list[int]) -> float:
        return sum(
            float(weigh(n, inputs[n][:, units] @ weight(model, n)[:, units].double().T))
            for n in names
        )

    while len(gone) < 6:
        left = [unit for unit in range(6) if unit not in gone]
        gone.append(min(left, key=lambda unit: lost([*gone, unit])))
    return gone


def test_energy_goes_by_what_is_missing_at_the_outputs() -> None:
    torch.manual_seed(8)
    model = chain(5, lstm=recurrent(nn.LSTM(5, 6)), out=linear(4, 6))
    statistics, inputs = heard(model), inputs_of(model)

    def share(name: str, missing: Tensor) -> Tensor:
        whole = inputs[name] @ weight(model, name).double().T
        return missing.square().sum() / whole.square().sum()

    for refit in (False, True):
        path = path_of(model, "lstm", statistics, "energy", refit=refit)
        assert path.order.tolist() == one_by_one(model, share)


def test_reconstruction_goes_by_the_loss_as_it_is_where_nothing_is_refitted() -> None:
    torch.manual_seed(8)
    model = chain(5, lstm=recurrent(nn.LSTM(5, 6)), out=linear(4, 6))
    statistics = heard(model)
    path = path_of(model, "lstm", statistics, "reconstruction", refit=False)
    assert path.order.tolist() == one_by_one(
        model, lambda name, missing: statistics[name].fisher @ missing.square().mean(0)
    )


def test_fisher_goes_by_the_saliency_of_all_that_read_a_unit() -> None:
    torch.manual_seed(8)
    model = chain(5, lstm=recurrent(nn.LSTM(5, 6)), out=linear(4, 6))
    statistics = heard(model)
    saliency = sum(statistics[n].saliency for n in ("lstm.forward.weight_hh", "out.weight"))
    for refit in (False, True):
        path = path_of(model, "lstm", statistics, "fisher", refit=refit)
        assert torch.equal(path.order, saliency.argsort())
    model = convolutions()
    statistics = heard(model)
    pairs = statistics["two.weight"].saliency.view(-1, 2).sum(1)
    assert torch.equal(path_of(model, "one", statistics, "fisher").order, pairs.argsort())


def test_a_rare_unit_that_matters_stays_by_fisher_though_it_has_little_energy() -> None:
    """Unit 0 is there in one frame of 200 and decides; unit 1 always is, and changes little."""
    model = two_layers()
    w = torch.zeros(8, 5)
    w[0, 0], w[1, 1] = 3.0, 1.0
    w[2:] = torch.randn(6, 5)
    out = weight(model).clone()
    out[:, 0], out[:, 1] = torch.tensor([1.5, -1.5, 0, 0]), torch.tensor([0.3, 0.3, 0.3, 0.35])
    model = model.with_tensors({"one.weight": Dense(w), "one.bias": torch.zeros(8),
                                "out.weight": Dense(out)})  # fmt: skip
    nodes = (*model.nodes, Node("end", layers.LogSoftmax(), ("out",)))
    model = Model(5, nodes)
    x = torch.randn(4, 500, 5, generator=torch.Generator().manual_seed(0))
    x[:, :, 0], x[:, :, 1] = -1.0, 1.0
    x[:, ::200, 0] = 1.0
    statistics = gather(model, [Batch(x, torch.full((4,), 500))], fisher=True)
    place = {
        name: path_of(model, "one", statistics, name, refit=False).order.tolist().index
        for name in ("energy", "fisher")
    }
    assert place["energy"](0) < place["energy"](1)
    assert place["fisher"](0) > place["fisher"](1)


def test_a_random_order_is_any_order_and_the_same_again() -> None:
    model = deepspeech()
    orders = {
        seed: path_of(model, "lstm", NO_STATISTICS, "random", seed=seed).order for seed in range(4)
    }
    assert len({tuple(order.tolist()) for order in orders.values()}) == 4
    for seed, order in orders.items():
        assert torch.equal(order.sort().values, torch.arange(24))
        again = path_of(model, "lstm", heard(model), "random", seed=seed)
        assert torch.equal(again.order, order)


def test_fisher_without_fisher_information_says_how_to_get_it() -> None:
    model = deepspeech()
    for statistics in (NO_STATISTICS, heard(model, fisher=False)):
        with pytest.raises(RecipeError, match=r"'dense1' needs .* calibrate with fisher="):
            prune(model, PruneSettings(keep=8, importance="fisher"), statistics)


# The loss on the way, by brute force.


def brute_force(model: Model, statistics: Statistics, gone: list[tuple[str, list[int]]]) -> float:
    """The least squared error of each matrix without these columns, weighed and summed."""
    total = 0.0
    for name, columns in gone:
        moments = statistics[name]
        covariance = moments.damped - torch.outer(moments.mean, moments.mean)
        w, kept = (
            weight(model, name).double(),
            [i for i in range(len(covariance)) if i not in columns],
        )
        best = torch.zeros_like(w)
        across = w @ covariance[:, kept]
        best[:, kept] = torch.linalg.solve(covariance[kept][:, kept], across, left=False)
        error = w - best
        rows = ((error @ covariance) * error).sum(1)
        if moments.fisher is not None:
            total += float(moments.fisher @ rows) / 2
        else:
            total += float(rows.sum() / ((w @ moments.second) * w).sum())
    return total


def lstm_model() -> Model:
    return chain(5, lstm=recurrent(nn.LSTM(5, 9)), out=linear(4, 9))


READ = {
    lstm_model: ("lstm", lambda u: [("lstm.forward.weight_hh", [u]), ("out.weight", [u])]),
    convolutions: ("one", lambda u: [("two.weight", [2 * u, 2 * u + 1])]),
    branches: ("a", lambda u: [("b.weight", [u]), ("out.weight", [u])]),
}
"""Models, a group of each, and where a unit of it is read."""


@pytest.mark.parametrize("make", READ)
@pytest.mark.parametrize("fisher", [True, False])
@pytest.mark.parametrize("importance", ["reconstruction", "random"])
@pytest.mark.parametrize("block", [2, 3, 64])
def test_the_loss_on_the_way_is_that_of_refitting_each_time(
    make: type, fisher: bool, importance: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranking, "BLOCK", block)
    model, (name, read) = make(), READ[make]
    statistics = heard(model, 1e-3, fisher=fisher)
    path = path_of(model, name, statistics, importance)
    assert path.unit == (NATS if fisher else ENERGY)
    gone: dict[str, list[int]] = {}
    left = set(range(len(path.order)))
    for unit, loss in zip(path.order.tolist(), path.loss.tolist(), strict=True):

        def without(u: int) -> float:
            return brute_force(
                model, statistics, [(n, gone.get(n, []) + columns) for n, columns in read(u)]
            )

        assert loss == pytest.approx(without(unit), rel=1e-6)
        if importance == "reconstruction":
            assert min(without(u) for u in left) == pytest.approx(loss, rel=1e-6)
        for n, columns in read(unit):
            gone[n] = gone.get(n, []) + columns
        left.remove(unit)


@pytest.mark.parametrize("make", READ)
def test_the_loss_without_refit_is_the_error_of_the_outputs(make: type) -> None:
    model, (name, read) = make(), READ[make]
    statistics, inputs = heard(model), inputs_of(model)
    path = path_of(model, name, statistics, "fisher", refit=False)
    errors = {n: torch.zeros(len(inputs[n]), len(weight(model, n))).double() for n, _ in read(0)}
    for unit, loss in zip(path.order.tolist(), path.loss.tolist(), strict=True):
        for n, columns in read(unit):
            errors[n] += inputs[n][:, columns] @ weight(model, n)[:, columns].double().T
        now = sum(float(statistics[n].fisher @ e.square().mean(0)) / 2 for n, e in errors.items())
        assert loss == pytest.approx(now, rel=1e-5)


# A budget.


@settings(max_examples=25, deadline=None)
@given(budget=st.floats(0.25, 1.0), multiple=st.integers(1, 8))
def test_a_budget_is_kept_over_all_groups_together(budget: float, multiple: int) -> None:
    model = deepspeech()
    statistics = gather(model, batches(10, 3, 20), fisher=True)
    total = sum(parameters(matrix) for _, matrix in model.matrices())
    choice = PruneSettings(budget=budget, multiple=multiple)
    small = prune(model, choice, statistics).model
    assert sum(parameters(matrix) for _, matrix in small.matrices()) <= budget * total
    for before, after in zip(groups(model), groups(small), strict=True):
        assert after.size == before.size or after.size % multiple == 0
        assert after.size >= min(before.size, multiple)


def test_a_budget_takes_what_costs_least_for_each_weight() -> None:
    """Against a search over all sizes; the losses add up, and the greedy choice is near it."""
    model = deepspeech()
    statistics = heard(model, 1e-3)
    paths = {g.name: path_of(model, g.name, statistics, "reconstruction") for g in groups(model)}
    limit = 4000

    def weights(a: int, h: int, b: int) -> int:
        return 10 * a + 4 * h * (a + h) + h * b + 7 * b

    def lost(a: int, h: int, b: int) -> float:
        counts = zip(("dense1", "lstm", "dense2"), (a, h, b), strict=True)
        return sum(paths[name].lost(count) for name, count in counts)

    small = prune(model, PruneSettings(budget=limit, multiple=4), statistics).model
    chosen = tuple(group.size for group in groups(small))
    assert weights(*chosen) == sum(parameters(m) for _, m in small.matrices()) <= limit
    every = [
        (a, h, b)
        for a in range(4, 33, 4)
        for h in range(4, 25, 4)
        for b in range(4, 21, 4)
        if weights(a, h, b) <= limit
    ]
    losses = sorted(lost(*sizes) for sizes in every)
    assert lost(*chosen) <= losses[len(losses) // 20]


def test_a_budget_counts_the_factors_of_a_product() -> None:
    torch.manual_seed(9)
    product = Product(dense(6, 4), dense(4, 8))
    model = chain(5, one=linear(8, 5), relu=Activation("relu"), out=Linear(product))
    small = prune(model, PruneSettings(budget=96 - 9, multiple=1), heard(model)).model
    assert sum(parameters(m) for _, m in small.matrices()) == 96 - 9  # 5 rows, 4 columns a unit
    assert groups(small)[0].size == 7


def test_a_budget_too_small_is_refused() -> None:
    with pytest.raises(RecipeError, match="keeps 100 weights, but 2576 stay where every group "):
        prune(deepspeech(), PruneSettings(budget=100))


def test_a_budget_compares_losses_of_one_kind() -> None:
    model = deepspeech()
    statistics = {n: m for n, m in heard(model).items() if n != "out.weight"}
    with pytest.raises(RecipeError, match="'dense1' is a number nats a frame, that of 'dense2' of"):
        prune(model, PruneSettings(budget=0.5), statistics)


# The small model runs.


@pytest.mark.parametrize("bits", [None, 4])
def test_the_native_runtime_runs_what_is_left(bits: int | None, tmp_path: Path) -> None:
    model = deepspeech(48)
    small = prune(model, PruneSettings(keep=0.5), heard(model)).model
    if bits is not None:
        small = quantize(small, QuantizeSettings(bits=bits), heard(small)).model
    tvx.save(small, tmp_path / "small.tvx")
    x = features(10, 40)
    found = tv.open(tmp_path / "small.tvx").run(x[0].numpy())
    expected = run(small, x)[0]
    assert small.signals["lstm"].size == 32
    assert expected.shape == found.shape
    tolerance = 2e-4 if bits is None else 0.1  # int8 activations
    assert float((torch.from_numpy(found) - expected).abs().max()) < tolerance


def test_a_recipe_calibrates_again_once_it_has_pruned() -> None:
    recipe = Recipe.of(PruneSettings(budget=0.5, multiple=4), QuantizeSettings(bits=4))
    asked: list[Model] = []

    class Recorded(Calibration):
        def of(self, model: Model) -> Statistics:
            asked.append(model)
            return super().of(model)

    calibration = Recorded.from_batches(batches(deepspeech().input_size), damping=1e-9)
    outcome = apply(deepspeech(), recipe, calibration=calibration)
    assert len(asked) == 2
    assert asked[1].count_parameters() < asked[0].count_parameters()
    notes = [note.what for note in outcome.notes if note.layer == "lstm"]
    assert re.fullmatch(r"kept \d+ of 24 units, predicted loss .* nats a frame", notes[0])
    assert all(isinstance(matrix, Coded) for _, matrix in outcome.model.matrices())


# By norm, and without statistics.


def silenced(model: Model, kept: dict[str, Tensor]) -> Tensor:
    """The output with the outputs of all units but these set to zero, computed by hand."""
    x, nodes = features(10, 60), {node.name: node.layer for node in model.nodes}
    for name in ("dense1", "relu1"):
        x = run(chain(x.shape[2], layer=nodes[name]), x)
    x = x * mask(32, kept["dense1"])
    x = silent_lstm(nodes["lstm"], x, mask(24, kept["lstm"]))
    for name in ("dense2", "relu2"):
        x = run(chain(x.shape[2], layer=nodes[name]), x)
    x = x * mask(20, kept["dense2"])
    return run(chain(20, out=nodes["out"], softmax=nodes["softmax"]), x)


def mask(size: int, kept: Tensor) -> Tensor:
    return torch.zeros(size).index_fill(0, kept, 1)


def silent_lstm(layer: layers.Layer, x: Tensor, alive: Tensor) -> Tensor:
    """An LSTM whose hidden state is multiplied by `alive` at every step."""
    assert isinstance(layer, layers.Recurrent)
    assert layer.forward is not None
    module = nn.LSTMCell(x.shape[2], alive.numel())
    tensors = (layer.forward.weight_ih.decode(), layer.forward.weight_hh.decode(),
               layer.forward.bias, torch.zeros_like(module.bias_hh))  # fmt: skip
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    module.load_state_dict(dict(zip(names, tensors, strict=True)))
    h = c = torch.zeros(x.shape[0], alive.numel())
    states = []
    with torch.no_grad():
        for frame in x.unbind(1):
            h, c = module(frame, (h, c))
            h = h * alive
            states.append(h)
    return torch.stack(states, 1)


@pytest.mark.parametrize("keep", [0.75, 0.5, 0.25])
def test_a_pruned_model_is_one_whose_units_put_out_zero(keep: float) -> None:
    model = deepspeech()
    counts = {group.name: math.ceil(keep * group.size) for group in groups(model)}
    kept = {
        group.name: norms(model, group).topk(counts[group.name]).indices for group in groups(model)
    }
    pruned = prune(model, PruneSettings(keep=keep, multiple=1)).model
    assert {group.name: group.size for group in groups(pruned)} == counts
    expected = silenced(model, kept)
    torch.testing.assert_close(run(pruned, features(10, 60)), expected, rtol=1e-4, atol=1e-5)


def test_the_units_of_the_smallest_norm_go() -> None:
    torch.manual_seed(1)
    model = chain(6, hidden=linear(8, 6), relu=Activation("relu"), out=linear(3, 8))
    sizes = torch.tensor([5.0, 1, 4, 8, 2, 7, 3, 6])
    first, second = (weight(model, f"{name}.weight") for name in ("hidden", "out"))
    model = model.with_tensors(
        {
            "hidden.weight": Dense(torch.nn.functional.normalize(first, dim=1) * sizes[:, None]),
            "out.weight": Dense(torch.nn.functional.normalize(second, dim=0) * sizes),
        }
    )
    small = prune(model, PruneSettings(keep=3)).model
    kept = torch.tensor([3, 5, 7])
    assert torch.equal(weight(small, "hidden.weight"), weight(model, "hidden.weight")[kept])
    assert torch.equal(weight(small), weight(model)[:, kept])


def test_importance_is_the_norm_of_all_that_a_unit_owns_in_an_lstm() -> None:
    torch.manual_seed(2)
    model = chain(5, lstm=recurrent(nn.LSTM(5, 6)), out=linear(4, 6))
    (group,) = groups(model)
    w_ih, w_hh, out = (m.decode().double().square() for _, m in model.matrices())
    for unit in range(6):
        rows = [unit + 6 * gate for gate in range(4)]
        parts = (
            w_ih[rows].sum() / w_ih.mean(),
            w_hh[rows].sum() / w_hh.mean(),
            w_hh[:, unit].sum() / w_hh.mean(),
            out[:, unit].sum() / out.mean(),
        )
        torch.testing.assert_close(norms(model, group)[unit], torch.stack(parts).sum().sqrt())


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_the_scale_of_a_matrix_does_not_decide_who_goes(factor: float) -> None:
    model = deepspeech()
    louder = model.map_matrices(
        lambda name, m: Dense(m.decode() * factor) if name == "out.weight" else m
    )
    for one, other in zip(groups(model), groups(louder), strict=True):
        torch.testing.assert_close(norms(model, one), norms(louder, other))


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({"keep": 0.5}, 16),
        ({"keep": 0.1}, 16),
        ({"keep": 0.5, "multiple": 1}, 12),
        ({"keep": 0.51, "multiple": 1}, 13),
        ({"keep": 0.5, "multiple": 5}, 15),
        ({"keep": 5}, 5),
        ({"keep": 1}, 1),
        ({"keep": 1.0}, 24),
        ({"keep": 99}, 24),
    ],
)
def test_a_fraction_is_rounded_up_to_a_multiple_and_a_count_is_exact(
    settings: dict[str, float], count: int
) -> None:
    outcome = prune(deepspeech(), PruneSettings(layers="lstm", **settings))
    assert outcome.model.signals["lstm"].size == count
    said = f"kept {count} of 24 units, pre" if count < 24 else "left alone: all 24 units are kept"
    assert what(outcome, "lstm").startswith(said)


def test_every_group_gets_a_note() -> None:
    model = deepspeech()
    choice = PruneSettings(layers=["lstm", "dense2"], keep=20, importance="norm")
    squares = norms(model, groups(model)[1]).square().sort().values
    lost = float(squares[:4].sum() / squares.sum())
    unknown = "cut, not refitted: nothing is known of its inputs"
    assert prune(model, choice).notes == (
        Note(
            "out",
            "left alone: its units are tied to the model's input, output or a grouped layer",
        ),
        Note("dense1", "left alone: no pattern matches its 32 units"),
        Note("lstm", f"kept 20 of 24 units, predicted loss {lost:.3g} of its norm"),
        Note("dense2", "left alone: all 20 units are kept"),
        Note("lstm.forward.weight_hh", unknown),
        Note("dense2.weight", unknown),
    )

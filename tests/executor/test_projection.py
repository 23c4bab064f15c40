"""LSTMs with `proj_size`: from torch, cut by hand, through every pass, in the file, natively."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import chain, dense, features, linear, recurrent, run, what
from torch import Tensor, nn

import tinyvox as tv
from tinyvox.calibration import Batch, Statistics, gather
from tinyvox.errors import ModelError
from tinyvox.executor import Executor
from tinyvox.exporters import export_pt2
from tinyvox.formats import tvx
from tinyvox.importers import load
from tinyvox.importers.torch import from_torch
from tinyvox.model import (
    Cell,
    Coded,
    Dense,
    LogSoftmax,
    Model,
    Product,
    Recurrent,
    groups,
    keep_units,
    layers,
    leaves,
)
from tinyvox.passes.equalization import equalize
from tinyvox.passes.lowrank import factorize
from tinyvox.passes.pruning import prune, rank_units, sparsify
from tinyvox.passes.quantization import quantize
from tinyvox.planner import find_plan
from tinyvox.recipe import (
    EqualizeSettings,
    FactorizeSettings,
    PruneSettings,
    QuantizeSettings,
    SparsifySettings,
)

pytestmark = pytest.mark.runtime

# Units and values of the hidden state, as torch names them.
HIDDEN, SIZE = 12, 5


class Projected(nn.Module):
    def __init__(self, depth: int = 1, both_ways: bool = False, **options: bool) -> None:
        super().__init__()
        self.rnn = nn.LSTM(
            6, HIDDEN, depth, bidirectional=both_ways, proj_size=SIZE, batch_first=True, **options
        )
        self.out = nn.Linear(SIZE * (1 + both_ways), 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(self.rnn(x)[0])
        return out


shapes = pytest.mark.parametrize(
    ("depth", "both_ways"), [(1, False), (2, False), (1, True), (2, True)]
)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def imported(depth: int = 2, both_ways: bool = False, **options: bool) -> Model:
    return from_torch(Projected(depth, both_ways, **options), features(6))


def heard(model: Model, *, fisher: bool = True) -> Statistics:
    x = features(model.input_size, 60, 8) + 0.5
    return gather(model, [Batch(x, torch.full((8,), 60))], 1e-6, fisher=fisher)


# What it computes.


@shapes
@pytest.mark.parametrize("bias", [True, False])
def test_it_computes_what_torch_computes(
    depth: int, both_ways: bool, bias: bool, tmp_path: Path
) -> None:
    module = Projected(depth, both_ways, bias=bias)
    model = from_torch(module, features(6))
    x = features(6, 300)
    expected = module(x).detach()
    torch.testing.assert_close(run(model, x), expected, rtol=1e-5, atol=1e-6)
    tvx.save(model, tmp_path / "m.tvx")
    assert torch.equal(run(tvx.load(tmp_path / "m.tvx"), x), run(model, x))
    found = tv.open(tmp_path / "m.tvx").run(x[0].numpy())
    np.testing.assert_allclose(found, expected[0], rtol=1e-4, atol=1e-5)


def test_frames_may_be_turned_and_come_first() -> None:
    class Turned(Projected):
        def forward(self, x: Tensor) -> Tensor:
            self.rnn.batch_first = False
            out: Tensor = self.out(self.rnn(x.transpose(0, 1).flip(0))[0].flip(0).transpose(0, 1))
            return out

    module = Turned(2)
    model = from_torch(module, features(6))
    assert all(
        node.layer.forward is None for node in model.nodes if isinstance(node.layer, Recurrent)
    )
    torch.testing.assert_close(run(model, features(6)), module(features(6)).detach())


def test_what_is_exported_is_imported_again(tmp_path: Path) -> None:
    model = imported(2, True)
    export_pt2(model, tmp_path / "m.pt2")
    again = load(tmp_path / "m.pt2")
    assert [node.name for node in again.nodes] == [node.name for node in model.nodes]
    torch.testing.assert_close(run(again, features(6)), run(model, features(6)))


@pytest.mark.parametrize(
    ("kind", "weight_hr", "message"),
    [
        ("gru", dense(5, 4), "kind of a cell with weight_hr is gru, expected lstm"),
        ("lstm", dense(4, 4), r"weight_hr shape is \(4, 4\), expected \(5, 4\)"),
    ],
)
def test_a_projection_that_does_not_fit_is_refused(
    kind: str, weight_hr: Dense, message: str
) -> None:
    rows = 4 * layers.GATES[kind]
    with pytest.raises(ModelError, match=message):
        chain(3, rnn=Recurrent(kind, Cell(dense(rows, 3), dense(rows, 5), weight_hr=weight_hr)))


@pytest.mark.parametrize("both_ways", [False, True])
def test_evidence_is_of_what_the_units_put_out(both_ways: bool) -> None:
    """Which the projection makes the hidden states of."""
    model = imported(1, both_ways)
    x = features(6, 40, 3)
    lengths = torch.tensor([40, 25, 7])
    statistics = gather(model, [Batch(x, lengths)], 0.0, fisher=True)
    executor = Executor(Model(6, model.nodes[:1]))
    states, _ = executor.run(x, lengths)
    alive = torch.cat([states[i, :n] for i, n in enumerate(lengths.tolist())]).detach().double()
    for i, side in enumerate(["forward", "backward"][: 1 + both_ways]):
        found = statistics[f"rnn.{side}.weight_hr"]
        weight = dict(model.matrices())[f"rnn.{side}.weight_hr"].decode().double()
        own = alive[:, SIZE * i : SIZE * (i + 1)]
        torch.testing.assert_close(
            weight @ found.second @ weight.T, own.T @ own / len(own), rtol=1e-4, atol=1e-6
        )
        torch.testing.assert_close(weight @ found.mean, own.mean(0), rtol=1e-4, atol=1e-6)
        assert statistics[f"rnn.{side}.weight_hh"].second.shape == (SIZE, SIZE)


def test_fisher_information_of_a_projection_is_that_of_its_outputs() -> None:
    """Of one frame alone nothing but `out` reads the hidden state."""
    model = chain(6, rnn=recurrent(nn.LSTM(6, 8, proj_size=4)), out=linear(3, 4), end=LogSoftmax())
    x = torch.randn(3000, 1, 6)
    statistics = gather(model, [Batch(x, torch.ones(3000).long())], fisher=True)
    weight = dict(model.matrices())["out.weight"].decode().double()
    p = run(model, x).exp()[:, 0].double()
    slopes = weight[None] - (p @ weight)[:, None]  # of each token's log-probability
    expected = (p[:, :, None] * slopes.square()).sum(1).mean(0)
    found = statistics["rnn.forward.weight_hr"].fisher
    assert found is not None
    torch.testing.assert_close(found, expected, rtol=0.15, atol=2e-3)


# Pruning.


def test_units_and_values_of_the_hidden_state_are_groups_of_their_own() -> None:
    found = {group.name: group for group in groups(imported())}
    assert {name: group.size for name, group in found.items()} == {
        "rnn.0.units": HIDDEN, "rnn.0.projection": SIZE,
        "rnn.1.units": HIDDEN, "rnn.1.projection": SIZE,
    }  # fmt: skip

    def read(name: str) -> list[str]:
        return [member.tensor for member in found[name].members if member.axis == 1]

    assert read("rnn.0.units") == ["rnn.0.forward.weight_hr"]
    assert read("rnn.0.projection") == ["rnn.0.forward.weight_hh", "rnn.1.forward.weight_ih"]


def test_units_may_go_where_the_hidden_state_is_the_output() -> None:
    model = chain(6, rnn=recurrent(nn.LSTM(6, HIDDEN, proj_size=SIZE)))
    assert [group.name for group in groups(model)] == ["rnn.units"]
    assert prune(model, PruneSettings(keep=7)).model.signals["rnn"].size == SIZE


def cut_by_hand(module: Projected, kept: dict[str, Tensor]) -> Projected:
    """The module with these units and values of each layer and direction, by the groups' names."""
    rnn = module.rnn
    inputs = torch.arange(6)
    small = Projected(rnn.num_layers, rnn.bidirectional)
    small.rnn = nn.LSTM(
        6, 7, rnn.num_layers, bidirectional=rnn.bidirectional, proj_size=3, batch_first=True
    )
    state = {}
    for layer in range(rnn.num_layers):
        name = f"rnn.{layer}" if rnn.num_layers > 1 else "rnn"
        outputs = []
        for side, end in enumerate(["", "_reverse"][: 1 + rnn.bidirectional]):
            own = f"{name}.{('forward', 'backward')[side]}" if rnn.bidirectional else name
            units, values = kept[f"{own}.units"], kept[f"{own}.projection"]
            rows = torch.cat([units + HIDDEN * gate for gate in range(4)])
            suffix = f"_l{layer}{end}"
            state[f"weight_ih{suffix}"] = rnn.get_parameter(f"weight_ih{suffix}")[rows][:, inputs]
            state[f"weight_hh{suffix}"] = rnn.get_parameter(f"weight_hh{suffix}")[rows][:, values]
            state[f"weight_hr{suffix}"] = rnn.get_parameter(f"weight_hr{suffix}")[values][:, units]
            for bias in ("bias_ih", "bias_hh"):
                state[f"{bias}{suffix}"] = rnn.get_parameter(f"{bias}{suffix}")[rows]
            outputs.append(values + SIZE * side)
        inputs = torch.cat(outputs)
    small.rnn.load_state_dict(state)
    small.out.weight = nn.Parameter(module.out.weight[:, inputs])
    small.out.bias = module.out.bias
    return small


@shapes
def test_a_pruned_model_is_torchs_cut_by_hand(depth: int, both_ways: bool, tmp_path: Path) -> None:
    """Bit by bit, weights and outputs; the native runtime agrees on what is left."""
    module = Projected(depth, both_ways)
    with torch.no_grad():  # tinyvox adds the biases up; so that sums come out alike
        for name, bias in module.rnn.named_parameters():
            if name.startswith("bias_hh"):
                bias.zero_()
    model = from_torch(module, features(6))
    kept = {
        group.name: torch.randperm(group.size)[: 7 if group.size == HIDDEN else 3].sort().values
        for group in groups(model)
    }
    small = keep_units(model, kept)
    by_hand = cut_by_hand(module, kept)
    expected = from_torch(by_hand, features(6))
    for one, other in zip(small.matrices(), expected.matrices(), strict=True):
        assert one[0] == other[0]
        assert torch.equal(one[1].decode(), other[1].decode()), one[0]
    for one, other in zip(small.vectors(), expected.vectors(), strict=True):
        assert torch.equal(one[1], other[1]), one[0]
    x = features(6, 200)
    assert torch.equal(run(small, x), run(expected, x))
    torch.testing.assert_close(run(small, x), by_hand(x).detach(), rtol=1e-5, atol=1e-6)
    tvx.save(small, tmp_path / "m.tvx")
    found = tv.open(tmp_path / "m.tvx").run(x[0].numpy())
    np.testing.assert_allclose(found, run(small, x)[0], rtol=1e-4, atol=1e-5)


def test_a_projection_is_refitted_without_a_bias() -> None:
    """Least squares on what the units put out, no constant added."""
    model = imported(1)
    statistics = heard(model)
    small = prune(model, PruneSettings(layers="rnn.units", keep=7), statistics).model
    (group,) = (group for group in groups(model) if group.name == "rnn.units")
    kept = rank_units(model, group, statistics).kept(7)
    second = statistics["rnn.forward.weight_hr"].damped
    weight = dict(model.matrices())["rnn.forward.weight_hr"].decode().double()
    best = torch.linalg.solve(second[kept][:, kept], weight @ second[:, kept], left=False)
    found = dict(small.matrices())["rnn.forward.weight_hr"].decode().double()
    torch.testing.assert_close(found, best, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("importance", ["norm", "energy", "fisher", "reconstruction", "random"])
def test_refitting_brings_the_outputs_nearer(importance: str) -> None:
    model = imported()
    statistics = heard(model)
    x = features(6, 60, 8) + 0.5
    errors = []
    for refit in (False, True):
        settings = PruneSettings(keep=0.75, multiple=1, importance=importance, refit=refit)
        small = prune(model, settings, statistics).model
        errors.append(float((run(small, x) - run(model, x)).square().mean()))
    assert errors[1] < errors[0]


# The other passes.


def all_leaves(model: Model) -> Iterator[Dense | Coded]:
    for _, matrix in model.matrices():
        yield from leaves(matrix)


@pytest.mark.parametrize("known", [False, True])
def test_every_pass_takes_it(known: bool, tmp_path: Path) -> None:
    model = imported(2, True)
    statistics = heard(model) if known else {}
    outcome = factorize(model, FactorizeSettings(layers="rnn.1.*.weight_h?", rank=2), statistics)
    model = outcome.model
    assert isinstance(dict(model.matrices())["rnn.1.backward.weight_hr"], Product)
    assert "rank 2 of 5" in what(outcome, "rnn.1.backward.weight_hr")
    again = factorize(model, FactorizeSettings(layers="*.weight_hr", rank=2), statistics)
    assert what(again, "rnn.1.forward.weight_hr") == (
        "left alone: it is a product of rank 2 already"
    )
    model = sparsify(model, SparsifySettings(fraction=0.2), statistics).model
    outcome = quantize(model, QuantizeSettings(bits=6, correct=True), statistics)
    assert all(isinstance(leaf, Coded) for leaf in all_leaves(outcome.model))
    notes = [note.what for note in outcome.notes if note.layer == "rnn.0.forward.weight_hr"]
    assert notes[-1] == "means left alone: a projection has no bias"
    tvx.save(outcome.model, tmp_path / "m.tvx")
    loaded = tvx.load(tmp_path / "m.tvx")
    x = features(6, 100)
    assert torch.equal(run(loaded, x), run(outcome.model, x))
    found, expected = tv.open(tmp_path / "m.tvx").run(x[0].numpy()), run(loaded, x)[0].numpy()
    assert np.sqrt(np.mean((found - expected) ** 2) / np.mean(expected**2)) < 0.03


def test_what_reads_the_hidden_state_shares_a_factor() -> None:
    outcome = factorize(imported(), FactorizeSettings(rank=3, shared_projection=True))
    assert list(outcome.model.shared_factors().values()) == [
        ("rnn.0.forward.weight_hh", "rnn.1.forward.weight_ih"),
        ("rnn.1.forward.weight_hh", "out.weight"),
    ]


def test_the_hidden_state_is_equalized_and_the_units_are_not() -> None:
    model = imported()
    outcome = equalize(model, EqualizeSettings())
    assert "bent by the cell of 'rnn.0' (lstm)" in what(outcome, "rnn.0.units")
    assert "5 units scaled" in what(outcome, "rnn.0.projection")
    x = features(6, 100)
    torch.testing.assert_close(run(outcome.model, x), run(model, x), rtol=1e-4, atol=1e-5)


def test_a_plan_fits_and_lists_the_projection() -> None:
    model = chain(
        20,
        rnn=recurrent(nn.LSTM(20, 96, proj_size=32)),
        out=linear(29, 32),
        softmax=layers.LogSoftmax(),
    )
    size = tvx.size(model) // 12
    found = find_plan(model, size=size)
    assert tvx.size(found.model) <= size
    assert "rnn.forward.weight_hr" in {row.name for row in found.rows}


def test_its_parameters_learn() -> None:
    model = imported(1, True)
    executor = Executor(model)
    executor(features(6)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in executor.parameters())
    trained = executor.model()
    assert trained.count_parameters() == model.count_parameters()
    assert dataclasses.astuple(trained.node("rnn").layer)[0] == "lstm"

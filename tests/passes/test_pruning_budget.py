"""How many units go: by a budget, by a share, by a count; and the small model runs."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pruned_models import batches, heard, path_of, weight
from small_models import chain, deepspeech, dense, features, linear, recurrent, run, what
from torch import Tensor, nn

import tinyvox as tv
from tinyvox.calibration import Calibration, Statistics, gather
from tinyvox.errors import RecipeError
from tinyvox.formats import tvx
from tinyvox.model import (
    Activation,
    Coded,
    Dense,
    Linear,
    Matrix,
    Model,
    Product,
    groups,
    layers,
    leaves,
)
from tinyvox.passes import Note, apply
from tinyvox.passes.pruning import norms, prune
from tinyvox.passes.quantization import quantize
from tinyvox.recipe import PruneSettings, QuantizeSettings, Recipe

pytestmark = pytest.mark.runtime


def parameters(matrix: Matrix) -> int:
    return sum(leaf.shape[0] * leaf.shape[1] for leaf in leaves(matrix))


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

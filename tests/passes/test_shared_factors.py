"""What products share stays shared in every pass, in training and in the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from shared_models import FIRST, SECOND, apart, heard, joined, matrices, said, sets, stacked
from small_models import chain, features, linear, recurrent, run
from torch import Tensor, nn

import tinyvox as tv
from tinyvox.executor import Executor
from tinyvox.exporters import export_pt2
from tinyvox.formats import tvx
from tinyvox.importers import load
from tinyvox.model import Coded, Dense, Model, Product, groups, keep_units, layers, leaves
from tinyvox.passes.equalization import equalize
from tinyvox.passes.lowrank import factorize
from tinyvox.passes.pruning import prune, rank_units, sparsify
from tinyvox.passes.quantization import finalize, quantize
from tinyvox.recipe import (
    EqualizeSettings,
    FactorizeSettings,
    PruneSettings,
    QuantizeRule,
    QuantizeSettings,
    SparsifySettings,
)

pytestmark = pytest.mark.runtime

# What stays shared.


def assert_shared(model: Model) -> None:
    assert sets(model) == [FIRST, SECOND]


RULES = {
    "kmeans": QuantizeSettings(bits=4),
    "entropy": QuantizeSettings(bits=3, method="entropy"),
    "a rule each": QuantizeSettings(bits=2, rules=(QuantizeRule(layers="out", bits=5),)),
}


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("rule", RULES)
def test_a_shared_factor_is_coded_once(rule: str, known: bool) -> None:
    model = joined()
    outcome = quantize(model, RULES[rule], heard(model) if known else {})
    assert_shared(outcome.model)
    for name, matrix in outcome.model.matrices():
        assert all(isinstance(leaf, Coded) for leaf in leaves(matrix)), name
    if rule == "a rule each":
        right = matrices(outcome.model)["out.weight"]
        assert isinstance(right, Product)
        assert (right.left.bits, right.right.bits) == (5, 2)


def test_left_factors_make_up_for_the_codes_of_the_shared_one() -> None:
    """Its left factor as least squares have it, where only the right one is coded coarsely."""
    model = joined()
    statistics = heard(model)
    rules = (QuantizeRule(layers=FIRST[0], bits=2), QuantizeRule(layers=FIRST[1], bits=8))
    new = matrices(quantize(model, QuantizeSettings(rules=rules), statistics).model)
    old = matrices(model)
    fitted, before = new[FIRST[1]], old[FIRST[1]]
    assert isinstance(fitted, Product)
    second = statistics[FIRST[1]].damped.numpy()
    right, values = fitted.right.decode().double().numpy(), before.decode().double().numpy()
    best = values @ second @ right.T @ np.linalg.inv(right @ second @ right.T)
    left = fitted.left.decode().double().numpy()
    assert np.linalg.norm(left - best) < 0.05 * np.linalg.norm(best)
    kept = Product(before.left, fitted.right).decode().double().numpy()

    def loss(found: np.ndarray) -> float:
        return float(np.trace((values - found) @ second @ (values - found).T))

    assert loss(left @ right) < loss(kept)


def test_a_shared_factor_goes_by_the_rule_of_the_first_who_has_it() -> None:
    model = joined()
    old = matrices(model)
    first = QuantizeSettings(rules=(QuantizeRule(layers=FIRST[0], bits=4),))
    outcome = quantize(model, first, heard(model))
    assert_shared(outcome.model)
    other = matrices(outcome.model)[FIRST[1]]
    assert isinstance(other, Product)
    assert isinstance(other.left, Dense)
    assert isinstance(other.right, Coded)
    assert said(outcome, FIRST[1]) == (
        "left alone: no rule matches it, it stays float32; a factor is coded that it shares"
    )
    last = quantize(model, QuantizeSettings(rules=(QuantizeRule(layers=FIRST[1], bits=4),)))
    assert_shared(last.model)
    matrix = matrices(last.model)[FIRST[1]]
    assert isinstance(matrix, Product)
    assert isinstance(matrix.left, Coded)
    assert matrix.right is old[FIRST[0]].right


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("share", [{"fraction": 0.5}, {"budget": 0.4}])
def test_a_shared_factor_is_thinned_once(share: dict[str, float], known: bool) -> None:
    model = joined()
    outcome = sparsify(model, SparsifySettings(**share), heard(model) if known else {})
    assert_shared(outcome.model)
    dense = [leaf.values for _, leaf in outcome.model.leaves() if isinstance(leaf, Dense)]
    zeros = sum(int((values == 0).sum()) for values in dense)
    size = sum(values.numel() for values in dense)
    expected = size * share.get("fraction", 0) or size - round(share["budget"] * size)
    assert zeros == pytest.approx(expected, abs=len(dense))
    named = [note.layer for note in outcome.notes if note.layer.endswith(".right")]
    assert sorted(named) == sorted(
        {"dense1.weight.right", "lstm1.forward.weight_ih.right", f"{FIRST[0]}.right",
         f"{SECOND[0]}.right"}
    )  # fmt: skip


def test_a_matrix_that_is_not_thinned_makes_up_for_the_factor_that_it_shares() -> None:
    model = joined()
    statistics = heard(model)
    outcome = sparsify(model, SparsifySettings(layers=FIRST[0], fraction=0.5), statistics)
    assert_shared(outcome.model)
    other = matrices(outcome.model)[FIRST[1]]
    assert isinstance(other, Product)
    assert bool(other.left.values.all())
    assert said(outcome, FIRST[1]).endswith("; a factor that it shares is thinned")
    untouched = sparsify(model, SparsifySettings(layers=FIRST[1], fraction=0.5), statistics)
    assert_shared(untouched.model)
    assert matrices(untouched.model)[FIRST[0]] is matrices(model)[FIRST[0]]


@pytest.mark.parametrize("coded", [False, True])
def test_units_go_from_a_shared_factor_once(coded: bool) -> None:
    model = joined()
    model = quantize(model, QuantizeSettings(bits=4)).model if coded else model
    kept = torch.tensor([0, 1, 4, 7, 8, 9, 13, 19])
    small = keep_units(model, {"lstm1": kept})
    assert_shared(small)
    old, new = matrices(model), matrices(small)
    rows = (kept + 20 * torch.arange(4)[:, None]).flatten()
    torch.testing.assert_close(new[FIRST[0]].decode(), old[FIRST[0]].decode()[rows][:, kept])
    torch.testing.assert_close(new[FIRST[1]].decode(), old[FIRST[1]].decode()[:, kept])
    assert_shared(prune(model, PruneSettings(keep=8)).model)
    assert_shared(prune(model, PruneSettings(keep=8), heard(model)).model)


def test_a_shared_factor_is_refitted_once_to_what_all_its_readers_hear() -> None:
    model = joined()
    statistics = heard(model)
    (group,) = (group for group in groups(model) if group.name == "lstm1")
    kept = rank_units(model, group, statistics).kept(12)
    small = prune(model, PruneSettings(layers="lstm1", keep=12), statistics).model
    assert_shared(small)
    known = [statistics[name] for name in FIRST]
    covariance = sum(m.damped - torch.outer(m.mean, m.mean) for m in known) / 2
    right = matrices(model)[FIRST[0]].right.decode().double()
    best = torch.linalg.solve(covariance[kept][:, kept], right @ covariance[:, kept], left=False)
    found = matrices(small)[FIRST[1]].right.decode().double()
    torch.testing.assert_close(found, best, rtol=1e-4, atol=1e-5)


def test_a_budget_of_pruning_counts_a_shared_factor_once() -> None:
    model = joined()
    total = sum(leaf.shape[0] * leaf.shape[1] for _, leaf in model.leaves())
    small = prune(model, PruneSettings(budget=total, multiple=1)).model
    assert small.count_parameters() == model.count_parameters()
    fewer = prune(model, PruneSettings(budget=total - 1, multiple=1)).model
    assert small.count_parameters() - fewer.count_parameters() < 200  # one unit is gone


def test_products_of_different_columns_part() -> None:
    """A factor that two layers of other units happen to share is theirs no longer."""
    right = Dense(torch.randn(2, 6))
    model = chain(
        6,
        a=layers.Linear(Product(Dense(torch.randn(6, 2)), right)),
        b=layers.Linear(Product(Dense(torch.randn(6, 2)), right)),
        c=linear(3, 6),
    )
    small = keep_units(model, {"a": torch.tensor([1, 2, 5])})
    assert sets(small) == []
    expected = matrices(model)["b.weight"].decode()[:, [1, 2, 5]]
    torch.testing.assert_close(matrices(small)["b.weight"].decode(), expected)


def relu_model() -> Model:
    torch.manual_seed(0)
    rnn = layers.Recurrent("rnn_relu", recurrent(nn.RNN(8, 20)).forward)
    model = chain(8, rnn=rnn, out=linear(30, 20))
    stretch = torch.logspace(-1, 1, 20)
    names = ("rnn.forward.weight_hh", "out.weight")
    return model.with_tensors(
        {name: Dense(matrices(model)[name].decode() * stretch) for name in names}
    )


def test_a_shared_factor_is_equalized_once() -> None:
    model = joined(relu_model(), 5)
    even = equalize(model, EqualizeSettings(absorb=False)).model
    assert sets(even) == [("rnn.forward.weight_hh", "out.weight")]
    before, after = (matrices(m)["out.weight"].right.decode().abs().amax(0) for m in (model, even))
    assert float(after.max() / after.min()) < float(before.max() / before.min())
    x = features(8)
    torch.testing.assert_close(run(even, x), run(model, x), rtol=1e-3, atol=1e-3)


def test_settling_keeps_factors_shared() -> None:
    coded = quantize(joined(), QuantizeSettings(bits=3)).model
    assert_shared(finalize(coded, "float16"))


# Training.


def gradient(model: Model, x: Tensor) -> dict[str, Tensor]:
    executor = Executor(model)
    executor(x).square().sum().backward()
    return {n: p.grad for n, p in executor.named_parameters() if p.grad is not None}


def test_a_shared_factor_is_one_parameter_that_learns_from_all() -> None:
    model, x = joined(), features(12)
    shared, own = gradient(model, x), gradient(apart(model), x)
    assert sum(g.numel() for g in shared.values()) == model.count_parameters()
    one = shared["layers.1.weights.forward/weight_hh.right.values"]
    both = (
        own["layers.1.weights.forward/weight_hh.right.values"]
        + own["layers.2.weights.forward/weight_ih.right.values"]
    )
    torch.testing.assert_close(one, both)


@pytest.mark.parametrize("start", ["dense", "coded", "rounded"])
def test_trained_factors_come_out_shared(start: str) -> None:
    model = joined()
    if start == "coded":
        model = quantize(model, QuantizeSettings(bits=3)).model
    executor = Executor(model)
    if start == "rounded":
        executor.set_rounding(dict(quantize(model, QuantizeSettings(bits=3)).model.matrices()), {})
    x = features(12)
    optimizer = torch.optim.SGD(executor.parameters(), lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        executor(x).square().mean().backward()
        optimizer.step()
    trained = executor.model()
    assert_shared(trained)
    moved = matrices(trained)[FIRST[0]].right.decode() - matrices(model)[FIRST[0]].right.decode()
    assert float(moved.abs().max()) > 0
    torch.testing.assert_close(run(trained, x), executor(x).detach(), rtol=1e-4, atol=1e-5)
    if start == "rounded":
        assert all(isinstance(leaf, Coded) for _, leaf in trained.leaves())


def test_dense_leaves_name_a_shared_one_once() -> None:
    names = [name for name, _ in Executor(joined()).dense_leaves()]
    assert {name: names.count(name) for name in (*FIRST, *SECOND)} == {
        FIRST[0]: 2, FIRST[1]: 1, SECOND[0]: 2, SECOND[1]: 1,
    }  # fmt: skip


# Files.


@pytest.mark.parametrize("bits", [None, 2, 4, 8])
def test_the_file_comes_back_shared_and_runs_like_torch(bits: int | None, tmp_path: Path) -> None:
    model = joined()
    model = model if bits is None else quantize(model, QuantizeSettings(bits=bits)).model
    tvx.save(model, tmp_path / "m.tvx")
    loaded = tvx.load(tmp_path / "m.tvx")
    assert_shared(loaded)
    x = features(12, 50, 1)
    assert torch.equal(run(loaded, x), run(model, x))
    found = tv.open(tmp_path / "m.tvx").run(x[0].numpy())
    atol = 1e-4 if bits is None else 0.15
    np.testing.assert_allclose(found, run(model, x)[0], atol=atol)


@pytest.mark.parametrize("isa", ["scalar", "native"])
def test_sharing_changes_nothing_that_the_runtime_computes(
    isa: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if isa == "scalar":
        monkeypatch.setenv("TINYVOX_ISA", isa)
    model = joined()
    sizes, outputs, resident = [], [], []
    for each in (model, apart(model)):
        sizes.append(tvx.save(each, tmp_path / "m.tvx"))
        session = tv.open(tmp_path / "m.tvx")
        outputs.append(session.run(features(12, 50, 1)[0].numpy()))
        resident.append(session.resident_bytes)
    assert np.array_equal(outputs[0], outputs[1])
    factors = 2 * 4 * 6 * 20
    assert sizes[1] - sizes[0] == factors + 2 * (len(b"\x02\x06\x14") - len(b"\x00"))
    assert resident[1] - resident[0] >= factors


def test_a_shared_factor_can_be_exported(tmp_path: Path) -> None:
    model, x = joined(), features(12, 8, 2)
    export_pt2(model, tmp_path / "m.pt2")
    torch.testing.assert_close(
        run(load(tmp_path / "m.pt2"), x), run(model, x), rtol=1e-4, atol=1e-5
    )


def test_models_without_shared_factors_have_as_many_leaves_as_before() -> None:
    model = quantize(
        factorize(stacked(), FactorizeSettings(rank=4)).model, QuantizeSettings(bits=4)
    )
    own = [(n, leaf) for n, matrix in model.model.matrices() for leaf in leaves(matrix)]
    assert list(model.model.leaves()) == own

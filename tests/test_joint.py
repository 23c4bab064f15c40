"""Shared-projection factorization against the decomposition of the stacked matrix; what products share stays
shared in every pass, in training and in the file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import chain, features, linear, recurrent, run
from torch import Tensor, nn

import tinyvox as tv
from tinyvox.calibration import Batch, Statistics, gather
from tinyvox.errors import RecipeError
from tinyvox.executor import Executor
from tinyvox.exporters import export_pt2
from tinyvox.formats import tvx
from tinyvox.importers import load
from tinyvox.model import (
    INPUT,
    Coded,
    Dense,
    Matrix,
    Model,
    Node,
    Product,
    groups,
    keep_units,
    layers,
    leaves,
)
from tinyvox.passes import Outcome
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

FIRST = ("lstm1.forward.weight_hh", "lstm2.forward.weight_ih")
SECOND = ("lstm2.forward.weight_hh", "out.weight")


def stacked(hidden: int = 20) -> Model:
    """Two LSTMs and what reads the second one."""
    torch.manual_seed(0)
    return chain(
        12,
        dense1=linear(16, 12),
        lstm1=recurrent(nn.LSTM(16, hidden)),
        lstm2=recurrent(nn.LSTM(hidden, hidden)),
        out=linear(9, hidden),
        softmax=layers.LogSoftmax(),
    )


def heard(model: Model) -> Statistics:
    return gather(model, [Batch.of(list(features(model.input_size, 40, 4)))])


def joined(model: Model | None = None, rank: int = 6, **options: object) -> Model:
    return factorize(
        model or stacked(), FactorizeSettings(rank=rank, shared_projection=True, **options)
    ).model


def matrices(model: Model) -> dict[str, Matrix]:
    return dict(model.matrices())


def said(outcome: Outcome, layer: str) -> str:
    (note,) = (note for note in outcome.notes if note.layer == layer)
    return note.what


def sets(model: Model) -> list[tuple[str, ...]]:
    return list(model.shared_factors().values())


def as_one(model: Model, names: tuple[str, ...]) -> Tensor:
    """The matrices above each other."""
    return torch.cat([matrices(model)[name].decode() for name in names]).double()


# The factors.


def with_fisher(statistics: Statistics, name: str, rows: int) -> Statistics:
    fisher = torch.rand(rows, generator=torch.Generator().manual_seed(3)).double() ** 4
    return Statistics({**statistics, name: dataclasses.replace(statistics[name], fisher=fisher)})


@pytest.mark.parametrize("known", ["nothing", "inputs", "outputs"])
@pytest.mark.parametrize("names", [FIRST, SECOND])
def test_the_factors_are_the_best_of_the_stacked_matrix(names: tuple[str, ...], known: str) -> None:
    """Of their outputs, each over the root mean square of its matrix; those of which it is known
    how much they count, by the root of that."""
    model = stacked()
    statistics = heard(model) if known != "nothing" else Statistics()
    if known == "outputs":
        statistics = with_fisher(statistics, names[0], 80)
    new = matrices(
        factorize(model, FactorizeSettings(rank=5, shared_projection=True), statistics).model
    )
    second = sum(statistics[n].damped for n in names).numpy() / 2 if statistics else np.eye(20)
    root = np.linalg.cholesky(second)
    rows, found = [], []
    for name in names:
        importance = statistics[name].importance() if statistics else None
        counts = 1.0 if importance is None else importance.sqrt().numpy()[:, None]
        outputs = matrices(model)[name].decode().double().numpy() @ root
        scale = counts / np.sqrt(np.mean(outputs**2) * 20)
        rows.append(outputs * scale)
        found.append(new[name].decode().double().numpy() @ root * scale)
    u, s, v = np.linalg.svd(np.concatenate(rows), full_matrices=False)
    best = (u[:, :5] * s[:5]) @ v[:5]
    np.testing.assert_allclose(np.concatenate(found), best, rtol=1e-3, atol=1e-4 * s[0])
    assert new[names[0]].right is new[names[1]].right
    assert new[names[0]].rank == 5


@settings(max_examples=20, deadline=None)
@given(rank=st.integers(1, 12), scale=st.floats(1e-3, 1e3), seed=st.integers(0, 99))
def test_each_left_factor_is_the_best_for_the_shared_right_one(
    rank: int, scale: float, seed: int
) -> None:
    """And the scale of a matrix does not matter to the others."""
    torch.manual_seed(seed)
    model = chain(7, lstm=recurrent(nn.LSTM(7, 16)), out=linear(24, 16))
    weight = matrices(model)["out.weight"].decode()
    louder = model.with_tensors({"out.weight": Dense(weight * scale)})
    new, other = (matrices(joined(m, rank)) for m in (model, louder))
    hidden = new["lstm.forward.weight_hh"].decode()
    torch.testing.assert_close(
        other["lstm.forward.weight_hh"].decode(), hidden, rtol=1e-3, atol=1e-4
    )
    for name in ("lstm.forward.weight_hh", "out.weight"):
        right = new[name].right.decode().double().numpy()
        values = matrices(model)[name].decode().double().numpy()
        left, *_ = np.linalg.lstsq(right.T, values.T, rcond=None)
        np.testing.assert_allclose(new[name].left.decode(), left.T, rtol=1e-3, atol=1e-4)


def test_a_matrix_that_shares_a_factor_has_an_error_of_its_own_in_the_note() -> None:
    model = stacked()
    outcome = factorize(model, FactorizeSettings(rank=5, shared_projection=True))
    for name, other in (FIRST, FIRST[::-1], SECOND, SECOND[::-1]):
        before, after = (matrices(m)[name].decode().double() for m in (model, outcome.model))
        error = float((before - after).square().sum() / before.square().sum())
        what, _, number = said(outcome, name).rpartition(" ")
        assert what == (
            f"rank 5 of 20, the right factor shared with {other}, relative squared error"
        )
        assert float(number) == pytest.approx(error, rel=5e-3)
    assert said(outcome, "dense1.weight").startswith("rank 5 of 12, relative squared error")
    assert sets(outcome.model) == [FIRST, SECOND]


def test_ranks_and_energies_are_those_of_the_stack() -> None:
    model = stacked()
    product = matrices(joined(model, 0.25))[FIRST[0]]
    assert isinstance(product, Product)
    assert product.rank == 5
    by_energy = matrices(
        factorize(
            model, FactorizeSettings(layers="lstm*", energy=0.6, shared_projection=True)
        ).model
    )[FIRST[0]]
    parts = as_one(model, FIRST)
    scale = [parts[:80].square().mean().sqrt(), parts[80:].square().mean().sqrt()]
    kept = torch.linalg.svdvals(torch.cat([parts[:80] / scale[0], parts[80:] / scale[1]]))
    share = kept.square().cumsum(0) / kept.square().sum()
    assert isinstance(by_energy, Product)
    assert by_energy.rank == int((share < 0.6).sum()) + 1


def test_the_shared_factor_counts_once_against_what_is_saved() -> None:
    """80 + 80 rows of 20: at rank 17 factors hold 17 * 180 weights, fewer than 3200; alone each
    matrix would gain nothing, as 17 * 100 is more than 1600."""
    model = stacked()
    outcome = factorize(model, FactorizeSettings(layers=FIRST, rank=17, shared_projection=True))
    assert sets(outcome.model) == [FIRST]
    apart = factorize(model, FactorizeSettings(layers=FIRST, rank=17))
    assert all(said(apart, name).startswith("left alone: at rank 17") for name in FIRST)
    large = factorize(model, FactorizeSettings(layers=FIRST, rank=18, shared_projection=True))
    assert all(matrices(large.model)[name] is matrices(model)[name] for name in FIRST)
    assert said(large, FIRST[0]) == (
        f"left alone: with {FIRST[1]}, at rank 18 the factors hold 3240 weights, the matrix 3200"
    )
    both = model.count_parameters() - outcome.model.count_parameters()
    assert both == 3200 - 17 * 180


# Who shares.


def shares(model: Model, **options: object) -> tuple[list[tuple[str, ...]], Outcome]:
    outcome = factorize(
        model, FactorizeSettings(**{"rank": 3, "shared_projection": True, **options})
    )
    return sets(outcome.model), outcome


def test_without_joint_nothing_is_shared() -> None:
    assert shares(stacked(), shared_projection=False)[0] == []


def test_a_bidirectional_layer_is_read_as_two_states_at_once() -> None:
    torch.manual_seed(0)
    model = chain(8, rnn=recurrent(nn.GRU(8, 14, bidirectional=True)), out=linear(20, 28))
    found, outcome = shares(model)
    assert found == []
    assert isinstance(matrices(outcome.model)["out.weight"], Product)
    assert said(outcome, "out.weight").endswith(
        "; on its own: it reads 28 values, the state of 'rnn' has 14"
    )
    assert said(outcome, "rnn.backward.weight_hh").endswith(
        "; on its own: no other matrix that matches reads its state"
    )


@pytest.mark.parametrize(
    ("between", "reads", "source"),
    [
        (layers.Activation("relu"), 14, "between"),
        (layers.FrameStacking(2, 1), 28, "between"),
        (layers.ContextWindow(1, 1), 42, "between"),
    ],
)
def test_what_reads_a_changed_state_keeps_its_own_factors(
    between: layers.Layer, reads: int, source: str
) -> None:
    torch.manual_seed(0)
    model = chain(8, rnn=recurrent(nn.GRU(8, 14)), between=between, out=linear(20, reads))
    found, outcome = shares(model)
    assert found == []
    assert said(outcome, "out.weight").endswith(
        f"; on its own: it reads {source!r}, not the state of 'rnn' itself"
    )


def test_sums_of_states_are_no_states() -> None:
    torch.manual_seed(0)
    one, two = (recurrent(nn.GRU(14, 14)) for _ in range(2))
    nodes = (
        Node("one", one, (INPUT,)),
        Node("two", two, ("one",)),
        Node("sum", layers.Add(), ("one", "two")),
        Node("out", linear(20, 14), ("sum",)),
    )
    found, outcome = shares(Model(14, nodes))
    assert found == [("one.forward.weight_hh", "two.forward.weight_ih")]
    assert "on its own: it reads 'sum'" in said(outcome, "out.weight")


def test_all_who_read_a_state_share_and_frames_left_out_do_not_matter() -> None:
    torch.manual_seed(0)
    nodes = (
        Node("rnn", recurrent(nn.RNN(6, 14)), (INPUT,)),
        Node("half", layers.Subsample(2), ("rnn",)),
        Node("a", linear(20, 14), ("half",)),
        Node("b", linear(15, 14), ("rnn",)),
        Node("also", layers.Subsample(2), ("b",)),
        Node("both", layers.Concat(), ("a", "also")),
    )
    found, _ = shares(Model(6, nodes))
    assert found == [("rnn.forward.weight_hh", "a.weight", "b.weight")]


def test_only_what_matches_and_is_dense_shares() -> None:
    assert shares(stacked(), layers="lstm1")[0] == []
    assert shares(stacked(), layers=("lstm1", "lstm2.forward.weight_ih"))[0] == [FIRST]
    assert shares(stacked(), layers=("lstm2.forward.weight_ih", "out"))[0] == []
    coded = quantize(stacked(), QuantizeSettings(rules=(QuantizeRule(layers="out", bits=4),)))
    found, outcome = shares(coded.model)
    assert found == [FIRST]
    assert said(outcome, "out.weight") == (
        "left alone: it is coded already; factorize before you quantize"
    )
    with pytest.raises(RecipeError, match="factorize: 'none' matches nothing"):
        shares(stacked(), layers="none")


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


def apart(model: Model) -> Model:
    """The same numbers, nothing shared."""
    return model.map_matrices(
        lambda _, m: Product(m.left, Dense(m.right.values.clone())) if isinstance(m, Product) else m
    )


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

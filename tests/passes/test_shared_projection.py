"""Shared projections against the decomposition of the stacked matrix; who shares one."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shared_models import FIRST, SECOND, heard, joined, matrices, said, sets, stacked
from small_models import chain, linear, recurrent
from torch import Tensor, nn

from tinyvox.calibration import Statistics
from tinyvox.errors import RecipeError
from tinyvox.model import INPUT, Dense, Model, Node, Product, layers
from tinyvox.passes import Outcome
from tinyvox.passes.lowrank import factorize
from tinyvox.passes.quantization import quantize
from tinyvox.recipe import FactorizeSettings, QuantizeRule, QuantizeSettings


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

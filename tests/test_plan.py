"""A plan fits its budget in bytes on disk and loses least among the candidates."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch
from small_models import chain, linear, recurrent, speech_model
from torch import nn

from tinyvox import layers, packfile
from tinyvox import plan as planning
from tinyvox.card import Features, SpeechCard
from tinyvox.errors import RecipeError
from tinyvox.matrix import Dense
from tinyvox.model import Model
from tinyvox.passes import compress, factorize, quantize
from tinyvox.passes.quantize import relative_error
from tinyvox.plan import estimate_bytes, plan
from tinyvox.recipe import (
    FactorizeSettings,
    PruneSettings,
    QuantizeRule,
    QuantizeSettings,
    Recipe,
    first_match,
)


def wide_model(hidden: int = 96) -> Model:
    torch.manual_seed(0)
    return chain(
        20,
        dense=linear(hidden, 20),
        relu=layers.Activation("relu"),
        lstm=recurrent(nn.LSTM(hidden, hidden)),
        out=linear(29, hidden),
        softmax=layers.LogSoftmax(),
    )


def loss(model: Model, small: Model) -> float:
    """Sum over the matrices of their relative squared error."""
    pairs = zip(model.matrices(), small.matrices(), strict=True)
    return sum(relative_error(a, b) for (_, a), (_, b) in pairs)


@pytest.mark.parametrize("ratio", [2.5, 12, 30])
def test_a_ratio_is_reached_in_bytes_on_disk(ratio: float, tmp_path: Path) -> None:
    model = wide_model()
    size = packfile.save(compress(model, plan(model, ratio=ratio)), tmp_path / "m.tvx")
    assert 4 * model.count_parameters() / size >= ratio
    assert (tmp_path / "m.tvx").stat().st_size == size


@pytest.mark.parametrize("budget", [60_000, 12_000])
def test_a_size_is_never_exceeded_and_well_used(budget: int, tmp_path: Path) -> None:
    model = wide_model()
    size = packfile.save(compress(model, plan(model, size=budget)), tmp_path / "m.tvx")
    assert budget / 2 < size <= budget


def test_a_tighter_budget_never_loses_less() -> None:
    model = speech_model(64)
    losses = [loss(model, compress(model, plan(model, ratio=ratio))) for ratio in (3, 5, 8, 14)]
    assert losses == sorted(losses)
    assert losses[0] < 3e-3 < losses[-1]


def test_a_wide_budget_leaves_the_matrices_whole_at_the_most_bits() -> None:
    assert plan(speech_model(), ratio=0.5) == Recipe.of(QuantizeSettings(bits=8))


@pytest.mark.parametrize("ratio", [4, 6, 9, 14])
def test_no_setting_for_all_matrices_that_fits_loses_less(ratio: int) -> None:
    model = wide_model(64)
    budget = 4 * model.count_parameters() // ratio
    uniform = []
    for rank in (None, 0.5, 0.25, 0.125):
        thin = model if rank is None else factorize(model, FactorizeSettings(rank=rank)).model
        for bits in planning.BITS:
            small = quantize(thin, QuantizeSettings(bits=bits)).model
            if estimate_bytes(small) <= budget:
                uniform.append(loss(model, small))
    assert loss(model, compress(model, plan(model, ratio=ratio))) <= 1.02 * min(uniform)


def test_a_small_matrix_that_matters_keeps_more_bits() -> None:
    """Bytes go where they remove most error: 29 x 64 weights of the output cost little."""
    recipe = plan(wide_model(64), ratio=12)
    quantized = recipe.steps[-1].settings
    assert isinstance(quantized, QuantizeSettings)
    bits = {n: first_match(quantized.in_order(), n).bits for n, _ in wide_model(64).matrices()}
    assert bits["out.weight"] > bits["lstm.forward.weight_hh"]


def test_matrices_of_low_rank_are_factored() -> None:
    torch.manual_seed(0)
    model = wide_model(64).map_matrices(
        lambda _, matrix: Dense(torch.randn(matrix.shape[0], 3) @ torch.randn(3, matrix.shape[1]))
    )
    recipe = plan(model, ratio=10)
    factored = [step.settings.layers for step in recipe.steps if step.name == "factorize"]
    assert {"lstm.forward.weight_hh", "lstm.forward.weight_ih"} <= set(sum(factored, ()))
    assert loss(model, compress(model, recipe)) < 0.1


def test_the_ratio_counts_the_original_parameters() -> None:
    model = speech_model(64)
    pruned = compress(model, Recipe.of(PruneSettings(layers="lstm", keep=32)))
    assert plan(pruned, ratio=12) == plan(pruned, size=4 * model.count_parameters() // 12)


def test_the_same_model_gives_the_same_plan_and_stays_as_it_is() -> None:
    model = speech_model(48)
    before = {name: matrix.decode().clone() for name, matrix in model.matrices()}
    assert plan(model, ratio=9) == plan(model, ratio=9)
    assert all(torch.equal(m.decode(), before[name]) for name, m in model.matrices())


def test_progress_is_told_of_every_matrix() -> None:
    told: list[str] = []
    plan(speech_model(), ratio=4, progress=told.append)
    names = [name for name, _ in speech_model().matrices()]
    assert told[0] == "planning: how much each matrix matters"
    assert told[1 : len(names) + 1] == [f"planning: {name}" for name in names]
    assert set(told[len(names) + 1 :]) == {
        "planning: trying a recipe",
        "planning: listening to what it costs",
    }


def test_what_is_coded_already_is_left_as_it_is() -> None:
    model = quantize(speech_model(), QuantizeSettings(rules=(QuantizeRule(layers="lstm", bits=3),)))
    recipe = plan(model.model, ratio=4)
    small = compress(model.model, recipe)
    before, after = model.model.node("lstm").layer, small.node("lstm").layer
    assert torch.equal(before.forward.weight_hh.codes, after.forward.weight_hh.codes)


@pytest.mark.parametrize("wish", [{"ratio": 0}, {"ratio": -3}, {"size": 0}, {"ratio": math.nan}])
def test_a_budget_is_a_number_above_0(wish: dict[str, float]) -> None:
    with pytest.raises(RecipeError, match="expected a number above 0"):
        plan(speech_model(), **wish)  # type: ignore[arg-type]


def test_a_model_of_zeros_can_be_planned() -> None:
    zeros = speech_model().map_matrices(lambda _, matrix: Dense(torch.zeros(matrix.shape)))
    assert loss(zeros, compress(zeros, plan(zeros, ratio=4))) == 0


def test_an_impossible_budget_names_the_smallest_size_and_that_one_is_possible(
    tmp_path: Path,
) -> None:
    model = speech_model()
    with pytest.raises(RecipeError, match=r"no plan fits 23 bytes; the smallest") as caught:
        plan(model, ratio=1000)
    message = str(caught.value)
    found = re.search(r"is about (\d+) bytes, a ratio of ([\d.]+)$", message)
    assert found is not None, message
    smallest = int(found[1])
    assert float(found[2]) == pytest.approx(4 * model.count_parameters() / smallest, abs=0.05)
    size = packfile.save(compress(model, plan(model, size=smallest)), tmp_path / "m.tvx")
    assert size <= smallest
    with pytest.raises(RecipeError, match=rf"no plan fits {smallest - 1} bytes"):
        plan(model, size=smallest - 1)


@pytest.mark.parametrize("wish", [{}, {"ratio": 10.0, "size": 1000}])
def test_one_of_ratio_and_size_is_given(wish: dict[str, float]) -> None:
    with pytest.raises(RecipeError, match="a plan needs one of ratio and size"):
        plan(speech_model(), **wish)  # type: ignore[arg-type]


# The estimate.

SMALL = {
    "dense": (),
    "8 bits": (QuantizeSettings(bits=8),),
    "5 bits": (QuantizeSettings(bits=5),),
    "2 bits": (QuantizeSettings(bits=2, vectors="float32"),),
    "factored": (FactorizeSettings(rank=0.5), QuantizeSettings(bits=3)),
    "half coded": (QuantizeSettings(rules=(QuantizeRule(layers="lstm", bits=4),)),),
}


@pytest.mark.parametrize("steps", SMALL.values(), ids=SMALL)
def test_the_estimate_is_close_to_the_file_and_not_below_it(
    steps: tuple[QuantizeSettings, ...], tmp_path: Path
) -> None:
    card = SpeechCard(
        features=Features(coefficients=20), tokens=(*map(chr, range(65, 93)), ""), blank=28
    )
    model = wide_model(128).with_card(card).with_provenance(source="a model of noise")
    small = compress(model, Recipe.of(*steps)) if steps else model
    size = packfile.save(small, tmp_path / "m.tvx")
    assert size <= estimate_bytes(small) <= 1.05 * size

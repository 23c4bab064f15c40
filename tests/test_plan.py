"""A plan fits its budget in bytes on disk and loses least among the candidates."""

from __future__ import annotations

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
from tinyvox.plan import estimate_bytes, plan
from tinyvox.recipe import (
    FactorizeSettings,
    PruneSettings,
    QuantizeRule,
    QuantizeSettings,
    Recipe,
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
    """Squared error of the weights over their energy."""
    pairs = list(zip(model.matrices(), small.matrices(), strict=True))
    error = sum(
        float((a.decode() - b.decode()).double().square().sum()) for (_, a), (_, b) in pairs
    )
    return error / sum(float(a.decode().double().square().sum()) for (_, a), _ in pairs)


@pytest.fixture
def short_ladder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few candidates, so that a plan takes a moment."""
    monkeypatch.setattr(planning, "RANKS", (None, 0.5, 0.25, 0.125))
    monkeypatch.setattr(planning, "BITS", (8, 4, 2))


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


@pytest.mark.usefixtures("short_ladder")
def test_a_tighter_budget_never_loses_less() -> None:
    model = speech_model(64)
    losses = [loss(model, compress(model, plan(model, ratio=ratio))) for ratio in (3, 5, 8, 14)]
    assert losses == sorted(losses)
    assert losses[0] < 1e-3 < losses[-1]


def test_a_wide_budget_leaves_the_matrices_whole_at_the_most_bits() -> None:
    assert plan(speech_model(), ratio=0.5) == Recipe.of(QuantizeSettings(bits=8))


@pytest.mark.usefixtures("short_ladder")
def test_no_candidate_that_fits_loses_less() -> None:
    model = speech_model()
    made = []
    for rank in planning.RANKS:
        thin = model if rank is None else factorize(model, FactorizeSettings(rank=rank)).model
        for bits in planning.BITS:
            small = quantize(thin, QuantizeSettings(bits=bits)).model
            made.append((estimate_bytes(small), loss(model, small)))
    for ratio in (3, 4, 6, 9):
        found = loss(model, compress(model, plan(model, ratio=ratio)))
        budget = 4 * model.count_parameters() // ratio
        best = min(candidate_loss for size, candidate_loss in made if size <= budget)
        assert found == pytest.approx(best, rel=1e-6)


@pytest.mark.usefixtures("short_ladder")
def test_matrices_of_low_rank_are_factored() -> None:
    torch.manual_seed(0)
    model = wide_model(64).map_matrices(
        lambda _, matrix: Dense(torch.randn(matrix.shape[0], 3) @ torch.randn(3, matrix.shape[1]))
    )
    recipe = plan(model, ratio=10)
    assert [step.name for step in recipe.steps] == ["factorize", "quantize"]
    assert loss(model, compress(model, recipe)) < 0.03


@pytest.mark.usefixtures("short_ladder")
def test_the_ratio_counts_the_original_parameters() -> None:
    model = speech_model(64)
    pruned = compress(model, Recipe.of(PruneSettings(layers="lstm", keep=32)))
    assert plan(pruned, ratio=12) == plan(pruned, size=4 * model.count_parameters() // 12)


@pytest.mark.usefixtures("short_ladder")
def test_the_same_model_gives_the_same_plan_and_stays_as_it_is() -> None:
    model = speech_model(48)
    before = {name: matrix.decode().clone() for name, matrix in model.matrices()}
    assert plan(model, ratio=9) == plan(model, ratio=9)
    assert all(torch.equal(m.decode(), before[name]) for name, m in model.matrices())


@pytest.mark.usefixtures("short_ladder")
def test_progress_is_told_of_every_rank() -> None:
    told: list[str] = []
    plan(speech_model(), ratio=4, progress=told.append)
    assert told[0] == "planning: rank 1.0"
    assert told[1:] == [f"planning: rank {rank}" for rank in planning.RANKS[1 : len(told)]]


@pytest.mark.usefixtures("short_ladder")
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

"""Recipes applied to models, step by step."""

from __future__ import annotations

import pytest
import torch
from small_models import chain, deepspeech, linear, speech_model
from torch import Tensor

from tinyvox.errors import RecipeError
from tinyvox.model import Coded, Dense, Matrix, Model, Table, layers, leaves
from tinyvox.passes import PASSES, Note, apply, compress
from tinyvox.passes.lowrank import factorize
from tinyvox.passes.quantization import quantize, relative_error
from tinyvox.progress import Update
from tinyvox.recipe import (
    EqualizeSettings,
    FactorizeSettings,
    FinetuneSettings,
    PruneSettings,
    QuantizeRule,
    QuantizeSettings,
    Recipe,
)


def tensors(model: Model) -> dict[str, Tensor]:
    """Every number of a model, by the name of what holds it."""
    numbers = dict(model.vectors())
    for name, matrix in model.matrices():
        for i, leaf in enumerate(leaves(matrix)):
            if isinstance(leaf, Dense):
                numbers[f"{name} {i}"] = leaf.values
            else:
                numbers[f"{name} {i} codes"] = leaf.codes
                numbers[f"{name} {i} centroids"] = leaf.codebook.centroids
                numbers[f"{name} {i} scale"] = leaf.scale
    return numbers


SMALL = Recipe.of(
    PruneSettings(keep=0.5, multiple=1),
    FactorizeSettings(layers=["dense1", "lstm"], rank=0.25),
    QuantizeSettings(bits=4, rules=(QuantizeRule(layers="out", bits=8),)),
)


def test_a_recipe_takes_its_steps_one_after_the_other() -> None:
    model = deepspeech()
    by_hand, notes = model, []
    for step in SMALL.steps:
        by_hand, more = PASSES[step.name](by_hand, step.settings)
        notes += more
    told: list[Update] = []
    outcome = apply(model, SMALL, progress=told.append)
    assert told == [Update("compressing", done, 3) for done in range(4)]
    assert list(outcome.notes) == notes
    found, expected = tensors(outcome.model), tensors(by_hand)
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("again", [False, True])
def test_compressing_changes_nothing_that_it_was_given(again: bool) -> None:
    model = (
        compress(deepspeech(), Recipe.of(FactorizeSettings(rank=0.25))) if again else deepspeech()
    )
    kept = tensors(model)
    before = {name: value.clone() for name, value in kept.items()}
    provenance = dict(model.provenance)
    small = compress(model, SMALL)
    assert small.count_parameters() < model.count_parameters()
    after = tensors(model)
    assert list(after) == list(before)
    for name, value in before.items():
        assert after[name] is kept[name]
        assert torch.equal(after[name].view(torch.uint8), value.view(torch.uint8)), name
    assert model.provenance == provenance


def test_the_same_recipe_gives_the_same_numbers() -> None:
    one, other = (tensors(compress(deepspeech(), SMALL)) for _ in range(2))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_every_matrix_is_named_by_a_note_of_every_pass_that_sees_it() -> None:
    names = {name for name, _ in deepspeech().matrices()}
    for pass_, options in (
        (factorize, FactorizeSettings(layers="lstm", rank=2)),
        (quantize, QuantizeSettings(layers="lstm", bits=2)),
    ):
        noted = [note.layer for note in pass_(deepspeech(), options).notes]
        assert names <= set(noted)
        assert len(noted) == len(set(noted))


def test_provenance_holds_the_recipe_and_the_first_count_of_parameters() -> None:
    model = deepspeech()
    once = compress(model, SMALL)
    twice = compress(once, Recipe.of(PruneSettings(keep=4)))
    assert once.provenance["recipe"] == SMALL.document()
    assert twice.provenance["recipe"] == {"steps": [{"prune": {"keep": 4}}]}
    assert twice.original_parameters == once.original_parameters == model.count_parameters()


def test_a_pattern_that_matches_nothing_is_named_with_its_step() -> None:
    bad = {
        "prune": PruneSettings(layers="lstn", keep=0.5),
        "factorize": FactorizeSettings(layers=["lstm", "lstn"], rank=0.5),
        "quantize": QuantizeSettings(bits=4, rules=(QuantizeRule(layers="lstn", bits=8),)),
    }
    for name, options in bad.items():
        recipe = Recipe.of(QuantizeSettings(bits=8), options)
        with pytest.raises(RecipeError) as caught:
            apply(speech_model(), recipe)
        known = "dense1, lstm" if name == "prune" else "dense1.weight, lstm.forward.weight_ih, "
        message = f"step 2 of the recipe: {name}: 'lstn' matches nothing; there are: {known}"
        assert str(caught.value).startswith(message)
        assert "\n" not in str(caught.value)


def test_a_recipe_that_fine_tunes_is_refused_before_anything_is_done() -> None:
    recipe = Recipe.of(PruneSettings(keep=4), FinetuneSettings())
    told: list[Update] = []
    with pytest.raises(RecipeError, match="step 2 of the recipe fine-tunes; give --finetune"):
        apply(deepspeech(), recipe, progress=told.append)
    assert told == []


def test_fine_tuning_is_the_callers_and_what_it_moved_is_settled() -> None:
    seen: list[FinetuneSettings] = []

    def shuffle(model: Model, settings: FinetuneSettings) -> Model:
        seen.append(settings)
        return model.map_matrices(lambda _, m: turned(m)).with_tensors(
            {name: vector + 1e-5 for name, vector in model.vectors()}
        )

    def turned(matrix: Matrix) -> Matrix:
        assert isinstance(matrix, Coded)
        table = Table(-matrix.codebook.centroids)
        return Coded(matrix.codes, table, matrix.scale * 1.0001)

    tune = FinetuneSettings(steps=7)
    outcome = apply(deepspeech(), Recipe.of(QuantizeSettings(bits=4), tune), finetune=shuffle)
    assert seen == [tune]
    assert outcome.notes[-1] == Note("all layers", "fine-tuned for 7 steps")
    for name, matrix in outcome.model.matrices():
        assert isinstance(matrix, Coded)
        assert (matrix.codebook.centroids.diff() >= 0).all(), name
        assert torch.equal(matrix.scale, matrix.scale.half().float()), name
        assert relative_error(dict(deepspeech().matrices())[name], matrix) > 3
    for _, vector in outcome.model.vectors():
        assert torch.equal(vector, vector.half().float())


def test_errors_after_equalization_are_those_of_the_codes() -> None:
    """Not those of the scales that moved from one matrix to the next."""
    torch.manual_seed(0)
    model = chain(16, a=linear(64, 16), relu=layers.Activation("relu"), b=linear(8, 64))
    recipe = Recipe.of(EqualizeSettings(), QuantizeSettings(bits=8))
    errors = apply(model, recipe).model.provenance["errors"]
    assert set(errors) == {"a.weight", "b.weight"}
    assert max(errors.values()) < 1e-3

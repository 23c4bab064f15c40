"""Which matrices a rule of a recipe matches, and what recipes know of the methods."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from pydantic import ValidationError

from tinyvox.quantizers import LEAST_BITS, MOST_BITS, MOST_TRELLIS_BITS, QUANTIZERS
from tinyvox.recipe import (
    ENTROPY_CONSTRAINED,
    GRANULAR,
    WITH_PERCENTILE,
    FinetuneSettings,
    GradualPruning,
    Method,
    PruneSettings,
    QuantizeRule,
    QuantizeSettings,
    Recipe,
    first_match,
    load_recipe,
    matches,
    save_recipe,
    with_finetune,
)
from tinyvox.recipe import MOST_TRELLIS_BITS as MOST_OF_A_RULE

# Which names and which rule.


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("lstm", "lstm.forward.weight_hh", True),
        ("lstm", "lstm", True),
        ("lstm", "lstm2.forward.weight_hh", False),
        ("lstm", "my.lstm", False),
        ("lstm*", "lstm2.forward.weight_hh", True),
        ("lstm.forward", "lstm.forward.weight_hh", True),
        ("lstm.forward.weight_hh", "lstm.forward.weight_hh", True),
        ("lstm.forward.weight_hh", "lstm.forward.weight_ih", False),
        ("*.weight_hh", "lstm.forward.weight_hh", True),
        ("*_hh", "dense.weight", False),
        ("dense?", "dense1.weight", True),
        ("dense?", "dense12.weight", False),
        ("dense[13]", "dense3.weight", True),
        ("dense[!13]", "dense3.weight", False),
        ("LSTM", "lstm.forward.weight_hh", False),
        ("*", "anything.at.all", True),
    ],
)
def test_a_pattern_matches_a_name_or_the_layer_it_begins_with(
    pattern: str, name: str, expected: bool
) -> None:
    assert matches((pattern,), name) is expected
    assert matches(("nothing", pattern), name) is expected


def test_the_first_rule_that_matches_is_taken() -> None:
    exact = QuantizeRule(layers="lstm.forward.weight_hh", bits=8)
    layer = QuantizeRule(layers=("lstm", "out"), bits=4)
    rules = (exact, layer)
    assert first_match(rules, "lstm.forward.weight_hh") is exact
    assert first_match(rules, "lstm.forward.weight_ih") is layer
    assert first_match(rules, "out.weight") is layer
    assert first_match(rules, "dense.weight") is None
    assert first_match((), "dense.weight") is None


def test_the_steps_own_bits_are_the_last_rule() -> None:
    rule = QuantizeRule(layers="out", bits=8)
    own = QuantizeRule(layers=("lstm", "out"), bits=2)
    both = QuantizeSettings(layers=("lstm", "out"), bits=2, rules=(rule,))
    assert both.in_order() == (rule, own)
    assert QuantizeSettings(rules=(rule,)).in_order() == (rule,)


# Fine-tuning and quantization.

RULE = QuantizeRule(layers="out", bits=8)
QUANTIZE = QuantizeSettings(bits=3, rules=(RULE,))


def test_fine_tuning_follows_the_last_quantization_codes_first() -> None:
    prune, first = PruneSettings(keep=0.5), QuantizeSettings(bits=8)
    tune = FinetuneSettings(steps=9, learning_rate=3e-4)
    found = with_finetune(Recipe.of(prune, first, QUANTIZE), tune)
    moving = tune.model_copy(update={"quantize": (RULE, QuantizeRule(bits=3))})
    settling = FinetuneSettings(steps=3, learning_rate=3e-4 / 3)
    assert found == Recipe.of(prune, first, QUANTIZE, moving, settling)


def test_codes_of_a_trellis_stay_as_they_are() -> None:
    quantize = QuantizeSettings(rules=(RULE, QuantizeRule(method="trellis", bits=2)))
    tune = FinetuneSettings(steps=7)
    assert with_finetune(Recipe.of(quantize), tune) == Recipe.of(quantize, tune)


def test_units_are_pruned_before_the_codes_are_fixed() -> None:
    while_trained = GradualPruning(keep=0.5)
    tune = FinetuneSettings(steps=7, prune=while_trained)
    found = with_finetune(Recipe.of(QUANTIZE), tune)
    rules = (RULE, QuantizeRule(bits=3))
    first = FinetuneSettings(steps=7, prune=while_trained, quantize=rules)
    settling = FinetuneSettings(steps=2, learning_rate=1e-3 / 3)
    assert found == Recipe.of(first, QUANTIZE, settling)


def test_a_recipe_without_quantization_ends_in_fine_tuning() -> None:
    prune = PruneSettings(keep=0.5)
    assert with_finetune(Recipe.of(prune)) == Recipe.of(prune, FinetuneSettings())


def test_a_recipe_that_fine_tunes_is_left_as_it_is() -> None:
    recipe = Recipe.of(FinetuneSettings(steps=3), QUANTIZE)
    assert with_finetune(recipe, FinetuneSettings(steps=9)) is recipe


# What recipes know of the methods.


def test_recipes_know_the_methods_that_there_are_and_their_options() -> None:
    assert get_args(Method) == tuple(QUANTIZERS)
    assert {*ENTROPY_CONSTRAINED} == {
        name for name, method in QUANTIZERS.items() if method.entropy_constrained
    }
    for option, names in (("granularity", GRANULAR), ("percentile", WITH_PERCENTILE)):
        assert {*names} == {n for n, method in QUANTIZERS.items() if option in method.options}
    assert set().union(*(m.options for m in QUANTIZERS.values())) == {"granularity", "percentile"}


def test_recipes_know_the_bits_that_the_methods_take() -> None:
    assert MOST_OF_A_RULE == MOST_TRELLIS_BITS
    for bits in (LEAST_BITS, MOST_BITS):
        assert QuantizeRule(method="entropy", bits=bits).entropy_constrained
    with pytest.raises(ValidationError):
        QuantizeRule(method="entropy", bits=LEAST_BITS * 0.99)


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "trellis", "bits": 0.5},
        {"method": "symmetric", "bits": 4, "granularity": "tensor", "percentile": 99.9},
        {"method": "asymmetric", "bits": 4, "granularity": "row"},
        {"method": "omse", "bits": 4, "granularity": 32},
        {"bits": 4, "granularity": 32, "error_compensation": False, "unbiased": False},
    ],
)
def test_options_of_a_method_are_read_and_written(
    settings: dict[str, object], tmp_path: Path
) -> None:
    recipe = Recipe.of(QuantizeSettings(**settings))  # type: ignore[arg-type]
    save_recipe(recipe, tmp_path / "recipe.yaml")
    again = load_recipe(tmp_path / "recipe.yaml")
    assert again == recipe
    found = again.steps[0].settings
    assert isinstance(found, QuantizeSettings)
    assert found.in_order() == (QuantizeRule(**settings),)  # type: ignore[arg-type]

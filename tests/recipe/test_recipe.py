"""Recipes: the YAML that is read, the one line for what cannot be, and which rule holds."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import ROOT
from pydantic import ValidationError
from recipe_strategies import bits, patterns, rules

from tinyvox.errors import FileError, RecipeError
from tinyvox.recipe import (
    EqualizeSettings,
    FactorizeSettings,
    FinetuneSettings,
    GradualPruning,
    PruneSettings,
    QuantizeRule,
    QuantizeSettings,
    Recipe,
    Settings,
    SparsifySettings,
    load_recipe,
    save_recipe,
)

GOOD = """
steps:
  - prune: {layers: lstm, keep: 0.5}
  - equalize:
  - equalize: {layers: dense1, absorb: false}
  - factorize: {rank: 0.25}
  - factorize: {layers: [dense*, out], energy: 0.9}
  - sparsify: {layers: lstm, fraction: 0.5, saliency: magnitude}
  - sparsify: {budget: 0.25}
  - finetune: {steps: 2000, quantize: [{bits: 4}]}
  - finetune: {prune: {layers: lstm, keep: 0.5, start: 0.0, stop: 300, importance: taylor}}
  - quantize:
      bits: 4
      vectors: float32
      rules:
        - {layers: out, bits: 8}
  - finetune:
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


# Reading.


def test_every_kind_of_step_is_read(tmp_path: Path) -> None:
    assert load_recipe(write(tmp_path, GOOD)) == Recipe.of(
        PruneSettings(layers=("lstm",), keep=0.5, multiple=16),
        EqualizeSettings(),
        EqualizeSettings(layers=("dense1",), absorb=False),
        FactorizeSettings(layers=("*",), rank=0.25),
        FactorizeSettings(layers=("dense*", "out"), energy=0.9),
        SparsifySettings(layers=("lstm",), fraction=0.5, saliency="magnitude"),
        SparsifySettings(budget=0.25),
        FinetuneSettings(steps=2000, quantize=(QuantizeRule(bits=4),)),
        FinetuneSettings(
            prune=GradualPruning(
                layers=("lstm",), keep=0.5, start=0.0, stop=300, importance="taylor"
            )
        ),
        QuantizeSettings(bits=4, vectors="float32", rules=(QuantizeRule(layers=("out",), bits=8),)),
        FinetuneSettings(),
    )


def test_steps_know_their_names_and_settings() -> None:
    recipe = Recipe.of(PruneSettings(keep=3), FinetuneSettings())
    assert [step.name for step in recipe.steps] == ["prune", "finetune"]
    assert recipe.steps[0].settings == PruneSettings(keep=3)


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda p: p.stem)
def test_the_recipes_that_are_shipped_are_read(path: Path) -> None:
    assert load_recipe(path).steps


def test_a_recipe_is_read_as_it_was_written(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, GOOD))
    save_recipe(recipe, tmp_path / "again.yaml")
    assert load_recipe(tmp_path / "again.yaml") == recipe
    assert Recipe.model_validate(recipe.document()) == recipe


def test_the_document_leaves_defaults_out() -> None:
    recipe = Recipe.of(PruneSettings(layers="lstm", keep=1.0, multiple=16), FinetuneSettings())
    assert recipe.document() == {
        "steps": [{"prune": {"layers": ["lstm"], "keep": 1.0}}, {"finetune": {}}]
    }


shares = st.integers(1, 500) | st.floats(0.001, 1.0)
any_settings = st.one_of(
    st.builds(PruneSettings, layers=patterns, keep=shares, multiple=st.integers(1, 64)),
    st.builds(PruneSettings, budget=shares, importance=st.sampled_from(["norm", "random"])),
    st.builds(EqualizeSettings, layers=patterns, absorb=st.booleans()),
    st.builds(FactorizeSettings, layers=patterns, rank=shares),
    st.builds(FactorizeSettings, energy=st.floats(0.01, 1)),
    st.builds(SparsifySettings, layers=patterns, fraction=st.floats(0.01, 0.99)),
    st.builds(SparsifySettings, budget=shares),
    st.builds(QuantizeSettings, layers=patterns, bits=bits, rules=st.lists(rules, max_size=2)),
    st.builds(QuantizeSettings, rules=st.lists(rules, min_size=1, max_size=2)),
    st.builds(FinetuneSettings, steps=st.integers(1, 9), quantize=st.lists(rules, max_size=2)),
)


@settings(max_examples=40, deadline=None)
@given(steps=st.lists(any_settings, min_size=1, max_size=3))
def test_any_recipe_comes_back(
    steps: list[Settings], tmp_path_factory: pytest.TempPathFactory
) -> None:
    recipe = Recipe.of(*steps)
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    save_recipe(recipe, path)
    again = load_recipe(path)
    assert again == recipe
    kinds = [type(getattr(step.settings, "keep", None)) for step in again.steps]
    assert kinds == [type(getattr(step.settings, "keep", None)) for step in recipe.steps]


# What is refused.

STEPS = "expected one of prune, equalize, factorize, sparsify, quantize, finetune"
BITS = "expected a number from 1 to 8 (from 0.05 for entropy and trellis)"
SHARE = "expected a fraction above 0 and up to 1.0, or a whole number from 1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "found None, expected a valid dictionary"),
        ("[]", "found [], expected a valid dictionary"),
        ("{}", "steps: is missing; found {}"),
        ("steps: []", "steps: found [], "),
        ("steps: 3", "steps: found 3, "),
        ("steps: [{finetune: }]\nstep: 1", "found the unknown key 'step', expected one of steps"),
        ("steps: [{squeeze: {}}]", f"step 1: found the unknown key 'squeeze', {STEPS}"),
        ("steps: [prune]", f"step 1: found 'prune', {STEPS}"),
        ("steps: [{}]", f"step 1: found {{}}, {STEPS}"),
        ("steps: [{finetune: }, {finetune: , quantize: {bits: 3}}]", "step 2: found {'finetune'"),
    ],
)
def test_what_is_no_list_of_steps_is_refused(text: str, message: str, tmp_path: Path) -> None:
    check_refused(text, message, tmp_path)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ("prune: {}", "prune: found {}, expected one of keep and budget"),
        ("prune: {keep: 0.5, budget: 0.5}", "expected one of keep and budget"),
        ("prune: {budget: 1.5}", f"prune.budget: found 1.5, {SHARE}"),
        ("prune: {keep: 3, importance: size}", "prune.importance: found 'size', expected 'norm', "),
        ("prune: {keep: 3, refit: maybe}", "prune.refit: found 'maybe', expected a valid boolean"),
        ("prune: {keep: 0}", f"prune.keep: found 0, {SHARE}"),
        ("prune: {keep: 1.5}", f"prune.keep: found 1.5, {SHARE}"),
        ("prune: {keep: -0.5}", f"prune.keep: found -0.5, {SHARE}"),
        ("prune: {keep: .nan}", f"prune.keep: found nan, {SHARE}"),
        ("prune: {keep: true}", f"prune.keep: found True, {SHARE}"),
        ("prune: {keep: half}", f"prune.keep: found 'half', {SHARE}"),
        ("prune: {keep: 0.5, multiple: 0}", "prune.multiple: found 0, expected greater than"),
        ("prune: {keep: 0.5, layers: []}", "prune.layers: found [], "),
        ("prune: {keep: 0.5, layers: 3}", "prune.layers: found 3, "),
        ("prune: {keep: 0.5, layers: [a, 3]}", "prune.layers.2: found 3, expected a valid string"),
        ("equalize: {layers: []}", "equalize.layers: found [], "),
        ("equalize: {absorb: maybe}", "equalize.absorb: found 'maybe', expected a valid boolean"),
        ("factorize: ", "factorize: found {}, expected one of rank and energy"),
        ("factorize: {rank: 1, energy: 1}", "expected one of rank and energy"),
        ("factorize: {rank: 0.0}", f"factorize.rank: found 0.0, {SHARE}"),
        ("factorize: {energy: 0}", "factorize.energy: found 0, expected greater than 0"),
        ("factorize: {energy: 1.1}", "factorize.energy: found 1.1, expected less than or equal"),
        ("sparsify: ", "sparsify: found {}, expected one of fraction and budget"),
        ("sparsify: {fraction: 0.5, budget: 0.5}", "expected one of fraction and budget"),
        ("sparsify: {fraction: 1.0}", "sparsify.fraction: found 1.0, expected less than 1"),
        ("sparsify: {fraction: 0}", "sparsify.fraction: found 0, expected greater than 0"),
        ("sparsify: {fraction: .nan}", "sparsify.fraction: found nan, expected a finite number"),
        ("sparsify: {budget: 0}", f"sparsify.budget: found 0, {SHARE}"),
        ("sparsify: {budget: 1.5}", f"sparsify.budget: found 1.5, {SHARE}"),
        (
            "sparsify: {budget: 9, saliency: size}",
            "sparsify.saliency: found 'size', expected 'magnitude' or 'second_order'",
        ),
        (
            "sparsify: {keep: 0.5}",
            "sparsify: found the unknown key 'keep', expected one of layers, fraction, budget, sal",
        ),
        ("quantize: {}", "quantize: found {}, expected bits, or rules, or both"),
        ("quantize: {bits: 9}", f"quantize.bits: found 9, {BITS}"),
        ("quantize: {bits: 0}", f"quantize.bits: found 0, {BITS}"),
        ("quantize: {bits: true}", f"quantize.bits: found True, {BITS}"),
        ("quantize: {bits: 0.04, method: entropy}", f"quantize.bits: found 0.04, {BITS}"),
        ("quantize: {bits: .nan, method: entropy}", f"quantize.bits: found nan, {BITS}"),
        ("quantize: {bits: 3.5}", "bits of kmeans are whole, from 1 to 8, found 3.5"),
        ("quantize: {bits: 2.0, method: omse}", "bits of omse are whole, from 1 to 8, found 2.0"),
        ("quantize: {bits: 6, method: trellis}", "at most 5 bits, found 6; expected entropy"),
        (
            "quantize: {bits: 3, method: magic}",
            "quantize.method: found 'magic', expected 'symmetric', 'asymmetric', 'omse', 'kmeans'",
        ),
        ("quantize: {bits: 3, granularity: 0}", "quantize.granularity."),
        ("quantize: {bits: 3, granularity: 1.5}", "quantize.granularity."),
        ("quantize: {bits: 3, granularity: column}", "quantize.granularity."),
        (
            "quantize: {bits: 3, granularity: row}",
            "k-means has one table, or one for so many rows, expected a number",
        ),
        (
            "quantize: {bits: 3, method: greedy, granularity: row}",
            "granularity goes with symmetric, asymmetric, omse, kmeans, not greedy",
        ),
        ("quantize: {bits: 3, percentile: 99}", "percentile goes with symmetric and asymmetric"),
        (
            "quantize: {bits: 3, method: symmetric, percentile: 0}",
            "quantize.percentile: found 0, expected greater than 0",
        ),
        (
            "quantize: {bits: 3, method: symmetric, percentile: 101}",
            "quantize.percentile: found 101, expected less than or equal to 100",
        ),
        (
            "finetune: {quantize: [{bits: 2, method: trellis}]}",
            "codes of a trellis cannot change one by one, expected entropy",
        ),
        (
            "quantize: {bits: 3, vectors: int8}",
            "quantize.vectors: found 'int8', expected 'float16'",
        ),
        ("quantize: {layers: a, rules: [{bits: 3}]}", "layers go with bits; expected bits"),
        (
            "quantize: {method: omse, unbiased: false, rules: [{bits: 3}]}",
            "method and unbiased go with bits; expected bits",
        ),
        ("quantize: {rules: [{bits: 4}, {bits: 0}]}", "quantize.rules.2.bits: found 0, expected"),
        ("finetune: {steps: 0}", "finetune.steps: found 0, expected greater than or equal to 1"),
        ("finetune: {learning_rate: 0}", "finetune.learning_rate: found 0, expected greater"),
        ("finetune: {ctc: -1}", "finetune.ctc: found -1, expected greater than or equal to 0"),
        ("finetune: {distill: x}", "finetune.distill: found 'x', expected a valid number"),
        ("finetune: {batch_seconds: 0}", "finetune.batch_seconds: found 0, expected greater"),
        ("finetune: {prune: {start: 0.5}}", "finetune.prune: found {'start': 0.5}, expected keep"),
        (
            "finetune: {prune: {keep: 1, stop: 1.5}}",
            "finetune.prune.stop: found 1.5, expected a fraction from 0.0 to 1.0 of the steps, or",
        ),
        (
            "finetune: {prune: {keep: 1, start: 9, stop: 9}}",
            "start is 9, expected less than stop, 9",
        ),
        (
            "finetune: {prune: {keep: 1, importance: size}}",
            "finetune.prune.importance: found 'size', expected 'norm' or 'taylor'",
        ),
        (
            "finetune: {prune: {lasso: 1, threshold: 1}}",
            "finetune.prune.threshold: found 1, expected less than 1",
        ),
    ],
)
def test_a_bad_setting_is_named_by_step_and_key(step: str, message: str, tmp_path: Path) -> None:
    text = f"steps:\n  - quantize: {{bits: 3}}\n  - {step}"
    check_refused(text, message, tmp_path, "step 2, ")


@pytest.mark.parametrize(
    ("step", "place", "known"),
    [
        ("prune: {keep: 0.5, x: 1}", "prune", "layers, keep, budget, multiple, importance, refit"),
        ("equalize: {x: 1}", "equalize", "layers, absorb"),
        ("factorize: {rank: 1, x: 1}", "factorize", "layers, rank, energy"),
        ("quantize: {bits: 3, x: 1}", "quantize", "layers, method, bits, granularity"),
        ("quantize: {rules: [{bits: 3, x: 1}]}", "quantize.rules.1", "layers, method, bits"),
        ("finetune: {quantize: [{bits: 3, x: 1}]}", "finetune.quantize.1", "layers, method, bits"),
        (
            "finetune: {prune: {keep: 1, x: 1}}",
            "finetune.prune",
            "layers, keep, start, stop, every, importance, lasso, threshold, multiple",
        ),
        (
            "finetune: {x: 1}",
            "finetune",
            "steps, learning_rate, ctc, distill, batch_seconds, channel_shift, seed",
        ),
    ],
)
def test_an_unknown_key_is_named_with_those_that_there_are(
    step: str, place: str, known: str, tmp_path: Path
) -> None:
    message = f"step 1, {place}: found the unknown key 'x', expected one of {known}"
    check_refused(f"steps:\n  - {step}", message, tmp_path)


@pytest.mark.parametrize(
    "text",
    ["steps: [", "steps: [}", "a: b: c", "x: !!python/object:os.system {}", "a: 1\n---\nb: 1"],
)
def test_what_is_no_yaml_is_refused(text: str, tmp_path: Path) -> None:
    check_refused(text, "no YAML: ", tmp_path)


def check_refused(text: str, message: str, folder: Path, place: str = "") -> None:
    path = write(folder, text)
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    found = str(caught.value)
    assert found.startswith(f"{path}: {place}")
    assert message in found
    assert "\n" not in found


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_bytes(b"steps: \xff")
    with pytest.raises(
        RecipeError, match=r"recipe\.yaml: line 1 has the byte 0xff, which is no UTF-8"
    ):
        load_recipe(tmp_path / "recipe.yaml")


def test_a_file_that_cannot_be_read_is_a_file_error(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"none\.yaml: cannot be read: No such file"):
        load_recipe(tmp_path / "none.yaml")
    with pytest.raises(FileError, match="cannot be read: Is a directory"):
        load_recipe(tmp_path)


def test_long_values_are_cut_short(tmp_path: Path) -> None:
    path = write(tmp_path, f"steps: [{{prune: {{keep: {'x' * 500}}}}}]")
    with pytest.raises(RecipeError, match=r"found 'x+\.\.\., expected") as caught:
        load_recipe(path)
    assert len(str(caught.value)) < len(str(path)) + 250


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        PruneSettings(keep=0.5).keep = 1  # type: ignore[misc]

"""Each pass against what it promises: dead units, Eckart and Young's error, codes with a note."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import chain, deepspeech, dense, linear, speech_model, what
from torch import Tensor

from tinyvox.errors import RecipeError
from tinyvox.executor import Executor
from tinyvox.model import Coded, Dense, Matrix, Model, Product, Table, layers, leaves
from tinyvox.passes import PASSES, Note, apply, compress
from tinyvox.passes.lowrank import factorize
from tinyvox.passes.quantization import finalize, quantize, relative_error
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


def run(model: Model, x: Tensor) -> Tensor:
    with torch.no_grad():
        return Executor(model)(x)


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


def weight(model: Model, name: str = "out") -> Matrix:
    return dict(model.matrices())[f"{name}.weight"]


# Factorization.


def test_a_factored_matrix_is_the_best_of_its_rank() -> None:
    model = deepspeech()
    outcome = factorize(model, FactorizeSettings(layers="lstm", rank=7))
    new = dict(outcome.model.matrices())
    for name, matrix in model.matrices():
        if not name.startswith("lstm"):
            assert new[name] is matrix
            continue
        found = new[name]
        assert isinstance(found, Product)
        assert found.rank == 7
        u, s, v = torch.linalg.svd(matrix.decode().double(), full_matrices=False)
        best = (u[:, :7] * s[:7]) @ v[:7]
        torch.testing.assert_close(found.decode().double(), best, rtol=1e-4, atol=1e-5)
        error = (found.decode() - matrix.decode()).double().square().sum()
        torch.testing.assert_close(error, s[7:].square().sum(), rtol=1e-4, atol=0)
        assert what(outcome, name).startswith(f"rank 7 of {len(s)}, relative squared error ")
        said = float(what(outcome, name).split()[-1])
        assert said == pytest.approx(float(error / s.square().sum()), rel=5e-3)


@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(2, 24),
    columns=st.integers(2, 24),
    rank=st.integers(1, 12),
    seed=st.integers(0, 99),
)
def test_the_error_is_that_of_eckart_and_young(
    rows: int, columns: int, rank: int, seed: int
) -> None:
    torch.manual_seed(seed)
    model = chain(columns, out=linear(rows, columns))
    outcome = factorize(model, FactorizeSettings(rank=rank))
    before, after = weight(model), weight(outcome.model)
    rank = min(rank, rows, columns)
    if rank * (rows + columns) >= rows * columns:
        assert after is before
        assert what(outcome, "out.weight").startswith(f"left alone: at rank {rank} the factors")
        return
    singular = torch.linalg.svdvals(before.decode().double()).square()
    expected = float(singular[rank:].sum() / singular.sum())
    assert relative_error(before, after) == pytest.approx(expected, rel=1e-3, abs=1e-9)


def test_both_factors_are_of_one_size() -> None:
    model = chain(40, out=linear(60, 40))
    product = weight(factorize(model, FactorizeSettings(rank=8)).model)
    assert isinstance(product, Product)
    left, right = product.left.decode(), product.right.decode()
    torch.testing.assert_close(left.norm(dim=0), right.norm(dim=1), rtol=1e-4, atol=1e-5)


def test_a_matrix_that_would_not_shrink_is_left_alone_and_named() -> None:
    torch.manual_seed(0)
    model = chain(20, a=linear(20, 20), b=linear(30, 20))
    outcome = factorize(model, FactorizeSettings(rank=10))
    assert weight(outcome.model, "a") is weight(model, "a")
    assert what(outcome, "a.weight") == (
        "left alone: at rank 10 the factors hold 400 weights, the matrix 400"
    )
    assert isinstance(weight(outcome.model, "b"), Product)
    by_energy = factorize(model, FactorizeSettings(layers="a", energy=1.0))
    assert weight(by_energy.model, "a") is weight(model, "a")
    assert what(by_energy, "a.weight").startswith("left alone: at rank 20 the factors hold 800")
    assert what(by_energy, "b.weight") == "left alone: no pattern matches it"


@pytest.mark.parametrize(("rank", "expected"), [(0.25, 5), (0.01, 1), (3, 3), (0.125, 2)])
def test_rank_is_a_fraction_of_the_full_rank_or_a_count(rank: float, expected: int) -> None:
    model = chain(40, out=linear(20, 40))
    product = weight(factorize(model, FactorizeSettings(rank=rank)).model)
    assert isinstance(product, Product)
    assert product.rank == expected


def low_rank(rows: int, columns: int, singular: list[float]) -> Dense:
    left, right = (torch.linalg.qr(torch.randn(n, len(singular)))[0] for n in (rows, columns))
    return Dense((left * torch.tensor(singular)) @ right.T)


@pytest.mark.parametrize(("energy", "rank"), [(0.5, 1), (0.64, 1), (0.65, 2), (0.95, 2), (0.99, 3)])
def test_energy_takes_the_smallest_rank_that_keeps_it(energy: float, rank: int) -> None:
    torch.manual_seed(0)
    singular = [0.801, 0.571, 0.18]  # squared: 0.6416, 0.3260, 0.0324
    model = chain(30, out=layers.Linear(low_rank(20, 30, singular)))
    product = weight(factorize(model, FactorizeSettings(energy=energy)).model)
    assert isinstance(product, Product)
    assert product.rank == rank


def test_factorization_names_what_is_factored_or_coded_already() -> None:
    coded = quantize(chain(40, a=linear(30, 40)), QuantizeSettings(bits=4)).model
    model = chain(40, a=coded.node("a").layer, b=layers.Linear(Product(dense(20, 3), dense(3, 30))))
    outcome = factorize(model, FactorizeSettings(rank=2))
    assert [matrix for _, matrix in outcome.model.matrices()] == [m for _, m in model.matrices()]
    assert what(outcome, "a.weight") == (
        "left alone: it is coded already; factorize before you quantize"
    )
    assert what(outcome, "b.weight") == "left alone: it is a product of rank 3 already"


def test_a_matrix_of_zeros_is_factored_without_error() -> None:
    model = chain(30, out=layers.Linear(Dense(torch.zeros(20, 30))))
    outcome = factorize(model, FactorizeSettings(energy=0.9))
    assert torch.equal(weight(outcome.model).decode(), torch.zeros(20, 30))
    assert what(outcome, "out.weight") == "rank 1 of 20, relative squared error 0"


# Quantization.


@pytest.mark.parametrize(("bits", "bound"), [(2, 0.13), (4, 0.012), (8, 1e-4)])
def test_every_matrix_is_coded_with_an_error_below_that_of_a_gaussian(
    bits: int, bound: float
) -> None:
    model = deepspeech()
    outcome = quantize(model, QuantizeSettings(bits=bits))
    new = dict(outcome.model.matrices())
    assert set(new) == {note.layer for note in outcome.notes} - {"vectors"}
    for name, before in model.matrices():
        after = new[name]
        assert isinstance(after, Coded)
        assert after.bits <= bits
        error = relative_error(before, after)
        assert error < bound
        assert what(outcome, name) == (f"{bits} bits (kmeans), relative squared error {error:.3g}")


def test_the_first_rule_that_matches_a_matrix_decides() -> None:
    rules = (
        QuantizeRule(layers="lstm.forward.weight_ih", bits=5),
        QuantizeRule(layers=["lstm", "out"], bits=3),
    )
    model = quantize(deepspeech(), QuantizeSettings(bits=2, rules=rules)).model
    assert {name: matrix.bits for name, matrix in model.matrices()} == {
        "dense1.weight": 2,
        "lstm.forward.weight_ih": 5,
        "lstm.forward.weight_hh": 3,
        "dense2.weight": 2,
        "out.weight": 3,
    }


def test_a_matrix_without_a_rule_stays_float_and_is_named() -> None:
    model = deepspeech()
    outcome = quantize(model, QuantizeSettings(rules=(QuantizeRule(layers="lstm", bits=4),)))
    for name in ("dense1.weight", "dense2.weight", "out.weight"):
        assert dict(outcome.model.matrices())[name] is dict(model.matrices())[name]
        assert what(outcome, name) == "left alone: no rule matches it, it stays float32"


def test_both_factors_of_a_product_are_coded() -> None:
    model = chain(40, out=layers.Linear(Product(dense(30, 8), dense(8, 40))))
    product = weight(quantize(model, QuantizeSettings(bits=6)).model)
    assert isinstance(product, Product)
    assert isinstance(product.left, Coded)
    assert isinstance(product.right, Coded)
    assert relative_error(weight(model), product) < 0.01


def test_a_factor_that_is_coded_keeps_its_codes() -> None:
    table = Table(torch.tensor([-1.0, 1.0]))
    left = Coded(torch.randint(0, 2, (30, 8), dtype=torch.uint8), table, torch.ones(30))
    model = chain(40, out=layers.Linear(Product(left, dense(8, 40))))
    product = weight(quantize(model, QuantizeSettings(bits=6)).model)
    assert isinstance(product, Product)
    assert product.left is left
    assert isinstance(product.right, Coded)


def test_what_is_coded_already_is_left_alone_and_named() -> None:
    model = quantize(deepspeech(), QuantizeSettings(bits=4)).model
    outcome = quantize(model, QuantizeSettings(bits=2))
    assert [m for _, m in outcome.model.matrices()] == [m for _, m in model.matrices()]
    for name, _ in model.matrices():
        assert what(outcome, name) == "left alone: it is coded already"


def test_vectors_are_rounded_to_float16_or_left() -> None:
    model = deepspeech()
    rounded = quantize(model, QuantizeSettings(bits=4))
    assert what(rounded, "vectors") == f"{len(list(model.vectors()))} rounded to float16"
    for (_, before), (_, after) in zip(model.vectors(), rounded.model.vectors(), strict=True):
        assert torch.equal(after, before.half().float())
        assert not torch.equal(after, before)
    left = quantize(model, QuantizeSettings(bits=4, vectors="float32"))
    assert what(left, "vectors") == "left alone: float32 was asked for"
    for (_, before), (_, after) in zip(model.vectors(), left.model.vectors(), strict=True):
        assert torch.equal(after, before)


def test_vectors_that_float16_cannot_hold_are_left_alone_and_named() -> None:
    norm = layers.BatchNorm(*(torch.full((6,), value) for value in (0.1, 1e-6, 0.1, 1e5)))
    outcome = quantize(chain(5, a=linear(6, 5), norm=norm), QuantizeSettings(bits=4))
    new = dict(outcome.model.vectors())
    assert new["norm.variance"] is norm.variance
    assert new["norm.bias"] is norm.bias
    assert torch.equal(new["norm.mean"], norm.mean.half().float())
    assert what(outcome, "norm.bias") == ("left alone: float16 cannot hold its largest value")
    assert what(outcome, "norm.variance") == ("left alone: float16 would lose its smallest value")
    assert what(outcome, "vectors") == "3 rounded to float16"


def test_settling_sorts_the_centroids_and_decodes_to_the_same() -> None:
    codes = torch.randint(0, 4, (6, 5), dtype=torch.uint8)
    scale = torch.rand(6).half().float()
    moved = Coded(codes, Table(torch.tensor([0.3, -0.2, 0.9, -0.7])), scale)
    model = chain(5, out=layers.Linear(Product(moved, dense(5, 5)), torch.rand(6)))
    finalized = finalize(model, "float16")
    product = weight(finalized)
    assert isinstance(product, Product)
    assert isinstance(product.left, Coded)
    centroids = torch.tensor([-0.7, -0.2, 0.3, 0.9])  # they lie on a grid: 0.9 / 27
    torch.testing.assert_close(product.left.codebook.centroids, centroids)
    torch.testing.assert_close(product.left.decode(), moved.decode())
    assert torch.equal(
        dict(finalized.vectors())["out.bias"], dict(model.vectors())["out.bias"].half().float()
    )


# Recipes.

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

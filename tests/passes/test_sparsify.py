"""Single weights set to zero: how many and which, and what the others make up for."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from small_models import chain, dense, linear, speech_model, what
from torch import Tensor

from tinyvox.calibration import Moments, energy
from tinyvox.errors import RecipeError
from tinyvox.model import Coded, Dense, Model, Product, Table, layers, leaves
from tinyvox.passes import Note, Weighting, apply
from tinyvox.passes.lowrank import factorize
from tinyvox.passes.pruning import lowest, refit, sparsify, zeroed
from tinyvox.passes.quantization import quantize
from tinyvox.recipe import FactorizeSettings, QuantizeSettings, Recipe, SparsifySettings


def correlated(size: int, seed: int = 0) -> Tensor:
    """The second moment of inputs that go together, float64 [size, size]."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(size, size // 2 + 1, generator=generator, dtype=torch.float64)
    return mix @ mix.T + 0.1 * torch.eye(size, dtype=torch.float64)


def centered(second: Tensor) -> Moments:
    return Moments(second, torch.zeros(len(second), dtype=torch.float64))


def known(model: Model) -> dict[str, Moments]:
    return {
        name: centered(correlated(matrix.shape[1], seed))
        for seed, (name, matrix) in enumerate(model.matrices())
    }


def loss(values: Tensor, other: Tensor, second_moment: Tensor) -> float:
    return energy(values - other, second_moment)


def zeros(model: Model) -> dict[str, int]:
    return {name: int((matrix.decode() == 0).sum()) for name, matrix in model.matrices()}


def least_squares(values: Tensor, kept: Tensor, second_moment: Tensor) -> Tensor:
    """The best values for these places, row by row."""
    best = torch.zeros_like(values, dtype=torch.float64)
    for row, places in enumerate(kept):
        at = places.nonzero().flatten()
        wanted = (second_moment @ values[row].double())[at]
        best[row, at] = torch.linalg.solve(second_moment[at][:, at], wanted)
    return best.float()


# How many.


@pytest.mark.parametrize("fraction", [0.01, 0.5, 0.9])
@pytest.mark.parametrize("kind", ["magnitude", "second_order"])
@pytest.mark.parametrize("evident", [False, True])
def test_a_fraction_of_each_matrix_is_zero(fraction: float, kind: str, evident: bool) -> None:
    model = speech_model()
    settings = SparsifySettings(fraction=fraction, saliency=kind)  # type: ignore[arg-type]
    outcome = sparsify(model, settings, known(model) if evident else {})
    for name, matrix in model.matrices():
        count = matrix.shape[0] * matrix.shape[1]
        assert zeros(outcome.model)[name] == round(fraction * count)
        start = f"{round(fraction * count)} of {count} weights are zero ("
        assert what(outcome, name).startswith(start)


@pytest.mark.parametrize(("budget", "kept"), [(1000, 1000), (0.25, None), (1, 1)])
@pytest.mark.parametrize("evident", [False, True])
def test_a_budget_is_kept_over_all_matrices(
    budget: int | float, kept: int | None, evident: bool
) -> None:
    model = speech_model()
    total = sum(matrix.shape[0] * matrix.shape[1] for _, matrix in model.matrices())
    outcome = sparsify(model, SparsifySettings(budget=budget), known(model) if evident else {})
    expected = round(budget * total) if kept is None else kept
    assert total - sum(zeros(outcome.model).values()) == expected


@pytest.mark.parametrize("budget", [1.0, 10**6])
def test_a_budget_for_all_weights_changes_nothing(budget: float) -> None:
    model = speech_model()
    outcome = sparsify(model, SparsifySettings(budget=budget))
    for name, matrix in model.matrices():
        assert dict(outcome.model.matrices())[name] is matrix
        assert what(outcome, name).startswith("left alone: 0 zeros were asked for, 0 of its ")


def test_a_budget_counts_the_matrices_that_match() -> None:
    outcome = sparsify(speech_model(), SparsifySettings(layers="lstm", budget=100))
    gone, sizes = (
        zeros(outcome.model),
        {"lstm.forward.weight_ih": 3072, "lstm.forward.weight_hh": 2304},
    )
    assert sum(size - gone[name] for name, size in sizes.items()) == 100
    assert zeros(outcome.model)["out.weight"] == 0
    assert what(outcome, "out.weight") == "left alone: no pattern matches it"


def test_a_budget_ranks_losses_by_their_share_of_the_matrix() -> None:
    """Each matrix's squares over their sum, whatever its scale, put in one order."""
    torch.manual_seed(0)
    first, second = torch.randn(6, 5), 100 * torch.rand(4, 6)
    model = chain(5, a=layers.Linear(Dense(first)), b=layers.Linear(Dense(second)))
    outcome = sparsify(model, SparsifySettings(budget=17))
    shares = [(values / values.norm()).square() for values in (first, second)]
    least = torch.cat([share.flatten() for share in shares]).sort(descending=True).values[16]
    found = dict(outcome.model.matrices())
    assert torch.equal(found["a.weight"].decode(), first * (shares[0] >= least))
    assert torch.equal(found["b.weight"].decode(), second * (shares[1] >= least))


def test_a_budget_goes_where_inputs_make_up_for_zeros() -> None:
    """Of two equal matrices, that whose inputs go together gives more weights away: about as many
    as the best split of all, tried out."""
    torch.manual_seed(0)
    layer = linear(20, 20)
    same = layers.Linear(Dense(layer.weight.decode().clone()), layer.bias)
    model = chain(20, alone=layer, together=same)
    statistics = {
        "alone.weight": replace(centered(torch.eye(20, dtype=torch.float64)), damping=0.3),
        "together.weight": replace(centered(correlated(20)), damping=0.3),
    }
    gone = zeros(sparsify(model, SparsifySettings(budget=0.5), statistics).model)
    assert sum(gone.values()) == 400
    assert gone["together.weight"] > gone["alone.weight"]
    values = layer.weight.decode()
    alone, together = (moments.damped for moments in statistics.values())

    def lost(count: int, second_moment: Tensor) -> float:
        return loss(
            values, zeroed(values, count, Weighting(second_moment)), second_moment
        ) / energy(values, second_moment)

    best = min(lost(400 - count, alone) + lost(count, together) for count in range(160, 281, 20))
    assert lost(gone["alone.weight"], alone) + lost(gone["together.weight"], together) < 1.06 * best


@pytest.mark.parametrize("kept", [0.5, 0.2])
def test_a_budget_loses_less_than_the_same_fraction_everywhere(kept: float) -> None:
    """Matrices unlike in size, scale and inputs: the sum of their relative errors."""
    torch.manual_seed(0)
    model = chain(16, a=linear(48, 16), b=linear(20, 48), c=linear(30, 20))
    spectra = (torch.eye(16).double(), correlated(48), correlated(20) ** 2)
    statistics = {
        f"{name}.weight": centered(second @ second.T)
        for name, second in zip("abc", spectra, strict=True)
    }

    def lost(settings: SparsifySettings) -> float:
        found = dict(sparsify(model, settings, statistics).model.matrices())
        total = 0.0
        for name, matrix in model.matrices():
            second_moment = statistics[name].damped
            whole = energy(matrix.decode(), second_moment)
            total += loss(matrix.decode(), found[name].decode(), second_moment) / whole
        return total

    assert lost(SparsifySettings(budget=kept)) < 0.97 * lost(SparsifySettings(fraction=1 - kept))


# Which.


def test_the_lowest_of_equal_losses_are_the_first() -> None:
    losses = torch.tensor([[2.0, 1, 1], [1, 0, 3]])
    expected = torch.tensor([[False, True, True], [False, True, False]])
    assert torch.equal(lowest(losses, 3), expected)
    assert int(lowest(losses, 0).sum()) == 0
    assert bool(lowest(losses, 6).all())


@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
def test_both_saliencies_agree_where_inputs_do_not_go_together(share: float) -> None:
    torch.manual_seed(0)
    values = torch.randn(30, 41)
    second_moment = 3 * torch.eye(41, dtype=torch.float64)
    count = round(share * values.numel())
    plain = zeroed(values, count)
    assert torch.equal(plain, values * ~lowest(values.square(), count))
    for second_order in (False, True):
        assert torch.equal(
            zeroed(values, count, Weighting(second_moment), second_order=second_order), plain
        )


def test_rows_that_matter_more_keep_more() -> None:
    torch.manual_seed(0)
    values, second_moment = torch.randn(2, 60), correlated(60)
    weighed = torch.tensor([1.0, 9.0], dtype=torch.float64)
    kept = (zeroed(values, 60, Weighting(second_moment, weighed)) != 0).sum(1)
    assert int(kept[1]) > 1.3 * int(kept[0])


# What the others make up for.


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
def test_each_step_from_magnitudes_to_the_full_method_loses_less(share: float) -> None:
    torch.manual_seed(0)
    values, second_moment = (
        torch.randn(48, 96),
        correlated(96) + 5 * torch.eye(96, dtype=torch.float64),
    )
    count = round(share * values.numel())
    found = (
        zeroed(values, count),
        zeroed(values, count, Weighting(second_moment), second_order=False),
        zeroed(values, count, Weighting(second_moment)),
    )
    assert all(int((thin == 0).sum()) == count for thin in found)
    plain, refitted, full = (loss(values, thin, second_moment) for thin in found)
    assert full < refitted < 0.9 * plain


def test_the_refit_is_least_squares() -> None:
    torch.manual_seed(0)
    values, second_moment = torch.randn(20, 50), correlated(50) + torch.eye(50, dtype=torch.float64)
    kept = torch.rand(20, 50) < 0.4
    kept[3], kept[4] = False, True
    found = refit(
        values.double(), torch.zeros(20, 50, dtype=torch.float64), kept, second_moment
    ).float()
    expected = least_squares(values, kept, second_moment)
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-2)
    assert loss(values, found, second_moment) < 1.001 * loss(values, expected, second_moment)
    assert bool((found[~kept] == 0).all())


def test_second_order_zeros_are_near_the_best_of_all() -> None:
    """Every choice of three zeros among six weights, tried out on 60 rows of one matrix each."""
    torch.manual_seed(0)
    second_moment = correlated(6)
    best = found = magnitudes = 0.0
    for _ in range(60):
        values = torch.randn(1, 6)
        losses = []
        for gone in itertools.combinations(range(6), 3):
            kept = torch.ones(1, 6, dtype=torch.bool)
            kept[0, list(gone)] = False
            losses.append(loss(values, least_squares(values, kept, second_moment), second_moment))
        best += min(losses)
        found += loss(values, zeroed(values, 3, Weighting(second_moment)), second_moment)
        magnitudes += loss(values, zeroed(values, 3), second_moment)
    assert best <= found < best + 0.1 * (magnitudes - best)


def test_what_was_zero_stays_zero() -> None:
    torch.manual_seed(0)
    values, second_moment = torch.randn(20, 30), correlated(30)
    values[torch.rand(20, 30) < 0.4] = 0
    thin = zeroed(values, 300, Weighting(second_moment))
    assert int((thin == 0).sum()) == 300
    assert bool((thin[values == 0] == 0).all())


def test_a_recurrent_matrix_is_one_like_any_other() -> None:
    model = speech_model()
    statistics = known(model)
    name = "lstm.forward.weight_hh"
    settings = SparsifySettings(layers=name, fraction=0.6)
    outcome = sparsify(model, settings, statistics)
    before, after = (dict(m.matrices())[name].decode() for m in (model, outcome.model))
    expected = zeroed(before, round(0.6 * before.numel()), Weighting(statistics[name].damped))
    assert torch.equal(after, expected)
    lost = loss(before, after, statistics[name].damped) / energy(before, statistics[name].damped)
    assert what(outcome, name) == (
        f"{int((after == 0).sum())} of {after.numel()} weights are zero (60.0%), "
        f"relative squared error {lost:.3g} of its outputs, survivors refitted"
    )


# Products, and what is left alone.


@pytest.mark.parametrize("evident", [False, True])
def test_both_factors_of_a_product_are_sparsified(evident: bool) -> None:
    model = factorize(speech_model(), FactorizeSettings(layers="lstm", rank=6)).model
    outcome = sparsify(model, SparsifySettings(fraction=0.5), known(model) if evident else {})
    name = "lstm.forward.weight_ih"
    product = dict(outcome.model.matrices())[name]
    assert isinstance(product, Product)
    for side, leaf in zip(("left", "right"), leaves(product), strict=True):
        assert isinstance(leaf, Dense)
        assert int((leaf.values == 0).sum()) == leaf.values.numel() // 2
        assert what(outcome, f"{name}.{side}")


def test_the_left_factor_makes_up_for_the_right_one() -> None:
    torch.manual_seed(0)
    model = chain(40, out=layers.Linear(Product(dense(30, 8), dense(8, 40))))
    statistics = known(model)
    second_moment = statistics["out.weight"].damped
    (whole,), (thin,) = (
        [m for _, m in each.matrices()]
        for each in (model, sparsify(model, SparsifySettings(fraction=0.5), statistics).model)
    )
    apart = [zeroed(leaf.decode(), leaf.decode().numel() // 2) for leaf in leaves(whole)]
    assert loss(whole.decode(), thin.decode(), second_moment) < 0.7 * loss(
        whole.decode(), apart[0] @ apart[1], second_moment
    )


def test_a_product_that_is_zero_stays_finite() -> None:
    model = chain(9, out=layers.Linear(Product(Dense(torch.zeros(7, 3)), dense(3, 9))))
    thin = dict(sparsify(model, SparsifySettings(budget=0.3), known(model)).model.matrices())
    assert bool((thin["out.weight"].decode() == 0).all())


def test_coded_matrices_and_factors_are_left_alone_and_named() -> None:
    codes = torch.randint(0, 2, (30, 8), dtype=torch.uint8)
    left = Coded(codes, Table(torch.tensor([-1.0, 1.0])), torch.ones(30))
    model = chain(
        40,
        a=layers.Linear(Product(left, dense(8, 40))),
        b=layers.Linear(Coded(torch.zeros(8, 30, dtype=torch.uint8), left.codebook, torch.ones(8))),
    )
    outcome = sparsify(model, SparsifySettings(budget=0.5), known(model))
    product = dict(outcome.model.matrices())["a.weight"]
    assert isinstance(product, Product)
    assert product.left is left
    assert int((product.right.decode() == 0).sum()) == 160
    assert dict(outcome.model.matrices())["b.weight"] is dict(model.matrices())["b.weight"]
    for name in ("a.weight.left", "b.weight"):
        note = "left alone: it is coded already; sparsify before that"
        assert what(outcome, name) == note


def test_a_model_of_codes_alone_has_no_budget_to_keep() -> None:
    model = quantize(speech_model(), QuantizeSettings(bits=4)).model
    outcome = sparsify(model, SparsifySettings(budget=5))
    said = "left alone: it is coded already; sparsify before that"
    assert outcome.notes == tuple(Note(name, said) for name, _ in model.matrices())


def test_without_evidence_second_order_is_by_magnitude_and_says_so() -> None:
    model = speech_model()
    second, first = (
        sparsify(model, SparsifySettings(fraction=0.5, saliency=kind))
        for kind in ("second_order", "magnitude")
    )
    for (name, one), (_, other) in zip(
        second.model.matrices(), first.model.matrices(), strict=True
    ):
        assert torch.equal(one.decode(), other.decode())
        assert what(second, name) == (
            what(first, name) + "; by magnitude: nothing is known of its inputs"
        )


@pytest.mark.parametrize("evident", [False, True])
@pytest.mark.parametrize(
    "values",
    [torch.zeros(4, 6), torch.full((4, 6), -0.5), torch.randn(9, 1), torch.randn(1, 9)],
    ids=["zeros", "constant", "one column", "one row"],
)
def test_odd_matrices(values: Tensor, evident: bool) -> None:
    model = chain(values.shape[1], out=layers.Linear(Dense(values)))
    outcome = sparsify(model, SparsifySettings(fraction=0.4), known(model) if evident else {})
    (_, matrix), *_ = outcome.model.matrices()
    found = matrix.decode()
    assert bool(torch.isfinite(found).all())
    if bool((values == 0).all()):
        assert torch.equal(found, values)
        assert what(outcome, "out.weight") == (
            "left alone: 10 zeros were asked for, 24 of its 24 weights are zero already"
        )
    else:
        assert int((found == 0).sum()) == round(0.4 * values.numel())


# Recipes.


def test_a_recipe_sparsifies_what_it_was_given_without_changing_it() -> None:
    model = speech_model()
    before = {name: matrix.decode().clone() for name, matrix in model.matrices()}
    recipe = Recipe.of(FactorizeSettings(layers="lstm", rank=6), SparsifySettings(fraction=0.5))
    outcome = apply(model, recipe)
    assert outcome.model.provenance["recipe"] == recipe.document()
    assert all(torch.equal(matrix.decode(), before[name]) for name, matrix in model.matrices())


def test_a_pattern_that_matches_nothing_is_named() -> None:
    recipe = Recipe.of(SparsifySettings(layers="lstn", fraction=0.5))
    with pytest.raises(RecipeError) as caught:
        apply(speech_model(), recipe)
    message = "step 1 of the recipe: sparsify: 'lstn' matches nothing; there are: dense1.weight, "
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)

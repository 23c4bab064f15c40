"""A plan fits its budget in bytes on disk and loses least among the candidates."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import all_cases
from places import COMMANDS
from small_models import chain, linear, recurrent, speech_model
from torch import nn

from tinyvox.calibration import Calibration, OutputDivergence, synthetic_batches
from tinyvox.errors import RecipeError
from tinyvox.formats import tvx
from tinyvox.importers import load
from tinyvox.model import Dense, Model, layers
from tinyvox.passes import compress
from tinyvox.passes.lowrank import factorize
from tinyvox.passes.quantization import quantize, relative_error
from tinyvox.planner import BITS, Effort, Planner, check_reachable, find_plan, settings_of
from tinyvox.planner.state import Found, State
from tinyvox.progress import Update
from tinyvox.recipe import (
    FactorizeSettings,
    PruneSettings,
    QuantizeRule,
    QuantizeSettings,
    Recipe,
    load_recipe,
    save_recipe,
)
from tinyvox.speech import Source
from tinyvox.training import Architecture, TrainConfig, deepspeech


def wide_model(hidden: int = 64) -> Model:
    torch.manual_seed(0)
    return chain(
        20,
        dense=linear(hidden, 20),
        relu=layers.Activation("relu"),
        lstm=recurrent(nn.LSTM(hidden, hidden)),
        out=linear(29, hidden),
        softmax=layers.LogSoftmax(),
    )


def recipe_for(model: Model, **budget: Any) -> Recipe:
    return find_plan(model, **budget).recipe


def loss(model: Model, small: Model) -> float:
    """Sum over the matrices of their relative squared error."""
    pairs = zip(model.matrices(), small.matrices(), strict=True)
    return sum(relative_error(a, b) for (_, a), (_, b) in pairs)


@pytest.fixture(scope="module")
def planner() -> Planner:
    """Of a wide model; what it measured for one budget serves for others."""
    model = wide_model()
    divergence = OutputDivergence(model, synthetic_batches(model, 1, settings_of("normal").judging))
    return Planner(model, Calibration.synthetic(), divergence)


def test_a_budget_is_used_to_two_percent_and_a_tighter_one_never_loses_less(
    planner: Planner, tmp_path: Path
) -> None:
    """In bytes on disk."""
    losses = []
    for ratio in (6, 10, 18, 30):
        budget = 4 * planner.model.count_parameters() // ratio
        found = planner.best_within(budget)
        assert found is not None, ratio
        size = tvx.save(compress(planner.model, found.recipe), tmp_path / "m.tvx")
        assert size == found.size == (tmp_path / "m.tvx").stat().st_size, ratio
        assert 0.98 * budget <= size <= budget, ratio
        losses.append(found.distance)
    assert losses == sorted(losses)
    assert losses[0] < 0.1 * losses[-1]


def test_the_recipe_makes_the_file_that_was_planned_byte_for_byte(tmp_path: Path) -> None:
    model = wide_model().with_provenance(source="noise")
    found = find_plan(model, size=20_000)
    tvx.save(compress(model, found.recipe), tmp_path / "a.tvx")
    tvx.save(found.model, tmp_path / "b.tvx")
    assert (tmp_path / "a.tvx").read_bytes() == (tmp_path / "b.tvx").read_bytes()
    assert (tmp_path / "a.tvx").stat().st_size == found.size
    save_recipe(found.recipe, tmp_path / "r.yaml")
    assert load_recipe(tmp_path / "r.yaml") == found.recipe


def test_a_wide_budget_leaves_the_matrices_whole_at_the_most_bits() -> None:
    model = wide_model()
    assert recipe_for(model, ratio=0.5) == Recipe.of(
        QuantizeSettings(method="entropy", bits=BITS[-1])
    )


@pytest.fixture(scope="module")
def uniform() -> tuple[Planner, list[tuple[int, float]]]:
    """A planner of a model whose matrices are of falling spectrum, as trained ones are, and bytes
    and distance of every setting for all of them."""
    model = wide_model(48).map_matrices(lambda _, matrix: Dense(faded(matrix.decode())))
    divergence = OutputDivergence(model, synthetic_batches(model, 1, settings_of("normal").judging))

    calibration = Calibration.from_batches(synthetic_batches(model, 2))
    statistics = calibration.of(model)
    settings = []
    for rank in (None, 0.5, 0.25, 0.125):
        thin = model
        if rank is not None:
            thin = factorize(model, FactorizeSettings(rank=rank), statistics).model
        for bits in BITS[::2]:
            small = quantize(thin, QuantizeSettings(method="entropy", bits=bits), statistics).model
            settings.append((tvx.size(small), divergence.distance(small)))
    return Planner(model, calibration, divergence), settings


def test_no_setting_for_all_matrices_that_fits_loses_less(
    uniform: tuple[Planner, list[tuple[int, float]]],
) -> None:
    planner, settings = uniform
    for ratio in (8, 30):
        budget = 4 * planner.model.count_parameters() // ratio
        found = planner.best_within(budget)
        assert found is not None, ratio
        least = min(lost for size, lost in settings if size <= budget)
        assert found.distance <= 1.02 * least, ratio


def faded(values: torch.Tensor) -> torch.Tensor:
    left, singular, right = torch.linalg.svd(values, full_matrices=False)
    return left * (singular * 0.9 ** torch.arange(len(singular))) @ right


def test_matrices_of_low_rank_are_factored() -> None:
    torch.manual_seed(0)
    model = wide_model().map_matrices(
        lambda _, matrix: Dense(torch.randn(matrix.shape[0], 3) @ torch.randn(3, matrix.shape[1]))
    )
    ranks = {row.name: row.rank for row in find_plan(model, ratio=12).rows}
    for name in ("lstm.forward.weight_hh", "lstm.forward.weight_ih"):
        assert ranks[name] is not None, name


def test_rows_tell_what_each_matrix_takes_and_does() -> None:
    model = wide_model()
    found = find_plan(model, ratio=15)
    settings = settings_of("normal")
    divergence = OutputDivergence(model, synthetic_batches(model, 1, settings.judging))
    short = divergence.shorter(model, settings.measurements.frames)
    assert [row.name for row in found.rows] == [name for name, _ in model.matrices()]
    small = dict(found.model.matrices())
    for row in found.rows:
        alone = short.distance_with({row.name: small[row.name]})
        assert row.measured == pytest.approx(alone, rel=1e-6, abs=1e-12)
        assert row.shape == small[row.name].shape
    assert found.distance == pytest.approx(divergence.distance(found.model), rel=1e-6)
    assert sum(row.bytes for row in found.rows) == pytest.approx(found.size, rel=0.2)


def test_a_search_that_was_interrupted_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, state = speech_model(32), tmp_path / "plan.json"
    files = counted_files(monkeypatch)
    whole = find_plan(model, ratio=10)
    made = files.pop_all()

    def interrupt(update: Update) -> None:
        if update.best_loss is not None and update.done > len(list(model.matrices())) + 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        find_plan(model, ratio=10, state=state, progress=interrupt)
    assert state.exists()
    files.pop_all()
    assert find_plan(model, ratio=10, state=state).recipe == whole.recipe
    assert files.pop_all() < made
    state.write_text("{not a search")
    assert find_plan(model, ratio=10, state=state).recipe == whole.recipe
    assert files.pop_all() == made


@pytest.mark.parametrize("kept", [1, 2])
def test_a_search_that_was_killed_after_any_step_finds_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    """As the next search begins where the one before ended, with the sizes that it found."""
    card = TrainConfig(data=(Source(manifest=Path("x")),), output=Path("y")).card()
    model = deepspeech(Architecture(width=32, context=2), card, 0)
    state = tmp_path / "plan.json"
    whole = find_plan(model, ratio=9, effort="fast")
    real, calls = State.keep, itertools.count(1)

    def keep(self: State, place: str, found: Found) -> None:
        real(self, place, found)
        if next(calls) == kept:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(State, "keep", keep)
        with pytest.raises(KeyboardInterrupt):
            find_plan(model, ratio=9, effort="fast", state=state)
    again = find_plan(model, ratio=9, effort="fast", state=state)
    assert again.recipe == whole.recipe
    assert tvx.encode(again.model) == tvx.encode(whole.model)


class Counted:
    """Counts calls."""

    def __init__(self) -> None:
        self.calls = 0

    def pop_all(self) -> int:
        """How many calls there were since this was last asked."""
        calls, self.calls = self.calls, 0
        return calls


def counted_files(monkeypatch: pytest.MonkeyPatch) -> Counted:
    """Counts the files whose sizes the planner measures."""
    counted, size = Counted(), tvx.size

    def counting(model: Model) -> int:
        counted.calls += 1
        return size(model)

    monkeypatch.setattr(tvx, "size", counting)
    return counted


def counted_distances(monkeypatch: pytest.MonkeyPatch) -> Counted:
    """Counts the changed models whose outputs are compared with the original's."""
    counted, distance = Counted(), OutputDivergence.distance

    def counting(divergence: OutputDivergence, changed: Model) -> float:
        counted.calls += 1
        return distance(divergence, changed)

    monkeypatch.setattr(OutputDivergence, "distance", counting)
    return counted


def test_the_smallest_plan_within_a_loss() -> None:
    model = speech_model()
    batches = synthetic_batches(model, 1, settings_of("normal").judging)
    divergence = OutputDivergence(model, batches)
    planner = Planner(model, divergence=divergence)
    tight = planner.smallest_within(0.002, divergence.distance)
    loose = planner.smallest_within(0.02, divergence.distance)
    assert divergence.distance(tight.model) <= 0.002
    assert divergence.distance(loose.model) <= 0.02
    assert loose.size < tight.size
    with pytest.raises(RecipeError, match="loses as little as 0; allow more"):
        find_plan(model, max_loss=0, judge=lambda _: 1.0)
    with pytest.raises(RecipeError, match="give --dev MANIFEST"):
        find_plan(model, max_loss=1)


def test_the_ratio_counts_the_original_parameters() -> None:
    model = speech_model(64)
    pruned = compress(model, Recipe.of(PruneSettings(layers="lstm", keep=32)))
    assert recipe_for(pruned, ratio=12) == recipe_for(
        pruned, size=4 * model.count_parameters() // 12
    )


def test_the_same_model_gives_the_same_plan_and_stays_as_it_is() -> None:
    model = speech_model(48)
    before = {name: matrix.decode().clone() for name, matrix in model.matrices()}
    assert recipe_for(model, ratio=9) == recipe_for(model, ratio=9)
    assert all(torch.equal(m.decode(), before[name]) for name, m in model.matrices())


def test_progress_is_told_of_every_step_and_of_the_best_plan() -> None:
    told: list[Update] = []
    found = find_plan(speech_model(), ratio=4, progress=told.append)
    matrices = len(list(speech_model().matrices()))
    assert {update.stage for update in told} == {"planning"}
    assert [update.done for update in told] == list(range(1, len(told) + 1))
    assert all(update.total is not None and update.done <= update.total for update in told)
    assert all(update.best_loss is None for update in told[: matrices + 1])
    losses = [update.best_loss for update in told if update.best_loss is not None]
    assert losses == sorted(losses, reverse=True)
    assert (told[-1].best_bytes, losses[-1]) == (found.size, found.distance)


@pytest.mark.parametrize(("effort", "sizes", "distances"), [("fast", 6, 26), ("normal", 45, 70)])
def test_an_effort_stays_within_its_work(
    effort: Effort, sizes: int, distances: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, models = counted_files(monkeypatch), counted_distances(monkeypatch)
    find_plan(wide_model(), ratio=15, effort=effort)
    assert files.calls <= sizes
    assert models.calls <= distances


def test_fast_comes_within_2_per_cent_of_the_size_and_not_above() -> None:
    with all_cases() as case:
        for budget in (24_000, 13_000, 7_000):
            found = find_plan(wide_model(), size=budget, effort="fast")
            with case(budget=budget):
                assert 0.98 * budget <= found.size <= budget


def test_more_effort_does_not_lose_more() -> None:
    model = speech_model(48)
    batches = synthetic_batches(model, 5)
    judge = OutputDivergence(model, batches)
    efforts: tuple[Effort, ...] = ("fast", "normal")
    fast, normal = (
        judge.distance(find_plan(model, ratio=9, effort=effort, divergence=judge).model)
        for effort in efforts
    )
    assert normal <= 1.02 * fast


def test_fewer_units_are_kept_where_units_say_the_same() -> None:
    """Half of the LSTM's units and of the layer before are copies of the other half."""
    torch.manual_seed(0)
    half = chain(
        12,
        dense=linear(24, 12),
        relu=layers.Activation("relu"),
        lstm=recurrent(nn.LSTM(24, 24)),
        out=linear(9, 24),
        end=layers.LogSoftmax(),
    )
    tensors = {**dict(half.matrices()), **dict(half.vectors())}
    twice = {name: doubled(name, value) for name, value in tensors.items()}
    model = half.with_tensors({})  # the same layers, with tensors of other shapes
    nodes = [
        dataclasses.replace(
            node,
            layer=node.layer.with_tensors(
                {
                    name.removeprefix(node.name + "."): value
                    for name, value in twice.items()
                    if name.startswith(node.name + ".")
                }
            ),
        )
        for node in model.nodes
    ]
    model = Model(12, tuple(nodes))
    batches = synthetic_batches(model, 2)
    found = find_plan(
        model,
        ratio=28,
        calibration=Calibration.from_batches(batches),
        divergence=OutputDivergence(model, batches),
    )
    assert found.recipe.steps[0].name == "prune"
    assert dict(found.model.matrices())["lstm.forward.weight_hh"].shape[1] < 48


def doubled(name: str, value: Dense | torch.Tensor) -> Dense | torch.Tensor:
    """Every unit twice; what reads both takes half of each."""
    if isinstance(value, torch.Tensor):
        return value if name.startswith("out") else twice_each(value, 4 if "lstm" in name else 1)
    values = value.decode()
    if not name.startswith("dense"):
        values = torch.cat([values, values], dim=1) / 2
    if not name.startswith("out"):
        values = twice_each(values, 4 if "lstm" in name else 1)
    return Dense(values.contiguous())


def twice_each(values: torch.Tensor, gates: int) -> torch.Tensor:
    return torch.cat([torch.cat([part, part]) for part in values.chunk(gates)])


def test_what_is_coded_already_is_left_as_it_is() -> None:
    model = quantize(speech_model(), QuantizeSettings(rules=(QuantizeRule(layers="lstm", bits=3),)))
    recipe = recipe_for(model.model, ratio=4)
    small = compress(model.model, recipe)
    before, after = model.model.node("lstm").layer, small.node("lstm").layer
    assert torch.equal(before.forward.weight_hh.codes, after.forward.weight_hh.codes)


@pytest.mark.parametrize("wish", [{"ratio": 0}, {"ratio": -3}, {"size": 0}, {"ratio": math.nan}])
def test_a_budget_is_a_number_above_0(wish: dict[str, float]) -> None:
    with pytest.raises(RecipeError, match="expected a number above 0"):
        recipe_for(speech_model(), **wish)  # type: ignore[arg-type]


def test_a_model_of_zeros_can_be_planned() -> None:
    zeros = speech_model().map_matrices(lambda _, matrix: Dense(torch.zeros(matrix.shape)))
    assert loss(zeros, compress(zeros, recipe_for(zeros, ratio=4))) == 0


def test_an_impossible_budget_names_the_smallest_size_and_that_one_is_possible(
    tmp_path: Path,
) -> None:
    model = speech_model()
    with pytest.raises(RecipeError, match=r"no plan fits 23 bytes; the smallest") as caught:
        recipe_for(model, ratio=1000)
    message = str(caught.value)
    found = re.search(r"is about (\d+) bytes, a ratio of ([\d.]+)$", message)
    assert found is not None, message
    smallest = int(found[1])
    assert float(found[2]) == pytest.approx(4 * model.count_parameters() / smallest, abs=0.05)
    size = tvx.save(compress(model, recipe_for(model, size=smallest)), tmp_path / "m.tvx")
    assert size <= smallest
    with pytest.raises(RecipeError, match=rf"no plan fits {smallest - 1} bytes"):
        recipe_for(model, size=smallest - 1)


def test_budgets_that_files_have_reached_are_not_refused() -> None:
    model = load(COMMANDS / "commands.pt2")
    for path in COMMANDS.glob("*.tvx"):
        check_reachable(model, path.stat().st_size / 2)
    with pytest.raises(RecipeError, match="hardly any weights"):
        check_reachable(model, 1000)


@pytest.mark.parametrize("wish", [{}, {"ratio": 10.0, "size": 1000}])
def test_one_of_ratio_and_size_is_given(wish: dict[str, float]) -> None:
    with pytest.raises(RecipeError, match="a plan needs one of ratio, size and max_loss"):
        recipe_for(speech_model(), **wish)  # type: ignore[arg-type]

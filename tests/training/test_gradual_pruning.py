"""Pruning while training: the schedule, the masks, the penalty, and what comes out."""

from __future__ import annotations

import io

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from prunable_models import MODELS, residual, shared
from small_models import chain, features, linear, run, speech_model
from torch import Tensor

import tinyvox as tv
from tinyvox.errors import RecipeError
from tinyvox.executor import Executor
from tinyvox.model import GATES, Coded, Dense, Model, Product, groups, layers
from tinyvox.passes import compress
from tinyvox.passes.quantization import quantize
from tinyvox.recipe import GradualPruning, QuantizeSettings, Recipe
from tinyvox.training import Pruner, cubic_sparsity

HALF = GradualPruning(keep=0.5, start=0, stop=6, every=2, multiple=1)


@settings(deadline=None)
@given(st.integers(0, 50), st.integers(1, 40), st.integers(1, 9), st.floats(0, 1))
def test_the_schedule_is_that_of_zhu_and_gupta(
    start: int, prunings: int, every: int, final: float
) -> None:
    stop = start + prunings * every
    for step in range(start, stop + 1, every):
        first = 0.0
        expected = final + (first - final) * (1 - (step - start) / (prunings * every)) ** 3
        assert cubic_sparsity(step, start, stop, final) == pytest.approx(expected, abs=1e-12)
    assert cubic_sparsity(start - 1, start, stop, final) == 0
    assert cubic_sparsity(stop + 7, start, stop, final) == final


def train(
    executor: Executor,
    pruner: Pruner,
    steps: int,
    optimizer: torch.optim.Optimizer | None = None,
    seed: int = 0,
) -> torch.optim.Optimizer:
    """Steps towards nothing in particular, with an optimizer that has momentum."""
    optimizer = optimizer or torch.optim.AdamW(executor.parameters(), 1e-2)
    for step in range(steps):
        x = torch.randn(
            2, 12, executor.source.input_size, generator=torch.Generator().manual_seed(seed + step)
        )
        outputs = executor(x)
        loss = (outputs - x.mean()).square().mean() + pruner.penalty()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        pruner.step()
    return optimizer


def counts(model: Model) -> dict[str, int]:
    return {group.name: group.size for group in groups(model)}


def test_units_go_as_the_schedule_says() -> None:
    executor = Executor(speech_model(hidden=24))
    settings = GradualPruning(layers="lstm", keep=6, start=2, stop=10, every=4)
    pruner = Pruner(executor, settings)
    seen = []
    for _ in range(13):
        train(executor, pruner, 1)
        seen.append(counts(pruner.model())["lstm"])
    # a share of 18 / 24 goes in the end; halfway 7 / 8 of it: 15.75 units
    assert seen == [24] * 5 + [24 - 16] * 4 + [6] * 4
    assert counts(pruner.model())["dense1"] == 32


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("bits", [None, 2])
def test_the_smaller_model_computes_what_the_masked_one_does(name: str, bits: int | None) -> None:
    """Also where weights are rounded to two bits, of which no level is zero."""
    torch.manual_seed(4)
    model = MODELS[name]()
    executor = Executor(model)
    if bits is not None:
        coded = quantize(model, QuantizeSettings(bits=bits)).model
        executor.set_rounding(dict(coded.matrices()), {})
    pruner = Pruner(executor, HALF)
    train(executor, pruner, 8)
    small = pruner.model()
    assert counts(small) == {name: -(-size // 2) for name, size in counts(model).items()}
    x = features(model.input_size, 30)
    with torch.no_grad():
        torch.testing.assert_close(run(small, x), executor(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_what_is_gone_stays_zero(name: str) -> None:
    """All of it that is trained; statistics and limits stay as they are."""
    torch.manual_seed(4)
    model = MODELS[name]()
    executor = Executor(model)
    pruner = Pruner(executor, HALF)
    optimizer = train(executor, pruner, 6)
    gone = {name: ~alive for name, alive in pruner.state_dict()["alive"].items()}
    train(executor, pruner, 3, optimizer)
    after = executor.model()
    tensors = {**{n: m.decode() for n, m in after.matrices()}, **dict(after.vectors())}
    for group in groups(model):
        units = gone[group.name].nonzero().flatten()
        assert len(units) == group.size // 2
        for member in group.members:
            lines = tensors[member.tensor].index_select(member.axis, member.positions(units))
            fixed = member.tensor.endswith(("mean", "variance", "limits"))
            assert bool((lines != 0).all() if fixed else (lines == 0).all()), member


def test_gone_units_do_not_come_back_and_scores_decide() -> None:
    executor = Executor(chain(4, one=linear(6, 4), out=linear(2, 6)))
    with torch.no_grad():
        weights = dict(executor.weights())
        weights["one.weight"].values.copy_(torch.full((6, 4), 0.1))
        weights["out.weight"].values.copy_(torch.tensor([[4.0, 1, 6, 2, 5, 3], [0] * 6]))
    pruner = Pruner(executor, GradualPruning(keep=3, start=0, stop=2, every=1))
    pruner.step()  # three units are to go, 7 / 8 of them after half of the steps
    assert pruner.state_dict()["alive"]["one"].tolist() == [True, False, True, False, True, False]


def unit_norm(model: Model, unit: int) -> Tensor:
    """The norm of a hidden unit of `speech_model`, its weights gathered one by one."""
    tensors = {name: matrix.decode() for name, matrix in model.matrices()}
    w_ih, w_hh = tensors["lstm.forward.weight_ih"], tensors["lstm.forward.weight_hh"]
    hidden = w_hh.shape[1]
    rows = [gate * hidden + unit for gate in range(GATES["lstm"])]
    parts = [w_ih[rows].flatten(), tensors["out.weight"][:, unit]]
    parts += [
        w_hh[r, c][None] for r in range(len(w_hh)) for c in range(hidden) if r in rows or c == unit
    ]
    return torch.cat(parts).norm()


def test_the_penalty_is_the_sum_of_the_norms_of_all_weights_of_a_unit() -> None:
    executor = Executor(speech_model(hidden=5))
    settings = GradualPruning(layers="lstm", lasso=0.3, start=0, stop=5)
    penalty = Pruner(executor, settings).penalty()
    weights = {n: w.values for n, w in executor.weights() if not isinstance(w, Product)}
    live = executor.source.with_tensors({n: Dense(v) for n, v in weights.items()})
    expected = 0.3 * torch.stack([unit_norm(live, unit) for unit in range(5)]).sum()
    torch.testing.assert_close(penalty, expected)
    asked = [weights[n] for n in ("lstm.forward.weight_ih", "lstm.forward.weight_hh", "out.weight")]
    for found, other in zip(
        torch.autograd.grad(penalty, asked), torch.autograd.grad(expected, asked), strict=True
    ):
        torch.testing.assert_close(found, other)


def test_a_factor_that_is_shared_counts_once() -> None:
    executor = Executor(shared())
    pruner = Pruner(executor, GradualPruning(layers="first", lasso=1.0, start=0, stop=9))
    tensors = dict(executor.source.matrices())
    factor = tensors["one.weight"]
    assert isinstance(factor, Product)
    columns = factor.right.decode()
    norms = torch.cat([tensors["first.weight"].decode(), columns.T], dim=1).norm(dim=1)
    torch.testing.assert_close(pruner.penalty().detach(), norms.sum())


def test_a_unit_of_zeros_has_no_gradient() -> None:
    executor = Executor(chain(3, one=linear(4, 3), out=linear(2, 4)))
    pruner = Pruner(executor, GradualPruning(lasso=1.0, start=0, stop=9))
    one, out = (weight.values for _, weight in executor.weights())
    with torch.no_grad():
        one[2], out[:, 2] = 0, 0
    rows, columns = torch.autograd.grad(pruner.penalty(), [one, out])
    assert bool((rows[2] == 0).all())
    assert bool((columns[:, 2] == 0).all())
    norm = torch.cat([one[0], out[:, 0]]).norm()
    torch.testing.assert_close(rows[0], one[0] / norm)


def test_the_penalty_acts_between_start_and_stop() -> None:
    executor = Executor(speech_model(hidden=8))
    pruner = Pruner(executor, GradualPruning(lasso=1.0, start=0.25, stop=0.75), steps=4)
    seen = []
    for _ in range(4):
        seen.append(pruner.penalty().item() > 0)
        train(executor, pruner, 1)
    assert seen == [False, True, True, False]


def test_taylor_importance_is_weight_times_gradient_summed_over_the_steps() -> None:
    model = chain(4, one=linear(6, 4), relu=layers.Activation("relu"), out=linear(2, 6))
    executor = Executor(model)
    settings = GradualPruning(keep=3, importance="taylor", start=0, stop=3, every=3)
    pruner = Pruner(executor, settings)
    one, out = (weight.values for _, weight in executor.weights())
    expected = torch.zeros(6)
    for step in range(3):
        executor.zero_grad()
        executor(features(4, 5 + step)).square().sum().backward()
        assert one.grad is not None
        assert out.grad is not None
        expected += (one * one.grad).abs().sum(1).detach()
        expected += (out * out.grad).abs().sum(0).detach()
        if step == 2:
            found = pruner.state_dict()["scores"]["one"] + 0
        pruner.step()
    assert not torch.equal(found, expected)
    kept = expected.topk(3).indices.sort().values
    assert torch.equal(pruner.state_dict()["alive"]["one"].nonzero().flatten(), kept)
    assert bool((pruner.state_dict()["scores"]["one"] == 0).all())


def saved(state: dict[str, object]) -> dict[str, object]:
    """The state as a file gives it back."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, object] = torch.load(file, weights_only=True)
    return loaded


@pytest.mark.parametrize("interrupted", [3, 7, 11])
def test_what_goes_on_from_a_state_ends_as_what_was_not_interrupted(interrupted: int) -> None:
    torch.manual_seed(0)
    model = residual()
    settings = GradualPruning(
        keep=0.5, lasso=0.01, importance="taylor", start=1, stop=10, every=3, multiple=1
    )
    whole = Executor(model)
    pruner = Pruner(whole, settings)
    train(whole, pruner, 14)

    before = Executor(model)
    first = Pruner(before, settings)
    optimizer = train(before, first, interrupted)
    after = Executor(model)
    second = Pruner(after, settings)
    after.load_state_dict(saved(before.state_dict()))
    second.load_state_dict(saved(first.state_dict()))
    new = torch.optim.AdamW(after.parameters(), 1e-2)
    new.load_state_dict(saved(optimizer.state_dict()))
    train(after, second, 14 - interrupted, new, seed=interrupted)

    expected, found = pruner.model(), second.model()
    assert counts(found) == counts(expected)
    for (name, one), (_, other) in zip(expected.matrices(), found.matrices(), strict=True):
        assert torch.equal(one.decode(), other.decode()), name


def half_useless(seed: int = 0) -> Model:
    """Sixteen units, of which those of odd numbers hardly hear anything, nor are heard."""
    torch.manual_seed(seed)
    model = chain(6, hidden=linear(16, 6), tanh=layers.Activation("tanh"), out=linear(3, 16))
    columns, rows = torch.randn(3, 16), torch.randn(16, 6) / 2
    columns[:, 1::2] *= 0.1
    rows[1::2] *= 0.1
    return model.with_tensors({"hidden.weight": Dense(rows), "out.weight": Dense(columns)})


@pytest.mark.parametrize(
    "settings",
    [
        GradualPruning(keep=8, start=20, stop=150, every=10),
        GradualPruning(keep=8, start=20, stop=150, every=10, importance="taylor"),
        GradualPruning(lasso=0.01, start=0, stop=300, threshold=0.2, multiple=1),
    ],
    ids=["norm", "taylor", "lasso"],
)
def test_useless_units_go_in_any_loop(settings: GradualPruning) -> None:
    model = half_useless()
    executor = tv.Executor(model)
    pruner = tv.Pruner(executor, settings)
    optimizer = torch.optim.Adam(executor.parameters(), 5e-3)
    rng = torch.Generator().manual_seed(1)
    for _ in range(400):
        x = torch.randn(8, 4, 6, generator=rng)
        targets = run(model, x) + 0.1 * torch.randn(8, 4, 3, generator=rng)
        loss = (executor(x) - targets).square().mean() + pruner.penalty()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        pruner.step()
    small = pruner.model()
    assert pruner.state_dict()["alive"]["hidden"].tolist() == [True, False] * 8
    x = features(6)
    error = (run(small, x) - run(model, x)).square().mean() / run(model, x).square().mean()
    assert error < 0.01


def test_lasso_leaves_a_multiple_of_units() -> None:
    executor = Executor(half_useless())
    with torch.no_grad():
        for _, weight in executor.weights():
            weight.values[:, 1:] = 0
            weight.values[1:] *= 0.1
    pruner = Pruner(
        executor, GradualPruning(lasso=1e-9, start=0, stop=1, threshold=0.9, multiple=4)
    )
    pruner.step()
    assert counts(pruner.model()) == {"hidden": 4}


def test_without_settings_nothing_is_pruned() -> None:
    executor = Executor(speech_model())
    pruner = Pruner(executor, None)
    train(executor, pruner, 2)
    assert float(pruner.penalty()) == 0
    assert counts(pruner.model()) == counts(executor.source)
    later = Pruner(executor, HALF)
    later.load_state_dict(pruner.state_dict())
    assert later.done == 2
    train(executor, pruner, 4)
    with pytest.raises(
        RecipeError, match="found 6 steps done without pruning, expected fewer than"
    ):
        Pruner(executor, HALF).load_state_dict(pruner.state_dict())


def test_what_cannot_be_pruned_is_named() -> None:
    model = speech_model()
    executor = Executor(model)
    with pytest.raises(RecipeError, match=r"'rnn' matches nothing; there are: dense1, lstm"):
        Pruner(executor, GradualPruning(layers="rnn", keep=0.5), 9)
    coded = compress(model, Recipe.of(QuantizeSettings(layers="lstm.*.weight_hh", bits=4)))
    assert isinstance(dict(coded.matrices())["lstm.forward.weight_hh"], Coded)
    with pytest.raises(RecipeError, match=r"lstm\.forward\.weight_hh is coded.*leave 'lstm' out"):
        Pruner(Executor(coded), GradualPruning(keep=0.5), 9)
    Pruner(Executor(coded), GradualPruning(layers="dense1", keep=0.5), 9)
    with pytest.raises(RecipeError, match="unknown number of steps; give steps"):
        Pruner(executor, GradualPruning(keep=0.5))
    with pytest.raises(RecipeError, match="from step 2 to 40 of 9, expected a rising range"):
        Pruner(executor, GradualPruning(keep=0.5, start=2, stop=40), 9)
    with pytest.raises(RecipeError, match="from step 5 to 4 of 9"):
        Pruner(executor, GradualPruning(keep=0.5, start=5, stop=0.5), 9)


def test_taylor_needs_gradients_and_a_state_its_own_groups() -> None:
    executor = Executor(speech_model())
    pruner = Pruner(executor, GradualPruning(keep=0.5, importance="taylor"), 9)
    with pytest.raises(RecipeError, match="found no gradients; step the pruner before"):
        pruner.step()
    other = Pruner(executor, GradualPruning(layers="lstm", keep=0.5), 9)
    with pytest.raises(RecipeError, match="state of the groups lstm, expected dense1, lstm"):
        pruner.load_state_dict(other.state_dict())

"""The order in which units go, and what is lost on the way: by brute force."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from pruned_models import branches, convolutions, heard, inputs_of, moved, path_of, weight
from small_models import chain, deepspeech, dense, linear, recurrent
from torch import Tensor, nn

from tinyvox.calibration import NO_STATISTICS, Batch, Moments, Statistics, gather
from tinyvox.errors import RecipeError
from tinyvox.model import Activation, Dense, Linear, Model, Node, layers
from tinyvox.passes.pruning import ENERGY, NATS, prune
from tinyvox.passes.pruning import ranking as removal
from tinyvox.recipe import PruneSettings

# The order in which units go.


def two_layers(values: Tensor | None = None, units: int = 8) -> Model:
    torch.manual_seed(7)
    out = linear(4, units) if values is None else Linear(Dense(values), torch.zeros(4))
    return chain(5, one=linear(units, 5), relu=Activation("relu"), out=out)


def test_a_unit_that_another_repeats_goes_first_and_costs_nothing() -> None:
    model = two_layers()
    w, b = weight(model, "one.weight").clone(), dict(model.vectors())["one.bias"].clone()
    w[6], b[6] = 2 * w[3], 2 * b[3]
    model = model.with_tensors({"one.weight": Dense(w), "one.bias": b})
    statistics = heard(model)
    path = path_of(model, "one", statistics, "reconstruction")
    assert int(path.order[0]) in (3, 6)
    assert float(path.loss[0]) < 1e-6 * float(path.loss[-1])
    assert float(path.loss[1]) > 1e-4 * float(path.loss[-1])
    small = prune(model, PruneSettings(keep=7), statistics).model
    assert moved(model, small) < 1e-8
    cut = PruneSettings(keep=7, refit=False)
    assert moved(model, prune(model, cut, statistics).model) > 1e-3


@pytest.mark.parametrize("importance", ["energy", "fisher", "reconstruction"])
def test_a_unit_that_nobody_reads_goes_first(importance: str) -> None:
    values = dense(4, 8).values
    values[:, 5] = 0
    model = two_layers(values)
    path = path_of(model, "one", heard(model), importance, refit=False)
    assert int(path.order[0]) == 5
    assert float(path.loss[0]) == 0


def test_a_silent_unit_goes_first_by_energy_whatever_its_norm() -> None:
    model = two_layers()
    w, b = weight(model, "one.weight").clone(), dict(model.vectors())["one.bias"].clone()
    w[2], b[2] = 9 * w[2], -1000
    model = model.with_tensors({"one.weight": Dense(w), "one.bias": b})
    statistics = heard(model)
    assert int(path_of(model, "one", statistics, "energy").order[0]) == 2
    assert int(path_of(model, "one", statistics, "norm").order[-1]) == 2


def test_fisher_information_tells_outputs_that_matter() -> None:
    """Units 0 to 3 feed outputs 0 and 1, the others 2 and 3, which do not matter."""
    values = torch.ones(4, 8)
    values[:2, 4:], values[2:, :4] = 0.01, 3
    model = two_layers(values)
    white = torch.eye(8).double()
    fisher = torch.tensor([1.0, 1, 0, 0]).double()
    saliency = fisher @ values.double().square()
    statistics = {"out.weight": Moments(white, torch.zeros(8).double(), 0.0, fisher, saliency)}
    path = path_of(model, "one", statistics, "fisher", refit=False)
    assert set(path.order[:4].tolist()) == {4, 5, 6, 7}
    assert path.unit == NATS
    torch.testing.assert_close(path.loss[-1], torch.tensor(4 + 4e-4).double())
    blind = {"out.weight": Moments(white, torch.zeros(8).double(), 0.0)}
    by_energy = path_of(model, "one", blind, "energy", refit=False)
    assert set(by_energy.order[:4].tolist()) == {4, 5, 6, 7}
    assert by_energy.unit == ENERGY
    torch.testing.assert_close(by_energy.loss[-1], torch.tensor(1.0).double())


def one_by_one(model: Model, weigh: Callable[[str, Tensor], Tensor]) -> list[int]:
    """The units of the LSTM, each time the one with which `weigh` finds least in what the outputs
    of both matrices that read it then lack; brute force."""
    inputs, gone = inputs_of(model), []
    names = ("lstm.forward.weight_hh", "out.weight")

    def lost(units: list[int]) -> float:
        return sum(
            float(weigh(n, inputs[n][:, units] @ weight(model, n)[:, units].double().T))
            for n in names
        )

    while len(gone) < 6:
        left = [unit for unit in range(6) if unit not in gone]
        gone.append(min(left, key=lambda unit: lost([*gone, unit])))
    return gone


def test_energy_goes_by_what_is_missing_at_the_outputs() -> None:
    torch.manual_seed(8)
    model = chain(5, lstm=recurrent(nn.LSTM(5, 6)), out=linear(4, 6))
    statistics, inputs = heard(model), inputs_of(model)

    def share(name: str, missing: Tensor) -> Tensor:
        whole = inputs[name] @ weight(model, name).double().T
        return missing.square().sum() / whole.square().sum()

    for refit in (False, True):
        path = path_of(model, "lstm", statistics, "energy", refit=refit)
        assert path.order.tolist() == one_by_one(model, share)


def test_reconstruction_goes_by_the_loss_as_it_is_where_nothing_is_refitted() -> None:
    torch.manual_seed(8)
    model = chain(5, lstm=recurrent(nn.LSTM(5, 6)), out=linear(4, 6))
    statistics = heard(model)
    path = path_of(model, "lstm", statistics, "reconstruction", refit=False)
    assert path.order.tolist() == one_by_one(
        model, lambda name, missing: statistics[name].fisher @ missing.square().mean(0)
    )


def test_fisher_goes_by_the_saliency_of_all_that_read_a_unit() -> None:
    torch.manual_seed(8)
    model = chain(5, lstm=recurrent(nn.LSTM(5, 6)), out=linear(4, 6))
    statistics = heard(model)
    saliency = sum(statistics[n].saliency for n in ("lstm.forward.weight_hh", "out.weight"))
    for refit in (False, True):
        path = path_of(model, "lstm", statistics, "fisher", refit=refit)
        assert torch.equal(path.order, saliency.argsort())
    model = convolutions()
    statistics = heard(model)
    pairs = statistics["two.weight"].saliency.view(-1, 2).sum(1)
    assert torch.equal(path_of(model, "one", statistics, "fisher").order, pairs.argsort())


def test_a_rare_unit_that_matters_stays_by_fisher_though_it_has_little_energy() -> None:
    """Unit 0 is there in one frame of 200 and decides; unit 1 always is, and changes little."""
    model = two_layers()
    w = torch.zeros(8, 5)
    w[0, 0], w[1, 1] = 3.0, 1.0
    w[2:] = torch.randn(6, 5)
    out = weight(model).clone()
    out[:, 0], out[:, 1] = torch.tensor([1.5, -1.5, 0, 0]), torch.tensor([0.3, 0.3, 0.3, 0.35])
    model = model.with_tensors({"one.weight": Dense(w), "one.bias": torch.zeros(8),
                                "out.weight": Dense(out)})  # fmt: skip
    nodes = (*model.nodes, Node("end", layers.LogSoftmax(), ("out",)))
    model = Model(5, nodes)
    x = torch.randn(4, 500, 5, generator=torch.Generator().manual_seed(0))
    x[:, :, 0], x[:, :, 1] = -1.0, 1.0
    x[:, ::200, 0] = 1.0
    statistics = gather(model, [Batch(x, torch.full((4,), 500))], fisher=True)
    place = {
        name: path_of(model, "one", statistics, name, refit=False).order.tolist().index
        for name in ("energy", "fisher")
    }
    assert place["energy"](0) < place["energy"](1)
    assert place["fisher"](0) > place["fisher"](1)


def test_a_random_order_is_any_order_and_the_same_again() -> None:
    model = deepspeech()
    orders = {
        seed: path_of(model, "lstm", NO_STATISTICS, "random", seed=seed).order for seed in range(4)
    }
    assert len({tuple(order.tolist()) for order in orders.values()}) == 4
    for seed, order in orders.items():
        assert torch.equal(order.sort().values, torch.arange(24))
        again = path_of(model, "lstm", heard(model), "random", seed=seed)
        assert torch.equal(again.order, order)


def test_fisher_without_fisher_information_says_how_to_get_it() -> None:
    model = deepspeech()
    for statistics in (NO_STATISTICS, heard(model, fisher=False)):
        with pytest.raises(RecipeError, match=r"'dense1' needs .* calibrate with fisher="):
            prune(model, PruneSettings(keep=8, importance="fisher"), statistics)


# The loss on the way, by brute force.


def brute_force(model: Model, statistics: Statistics, gone: list[tuple[str, list[int]]]) -> float:
    """The least squared error of each matrix without these columns, weighed and summed."""
    total = 0.0
    for name, columns in gone:
        moments = statistics[name]
        covariance = moments.damped - torch.outer(moments.mean, moments.mean)
        w, kept = (
            weight(model, name).double(),
            [i for i in range(len(covariance)) if i not in columns],
        )
        best = torch.zeros_like(w)
        across = w @ covariance[:, kept]
        best[:, kept] = torch.linalg.solve(covariance[kept][:, kept], across, left=False)
        error = w - best
        rows = ((error @ covariance) * error).sum(1)
        if moments.fisher is not None:
            total += float(moments.fisher @ rows) / 2
        else:
            total += float(rows.sum() / ((w @ moments.second) * w).sum())
    return total


def lstm_model() -> Model:
    return chain(5, lstm=recurrent(nn.LSTM(5, 9)), out=linear(4, 9))


READ = {
    lstm_model: ("lstm", lambda u: [("lstm.forward.weight_hh", [u]), ("out.weight", [u])]),
    convolutions: ("one", lambda u: [("two.weight", [2 * u, 2 * u + 1])]),
    branches: ("a", lambda u: [("b.weight", [u]), ("out.weight", [u])]),
}
"""Models, a group of each, and where a unit of it is read."""


@pytest.mark.parametrize("make", READ)
@pytest.mark.parametrize("fisher", [True, False])
@pytest.mark.parametrize("importance", ["reconstruction", "random"])
@pytest.mark.parametrize("block", [2, 3, 64])
def test_the_loss_on_the_way_is_that_of_refitting_each_time(
    make: type, fisher: bool, importance: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "BLOCK", block)
    model, (name, read) = make(), READ[make]
    statistics = heard(model, 1e-3, fisher=fisher)
    path = path_of(model, name, statistics, importance)
    assert path.unit == (NATS if fisher else ENERGY)
    gone: dict[str, list[int]] = {}
    left = set(range(len(path.order)))
    for unit, loss in zip(path.order.tolist(), path.loss.tolist(), strict=True):

        def without(u: int) -> float:
            return brute_force(
                model, statistics, [(n, gone.get(n, []) + columns) for n, columns in read(u)]
            )

        assert loss == pytest.approx(without(unit), rel=1e-6)
        if importance == "reconstruction":
            assert min(without(u) for u in left) == pytest.approx(loss, rel=1e-6)
        for n, columns in read(unit):
            gone[n] = gone.get(n, []) + columns
        left.remove(unit)


@pytest.mark.parametrize("make", READ)
def test_the_loss_without_refit_is_the_error_of_the_outputs(make: type) -> None:
    model, (name, read) = make(), READ[make]
    statistics, inputs = heard(model), inputs_of(model)
    path = path_of(model, name, statistics, "fisher", refit=False)
    errors = {n: torch.zeros(len(inputs[n]), len(weight(model, n))).double() for n, _ in read(0)}
    for unit, loss in zip(path.order.tolist(), path.loss.tolist(), strict=True):
        for n, columns in read(unit):
            errors[n] += inputs[n][:, columns] @ weight(model, n)[:, columns].double().T
        now = sum(float(statistics[n].fisher @ e.square().mean(0)) / 2 for n, e in errors.items())
        assert loss == pytest.approx(now, rel=1e-5)

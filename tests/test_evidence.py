"""What made-up features tell of a model: moments of inputs, distances of outputs."""

from __future__ import annotations

import pytest
import torch
from small_models import chain, dense, linear, recurrent, speech_model
from torch import nn

from tinyvox.card import Features, SpeechCard
from tinyvox.evidence import NOTHING, Moments, Trial, energy, imagine, imagined_features
from tinyvox.execute import Executor
from tinyvox.layers import Linear
from tinyvox.matrix import Dense
from tinyvox.model import Model


def with_card(model: Model) -> Model:
    size = model.input_size
    features = Features(kind="log_mel", bands=size, mean=(0.0,) * size, deviation=(1.0,) * size)
    card = SpeechCard(features=features, tokens=(*"abcdef", "<blank>"), blank=6)
    return Model(size, model.nodes, card)


def test_made_up_features_are_normalised_and_drift() -> None:
    x = imagined_features(200, 8, 0)
    assert float(x.mean()) == pytest.approx(0, abs=0.02)
    assert float(x.std()) == pytest.approx(1, abs=0.02)
    assert float((x[:, 1:] * x[:, :-1]).mean()) == pytest.approx(0.7, abs=0.02)
    assert torch.equal(x, imagined_features(200, 8, 0))
    assert not torch.equal(x, imagined_features(200, 8, 1))


def test_without_a_card_that_normalises_nothing_is_known() -> None:
    model = speech_model()
    assert imagine(model) is NOTHING
    plain = with_card(model)
    assert plain.card is not None
    bare = plain.card.features.model_copy(update={"mean": (), "deviation": ()})
    card = plain.card.model_copy(update={"features": bare})
    assert imagine(Model(model.input_size, model.nodes, card)) is NOTHING


def test_moments_are_those_of_what_each_matrix_is_multiplied_by() -> None:
    torch.manual_seed(0)
    lstm = nn.LSTM(10, 6, batch_first=True)
    model = with_card(chain(10, lstm=recurrent(lstm), out=linear(7, 6)))
    evidence = imagine(model)
    x = imagined_features(32, 10, 0)
    states = lstm(x)[0].detach()
    before = torch.cat([torch.zeros(32, 1, 6), states[:, :-1]], dim=1)
    inputs = {"lstm.forward.weight_ih": x, "lstm.forward.weight_hh": before, "out.weight": states}
    assert set(evidence) == set(inputs)
    for name, values in inputs.items():
        rows = values.flatten(0, 1).double()
        torch.testing.assert_close(
            evidence[name].second, rows.T @ rows / len(rows), rtol=1e-4, atol=1e-6
        )
        torch.testing.assert_close(evidence[name].mean, rows.mean(0), rtol=1e-4, atol=1e-6)
        deviation = rows.std(0, correction=0)
        torch.testing.assert_close(evidence[name].deviation(), deviation, rtol=1e-3, atol=1e-6)


def test_the_backward_direction_sees_time_reversed() -> None:
    torch.manual_seed(0)
    lstm = nn.LSTM(4, 3, batch_first=True, bidirectional=True)
    model = chain(4, lstm=recurrent(lstm))
    seen: dict[str, torch.Tensor] = {}
    executor = Executor(model).eval()
    executor.watch(seen.__setitem__)
    x = torch.randn(1, 5, 4)
    expected = lstm(x)[0].detach()[0, :, 3:].flip(0)
    with torch.inference_mode():
        executor(x)
    torch.testing.assert_close(seen["lstm.backward.weight_ih"], x[0].flip(0))
    torch.testing.assert_close(seen["lstm.backward.weight_hh"][1:], expected[:-1])


def test_padding_is_not_seen() -> None:
    model = chain(3, out=linear(2, 3))
    seen: list[torch.Tensor] = []
    executor = Executor(model).eval()
    executor.watch(lambda _, inputs: seen.append(inputs))
    executor.run(torch.randn(2, 6, 3), torch.tensor([6, 2]))
    assert seen[0].shape == (8, 3)


def test_energy_is_the_mean_square_of_the_outputs() -> None:
    torch.manual_seed(0)
    weight, x = torch.randn(5, 4), torch.randn(1000, 4)
    assert energy(weight, (x.T @ x).double() / len(x)) == pytest.approx(
        float((x @ weight.T).square().sum(1).mean()), rel=1e-4
    )
    assert energy(weight, None) == pytest.approx(float(weight.square().sum()), rel=1e-6)


def test_damped_moments_are_positive_definite() -> None:
    for second in (torch.zeros(3, 3), torch.ones(3, 3)):
        assert (
            float(torch.linalg.eigvalsh(Moments(second.double(), torch.zeros(3)).damped()).min())
            > 0
        )


def test_a_model_is_at_no_distance_from_itself() -> None:
    model = speech_model()
    trial = Trial(model)
    assert trial.distance(model) == 0
    weight = dict(model.matrices())["out.weight"].decode()
    near = trial.distance(model.with_tensors({"out.weight": Dense(weight * 1.01)}))
    far = trial.distance(model.with_tensors({"out.weight": Dense(weight * 1.1)}))
    assert 0 < near < far


def test_sensitivity_is_distance_a_unit_of_relative_error() -> None:
    """Of a linear model's only matrix, white inputs: the relative error of the outputs itself."""
    torch.manual_seed(0)
    found = Trial(chain(40, out=Linear(dense(60, 40), torch.zeros(60)))).sensitivities(NOTHING)
    assert found["out.weight"] == pytest.approx(1.0, rel=0.1)

"""Distances of outputs, and what errors of each matrix do to them."""

from __future__ import annotations

import pytest
import torch
from small_models import chain, dense, speech_model

from tinyvox.evidence import NOTHING, Batch
from tinyvox.imagine import imagined_batches
from tinyvox.layers import Linear
from tinyvox.matrix import Dense
from tinyvox.trial import Trial


def test_a_model_is_at_no_distance_from_itself() -> None:
    model = speech_model()
    trial = Trial(model, imagined_batches(model, 1))
    assert trial.distance(model) == 0
    weight = dict(model.matrices())["out.weight"].decode()
    near = trial.distance(model.with_tensors({"out.weight": Dense(weight * 1.01)}))
    far = trial.distance(model.with_tensors({"out.weight": Dense(weight * 1.1)}))
    assert 0 < near < far


def test_sensitivity_is_distance_a_unit_of_relative_error() -> None:
    """Of a linear model's only matrix, white inputs: the relative error of the outputs itself."""
    torch.manual_seed(0)
    model = chain(40, out=Linear(dense(60, 40), torch.zeros(60)))
    found = Trial(model, imagined_batches(model, 1)).sensitivities(NOTHING)
    assert found["out.weight"] == pytest.approx(1.0, rel=0.1)


def test_frames_past_the_end_do_not_count() -> None:
    model = speech_model()
    weight = dict(model.matrices())["out.weight"].decode()
    other = model.with_tensors({"out.weight": Dense(weight * 1.1)})
    features = torch.randn(2, 30, model.input_size)
    padded = torch.cat([features, 100 * torch.ones(2, 9, model.input_size)], dim=1)
    lengths = torch.tensor([30, 30])
    short, long = Trial(model, [Batch(features, lengths)]), Trial(model, [Batch(padded, lengths)])
    assert short.distance(other) == pytest.approx(long.distance(other), rel=1e-5)

"""Distances of outputs of changed models."""

from __future__ import annotations

import pytest
import torch
from small_models import chain, dense, speech_model

from tinyvox.calibration import Batch, OutputDivergence, synthetic_batches
from tinyvox.model import Dense, Linear


def test_a_model_is_at_no_distance_from_itself() -> None:
    model = speech_model()
    divergence = OutputDivergence(model, synthetic_batches(model, 1))
    assert divergence.distance(model) == 0
    weight = dict(model.matrices())["out.weight"].decode()
    near = divergence.distance(model.with_tensors({"out.weight": Dense(weight * 1.01)}))
    far = divergence.distance(model.with_tensors({"out.weight": Dense(weight * 1.1)}))
    assert 0 < near < far


def test_distance_of_outputs_that_are_no_probabilities_is_their_relative_error() -> None:
    """Of a linear model's only matrix, white inputs: noise of a tenth of its energy."""
    torch.manual_seed(0)
    model = chain(40, out=Linear(dense(60, 40), torch.zeros(60)))
    weight = dict(model.matrices())["out.weight"].decode()
    noise = torch.randn(weight.shape)
    noise *= (0.1 * weight.square().sum() / noise.square().sum()).sqrt()
    divergence = OutputDivergence(model, synthetic_batches(model, 1))
    found = divergence.distance_with({"out.weight": Dense(weight + noise)})
    assert found == pytest.approx(0.1, rel=0.1)


def test_frames_past_the_end_do_not_count() -> None:
    model = speech_model()
    weight = dict(model.matrices())["out.weight"].decode()
    other = model.with_tensors({"out.weight": Dense(weight * 1.1)})
    features = torch.randn(2, 30, model.input_size)
    padded = torch.cat([features, 100 * torch.ones(2, 9, model.input_size)], dim=1)
    lengths = torch.tensor([30, 30])
    short, long = (
        OutputDivergence(model, [Batch(features, lengths)]),
        OutputDivergence(model, [Batch(padded, lengths)]),
    )
    assert short.distance(other) == pytest.approx(long.distance(other), rel=1e-5)


def test_a_shorter_divergence_has_the_first_utterances() -> None:
    model = speech_model()
    features = torch.randn(5, 30, model.input_size)
    lengths = torch.tensor([30, 20, 10, 30, 30])
    batches = [Batch(features, lengths), Batch(features, lengths)]
    divergence = OutputDivergence(model, batches)
    assert len(divergence.outputs) == 240
    assert len(divergence.shorter(model, 45).outputs) == 50
    assert len(divergence.shorter(model, 121).outputs) == 150
    assert len(divergence.shorter(model, 10_000).outputs) == 240
    assert torch.equal(divergence.shorter(model, 45).outputs, divergence.outputs[:50])

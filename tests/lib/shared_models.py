"""Models that share factors."""

from __future__ import annotations

import torch
from small_models import chain, features, linear, recurrent
from torch import nn

from tinyvox.calibration import Batch, Statistics, gather
from tinyvox.model import Dense, Matrix, Model, Product, layers
from tinyvox.passes import Outcome
from tinyvox.passes.lowrank import factorize
from tinyvox.recipe import FactorizeSettings

FIRST = ("lstm1.forward.weight_hh", "lstm2.forward.weight_ih")
SECOND = ("lstm2.forward.weight_hh", "out.weight")


def stacked(hidden: int = 20) -> Model:
    """Two LSTMs and what reads the second one."""
    torch.manual_seed(0)
    return chain(
        12,
        dense1=linear(16, 12),
        lstm1=recurrent(nn.LSTM(16, hidden)),
        lstm2=recurrent(nn.LSTM(hidden, hidden)),
        out=linear(9, hidden),
        softmax=layers.LogSoftmax(),
    )


def heard(model: Model) -> Statistics:
    return gather(model, [Batch.of(list(features(model.input_size, 40, 4)))])


def joined(model: Model | None = None, rank: int = 6, **options: object) -> Model:
    return factorize(
        model or stacked(), FactorizeSettings(rank=rank, shared_projection=True, **options)
    ).model


def matrices(model: Model) -> dict[str, Matrix]:
    return dict(model.matrices())


def said(outcome: Outcome, layer: str) -> str:
    (note,) = (note for note in outcome.notes if note.layer == layer)
    return note.what


def sets(model: Model) -> list[tuple[str, ...]]:
    return list(model.shared_factors().values())


def apart(model: Model) -> Model:
    """The same numbers, nothing shared."""
    return model.map_matrices(
        lambda _, m: Product(m.left, Dense(m.right.values.clone())) if isinstance(m, Product) else m
    )

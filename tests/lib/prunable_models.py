"""Models with groups of every kind, whose units can go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from small_models import chain, dense, linear, recurrent, speech_model
from torch import nn

from tinyvox.model import INPUT, Model, Node, Product, Recurrent, layers


def rnn_relu(hidden: int, size: int) -> Recurrent:
    return replace(recurrent(nn.RNN(size, hidden)), kind="rnn_relu")


def without_bias(layer: Recurrent) -> Recurrent:
    assert layer.forward is not None
    return replace(layer, forward=replace(layer.forward, bias=None, bias_hn=None))


def stack(kind: type[nn.RNNBase]) -> Model:
    module = kind(5, 8, 2, bidirectional=True)
    return chain(5, first=recurrent(module, 0), second=recurrent(module, 1), out=linear(3, 16))


def batch_norm(channels: int) -> layers.BatchNorm:
    return layers.BatchNorm(
        torch.randn(channels), torch.rand(channels) + 0.5, torch.randn(channels),
        torch.randn(channels),
    )  # fmt: skip


def images() -> Model:
    return chain(
        12,
        image=layers.Unflatten(2),
        conv1=layers.Conv2d(dense(4, 2 * 3 * 3), torch.randn(4), (3, 3), (2, 1), (1, 1, 1, 1)),
        norm1=batch_norm(4),
        clip=layers.Activation("clipped_relu", None, torch.rand(4) + 0.1),
        conv2=layers.Conv2d(dense(6, 4 * 3 * 2), torch.randn(6), (3, 2)),
        flat=layers.Flatten(),
        norm3=batch_norm(30),
        window=layers.ContextWindow(1, 1),
        out=linear(3, 3 * 6 * 5),
    )


def frames() -> Model:
    return chain(
        6,
        conv1=layers.Conv1d(dense(5, 6 * 3), torch.randn(5), 3),
        sigmoid=layers.Activation("sigmoid"),
        conv2=layers.Conv1d(dense(4, 5 * 2), None, 2, dilation=2, padding=(2, 0)),
        stack=layers.FrameStacking(2, 2),
        rnn=recurrent(nn.GRU(8, 7)),
        out=linear(3, 7),
    )


def residual() -> Model:
    """Two layers that are added, one of them reading the sum's other part, and one that joins."""
    return Model(
        6,
        (
            Node("first", linear(8, 6), (INPUT,)),
            Node("tanh", layers.Activation("tanh"), ("first",)),
            Node("second", linear(8, 8), ("tanh",)),
            Node("sum", layers.Add(), ("tanh", "second")),
            Node("side", linear(5, 6), (INPUT,)),
            Node("join", layers.Concat(), ("sum", "side")),
            Node("norm", layers.LayerNorm(torch.rand(13) + 0.5, torch.randn(13)), ("join",)),
            Node("lstm", recurrent(nn.LSTM(13, 6)), ("norm",)),
            Node("out", linear(3, 6), ("lstm",)),
        ),
    )


def factors(rows: int, rank: int, columns: int) -> Product:
    return Product(dense(rows, rank), dense(rank, columns))


def factored() -> Model:
    model = chain(6, rnn=recurrent(nn.GRU(6, 8)), one=linear(9, 8), out=linear(3, 9))
    return model.with_tensors(
        {
            "rnn.forward.weight_ih": factors(24, 3, 6),
            "rnn.forward.weight_hh": factors(24, 4, 8),
            "one.weight": Product(dense(9, 5), factors(5, 2, 8)),
        }
    )


def shared() -> Model:
    """Two layers that read one signal by way of one factor."""
    right = dense(4, 8)
    return Model(
        6,
        (
            Node("first", linear(8, 6), (INPUT,)),
            Node("one", layers.Linear(Product(dense(6, 4), right)), ("first",)),
            Node("two", layers.Linear(Product(dense(5, 4), right)), ("first",)),
            Node("join", layers.Concat(), ("one", "two")),
            Node("out", linear(3, 11), ("join",)),
        ),
    )


MODELS: dict[str, Callable[[], Model]] = {
    "lstm": speech_model,
    "gru": lambda: chain(4, rnn=recurrent(nn.GRU(4, 9)), out=linear(3, 9)),
    "rnn_tanh": lambda: chain(4, rnn=recurrent(nn.RNN(4, 9)), out=linear(3, 9)),
    "rnn_relu": lambda: chain(4, rnn=rnn_relu(9, 4), out=linear(3, 9)),
    "no_bias": lambda: chain(4, rnn=without_bias(recurrent(nn.GRU(4, 9))), out=linear(3, 9)),
    "lstm_stack": lambda: stack(nn.LSTM),
    "gru_stack": lambda: stack(nn.GRU),
    "projected": lambda: chain(4, rnn=recurrent(nn.LSTM(4, 9, proj_size=6)), out=linear(3, 6)),
    "images": images,
    "frames": frames,
    "residual": residual,
    "factored": factored,
    "shared": shared,
}

"""Models and files for the native runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import chain, dense, linear, recurrent, speech_model
from torch import nn

import tinyvox as tv
from tinyvox import runtime
from tinyvox.executor import Executor
from tinyvox.formats import tvx
from tinyvox.model import INPUT, Dense, Model, Node, Product, layers
from tinyvox.quantizers import kmeans


def noise(frames: int, size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((frames, size)).astype(np.float32)


def open_model(model: Model, folder: Path) -> runtime.Session:
    tvx.save(model, folder / "model.tvx")
    return tv.open(folder / "model.tvx")


def by_torch(model: Model, features: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        result: np.ndarray = Executor(model).eval()(torch.from_numpy(features)[None])[0].numpy()
    return result


def network(input_size: int, *nodes: tuple[str, layers.Layer, tuple[str, ...]]) -> Model:
    return Model(input_size, tuple(Node(*node) for node in nodes))


def with_delays() -> Model:
    """A residual around layers that look ahead, by different amounts, at several rates."""
    window = layers.ContextWindow(2, 5)
    return network(
        6,
        ("window", window, (INPUT,)),
        ("narrow", linear(6, 48), ("window",)),
        ("sum", layers.Add(), ("narrow", INPUT)),
        ("conv", layers.Conv1d(dense(6, 30), torch.randn(6), 5, padding=(1, 3)), ("sum",)),
        ("both", layers.Concat(), ("conv", INPUT, "narrow")),
        ("stack", layers.FrameStacking(3, 2), ("both",)),
        ("out", linear(4, 54), ("stack",)),
    )


def batch_norm(size: int) -> layers.BatchNorm:
    return layers.BatchNorm(
        torch.randn(size), torch.rand(size) + 0.5, torch.randn(size), torch.randn(size)
    )


def two_dimensional() -> Model:
    conv = layers.Conv2d(dense(5, 2 * 3 * 3), torch.randn(5), (3, 3), (2, 2), (1, 1, 1, 2))
    return chain(
        16,
        unflatten=layers.Unflatten(2),
        conv=conv,
        norm=batch_norm(5),
        relu=layers.Activation("relu"),
        flatten=layers.Flatten(),
    )


def grouped() -> Model:
    strided = layers.Conv1d(dense(12, 4 * 3), torch.randn(12), 3, 2, 2, (2, 2), groups=2)
    depthwise = layers.Conv1d(dense(12, 4), None, 4, groups=12)
    return chain(8, strided=strided, depthwise=depthwise)


def small_groups() -> Model:
    """Groups that are computed side by side: one or more rows and channels each, and factors."""
    depthwise = layers.Conv1d(dense(16, 5), torch.randn(16), 5, 1, 3, (4, 2), groups=16)
    wider = layers.Conv1d(dense(48, 3), None, 3, 2, groups=16)
    narrower = layers.Conv1d(dense(24, 6 * 2), torch.randn(24), 2, groups=8)
    factors = layers.Conv1d(
        Product(dense(36, 4), dense(4, 2 * 3)), None, 3, padding=(1, 1), groups=12
    )
    return chain(16, depthwise=depthwise, wider=wider, narrower=narrower, factors=factors)


def projected(hidden: int, size: int) -> layers.Recurrent:
    """More values than units, which torch does not have."""
    rows = 4 * hidden
    matrices = dense(rows, 10), dense(rows, size)
    cell = layers.Cell(*matrices, torch.randn(rows), weight_hr=dense(size, hidden))
    return layers.Recurrent("lstm", cell)


MODELS = {
    "linear": lambda: chain(10, out=linear(7, 10)),
    "product": lambda: chain(
        33, out=layers.Linear(Product(Product(dense(9, 3), dense(3, 5)), dense(5, 33)))
    ),
    "lstm": lambda: chain(10, rnn=recurrent(nn.LSTM(10, 17))),
    "gru": lambda: chain(10, rnn=recurrent(nn.GRU(10, 17))),
    "rnn": lambda: chain(10, rnn=recurrent(nn.RNN(10, 17))),
    "bilstm": lambda: chain(10, rnn=recurrent(nn.LSTM(10, 17, bidirectional=True))),
    "projected": lambda: chain(10, rnn=recurrent(nn.LSTM(10, 17, proj_size=5))),
    "projected_up": lambda: chain(10, rnn=projected(4, 9), out=linear(3, 9)),
    "projected_bilstm": lambda: chain(
        10, rnn=recurrent(nn.LSTM(10, 17, proj_size=5, bidirectional=True))
    ),
    "bigru": lambda: chain(10, rnn=recurrent(nn.GRU(10, 9, bidirectional=True))),
    "speech": speech_model,
    "delays": with_delays,
    "conv2d": two_dimensional,
    "grouped": grouped,
    "small_groups": small_groups,
    "layer_norm": lambda: chain(
        12, norm=layers.LayerNorm(torch.randn(12), torch.randn(12)), act=layers.Activation("tanh")
    ),
    "clipped": lambda: chain(
        12,
        act=layers.Activation("clipped_relu", 0.7),
        norm=batch_norm(12),
        gate=layers.Activation("sigmoid"),
    ),
    "clipped_each": lambda: chain(
        12,
        act=layers.Activation("clipped_relu", None, torch.rand(12) + 0.1),
        image=layers.Unflatten(4),
        norm=batch_norm(4),
        each=layers.Activation("clipped_relu", None, torch.rand(4) + 0.1),
    ),
    "subsample": lambda: chain(5, sub=layers.Subsample(3), out=linear(4, 5)),
    "sparse_stack": lambda: chain(5, stack=layers.FrameStacking(2, 5), out=linear(4, 10)),
}


models = pytest.mark.parametrize("name", list(MODELS))


def build(name: str) -> Model:
    torch.manual_seed(3)
    return MODELS[name]()


def code(matrix: Dense | Product, entries: int) -> object:
    if isinstance(matrix, Product):
        return Product(code(matrix.left, entries), code(matrix.right, entries))
    return kmeans(matrix.values, entries.bit_length() - 1)

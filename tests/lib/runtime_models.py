"""Models and files for the native runtime."""

from __future__ import annotations

import dataclasses
import functools
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
from tinyvox.model import INPUT, Dense, Matrix, Model, Node, Product, layers
from tinyvox.quantizers import kmeans


def noise(frames: int, size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((frames, size)).astype(np.float32)


def inputs_of(model: Model | runtime.Session, frames: int, seed: int = 0) -> np.ndarray:
    """Random features for a model or its session; token ids where it takes these."""
    if model.ids is None:
        return noise(frames, model.input_size, seed)
    ids = np.random.default_rng(seed).integers(0, model.ids, (frames, 1))
    return ids.astype(np.float32)


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


def with_ends() -> Model:
    """Linear layers with activations: some alone read the layer, some share it or are shared."""
    relu, six = layers.Activation("relu"), layers.Activation("clipped_relu", 6.0)
    each = layers.Activation("clipped_relu", None, torch.rand(20) + 0.1)
    without_bias = layers.Linear(dense(20, 20))
    return network(
        12,
        ("wide", linear(20, 12), (INPUT,)),
        ("relu", relu, ("wide",)),
        ("bare", without_bias, ("relu",)),
        ("six", six, ("bare",)),
        ("again", without_bias, ("six",)),
        ("positive", layers.Activation("relu"), ("again",)),
        ("read", linear(20, 20), ("positive",)),
        ("limited", layers.Activation("clipped_relu", 0.5), ("read",)),
        ("sum", layers.Add(), ("read", "limited")),
        ("last", linear(20, 20), ("sum",)),
        ("each", each, ("last",)),
        ("out", linear(5, 20), ("each",)),
        ("end", layers.Activation("clipped_relu", 2.0), ("out",)),
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


def two_dimensional_groups() -> Model:
    """Dilated groups, by a matrix and by factors, then a depthwise convolution."""
    dilated = layers.Conv2d(
        dense(6, 2 * 3 * 2), torch.randn(6), (3, 2), (2, 1), (2, 1, 1, 0), (2, 3), 2
    )
    factors = Product(dense(6, 2), dense(2, 3 * 2 * 2))
    return chain(
        32,
        unflatten=layers.Unflatten(4),
        dilated=dilated,
        factors=layers.Conv2d(factors, None, (2, 2), (1, 1), (1, 0, 0, 0), (3, 2), 2),
        depthwise=layers.Conv2d(dense(12, 4), torch.randn(12), (2, 2), groups=6),
        flatten=layers.Flatten(),
    )


def grouped() -> Model:
    strided = layers.Conv1d(dense(12, 4 * 3), torch.randn(12), 3, 2, 2, (2, 2), groups=2)
    depthwise = layers.Conv1d(dense(12, 4), None, 4, groups=12)
    return chain(8, strided=strided, depthwise=depthwise)


def activation(kind: str) -> Model:
    """An activation of flat frames, then of frames with bands."""
    each = {"slopes": torch.rand(4)} if kind == "leaky_relu" else {}
    one = {"slopes": torch.rand(1)} if kind == "leaky_relu" else {}
    return chain(
        12,
        scale=batch_norm(12),
        flat=layers.Activation(kind, **one),
        image=layers.Unflatten(4),
        shift=batch_norm(4),
        bands=layers.Activation(kind, **each),
        flatten=layers.Flatten(),
    )


def gated() -> Model:
    """A mask times the input, which waits for the mask."""
    return network(
        6,
        ("window", layers.ContextWindow(0, 3), (INPUT,)),
        ("narrow", linear(6, 24), ("window",)),
        ("mask", layers.Activation("sigmoid"), ("narrow",)),
        ("masked", layers.Multiply(), ("mask", INPUT, "narrow")),
        ("out", linear(5, 6), ("masked",)),
        ("softmax", layers.Softmax(), ("out",)),
    )


def reduced(kind: str) -> Model:
    """One frame an utterance, of a layer of another rate; then what works on one frame."""
    conv = layers.Conv1d(dense(6, 30), torch.randn(6), 5, 2, padding=(1, 3))
    after = layers.Conv1d(dense(4, 12), torch.randn(4), 2, padding=(0, 1))
    return network(
        6,
        ("conv", conv, (INPUT,)),
        ("rnn", recurrent(nn.GRU(6, 9, bidirectional=True)), ("conv",)),
        ("one", layers.Reduce(kind), ("rnn",)),
        ("other", layers.Reduce(kind), ("conv",)),
        ("out", linear(6, 18), ("one",)),
        ("sum", layers.Add(), ("out", "other")),
        ("after", after, ("sum",)),
        ("again", layers.Reduce("mean"), ("after",)),
    )


def repeated() -> Model:
    """Layers that are used several times, at different rates."""
    rnn, out = recurrent(nn.LSTM(6, 6)), linear(6, 6)
    return network(
        6,
        ("rnn.0", rnn, (INPUT,)),
        ("out.0", out, ("rnn.0",)),
        ("half", layers.Subsample(2), ("out.0",)),
        ("rnn.1", rnn, ("half",)),
        ("out.1", out, ("rnn.1",)),
        ("rnn.2", rnn, ("out.1",)),
    )


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


def varied(kind: str, *, both_ways: bool = False, **functions: str) -> layers.Recurrent:
    """A cell of 10 inputs with other functions; an LSTM has peepholes, and a GRU that resets before
    has a product for its recurrent matrix."""

    def cell(hidden: int) -> layers.Cell:
        rows = layers.GATES[kind] * hidden
        peepholes = torch.randn(3 * hidden) if kind == "lstm" else None
        bias_hn = torch.randn(hidden) if kind == "gru" else None
        weight: Matrix = Dense(dense(rows, hidden).values / 2)  # identities must not explode
        if kind == "gru_reset_before":
            weight = Product(dense(rows, 5), dense(5, hidden))
        return layers.Cell(dense(rows, 10), weight, torch.randn(rows), bias_hn, peepholes=peepholes)

    return layers.Recurrent(kind, cell(17), cell(6) if both_ways else None, **functions)


def projected_peepholes() -> layers.Recurrent:
    """Peepholes in one direction, and projections in both."""
    layer = recurrent(nn.LSTM(10, 17, proj_size=5, bidirectional=True))
    assert layer.forward is not None
    forward = dataclasses.replace(layer.forward, peepholes=torch.randn(3 * 17))
    return dataclasses.replace(layer, forward=forward)


VARIED = {
    "peepholes": lambda: varied("lstm"),
    "peepholes_both": lambda: varied("lstm", both_ways=True, gates="hardsigmoid"),
    "peepholes_projected": projected_peepholes,
    "lstm_relu": lambda: dataclasses.replace(
        recurrent(nn.LSTM(10, 17)), gates="hard_sigmoid_keras", activation="relu"
    ),
    "lstm_identity": lambda: dataclasses.replace(recurrent(nn.LSTM(10, 17)), activation="identity"),
    "gru_hard": lambda: varied("gru", both_ways=True, gates="hard_sigmoid_keras"),
    "gru_sigmoid": lambda: varied("gru", gates="hardsigmoid", activation="sigmoid"),
    "gru_reset_before": lambda: varied("gru_reset_before", both_ways=True),
    "gru_reset_before_relu": lambda: varied(
        "gru_reset_before", gates="hard_sigmoid_keras", activation="relu"
    ),
    "rnn_sigmoid": lambda: varied("rnn_tanh", activation="sigmoid"),
    "rnn_identity": lambda: varied("rnn_tanh", both_ways=True, activation="identity"),
}
"""Recurrent layers of 10 inputs that torch does not have."""


def sliced() -> Model:
    """Parts of a frame, with gaps and in another order."""
    return network(
        10,
        ("rnn", recurrent(nn.GRU(10, 9)), (INPUT,)),
        ("last", layers.Slice(5, 9), ("rnn",)),
        ("one", layers.Slice(0, 1), ("rnn",)),
        ("all", layers.Slice(0, 10), (INPUT,)),
        ("joined", layers.Concat(), ("last", "all", "one")),
        ("out", linear(4, 15), ("joined",)),
    )


def normed(kind: str, groups: int) -> Model:
    """A norm of frames whose mean is not 0."""
    vectors = torch.randn(12), torch.randn(12)
    norm = layers.LayerNorm(*vectors, 1e-3, kind, groups)
    return chain(12, shift=batch_norm(12), norm=norm, act=layers.Activation("tanh"))


def pooled(kind: str) -> Model:
    """Bands and frames pooled, with padding and without; then flat frames, after few of them."""
    return chain(
        24,
        image=layers.Unflatten(3),
        narrow=layers.Pool(kind, (3, 3), (2, 2), (1, 2, 2, 1)),
        bands=layers.Pool(kind, (1, 2), (1, 2)),
        wide=layers.Pool(kind, (5, 1), (1, 1), (4, 0, 0, 0)),
        flatten=layers.Flatten(),
        flat=layers.Pool(kind, (2, 1), (3, 1), (0, 1, 0, 0)),
        out=linear(4, 6),
    )


def placed() -> Model:
    """Values by their places, repeated and turned round, among channels and bands, and zeros."""
    return chain(
        10,
        flat=layers.Take((9, 0, 0, -1, 3, 4, 5, 6, 7, 2, 2, 1)),
        image=layers.Unflatten(3),
        bands=layers.Take((1, 0, 1, 2, 3, 2, -1), axis=1),
        channels=layers.Take((2, -1, 0, 1, 2)),
        flatten=layers.Flatten(),
        out=linear(4, 35),
    )


def up_again() -> Model:
    """Fewer frames, then as many as before, beside the frames that were there."""
    return network(
        6,
        ("down", layers.Conv1d(dense(12, 24), torch.randn(12), 4, 4, padding=(1, 3)), (INPUT,)),
        ("half", layers.FrameUnstacking(2), ("down",)),
        ("conv", layers.Conv1d(dense(12, 18), None, 3, padding=(2, 0)), ("half",)),
        ("up", layers.FrameUnstacking(2), ("conv",)),
        ("sum", layers.Add(), ("up", INPUT)),
        ("out", linear(3, 6), ("sum",)),
    )


def attentive() -> Model:
    """A query out of the middle frame, scores for each frame, and a weighted sum."""
    return network(
        6,
        ("rnn", recurrent(nn.GRU(6, 6, bidirectional=True)), (INPUT,)),
        ("middle", layers.Reduce("middle"), ("rnn",)),
        ("query", linear(12, 12), ("middle",)),
        ("queries", layers.Spread(), ("query", "rnn")),
        ("products", layers.Multiply(), ("queries", "rnn")),
        ("scores", linear(2, 12), ("products",)),
        ("weights", layers.Softmax("time"), ("scores",)),
        ("wide", layers.Take((0,) * 6 + (1,) * 6), ("weights",)),
        ("weighted", layers.Multiply(), ("wide", "rnn")),
        ("sum", layers.Reduce("sum"), ("weighted",)),
        ("out", linear(3, 12), ("sum",)),
    )


def excited() -> Model:
    """A gate from the mean of the utterance, beside a signal that is twice as slow."""
    return network(
        6,
        ("half", layers.FrameStacking(2, 2), (INPUT,)),
        ("mean", layers.Reduce("mean"), ("half",)),
        ("gate", layers.Activation("sigmoid"), ("mean",)),
        ("gates", layers.Spread(), ("gate", "half")),
        ("gated", layers.Multiply(), ("gates", "half")),
        ("window", layers.ContextWindow(1, 1), ("gated",)),
        ("out", linear(3, 36), ("window",)),
    )


def embedded(table: Matrix, *, tied: bool = False) -> Model:
    """Token ids to scores of the next ones."""
    size = table.shape[1]
    out = table if tied else dense(5, size)
    return network(
        1,
        ("table", layers.Embedding(table), (INPUT,)),
        ("rnn", recurrent(nn.LSTM(size, size)), ("table",)),
        ("out", layers.Linear(out, torch.randn(out.shape[0])), ("rnn",)),
    )


def elementwise(*, weight: bool = False, reverse: bool = False) -> Model:
    """Gates of the input, a recurrence value by value, an output gate and a highway."""
    return network(
        10,
        ("forget", linear(10, 10), (INPUT,)),
        ("gate", layers.Activation("hardsigmoid"), ("forget",)),
        ("new", linear(10, 10), (INPUT,)),
        (
            "states",
            layers.ElementwiseRecurrence(torch.randn(10) if weight else None, reverse),
            ("forget" if weight else "gate", "new"),
        ),
        ("open", layers.Multiply(), ("states", "gate")),
        ("sum", layers.Add(), ("open", INPUT)),
        ("out", linear(4, 10), ("sum",)),
    )


def normalizing(kind: str, *, carries: bool = True, sums: bool = False, eps: float = 1e-5) -> Model:
    """A cell that normalizes the products of its state, after a norm of those of its input."""
    rows = layers.GATES[kind] * 9

    def cell() -> layers.Cell:
        lstm = {"norm_cell": torch.rand(18)} if kind == "lstm" else {}
        own = None if sums else dense(rows, 10)
        vectors = {"norm_hh": torch.rand(rows), "bias_hh": torch.randn(rows)}
        return layers.Cell(own, dense(rows, 9), torch.randn(rows), **vectors, **lstm)

    layer = layers.Recurrent(kind, cell(), cell(), carries_norm=carries, eps=eps)
    if not sums:
        return chain(10, rnn=layer, out=linear(3, 18))
    norm = layers.LayerNorm(torch.rand(rows), torch.randn(rows))
    return chain(10, product=linear(rows, 10), norm=norm, rnn=layer)


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
    "ends": with_ends,
    "conv2d": two_dimensional,
    "conv2d_groups": two_dimensional_groups,
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
    **{kind: functools.partial(activation, kind) for kind in layers.ACTIVATIONS[4:]},
    **{f"reduce_{kind}": functools.partial(reduced, kind) for kind in layers.REDUCTIONS},
    **{f"pool_{kind}": functools.partial(pooled, kind) for kind in layers.POOLINGS},
    "placed": placed,
    "up_again": up_again,
    "attentive": attentive,
    "excited": excited,
    "gated": gated,
    **{
        name: functools.partial(lambda make: chain(10, rnn=make()), make)
        for name, make in VARIED.items()
    },
    "embedding": lambda: embedded(dense(11, 6)),
    "embedding_product": lambda: embedded(
        Product(Product(dense(11, 3), dense(3, 2)), Product(dense(2, 4), dense(4, 6)))
    ),
    "embedding_tied": lambda: embedded(dense(11, 6), tied=True),
    "elementwise": elementwise,
    "elementwise_reverse": lambda: elementwise(reverse=True),
    "elementwise_weight": lambda: elementwise(weight=True),
    "elementwise_weight_reverse": lambda: elementwise(weight=True, reverse=True),
    "norm_lstm": lambda: normalizing("lstm"),
    "norm_lstm_sums": lambda: normalizing("lstm", carries=False, sums=True, eps=1e-3),
    "norm_gru": lambda: normalizing("gru"),
    "norm_rnn": lambda: normalizing("rnn_tanh", sums=True),
    "norm_li_gru": lambda: normalizing("li_gru"),
    "li_gru_sums": lambda: chain(
        18,
        rnn=layers.Recurrent(
            "li_gru", layers.Cell(None, Dense(dense(18, 9).values / 3)), activation="relu"
        ),
    ),
    "gru_reset_before_sums": lambda: chain(
        27, rnn=layers.Recurrent("gru_reset_before", layers.Cell(None, dense(27, 9)))
    ),
    "sliced": sliced,
    "layer_norm_groups": lambda: normed("layer", 3),
    "rms_norm": lambda: normed("rms", 1),
    "rms_norm_groups": lambda: normed("rms", 4),
    "repeated": repeated,
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

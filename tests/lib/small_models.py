"""Small models for the tests, and the way from torch's recurrent modules to tinyvox's layers."""

import torch
from torch import Tensor, nn

from tinyvox.executor import Executor
from tinyvox.model import INPUT, Cell, Dense, Linear, Matrix, Model, Node, Recurrent, layers
from tinyvox.passes import Outcome

KINDS = {nn.LSTM: "lstm", nn.GRU: "gru", nn.RNN: "rnn_tanh"}


def chain(input_size: int, **named: layers.Layer) -> Model:
    """Layers one after the other, under the names of the arguments."""
    nodes, before = [], INPUT
    for name, layer in named.items():
        nodes.append(Node(name, layer, (before,)))
        before = name
    return Model(input_size, tuple(nodes))


def dense(*shape: int) -> Dense:
    return Dense(torch.randn(*shape) / shape[1] ** 0.5)


def linear(out: int, size: int) -> Linear:
    return Linear(dense(out, size), torch.randn(out))


def cell(module: nn.RNNBase, layer: int = 0, backward: bool = False) -> Cell:
    """One layer and direction of an nn.LSTM, nn.GRU or nn.RNN."""
    suffix = f"_l{layer}{'_reverse' if backward else ''}"
    w_ih, w_hh, b_ih, b_hh = (
        getattr(module, name + suffix).detach().clone()
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    bias_hn = None
    if isinstance(module, nn.GRU):
        bias_hn, b_hh[-module.hidden_size :] = b_hh[-module.hidden_size :].clone(), 0
    weight_hr = None
    if module.proj_size:
        weight_hr = Dense(getattr(module, "weight_hr" + suffix).detach().clone())
    return Cell(Dense(w_ih), Dense(w_hh), b_ih + b_hh, bias_hn, weight_hr)


def recurrent(module: nn.RNNBase, layer: int = 0) -> Recurrent:
    backward = cell(module, layer, True) if module.bidirectional else None
    return Recurrent(KINDS[type(module)], cell(module, layer), backward)


def speech_model(hidden: int = 24, seed: int = 0) -> Model:
    """Linear, LSTM, Linear: the shape of DeepSpeech, small."""
    torch.manual_seed(seed)
    return chain(
        10,
        dense1=linear(32, 10),
        relu=layers.Activation("relu"),
        lstm=recurrent(nn.LSTM(32, hidden)),
        out=linear(7, hidden),
        softmax=layers.LogSoftmax(),
    )


def run(model: Model, x: Tensor) -> Tensor:
    """The outputs of a model by the torch executor."""
    with torch.no_grad():
        outputs: Tensor = Executor(model).eval()(x)
    return outputs


def features(size: int, frames: int = 11, batch: int = 2) -> Tensor:
    return torch.randn(batch, frames, size, generator=torch.Generator().manual_seed(1))


def deepspeech(hidden: int = 24) -> Model:
    """Linear, clipped ReLU, LSTM, Linear, clipped ReLU, Linear."""
    torch.manual_seed(0)
    return chain(
        10,
        dense1=linear(32, 10),
        relu1=layers.Activation("clipped_relu", 0.5),
        lstm=recurrent(nn.LSTM(32, hidden)),
        dense2=linear(20, hidden),
        relu2=layers.Activation("clipped_relu", 0.5),
        out=linear(7, 20),
        softmax=layers.LogSoftmax(),
    )


def weight(model: Model, name: str = "out") -> Matrix:
    return dict(model.matrices())[f"{name}.weight"]


def what(outcome: Outcome, layer: str) -> str:
    """The one note about a layer."""
    (note,) = (note for note in outcome.notes if note.layer == layer)
    return note.what


def rounded(model: Model, bits: int) -> Model:
    """Every matrix on one symmetric grid of 2^bits - 1 levels."""

    def code(_: str, matrix: Matrix) -> Dense:
        values = matrix.decode()
        step = values.abs().max() / (2 ** (bits - 1) - 1)
        return Dense((values / step).round() * step)

    return model.map_matrices(code)

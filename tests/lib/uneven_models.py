"""Models whose units are of many sizes."""

from __future__ import annotations

import torch
from small_models import chain, dense, features, linear, recurrent, run, speech_model
from torch import nn

from tinyvox.model import (
    INPUT,
    Activation,
    BatchNorm,
    Cell,
    Conv1d,
    Conv2d,
    Dense,
    Linear,
    Matrix,
    Model,
    Node,
    Product,
    Recurrent,
    layers,
)
from tinyvox.passes import Outcome
from tinyvox.recipe import EqualizeSettings

PLAIN = EqualizeSettings(absorb=False)


def what(outcome: Outcome, layer: str) -> str:
    return "; ".join(note.what for note in outcome.notes if note.layer == layer)


def batch_norm(channels: int) -> BatchNorm:
    return BatchNorm(
        torch.randn(channels), torch.rand(channels) + 0.5, torch.randn(channels) + 0.1,
        torch.randn(channels),
    )  # fmt: skip


def uneven(model: Model, spread: float = 3.0) -> Model:
    """Rows of very different ranges: each is multiplied by up to e^spread."""

    def scale(_: str, matrix: Matrix) -> Dense:
        factors = torch.exp(spread * (2 * torch.rand(matrix.shape[0], 1) - 1))
        return Dense(matrix.decode() * factors / factors.square().mean().sqrt())

    return model.map_matrices(scale)


def clipped_model() -> Model:
    return chain(
        10,
        window=layers.ContextWindow(2, 2),
        a=linear(32, 50),
        clip=Activation("clipped_relu", 0.7),
        b=linear(24, 32),
        relu=Activation("relu"),
        lstm=recurrent(nn.LSTM(24, 16)),
        c=linear(20, 16),
        clip2=Activation("clipped_relu", 0.3),
        out=linear(7, 20),
        softmax=layers.LogSoftmax(),
    )


def convolution_model() -> Model:
    return chain(
        12,
        image=layers.Unflatten(2),
        conv1=Conv2d(dense(4, 18), torch.randn(4), (3, 3), (2, 1), (1, 1, 1, 1)),
        norm1=batch_norm(4),
        clip=Activation("clipped_relu", 0.5),
        conv2=Conv2d(dense(6, 4 * 6), None, (3, 2)),
        norm2=batch_norm(6),
        relu=Activation("relu"),
        flat=layers.Flatten(),
        clip2=Activation("clipped_relu", 0.8),
        stack=layers.FrameStacking(2, 1),
        out=linear(3, 2 * 6 * 5),
    )


def mobile_model() -> Model:
    """Depthwise and pointwise convolutions in turn, as in MobileNet, over time."""
    named: dict[str, layers.Layer] = {
        "first": Conv1d(dense(16, 30), None, 3),
        "norm": batch_norm(16),
    }
    named["relu"] = Activation("clipped_relu", 6.0)
    for i in range(2):
        named |= {
            f"depth{i}": Conv1d(dense(16, 3), torch.randn(16), 3, padding=(1, 1), groups=16),
            f"clip{i}": Activation("clipped_relu", 1.0),
            f"point{i}": Conv1d(dense(16, 16), None, 1),
            f"norm{i}": batch_norm(16),
            f"relu{i}": Activation("relu"),
        }
    return calibrated(chain(10, **named, out=linear(5, 16)))


def image_model() -> Model:
    """Depthwise and pointwise convolutions over time and bands."""
    depthwise = Conv2d(dense(8, 6), None, (3, 2), (1, 1), (1, 1, 0, 1), (2, 1), 8)
    return chain(
        12,
        image=layers.Unflatten(2),
        first=Conv2d(dense(8, 2 * 4), torch.randn(8), (2, 2)),
        relu=Activation("relu"),
        depth=depthwise,
        clip=Activation("clipped_relu", 1.0),
        point=Conv2d(dense(6, 8), None, (1, 1)),
        rectified=Activation("relu"),
        flat=layers.Flatten(),
        out=linear(3, 6 * 5),
    )


def calibrated(model: Model) -> Model:
    """The model with the statistics that its batch norms would have learned of white inputs."""
    for i, node in enumerate(model.nodes):
        if isinstance(node.layer, BatchNorm):
            seen = run(Model(model.input_size, model.nodes[:i]), features(model.input_size, 200, 8))
            frames = seen.flatten(0, 1)
            model = model.with_tensors(
                {f"{node.name}.mean": frames.mean(0), f"{node.name}.variance": frames.var(0)}
            )
    return model


def grouped_model() -> Model:
    return chain(
        6,
        a=linear(8, 6),
        relu=Activation("relu"),
        conv=Conv1d(dense(12, 4 * 3), torch.randn(12), 3, 2, 2, (2, 2), groups=2),
        clip=Activation("clipped_relu", 0.4),
        out=linear(3, 12),
    )


def relu_network() -> Model:
    first = Cell(dense(20, 10), Dense(torch.randn(20, 20) / 9), torch.randn(20))
    two = [Cell(dense(9, 20), Dense(torch.randn(9, 9) / 6), torch.randn(9)) for _ in range(2)]
    return chain(
        10,
        rnn=Recurrent("rnn_relu", first),
        both=Recurrent("rnn_relu", *two),
        out=linear(4, 18),
    )


def residual_model() -> Model:
    nodes = (
        ("a", linear(12, 10), (INPUT,)),
        ("relu_a", Activation("relu"), ("a",)),
        ("b", linear(12, 12), ("relu_a",)),
        ("sum", layers.Add(), ("relu_a", "b")),
        ("clip", Activation("clipped_relu", 0.6), ("sum",)),
        ("norm", batch_norm(12), ("clip",)),
        ("side", linear(5, 10), (INPUT,)),
        ("both", layers.Concat(), ("norm", "side")),
        ("relu", Activation("relu"), ("both",)),
        ("out", linear(4, 17), ("relu",)),
    )
    return Model(10, tuple(Node(*node) for node in nodes))


def product_model() -> Model:
    return chain(
        10,
        a=Linear(Product(dense(16, 4), dense(4, 10)), torch.randn(16)),
        relu=Activation("relu"),
        out=Linear(Product(Product(dense(5, 3), dense(3, 4)), dense(4, 16))),
    )


MODELS = {
    "speech": speech_model, "clipped": clipped_model, "convolution": convolution_model,
    "mobile": mobile_model, "grouped": grouped_model, "relu network": relu_network,
    "residual": residual_model, "product": product_model, "image": image_model,
}  # fmt: skip

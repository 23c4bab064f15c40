"""The DeepSpeech architecture, untrained."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field

from tinyvox.model import (
    INPUT,
    Activation,
    Cell,
    ContextWindow,
    Dense,
    Layer,
    Linear,
    LogSoftmax,
    Model,
    Node,
    Recurrent,
    SpeechCard,
)


class Architecture(BaseModel):
    """DeepSpeech (Hannun 2014, as Mozilla built it): three clipped-ReLU layers over a context
    window, an LSTM, one more layer, one output a token."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["deepspeech"] = "deepspeech"
    width: Annotated[int, Field(ge=1)] = 512
    context: Annotated[int, Field(ge=0)] = 9
    clip: Annotated[float, Field(gt=0)] = 20.0


def deepspeech(architecture: Architecture, card: SpeechCard, seed: int) -> Model:
    """An untrained model. Weights as PyTorch initializes its own layers."""
    torch.manual_seed(seed)
    width, window = architecture.width, 2 * architecture.context + 1
    clip = architecture.clip
    chain: list[tuple[str, Layer]] = [
        ("context", ContextWindow(architecture.context, architecture.context))
    ]
    size = card.features.size * window
    for i in (1, 2, 3):
        chain += [(f"dense{i}", _linear(size, width)), (f"relu{i}", _clipped(clip))]
        size = width
    chain += [("lstm", Recurrent("lstm", _lstm_cell(width)))]
    chain += [("dense5", _linear(width, width)), ("relu5", _clipped(clip))]
    output = _linear(width, len(card.tokens))
    # Blanks from the start: else the space becomes the filler, and single words unlearn it.
    output = output.with_tensors(
        {"bias": F.one_hot(torch.tensor(card.blank), len(card.tokens)) * 3.0}
    )
    chain += [("output", output), ("log_softmax", LogSoftmax())]
    names = [INPUT, *(name for name, _ in chain)]
    nodes = tuple(Node(n, layer, (names[i],)) for i, (n, layer) in enumerate(chain))
    return Model(card.features.size, nodes, card)


def _clipped(clip: float) -> Activation:
    return Activation("clipped_relu", clip)


def _linear(size: int, width: int) -> Linear:
    module = torch.nn.Linear(size, width)
    torch.nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
    return Linear(Dense(module.weight.detach()), torch.zeros(width))


def _lstm_cell(width: int) -> Cell:
    weights = dict(torch.nn.LSTM(width, width).named_parameters())
    bias = torch.zeros(4 * width)
    bias[width : 2 * width] = 1.0  # forget gates start open (Jozefowicz 2015)
    weight_ih, weight_hh = weights["weight_ih_l0"], weights["weight_hh_l0"]
    return Cell(Dense(weight_ih.detach()), Dense(weight_hh.detach()), bias)

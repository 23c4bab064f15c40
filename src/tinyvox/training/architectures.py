"""Architectures to train: untrained models, with initial weights."""

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
    """DeepSpeech (Hannun 2014, in the form of Mozilla's): a context window, three layers with
    clipped ReLU, an LSTM, one more such layer, and one output for each token."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    kind: Literal["deepspeech"] = "deepspeech"
    width: Annotated[int, Field(ge=1, le=2**16)] = 512
    """Neurons of each layer, and hidden units of the LSTM."""
    context: Annotated[int, Field(ge=0, le=1000)] = 9
    """Frames before and after the present one that the first layer sees."""
    clip: Annotated[float, Field(gt=0)] = 20.0
    """The highest output of the clipped ReLU."""


def deepspeech(architecture: Architecture, card: SpeechCard, seed: int) -> Model:
    """An untrained model whose input and output are those of the card.

    Dense layers are initialized for ReLU (He 2015), the LSTM as PyTorch does it, with the forget
    gates open. Seeds torch's own random generator.
    """
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
    # The blank is likely from the start. Else the model learns to fill time with the space, and has
    # to unlearn it for single words.
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

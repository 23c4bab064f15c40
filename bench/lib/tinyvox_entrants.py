"""tinyvox: a module's layer coded at some bits, in a file, as a stream of the native runtime."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import nn

from lib.entrants import Entrant, Frames, Meaning
from tinyvox import _native, runtime
from tinyvox.executor import Executor
from tinyvox.formats import tvx
from tinyvox.model import INPUT, Cell, Dense, Layer, Linear, Model, Node, Recurrent
from tinyvox.passes.quantization import quantize
from tinyvox.recipe import QuantizeSettings

TOLERANCE = 0.03
"""Activations become int8: 1/127 of a frame's largest, through a recurrent layer."""


def name(bits: int) -> str:
    """What we are called at so many bits."""
    return f"tinyvox, {bits} bits"


def isa_in_use() -> str:
    """The instruction set that sessions take: the best, or the one of TINYVOX_ISA."""
    return os.environ.get("TINYVOX_ISA") or _native.isas()[0]


def entrants(
    kind: str, module: nn.Module, depths: Sequence[int], folder: Path
) -> Iterator[Entrant]:
    """Evenly spaced levels for a whole matrix, 2 to the power of bits."""
    layer = layer_of(kind, module)
    columns = next(module.parameters()).shape[1]  # of the matrix of inputs, which comes first
    model = Model(columns, (Node(kind, layer, (INPUT,)),))
    for bits in depths:
        settings = QuantizeSettings(
            method="asymmetric", granularity="tensor", bits=bits, vectors="float32"
        )
        small = quantize(model, settings).model
        tvx.save(small, folder / "layer.tvx")
        session = runtime.open(folder / "layer.tvx")
        yield Entrant(name(bits), _binder(session), meaning_of(small), TOLERANCE)


def layer_of(kind: str, module: nn.Module) -> Layer:
    """An nn.LSTM or nn.GRU of one layer, or an nn.Linear."""
    tensors = {key: value.detach() for key, value in module.named_parameters()}
    if kind == "dense":
        return Linear(Dense(tensors["weight"]), tensors["bias"])
    bias, bias_hh, bias_hn = tensors["bias_ih_l0"], tensors["bias_hh_l0"].clone(), None
    if kind == "gru":
        bias_hn = bias_hh[2 * len(bias_hh) // 3 :].clone()
        bias_hh[2 * len(bias_hh) // 3 :] = 0
    weights = (Dense(tensors["weight_ih_l0"]), Dense(tensors["weight_hh_l0"]))
    return Recurrent(kind, Cell(*weights, bias + bias_hh, bias_hn))


def meaning_of(model: Model) -> Meaning:
    """In torch, by the decoded weights."""
    executor = Executor(model).eval()

    def run(frames: Frames) -> Frames:
        with torch.inference_mode():
            outputs: Frames = executor(torch.from_numpy(frames)[None])[0].numpy()
        return outputs

    return run


def _binder(session: runtime.Session) -> Callable[[Frames], Callable[[], Frames]]:
    def bind(frames: Frames) -> Callable[[], Frames]:
        push = session.feature_stream().push
        return lambda: push(frames)

    return bind

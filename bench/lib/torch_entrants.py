"""PyTorch, float32 and dynamic int8, at its best on this machine."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from lib.entrants import FLOAT_TOLERANCE, PEERS_OWN, Entrant, Frames, Meaning

ENGINES = ("x86", "fbgemm", "onednn")
"""Of int8; the fastest is taken."""
FLOAT, INT8 = "torch float32", "torch int8"


def entrants(module: nn.Module, whole: bool = False) -> Iterator[Entrant]:
    """PyTorch in float by both its ways, and in int8 by each engine: an nn.LSTM, an nn.GRU, or a
    module without state. Calls are to be made in inference mode.

    What is called takes [frames, 1, size].
    """
    meaning = meaning_of(module)
    for one_dnn in (True, False):
        variant = "oneDNN" if one_dnn else "without oneDNN"
        yield Entrant(FLOAT, _binder(module, one_dnn), meaning, FLOAT_TOLERANCE, variant, whole)
    for engine in ENGINES:
        if engine in torch.backends.quantized.supported_engines:
            bind = _binder(quantized(module, engine), True)
            yield Entrant(INT8, bind, meaning, PEERS_OWN, engine, whole)


def meaning_of(module: nn.Module) -> Meaning:
    """What a module gives for all frames at once, in float."""

    def run(frames: Frames) -> Frames:
        with torch.inference_mode():
            outputs = module(torch.from_numpy(frames)[:, None])
        values: Frames = (outputs[0] if isinstance(outputs, tuple) else outputs)[:, 0].numpy()
        return values

    return run


def quantized(module: nn.Module, engine: str) -> nn.Module:
    """The module in dynamic int8 by this engine."""
    torch.backends.quantized.engine = engine
    held = nn.ModuleList([module])  # what stands alone is not replaced
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.ao is deprecated, and has no successor for LSTMs
        done: nn.ModuleList = torch.ao.quantization.quantize_dynamic(  # type: ignore[no-untyped-call]
            held, {nn.LSTM, nn.GRU, nn.Linear}
        )
    return done[0]


def _binder(module: nn.Module, one_dnn: bool) -> Callable[[Frames], Callable[[], Any]]:
    def bind(frames: Frames) -> Callable[[], Any]:
        x, state = torch.from_numpy(frames)[:, None], None

        def plain() -> Any:
            return module(x)

        def step() -> Any:
            nonlocal state
            outputs, state = module(x, state)
            return outputs

        call = step if hasattr(module, "hidden_size") else plain
        return call if one_dnn else _without_one_dnn(call)

    return bind


def _without_one_dnn(call: Callable[[], Any]) -> Callable[[], Any]:
    switch: Callable[[bool], Any] = torch.backends.mkldnn.set_flags

    def switched() -> Any:
        switch(False)
        outputs = call()
        switch(True)
        return outputs

    return switched

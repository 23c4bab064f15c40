"""PyTorch, float32 and dynamic int8, at its best on this machine."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from peers import Entrant, Frames, Meaning
from torch import Tensor, nn

ENGINES = ("x86", "fbgemm", "onednn")
"""Of int8; the fastest is taken."""
FLOAT, INT8 = "torch float32", "torch int8"


def entrants(module: nn.Module, whole: bool = False) -> Iterator[Entrant]:
    """For an nn.LSTM, an nn.GRU, or a module without state; calls are to be made in inference mode.

    What is called takes [frames, 1, size].
    """
    meaning = meaning_of(module)
    for one_dnn in (True, False):
        variant = "oneDNN" if one_dnn else "without oneDNN"
        yield Entrant(FLOAT, _binder(module, one_dnn), meaning, 1e-4, variant, whole)
    for engine in ENGINES:
        if engine in torch.backends.quantized.supported_engines:
            bind = _binder(quantized(module, engine), True)
            yield Entrant(INT8, bind, meaning, 0.1, engine, whole)


def meaning_of(module: nn.Module) -> Meaning:
    def run(frames: Frames) -> Frames:
        with torch.inference_mode():
            outputs = module(torch.from_numpy(frames)[:, None])
        values: Frames = (outputs[0] if isinstance(outputs, tuple) else outputs)[:, 0].numpy()
        return values

    return run


def quantized(module: nn.Module, engine: str) -> nn.Module:
    torch.backends.quantized.engine = engine
    held = nn.ModuleList([module])  # what stands alone is not replaced
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.ao is deprecated, and has no successor for LSTMs
        done = torch.ao.quantization.quantize_dynamic(held, {nn.LSTM, nn.GRU, nn.Linear})
    return done[0]


def _binder(module: nn.Module, one_dnn: bool) -> Callable[[Frames], Callable[[], Any]]:
    def bind(frames: Frames) -> Callable[[], Any]:
        x, state = torch.from_numpy(frames)[:, None], None

        def plain() -> Tensor:
            return module(x)

        def step() -> Tensor:
            nonlocal state
            outputs, state = module(x, state)
            return outputs

        call = step if hasattr(module, "hidden_size") else plain
        return call if one_dnn else _without_one_dnn(call)

    return bind


def _without_one_dnn(call: Callable[[], Tensor]) -> Callable[[], Tensor]:
    switch = torch.backends.mkldnn.set_flags

    def switched() -> Tensor:
        switch(False)
        outputs = call()
        switch(True)
        return outputs

    return switched

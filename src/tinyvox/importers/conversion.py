"""From a tape to a model: the meaning of the input's dimensions is found, the result compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from tinyvox.errors import ImporterError
from tinyvox.executor import Executor
from tinyvox.importers.operators import canonical
from tinyvox.importers.tape import Traced
from tinyvox.importers.walk import Walk, context_of
from tinyvox.model import Model

Layout = tuple[str, ...]
LAYOUTS: dict[int, tuple[Layout, ...]] = {
    2: (("time", "feature"), ("feature", "time")),
    3: (("batch", "time", "feature"), ("time", "batch", "feature"), ("batch", "feature", "time")),
    4: (
        ("batch", "", "feature", "time"),
        ("batch", "", "time", "feature"),
        ("batch", "time", "window", "feature"),
        ("batch", "feature", "feature", "time"),
        ("batch", "feature", "time", "feature"),
    ),
}
"""What the dimensions of an input may mean, by their number, in the order of the tries. A window
holds frames around the present one: such an input is tried with windows that belong together."""

TOKEN_LAYOUTS: dict[int, tuple[Layout, ...]] = {
    1: (("time",),),
    2: (("batch", "time"), ("time", "batch")),
}
"""The same of an input that holds token ids."""

_TOLERANCE, _ROUNDING = 1e-3, 1e-5
"""How much the outputs of model and source may differ, relative to how far the outputs differ from
their mean over the frames, and relative to the largest output."""


def convert(traced: Traced) -> tuple[Model, Walk]:
    """The model, for the first meaning of the input's dimensions that works.

    Where none does, the error is that of the meaning with which most weights were understood.
    """
    _check_spectrum(traced)
    failed: list[tuple[int, int, ImporterError]] = []
    for layout in _layouts(traced):
        walk = Walk(traced, layout)
        try:
            model = walk.model()
            compare(model, walk, walk.taken, walk.expected)
            return model, walk
        except ImporterError as error:
            weighted = sum(bool(n.layer.matrices()) for n in walk.graph.nodes.values())
            failed.append((weighted, -len(failed), error))
    shape = traced.entry.shape
    usual = [layout for layout in _meanings(traced) if layout[-1] != "time" or len(layout) != 3]
    one_frame = all(shape[layout.index("time")] == 1 for layout in usual) and not traced.states
    if not failed or one_frame:
        raise ImporterError(
            f"the input has shape {list(shape)}, expected [batch, frames, features] "
            "with two frames or more, so that frames can be told from the rest"
        )
    raise max(failed, key=lambda failure: failure[:2])[2]


_SPECTRUM = frozenset(
    ("stft", "istft", "fft_rfft", "fft_fft", "fft_irfft", "fft_ifft", "_fft_r2c", "_fft_c2c")
)
"""Operators that are a spectrum, or the way back."""


def _check_spectrum(traced: Traced) -> None:
    """Raise ImporterError where the source computes its features from a waveform."""
    for step in traced.tape.needed([traced.output]):
        if step.operator in _SPECTRUM:
            raise ImporterError(
                f"{step.where}: computes a spectrum, and tinyvox takes features, not waveforms; "
                "import the part of the module after this line, with its features as the example"
            )


def _layouts(traced: Traced) -> Iterator[Layout]:
    """The possible meanings of the input's dimensions; a model with states takes frame by frame."""
    shape = traced.entry.shape
    for layout in _meanings(traced):
        frames = shape[layout.index("time")]
        odd = "" in layout and shape[layout.index("")] != 1
        odd = odd or traced.time not in (None, layout.index("time"))
        if not odd and (frames > 1 or traced.states) and ("window" in layout) == traced.windowed:
            yield layout


def _meanings(traced: Traced) -> tuple[Layout, ...]:
    """What the dimensions may mean by their number, and by whether they hold features."""
    known = LAYOUTS if traced.entry.tensor.is_floating_point() else TOKEN_LAYOUTS
    return known.get(len(traced.entry.shape), ())


def compare(model: Model, walk: Walk, features: Tensor, outputs: Tensor) -> None:
    """Raise ImporterError where the model's outputs for features [batch, frames, size] differ from
    the source's, `outputs`, in the layout that the walk found."""
    with torch.no_grad():
        found = Executor(model)(features).flatten(2)
    expected = canonical(walk.output.axes, outputs)
    if found.shape != expected.shape:
        raise ImporterError(
            f"the model gives {list(found.shape)}, the program {list(expected.shape)}: "
            "it depends on the number of frames in a way that no layer does"
        )
    if not expected.numel():  # too few frames for an output
        return
    apart = float((found - expected).abs().max())
    varying = expected - (expected.mean((0, 1)) if expected[..., 0].numel() > 1 else 0)
    allowed = _TOLERANCE * varying.abs().max() + _ROUNDING * expected.abs().max()
    if not apart <= float(allowed):
        raise ImporterError(
            f"the model's outputs differ from the program's by {apart:.3g}: an operation changes "
            "a tensor in place or depends on the number of frames"
        )


def windows(signal: Tensor, size: int) -> Tensor:
    """Each frame of a signal, [batch, frames, features], with those around it, zeros beyond its
    ends: [batch, frames, size, features]."""
    padded = torch.nn.functional.pad(signal, (0, 0, *context_of(size)))
    return padded.unfold(1, size, 1).transpose(2, 3).contiguous()


def longer(walk: Walk) -> Tensor:
    """An input of twice as many frames."""
    time = walk.layout.index("time")
    if "window" in walk.layout:
        signal = torch.cat([walk.taken, walk.taken.flip(1)], dim=1)
        return windows(signal, walk.example.shape[walk.layout.index("window")])
    return torch.cat([walk.example, walk.example.flip(time)], dim=time)


def compare_longer(model: Model, walk: Walk, trace: Callable[[Tensor], Traced]) -> None:
    """Compare for twice as many frames with a source that takes any number."""
    again = trace(longer(walk))
    second = Walk(again, walk.layout)
    second.model()
    compare(model, second, second.taken, second.expected)

"""One architecture in this process: imported as published, compared, made small."""

from __future__ import annotations

import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import tinyvox as tv
from lib.results import Row
from lib.zoo.architecture import Architecture, Inputs
from tinyvox.errors import TinyvoxError
from tinyvox.model import Model
from tinyvox.passes import Note
from tinyvox.planner import Effort
from tinyvox.workflow import BYTES_A_PARAMETER, left_float

RATIO = 20


def trial(architecture: Architecture, effort: Effort | None) -> Row:
    """The row of an architecture. What failed is in `error`, the step of it in `failed`.

    Without an effort it is imported and run, and not made small. Seconds are those of the
    processor, on one thread: other work on the machine does not count.
    """
    warnings.simplefilter("ignore")  # the modules are as published, those of old torches too
    torch.manual_seed(0)
    module = lively(architecture.build()).eval()
    row: Row = {
        "model": architecture.name,
        "source": architecture.source,
        "parameters": sum(p.numel() for p in module.parameters()),
    }
    step = "import"
    try:
        with tempfile.TemporaryDirectory() as folder:
            model, costs = _imported(module, architecture)
            row |= costs
            step = "run"
            row |= _compared(module, model, architecture, Path(folder) / "float.tvx")
            step = "compress"
            if effort is not None:
                row |= _small(model, effort, Path(folder) / "small.tvx")
    except Exception as error:  # a bug is a result too
        row |= {"failed": step, **_said(error)}
    return row


def lively(module: nn.Module) -> nn.Module:
    """Weights with which signals neither vanish nor explode, and batch norms that do something.

    What PyTorch starts with makes outputs so nearly constant that equal ones would prove little.
    """
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.dim() >= 2 and "hh" not in name:
                parameter.mul_(2)
        for part in module.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                assert part.running_mean is not None
                assert part.running_var is not None
                part.running_mean.normal_(0, 0.2)
                part.running_var.uniform_(0.5, 2)
    return module


def _imported(module: nn.Module, architecture: Architecture) -> tuple[Model, Row]:
    """The model, and the seconds and bytes that it took."""
    inputs = architecture.example(architecture.lengths[0])
    _outputs(module, inputs)
    before, start = _peak(), time.process_time()
    model = tv.from_torch(module, inputs if len(inputs) > 1 else inputs[0])
    seconds = time.process_time() - start
    said = {key: value for key, value in model.provenance.items() if key != "source"}
    return model, {"seconds": seconds, "peak_bytes": _peak() - before, "provenance": said}


def _compared(module: nn.Module, model: Model, architecture: Architecture, path: Path) -> Row:
    """How far the native runtime is from PyTorch, for inputs of several lengths.

    `spread` is how far PyTorch's outputs are from their mean.
    """
    tv.save(model, path)
    largest, spread = 0.0, 0.0
    with tv.open(path) as session:
        for frames in architecture.lengths:
            features, expected = _reference(module, architecture, frames)
            found = torch.from_numpy(session.run(features.numpy()))
            if found.shape != expected.shape:
                raise TinyvoxError(
                    f"the native runtime gives {list(found.shape)} for {frames} frames, "
                    f"PyTorch {list(expected.shape)}"
                )
            largest = max(largest, float((found - expected).abs().max()))
            spread = max(spread, float((expected - expected.mean()).abs().max()))
    return {"difference": largest, "spread": spread, "lengths": list(architecture.lengths)}


def _reference(module: nn.Module, architecture: Architecture, frames: int) -> tuple[Tensor, Tensor]:
    """Random features [frames, size], and what PyTorch makes of them, [frames', size']."""
    inputs = architecture.example(frames)
    if not architecture.stepwise:
        return architecture.features(inputs), architecture.outputs(_outputs(module, inputs))
    features = torch.randn(frames, inputs[0].shape[-1])
    state, found = inputs[1], []
    for frame in features:
        output, state = _outputs(module, (frame[None], state))
        found.append(output[0])
    return features, torch.stack(found)


def _outputs(module: nn.Module, inputs: Inputs) -> Any:
    with torch.no_grad():
        return module(*inputs)


def _small(model: Model, effort: Effort, path: Path) -> Row:
    """What a compression without data takes, gives and leaves."""
    start = time.process_time()
    result = tv.compress(model, ratio=RATIO, effort=effort)
    seconds = time.process_time() - start
    size = result.save(path)
    left = left_float(result.model)
    return {
        "small_seconds": seconds,
        "small_bytes": size,
        "small_ratio": BYTES_A_PARAMETER * model.original_parameters / size,
        "left_float": left,
        "left_in_silence": [name for name in left if not _is_noted(name, result.notes)],
    }


def _is_noted(name: str, notes: Iterable[Note]) -> bool:
    """Whether a note is about a tensor, or the layer that it belongs to."""
    return any(name == note.layer or name.startswith(note.layer + ".") for note in notes)


def _said(error: Exception) -> Row:
    """An error's first line, how many it has, and whether tinyvox means to raise it.

    Where it does not, the line begins with the place that it comes from.
    """
    meant = isinstance(error, TinyvoxError)
    lines = str(error).strip().splitlines() or [""]
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}: "
    return {"error": ("" if meant else place) + lines[0], "lines": len(lines), "meant": meant}


def _peak() -> int:
    """The most memory that the process has had, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

"""Any file that a model can be written as, by its suffix."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tinyvox.exporters.forms import Form, named_leaves
from tinyvox.exporters.onnx import export_onnx
from tinyvox.exporters.pt2 import export_pt2, export_with_card, fixed_frames
from tinyvox.exporters.safetensors import export_safetensors
from tinyvox.model import Model


@dataclass(frozen=True)
class Exporter:
    """Writes a model and says how each tensor stands in the file; `package` is what it needs."""

    write: Callable[[Model, Path], Sequence[Form]]
    package: str = "torch"
    card_beside: bool = False
    """Whether the speech card becomes a file of its own."""
    notes: Callable[[Model], Sequence[str]] = lambda _: ()
    """What the file cannot do that the model can, a line each."""


def _program(model: Model, path: Path) -> Sequence[Form]:
    """A `.pt2` file, with the speech card beside it where there is one."""
    (export_pt2 if model.card is None else export_with_card)(model, path)
    matrices = [(name, *leaf.shape) for name, leaf in named_leaves(model, {})]
    vectors = [(name, vector.numel(), 1) for name, vector in model.vectors()]
    return [Form(name, "float32", 4 * rows * size) for name, rows, size in matrices + vectors]


def _program_notes(model: Model) -> Sequence[str]:
    frames = fixed_frames(model)
    if frames is None:
        return ()
    return (
        f"PyTorch runs this file for [1, {frames}, {model.input_size}] alone: it fixes batch and "
        "frames of recurrent layers. tinyvox reads it for any number of frames; for other programs "
        "export .onnx",
    )


EXPORTERS: dict[str, Exporter] = {
    ".onnx": Exporter(export_onnx, "onnx"),
    ".safetensors": Exporter(export_safetensors, "safetensors"),
    ".pt2": Exporter(_program, card_beside=True, notes=_program_notes),
}
"""What writes a file, by the file's suffix."""

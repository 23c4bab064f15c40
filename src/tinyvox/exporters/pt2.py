"""A model as a PyTorch program: the way out of tinyvox, and what `importers.load` reads back."""

from __future__ import annotations

import contextlib
import os
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from tinyvox.executor import Executor, Frames
from tinyvox.model import INPUT, Model, Recurrent


def _attribute(name: str) -> str:
    """A module has no dots in its name; the last slash keeps it off the attributes of nn.Module."""
    return name.replace(".", "/") + "/"


class _Named(nn.Module):
    """An executor whose modules carry the names of the nodes, for the program to remember."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.source = model
        for node, module in zip(model.nodes, Executor(model).layers, strict=True):
            self.add_module(_attribute(node.name), module)

    def forward(self, features: Tensor) -> Tensor:
        signals = {INPUT: Frames(features)}
        for node in self.source.nodes:
            module = getattr(self, _attribute(node.name))
            signals[node.name] = module(*(signals[name] for name in node.inputs))
        return signals[self.source.output].values


def export_program(model: Model) -> ExportedProgram:
    """The model as a torch program: features [batch, frames, size] to outputs.

    Batch and frames stay free, unless there is a recurrent layer: torch fixes both at those. The
    importer depends on neither.
    """
    fixed = any(isinstance(node.layer, Recurrent) for node in model.nodes)
    shapes = None if fixed else ({0: Dim.AUTO, 1: Dim.AUTO},)
    with warnings.catch_warnings():
        # The notes of torch's tracer are about its own internals, not about the model.
        warnings.simplefilter("ignore")
        return torch.export.export(
            _Named(model).eval(), (_example(model),), dynamic_shapes=shapes, strict=False
        )


def _example(model: Model) -> Tensor:
    """An input of so many frames that every layer gives two or more."""
    executor = Executor(model)
    frames = 8
    while True:
        example = torch.zeros(2, frames, model.input_size)
        with torch.no_grad(), contextlib.suppress(RuntimeError):  # a kernel longer than its input
            if executor(example).shape[1] > 1:
                return example
        frames *= 2


def export_pt2(model: Model, path: Path) -> None:
    """Write a model as `.pt2`; its card is not written.

    Coded weights are written as they decode. A product stays one: a factored linear layer is read
    back as two layers.

    The file appears whole or not at all. Raises OSError where it cannot be written.
    """
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as stream:
            torch.export.save(export_program(model), stream)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)

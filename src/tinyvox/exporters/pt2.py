"""A model as a PyTorch program, which PyTorch runs and `importers.load` reads back."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from tinyvox.executor import Executor, Frames
from tinyvox.model import INPUT, Model, Recurrent, card_path, card_text
from tinyvox.storage import atomic_writer, atomic_writers


def _attribute(name: str) -> str:
    """A layer's name as an attribute of nn.Module.

    An attribute must not hold dots. The slash at the end keeps it apart from nn.Module's own.
    """
    return name.replace(".", "/") + "/"


class _Named(nn.Module):
    """An executor whose modules have the nodes' names, so that the program keeps them."""

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
    """The model as a PyTorch program from features [batch, frames, size] to outputs.

    Any batch and any number of frames may be given, unless the model has a recurrent layer: there
    torch fixes both (`fixed_frames`). The importer reads either program, unless the model has cells
    that torch does not have: these are written out step by step.
    """
    shapes = None if _is_fixed(model) else ({0: Dim.AUTO, 1: Dim.AUTO},)
    with warnings.catch_warnings():
        # The tracer warns about its own internals, not about the model.
        warnings.simplefilter("ignore")
        program = torch.export.export(
            _Named(model).eval(), (_example(model),), dynamic_shapes=shapes, strict=False
        )
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it names files of this machine
    return program


def _is_fixed(model: Model) -> bool:
    return any(isinstance(node.layer, Recurrent) for node in model.nodes)


def fixed_frames(model: Model) -> int | None:
    """The only number of frames, of one utterance, that the program takes; None where it takes any
    number of both."""
    return _example(model).shape[1] if _is_fixed(model) else None


def _example(model: Model) -> Tensor:
    """An input long enough that every layer gives two frames or more, before any reduction.

    One utterance, where torch fixes the batch; two else, since torch takes a 1 to be fixed.
    """
    executor = Executor(model)
    frames, batch = 8, 1 if _is_fixed(model) else 2
    while True:
        example = torch.zeros(batch, frames, model.input_size)
        with torch.no_grad(), contextlib.suppress(RuntimeError):  # the kernel is longer
            signals = executor.signals(Frames(example))
            counts = {name: x.values.shape[1] for name, x in signals.items()}
            if all(counts[name] > 1 for name, s in model.signals.items() if s.stride):
                return example
        frames *= 2


def export_pt2(model: Model, path: Path) -> None:
    """Write a model as `.pt2`, without its speech card.

    Quantized weights are written as float32. A factorized matrix stays two factors, so that a
    linear layer is read back as two layers. The file appears whole or not at all. Raises FileError
    where it cannot be written.
    """
    program = export_program(model)
    with atomic_writer(path) as file:
        torch.export.save(program, file)


def export_with_card(model: Model, path: Path) -> None:
    """Write a model as `.pt2`, as `export_pt2` does, and its speech card, which it must have,
    beside it: both or none. Raises FileError where they cannot be written."""
    assert model.card is not None
    program, card = export_program(model), card_text(model.card)
    with atomic_writers(path, card_path(path)) as (file, card_file):
        torch.export.save(program, file)
        card_file.write(card.encode())

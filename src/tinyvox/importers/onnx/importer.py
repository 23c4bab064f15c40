"""ONNX files as models."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from tinyvox.errors import ImporterError, ModelError
from tinyvox.importers.arrangement import Arrangement, arranged
from tinyvox.importers.coded import coded
from tinyvox.importers.conversion import compare_longer, convert
from tinyvox.importers.onnx.file import read_model
from tinyvox.importers.onnx.graph import Reading
from tinyvox.importers.onnx.inputs import (
    SAMPLE_RATE,
    Input,
    Sizes,
    guesses,
    inputs_of,
    is_batch,
    is_rate,
    is_windowed,
    lengths,
)
from tinyvox.importers.onnx.samples import frame_sizes, probes
from tinyvox.importers.rolling import rolled
from tinyvox.importers.tape import Tape, Traced
from tinyvox.model import Model

if TYPE_CHECKING:
    from onnx import ModelProto


def load_onnx(path: Path) -> Model:
    """Import an `.onnx` file.

    The graph is run for an example of its input with features. Then the outputs of model and graph
    are compared, for twice as many frames too where it takes any number. Weights of any float type
    become float32; quantized ones have the values that they stand for. Inputs that hold states of
    recurrent layers become the layers' own states. Raises ImporterError or ModelError with the
    file's name, and the operator, where one is not supported or the outputs differ.
    """
    source = read_model(path)
    try:
        return _imported(source, path.name)
    except ImporterError as error:
        raise ImporterError(f"{path}: {_written_here(source) or error}") from error
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error


def _written_here(source: ModelProto) -> str | None:
    """That a file comes from tinyvox, if it does: its weights are operators that unpack codes."""
    if source.producer_name == "tinyvox":
        return "was written by tinyvox export; use the .tvx file that it was made from"
    outputs = (name for node in source.graph.node for name in node.output)
    if any(name.startswith("tinyvox.") for name in outputs):
        return "was written by tinyvox compress; use the .onnx file that it was made from"
    return None


def _imported(source: ModelProto, name: str) -> Model:
    """The model, for the first sizes of the free dimensions that work.

    Where none do, the error is that of the sizes with which most of the graph was run.
    """
    inputs = inputs_of(source)
    if not any(each.is_float for each in inputs):
        names = ", ".join(each.name for each in inputs) or "none"
        raise ImporterError(
            f"takes inputs {names}, expected one of floats that holds features, and no token ids"
        )
    failed: list[tuple[int, int, ImporterError]] = []
    for sizes in guesses(inputs):
        attempt = _Attempt(source, inputs, sizes)
        try:
            return attempt.model(name)
        except ImporterError as error:
            failed.append((attempt.progress, -len(failed), error))
    if model := _of_samples(source, inputs, name):
        return model
    raise max(failed, key=lambda failure: failure[:2])[2]


def _of_samples(source: ModelProto, inputs: list[Input], name: str) -> Model | None:
    """The model of a graph that takes the samples of a frame, in any number, or None.

    A frame has as many as the graph takes for one output.
    """
    found = None
    for probe in probes(inputs):
        first = _Attempt(source, inputs, probe)
        with contextlib.suppress(ImporterError):
            first.model(name)
        for sizes in frame_sizes(first.tape, probe):
            try:
                attempt = _Attempt(source, inputs, sizes, is_frame=True)
                found = attempt.model(name)
            except ImporterError:
                if found:
                    return found
    return found


@dataclass
class _Attempt:
    """The import of a graph for certain sizes of the free dimensions of its inputs."""

    source: ModelProto
    inputs: list[Input]
    sizes: Sizes
    is_frame: bool = False
    """Whether the sizes are those of a frame, and not of time."""
    tape: Tape = field(default_factory=Tape)
    """The graph as far as it was run last."""

    @property
    def progress(self) -> int:
        """How many operators on signals were run."""
        return len(self.tape.steps)

    def model(self, name: str) -> Model:
        """The model. Raises ImporterError where there is none for these sizes."""
        reading, found = self._run(self.sizes)
        model, walk = convert(found.traced)
        facts: dict[str, Any] = {
            "source": name,
            "original_parameters": reading.findings.parameters,
        }
        if found.unused:
            facts["unused_inputs"] = list(found.unused)
        if found.traced.time is not None:
            compare_longer(model, walk, functools.partial(self._again, walk.entry.name))
        elif walk.frames > 1:
            facts |= {"exported_frames": walk.frames}
            place = walk.uses_length()
            facts |= {"length_in_graph": place} if place else {}
        if notes := [*self._input_notes(), *reading.findings.notes, *found.notes]:
            facts["import_notes"] = notes
        model = coded(model, reading.findings.scales)
        return dataclasses.replace(model, provenance=facts)

    def _time(self, name: str) -> int | None:
        """The dimension of an input that is time, of any size; None where none is known to be."""
        if self.is_frame:
            return None
        entry = next(each for each in self.inputs if each.name == name)
        if self.sizes:
            return next((i for i, dim in enumerate(entry.dims) if dim in self.sizes), None)
        free = [i for i, dim in enumerate(entry.dims) if dim in entry.free and not is_batch(dim)]
        return free[0] if len(free) == 1 else None

    def _again(self, name: str, example: Tensor) -> Traced:
        """The graph run for an example, of twice as many frames, of the input of this name."""
        sizes = {dim: 2 * size for dim, size in self.sizes.items()}
        return self._run(sizes, {name: example})[1].traced

    def _run(
        self, sizes: Sizes, examples: Mapping[str, Tensor] | None = None
    ) -> tuple[Reading, Arrangement]:
        """The graph run for examples of its inputs; random ones where none are given."""
        signals = {each.name: each.example(sizes) for each in self.inputs if each.is_float}
        signals |= examples or {}
        frames = next(iter(sizes.values()), None) or _declared_frames(self.inputs)
        constants = {e.name: lengths(e, sizes, frames) for e in self.inputs if not e.is_float}
        self.tape = Tape()
        reading = Reading(self.source, signals, constants, self.tape)
        found = arranged(reading.findings.tape, reading.inputs, reading.outputs)
        entry = found.traced.entry
        windowed, time = is_windowed(entry.shape), self._time(entry.name)
        traced = dataclasses.replace(found.traced, time=time, windowed=windowed)
        return reading, dataclasses.replace(found, traced=rolled(traced))

    def _input_notes(self) -> list[str]:
        """What whole numbers were given to the graph."""
        taken = [each for each in self.inputs if not each.is_float]
        rates = [e.name for e in taken if is_rate(e)]
        counts = [e.name for e in taken if not is_rate(e)]
        notes = [f"input {name!r} is taken to be {SAMPLE_RATE}" for name in rates]
        if self.is_frame:
            size = next(iter(self.sizes.values()))
            notes.append(f"a frame is taken to have {size} values, the most that give one output")
        return notes + [f"input {name!r} is taken to be the number of frames" for name in counts]


def _declared_frames(inputs: Sequence[Input]) -> int:
    """The number of frames of a graph that takes one number of frames."""
    shape = max((each.shape({}) for each in inputs if each.is_float), key=len)
    return shape[1 if len(shape) > 2 else 0] if shape else 1

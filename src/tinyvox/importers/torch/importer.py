"""Exported programs (`.pt2`) as models."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from tinyvox.errors import ImporterError, ModelError
from tinyvox.importers.arrangement import Arrangement, arranged
from tinyvox.importers.conversion import compare_longer, convert
from tinyvox.importers.rolling import rolled
from tinyvox.importers.states import final_states, follow
from tinyvox.importers.tape import Traced
from tinyvox.importers.torch.archive import open_program
from tinyvox.importers.torch.program import Reading, needed_inputs
from tinyvox.importers.torch.results import chosen
from tinyvox.importers.torch.tokens import are_ids, embedded_inputs, random_ids
from tinyvox.importers.walk import Walk
from tinyvox.model import Model

_TIME = {2: 0, 3: 1, 4: 3}
"""The dimension that is time most often, by the number of dimensions."""


def load_pt2(path: Path) -> Model:
    """Import a `.pt2` file, as `torch.export.save` writes it.

    Only the graph and its weights are read; float16, bfloat16 and float64 become float32. States
    become the recurrent layers' own, lengths the number of frames; the first output that is a
    signal is the model's. A file is refused if it holds pickled objects, compiled code, or sizes
    that are no plain arithmetic: torch would run these as code. No other way for a file to run code
    is known, but import a file of unknown origin in a sandbox. Raises ImporterError or ModelError
    with the file's name.
    """
    program = open_program(path)
    try:
        model = _Program(program).model()
        facts = {"source": path.name, **model.provenance}
        return dataclasses.replace(model, provenance=facts)
    except ImporterError as error:
        raise ImporterError(f"{path}: {error}") from error
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error


class _Program:
    """A program, and random examples of its inputs."""

    def __init__(self, program: ExportedProgram) -> None:
        self._program = program
        self._inputs = needed_inputs(program)
        floats = {n: v for n, v in self._inputs.items() if v.is_floating_point() and v.ndim > 1}
        ids = embedded_inputs(program, self._inputs)
        if not floats and not ids:
            found = ", ".join(f"{n} of {v.dtype}" for n, v in self._inputs.items()) or "none"
            raise ImporterError(
                f"takes inputs {found}, expected features or token ids; wrap the module so that "
                "it takes features [batch, frames, size]"
            )
        self._examples = {name: _random(value) for name, value in floats.items()}
        for name, tables in ids.items():
            self._examples[name] = random_ids(tables, _sizes(self._inputs[name]))
        traced = self._read({}).traced
        self._entry = traced.entry.name
        for state in traced.states:
            self._examples[state.name] = torch.zeros_like(self._examples[state.name])

    def model(self) -> Model:
        """The model, with what its provenance says."""
        found = self._read({})
        model, walk = convert(rolled(found.traced))
        facts = self._facts(found)
        if isinstance(self._inputs[self._entry].shape[walk.layout.index("time")], int):
            facts |= {"exported_frames": walk.frames, **_length_in_graph(walk)}
        else:
            compare_longer(model, walk, self._again)
        return dataclasses.replace(model, provenance=facts)

    def _again(self, features: Tensor) -> Traced:
        return rolled(self._read({self._entry: features}).traced)

    def _read(self, others: Mapping[str, Tensor]) -> Arrangement:
        """The program run for its examples, or others, and lengths of as many frames."""
        examples = {**self._examples, **others}
        sample = max(examples.values(), key=lambda each: each.ndim)
        frames = sample.shape[_TIME.get(sample.ndim + are_ids(sample), 0)]
        lengths = {
            name: torch.full([int(s) for s in value.shape], frames, dtype=value.dtype)
            for name, value in self._inputs.items()
            if name not in examples
        }
        reading = Reading(self._program, examples, lengths)
        tape = reading.tape
        finals = follow(tape, final_states(tape))
        name = chosen(reading.outputs, None, lambda value: id(value) in finals)
        return arranged(tape, list(examples), reading.outputs, name)

    def _facts(self, found: Arrangement) -> dict[str, Any]:
        own = {weight.data_ptr(): weight for weight in self._program.parameters()}  # tied once
        total = sum(weight.numel() for weight in own.values())
        lengths = [name for name in self._inputs if name not in self._examples]
        used = {self._entry, *lengths, *(state.name for state in found.traced.states)}
        given = map(str, self._program.graph_signature.user_inputs)
        unused = [name for name in given if name not in used]
        notes = [f"input {name!r} is taken to be the number of frames" for name in lengths]
        notes += found.notes
        facts: dict[str, Any] = {"original_parameters": total} if total else {}
        facts |= {"unused_inputs": unused} if unused else {}
        return facts | ({"import_notes": notes} if notes else {})


def _random(value: Tensor) -> Tensor:
    """A random input for the program."""
    return torch.randn(_sizes(value), generator=torch.Generator().manual_seed(0))


def _sizes(value: Tensor) -> list[int]:
    """The sizes of an input. A free one is that with which the program was traced."""
    return [s if isinstance(s, int) else int(s.node.hint or 16) for s in value.shape]


def _length_in_graph(walk: Walk) -> dict[str, Any]:
    """Where the program computes with its number of frames, as far as that can be told."""
    place = walk.uses_length()
    return {"length_in_graph": place} if place else {}

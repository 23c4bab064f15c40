"""TensorFlow Lite files as models."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from tinyvox.errors import ImporterError, ModelError
from tinyvox.importers import deepspeech
from tinyvox.importers.coded import coded
from tinyvox.importers.conversion import compare_longer, convert
from tinyvox.importers.rolling import rolled
from tinyvox.importers.tape import Tape, Traced, Value
from tinyvox.importers.tensorflow import bounded, example_of, example_shape, frames_of
from tinyvox.importers.tflite.deepspeech import card_of, is_deepspeech
from tinyvox.importers.tflite.file import Graph, read_graphs
from tinyvox.importers.tflite.operators import OPERATORS
from tinyvox.importers.tflite.translation import Translation
from tinyvox.model import Model

_ELEMENTS = 1 << 25
"""Elements that the results of a small file's operators may have; a large one may make more."""


def load_tflite(path: Path) -> Model:
    """Import a `.tflite` file. The weights that it holds quantized stay as they are, codes and all.

    A file of DeepSpeech or Coqui STT brings its speech card. Raises ImporterError or ModelError
    with the file's name.
    """
    graphs = read_graphs(path)
    try:
        model = _imported(graphs)
    except ImporterError as error:
        raise ImporterError(f"{path}: {error}") from error
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    return dataclasses.replace(model, provenance={"source": path.name, **model.provenance})


def _imported(graphs: Sequence[Graph]) -> Model:
    main = graphs[0]
    failed: list[ImporterError | ModelError] = []
    for features, output in _choices(main):
        for frames in frames_of(main.tensors[features].shape):
            try:
                return _described(graphs, _converted(graphs, features, output, frames))
            except (ImporterError, ModelError) as error:
                failed.append(error)
    raise failed[0] if failed else ImporterError(_no_input(main))


def _no_input(graph: Graph) -> str:
    kinds = ", ".join(sorted({graph.tensors[n].type for n in graph.inputs})) or "none"
    return (
        f"takes inputs of type {kinds}, expected FLOAT32; convert the model without "
        "inference_input_type, so that its input and output stay real numbers"
    )


def _described(graphs: Sequence[Graph], model: Model) -> Model:
    """The model with its codes, and with the card that the file has."""
    main = graphs[0]
    quantized = (t for graph in graphs for t in graph.tensors if t.is_quantized)
    scales = {float(scale) for tensor in quantized for scale in tensor.scales}
    model = coded(model, scales)
    if scales:
        model = dataclasses.replace(model, provenance={**model.provenance, "quantized": True})
    if is_deepspeech(main):
        model = deepspeech.with_logarithm(model)
        card = card_of(main)
        model = model if card is None else model.with_card(card)
    return model


def _choices(graph: Graph) -> Iterator[tuple[int, int]]:
    """The inputs that may hold the features, and the outputs that may be the model's."""
    inputs = [n for n in graph.inputs if graph.tensors[n].type == "FLOAT32"]
    outputs = [n for n in graph.outputs if graph.tensors[n].type == "FLOAT32"]
    if is_deepspeech(graph):
        names = [graph.tensors[n].name for n in range(len(graph.tensors))]
        yield names.index(deepspeech.FEATURES), names.index(deepspeech.LOGITS)
        return
    shapes = {n: graph.tensors[n].shape for n in (*inputs, *outputs)}
    for features in inputs:
        states = [shapes[n] for n in inputs if n != features]
        for output in sorted(outputs, key=lambda n: shapes[n] in states):
            yield features, output


def _converted(graphs: Sequence[Graph], features: int, output: int, frames: int) -> Model:
    """The model, for one choice of its input and output, and of the frames of an example."""
    shape = example_shape(graphs[0].tensors[features].shape, frames)
    example = example_of(shape)
    notes: list[str] = []
    traced = rolled(_traced(graphs, features, output, example, notes))
    model, walk = convert(traced)
    facts: dict[str, object] = {"import_notes": notes} if notes else {}
    if walk.frames > 1 and not traced.states:
        try:
            compare_longer(
                model, walk, lambda longer: rolled(_traced(graphs, features, output, longer, []))
            )
        except ImporterError:  # a number of frames is built into the graph
            facts["exported_frames"] = walk.frames
    return dataclasses.replace(model, provenance=facts)


def _traced(
    graphs: Sequence[Graph], features: int, output: int, example: Tensor, notes: list[str]
) -> Traced:
    """The main graph run for an example; the other inputs that it needs hold states."""
    stored = sum(math.prod(t.shape) for g in graphs for t in g.tensors if t.data is not None)
    main, tape = graphs[0], Tape(budget=_ELEMENTS + 16 * abs(stored))
    entry = tape.input(main.tensors[features].name, example)
    states = {}
    for number in main.inputs:
        tensor = main.tensors[number]
        if number != features and tensor.type == "FLOAT32":
            zeros = torch.zeros(bounded([max(size, 1) for size in tensor.shape]))
            states[number] = tape.input(tensor.name, zeros)
    shapes = {main.tensors[number].shape for number in states}
    others = [n for n in main.outputs if n != output and main.tensors[n].shape in shapes]
    translation = Translation(tape, graphs, OPERATORS, notes)
    known = {features: entry, **states}
    found = translation.run(0, known, [output, *others])
    result = translation.value(main, output, found)
    if not isinstance(result, Value):
        raise ImporterError(f"output {main.tensors[output].name!r} does not depend on the input")
    given = [translation.value(main, number, found) for number in others]
    return Traced(
        tape,
        entry,
        result,
        tuple(value for value in given if isinstance(value, Value)),
        tuple(states.values()),
        windowed=len(example.shape) == 4 and is_deepspeech(main),
    )

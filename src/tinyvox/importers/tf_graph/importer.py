"""Frozen TensorFlow graphs as models."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tinyvox.errors import ImporterError, ModelError
from tinyvox.importers import deepspeech
from tinyvox.importers.conversion import compare_longer, convert
from tinyvox.importers.rolling import rolled
from tinyvox.importers.tape import Tape, Traced, Value
from tinyvox.importers.tensorflow import FRAMES, MORE_FRAMES, bounded, example_of
from tinyvox.importers.tf_graph.choices import (
    Choice,
    candidates,
    choice_of,
    is_deepspeech,
    needed_by,
)
from tinyvox.importers.tf_graph.graph import (
    GraphFile,
    GraphNode,
    read_graph,
)
from tinyvox.importers.tf_graph.memmapped import is_memmapped, read_memmapped
from tinyvox.importers.tf_graph.operators import OPERATORS
from tinyvox.importers.tf_graph.translation import Translation
from tinyvox.importers.tf_tensors import FLOATS
from tinyvox.model import Model, SpeechCard

aten = torch.ops.aten
_BOOL = 10
_WHOLE = (3, 9)
_NO_OUTPUT = (
    "has no output that depends on real numbers (a Placeholder or Mfcc); expected a frozen graph"
)


def load_graph(path: Path) -> Model:
    """Import a frozen graph: a `.pb` file, or a `.pbmm` file of DeepSpeech.

    A graph of DeepSpeech or Coqui STT brings its speech card. Raises ImporterError or ModelError
    with the file's name.
    """
    try:
        model = _imported(_read(memoryview(path.read_bytes())))
    except ImporterError as error:
        raise ImporterError(f"{path}: {error}") from error
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    except RecursionError as error:
        raise ImporterError(f"{path}: its loops depend on each other; it is damaged") from error
    return dataclasses.replace(model, provenance={"source": path.name, **model.provenance})


def _read(data: memoryview) -> GraphFile:
    return read_memmapped(data) if is_memmapped(data) else read_graph(data)


def _imported(file: GraphFile) -> Model:
    failed: list[ImporterError | ModelError] = []
    for entry, output in candidates(file):
        for frames in (FRAMES, MORE_FRAMES):
            try:
                choice = choice_of(file, entry, output, frames)
                if frames == FRAMES or choice.frames == frames:
                    return _described(file, _converted(file, choice))
            except (ImporterError, ModelError) as error:
                failed.append(error)
    raise (failed or [ImporterError(_NO_OUTPUT)])[0]


def _described(file: GraphFile, model: Model) -> Model:
    """A model of DeepSpeech with its card."""
    if not is_deepspeech(file):
        return model
    model = deepspeech.with_logarithm(model)
    card = _card(file)
    return model if card is None else model.with_card(card)


def _converted(file: GraphFile, choice: Choice) -> Model:
    """The model, for one choice of its input and output."""
    traced = rolled(_traced(file, choice, example_of(choice.taken)))
    model, walk = convert(traced)
    facts: dict[str, object] = {}
    if walk.frames > 1 and not traced.states:
        try:
            compare_longer(model, walk, lambda longer: rolled(_traced(file, choice, longer)))
        except ImporterError:  # a number of frames is built into the graph
            facts["exported_frames"] = walk.frames
    return dataclasses.replace(model, provenance=facts)


def _traced(file: GraphFile, choice: Choice, example: Tensor) -> Traced:
    """The graph run for an example; the other inputs that it needs hold states, or lengths."""
    tape = Tape()
    entry = tape.input(choice.entry, example)
    known: dict[str, Any] = {choice.entry: _full(tape, entry, choice)}
    frames = example.shape[1] if example.ndim > 2 else example.shape[0]
    states = {}
    for node in needed_by(file, choice.output):
        if node.op != "Placeholder" or node.name in known:
            continue
        if node.type in FLOATS and node.shape:
            zeros = torch.zeros(bounded([max(size, 1) for size in node.shape]))
            states[node.name] = known[node.name] = tape.input(node.name, zeros)
        elif node.type in _WHOLE:  # the number of frames of each utterance
            shape = bounded([max(size, 1) for size in node.shape or ()])
            known[node.name] = torch.full(shape, frames)
        elif node.type == _BOOL:  # whether the model is being trained
            known[node.name] = torch.tensor(False)
    translation = Translation(tape, file, OPERATORS, known)
    result = translation.value(choice.output)
    if not isinstance(result, Value):
        raise ImporterError(f"output {choice.output!r} does not depend on the input")
    shapes = {value.shape for value in states.values()}
    given = [translation.value(name) for name in choice.others] if states else []
    others = [v for v in given if isinstance(v, Value) and v.shape in shapes]
    return Traced(
        tape, entry, result, tuple(others), tuple(states.values()), windowed=choice.windowed
    )


def _full(tape: Tape, entry: Value, choice: Choice) -> Any:
    """The entry in the shape that the graph has; of as many frames as the example has."""
    if choice.taken == choice.shape:
        return entry
    sizes = iter(entry.shape[1:])
    shape = [entry.shape[0], *(1 if size == 1 else next(sizes) for size in choice.shape[1:])]
    return tape.apply(aten.reshape.default, entry, shape)


def _card(file: GraphFile) -> SpeechCard | None:
    """The speech card that the constants and the front end tell of."""
    held = {n.name: n for n in file.nodes.values() if n.name.startswith("metadata_")}
    values = {name: n.attribute("value").tensor for name, n in held.items() if n.op == "Const"}
    alphabet = values.get(deepspeech.ALPHABET)
    labels = deepspeech.labels_in(alphabet) if isinstance(alphabet, bytes) else None
    if labels is None:
        return None
    numbers = {
        name: int(value.flatten()[0])
        for name, value in values.items()
        if isinstance(value, Tensor) and value.numel() == 1
    }
    return deepspeech.card_of(
        labels, numbers, _settings(file, "AudioSpectrogram"), _settings(file, "Mfcc")
    )


def _settings(file: GraphFile, operator: str) -> dict[str, float]:
    """The numbers among the settings of the first operator of a kind."""
    nodes: list[GraphNode] = [n for n in file.nodes.values() if n.op == operator]
    return {
        name: attribute.real if 4 in attribute.message else attribute.whole
        for node in nodes[:1]
        for name, attribute in node.attributes.items()
    }

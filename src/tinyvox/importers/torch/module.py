"""PyTorch modules as models."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from tinyvox.errors import ImporterError, ModelError
from tinyvox.importers.arrangement import Arrangement, arranged
from tinyvox.importers.conversion import compare, convert, longer
from tinyvox.importers.operators import canonical
from tinyvox.importers.rolling import rolled
from tinyvox.importers.states import final_states, follow, sources, state_inputs
from tinyvox.importers.torch.archive import first_line
from tinyvox.importers.torch.examples import Example, example_of, random_like
from tinyvox.importers.torch.recording import Recorder, run_recorded
from tinyvox.importers.torch.results import chosen, named
from tinyvox.importers.torch.tokens import are_ids, check_embeddings, random_ids
from tinyvox.importers.walk import Walk
from tinyvox.model import Model, SpeechCard

_MORE = 1
"""Frames added for a comparison: where the example's are a multiple of something, these are not."""


def from_torch(
    module: nn.Module,
    *example: Any,
    card: SpeechCard | None = None,
    output: str | int | None = None,
    **arguments: Any,
) -> Model:
    """Import a module as a model. `example` and `arguments` are what it is called with: features
    [batch, frames, size], and what else it takes. A tuple or a list may hold them, or a dictionary
    by the names of the arguments.

    Other orders of the dimensions of the features are tried too: [frames, batch, size],
    [batch, size, frames], [frames, size], [batch, 1, size, frames] and [batch, 1, frames, size].
    Lengths and masks must be those of utterances with all frames. States from which recurrent
    layers start, and which they give back, become the layers' own. The model's output is the first
    one that is a signal, or `output`: its key or place, such as `"logits"`, `1` or `"1.0"`. What is
    left out, or taken otherwise, is in the provenance under `import_notes`. The values of the
    features have no meaning, but for their mean and spread. Integers that an embedding looks up are
    token ids, [batch, frames].

    The module, or ScriptModule, is not changed. A copy of it, in evaluation mode and in float32, is
    run. Then the outputs of copy and model are compared on random inputs, for the example's number
    of frames and for others. Raises ImporterError, with the operator and its place in the source,
    where an operator is not supported or the outputs differ.
    """
    try:
        _check_module(module)
        taken = example_of(module, example, arguments)
        model = _imported(_copied(module), taken, output)
    except (ImporterError, ModelError) as error:
        raise ImporterError(f"{type(module).__name__}: {error}") from error
    facts = {"source": type(module).__name__, **model.provenance}
    return dataclasses.replace(model, provenance=facts, card=card)


def _imported(module: nn.Module, given: Example, output: str | int | None) -> Model:
    """The model, with what its provenance says, compared with the module."""
    example = _without_values(given, _Run(module, given, output))
    run = _Run(module, example, output)
    model, walk = convert(rolled(run.found.traced))
    others, notes = list(_other_lengths(walk)), []
    try:
        lengths = [_compared(model, walk, run, features) for features in others]
    except ImporterError as error:
        for features in reversed(others):
            if again := _at_another_length(run, features, output):
                model, walk, run, lengths = again
                break
        else:
            lengths, note = _at_whole_steps(model, walk, run, error)
            notes.append(note)
    facts = {**_parameters(module), **run.facts(walk)}
    if not notes and (less := _of_fewer_frames(model, walk, run)):
        notes.append(less)
    if notes:
        facts["import_notes"] = [*facts.get("import_notes", ()), *notes]
    if lengths and not lengths[0]:
        facts["fixed_frames"] = walk.frames
    return dataclasses.replace(model, provenance=facts)


def _at_another_length(
    run: _Run, features: Tensor, output: str | int | None
) -> tuple[Model, Walk, _Run, list[bool]] | None:
    """The model as other features show it; None where that model is another's too. A module that
    pads frames to a multiple does not pad those that are one, and a frame in the middle of an
    example may be meant by its number."""
    first = run.example.tensors()[run.entry]
    try:
        again = _Run(run.module, run.example.longer(run.entry, features), output)
        model, walk = convert(rolled(again.found.traced))
        others = [first, *_other_lengths(walk)]
        return model, walk, again, [_compared(model, walk, again, each) for each in others]
    except ImporterError:
        return None


def _at_whole_steps(
    model: Model, walk: Walk, run: _Run, error: ImporterError
) -> tuple[list[bool], str]:
    """What is said of a module that cuts or adds frames so that their number suits its strides, and
    does as the model does where it does not have to. Raises the error where there is more to it."""
    step = math.lcm(*(signal.stride or 1 for signal in walk.graph.signals.values()))
    counts = [walk.frames + times * step for times in (1, 3)]
    if step == 1 or counts[-1] > 2 * walk.frames:
        raise error from None
    twice, time = longer(walk), walk.layout.index("time")
    try:
        found = [_compared(model, walk, run, twice.narrow(time, 0, n).clone()) for n in counts]
    except ImporterError:
        raise error from None
    rest = f"{walk.frames % step} more than " if walk.frames % step else ""
    return found, (
        f"the source cuts or adds frames at the end unless their number is {rest}a multiple of "
        f"{step}; the model does not"
    )


class _Run:
    """A module that was run for an example: what its inputs and outputs are."""

    def __init__(self, module: nn.Module, example: Example, wanted: str | int | None) -> None:
        self.module, self.example, self._wanted = module, example, wanted
        self._record(example.signals())
        if ids := sorted(self.recorder.embedded):
            self._record([*example.signals(), *ids])
        if not self.recorder.tape.inputs:
            raise ImporterError(_no_features(example))
        if starts := self._starts():
            self._record([each.name for each in self._tape.inputs if each.name not in starts])
        names = [each.name for each in self._tape.inputs]
        self.found: Arrangement = arranged(self._tape, names, self._outputs, self.name)

    def _record(self, signals: list[str]) -> None:
        """Run the module, with these inputs as signals."""
        self.recorder, self._outputs = _recorded(self.module, self.example, signals)
        self._tape = self.recorder.tape
        if self._tape.inputs:
            finals = follow(self._tape, final_states(self._tape))
            self.name = chosen(self._outputs, self._wanted, lambda value: id(value) in finals)

    def _starts(self) -> list[str]:
        """The inputs that are states to start from: zeros in the example, beside features, and not
        taken by recurrent layers as they are."""
        states = state_inputs(self._tape)
        taken = [v for v in sources(self._tape, [self._outputs[self.name]]) if v not in states]
        zeros = [v.name for v in taken if v.tensor.is_floating_point() and not v.tensor.any()]
        return zeros if len(zeros) < len(taken) else []

    @property
    def tables(self) -> list[int]:
        """The rows of each embedding."""
        steps = self.recorder.tape.steps
        return [len(s.arguments["weight"]) for s in steps if s.operator == "embedding"]

    @property
    def entry(self) -> str:
        """The name of the input that holds features."""
        return self.found.traced.entry.name

    def facts(self, walk: Walk) -> dict[str, Any]:
        """What the provenance says of inputs and outputs."""
        names = [each.name for each in self.recorder.tape.inputs]
        unused = [
            name
            for name in self.example.tensors()
            if name in self.found.unused or name not in (*names, *self.recorder.read)
        ]
        notes = [
            *self.example.notes(self.recorder.read, walk.frames),
            *dict.fromkeys(self.recorder.notes),
            *self.found.notes,
            *dict.fromkeys(walk.graph.notes),
        ]
        return ({"unused_inputs": unused} if unused else {}) | (
            {"import_notes": notes} if notes else {}
        )


def _recorded(
    module: nn.Module, example: Example, signals: list[str]
) -> tuple[Recorder, dict[str, Any]]:
    """The recorder of a run in which these inputs are signals, and the outputs."""
    example, recorder = example.fresh(), Recorder(module)
    for name, tensor in example.tensors().items():
        (recorder.input if name in signals else recorder.watch)(name, tensor)
    found = run_recorded(recorder, lambda: example.run(module))
    return recorder, {name: recorder.value(each) for name, each in named(found)}


def _no_features(example: Example) -> str:
    kinds = [f"{name} of {tensor.dtype}" for name, tensor in example.tensors().items()]
    return (
        f"the example holds {', '.join(kinds) or 'no tensors'}, expected features, floats "
        "[batch, frames, size], or token ids"
    )


def _without_values(example: Example, run: _Run) -> Example:
    """The example with random features, and with states of zeros."""
    tensors, states = example.tensors(), [each.name for each in run.found.traced.states]
    zeros = {name: torch.zeros_like(tensors[name]) for name in states}
    features = tensors[run.entry]
    if are_ids(features):
        features = random_ids(run.tables, features.shape).to(features.dtype)
    else:
        features = random_like(features)
    return example.replaced({**zeros, run.entry: features})


def _other_lengths(walk: Walk) -> Iterator[Tensor]:
    """Inputs of twice as many frames, and of one more; none of a module that takes single ones,
    of which no dimension is known to be time."""
    if walk.frames == 1:
        return
    twice, time = longer(walk), walk.layout.index("time")
    yield twice
    if (frames := walk.frames + _MORE) < twice.shape[time]:
        yield twice.narrow(time, 0, frames).clone()


def _of_fewer_frames(model: Model, walk: Walk, run: _Run) -> str | None:
    """What is said of a module that does something else with short inputs, as one that pads them
    to a least number of frames does."""
    if walk.frames == 1:
        return None
    time, counts = walk.layout.index("time"), {walk.frames // 2, walk.frames // 4, 2}
    for frames in sorted(counts & set(range(1, walk.frames)), reverse=True):
        try:
            _compared(model, walk, run, longer(walk).narrow(time, 0, frames).clone())
        except ImporterError:
            return f"with {frames} frames the module does something else than with more"
    return None


def _compared(model: Model, walk: Walk, run: _Run, features: Tensor) -> bool:
    """Compare for other features. False where the module takes no such number of frames."""
    example = run.example.longer(run.entry, features).fresh()
    try:
        with torch.no_grad():
            outputs = dict(named(example.run(run.module)))[run.name]
    except Exception:  # a module may raise anything for a number of frames that it does not take
        return False
    compare(model, walk, canonical(walk.features.axes, features), outputs)
    return True


def _parameters(module: nn.Module) -> dict[str, int]:
    total = sum(parameter.numel() for parameter in module.parameters())
    return {"original_parameters": total} if total else {}


def _check_module(module: nn.Module) -> None:
    if not isinstance(module, nn.Module):
        raise ImporterError("is no nn.Module; build the module and load its weights into it")
    check_embeddings(module)


def _copied(module: nn.Module) -> nn.Module:
    """A copy in float32 and in evaluation mode.

    Weight norm and pruning keep computed weights in attributes, which torch does not copy; they
    are computed again when the copy runs.
    """
    held = [value for part in module.modules() for value in vars(part).values()]
    values = [v for each in held for v in (each if isinstance(each, list | tuple) else [each])]
    computed = [v for v in values if isinstance(v, Tensor) and not v.is_leaf]
    memo: dict[int, Any] = {id(value): value.detach().clone() for value in computed}
    try:
        return copy.deepcopy(module, memo).cpu().float().eval()
    except Exception as error:  # a module may hold anything, with any error when it is copied
        raise ImporterError(
            f"cannot be copied: {first_line(error)}; save it with torch.export.save and load that"
        ) from error

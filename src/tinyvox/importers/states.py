"""Inputs and outputs of a streaming model that hold the states of recurrent layers."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tinyvox.errors import ImporterError
from tinyvox.importers.tape import Step, Tape, Value, mapped, tensors_of, values_in

_MOST_ORDERS = 1000
"""Orders of states of one shape that are tried."""
_STARTS = {"recurrent": "states", **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu"), "hx")}
"""The argument with the states that a recurrent layer starts from, by its operator."""
RECURRENT = frozenset(_STARTS)
"""The operators that are recurrent layers."""


def sources(tape: Tape, values: Iterable[Value]) -> list[Value]:
    """The inputs that values depend on."""
    values = list(values)
    taken = {id(value) for step in tape.needed(values) for value in step.inputs()}
    taken |= set(map(id, values))
    return [value for value in tape.inputs if id(value) in taken]


def state_inputs(tape: Tape) -> list[Value]:
    """The inputs from which recurrent layers take the states that they start from.

    What another recurrent layer gave them, as the encoder gives it to a decoder, is from no input.
    """
    taken = [value for step in recurrent_steps(tape) for value in values_in(_starts(step))]
    direct = [v for v in taken if not any(s.operator in RECURRENT for s in tape.needed([v]))]
    return sources(tape, direct)


def recurrent_steps(tape: Tape) -> list[Step]:
    """The steps that are recurrent layers."""
    return [step for step in tape.steps if step.operator in RECURRENT]


def _starts(step: Step) -> list[Any]:
    given = step.arguments[_STARTS[step.operator]]
    return list(given) if isinstance(given, list | tuple) else [given]


def follow(tape: Tape, known: Mapping[int, Tensor]) -> dict[int, Tensor]:
    """What all steps give that depend on these values alone; recurrent layers are not run."""
    found = dict(known)
    for step in tape.steps:
        inputs = list(step.inputs())
        if step.operator in RECURRENT or not all(id(value) in found for value in inputs):
            continue
        arguments = tensors_of(mapped(lambda value: Value(found[id(value)]), step.arguments))
        results = step.target(**arguments)
        parts = results if step.is_tuple else [results]
        found.update((id(v), t) for v, t in zip(step.results, parts, strict=True))
    return found


def final_states(tape: Tape) -> dict[int, Tensor]:
    """A random tensor for each final state of a recurrent layer."""
    generator = torch.Generator().manual_seed(0)
    finals = [value for step in recurrent_steps(tape) for value in step.results[1:]]
    return {id(v): torch.randn(v.shape, generator=generator) for v in finals}


def check_carried(tape: Tape, inputs: Sequence[Value], outputs: Sequence[Value]) -> None:
    """Raise ImporterError unless the outputs, given as the inputs of the next frames, are the
    states with which every recurrent layer ended."""
    finals = final_states(tape)
    given = follow(tape, finals)
    for order in itertools.islice(itertools.permutations(outputs, len(inputs)), _MOST_ORDERS):
        pairs = list(zip(inputs, order, strict=True))
        if any(one.shape != two.shape for one, two in pairs):
            continue
        start = {id(one): given[id(two)] for one, two in pairs if id(two) in given}
        if _carries(tape, follow(tape, start), finals):
            return
    names = ", ".join(value.name for value in inputs)
    raise ImporterError(
        f"takes states ({names}) and does not give them as they are after the frames, so that "
        "they cannot become states of its recurrent layers"
    )


def _carries(tape: Tape, taken: Mapping[int, Tensor], finals: Mapping[int, Tensor]) -> bool:
    """Whether each recurrent layer starts from the states with which it ended."""
    for step in recurrent_steps(tape):
        for state, final in zip(_starts(step), step.results[1:], strict=False):
            start = taken.get(id(state))
            if start is None or not torch.equal(start, finals[id(final)]):
                return False
    return True

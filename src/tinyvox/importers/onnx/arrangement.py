"""Which input of a graph that was run holds features, which hold states, and what is its output."""

from __future__ import annotations

from dataclasses import dataclass

from tinyvox.errors import ImporterError
from tinyvox.importers.onnx.graph import Reading
from tinyvox.importers.onnx.inputs import is_windowed
from tinyvox.importers.onnx.states import check_carried, final_states, follow, sources, state_inputs
from tinyvox.importers.tape import Traced, Value


@dataclass(frozen=True)
class Arrangement:
    """A graph that was run, and what there is to say about its inputs and outputs."""

    traced: Traced
    notes: tuple[str, ...]
    unused: tuple[str, ...]
    """Inputs that hold no features and no states."""


def arranged(reading: Reading) -> Arrangement:
    """Find the input with features and the output that is a signal.

    An input holds states if recurrent layers start from it. Raises ImporterError where there is not
    one input with features, or where states are not given back as they are.
    """
    tape = reading.findings.tape
    signals = {n: v for n, v in reading.outputs.items() if isinstance(v, Value)}
    if not signals:
        raise ImporterError("gives constants alone, expected a signal that depends on its input")
    states = state_inputs(tape)
    name, output = _main(signals, states)
    entries = [each for each in sources(tape, [output]) if each not in states]
    if len(entries) != 1:
        found = ", ".join(each.name for each in entries) or "none"
        raise ImporterError(f"its output {name!r} needs inputs {found}, expected one with features")
    aside = follow(tape, final_states(tape))
    finals = {n: v for n, v in signals.items() if n != name and id(v) in aside}
    carried = [v for v in states if v.shape in {each.shape for each in finals.values()}]
    if carried:
        check_carried(tape, carried, list(finals.values()))
    others = tuple(v for n, v in signals.items() if n != name and n not in finals)
    notes = _notes(carried, states, [n for n in reading.outputs if n != name])
    used = {each.name for each in (*entries, *states)}
    windowed = is_windowed(entries[0].shape)
    traced = Traced(tape, entries[0], output, others, tuple(states), windowed=windowed)
    return Arrangement(traced, notes, tuple(n for n in reading.inputs if n not in used))


def _main(signals: dict[str, Value], states: list[Value]) -> tuple[str, Value]:
    """The first output that cannot be a state, by its shape; else the first one."""
    shapes = {each.shape for each in states}
    found = [(n, v) for n, v in signals.items() if v.shape not in shapes]
    return (found or list(signals.items()))[0]


def _notes(carried: list[Value], states: list[Value], left: list[str]) -> tuple[str, ...]:
    notes = []
    if carried:
        names = ", ".join(each.name for each in carried)
        notes.append(f"the states in {names} are those of the recurrent layers, kept by the model")
    if started := [each.name for each in states if each not in carried]:
        notes.append(f"starts from zero states; {', '.join(started)} are left out")
    if left and not carried:
        notes.append(f"outputs {', '.join(left)} are left out")
    return tuple(notes)

"""Which input of a model that was run holds features, which hold states, and what is its output."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tinyvox.errors import ImporterError
from tinyvox.importers.states import check_carried, final_states, follow, sources, state_inputs
from tinyvox.importers.tape import Tape, Traced, Value


@dataclass(frozen=True)
class Arrangement:
    """A model that was run, and what there is to say about its inputs and outputs."""

    traced: Traced
    notes: tuple[str, ...]
    unused: tuple[str, ...]
    """Inputs that hold no features and no states."""


def arranged(
    tape: Tape, inputs: Iterable[str], outputs: Mapping[str, Any], name: str | None = None
) -> Arrangement:
    """Find the input with features, and the output that is a signal: the one of this name, if one
    is given, and then the other outputs are left out.

    An input holds states if recurrent layers start from it. Raises ImporterError where there is not
    one input with features, or where states are not given back as they are.
    """
    signals = {n: v for n, v in outputs.items() if isinstance(v, Value)}
    if not signals:
        raise ImporterError("gives constants alone, expected a signal that depends on its input")
    states = state_inputs(tape)
    main = _main(signals, states) if name is None else name
    taken = sources(tape, [signals[main]])
    entries = [each for each in taken if each not in states] or taken
    states = [each for each in states if each not in entries]
    if len(entries) != 1:
        found = ", ".join(each.name for each in entries) or "none"
        raise ImporterError(
            f"its output {main!r} needs inputs {found}, expected one with features; "
            "wrap the module so that it takes features alone"
        )
    aside = follow(tape, final_states(tape))
    finals = {n: v for n, v in signals.items() if n != main and id(v) in aside}
    carried = [v for v in states if v.shape in {each.shape for each in finals.values()}]
    if carried:
        check_carried(tape, carried, list(finals.values()))
    others = tuple(v for n, v in signals.items() if n != main and n not in finals)
    notes = _notes(carried, states, [n for n in outputs if n != main])
    used = {each.name for each in (*entries, *states)}
    kept = () if name else others
    traced = Traced(tape, entries[0], signals[main], kept, tuple(states))
    return Arrangement(traced, notes, tuple(n for n in inputs if n not in used))


def _main(signals: dict[str, Value], states: list[Value]) -> str:
    """The first output that cannot be a state, by its shape; else the first one."""
    shapes = {each.shape for each in states}
    return ([n for n, v in signals.items() if v.shape not in shapes] or list(signals))[0]


def _notes(carried: list[Value], states: list[Value], left: list[str]) -> tuple[str, ...]:
    notes = []
    if carried:
        names = ", ".join(each.name for each in carried)
        notes.append(f"the states in {names} are those of the recurrent layers, kept by the model")
    if started := [each.name for each in states if each not in carried]:
        notes.append(f"starts from zero states; left out: {', '.join(started)}")
    if left and not carried:
        notes.append(f"outputs left out: {', '.join(left)}")
    return tuple(notes)

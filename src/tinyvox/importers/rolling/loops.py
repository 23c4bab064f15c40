"""A tape with its written-out cells as recurrent layers.

Frameworks unroll loops when they export them, so a layer comes as the same operators once for every
frame. The tape is rewritten from its outputs: where the outputs of a cell at all frames are joined,
the layer's output stands; what was done to each frame alone is done to all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tinyvox.importers.rolling.affine import Sources
from tinyvox.importers.rolling.chains import find_chains
from tinyvox.importers.rolling.elementwise import ElementChain, find_element_chains
from tinyvox.importers.rolling.halves import parted
from tinyvox.importers.rolling.rewriting import Rewriting
from tinyvox.importers.tape import Step, Traced, Value


def rolled(traced: Traced) -> Traced:
    """The same with every cell that is written out as one recurrent layer, and with each batch of
    two signals as two."""
    return parted(_rolled(traced))


def _rolled(traced: Traced) -> Traced:
    outputs = [traced.output, *traced.others]
    steps = traced.tape.needed(outputs)
    sources = Sources(traced.tape)
    carried = _carried(steps, traced.states)
    chains = find_chains(steps, sources, lambda value: id(value) in carried)
    elements: list[ElementChain] = []
    for chain in find_element_chains(steps, sources):
        if Rewriting(traced, sources, [*chains, *elements, chain]).runs(chain):
            elements.append(chain)
    if not chains and not elements:
        return traced
    rewriting = Rewriting(traced, sources, [*chains, *elements])
    output, *others = (rewriting.resolved(value) for value in outputs)
    return replace(
        traced,
        tape=rewriting.tape,
        entry=rewriting.resolved(traced.entry),
        output=output,
        others=tuple(others),
        states=tuple(rewriting.resolved(value) for value in traced.states),
    )


def _carried(steps: Sequence[Step], states: Sequence[Value]) -> set[int]:
    """The values that depend on the states alone."""
    found = set(map(id, states))
    for step in steps:
        inputs = list(step.inputs())
        if inputs and all(id(value) in found for value in inputs):
            found.update(map(id, step.results))
    return found

"""Graphs that take the samples of one frame a call, in any number: how many there are."""

from __future__ import annotations

import math
from collections.abc import Iterator

from tinyvox.importers.onnx.inputs import Input, Sizes
from tinyvox.importers.tape import Step, Tape

PROBE = 1 << 12
"""Samples with which the first convolution is found."""
_MOST = 64
"""Steps of that convolution in a frame."""


def probes(inputs: list[Input]) -> list[Sizes]:
    """Sizes with which to find the first convolution, where an input may hold samples: all of its
    sizes are free, so that nothing says how large a frame is."""
    entries = [e for e in inputs if e.is_float and e.free and math.prod(e.shape({})) == 1]
    return [{entry.free[-1]: PROBE} for entry in entries]


def frame_sizes(tape: Tape, probe: Sizes) -> Iterator[Sizes]:
    """Numbers of samples that the first convolution takes to the last one, from small to large."""
    name, count = next(iter(probe.items()))
    step = next((step for step in tape.steps if step.operator == "conv1d"), None)
    if step is None:
        return
    kernel, stride, around = _reach(step, count)
    for steps in range(_MOST):
        size = kernel + steps * stride - around
        if size > 1:
            yield {name: size}


def _reach(step: Step, count: int) -> tuple[int, int, int]:
    """Samples that a convolution needs for one step and for each more, and those that it gets in
    padding."""
    arguments = step.arguments
    taken = next(step.inputs()).shape[-1]
    dilation, padding = arguments["dilation"][0], arguments["padding"][0]
    reach = dilation * (arguments["weight"].shape[-1] - 1) + 1
    return reach, arguments["stride"][0], taken - count + 2 * padding

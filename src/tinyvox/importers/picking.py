"""Layers that pick values of each frame by their places."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch

from tinyvox.model import Dense, Layer, Linear, Slice, Strided

_PARTS = 64
"""Inputs that a layer may join."""


def picking(places: Sequence[int], size: int) -> Layer | None:
    """One layer that gives these values of a frame of this size, or None."""
    start, count = places[0], len(places)
    if list(places) == list(range(start, start + count)):
        return Slice(start, start + count)
    levels: list[tuple[int, int]] = []  # sizes and strides, the innermost first
    rest = list(places)
    while len(rest) > 1 and len(levels) < 3:
        run = _run(rest, size)
        levels.append((run, (rest[1] - rest[0]) % size if run > 1 else 0))
        rest = rest[::run]
        if run == 1:
            return None
    if len(rest) > 1:
        return None
    levels += [(1, 0)] * (3 - len(levels))
    (c, z), (b, y), (a, x) = levels
    return Strided(start, (a, b, c), (x, y, z))


def _run(places: Sequence[int], size: int) -> int:
    """The longest run of equal steps that divides the places into runs of the same steps."""
    steps = [(b - a) % size for a, b in itertools.pairwise(places)]
    longest = next((i for i, step in enumerate(steps) if step != steps[0]), len(steps)) + 1
    for run in range(longest, 1, -1):
        inner = (step for i, step in enumerate(steps) if (i + 1) % run)
        if len(places) % run == 0 and all(step == steps[0] for step in inner):
            return run
    return 1


def runs(places: Sequence[int]) -> list[range] | None:
    """Places as runs of places in a row, as many as a layer may join, or None."""
    found: list[range] = []
    for place in places:
        if found and place == found[-1].stop:
            found[-1] = range(found[-1].start, place + 1)
        else:
            found.append(range(place, place + 1))
    return found if len(found) <= _PARTS else None


def selection(places: Sequence[int], size: int) -> Linear:
    """A matrix that gives these values."""
    return Linear(Dense(torch.eye(size)[list(places)]))

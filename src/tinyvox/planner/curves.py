"""Curves through measured points: what an error costs, and which error bits make."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable

TINY = 1e-30


class Curve:
    """A distance as a function of the relative squared error that makes it: lines between measured
    points in logarithms, proportional beyond the smallest and the largest."""

    def __init__(self, points: Iterable[tuple[float, float]]) -> None:
        """Points are pairs of an error and a distance."""
        kept = {max(x, TINY): max(y, TINY) for x, y in sorted(points)}
        self.points = [(math.log(x), math.log(y)) for x, y in kept.items()]

    def __call__(self, error: float) -> float:
        x = math.log(max(error, TINY))
        first, last = self.points[0], self.points[-1]
        if x <= first[0]:
            return math.exp(first[1] + x - first[0])
        for (a, low), (b, high) in itertools.pairwise(self.points):
            if x <= b:
                return math.exp(low + (high - low) * (x - a) / (b - a))
        return math.exp(last[1] + x - last[0])


class Distortion:
    """The relative squared error as a function of coded bits: its logarithm is a line between
    measured points; beyond them it falls by a factor of 4 with every bit."""

    def __init__(self, points: Iterable[tuple[float, float]]) -> None:
        """Points are pairs of bits and an error; at no bits the error is 1."""
        self.points = [(0.0, 0.0)]
        for bits, error in sorted(points):
            self.points.append((bits, min(math.log(max(error, TINY)), self.points[-1][1])))

    def __call__(self, bits: float) -> float:
        for (a, low), (b, high) in itertools.pairwise(self.points):
            if bits <= b:
                return math.exp(low + (high - low) * (bits - a) / (b - a))
        last, error = self.points[-1]
        return math.exp(error - (bits - last) * math.log(4))

"""What the layers of a model share while they become operators of one graph."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from tinyvox.exporters.onnx.graph import Graph
from tinyvox.exporters.onnx.weights import Weights
from tinyvox.model import Matrix

Length = tuple[object, ...]
"""What was done to the number of frames since the input, step by step; equal for equal numbers."""
SAME: Length = ()
"""The number of frames of the input."""
ALL = 2**62
"""The end of a slice that goes to the last frame."""


class Building:
    """A graph, the model's tensors in it, and the length of every signal by its name in the graph.

    Signals are [1, frames, size], or [1, frames, channels, bands].
    """

    def __init__(self) -> None:
        self.graph = Graph()
        self.weights = Weights(self.graph)
        self.lengths: dict[str, Length] = {}
        self.layer = ""
        self.shape: tuple[int, ...] = ()
        """The shape of the frames that the present layer puts out."""

    def vector(self, field: str, values: Tensor) -> str:
        """A vector of the present layer, by its dotted field name."""
        return self.weights.vector(f"{self.layer}.{field}", values.numpy())

    def values(self, field: str, matrix: Matrix) -> str:
        """The values of a matrix of the present layer, float32 [out, in]."""
        return self.weights.values(f"{self.layer}.{field}", matrix)

    def times(self, x: str, field: str, matrix: Matrix) -> str:
        """The product of a matrix of the present layer and frames [1, frames, in]."""
        return self.weights.times(x, f"{self.layer}.{field}", matrix)

    def frames(self, x: str, start: int, stop: int = ALL, step: int = 1) -> str:
        """Some frames of a signal; a `stop` below 0 counts from the end."""
        return self.graph.slice(x, start, self.graph.integers(stop), 1, step)

    def padded(self, x: str, before: int, after: int, axes: int = 3) -> str:
        """A signal of so many axes with zero frames before and after."""
        if not (before or after):
            return x
        rest = [0] * (axes - 2)
        return self.graph.op("Pad", x, self.graph.integers(0, before, *rest, 0, after, *rest))

    def aligned(self, signals: Sequence[str]) -> tuple[list[str], Length]:
        """Signals without the frames past the end of the shortest, and their length."""
        lengths = [self.lengths[signal] for signal in signals]
        if len(set(lengths)) == 1:
            return list(signals), lengths[0]
        counts = [self.graph.op("Shape", signal, start=1, end=2) for signal in signals]
        shortest = self.graph.op("Min", *counts)
        cut = [self.graph.slice(signal, 0, shortest, 1) for signal in signals]
        return cut, ("shortest", *lengths)

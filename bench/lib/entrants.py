"""What takes part: a way to be bound to frames, and what its outputs have to be close to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.float32]
"""[frames, size]."""
Meaning = Callable[[Frames], Frames]
"""Outputs of a whole stream, in float."""

FLOAT_TOLERANCE = 0.01
"""Of a peer in float: above rounding by far, below what a wrong gate or a lost bias makes."""
PEERS_OWN = 0.5
"""Of a peer's own quantization, which is its affair and is printed: beyond this it computes another
layer. ONNX Runtime's int8 is off by 0.12 where there is AVX2 alone, elsewhere by 0.01."""


@dataclass(frozen=True)
class Entrant:
    """Entrants of one name are variants, of which the fastest is timed.

    `bind` gives a call that takes the frames in this memory and gives its outputs; one call after
    the other goes on in the same stream, or, with `whole`, begins anew.
    """

    name: str
    bind: Callable[[Frames], Callable[[], Frames]]
    meaning: Meaning
    tolerance: float
    """Of outputs, as `relative_error` measures it."""
    variant: str = ""
    whole: bool = False

    def check(self, frames: Frames) -> float:
        """The error of the second call. Raises ValueError where it is above the tolerance."""
        call = self.bind(frames)
        call()
        found = np.asarray(call()).reshape(len(frames), -1)
        inputs = frames if self.whole else np.concatenate([frames, frames])
        return check(f"{self.name} {self.variant}", found, self.meaning(inputs), self.tolerance)


def check(name: str, found: Frames, expected: Frames, tolerance: float) -> float:
    """The error of the last outputs. Raises ValueError where it is above the tolerance."""
    error = relative_error(found, expected[len(expected) - len(found) :])
    if not error < tolerance:
        raise ValueError(
            f"{name}: outputs are off by {error:.2g} of their size, expected {tolerance:g} at most"
        )
    return error


def relative_error(found: Frames, expected: Frames) -> float:
    """Root of the squared error over the squares."""
    return float(np.sqrt(np.square(found - expected).mean() / np.square(expected).mean()))

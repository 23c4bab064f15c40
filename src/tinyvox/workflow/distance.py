"""How far the outputs of a small model are from the original's, in numbers and in words."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

MOST_APART, MOST_DIVERGENCE = 0.4, 0.5
"""Beyond these a result is not to be relied on: a relative RMS error, about a cosine of 0.95; nats
of a softmax."""


@dataclass(frozen=True)
class Distance:
    """How far the outputs of a small model are from the original's, over so many `frames` of input
    of so many `utterances`.

    `relative_rms` is the root of the mean squared error over the variance of the original's
    outputs. `divergence`, for outputs of a softmax, is the mean KL divergence in nats; `cosine`,
    for others of several values, the mean cosine of an output to the original's. `runtime` ran the
    small model, native or torch; `judged_by` says what it was run on.
    """

    judged_by: str
    runtime: str
    utterances: int
    frames: int
    relative_rms: float
    cosine: float | None
    divergence: float | None

    @property
    def too_far(self) -> bool:
        """Whether it is beyond MOST_DIVERGENCE, or MOST_APART where there is no softmax."""
        if self.divergence is not None:
            return not self.divergence <= MOST_DIVERGENCE
        return not self.relative_rms <= MOST_APART

    def facts(self) -> dict[str, Any]:
        """The object `distance` that `compress --json` prints; what is not finite is null."""
        numbers = {"relative_rms": self.relative_rms, "cosine": self.cosine}
        numbers |= {"divergence": self.divergence}
        finite = {n: v if v is not None and math.isfinite(v) else None for n, v in numbers.items()}
        return {
            "judged_by": self.judged_by,
            "runtime": self.runtime,
            "utterances": self.utterances,
            "frames": self.frames,
            **finite,
            "limit": MOST_APART if self.divergence is None else MOST_DIVERGENCE,
            "too_far": self.too_far,
        }

    def __str__(self) -> str:
        said = [f"relative RMS error {self.relative_rms:.3g}"]
        if self.cosine is not None:
            said.append(f"cosine {self.cosine:.4f}")
        if self.divergence is not None:
            said.insert(0, f"divergence {self.divergence:.3g} nats")
        return (
            f"{', '.join(said)} from the original's outputs, on {self.judged_by} "
            f"({self.utterances} utterances, {self.frames:,} frames, {self.runtime} runtime)"
        )

    def warning(self) -> str:
        """What is said where it is too far."""
        limit = f"relative RMS error {MOST_APART:g}"
        if self.divergence is not None:
            limit = f"divergence {MOST_DIVERGENCE:g} nats"
        return f"THE RESULT IS FAR FROM THE ORIGINAL: {self}; expected at most {limit}"

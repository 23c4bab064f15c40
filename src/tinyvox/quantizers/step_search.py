"""The one search for the step at which codes take so many bits in the file."""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass
class StepSearch:
    """Steps to try, one after the other: wider steps take fewer bits.

    `bits` may not be exceeded, and this share `aim` of them is aimed at. `slope` is by how many
    bits a step twice as wide is taken to lower what codes take; with `learns_slope`, later tries
    take it from the two tries before. A step changes by at most `octaves` doublings at a time, and
    never leaves the interval between a step that took too many bits and one that fit; where two
    tries lie on both sides of what is aimed at, and the second is not much closer, that interval is
    halved.
    """

    bits: float
    step: float
    slope: float
    aim: float
    octaves: float = math.inf
    learns_slope: bool = False
    _low: float = field(default=0.0, init=False)
    _high: float = field(default=math.inf, init=False)
    _last: tuple[float, float] | None = field(default=None, init=False)

    def next(self, found: float) -> float:
        """The step to try next, after codes took `found` bits at the present one."""
        if found <= self.bits:
            self._high = self.step
        else:
            self._low = self.step
        exponent = (found - self.aim * self.bits) / self._slope_at(found)
        swings = self._swings(found)
        self._last = found, self.step
        self.step *= 2.0 ** min(max(exponent, -self.octaves), self.octaves)
        inside = self._low < self.step < self._high and not swings
        if not inside and self._low and self._high < math.inf:
            self.step = math.sqrt(self._low * self._high)
        return self.step

    def _swings(self, found: float) -> bool:
        """Whether the last try lay on the other side, and this one, not close, half as far off at
        least."""
        if self._last is None:
            return False
        before, now = (bits - self.aim * self.bits for bits in (self._last[0], found))
        close = (1 - self.aim) * self.bits
        return before * now < 0 and abs(now) > max(abs(before) / 2, close)

    def _slope_at(self, found: float) -> float:
        """Bits for each doubling of the step, as the last two tries show it, within reason."""
        if not self.learns_slope or self._last is None:
            return self.slope
        before, step = self._last
        moved = math.log2(self.step / step)
        return self.slope if abs(moved) <= 1e-4 else min(max((before - found) / moved, 0.1), 2.0)


def expected_slope(bits: float) -> float:
    """By how many bits a step twice as wide lowers what codes of so many bits take, about: one bit
    where levels are many, less where most values are zero already."""
    return min(1.0, 0.25 + 0.5 * bits)

"""The choices for all matrices that lose least in so many bytes, by formula."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping

from tinyvox.planner.choices import Choice, Choices
from tinyvox.recipe import HALF_BITS

HEED = 0.7
"""The power of a measured loss over the predicted one by which predictions are corrected. Below 1,
so that plans do not swing to and fro."""
MOST_CORRECTED = 10.0
"""A prediction is corrected by this factor at most, up or down."""
HALVINGS, LEAST_PRICE, MOST_PRICE = 60, -100.0, 60.0
"""How often the range of prices is halved; its ends, as logarithms of base 2."""

Chosen = dict[str, Choice]


class Allocation:
    """Distributes bytes over the matrices of a model.

    At a price of a byte every matrix takes the choice that is best, and the price is set so that
    all bytes are used (a Lagrange multiplier). Source: Shoham and Gersho, "Efficient bit allocation
    for an arbitrary set of quantizers", 1988.
    """

    def __init__(self, choices: Mapping[str, Choices]) -> None:
        self.choices = choices
        self.factors: dict[str, float] = defaultdict(lambda: 1.0)
        self.hulls: dict[str, tuple[Choice, ...]] = {}
        bits = (c.bits for each in choices.values() for c in each.all if c.bits != HALF_BITS)
        self._most_bits = max(bits, default=0.0)

    def expect_noise(self, share: float) -> None:
        """From now on, take coding to cost this share of what it costs alone."""
        self.hulls = {name: found.hull(share) for name, found in self.choices.items()}

    def correct(self, losses: Iterable[tuple[str, float, float]]) -> None:
        """Correct the predicted loss of each matrix, of these names, by the measured one."""
        for name, predicted, measured in losses:
            if predicted > 0:
                ratio = min(max(measured / predicted, 1 / MOST_CORRECTED), MOST_CORRECTED)
                self.factors[name] *= ratio**HEED

    def loss_of(self, name: str, choice: Choice) -> float:
        """The predicted loss of a choice, corrected."""
        return self.factors[name] * choice.loss

    def choose(self, target: float) -> Chosen:
        """The least loss in about `target` bytes. What remains goes to the matrix that gains most
        by it, while one fits."""
        low, high = LEAST_PRICE, MOST_PRICE
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            size = sum(choice.size for choice in self._with_price(2.0**middle).values())
            low, high = (low, middle) if size <= target else (middle, high)
        chosen = self._with_price(2.0**high)
        left = target - sum(choice.size for choice in chosen.values())
        while (step := self._best_step(chosen, left)) is not None:
            name, choice = step
            left -= choice.size - chosen[name].size
            chosen[name] = choice
        return self.filled(chosen, left)

    def filled(self, chosen: Chosen, left: float) -> Chosen:
        """The same, with the bytes that are left as bits of the matrix that takes most bytes and
        may have more."""
        for name in sorted(chosen, key=lambda name: -chosen[name].size):
            choice = chosen[name]
            more = math.floor(100 * left / choice.size * choice.bits) / 100
            if choice.bits < self._most_bits:
                bits = min(choice.bits + max(more, 0.0), self._most_bits)
                return {**chosen, name: choice.with_bits(bits)}
        return chosen

    def is_smallest(self, chosen: Chosen) -> bool:
        """Whether there is no smaller choice for any matrix."""
        return all(chosen[name] == hull[0] for name, hull in self.hulls.items())

    def is_largest(self, chosen: Chosen) -> bool:
        """Whether there is no larger choice for any matrix."""
        return all(chosen[name] == hull[-1] for name, hull in self.hulls.items())

    def _with_price(self, price: float) -> Chosen:
        return {
            name: min(hull, key=lambda c: self.factors[name] * c.loss + price * c.size)
            for name, hull in self.hulls.items()
        }

    def _best_step(self, chosen: Chosen, left: float) -> tuple[str, Choice] | None:
        """The larger choice for one matrix that gains most for each byte, and still fits."""
        best: tuple[float, str, Choice] | None = None
        for name, now in chosen.items():
            for choice in self.hulls[name]:
                more = choice.size - now.size
                if 0 < more <= left:
                    gain = self.factors[name] * (now.loss - choice.loss) / more
                    if gain > 0 and (best is None or gain > best[0]):
                        best = gain, name, choice
        return None if best is None else best[1:]

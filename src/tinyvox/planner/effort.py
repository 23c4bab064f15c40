"""How long the planner searches: what each effort measures and tries."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from tinyvox.calibration import SyntheticAmount
from tinyvox.model import LARGE
from tinyvox.recipe import HALF_BITS

Effort = Literal["fast", "normal", "thorough"]
"""How long the planner searches: seconds, minutes, or up to an hour for a large network."""

BITS = (0.3, 0.4, 0.5, 0.65, 0.8, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0)
"""Coded bits for each weight that are tried."""
STEEP_BITS = (6.5, float(HALF_BITS))
"""Those that a matrix may have besides, where a little noise costs much."""
STEEP = 10.0
"""A distance of so many times the relative squared error that makes it is much."""
FINE_BITS = tuple(
    sorted({*BITS, 0.35, 0.45, 0.57, 0.72, 0.9, 1.1, 1.4, 1.6, 1.85, 2.25, 2.75, 3.25})
)


@dataclass(frozen=True)
class Measurements:
    """What is measured of each matrix before plans are made, and which choices it then has.

    `noises` are the relative squared errors, and `truncations` the places in the list of ranks, at
    which the output divergence is measured, on about `frames` frames. `coded_bits` are the bits at
    which the error of the codes is measured, on about `sample` weights. Between these, and beyond
    them, errors are interpolated. `bits` and at most `ranks` ranks may be chosen.
    """

    noises: tuple[float, ...] = (0.005, 0.05, 0.4)
    truncations: tuple[float, ...] = (0.12, 0.35, 0.7)
    frames: int = 1000
    coded_bits: tuple[float, ...] = (0.5, 1.5, 3.0)
    sample: int = 1 << 15
    bits: tuple[float, ...] = BITS
    ranks: int = 48


@dataclass(frozen=True)
class SearchSettings:
    """What an effort measures and tries.

    `calibration` and `judging` are the amounts of synthetic speech that statistics are gathered on
    and that plans are judged on, where there is no audio.

    Predicted losses are corrected by those of the best plan up to `corrections` times, until
    `patience` plans in a row are not better. Up to `sizes` files are made for one plan, to come
    close to the budget.

    Where later matrices are fitted to their inputs, coding costs less than it does alone.
    `noise_shares` are the shares of that cost that are assumed. A plan is made for each share and
    fitted in sequence, until one is not better. The lower the share, the fewer bits and the larger
    ranks a plan has. Nothing is fitted where not `fitted`.

    `keeps` are the shares of the weights that pruning leaves, in the order in which they are tried;
    networks of more than `pruned_up_to` parameters are not pruned.
    """

    calibration: SyntheticAmount
    judging: SyntheticAmount
    measurements: Measurements = Measurements()
    corrections: int = 5
    patience: int = 2
    sizes: int = 6
    noise_shares: tuple[float, ...] = (1.0, 0.5)
    fitted: bool = True
    keeps: tuple[float, ...] = (0.9, 0.7, 0.5)
    pruned_up_to: float = LARGE


NORMAL = SearchSettings(calibration=SyntheticAmount(), judging=SyntheticAmount(24, 6))
FAST = SearchSettings(
    calibration=SyntheticAmount(48, 12),
    judging=SyntheticAmount(24, 6),
    measurements=Measurements(
        noises=(0.02, 0.2),
        truncations=(0.2, 0.6),
        frames=500,
        coded_bits=(0.7, 2.5),
        sample=1 << 14,
    ),
    corrections=2,
    patience=1,
    sizes=4,
    noise_shares=(0.6,),
    fitted=False,  # so little speech would fit the matrices to itself
    keeps=(),
)
FAST_LARGE = replace(
    FAST,
    calibration=SyntheticAmount(40, 8, seconds=1.5),
    judging=SyntheticAmount(12, 4, seconds=1.0),
    measurements=replace(
        FAST.measurements, noises=(0.05,), truncations=(0.35,), frames=400, coded_bits=(1.5,)
    ),
    corrections=0,
)
THOROUGH = replace(
    NORMAL,
    calibration=SyntheticAmount(320, 64),
    judging=SyntheticAmount(96, 24),
    measurements=Measurements(
        noises=(0.002, 0.01, 0.05, 0.2, 0.5),
        truncations=(0.06, 0.15, 0.3, 0.5, 0.8),
        frames=3000,
        coded_bits=(0.4, 0.8, 1.5, 2.5, 4.0),
        sample=1 << 17,
        bits=FINE_BITS,
        ranks=96,
    ),
    corrections=12,
    patience=3,
    sizes=10,
    noise_shares=(1.0, 0.7, 0.5, 0.35),
    keeps=(0.9, 0.8, 0.7, 0.6, 0.5),
    pruned_up_to=float("inf"),
)
_SETTINGS: dict[Effort, SearchSettings] = {"fast": FAST, "normal": NORMAL, "thorough": THOROUGH}


FINETUNED, LEAST_TRAINED = 0.3, 1.0
"""The share of what coding costs that is left after fine-tuning, about; the fewest bits of weights
that are trained: with fewer, most of them are zero and get no gradient through others."""


def settings_of(
    effort: Effort, parameters: int = 0, *, to_finetune: bool = False
) -> SearchSettings:
    """What this effort measures and tries, for a network of so many parameters. For a large one,
    `fast` measures less and corrects nothing, and `normal` does not prune, which takes about as
    long as all the rest. A plan that is made `to_finetune` has more weights with fewer bits each.
    """
    fast_large = effort == "fast" and parameters > LARGE
    settings = FAST_LARGE if fast_large else _SETTINGS[effort]
    if not to_finetune:
        return settings
    bits = tuple(each for each in settings.measurements.bits if each >= LEAST_TRAINED)
    measured = replace(settings.measurements, bits=bits)
    return replace(settings, noise_shares=(FINETUNED,), measurements=measured)

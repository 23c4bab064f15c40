"""The best codebook of numbers: so many levels, at the least weighted squared error."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyvox.lm.ngrams import Doubles

CELLS = 1024
"""Runs of sorted values between which the dynamic program may cut."""
STEPS = 50
"""Most steps of Lloyd's method afterwards."""


def best_levels(values: NDArray[Any], weights: NDArray[Any], count: int) -> Doubles:
    """At most `count` levels, rising, for values with weights above 0, [values] both.

    The best partition of the values in cells, by dynamic programming, is refined by Lloyd's method.
    Values of fewer different numbers are their own levels.

    Sources: Wu, "Optimal quantization by matrix searching", 1991; Lloyd, "Least squares
    quantization in PCM", 1982, method I.
    """
    distinct, place = np.unique(values, return_inverse=True)
    if len(distinct) <= count:
        return distinct.astype(np.float64)
    share = np.bincount(place, weights).astype(np.float64)
    mass, moment = _prefix(share), _prefix(share * distinct)
    cells = _cells(distinct, share)
    cuts = cells[_best_cuts(mass[cells], moment[cells], count)]
    return _lloyd(distinct, mass, moment, cuts)


def nearest(values: NDArray[Any], levels: Doubles) -> NDArray[np.int64]:
    """The index of the level nearest to each value."""
    return np.searchsorted((levels[1:] + levels[:-1]) / 2, values)


def _prefix(amounts: Doubles) -> Doubles:
    return np.insert(np.cumsum(amounts), 0, 0.0)


def _cells(values: NDArray[Any], mass: Doubles) -> NDArray[np.int64]:
    """Where cells begin, and the end: they hold equal shares of the cube root of the density, as
    the levels of a fine quantizer do (Panter and Dite, 1951)."""
    if len(values) <= CELLS:
        return np.arange(len(values) + 1)
    width = np.gradient(values.astype(np.float64))
    share = np.cumsum(np.cbrt(mass * width**2))
    cell = (share / share[-1] * CELLS).astype(np.int64)
    starts = np.flatnonzero(np.diff(cell, prepend=-1))
    return np.append(starts, len(values))


def _best_cuts(mass: Doubles, moment: Doubles, count: int) -> NDArray[np.int64]:
    """The cell at which each cluster begins, and the end.

    The squared error of a partition is a constant minus the sum of moment**2 / mass over its
    clusters: best[k][b] = max over a < b of best[k - 1][a] + gain[b, a].
    """
    cells = len(mass) - 1
    with np.errstate(divide="ignore", invalid="ignore"):
        gain = (moment[:, None] - moment) ** 2 / (mass[:, None] - mass)
    gain[np.triu_indices(cells + 1)] = -np.inf
    best, choices = gain[:, 0], []
    for _ in range(min(count, cells) - 1):
        total = gain + best
        choices.append(total.argmax(1))
        best = np.take_along_axis(total, choices[-1][:, None], 1)[:, 0]
    cuts = [cells]
    for choice in reversed(choices):
        cuts.append(int(choice[cuts[-1]]))
    return np.array([0, *reversed(cuts)])


def _lloyd(
    values: NDArray[Any], mass: Doubles, moment: Doubles, cuts: NDArray[np.int64]
) -> Doubles:
    """The means of the clusters between cuts, moved until no value changes its cluster."""
    levels = np.diff(moment[cuts]) / np.diff(mass[cuts])
    for _ in range(STEPS):
        inner = np.searchsorted(values, (levels[1:] + levels[:-1]) / 2)
        before, cuts = cuts, np.concatenate([cuts[:1], inner, cuts[-1:]])
        if np.array_equal(before, cuts):
            break
        inside = np.diff(mass[cuts])
        levels = np.divide(np.diff(moment[cuts]), inside, out=levels.copy(), where=inside > 0)
    return levels

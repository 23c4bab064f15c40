"""How times are measured: contestants in turn, so that drift of the machine hits all alike.

Work that takes long is timed once (`once`).
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lib.results import Row

BURST = 0.01
"""Seconds that a contestant runs at a time, so that it has its weights in the caches it can use."""
SLOW = 10
"""Bursts that a call takes which needs no other before it."""
LEAST_ROUNDS = 7
PILOT, PILOT_ROUNDS = 0.2, 3
"""Seconds and rounds for the choice between variants of a contestant."""

T = TypeVar("T")
Times = dict[str, NDArray[np.float64]]
"""Seconds a call, one for each round; rounds of all contestants correspond."""


@dataclass(frozen=True)
class Contestant:
    """What is called again and again; contestants of one name are variants of it."""

    name: str
    call: Callable[[], object]
    variant: str = ""


def race(
    contestants: Sequence[Contestant], seconds: float, least_rounds: int = LEAST_ROUNDS
) -> Times:
    """A burst of calls of each in turn, for about so many seconds, and so many rounds at least.

    A burst begins with a call that is not timed, for the caches, but of what is so slow that it
    would not show.
    """
    burst = min(BURST, seconds / least_rounds / len(contestants))
    counts = [burst / _call_seconds(contestant) for contestant in contestants]
    times: list[list[float]] = [[] for _ in contestants]
    end = time.perf_counter() + seconds
    collects = gc.isenabled()
    gc.disable()
    try:
        while len(times[-1]) < least_rounds or time.perf_counter() < end:
            for contestant, count, mine in zip(contestants, counts, times, strict=True):
                if count > 1 / SLOW:
                    contestant.call()
                mine.append(_time(contestant, max(1, round(count))))
    finally:
        if collects:
            gc.enable()
    return {c.name: np.array(mine) for c, mine in zip(contestants, times, strict=True)}


def fastest(variants: Sequence[Contestant], seconds: float = PILOT) -> Contestant:
    """The variant that is fastest here."""
    if len(variants) == 1:
        return variants[0]
    numbered = [Contestant(str(i), variant.call) for i, variant in enumerate(variants)]
    times = race(numbered, seconds, PILOT_ROUNDS)
    return variants[min(range(len(variants)), key=lambda i: float(np.median(times[str(i)])))]


def quartiles(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    return float(low), float(middle), float(high)


def speedup(times: Times, name: str, over: str) -> NDArray[np.float64]:
    """How many times as fast as another, in each round."""
    return times[over] / times[name]


def median_of(values: NDArray[np.float64], key: str, unit: float = 1.0) -> Row:
    """Entries of a row: the median under this key, and the outer quartiles, both in this unit."""
    low, middle, high = (value / unit for value in quartiles(values))
    return {key: middle, f"{key}_quartiles": [low, high]}


def once(work: Callable[[], T]) -> tuple[float, T]:
    """Seconds of one call, and what it gave."""
    start = time.perf_counter()
    found = work()
    return time.perf_counter() - start, found


def _call_seconds(contestant: Contestant) -> float:
    """Seconds of a call, roughly; not the first one, which prepares."""
    contestant.call()
    return max(1e-9, min(_time(contestant, 1) for _ in range(2)))


def _time(contestant: Contestant, count: int) -> float:
    call = contestant.call
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count

"""Errors against bytes, or against time: the points, their front, and the one that is chosen."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tinyvox.report.subjects import ERRORS, SIZE, SPEED, Subject
from tinyvox.report.values import FORMS, Value

MEASURES = (
    (ERRORS, "wer", "percent", "word error rate"),
    (SIZE, "distance.divergence", "number", "divergence from the original, nats"),
    (SIZE, "distance.relative_rms", "number", "relative RMS error"),
)
"""What may stand on the upright axis: the first that two results have."""
COSTS = (
    (SIZE, "file_bytes", "size", "bytes of the file"),
    (SPEED, "ms_per_frame", "ms", "milliseconds a frame"),
)
"""What may stand on the other."""
MARGIN = 6.0
"""Percent of the plot that stay free on each side."""
TOO_CLOSE = 4.0
"""Percent of the plot that lie between two lines whose texts can both be read, at least."""


@dataclass(frozen=True)
class Point:
    """A result in the plot: x to the right and y downward, in percent. `front` says that no other
    is as good in both."""

    number: int
    name: str
    cost: Value
    error: Value
    x: float
    y: float
    front: bool
    chosen: bool


@dataclass(frozen=True)
class Tick:
    """A line of the grid, in percent, and what it stands for."""

    place: float
    text: str


@dataclass(frozen=True)
class Curve:
    """A plot, with the points by their cost; `missing` are the names of those without a number or
    on other data. `original` is where the original's error lies, if that is known, and one."""

    cost_name: str
    error_name: str
    points: tuple[Point, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    missing: tuple[str, ...]
    original: Tick | None

    @property
    def front_line(self) -> str:
        """The front as the points of an SVG polyline."""
        return " ".join(f"{p.x:.3f},{p.y:.3f}" for p in self.points if p.front)

    @property
    def described(self) -> str:
        """The plot in words."""
        front = [p for p in self.points if p.front]
        ends = f"from {front[0].cost.text} at {front[0].error.text}"
        if len(front) > 1:
            ends += f" to {front[-1].cost.text} at {front[-1].error.text}"
        chosen = "".join(f" The chosen one is {p.name}." for p in self.points if p.chosen)
        if self.original is not None:
            chosen += f" The original has {self.original.text}."
        return (
            f"{self.error_name.capitalize()} against {self.cost_name} of {len(self.points)} "
            f"results; {len(front)} on the front, {ends}.{chosen}"
        )


Form = Callable[[float], str]


def measure_of(subjects: Sequence[Subject]) -> tuple[str, str, str, str] | None:
    """The first of MEASURES that two subjects have; None where there is none."""
    for measure in MEASURES:
        kind, path, form, _ = measure
        if sum(each.number(kind, path, form) is not None for each in subjects) > 1:
            return measure
    return None


def curves(subjects: Sequence[Subject], chosen: Subject) -> list[Curve]:
    """The plots that can be made: errors against bytes, and against time."""
    measure = measure_of(subjects)
    if measure is None:
        return []
    made = (_curve(subjects, chosen, measure, cost) for cost in COSTS)
    return [curve for curve in made if curve is not None]


def _curve(
    subjects: Sequence[Subject],
    chosen: Subject,
    measure: tuple[str, str, str, str],
    cost: tuple[str, str, str, str],
) -> Curve | None:
    found, missing = [], []
    for number, each in enumerate(subjects, start=1):
        x, y = (each.number(*axis[:3]) for axis in (cost, measure))
        if x is None or y is None or x.value <= 0 or each.data != chosen.data:
            missing.append(each.name)
        else:
            found.append((number, each, x, y))
    if len(found) < 2:
        return None
    found.sort(key=lambda each: (each[2].value, each[3].value))
    xs, x_ticks = _logarithmic([each[2].value for each in found], FORMS[cost[2]])
    before = _original([each for _, each, *_ in found], measure)
    heights = [each[3].value for each in found] + ([] if before is None else [before.value])
    ys, y_ticks = _linear(heights, FORMS[measure[2]])
    original = None
    if before is not None:
        original = Tick(ys.pop(), before.text)
        y_ticks = tuple(t for t in y_ticks if abs(t.place - original.place) > TOO_CLOSE)
    best = front([(each[2].value, each[3].value) for each in found])
    points = tuple(
        Point(number, each.name, a, b, x, y, on_front, each is chosen)
        for (number, each, a, b), x, y, on_front in zip(found, xs, ys, best, strict=True)
    )
    return Curve(cost[3], measure[3], points, x_ticks, y_ticks, tuple(missing), original)


def _original(subjects: Sequence[Subject], measure: tuple[str, str, str, str]) -> Value | None:
    """The original's error; None where it is not known, or the subjects have several originals."""
    kind, path, form, _ = measure
    found = [each.number(kind, f"original.{path}", form) for each in subjects]
    known = [each for each in found if each is not None]
    return known[0] if len({each.value for each in known}) == 1 else None


def front(pairs: Sequence[tuple[float, float]]) -> list[bool]:
    """For each pair of a cost and an error whether no other is at least as good in both, and better
    in one (Pareto)."""
    return [
        not any(a <= cost and b <= error and (a, b) != (cost, error) for a, b in pairs)
        for cost, error in pairs
    ]


def choose(subjects: Sequence[Subject], name: str | None = None) -> Subject | None:
    """The subject of that name, None where there is none. Without a name: the smallest file whose
    word error rate lies within the interval of the lowest, else the first."""
    if name is not None:
        return next((each for each in subjects if each.name == name), None)
    rated = [
        (wer, size, each)
        for each in subjects
        if each.data == subjects[0].data
        and isinstance(wer := each.get(ERRORS, "wer"), float | int)
        and isinstance(size := each.get(SIZE, "file_bytes"), int)
    ]
    if not rated:
        return subjects[0]
    best = min(rated, key=lambda each: each[:2])
    most = (best[2].get(ERRORS, "wer_interval") or [0, best[0]])[1]
    return min((each for each in rated if each[0] <= most), key=lambda each: each[1])[2]


def _logarithmic(values: Sequence[float], form: Form) -> tuple[list[float], tuple[Tick, ...]]:
    low, high = math.log10(min(values)), math.log10(max(values))
    if high - low < 0.05:
        low, high = low - 0.05, high + 0.05
    round_ones = [
        [
            step * 10**power
            for power in range(math.floor(low), math.ceil(high) + 1)
            for step in steps
            if low <= math.log10(step * 10**power) <= high
        ]
        for steps in ((1, 2, 5), (1, 2, 3, 4, 6, 8))
    ]
    ticks = next((each for each in round_ones if len(each) > 2), [10**low, 10**high])
    return (
        [_spread(math.log10(value), low, high) for value in values],
        tuple(Tick(_spread(math.log10(t), low, high), form(t)) for t in ticks),
    )


def _linear(values: Sequence[float], form: Form) -> tuple[list[float], tuple[Tick, ...]]:
    low, high = min(values), max(values)
    if high - low < 1e-9:
        low, high = low - 0.005, high + 0.005
    step = _round_step((high - low) / 4)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    ticks = [step * i for i in range(first, last + 1)]
    return (
        [100 - _spread(value, low, high) for value in values],
        tuple(Tick(100 - _spread(t, low, high), form(t)) for t in ticks),
    )


def _round_step(rough: float) -> float:
    power: float = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= rough)


def _spread(value: float, low: float, high: float) -> float:
    """A value in percent of the plot, with MARGIN at both ends."""
    return MARGIN + (100 - 2 * MARGIN) * (value - low) / (high - low)

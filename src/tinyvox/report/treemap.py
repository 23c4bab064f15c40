"""Treemaps: rectangles whose areas are numbers, as square as they can be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

ASPECT = 2.0
"""Width over height of the whole."""


@dataclass(frozen=True)
class Part:
    """A part of a whole: its label, what it is (a class of the style sheet), and its size."""

    label: str
    kind: str
    size: float


@dataclass(frozen=True)
class Box:
    """A rectangle in percent of the whole, and the part that it stands for."""

    part: Part
    x: float
    y: float
    width: float
    height: float


Frame = tuple[float, float, float, float]


def treemap(groups: Sequence[Sequence[Part]]) -> list[Box]:
    """The boxes of all parts, those of a group together; parts without a size have none."""
    kept = [[p for p in group if p.size > 0] for group in groups]
    kept = sorted((g for g in kept if g), key=lambda g: -sum(p.size for p in g))
    frames = squarify([sum(p.size for p in g) for g in kept], (0.0, 0.0, ASPECT, 1.0))
    boxes = []
    for group, frame in zip(kept, frames, strict=True):
        parts = sorted(group, key=lambda part: -part.size)
        inner = squarify([part.size for part in parts], frame)
        boxes += [_in_percent(part, each) for part, each in zip(parts, inner, strict=True)]
    return boxes


def _in_percent(part: Part, frame: Frame) -> Box:
    x, y, width, height = frame
    return Box(part, 100 * x / ASPECT, 100 * y, 100 * width / ASPECT, 100 * height)


def squarify(sizes: Sequence[float], frame: Frame) -> list[Frame]:
    """Frames (x, y, width, height) for sizes, largest first, that fill a frame: rows along the
    shorter side, each of as many as make its frames squarest (Bruls, Huizing and van Wijk 2000)."""
    total = sum(sizes)
    if not total:
        return []
    scale = frame[2] * frame[3] / total
    areas = [size * scale for size in sizes]
    frames: list[Frame] = []
    while areas:
        count = _row_length(areas, min(frame[2], frame[3]))
        row, areas = areas[:count], areas[count:]
        frames += _laid(row, frame)
        frame = _rest(sum(row), frame)
    return frames


def _row_length(areas: Sequence[float], side: float) -> int:
    count = 1
    while count < len(areas) and _worst(areas[: count + 1], side) <= _worst(areas[:count], side):
        count += 1
    return count


def _worst(row: Sequence[float], side: float) -> float:
    """The largest ratio of the sides of a row's frames."""
    total = sum(row)
    if not total or not side:
        return float("inf")
    return max(side * side * max(row) / total**2, total**2 / (side * side * max(min(row), 1e-300)))


def _laid(row: Sequence[float], frame: Frame) -> Iterator[Frame]:
    x, y, width, height = frame
    upright = width >= height  # the row stands at the left, else it lies at the top
    depth = sum(row) / (height if upright else width) if min(width, height) > 0 else 0.0
    place = y if upright else x
    for area in row:
        length = area / depth if depth else 0.0
        yield (x, place, depth, length) if upright else (place, y, length, depth)
        place += length


def _rest(taken: float, frame: Frame) -> Frame:
    x, y, width, height = frame
    if width >= height:
        depth = taken / height if height else 0.0
        return x + depth, y, max(0.0, width - depth), height
    depth = taken / width if width else 0.0
    return x, y + depth, width, max(0.0, height - depth)

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyvox.report.treemap import Part, squarify, treemap

SIZES = st.lists(st.floats(1, 1e6), min_size=1, max_size=30)


@given(SIZES)
def test_areas_are_the_sizes_and_fill_the_frame(sizes: list[float]) -> None:
    sizes = sorted(sizes, reverse=True)
    frames = squarify(sizes, (0.0, 0.0, 3.0, 2.0))
    scale = 6.0 / sum(sizes)
    for size, (x, y, width, height) in zip(sizes, frames, strict=True):
        assert width * height == pytest.approx(size * scale, rel=1e-6)
        assert -1e-9 <= x <= x + width <= 3 + 1e-6
        assert -1e-9 <= y <= y + height <= 2 + 1e-6
    assert sum(w * h for _, _, w, h in frames) == pytest.approx(6)


def test_the_published_example() -> None:
    """Bruls, Huizing and van Wijk 2000, figure 5: 6 6 4 3 2 2 1 in a frame of 6 by 4."""
    frames = squarify([6, 6, 4, 3, 2, 2, 1], (0.0, 0.0, 6.0, 4.0))
    expected = [
        (0, 0, 3, 2), (0, 2, 3, 2), (3, 0, 12 / 7, 7 / 3), (33 / 7, 0, 9 / 7, 7 / 3),
    ]  # fmt: skip
    for found, wanted in zip(frames[:4], expected, strict=True):
        assert found == pytest.approx(wanted)


def test_parts_of_a_group_lie_together_and_empty_ones_nowhere() -> None:
    groups = [[Part("a", "k", 10), Part("b", "k", 0)], [Part("c", "k", 20), Part("d", "k", 30)], []]
    boxes = treemap(groups)
    assert [box.part.label for box in boxes] == ["d", "c", "a"]
    assert math.fsum(box.width * box.height for box in boxes) == pytest.approx(100 * 100)
    for box in boxes:
        assert box.width * box.height == pytest.approx(box.part.size / 60 * 1e4)

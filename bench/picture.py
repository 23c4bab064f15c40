"""Error rates against bytes as an SVG: one panel a test set, one line a way to make files."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT, LEFT, GAP, TOP, BOTTOM = 350, 270, 48, 16, 64, 44
"""Of a panel, its axes' labels within; of what stands around the panels."""
COLORS = ("#4477aa", "#66aadd", "#cc3311", "#ee9933", "#228833", "#aa3377", "#888888")
STYLE = (
    "text{font:12px sans-serif;fill:#333} .grid{stroke:#ddd} .frame{fill:none;stroke:#999} "
    ".line{fill:none;stroke-width:2} .whisker{stroke-opacity:.45}"
)


@dataclass(frozen=True)
class Point:
    """Bytes of a file, its error rate and the ends of its interval, as shares of 1."""

    size: int
    rate: float
    low: float
    high: float


Panel = Mapping[str, Sequence[Point]]
"""Points by the name of the line that joins them."""


@dataclass(frozen=True)
class _Axes:
    """Where a panel begins and what it shows: bytes on a logarithmic axis, rates from 0 to `top`;
    a rate above it lies on the upper edge."""

    left: float
    sizes: tuple[float, float]
    top: float

    def x(self, size: float) -> float:
        first, last = (math.log(s) for s in self.sizes)
        share = (math.log(size) - first) / (last - first)
        return self.left + LEFT + share * (WIDTH - LEFT - GAP)

    def y(self, rate: float) -> float:
        return TOP + HEIGHT * (1 - min(rate / self.top, 1.0))


def draw(title: str, panels: Mapping[str, Panel], top: float) -> str:
    """The whole picture; panels share their axes, which end at an error rate of `top`."""
    sizes = [p.size for panel in panels.values() for line in panel.values() for p in line]
    ends = (min(sizes) / 1.2, max(sizes) * 1.2)
    width, height = WIDTH * len(panels), TOP + HEIGHT + BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">',
        f"<style>{STYLE}</style>",
        f'<rect width="{width}" height="{height}" fill="white"/>',
        _text(LEFT, 18, title, "start", "font-weight:bold"),
        *_legend(next(iter(panels.values()))),
    ]
    for i, (name, panel) in enumerate(panels.items()):
        parts += _panel(_Axes(i * WIDTH, ends, top), name, panel)
    return "\n".join([*parts, "</svg>\n"])


def _legend(panel: Panel) -> Iterator[str]:
    left = float(LEFT)
    for name, color in zip(panel, COLORS, strict=False):
        yield f'<circle cx="{left + 4}" cy="34" r="4" fill="{color}"/>'
        yield _text(left + 14, 38, name, "start")
        left += 38 + 6.5 * len(name)


def _panel(axes: _Axes, name: str, panel: Panel) -> Iterator[str]:
    yield from _grid(axes)
    yield _text(axes.left + WIDTH / 2, TOP - 8, name)
    for (_, points), color in zip(panel.items(), COLORS, strict=False):
        yield from _line(axes, sorted(points, key=lambda p: p.size), color)


def _grid(axes: _Axes) -> Iterator[str]:
    left, right = axes.left + LEFT, axes.left + WIDTH - GAP
    step = next(s for s in (0.01, 0.02, 0.05, 0.1, 0.2) if axes.top / s <= 8)
    for i in range(round(axes.top / step) + 1):
        y = axes.y(i * step)
        yield f'<path class="grid" d="M{left:.1f} {y:.1f}H{right:.1f}"/>'
        yield _text(left - 6, y + 4, f"{i * step:.0%}", "end")
    for power in range(3, 9):
        for size in (10**power, 2 * 10**power, 5 * 10**power):
            if axes.sizes[0] <= size <= axes.sizes[1]:
                x = axes.x(size)
                yield f'<path class="grid" d="M{x:.1f} {TOP}V{TOP + HEIGHT}"/>'
                yield _text(x, TOP + HEIGHT + 16, _bytes(size))
    yield (f'<rect class="frame" x="{left}" y="{TOP}" width="{right - left}" height="{HEIGHT}"/>')
    yield _text((left + right) / 2, TOP + HEIGHT + 34, "bytes of the file")


def _line(axes: _Axes, points: Sequence[Point], color: str) -> Iterator[str]:
    places = [(axes.x(p.size), axes.y(p.rate)) for p in points]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    yield f'<path class="line" stroke="{color}" d="M{path}"/>'
    for point, (x, y) in zip(points, places, strict=True):
        low, high = axes.y(point.low), axes.y(point.high)
        yield f'<path class="whisker" stroke="{color}" d="M{x:.1f} {low:.1f}V{high:.1f}"/>'
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{color}"/>'


def _text(x: float, y: float, text: str, anchor: str = "middle", style: str = "") -> str:
    more = f' style="{style}"' if style else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>{escape(text)}</text>'


def _bytes(size: int) -> str:
    return f"{size // 1000} kB" if size < 1_000_000 else f"{size // 1_000_000} MB"

"""Drawings of error against size, as small SVG files, from results alone."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from lib.results import Results, Row
from lib.table import SETS

COLORS = {
    "planner": "#cc3311", "planner, no audio": "#ee9933", "all three": "#228833",
    "factorization + quantization": "#4477aa", "pruning + quantization": "#aa3377",
    "quantization": "#888888",
    "without data": "#888888", "with audio": "#4477aa", "distilled, no transcripts": "#ee9933",
    "fine-tuned with transcripts": "#cc3311", "dense": "#66ccee",
    "large compressed": "#cc3311", "large compressed, fine-tuned": "#ee9933",
    "small dense, 8-bit": "#4477aa", "small dense, float32": "#66ccee", "large, float32": "#888888",
}  # fmt: skip
"""By the name of the line, in the order in which they are drawn and named."""
PANEL, HEIGHT, ALONE = 3.6, 3.7, 6.6
"""Inches: the width of a panel, the height of the picture, the width of a panel that is alone."""
SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none", "svg.hashsalt": "tinyvox", "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Arial"], "font.size": 9, "axes.edgecolor": "#999999",
    "axes.spines.top": False, "axes.spines.right": False,
    "xtick.major.size": 0, "ytick.major.size": 0,
}  # fmt: skip
"""Text stays text, and the same results give the same file."""
LINEAR = 2.0
"""Points of WER up to which the axis of changes is linear; logarithmic beyond."""
CHANGES = (-1, 0, 1, 2, 5, 10, 20, 50, 100)
FEW, MANY = (1, 3), (1, 2, 5)
"""Of each power of ten, sizes that are named where there are many powers, or few."""


@dataclass(frozen=True)
class Point:
    """Bytes of a file, its error, and the ends of the interval of it where they are known."""

    size: int
    error: float
    ends: tuple[float, float] | None = None


ARMENIAN = "Armenian read speech, speakers that no training heard"
"""The panel of `deepspeech.py`."""
LONG = re.compile(r"\d+\.\d{3,}")

Lines = Mapping[str, Sequence[Point]]
"""Points by the name of the line that joins them."""
Style = Callable[[Axes, Sequence[Point]], None]
"""What the axis of errors of a panel looks like, given the points of all."""


def draw(results: Results, folder: Path) -> list[Path]:
    """Draw all pictures of these results; those that have no points are left out."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for name, title, panels, style in PICTURES[results.name](results):
        if any(panels.values()):
            made.append(folder / name)
            with mpl.rc_context(SETTINGS):
                _save(_figure(title, panels, style), made[-1])
    return made


def _curve(results: Results) -> Iterator[tuple[str, str, Mapping[str, Lines], Style]]:
    rows = [row for row in results.rows["points"] if row["bytes"] is not None]
    for name, how in (("curve.svg", "no retraining"), ("curve_tuned.svg", "fine-tuned")):
        tuned = how == "fine-tuned"
        chosen = [row for row in rows if bool(row["steps"]) == tuned and not row.get("tuned")]
        panels = {each: _by_line(chosen, each, _strategy, _change) for each in SETS}
        yield name, f"Points of WER more than the original, {how}", panels, _in_points


def _large_then_small(results: Results) -> Iterator[tuple[str, str, Mapping[str, Lines], Style]]:
    rows = results.rows["files"]
    panels = {each: _by_line(rows, each, lambda row: str(row["line"]), _rate) for each in SETS}
    yield (
        "large_then_small.svg",
        "WER of small networks, and of a large one made small",
        panels,
        (_in_percent),
    )


DEEPSPEECH = {
    "without-data": "without data", "audio": "with audio",
    "distilled": "distilled, no transcripts", "fine-tuned": "fine-tuned with transcripts",
    "dense-float32": "dense", "dense-8-bit": "dense",
}  # fmt: skip
"""Lines of the picture of `deepspeech.py`, by the second word of a file's name."""


def _deepspeech(results: Results) -> Iterator[tuple[str, str, Mapping[str, Lines], Style]]:
    rows = {row["file"]: row for row in results.rows["files"]}
    of_ways = [row for name, row in rows.items() if name.partition(" ")[2] in DEEPSPEECH]
    panel = _by_line(of_ways, "cer", _way, _rate_of_row)
    original = _rate_of_row(rows["lossless"], "cer")
    title = "CER of a DeepSpeech of 47 million parameters, greedy"
    yield "deepspeech.svg", title, {ARMENIAN: panel}, functools.partial(_above, original=original)


def _way(row: Row) -> str:
    return DEEPSPEECH[row["file"].partition(" ")[2]]


def _rate_of_row(row: Row, rate: str) -> Point:
    low, high = row[f"{rate}_interval"]
    return Point(row["bytes"], 100 * row[rate], (100 * low, 100 * high))


PICTURES: Mapping[
    str, Callable[[Results], Iterator[tuple[str, str, Mapping[str, Lines], Style]]]
] = MappingProxyType(
    {"curve": _curve, "deepspeech": _deepspeech, "large_then_small": _large_then_small}
)
"""By the name of the script."""


def _by_line(
    rows: Sequence[Row], name: str, line: Callable[[Row], str], point: Callable[[Row, str], Point]
) -> Lines:
    lines: dict[str, list[Point]] = {}
    for row in sorted(rows, key=lambda row: int(row["bytes"])):
        lines.setdefault(line(row), []).append(point(row, name))
    return {name: lines[name] for name in COLORS if name in lines}


def _strategy(row: Row) -> str:
    return str(row["strategy"]) + ("" if row["calibration"] == "audio" else ", no audio")


def _change(row: Row, name: str) -> Point:
    return Point(row["bytes"], row[name]["change"], row[name].get("change_interval"))


def _rate(row: Row, name: str) -> Point:
    low, high = row[name]["wer_interval"]
    return Point(row["bytes"], 100 * row[name]["wer"], (100 * low, 100 * high))


def _figure(title: str, panels: Mapping[str, Lines], style: Style) -> Figure:
    width = ALONE if len(panels) == 1 else PANEL * len(panels)
    figure = Figure(figsize=(width, HEIGHT), layout="constrained")
    all_axes = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
    points = [p for lines in panels.values() for line in lines.values() for p in line]
    for axes, (panel, lines) in zip(all_axes, panels.items(), strict=True):
        axes.set_title(SETS.get(panel, panel), fontsize=9)
        for name, line in lines.items():
            _line(axes, name, line)
        _bytes_axis(axes, [point.size for point in points])
        style(axes, points)
        axes.grid(color="#dddddd", linewidth=0.6)
    figure.suptitle(title, fontsize=10, fontweight="bold")
    handles, labels = all_axes[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=int(width / 1.8), frameon=False
    )
    return figure


def _line(axes: Axes, name: str, points: Sequence[Point]) -> None:
    sizes, color = [point.size for point in points], COLORS[name]
    axes.plot(sizes, [p.error for p in points], "o-", color=color, label=name, ms=4, lw=1.4)
    known = [(p.size, *p.ends) for p in points if p.ends is not None]
    if known:
        where, low, high = zip(*known, strict=True)
        axes.vlines(where, low, high, color=color, alpha=0.45, lw=1)


def _bytes_axis(axes: Axes, sizes: Sequence[int]) -> None:
    low, high = min(sizes) / 1.2, max(sizes) * 1.2
    factors = FEW if high > 50 * low else MANY
    named = [factor * 10**power for power in range(3, 9) for factor in factors]
    axes.set_xlabel("bytes of the file")
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(FixedLocator([size for size in named if low <= size <= high]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: _bytes(size)))


def _in_points(axes: Axes, _: Sequence[Point]) -> None:
    axes.set_yscale("symlog", linthresh=LINEAR)
    axes.set_ylim(-LINEAR, 100)
    axes.yaxis.set_major_locator(FixedLocator(list(CHANGES)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(
        FuncFormatter(lambda change, _: f"{change:+g}" if change else "0")
    )


def _in_percent(axes: Axes, points: Sequence[Point]) -> None:
    axes.set_ylim(0, 1.05 * max(point.error for point in points))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:g}%"))


def _above(axes: Axes, points: Sequence[Point], original: Point) -> None:
    """Errors in percent, and the original's as a line with its interval, whatever its bytes."""
    assert original.ends is not None
    label = f"the original, {original.size / 1e6:.1f} MB without loss"
    axes.axhline(original.error, color="#222222", lw=1.2, ls="--", label=label)
    axes.axhspan(*original.ends, color="#222222", alpha=0.07, lw=0)
    ends = [end for point in (*points, original) for end in point.ends or ()]
    axes.set_ylim(0.9 * min(ends), 1.03 * max(ends))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:g}%"))


def _bytes(size: float) -> str:
    return f"{size / 1e3:g} kB" if size < 1e6 else f"{size / 1e6:g} MB"


def _save(figure: Figure, path: Path) -> None:
    """As a small file: a hundredth of a point is enough."""
    figure.savefig(path, metadata=dict.fromkeys(("Date", "Creator", "Type", "Format")))
    text = LONG.sub(lambda number: f"{float(number[0]):.2f}", path.read_text(encoding="utf-8"))
    path.write_text(text, encoding="utf-8")

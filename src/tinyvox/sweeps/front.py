"""The results that no other beats: the Pareto front of bytes against errors, and against time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

MEASURES = ("wer", "divergence", "relative_rms")
"""What errors are, the first that all results have."""


def best_of(points: Sequence[tuple[float, ...]]) -> list[int]:
    """The places of the points that no other is better than: as good in all numbers, and smaller in
    one. Of equal points the first is taken. They come by their first number, smallest first."""
    kept: list[int] = []
    for place in sorted(range(len(points)), key=lambda i: (points[i], i)):
        point = points[place]
        if not any(_covers(points[other], point) for other in kept):
            kept.append(place)
    return kept


def _covers(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return all(a <= b for a, b in zip(one, other, strict=True))


def error_of(record: Mapping[str, Any], measure: str) -> float:
    """How wrong a result is; infinite where that is not known."""
    if measure == "wer":
        found = (record.get("eval") or {}).get("wer")
    else:
        found = ((record.get("compress") or {}).get("distance") or {}).get(measure)
    return math.inf if found is None else float(found)


def measure_of(records: Sequence[Mapping[str, Any]]) -> str:
    """The first of MEASURES that all results have, else the last."""
    for name in MEASURES[:-1]:
        if records and all(error_of(record, name) < math.inf for record in records):
            return name
    return MEASURES[-1]


def front_of(
    records: Sequence[Mapping[str, Any]],
    original: Mapping[str, Any] | None = None,
    times: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """The object in `front.json`: all points, and the names of those on the fronts of bytes against
    errors, and of time against errors.

    `records` are results with a file; `times` are milliseconds a frame, by name of the task.
    """
    times, measure = times or {}, measure_of(records)
    points = [_point(record, measure, times) for record in records]
    timed = [point for point in points if point["ms_per_frame"] is not None]
    finite = [point for point in points if point["error"] is not None]
    by_bytes = best_of([(point["bytes"], point["error"]) for point in finite])
    both = [point for point in timed if point["error"] is not None]
    by_time = best_of([(point["ms_per_frame"], point["error"]) for point in both])
    return {
        "measure": measure,
        "original": None if original is None else _original(original),
        "points": points,
        "bytes_front": [finite[place]["name"] for place in by_bytes],
        "time_front": [both[place]["name"] for place in by_time],
    }


def _point(record: Mapping[str, Any], measure: str, times: Mapping[str, float]) -> dict[str, Any]:
    facts, name, error = record["compress"], record["task"]["name"], error_of(record, measure)
    return {
        "name": name,
        "file": facts["file"],
        "bytes": facts["file_bytes"],
        "ratio": facts["ratio"],
        "error": error if math.isfinite(error) else None,
        "error_interval": (record.get("eval") or {}).get("wer_interval"),
        "ms_per_frame": times.get(name),
    }


def _original(record: Mapping[str, Any]) -> dict[str, Any]:
    facts, scored = record["inspect"], record.get("eval") or {}
    return {
        "file": facts["file"],
        "bytes": facts["original_bytes"],
        "error": scored.get("wer"),
        "error_interval": scored.get("wer_interval"),
    }

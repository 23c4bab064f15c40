from __future__ import annotations

from pathlib import Path

import pytest
from report_pages import described, scored, timed

from tinyvox.records import Result
from tinyvox.report.curve import choose, curves, front
from tinyvox.report.subjects import Subject, gather

SIZES = {"a": (1000, 0.30), "b": (2000, 0.21), "c": (4000, 0.20), "d": (3000, 0.35)}


def subjects(*more: dict[str, object]) -> tuple[Subject, ...]:
    facts = [f for n, (size, wer) in SIZES.items() for f in _files(n, size, wer)]
    return gather([Result(str(i), Path(), f) for i, f in enumerate([*facts, *more])]).subjects


def _files(name: str, size: int, wer: float) -> list[dict[str, object]]:
    return [described(f"{name}.tvx", size, name), scored(wer, name), timed(size / 1e4, name)]


def test_the_front_has_what_nothing_beats() -> None:
    assert front([(1, 3), (2, 2), (2, 4), (3, 3), (3, 1)]) == [True, True, False, False, True]
    assert front([(1, 1), (1, 1)]) == [True, True]


def test_points_lie_where_their_numbers_are() -> None:
    found = subjects()
    bytes_curve, time_curve = curves(found, found[0])
    points = {point.name: point for point in bytes_curve.points}
    assert [p.name for p in bytes_curve.points if p.front] == ["a.tvx", "b.tvx", "c.tvx"]
    assert [p.name for p in bytes_curve.points if p.chosen] == ["a.tvx"]
    half = (points["a.tvx"].x + points["c.tvx"].x) / 2  # 1000 and 4000: 2000 is in the middle
    assert points["b.tvx"].x == pytest.approx(half)
    assert points["d.tvx"].y == pytest.approx(6)  # the most errors at the top
    assert points["c.tvx"].y == pytest.approx(94)
    assert bytes_curve.original is not None
    assert bytes_curve.original.place == pytest.approx(94)  # 20%, as c
    slope = (points["a.tvx"].y - 6) / (94 - 6)
    assert slope == pytest.approx((0.35 - 0.30) / (0.35 - 0.20))
    assert time_curve.cost_name == "milliseconds a frame"
    assert "The chosen one is a.tvx" in bytes_curve.described


def test_a_result_on_other_data_is_named_and_not_drawn() -> None:
    other = scored(0.01, "e")
    other["record"]["hashes"]["data"] = "other"
    found = subjects(described("e.tvx", 500, "e"), other)
    curve = curves(found, found[0])[0]
    assert curve.missing == ("e.tvx",)
    assert len(curve.points) == 4
    assert choose(found) is not found[-1]


def test_different_originals_are_not_drawn_as_one() -> None:
    found = subjects(described("e.tvx", 500, "e"), scored(0.4, "e", original={"wer": 0.5}))
    assert curves(found, found[0])[0].original is None


def test_the_smallest_within_the_interval_of_the_best_is_chosen() -> None:
    found = subjects()
    assert choose(found) is found[1]  # c is best, with 15 to 25%; b has 21%
    assert choose(found, "d.tvx") is found[3]
    assert choose(found, "x") is None
    assert choose(found[3:]) is found[3]


def test_one_result_has_no_curve() -> None:
    found = subjects()[:1]
    assert curves(found, found[0]) == []


def test_without_word_errors_the_distance_is_drawn() -> None:
    facts = [
        described(f"{n}.tvx", size, n, distance={"relative_rms": wer, "divergence": None})
        for n, (size, wer) in SIZES.items()
    ]
    found = gather([Result("", Path(), each) for each in facts]).subjects
    (curve,) = curves(found, found[0])
    assert curve.error_name == "relative RMS error"
    assert curve.original is None

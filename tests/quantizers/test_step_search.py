"""The search for a step finds the step at which a falling curve meets the bits asked for."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from tinyvox.quantizers import StepSearch, expected_slope


def taken(step: float, slope: float, at_one: float) -> float:
    """Bits that fall by `slope` with every doubling of the step, down to none."""
    return max(0.0, at_one - slope * math.log2(step))


@settings(max_examples=200, deadline=None)
@given(
    bits=st.floats(0.5, 6),
    slope=st.floats(0.4, 1.2),
    at_one=st.floats(0.3, 9),
    learns=st.booleans(),
)
def test_the_bits_are_met_within_a_hundredth(
    bits: float, slope: float, at_one: float, learns: bool
) -> None:
    search = StepSearch(bits, 1.0, expected_slope(bits), 0.997, octaves=1.0, learns_slope=learns)
    found, tries = at_one, 0
    while not 0.98 * bits <= found <= bits:
        found, tries = taken(search.next(found), slope, at_one), tries + 1
        assert tries <= 30


def test_a_step_stays_between_one_that_took_too_many_bits_and_one_that_fit() -> None:
    search = StepSearch(2.0, 1.0, 0.05, 0.99)
    assert search.next(2.5) > 1.0  # too many: wider
    wide = search.step
    assert wide > 1000  # the slope was far too small
    narrower = search.next(0.1)
    assert 1.0 < narrower < wide
    assert narrower == math.sqrt(1.0 * wide)


def test_a_step_changes_by_so_many_octaves_at_most() -> None:
    search = StepSearch(1.0, 4.0, 0.5, 1.0, octaves=1.0)
    assert search.next(8.0) == 8.0
    assert StepSearch(1.0, 4.0, 0.5, 1.0, octaves=1.0).next(0.0) == 2.0


def test_codes_that_take_what_is_aimed_at_keep_their_step() -> None:
    assert StepSearch(3.0, 0.25, expected_slope(3.0), 1.0).next(3.0) == 0.25
    assert expected_slope(0.5) == 0.5
    assert expected_slope(4.0) == 1.0

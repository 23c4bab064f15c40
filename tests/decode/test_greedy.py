"""Best path decoding."""

from __future__ import annotations

import pytest

from tinyvox.decode import greedy_text

TEXTS = (" ", "a", "b", "<blank>")


@pytest.mark.parametrize(
    ("best", "text"),
    [
        ([3, 1, 1, 3, 1, 2, 2, 3], "aab"),
        ([1, 1, 1], "a"),
        ([3, 3], ""),
        ([0, 3, 1, 0, 0, 2, 0], "a b"),
    ],
)
def test_greedy_decoding_merges_then_drops_blanks(best: list[int], text: str) -> None:
    assert greedy_text(best, TEXTS, blank=3) == text

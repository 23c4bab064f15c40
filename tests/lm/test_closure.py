"""Ends of n-grams that pruning took away are added, and no score changes."""

from __future__ import annotations

import numpy as np
import pytest
from small_ngrams import as_dictionary, random_model, spelled

from tinyvox.lm import close


@pytest.mark.parametrize("length", [1, 2, 3, 5])
def test_all_ends_are_there_and_all_scores_stay(length: int) -> None:
    model = random_model(9, length, seed=length, share=0.15)
    closed = close(model)
    for n in range(2, length + 1):
        assert {ngram[1:] for ngram in spelled(closed, n)} <= set(spelled(closed, n - 1))
    before, after = as_dictionary(model), as_dictionary(closed)
    assert after == after | before
    tokens = np.random.default_rng(0).integers(1, 9, 20_000)
    np.testing.assert_allclose(closed.score(tokens), model.score(tokens), atol=1e-5)


def test_a_closed_model_is_returned_as_it_is() -> None:
    closed = close(random_model(9, 4, seed=1, share=0.2))
    assert close(closed) is closed

"""Mixes of language models: probabilities by hand, shares against every other pair of shares."""

from __future__ import annotations

import math

import numpy as np
import pytest
from small_ngrams import as_dictionary, random_model

from tinyvox.errors import ModelError
from tinyvox.lm import NGrams, best_shares, describe, estimate, mix
from tinyvox.lm.closure import close
from tinyvox.lm.mixing import with_all_words
from tinyvox.lm.pruning import normalized

ONE = ["a b a b c", "b a b", "a b", "c a b"] * 3
OTHER = ["c d c", "d c d a", "d d c"] * 3


@pytest.fixture(name="models")
def two_models() -> list[NGrams]:
    return [normalized(close(random_model(7 + i, 3, seed=i))) for i in range(2)]


def test_every_ngram_has_the_sum_of_the_probabilities(models: list[NGrams]) -> None:
    shares = [0.3, 0.7]
    mixed = mix(models, shares)
    wide = with_all_words(models)
    ngrams = set()
    for model in wide:
        ngrams |= set(as_dictionary(model))
    table = as_dictionary(mixed)
    assert set(table) >= ngrams
    checked = 0
    for ngram in ngrams:
        if 1 in ngram[1:] or len(ngram) == 1:  # <s>; unigrams are tested by their sum
            continue
        parts = [model.score(np.array([*ngram], np.int32))[-1] for model in wide]
        expected = np.log10(sum(w * 10**part for w, part in zip(shares, parts, strict=True)))
        assert table[ngram][0] == pytest.approx(expected, abs=2e-4), ngram
        checked += 1
    assert checked > 100


def test_a_mix_is_sound(models: list[NGrams]) -> None:
    facts = describe(mix(models, [1, 1]))
    assert facts["worst_total_mass"] == pytest.approx(1, abs=1e-3)
    wide = with_all_words(models)
    assert wide[0].words == wide[1].words == mix(models, [1, 1]).words
    for model in wide:
        assert describe(model)["worst_total_mass"] == pytest.approx(1, abs=1e-3)


def test_models_of_different_lengths_mix() -> None:
    mixed = mix([estimate(ONE, 3), estimate(OTHER, 2)], [1, 3])
    assert mixed.length == 3
    assert set("abcd") <= set(mixed.words)
    assert describe(mixed)["worst_total_mass"] == pytest.approx(1, abs=1e-3)


def test_a_model_alone_stays_as_it_is() -> None:
    model = estimate(ONE, 3)
    mixed = mix([model], [5])
    tokens = model.encode(ONE)
    assert np.allclose(mixed.score(mixed.encode(ONE)), model.score(tokens), atol=1e-5)


def test_no_other_shares_foresee_the_text_better() -> None:
    models = [estimate(ONE, 2), estimate(OTHER, 2)]
    text = ["a b c d", "d c", "a b a"]
    found = best_shares(models, text)
    assert sum(found) == pytest.approx(1)
    wide = with_all_words(models)
    tokens = wide[0].encode(text)
    parts = np.array([10 ** model.score(tokens)[tokens > 1] for model in wide])

    def likelihood(share: float) -> float:
        return float(np.log(share * parts[0] + (1 - share) * parts[1]).sum())

    best = max(np.linspace(0.001, 0.999, 999), key=likelihood)
    assert found[0] == pytest.approx(best, abs=0.002)


def test_the_text_of_one_source_takes_that_source() -> None:
    models = [estimate(ONE, 2), estimate(OTHER, 2)]
    assert best_shares(models, ONE)[0] > 0.9
    assert best_shares(models, OTHER)[1] > 0.9


@pytest.mark.parametrize("shares", [[1.0], [1.0, -0.1], [0.0, 0.0], [math.nan, 1], [math.inf, 1]])
def test_shares_that_do_not_fit_are_refused(shares: list[float], models: list[NGrams]) -> None:
    with pytest.raises(ModelError, match="expected one for each of 2 models, none below 0"):
        mix(models, shares)


def test_a_text_of_unknown_words_is_refused() -> None:
    with pytest.raises(ModelError, match="no word that the language models know"):
        best_shares([estimate(ONE, 2)], [])

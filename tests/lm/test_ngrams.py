"""The value of a language model: lookups, scores and masses against loops over a dictionary."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from small_ngrams import as_dictionary, random_model, spelled

from tinyvox.errors import ModelError
from tinyvox.lm import ABSENT, END_ID, START_ID, UNKNOWN_ID, NGrams, Order

Table = dict[tuple[int, ...], tuple[float, float]]


def by_hand(table: Table, context: tuple[int, ...], word: int) -> float:
    """The recursion of the ARPA format, in its plainest form."""
    if (*context, word) in table:
        return table[*context, word][0]
    backoff = table[context][1] if context in table else 0.0
    return backoff + by_hand(table, context[1:], word)


@pytest.fixture(params=[1, 2, 4], name="model")
def models(request: pytest.FixtureRequest) -> NGrams:
    return random_model(words=9, length=request.param, seed=request.param)


def test_every_entry_is_found_where_it_is_and_nothing_else(model: NGrams) -> None:
    for n in range(1, model.length + 1):
        every = np.array(list(itertools.product(range(9), repeat=n)))
        found = model.find(every)
        there = found != ABSENT
        assert np.array_equal(np.sort(found[there]), np.arange(model.counts[n - 1]))
        assert {tuple(map(int, g)) for g in every[there]} == set(spelled(model, n))


def test_scores_of_text_are_those_of_the_recursion(model: NGrams) -> None:
    table = as_dictionary(model)
    words = model.words[3:]
    text = [" ".join(words[i % 6] for i in range(k, k * 3)) + " stranger" for k in range(1, 9)]
    tokens = model.encode(text)
    scores = model.score(tokens)
    start = 0
    for i, token in enumerate(tokens):
        start = i if token == START_ID else start
        context = tuple(map(int, tokens[max(start, i - model.length + 1) : i]))
        expected = 0.0 if token == START_ID else by_hand(table, context, int(token))
        assert scores[i] == pytest.approx(expected, abs=1e-5)
    mean = scores.sum() / np.count_nonzero(tokens != START_ID)
    assert model.perplexity(tokens) == pytest.approx(10**-mean)


def test_the_total_mass_is_the_sum_over_all_words(model: NGrams) -> None:
    table = as_dictionary(model)
    for n in range(model.length + 1):
        contexts = spelled(model, n) if n else [()]
        masses = model.total_mass(n, np.arange(len(contexts)))
        for context, mass in zip(contexts, masses, strict=True):
            words = [word for word in range(9) if word != START_ID]
            expected = sum(10 ** by_hand(table, context, word) for word in words)
            assert mass == pytest.approx(expected, rel=1e-5)


def test_encoding_marks_sentences_and_unknown_words() -> None:
    model = random_model(words=5, length=2, seed=0)
    tokens = model.encode([f"{model.words[3]} zebra", ""])
    assert tokens.tolist() == [START_ID, 3, UNKNOWN_ID, END_ID, START_ID, END_ID]


def test_no_ngram_reaches_over_the_start_of_a_sentence() -> None:
    model = random_model(words=6, length=3, seed=1)
    one, other = model.encode(["c d"]), model.encode(["e c", ""])
    both = np.concatenate([one, other])
    assert np.allclose(model.score(both)[len(one) :], model.score(other))


def test_a_text_without_words_has_no_perplexity() -> None:
    with pytest.raises(ModelError, match="no words"):
        random_model(words=5, length=1, seed=0).perplexity(np.zeros(0, np.int32))


def unigrams(count: int = 4, **changes: object) -> Order:
    arrays = {
        "context": np.zeros(count),
        "word": np.arange(count),
        "log10": np.full(count, -1.0),
        "backoff": np.zeros(count),
    }
    return Order(**(arrays | changes))  # type: ignore[arg-type]


WORDS = ("<unk>", "<s>", "</s>", "a")


def bigrams(**changes: object) -> NGrams:
    order = {"context": [1, 3], "word": [3, 2], "log10": [-0.5, -0.5], "backoff": [0, 0]}
    return NGrams(WORDS, (unigrams(), Order(**(order | changes))))  # type: ignore[arg-type]


def test_arrays_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="read-only"):
        bigrams().orders[1].log10[0] = 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"context": [3, 1]}, "2-grams.*not sorted"),
        ({"context": [1, 1], "word": [3, 3]}, "twice"),
        ({"context": [1, 4]}, "context is 1 or 4, expected 0 to 3"),
        ({"word": [-1, 2]}, "word is -1 or 2, expected 0 to 3"),
        ({"log10": [0.5, -1]}, "above 1"),
        ({"log10": [np.nan, -1]}, "not a number"),
        ({"log10": [-np.inf, -1]}, "not a number"),
        ({"backoff": [-1, 0]}, "nothing can follow"),
        ({"word": [3]}, "arrays have shapes"),
    ],
)
def test_wrong_arrays_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        bigrams(**changes)


@pytest.mark.parametrize(
    ("words", "orders", "message"),
    [
        (("a", "b", "c", "d"), (unigrams(),), "expected"),
        ((*WORDS, "a"), (unigrams(5),), "'a' is there twice"),
        (WORDS, (), "no unigrams"),
        (WORDS, (unigrams(3),), "3 unigrams, expected one for each of the 4"),
    ],
)
def test_wrong_words_are_refused(
    words: tuple[str, ...], orders: tuple[Order, ...], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        NGrams(words, orders)


@pytest.mark.parametrize("share", [0.2, 0.6])
def test_suffixes_are_found_where_ends_are_missing_too(share: float) -> None:
    model = random_model(words=9, length=4, seed=7, share=share)
    for n in range(2, 5):
        ngrams = model.spelled(n, np.arange(model.counts[n - 1]))
        for k in range(1, n):
            assert np.array_equal(model.suffixes[n - 1][k - 1], model.find(ngrams[:, n - k :]))
    assert any((each == ABSENT).any() for each in model.suffixes[3])

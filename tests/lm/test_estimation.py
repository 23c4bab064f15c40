"""Kneser-Ney estimates: the numbers of lmplz, discounts by hand, sums, and what is refused.

`lmplz/` has what KenLM's `lmplz -o 3 --discount_fallback` made of its text, without cut-offs and
with `--prune 0 1 1`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tinyvox.errors import DataError
from tinyvox.lm import END_ID, START_ID, NGrams, estimate, read_arpa, read_sentences
from tinyvox.lm.estimation import discounts, tokenize
from tinyvox.progress import Update

HERE = Path(__file__).parent / "lmplz"
TEXT = list(read_sentences(HERE / "text.txt"))


@pytest.mark.parametrize(("name", "cutoffs"), [("all", ()), ("cut", (0, 1))])
def test_the_numbers_are_those_of_lmplz(name: str, cutoffs: tuple[int, ...]) -> None:
    expected = read_arpa(HERE / f"{name}.arpa")
    model = estimate(TEXT, 3, cutoffs)
    assert model.counts == expected.counts
    ids = np.array([model.ids[word] for word in expected.words])
    for n in range(1, 4):
        ngrams = expected.spelled(n, np.arange(expected.counts[n - 1]))
        found = model.find(ids[ngrams])
        assert (found >= 0).all()
        ours, theirs = model.orders[n - 1], expected.orders[n - 1]
        guessed = ngrams[:, -1] != START_ID  # lmplz gives <s> a probability, which nobody uses
        assert np.allclose(ours.log10[found][guessed], theirs.log10[guessed], atol=2e-6)
        assert np.allclose(ours.backoff[found], theirs.backoff, atol=2e-6)


@pytest.mark.parametrize("cutoffs", [(), (0, 0, 1), (0, 2)])
def test_every_context_sums_to_one(cutoffs: tuple[int, ...]) -> None:
    model = estimate(TEXT, 4, cutoffs)
    for n in range(4):
        masses = model.total_mass(n, np.arange(model.counts[n - 1] if n else 1))
        assert np.allclose(masses, 1, atol=1e-6)


def test_discounts_are_those_of_chen_and_goodman() -> None:
    adjusted = np.repeat([1, 2, 3, 4, 9], [60, 25, 14, 9, 3])
    share = 60 / (60 + 2 * 25)
    expected = [0, 1 - 2 * share * 25 / 60, 2 - 3 * share * 14 / 25, 3 - 4 * share * 9 / 14]
    assert discounts(adjusted) == pytest.approx(expected)


@pytest.mark.parametrize("counts", [[1, 2], [1, 1, 2, 3, 3, 3, 3, 3, 4, 4, 4]])
def test_counts_that_give_no_discounts(counts: list[int]) -> None:
    assert discounts(np.array(counts)) is None


def test_a_small_text_is_said_to_be_small() -> None:
    notes: list[str] = []

    def take(update: Update) -> None:
        notes.append(update.note)

    estimate(TEXT, 2, progress=take)
    (note,) = filter(None, notes)
    assert "too small to estimate the discounts of 1-grams, 2-grams" in note


def test_a_small_vocabulary_is_that_of_the_most_frequent_words() -> None:
    model = estimate(TEXT, 2, most_words=4)
    assert (
        model.words[3:] == ("a", "the", "cat", "on")[: len(model.words) - 3]
        or len(set(model.words)) == 7
    )
    assert {"the", "a"} <= set(model.words)
    assert model.find(np.array([[model.ids["the"], 0]]))[0] >= 0, "<unk> is a word like others"


def test_ids_go_by_frequency() -> None:
    words, tokens = tokenize(["b a b", "b c"])
    assert words == ("<unk>", "<s>", "</s>", "b", "a", "c")
    assert tokens.tolist() == [START_ID, 3, 4, 3, END_ID, START_ID, 3, 5, END_ID]


@pytest.mark.parametrize(
    ("text", "length", "cutoffs", "message"),
    [
        ([], 2, (), "has no words"),
        (["a <s> b"], 2, (), "sentence 1 holds <s> or </s>"),
        (TEXT, 2, (1,), "cut-offs are 1 for n-grams of up to 2 words"),
        (TEXT, 2, (0, 0, 1), "at most one for each length"),
        (TEXT, 3, (0, 2, 1), "none below the one before"),
    ],
)
def test_what_cannot_be_estimated(
    text: list[str], length: int, cutoffs: tuple[int, ...], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        estimate(text, length, cutoffs)


def test_sentences_shorter_than_the_longest_ngrams() -> None:
    model = estimate(["a", "b a", "a"], 5)
    assert isinstance(model, NGrams)
    masses = model.total_mass(1, np.arange(model.counts[0]))
    assert np.allclose(masses, 1, atol=1e-6)

"""Pruning: losses against models from which an n-gram was taken, frequencies against text that was
drawn from the model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_ngrams import random_model, same

from tinyvox.errors import ModelError
from tinyvox.lm import (
    ABSENT,
    END_ID,
    START_ID,
    NGrams,
    Settings,
    close,
    compress,
    describe,
    estimate,
    judge,
    prepare,
    read_sentences,
)
from tinyvox.lm.frequencies import Walk, in_text, of_model
from tinyvox.lm.pruning import losses, masses, normalized, subset, threshold_for
from tinyvox.lm.shortening import with_words
from tinyvox.lm.thinning import fitted, thinned

TEXT = list(read_sentences(Path(__file__).parent / "lmplz" / "text.txt"))


def sound_model() -> NGrams:
    """A model that sums to one, of a text."""
    return estimate(TEXT, 3)


def drawn(model: NGrams, sentences: int, seed: int) -> np.ndarray:
    """Sentences that are drawn from the model, word by word, encoded."""
    random = np.random.default_rng(seed)
    words = np.arange(len(model.words))
    tokens = [START_ID]
    while tokens.count(END_ID) < sentences:
        start = len(tokens) - 1 - tokens[::-1].index(START_ID)
        rows = np.array([[*tokens[start:], word] for word in words]).ravel()
        scores = model.score(rows.astype(np.int32)).reshape(len(words), -1)[:, -1]
        chances = 10**scores * (words != START_ID)
        tokens.append(int(random.choice(words, p=chances / chances.sum())))
        if tokens[-1] == END_ID:
            tokens.append(START_ID)
    return np.array(tokens[:-1], np.int32)


def test_a_model_knows_how_often_its_contexts_come() -> None:
    model = sound_model()
    said = drawn(model, 1500, seed=0)
    found, counted = of_model(model), in_text(model, said)
    for ours, theirs in zip(found, counted, strict=True):
        often = theirs > 0.01
        assert ours[often] == pytest.approx(theirs[often], rel=0.2)
        assert ours.sum() == pytest.approx(theirs.sum(), abs=0.02)


def test_frequencies_in_text_are_counts() -> None:
    model = sound_model()
    tokens = model.encode(["the cat sat", "the cat"])
    singles, pairs = in_text(model, tokens)
    guessed = 7
    assert singles[START_ID] == 2 / guessed
    assert singles[model.ids["cat"]] == 2 / guessed
    place = model.find(np.array([[model.ids["the"], model.ids["cat"]]]))[0]
    assert pairs[place] == 2 / guessed


def test_states_and_frequencies_are_two_ways_to_say_the_same() -> None:
    model = sound_model()
    walk, often = Walk(model), in_text(model, model.encode(TEXT))
    again = walk.together(walk.apart(often))
    for ours, theirs in zip(again, often, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-12)


def test_flows_of_a_state_sum_to_one() -> None:
    model = sound_model()
    walk = Walk(model)
    state = walk.apart(in_text(model, model.encode(TEXT)))
    assert sum(flow.sum() for flow in walk.flows(state)) == pytest.approx(1, abs=1e-6)
    assert sum(share.sum() for share in walk.step(state)) == pytest.approx(1, abs=1e-6)


def without(model: NGrams, n: int, entry: int) -> NGrams:
    kept = [np.ones(count, bool) for count in model.counts]
    kept[n - 1][entry] = False
    return normalized(subset(model, kept))


def test_a_loss_is_the_relative_entropy_of_the_model_without_the_ngram() -> None:
    model = sound_model()
    often = in_text(model, model.encode(TEXT))
    found = losses(model, often)[1]
    words = np.arange(len(model.words))
    for entry in range(0, model.counts[2], 7):
        context = model.spelled(3, np.array([entry]))[0, :2]
        rows = np.array([[*context, word] for word in words if word != START_ID])
        old, new = (scores(m, rows) for m in (model, without(model, 3, entry)))
        distance = (10**old * (old - new)).sum() * np.log(10)
        place = model.find(context[None])[0]
        assert found[entry] == pytest.approx(often[1][place] * distance, rel=1e-3, abs=1e-8)


def scores(model: NGrams, rows: np.ndarray) -> np.ndarray:
    """log10 of the last word of each row after the others, wherever these stand."""
    length = rows.shape[1]
    ends = [model.find(rows[:, length - k :]) for k in range(1, length + 1)]
    contexts = [model.find(rows[:, length - k : -1]) for k in range(2, length + 1)]
    return model.backed_off(ends, contexts)


def test_an_ngram_matters_as_much_as_those_that_need_it() -> None:
    model = close(normalized(random_model(words=9, length=3, seed=3)))
    pairs, triples = losses(model, of_model(model))
    assert (pairs[model.orders[2].context] >= triples).all()
    assert (pairs[model.suffixes[2][-1]] >= triples).all()


@pytest.mark.parametrize("count", [0, 1, 7, 30, 10**6])
def test_at_most_so_many_lie_above_a_threshold(count: int) -> None:
    values = [np.array([0.5, 0.0, 0.25, 0.5]), np.random.default_rng(0).random(30)]
    threshold = threshold_for(values, count)
    above = sum((each >= threshold).sum() for each in values)
    assert above <= count
    assert above >= min(count, 34) - 1, "but for equals, no more are left out than need be"


@pytest.mark.parametrize("count", [60, 25, 8, 0])
def test_thin_models_sum_to_one_and_have_all_ends(count: int) -> None:
    model = sound_model()
    small = thinned(fitted(model, of_model(model)), count).model
    assert sum(small.counts[1:]) <= count
    assert describe(small)["worst_total_mass"] == pytest.approx(1, abs=1e-5)
    assert all((each != ABSENT).all() for level in small.suffixes for each in level)


def test_words_are_fitted_to_how_often_they_come() -> None:
    model = sound_model()
    often = in_text(model, model.encode(TEXT))
    single = thinned(fitted(model, often), 0).model
    assert single.length == 1
    expected = fitted(model, often).joint[0]
    words = np.arange(len(model.words)) != START_ID
    found = 10.0 ** single.orders[0].log10[words]
    assert found == pytest.approx(expected[words], rel=1e-4, abs=1e-4)


def test_fitting_makes_thin_models_better() -> None:
    model = sound_model()
    given = fitted(model, of_model(model))
    values = losses(model, given.often)
    threshold = threshold_for(values, 8)
    kept = [np.ones(len(model.words), bool), *(each >= threshold for each in values)]
    kept = [each for each in kept if each.any()]
    plain = normalized(subset(model, kept))
    tokens = drawn(model, 300, seed=1)
    assert thinned(given, 8).model.perplexity(tokens) < plain.perplexity(tokens)


def test_models_that_do_not_sum_to_one_are_put_right() -> None:
    model = close(random_model(words=12, length=3, seed=8, share=0.9))
    assert describe(model)["worst_total_mass"] > 1.5
    found = normalized(model)
    assert max(masses(found, n)[0].max() for n in (1, 2)) < 1
    assert describe(found)["mean_total_mass"] == pytest.approx(1, abs=1e-3)
    assert describe(found)["worst_total_mass"] == pytest.approx(1, abs=1e-2)


def test_words_that_are_left_out_are_unknown() -> None:
    model = sound_model()
    kept = np.array([model.ids[word] for word in ("the", "cat")])
    small = with_words(model, kept)
    assert set(small.words) == {"<unk>", "<s>", "</s>", "the", "cat"}
    lost = [10.0 ** model.orders[0].log10[i] for w, i in model.ids.items() if w not in small.ids]
    gained = 10.0 ** small.orders[0].log10[0] - 10.0 ** model.orders[0].log10[0]
    assert gained == pytest.approx(sum(lost), rel=1e-5)
    assert describe(small)["worst_total_mass"] == pytest.approx(1, abs=1e-5)


def size_of(model: NGrams) -> int:
    """A file of so many bytes for each word, n-gram and bit."""
    values = sum(len(np.unique(order.log10)).bit_length() for order in model.orders)
    return 20 * len(model.words) + 3 * sum(model.counts[1:]) + values


def test_a_model_of_a_size_fills_it() -> None:
    model = estimate(TEXT, 4)
    size = size_of(model) - 200
    found = size_of(compress(model, Settings(size=size), size_of))
    assert 0.9 * size < found <= size


def test_a_prepared_model_is_made_small_as_often_as_it_is_wanted() -> None:
    model = estimate(TEXT, 4)
    ready = prepare(model)
    for wish in (Settings(size=size_of(model) - 200), Settings(count=40), Settings(words=5)):
        same(compress(ready, wish, size_of), compress(model, wish, size_of))
    same(compress(ready, Settings(bits=None), size_of), ready.model)


def test_a_model_of_a_number_of_ngrams() -> None:
    model = sound_model()
    small = compress(model, Settings(count=40), size_of)
    assert 30 <= sum(small.counts) <= 40


def test_a_model_of_a_perplexity() -> None:
    model = sound_model()
    held_out = model.encode(TEXT)
    wanted = 1.3 * judge(model, held_out)["perplexity"]
    small = compress(model, Settings(perplexity=wanted), size_of, held_out=held_out)
    assert judge(small, held_out)["perplexity"] <= wanted
    assert sum(small.counts) < sum(model.counts)


def test_a_model_of_fewer_words_and_bytes() -> None:
    small = compress(sound_model(), Settings(words=5, size=250), size_of)
    assert len(small.words) == 8
    assert size_of(small) <= 250


def test_without_a_wish_and_without_rounding_the_model_stays() -> None:
    model = close(random_model(words=9, length=3, seed=0))
    same(compress(model, Settings(bits=None), size_of), model)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Settings(size=100), "at most 100 bytes are wanted, and its 14 words alone take"),
        (Settings(count=5), "at most 5 n-grams are wanted, and each of its 14 words is one"),
        (Settings(perplexity=1.5), "a perplexity of 1.5 is wanted, and with all its n-grams"),
    ],
)
def test_what_cannot_be_is_said(settings: Settings, message: str) -> None:
    model = sound_model()
    with pytest.raises(ModelError, match=message):
        compress(model, settings, size_of, held_out=model.encode(TEXT))


def test_a_perplexity_needs_text() -> None:
    with pytest.raises(ModelError, match="no text to measure it on"):
        compress(sound_model(), Settings(perplexity=9), size_of)


def test_one_wish_alone() -> None:
    with pytest.raises(ModelError, match=r"bytes \(5\) and n-grams \(6\) are wanted at once"):
        Settings(size=5, count=6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 0}, "the limit of bytes is 0, expected a number above 0"),
        ({"count": -3}, "the limit of n-grams is -3, expected"),
        ({"words": 0}, "the limit of words is 0, expected"),
        ({"perplexity": math.nan}, "the limit of perplexity is nan, expected"),
        ({"perplexity": math.inf}, "the limit of perplexity is inf, expected"),
    ],
)
def test_a_limit_is_a_number_above_zero(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Settings(**settings)

"""Beam search against all paths, and against a prefix search in a few lines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from ctc_oracles import all_paths, prefix_search
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tinyvox.decode import BeamSearch, Transcript, greedy_text

pytestmark = pytest.mark.runtime

TOKENS = (" ", "a", "b", "<blank>")
BLANK = 3
PIECES = (" a", "b", " ba", "<blank>", "a")
WORDS = ("a", "ab", "ba")
EVERYTHING = 100_000
Array = NDArray[np.float32]


def outputs(frames: int, tokens: int = 4, seed: int = 0, contrast: float = 2.0) -> Array:
    """Log-probabilities of random outputs."""
    scores = np.random.default_rng(seed).standard_normal((frames, tokens)) * contrast
    scores -= np.log(np.exp(scores).sum(axis=1, keepdims=True))
    return scores.astype(np.float32)


def scores_of(found: list[Transcript]) -> dict[str, float]:
    """The confidence of each text, of which no two are the same, but for those with a word that is
    not one."""
    texts = ["".join(token.text for token in each.tokens).strip() for each in found]
    assert len(set(texts)) == len(texts)
    pairs = zip(texts, (each.confidence for each in found), strict=True)
    return {text: confidence for text, confidence in pairs if confidence > -500}


def best_of_texts(
    scores: dict[tuple[int, ...], float], tokens: Sequence[str] = TOKENS
) -> dict[str, float]:
    """The best score of those whose tokens spell the same text, but for white space at its ends."""
    best: dict[str, float] = {}
    for ids, score in scores.items():
        text = spelled(ids, tokens).strip()
        best[text] = max(score, best.get(text, -math.inf))
    return best


def assert_equal(
    found: list[Transcript],
    expected: dict[tuple[int, ...], float],
    tokens: Sequence[str] = TOKENS,
    error: float = 1e-4,
) -> None:
    """The texts that were found have the scores that their tokens should have."""
    ours, theirs = scores_of(found), best_of_texts(expected, tokens)
    assert set(ours) == set(theirs)
    assert max(abs(ours[text] - theirs[text]) for text in ours) < error


@pytest.mark.parametrize("sharpness", [1, 1.5, 2, math.inf])
@pytest.mark.parametrize("frames", range(1, 7))
def test_with_a_large_beam_every_text_has_the_score_of_all_its_paths(
    frames: int, sharpness: float
) -> None:
    log_probabilities = outputs(frames)
    search = BeamSearch(TOKENS, BLANK, beam=5000, sharpness=sharpness)
    found = search.decode(log_probabilities, EVERYTHING)
    assert_equal(found, all_paths(log_probabilities, BLANK, sharpness=sharpness))
    confidences = [each.confidence for each in found]
    assert confidences == sorted(confidences, reverse=True)


@settings(deadline=None, max_examples=40)
@given(
    frames=st.integers(1, 25),
    beam=st.integers(1, 12),
    seed=st.integers(0, 2**32 - 1),
    contrast=st.sampled_from([0.5, 2.0, 6.0]),
    sharpness=st.sampled_from([1, 2, math.inf]),
)
def test_with_a_small_beam_it_keeps_what_a_plain_prefix_search_keeps(
    frames: int, beam: int, seed: int, contrast: float, sharpness: float
) -> None:
    log_probabilities = outputs(frames, seed=seed, contrast=contrast)
    search = BeamSearch(TOKENS, BLANK, beam=beam, sharpness=sharpness)
    found = search.decode(log_probabilities, beam)
    expected = prefix_search(log_probabilities, BLANK, beam, sharpness=sharpness)
    best = max(expected, key=lambda text: expected[text])
    assert found[0].confidence == pytest.approx(expected[best], abs=1e-3)


@settings(deadline=None, max_examples=40)
@given(cuts=st.lists(st.integers(0, 60), max_size=8), seed=st.integers(0, 1000))
def test_pieces_of_any_length_give_the_same(cuts: list[int], seed: int) -> None:
    log_probabilities = outputs(60, seed=seed)
    search = BeamSearch(TOKENS, BLANK, beam=7, words=WORDS, beta=0.5, hot_words={"ba": 1.0})
    whole = search.decode(log_probabilities, 7)
    stream = search.stream()
    for piece in np.split(log_probabilities, sorted(cuts)):
        stream.push(piece)
        stream.best(3)
    assert stream.finish(7) == whole
    stream.reset()
    stream.push(log_probabilities)
    assert stream.finish(7) == whole


def spelled(tokens: tuple[int, ...], texts: Sequence[str]) -> str:
    return "".join(texts[token] for token in tokens)


@pytest.mark.parametrize("frames", range(1, 7))
def test_a_lexicon_allows_its_words_alone(frames: int) -> None:
    def gain(tokens: tuple[int, ...]) -> float:
        text = spelled(tokens, TOKENS)
        words = text.split()
        orderly = text in (" ".join(words), " ".join([*words, ""]))
        return 0.7 * len(words) if orderly and set(words) <= set(WORDS) else -math.inf

    log_probabilities = outputs(frames)
    search = BeamSearch(TOKENS, BLANK, words=WORDS, beta=0.7, beam=5000)
    found = search.decode(log_probabilities, EVERYTHING)
    expected = all_paths(log_probabilities, BLANK, gain)
    assert_equal(found, expected)


@pytest.mark.parametrize("frames", range(1, 6))
def test_pieces_of_words_spell_the_same_lexicon(frames: int) -> None:
    def gain(tokens: tuple[int, ...]) -> float:
        text = spelled(tokens, PIECES)
        orderly = not text or text[0] == " "
        words = text.split()
        return 0.7 * len(words) if orderly and set(words) <= set(WORDS) else -math.inf

    log_probabilities = outputs(frames, 5)
    search = BeamSearch(PIECES, BLANK, words=WORDS, beta=0.7, beam=5000)
    found = search.decode(log_probabilities, EVERYTHING)
    assert_equal(found, all_paths(log_probabilities, BLANK, gain), PIECES)


@settings(deadline=None, max_examples=60)
@given(
    beam=st.integers(2, 12),
    seed=st.integers(0, 2**32 - 1),
    beta=st.sampled_from([-2.0, 0.5, 3.0]),
)
def test_with_words_a_small_beam_keeps_what_a_plain_search_keeps(
    beam: int, seed: int, beta: float
) -> None:
    """The bonus of a word counts from its first letter on."""

    def gain(tokens: tuple[int, ...]) -> float:
        text = spelled(tokens, TOKENS)
        *words, last = text.split(" ")
        begun = not last or any(word.startswith(last) for word in WORDS)
        return beta * len(text.split()) if set(words) <= set(WORDS) and begun else -math.inf

    log_probabilities = outputs(20, seed=seed, contrast=3)
    search = BeamSearch(TOKENS, BLANK, words=WORDS, beta=beta, beam=beam)
    found = scores_of(search.decode(log_probabilities, beam))
    expected = {
        text: score
        for text, score in prefix_search(log_probabilities, BLANK, beam, gain).items()
        if set(spelled(text, TOKENS).split()) <= set(WORDS)
    }
    if expected:
        assert max(found.values()) == pytest.approx(max(expected.values()), abs=1e-3)


HOT = {"ab": 1.5, "b a": 2.0, "a": -0.5, "bab": 0.7}


def boosts(text: str, hot: dict[str, float] = HOT) -> float:
    """The boosts of a text: each hot word counts wherever it stands as whole words."""
    words = f" {text} "
    places = range(len(words))
    return sum(
        boost for word, boost in hot.items() for at in places if words.startswith(f" {word} ", at)
    )


@pytest.mark.parametrize("frames", range(1, 7))
def test_a_text_has_the_boosts_of_the_hot_words_in_it_and_no_others(frames: int) -> None:
    log_probabilities = outputs(frames)
    search = BeamSearch(TOKENS, BLANK, beam=5000, hot_words=HOT, sharpness=1)
    found = search.decode(log_probabilities, EVERYTHING)
    expected = all_paths(log_probabilities, BLANK, lambda t: boosts(spelled(t, TOKENS)))
    assert_equal(found, expected)


def test_a_hot_word_that_the_lexicon_lacks_may_be_said() -> None:
    log_probabilities = np.log(np.full((5, 4), 0.01, np.float32))
    for frame, token in enumerate([2, 3, 2, 3, 0]):  # bb
        log_probabilities[frame, token] = math.log(0.97)
    without = BeamSearch(TOKENS, BLANK, words=WORDS)
    assert without.decode(log_probabilities)[0].text != "bb"
    hot = BeamSearch(TOKENS, BLANK, words=WORDS, hot_words={"bb": 1.0})
    assert hot.decode(log_probabilities)[0].text == "bb"


def test_the_advance_of_a_hot_word_keeps_it_in_a_narrow_beam() -> None:
    """Its first letters are unlikely; only the whole of it is boosted."""
    log_probabilities = outputs(6, seed=1, contrast=0.1)
    log_probabilities[:, 1] -= 1.5
    search = BeamSearch(TOKENS, BLANK, beam=2, hot_words={"aba": 12.0})
    assert "aba" in search.decode(log_probabilities)[0].text.split()


def test_tokens_have_the_frames_at_which_they_came() -> None:
    log_probabilities = np.log(np.full((40, 4), 0.001, np.float32))
    said = {10: 1, 11: 1, 15: 2, 20: 0, 30: 2}
    for frame in range(40):
        log_probabilities[frame, said.get(frame, BLANK)] = math.log(0.997)
    (found,) = BeamSearch(TOKENS, BLANK, frame_seconds=0.01).decode(log_probabilities)
    assert found.text == "ab b"
    assert [token.frame for token in found.tokens] == [10, 15, 20, 30]
    assert [(w.text, round(w.start, 3), round(w.end, 3)) for w in found.words] == [
        ("ab", 0.1, 0.2), ("b", 0.3, 0.31),
    ]  # fmt: skip


def test_white_space_at_the_ends_makes_no_other_text() -> None:
    """DeepSpeech's calls ask for so many texts; "a" and "a " are one, with the better score."""
    log_probabilities = np.log(np.array([
        [0.01, 0.90, 0.08, 0.01], [0.40, 0.01, 0.09, 0.50]
    ], np.float32))  # fmt: skip
    found = BeamSearch(TOKENS, BLANK).decode(log_probabilities, 3)
    assert [each.text for each in found] == ["a", "ab", "b"]
    likelier = math.log(0.9 * (0.5 + 0.01) + 0.01 * 0.01)
    alone = BeamSearch(TOKENS, BLANK, sharpness=1).decode(log_probabilities)[0]
    assert alone.confidence == pytest.approx(likelier, abs=1e-5)


def test_frames_rise_from_token_to_token() -> None:
    for seed in range(20):
        for each in BeamSearch(TOKENS, BLANK, beam=20).decode(outputs(50, seed=seed), 20):
            frames = [token.frame for token in each.tokens]
            assert frames == sorted(set(frames))


@pytest.mark.parametrize(("top", "probability"), [(2, 1.0), (4, 0.6), (1, 1.0)])
def test_unlikely_tokens_are_cut_off(top: int, probability: float) -> None:
    log_probabilities = outputs(5)
    kept = np.full_like(log_probabilities, -np.inf)
    for row, cut in zip(log_probabilities, kept, strict=True):
        total = 0.0
        for token in np.argsort(-row)[:top]:
            cut[token] = row[token]
            total += math.exp(row[token])
            if total >= probability:
                break
    search = BeamSearch(
        TOKENS, BLANK, beam=5000, cutoff_tokens=top, cutoff_probability=probability, sharpness=1
    )
    found = search.decode(log_probabilities, EVERYTHING)
    assert_equal(found, all_paths(kept, BLANK))


@pytest.mark.parametrize("contrast", [0.05, 3.0])
def test_memory_does_not_grow_on_endless_audio(contrast: float) -> None:
    beam = 8
    stream = BeamSearch(TOKENS, BLANK, beam=beam).stream()
    piece = outputs(10_000, contrast=contrast)
    sizes = []
    for _ in range(20):
        stream.push(piece)
        sizes.append(stream.bytes)
    assert max(sizes) <= 2_000_000
    assert sizes[-1] == sizes[9]
    (found,) = stream.finish()
    frames = [token.frame for token in found.tokens]
    assert frames == sorted(set(frames))
    assert frames[-1] > 199_000


def test_what_cannot_be_searched_for_is_refused() -> None:
    with pytest.raises(ValueError, match="the beam width is 0, expected a whole number from 1"):
        BeamSearch(TOKENS, BLANK, beam=0)
    with pytest.raises(ValueError, match="alpha is -1"):
        BeamSearch(TOKENS, BLANK, alpha=-1)
    with pytest.raises(ValueError, match=r'hot word "axé" has a character .*: "x"'):
        BeamSearch(TOKENS, BLANK, hot_words={"axé": 1.0})
    with pytest.raises(ValueError, match="a hot word is empty"):
        BeamSearch(TOKENS, BLANK, hot_words={" ": 1.0})
    with pytest.raises(
        ValueError, match="boost of the hot word 'a' is inf, expected a finite number"
    ):
        BeamSearch(TOKENS, BLANK, hot_words={"a": math.inf})
    with pytest.raises(ValueError, match="the sharpness is -1"):
        BeamSearch(TOKENS, BLANK, sharpness=-1)
    with pytest.raises(ValueError, match="can spell none of the 1 words"):
        BeamSearch(TOKENS, BLANK, words=["xyz"])
    search = BeamSearch(TOKENS, BLANK)
    with pytest.raises(ValueError, match="frames of 5 values, expected one for each of 4 tokens"):
        search.decode(outputs(3, 5))
    with pytest.raises(ValueError, match=r"shape \(4,\), expected \[frames, tokens\]"):
        search.decode(outputs(1)[0])
    with pytest.raises(ValueError, match="values above 0"):
        search.decode(np.exp(outputs(3)))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"beam": -1}, "the beam width is -1, expected a whole number from 1 to 100,000"),
        ({"beam": 1.5}, "the beam width is 1.5, expected a whole number"),
        ({"beam": 10**30}, "the beam width is 1" + "0" * 30 + ", expected a whole number"),
        ({"cutoff_tokens": -1}, "cutoff_tokens is -1, expected a whole number from 1"),
        ({"cutoff_probability": 2.0}, "a cut-off is out of its range, expected .* up to 1"),
        ({"max_memory": -1}, "max_memory is -1, expected a whole number from 0"),
        ({"alpha": "1"}, "alpha is '1', expected a finite number"),
        ({"alpha": 1e300}, r"alpha is 1e\+300, expected a finite number"),
        ({"beta": math.nan}, "beta is nan, expected a finite number"),
        ({"alike": "most"}, "alike is 'most', expected 'best' or 'all'"),
        ({"words": ["a b"]}, "words hold 'a b', expected single words"),
        ({"words": [None]}, "words hold None, expected single words"),
        ({"hot_words": {None: 1.0}}, "the hot word None is no text"),
        ({"hot_words": {"a": None}}, "boost of the hot word 'a' is None, expected a finite"),
    ],
)
def test_what_the_core_cannot_take_is_said_in_one_line(settings: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said) as raised:
        BeamSearch(TOKENS, BLANK, **settings)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("count", [-1, 1.5, "2", 10**30])
def test_a_number_of_texts_is_a_whole_number(count: Any) -> None:
    search = BeamSearch(TOKENS, BLANK)
    stream = search.stream()
    for asked in (stream.best, stream.finish, lambda n: search.decode(outputs(3), n)):
        with pytest.raises(ValueError, match="the number of texts is"):
            asked(count)


def test_hot_words_do_not_hide_that_words_are_of_another_language() -> None:
    for hot in ({}, {"ab": 3.0}):
        with pytest.raises(ValueError, match="can spell none of the 1 words"):
            BeamSearch(TOKENS, BLANK, words=["xyz"], hot_words=hot)


def test_spaces_in_a_phrase_count_once() -> None:
    assert BeamSearch(TOKENS, BLANK, hot_words={" a  b ": 3.0}).hot_words == {"a b": 3.0}


def test_no_audio_is_no_text() -> None:
    (found,) = BeamSearch(TOKENS, BLANK, words=WORDS).decode(np.zeros((0, 4), np.float32))
    assert (found.text, found.tokens, found.words) == ("", (), ())


def test_best_paths_alone_are_best_path_decoding() -> None:
    for seed in range(20):
        log_probabilities = outputs(40, seed=seed)
        search = BeamSearch(TOKENS, BLANK, beam=20, sharpness=math.inf)
        expected = greedy_text(log_probabilities.argmax(1), TOKENS, BLANK)
        assert search.decode(log_probabilities)[0].text == " ".join(expected.split(" ")).strip()


def test_without_words_the_sharpness_is_two_and_with_them_one() -> None:
    log_probabilities = outputs(6)
    for words, sharpness in (((), 2), (WORDS, 1)):
        default = BeamSearch(TOKENS, BLANK, words=words).decode(log_probabilities, 5)
        search = BeamSearch(TOKENS, BLANK, words=words, sharpness=sharpness)
        assert search.decode(log_probabilities, 5) == default


def test_more_memory_than_allowed_is_refused_before_it_is_taken() -> None:
    with pytest.raises(ValueError, match=r"the search takes at least .* take a narrower beam"):
        BeamSearch(TOKENS, BLANK, beam=100_000)
    hot = {"ab" * 200 + "b" * i: 1.0 for i in range(100)}
    with pytest.raises(ValueError, match="fewer words and hot words"):
        BeamSearch(TOKENS, BLANK, hot_words=hot, max_memory=500_000, beam=1)
    search = BeamSearch(TOKENS, BLANK, hot_words=hot, beam=1)
    assert search.stream().bytes < 1 << 30

"""Beam search with a language model whose scores are worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from ctc_oracles import all_paths
from test_beam import (
    BLANK,
    EVERYTHING,
    HOT,
    PIECES,
    TOKENS,
    WORDS,
    assert_equal,
    boosts,
    outputs,
    spelled,
)

from tinyvox.decode import BeamSearch
from tinyvox.errors import FileError
from tinyvox.formats.tvlm import save_ngrams
from tinyvox.language_model import LanguageModel
from tinyvox.lm import read_arpa

pytestmark = pytest.mark.runtime

ALPHA, BETA = 0.7, 0.9
ARPA = """
\\data\\
ngram 1=7
ngram 2=5

\\1-grams:
-2.0\t<unk>\t0
-99\t<s>\t-0.3
-1.0\t</s>
-0.7\ta\t-0.2
-0.9\tab\t-0.1
-1.1\tba\t-0.4
-1.3\tb\t-0.2

\\2-grams:
-0.2\t<s> a
-0.4\ta ba
-0.3\tba a
-0.5\tab </s>
-0.6\tab ab

\\end\\
"""
LOG10 = {"<s>": -99, "a": -0.7, "ab": -0.9, "ba": -1.1, "b": -1.3, "<unk>": -2.0}
BACKOFF = {"<s>": -0.3, "a": -0.2, "ab": -0.1, "ba": -0.4, "b": -0.2, "<unk>": 0.0}
PAIRS = {("<s>", "a"): -0.2, ("a", "ba"): -0.4, ("ba", "a"): -0.3, ("ab", "ab"): -0.6}


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    folder = tmp_path_factory.mktemp("lm")
    (folder / "tiny.arpa").write_text(ARPA)
    save_ngrams(read_arpa(folder / "tiny.arpa"), folder / "tiny.tvlm")
    return LanguageModel(folder / "tiny.tvlm")


def words_gain(text: str, closed: bool) -> float:
    """alpha * ln P + beta of the words of a text."""
    before, total = "<s>", 0.0
    for word in text.split():
        if word not in LOG10 and closed:
            return -math.inf
        known = word if word in LOG10 else "<unk>"
        log10 = PAIRS.get((before, known), BACKOFF[before] + LOG10[known])
        total, before = total + ALPHA * math.log(10) * log10 + BETA, known
    return total


ROUNDING = 5e-3
"""Of scores in a .tvlm file."""


@pytest.mark.parametrize("frames", range(1, 7))
@pytest.mark.parametrize("closed", [True, False])
def test_every_text_has_the_score_of_its_words(
    frames: int, closed: bool, lm: LanguageModel
) -> None:
    def gain(tokens: tuple[int, ...]) -> float:
        text = spelled(tokens, TOKENS)
        if closed and (text.startswith(" ") or "  " in text):
            return -math.inf
        return words_gain(text, closed)

    log_probabilities = outputs(frames)
    search = BeamSearch(
        TOKENS, BLANK, lm, alpha=ALPHA, beta=BETA, beam=5000, open_vocabulary=not closed,
        alike="all",
    )  # fmt: skip
    found = search.decode(log_probabilities, EVERYTHING)
    assert_equal(found, all_paths(log_probabilities, BLANK, gain), error=ROUNDING)


@pytest.mark.parametrize("frames", range(1, 6))
@pytest.mark.parametrize("closed", [True, False])
def test_pieces_of_words_have_the_same_scores(frames: int, closed: bool, lm: LanguageModel) -> None:
    def gain(tokens: tuple[int, ...]) -> float:
        text = spelled(tokens, PIECES)
        if closed and text and text[0] != " ":
            return -math.inf
        return words_gain(text, closed)

    log_probabilities = outputs(frames, 5)
    search = BeamSearch(
        PIECES, BLANK, lm, alpha=ALPHA, beta=BETA, beam=5000, open_vocabulary=not closed,
        alike="all",
    )  # fmt: skip
    found = search.decode(log_probabilities, EVERYTHING)
    assert_equal(found, all_paths(log_probabilities, BLANK, gain), PIECES, ROUNDING)


@pytest.mark.parametrize("frames", range(1, 6))
def test_hot_words_add_to_the_scores_of_words(frames: int, lm: LanguageModel) -> None:
    def gain(tokens: tuple[int, ...]) -> float:
        text = spelled(tokens, TOKENS)
        return words_gain(text, closed=False) + boosts(text)

    log_probabilities = outputs(frames)
    search = BeamSearch(
        TOKENS, BLANK, lm, alpha=ALPHA, beta=BETA, beam=5000, open_vocabulary=True, hot_words=HOT,
        alike="all",
    )  # fmt: skip
    found = search.decode(log_probabilities, EVERYTHING)
    assert_equal(found, all_paths(log_probabilities, BLANK, gain), error=ROUNDING)


def test_characters_are_words_of_a_model_of_characters(tmp_path: Path) -> None:
    """Tokens are bytes of UTF-8, of which the words of the model take one or two."""
    scores = "-9\t<unk>\n-99\t<s>\n-1\t</s>\n-0.5\ta\n-0.3\tю\n"
    arpa = f"\\data\\\nngram 1=5\n\n\\1-grams:\n{scores}\n\\end\\\n"
    (tmp_path / "c.arpa").write_text(arpa, "utf-8")
    save_ngrams(read_arpa(tmp_path / "c.arpa"), tmp_path / "c.tvlm")
    tokens = ["a", "\udcd1", "\udc8e", "<blank>"]
    log_probabilities = outputs(6)
    search = BeamSearch(
        tokens, BLANK, tmp_path / "c.tvlm", alpha=ALPHA, beta=BETA, beam=5000, characters=True,
        alike="all",
    )  # fmt: skip

    def gain(text: tuple[int, ...]) -> float:
        left = spelled(text, ("a", "1", "2", "")).replace("12", "u")
        if set(left) - {"a", "u"}:
            return -math.inf
        log10 = -0.5 * left.count("a") - 0.3 * left.count("u")
        return ALPHA * math.log(10) * log10 + BETA * len(left)

    found = search.decode(log_probabilities, EVERYTHING)
    assert_equal(found, all_paths(log_probabilities, BLANK, gain), tokens, ROUNDING)
    assert any("ю" in each.text for each in found)


def test_of_texts_that_the_model_tells_apart_no_more_the_best_stays(lm: LanguageModel) -> None:
    """The model is one of pairs: what comes depends on the last word alone."""
    log_probabilities = outputs(40, contrast=1)
    settings = {"alpha": ALPHA, "beta": BETA, "beam": 30}
    found = BeamSearch(TOKENS, BLANK, lm, **settings).decode(log_probabilities, 30)
    endings = [" ".join(each.text.split()[-2:]) + each.tokens[-1].text for each in found]
    whole = [each for each in found if each.confidence > -500]
    assert len(whole) >= 5
    assert len(set(endings)) == len(endings)
    all_of_them = BeamSearch(TOKENS, BLANK, lm, **settings, alike="all")
    best = all_of_them.decode(log_probabilities)[0]
    assert found[0].text == best.text
    assert found[0].confidence == pytest.approx(best.confidence, abs=0.1)


@pytest.mark.parametrize("seed", range(10))
def test_the_best_text_is_the_same_in_a_beam_that_holds_everything(
    seed: int, lm: LanguageModel
) -> None:
    log_probabilities = outputs(6, seed=seed)
    (one,), (other,) = (
        BeamSearch(TOKENS, BLANK, lm, beam=5000, alike=each).decode(log_probabilities)
        for each in ("best", "all")
    )
    assert one.text == other.text


def test_a_language_model_decides_where_audio_does_not(lm: LanguageModel) -> None:
    """The audio says "a ab" a little more clearly; "a ba" is far likelier."""
    said = ((0.97, 1), (0.97, BLANK), (0.97, 0), (0.5, 1), (0.5, 2))
    log_probabilities = np.log(np.full((5, 4), 0.01, np.float32))
    for frame, (likelihood, token) in zip(log_probabilities, said, strict=True):
        frame[token] = math.log(likelihood)
    log_probabilities[3, 2] = log_probabilities[4, 1] = math.log(0.45)
    assert BeamSearch(TOKENS, BLANK, words=WORDS).decode(log_probabilities)[0].text == "a ab"
    assert BeamSearch(TOKENS, BLANK, lm).decode(log_probabilities)[0].text == "a ba"


def test_files_that_are_no_language_models_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tvlm").write_bytes(b"hello")
    with pytest.raises(FileError, match=r"a\.tvlm: not a tinyvox language model"):
        BeamSearch(TOKENS, BLANK, tmp_path / "a.tvlm")
    with pytest.raises(FileError, match=r"b\.tvlm: cannot be read"):
        BeamSearch(TOKENS, BLANK, tmp_path / "b.tvlm")

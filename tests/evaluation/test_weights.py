"""Alpha and beta: what is chosen, that runs repeat, and that nothing is measured twice."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from tinyvox.decode import ALPHA, BETA, BeamSearch
from tinyvox.errors import ModelError
from tinyvox.evaluation import Heard, Trial, decoded_errors, weigh
from tinyvox.evaluation.outputs import log_softmax
from tinyvox.evaluation.weights import ALPHAS, BETAS
from tinyvox.formats.tvlm import save_ngrams
from tinyvox.lm import estimate

TOKENS = ("", " ", "a", "b")
SENTENCES = ["ab a", "a ab", "ab ab", "ba a", "a"] * 4


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lm") / "ab.tvlm"
    save_ngrams(estimate(SENTENCES, 2), path)
    return path


def heard(seed: int = 0, noise: float = 2.0) -> Heard:
    """Sentences, letter by letter, in noise."""
    random = np.random.default_rng(seed)
    outputs = []
    for sentence in SENTENCES:
        frames = [token for letter in sentence for token in (TOKENS.index(letter), 0)]
        scores = random.normal(0, noise, (len(frames), len(TOKENS)))
        scores[np.arange(len(frames)), frames] += 2
        outputs.append(log_softmax(scores.astype(np.float32)))
    return Heard(tuple(outputs), tuple(SENTENCES), 10.0)


def search(lm: Path) -> BeamSearch:
    return BeamSearch(TOKENS, 0, lm, beam=20)


def test_the_best_pair_has_the_fewest_errors_of_all_that_were_tried(lm: Path) -> None:
    tried: list[Trial] = []
    found = weigh(search(lm), heard(), trials=25, keep=tried.append)
    assert (found.first.alpha, found.first.beta) == (ALPHA, BETA)
    assert len(tried) <= found.trials == 25
    assert found.best.word_edits == min(each.word_edits for each in tried) > 0
    assert found.best.word_edits < found.first.word_edits
    assert found.words == len(" ".join(SENTENCES).split())
    for each in tried:
        assert ALPHAS[0] <= each.alpha <= ALPHAS[1]
        assert BETAS[0] <= each.beta <= BETAS[1]
    again = decoded_errors(heard(), search(lm).weighted(found.best.alpha, found.best.beta))
    assert again.word_edits.sum() == found.best.word_edits


def test_a_seed_repeats_a_run_and_threads_do_not_change_it(lm: Path) -> None:
    one = weigh(search(lm), heard(), trials=12, seed=3)
    assert weigh(search(lm), heard(), trials=12, seed=3, threads=3) == one


def test_what_is_known_is_not_measured_again(lm: Path) -> None:
    whole: list[Trial] = []
    expected = weigh(search(lm), heard(), trials=12, keep=whole.append)
    rest: list[Trial] = []
    found = weigh(search(lm), heard(), trials=12, known=whole[:7], keep=rest.append)
    assert found == expected
    assert rest == whole[7:]


def test_character_errors_decide_among_equals(lm: Path) -> None:
    tried: list[Trial] = []
    best = weigh(search(lm), heard(), trials=25, keep=tried.append).best
    equals = [each for each in tried if each.word_edits == best.word_edits]
    assert best.character_edits == min(each.character_edits for each in equals)


def test_the_end_of_the_range_is_named(lm: Path) -> None:
    best = Trial(ALPHAS[1], 1.0, 0, 0)
    found = weigh(search(lm), heard(), trials=1, known=())
    assert found.at_edge is None
    assert type(found)(best, best, 1, 1).at_edge == "alpha"
    low = Trial(1.0, BETAS[0], 0, 0)
    assert type(found)(low, low, 1, 1).at_edge == "beta"


def test_without_optuna_one_line_says_what_to_install(
    lm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ModelError, match=r"takes 'optuna'; pip install 'tinyvox\[tune\]'"):
        weigh(search(lm), heard())


def test_greedy_errors_are_those_of_the_likeliest_tokens(lm: Path) -> None:
    clean = heard(noise=0)
    assert decoded_errors(clean, search(lm), greedy=True).wer == 0
    found = decoded_errors(heard(), search(lm), greedy=True)
    assert found.wer > 0
    assert found.summary()["utterances"] == len(SENTENCES)
    assert found.audio_seconds == 10


def test_log_softmax_is_that_of_the_definition_and_leaves_logarithms() -> None:
    scores = np.random.default_rng(0).normal(0, 5, (7, 4)).astype(np.float32)
    found = log_softmax(scores)
    assert np.allclose(np.exp(found), np.exp(scores) / np.exp(scores).sum(1, keepdims=True))
    assert np.allclose(log_softmax(found), found, atol=1e-6)
    assert log_softmax(scores[:0]).shape == (0, 4)

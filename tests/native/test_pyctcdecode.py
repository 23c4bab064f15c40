"""A language model as pyctcdecode calls it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from small_ngrams import random_model

from tinyvox import LanguageModel
from tinyvox.formats.tvlm import save_ngrams


@pytest.fixture
def model(tmp_path: Path) -> LanguageModel:
    save_ngrams(random_model(12, 3, 1), tmp_path / "a.tvlm")
    return LanguageModel(tmp_path / "a.tvlm")


def test_scores_are_weighted_as_pyctcdecode_weights_those_of_kenlm(model: LanguageModel) -> None:
    scorer = model.for_pyctcdecode(alpha=0.7, beta=2.0, unk_score_offset=-5.0)
    assert scorer.order == 3
    state = scorer.get_start_state()
    log10, after = model.step(state, "a")
    assert scorer.score(state, "a") == (pytest.approx(0.7 * log10 * math.log(10) + 2), after)
    end = model.step(after, "</s>")[0]
    last, same = scorer.score(state, "a", is_last_word=True)
    assert last == pytest.approx(0.7 * (log10 + end) * math.log(10) + 2)
    assert same == after
    unknown = model.step(state, "nowhere")[0] - 5
    assert scorer.score(state, "nowhere")[0] == pytest.approx(0.7 * unknown * math.log(10) + 2)
    scorer.reset_params(alpha=1.0, beta=None)
    assert scorer.score(state, "a")[0] == pytest.approx(log10 * math.log(10) + 2)


def test_unfinished_words_are_possible_or_not(model: LanguageModel) -> None:
    scorer = model.for_pyctcdecode()
    assert scorer.score_partial_token("a") == 0
    assert scorer.score_partial_token("</") == 0
    assert scorer.score_partial_token("zz") == -10
    assert scorer.score_partial_token("z" * 12) == -20


def test_pyctcdecode_decodes_with_it(model: LanguageModel) -> None:
    pyctcdecode = pytest.importorskip("pyctcdecode")
    np = pytest.importorskip("numpy")
    decoder = pyctcdecode.BeamSearchDecoderCTC(
        pyctcdecode.Alphabet.build_alphabet(["", " ", "a", "b"]), model.for_pyctcdecode()
    )
    logits = np.log(np.full((4, 4), 0.01, np.float32))
    logits[[0, 1, 2, 3], [2, 1, 3, 0]] = 0
    assert decoder.decode(logits) == "a b"

"""The teacher's outputs: computed once by the native runtime, kept, used as if it ran beside."""

from __future__ import annotations

import dataclasses
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from runtime_models import MODELS, build, inputs_of
from torch import Tensor
from tuning import compressed, corpus_of, recognizer, speech, tuning

from tinyvox.errors import DataError, ModelError
from tinyvox.executor import Executor
from tinyvox.model import LogSoftmax, Model
from tinyvox.progress import Update
from tinyvox.speech import Corpus
from tinyvox.training import check_teacher, finetune
from tinyvox.training.teacher import CachedTeacher, native_engine, torch_engine
from tinyvox.training.turns import TurnBatches

TEXTS: list[str | None] = ["ab", None, "a", None, "b", "aa"]


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return corpus_of(speech(tmp_path, TEXTS))


@pytest.fixture
def original() -> Model:
    return recognizer()


def features(frames: int, size: int = 26) -> Tensor:
    return torch.randn(frames, size, generator=torch.Generator().manual_seed(frames))


def in_turn(corpus: Corpus, model: Model, variants: int = 2, seed: int = 0) -> TurnBatches:
    assert model.card is not None
    return TurnBatches(corpus, model.card, 3.0, seed, variants, None, None, model)


ENGINES = {
    "native": native_engine,
    "float32": lambda model: torch_engine(model, torch.float32),
    "bfloat16": lambda model: torch_engine(model, torch.bfloat16),
}


@pytest.mark.runtime
@pytest.mark.parametrize("engine", ENGINES)
def test_outputs_are_those_of_torch_in_half_precision(
    original: Model, tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of utterances that are computed together, each as alone."""
    monkeypatch.setattr("tinyvox.training.teacher.fastest_engine", ENGINES[engine])
    teacher = CachedTeacher(original, tmp_path)
    heard = [features(frames) for frames in (70, 33, 120)]
    teacher.prepare(heard)
    for x in heard:
        found = teacher.outputs(x)
        assert found.dtype == torch.float16
        with torch.inference_mode():
            expected = Executor(original).eval()(x[None])[0]
        error = float((found.float() - expected).abs().max())
        assert error < (1e-3 if engine == "float32" else 0.05)


@pytest.mark.runtime
def test_what_is_known_is_not_computed_again(
    original: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int | None]] = []
    heard = [features(20), features(30), features(20)]
    first = CachedTeacher(original, tmp_path)
    first.prepare(heard, lambda update: seen.append((update.done, update.total)))
    assert seen == [(3, 3)]
    monkeypatch.setattr("tinyvox.training.teacher.fastest_engine", lambda model: 1 / 0)
    again = CachedTeacher(original, tmp_path)
    again.prepare(heard)
    assert torch.equal(again.outputs(heard[1]), first.outputs(heard[1]))
    with pytest.raises(ZeroDivisionError):  # of another model, or for other features: not known
        CachedTeacher(recognizer(32), tmp_path).outputs(heard[1])
    with pytest.raises(ZeroDivisionError):
        again.outputs(heard[1] + 1e-3)


@pytest.mark.runtime
def test_a_damaged_file_is_computed_again(original: Model, tmp_path: Path) -> None:
    teacher = CachedTeacher(original, tmp_path)
    expected = teacher.outputs(features(20))
    (path,) = teacher.folder.iterdir()
    for content in (b"", path.read_bytes()[:-7], b"something else"):
        path.write_bytes(content)
        assert torch.equal(teacher.outputs(features(20)), expected)


@pytest.mark.runtime
@pytest.mark.parametrize("name", MODELS)
def test_every_model_has_outputs_of_as_many_frames_as_in_torch(name: str, tmp_path: Path) -> None:
    model = build(name)
    x = torch.from_numpy(inputs_of(model, 33))
    with torch.inference_mode():
        expected = Executor(model.dequantized()).eval()(x[None])[0]
    assert CachedTeacher(model, tmp_path).outputs(x).shape == expected.shape


def test_torch_stands_in_where_the_runtime_gives_other_frames(
    original: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "tinyvox.training.teacher.product_precision", lambda wanted, device: torch.float32
    )
    monkeypatch.setattr("tinyvox.training.teacher.output_frames", lambda model, n: n + 1)
    assert native_engine(original) is None
    with torch.inference_mode():
        expected = Executor(original).eval()(features(25)[None])[0]
    found = CachedTeacher(original, tmp_path).outputs(features(25))
    torch.testing.assert_close(found.float(), expected, rtol=1e-3, atol=1e-3)


def test_every_utterance_has_its_turn_in_every_variant(corpus: Corpus, original: Model) -> None:
    batches = in_turn(corpus, original, variants=3)
    pairs = [batches.pair(turn) for turn in range(36)]
    for first in (0, 6, 12):
        assert {u for u, _ in pairs[first : first + 6]} == set(corpus.kept[0])
    assert len(set(pairs[:18])) == 18
    assert set(pairs[18:]) == set(pairs[:18])
    assert len(batches.upcoming(1000)) == 18
    assert len(in_turn(corpus, original, 3).upcoming(1)) < 100


def test_variants_are_the_same_each_time_and_differ(corpus: Corpus) -> None:
    utterance = corpus.kept[0][0]
    plain = corpus.variant(utterance, 0, 7)
    assert np.array_equal(plain.audio, corpus.audio(utterance))
    one = corpus.variant(utterance, 1, 7)
    assert np.array_equal(one.audio, corpus.variant(utterance, 1, 7).audio)
    for number, seed in ((2, 7), (1, 8)):
        assert not np.array_equal(one.audio, corpus.variant(utterance, number, seed).audio)
    assert not corpus.variant(corpus.kept[0][1], 1, 7).transcribed


def test_batches_go_on_in_the_middle_of_a_pool(corpus: Corpus, original: Model) -> None:
    batches = list(islice(in_turn(corpus, original), 12))
    assert original.card is not None
    for taken in (1, 5, 9):
        rest = TurnBatches(
            corpus, original.card, 3.0, 0, 2, None, batches[taken - 1].position, original
        )
        for one, other in zip(batches[taken:], islice(rest, 3), strict=False):
            assert torch.equal(one.features, other.features)


@pytest.mark.runtime
def test_training_with_known_outputs_is_training_beside_the_teacher(
    corpus: Corpus, original: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for half precision and the kernels' 8 bits: the losses are close at every step."""
    small = compressed(original)
    losses: list[list[float]] = []
    for taught in (True, False):
        if not taught:
            monkeypatch.setattr("tinyvox.training.finetuning._Run.can_know", lambda run: False)
        seen: list[Update] = []
        finetune(small, tuning(small, steps=6), corpus, original, seen.append, cache=tmp_path)
        losses.append([u.best_loss for u in seen if u.stage == "fine-tuning"])  # type: ignore[misc]
    assert len(losses[0]) == 6
    np.testing.assert_allclose(losses[0], losses[1], rtol=0.05, atol=2e-3)
    assert losses[0] != losses[1]


@pytest.mark.runtime
def test_what_has_transcripts_learns_from_them_too(
    corpus: Corpus, original: Model, tmp_path: Path
) -> None:
    """The loss of a batch without transcripts is that of distillation alone."""
    small = compressed(original)
    plain, spelled = (
        [
            u.best_loss
            for u in _updates(small, corpus, original, tmp_path, ctc=ctc)
            if u.stage == "fine-tuning"
        ]
        for ctc in (0.0, 1.0)
    )
    assert plain[0] is not None
    assert spelled[0] is not None
    assert spelled[0] > plain[0] + 0.5
    mute = corpus_of(speech(tmp_path, [None, None], "mute"))
    one, other = (
        _updates(small, mute, original, tmp_path, ctc=ctc)[-1].best_loss for ctc in (0.0, 1.0)
    )
    assert one == other


def _updates(
    small: Model, corpus: Corpus, original: Model, cache: Path, **changes: object
) -> list[Update]:
    seen: list[Update] = []
    finetune(small, tuning(small, steps=2, **changes), corpus, original, seen.append, cache=cache)
    return seen


OTHERS = {
    "other tokens": lambda m: m.with_card(m.card.model_copy(update={"tokens": ("b", "a", "-")})),
    "another window": lambda m: m.with_card(
        m.card.model_copy(update={"features": m.card.features.model_copy(update={"hop_ms": 12.5})})
    ),
    "no log-probabilities": lambda m: dataclasses.replace(m, nodes=m.nodes[:-1]),
}


@pytest.mark.parametrize("what", OTHERS)
def test_a_teacher_of_another_kind_is_refused(what: str, original: Model) -> None:
    check_teacher(compressed(original), original)
    expected = {
        "other tokens": r"tokens \('b', 'a', '-'\), the model \('a', 'b', '<blank>'\); give",
        "another window": r"features\.hop_ms 12\.5, the model 20\.0",
        "no log-probabilities": "the teacher does not end in log_softmax",
    }
    with pytest.raises(ModelError, match=expected[what]):
        check_teacher(original, OTHERS[what](original))
    assert isinstance(original.nodes[-1].layer, LogSoftmax)


def test_speech_that_is_too_short_for_its_transcripts_is_named(
    tmp_path: Path, original: Model
) -> None:
    batches = in_turn(corpus_of(speech(tmp_path, ["ab" * 500])), original)
    with pytest.raises(DataError, match=r"no variant is long enough: .*set0\.wav has \d+ frames"):
        next(iter(batches))

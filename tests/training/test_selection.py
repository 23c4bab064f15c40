"""The best weights are kept, the best rate is found, and steps fit into a time."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from tuning import compressed, corpus_of, recognizer, speech, tuning

from tinyvox.errors import RecipeError
from tinyvox.executor import Executor
from tinyvox.formats import tvx
from tinyvox.model import Model
from tinyvox.passes.quantization import finalize
from tinyvox.progress import Update
from tinyvox.speech import Corpus, Utterance, read_manifest
from tinyvox.training import FileSize, Tuned, form_rules, product_precision, tune
from tinyvox.training.judging import SpeechJudge
from tinyvox.training.pace import Pace
from tinyvox.training.selection import Selection, evaluation_steps
from tinyvox.training.teacher import CachedTeacher

pytestmark = pytest.mark.runtime


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return speech(tmp_path, ["ab", None, "a", None, "b", "aa"])


@pytest.fixture
def corpus(manifest: Path) -> Corpus:
    return corpus_of(manifest)


@pytest.fixture
def dev(manifest: Path) -> list[Utterance]:
    return read_manifest(manifest)


@pytest.fixture
def original() -> Model:
    return recognizer()


def judged(
    scores: list[float], original: Model, patience: int = 2
) -> tuple[Selection, Executor, int]:
    """A selection of weights whose scores are given, and how many evaluations were made."""
    executor = Executor(original)
    waiting = iter(scores)
    found = Selection(lambda it: (0.0, next(waiting)), tuple(range(1, 20)), patience)
    done = 0
    while not found.exhausted and done < len(scores):
        done += 1
        with torch.no_grad():
            next(executor.parameters()).fill_(done)
        found.consider(executor, done)
        found.consider(executor, done)  # a second time nothing happens
    return found, executor, done


def test_the_best_weights_are_taken_and_patience_ends(original: Model) -> None:
    found, executor, done = judged([3.0, 1.0, 2.0, 1.5, 0.5], original)
    assert done == 4
    assert found.best_step == 2
    found.take_best(executor)
    assert float(next(executor.parameters()).detach().flatten()[0]) == 2
    again, other = Selection(found.judge, (), 2), Executor(original)
    again.load_state_dict(found.state_dict())
    again.take_best(other)
    assert again.exhausted
    assert again.best_step == 2
    assert torch.equal(next(other.parameters()), next(executor.parameters()))


def test_a_later_model_that_is_as_good_is_taken(original: Model) -> None:
    assert judged([1.0, 1.0, 2.0], original)[0].best_step == 2


def test_evaluations_are_at_equal_distances_up_to_the_last_step() -> None:
    assert evaluation_steps(0, 100, 5, 1) == (20, 40, 60, 80, 100)
    assert evaluation_steps(0, 1000, 10, 20) == tuple(range(100, 1001, 100))
    assert evaluation_steps(130, 200, 2, 20) == (160, 200)
    assert evaluation_steps(0, 7, 5, 20) == (7,)


def test_a_judge_finds_no_divergence_of_the_teacher_itself(
    original: Model, dev: list[Utterance], tmp_path: Path
) -> None:
    """But for the kernels' 8 bits; by text, the teacher's own errors come first."""
    assert original.card is not None
    here = torch.device("cpu"), torch.float32
    small = compressed(original)
    teacher = CachedTeacher(original, tmp_path)
    for by_text in (False, True):
        judge = SpeechJudge(dev, original.card, teacher, by_text)
        own, other = (judge(Executor(model), *here) for model in (original, small))
        assert own[1] < 1e-3
        assert other[1] > 5 * own[1]
        assert (own[0] > 0) == by_text


def run(
    small: Model, corpus: Corpus, original: Model, dev: list[Utterance], **given: object
) -> tuple[Tuned, list[Update]]:
    options = {name: given.pop(name) for name in ("cache", "size", "minutes") if name in given}
    seen: list[Update] = []
    tuned = tune(
        small,
        tuning(small, **given),
        corpus,
        original,
        seen.append,
        dev=dev,
        **options,  # type: ignore[arg-type]
    )
    return tuned, seen


def test_the_result_is_the_best_of_what_was_judged(
    original: Model, corpus: Corpus, dev: list[Utterance], tmp_path: Path
) -> None:
    small = compressed(original)
    tuned, _ = run(
        small, corpus, original, dev, steps=60, evaluations=3, learning_rate=1e-2, cache=tmp_path
    )
    assert list(tuned.scores) == [20, 40, 60]
    assert tuned.scores[tuned.best_step or 0] == min(tuned.scores.values())
    assert original.card is not None
    judge = SpeechJudge(dev, original.card, CachedTeacher(original, tmp_path), False)
    here = torch.device("cpu"), product_precision("auto", torch.device("cpu"))
    executors = [Executor(model) for model in (small, tuned.model)]
    for executor in executors:
        executor.truncate(20)  # with the roundings of training
    before, after = (judge(executor, *here)[1] for executor in executors)
    assert after < 0.7 * before
    assert after == pytest.approx(min(tuned.scores.values())[1], rel=1e-3)


def test_the_rate_that_does_best_in_a_trial_is_taken(
    original: Model, corpus: Corpus, dev: list[Utterance], tmp_path: Path
) -> None:
    """Not one at which nothing moves, nor one at which everything breaks."""
    small = compressed(original)
    tuned, seen = run(
        small, corpus, original, dev, steps=10, evaluations=1, learning_rate=1.0,
        rates=[1e-9, 3e-3, 1.0], cache=tmp_path,
    )  # fmt: skip
    assert tuned.learning_rate == 3e-3
    assert [u.note for u in seen if u.note] == ["learning rate 0.003"]


def test_trials_leave_no_trace(
    original: Model, corpus: Corpus, dev: list[Utterance], tmp_path: Path
) -> None:
    small = compressed(original)
    one, other = (
        run(
            small, corpus, original, dev, steps=25, evaluations=1, learning_rate=rate,
            rates=rates, cache=tmp_path,
        )[0]
        for rate, rates in ((3e-3, [1.0]), (3.0, [1e-9, 1e-3]))
    )  # fmt: skip
    assert one.model.digest() == other.model.digest()


class Timed(Pace):
    """A pace that was measured already: 2 s a step, 10 s an evaluation."""

    def __init__(self, **settings: object) -> None:
        self.settings = tuning(recognizer(), **settings)
        self.step, self.evaluation = 2.0, 10.0


def test_steps_fill_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tinyvox.training.pace.USED", 1.0)
    monkeypatch.setattr(time, "monotonic", lambda: 50.0)
    assert Timed().steps_until(50.0 + 601) == 300
    assert Timed(evaluations=10).steps_until(50.0 + 601) == 250
    # Four trials of a fortieth of n steps, and an evaluation each: 2n + 100 + 4 (n / 20 + 10)
    assert Timed(evaluations=10, rates=[1, 2, 3, 4]).steps_until(50.0 + 1020) == 400
    with pytest.raises(RecipeError, match=r"about \d+\.\d more are needed"):
        Timed().steps_until(40.0)


def test_minutes_become_steps_that_a_checkpoint_keeps(
    original: Model, corpus: Corpus, tmp_path: Path
) -> None:
    small, kept = compressed(original), tmp_path / "tune.pt"
    begun = time.monotonic()
    seen: list[Update] = []

    def stop(update: Update) -> None:
        seen.append(update)
        if update.stage == "fine-tuning" and update.done == 3:
            raise KeyboardInterrupt

    how = tuning(small)
    asked = {"minutes": 0.1, "cache": tmp_path}
    with pytest.raises(KeyboardInterrupt):
        tune(small, how, corpus, original, stop, kept, **asked)  # type: ignore[arg-type]
    total = seen[-1].total
    assert total is not None
    assert total >= 3
    tuned = tune(small, how, corpus, original, seen.append, kept, **asked)  # type: ignore[arg-type]
    assert tuned.steps == total
    assert time.monotonic() - begun < 60


@pytest.mark.parametrize("share", [1.0, 0.8])
def test_the_file_keeps_to_its_size(
    original: Model, corpus: Corpus, tmp_path: Path, share: float
) -> None:
    small = finalize(compressed(recognizer(128)), "float16")
    limit = int(share * tvx.size(small))
    size = FileSize(limit, lambda model: finalize(model, "float16"))
    tuned, _ = run(small, corpus, recognizer(128), [], cache=tmp_path, size=size, steps=100)
    assert 0.9 * limit < tvx.size(tuned.model) <= limit


def test_a_size_that_no_codes_have_is_refused_before_the_work(
    original: Model, corpus: Corpus, tmp_path: Path
) -> None:
    small = compressed(original)
    size = FileSize(1000, lambda model: model)
    with pytest.raises(RecipeError, match=r"finetune: [\d,]+ bytes, .* cannot become 1,000; give"):
        run(small, corpus, original, [], cache=tmp_path, size=size)


def test_codes_that_cannot_change_have_no_rule(original: Model) -> None:
    assert form_rules(original) == ()
    (rule,) = form_rules(compressed(original))
    assert "lstm.forward.weight_hh" in rule.layers

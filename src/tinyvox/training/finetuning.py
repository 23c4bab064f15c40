"""Fine-tuning of a compressed model, on transcripts and with the original as the teacher."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, Unpack

from tinyvox.calibration import Calibration
from tinyvox.errors import ModelError, RecipeError
from tinyvox.model import Model
from tinyvox.progress import Progress, silent
from tinyvox.recipe import FinetuneSettings
from tinyvox.speech import Corpus, Utterance
from tinyvox.training import processes
from tinyvox.training.batches import Batches, Position
from tinyvox.training.judging import SpeechJudge
from tinyvox.training.loop import Checkpoint, Loop
from tinyvox.training.memory import keep_freed_memory
from tinyvox.training.pace import Pace, best_rate
from tinyvox.training.rounding import HOLD, FileSize, fitted, set_size, settle, settled
from tinyvox.training.selection import Score, Selection, evaluation_steps
from tinyvox.training.teacher import CachedTeacher
from tinyvox.training.tuner import Tuner, schedule
from tinyvox.training.turns import TurnBatches, can_take_turns

SAVE_SECONDS = 60.0
"""Seconds between two checkpoints."""


@dataclass(frozen=True)
class Tuned:
    """A model that was fine-tuned, for how many steps, and at which learning rate.

    `scores` are those of the evaluations, by their step: the character error rate where it was
    judged by text, else 0, and the divergence from the teacher. `best_step` has the weights of the
    model; None where it was not judged.
    """

    model: Model
    steps: int
    learning_rate: float
    scores: Mapping[int, Score]
    best_step: int | None


def finetune(
    model: Model,
    settings: FinetuneSettings,
    corpus: Corpus,
    teacher: Model,
    progress: Progress = silent,
    checkpoint: Path | None = None,
    calibration: Calibration | None = None,
    **options: Unpack[Options],
) -> Model:
    """The model of `tune`."""
    kept = checkpoint, calibration
    return tune(model, settings, corpus, teacher, progress, *kept, **options).model


class Options(TypedDict, total=False):
    """What `tune` may be given besides.

    `dev` is what the model is judged on, `cache` the folder of the teacher's outputs, by default
    the user's. `size` is the most bytes that the file may have. With `minutes`, there are as many
    steps as fit in, from `started` on, a time of `time.monotonic`, by default now.
    """

    dev: Sequence[Utterance]
    cache: Path | None
    size: FileSize | None
    minutes: float | None
    started: float | None


def tune(
    model: Model,
    settings: FinetuneSettings,
    corpus: Corpus,
    teacher: Model,
    progress: Progress = silent,
    checkpoint: Path | None = None,
    calibration: Calibration | None = None,
    **options: Unpack[Options],
) -> Tuned:
    """Train a model on; the result has the same structure, with `prune` fewer units.

    The loss is `ctc` times the CTC loss on the transcripts that there are, plus `distill` times the
    KL divergence per frame of the outputs from those of `teacher` (Hinton 2015). The codes of coded
    matrices stay the same; their centroids and row scales are trained. With `quantize`, the
    matrices that a rule matches are rounded while they are trained, their codebooks are trained
    too, and they come out coded. They begin with the codes that they have. A matrix without codes
    is quantized first; for the method `entropy`, with the statistics that `calibration` has of the
    model. The steps of `entropy` are set so that the codes take no more bits than the rule says,
    and no more than at the start.

    With `variants`, the outputs of the teacher are computed once, and kept. With `evaluations`, the
    model is judged on the speech for it, and the best weights are the result.

    `progress` is told of every step, in the stage "fine-tuning". With `checkpoint`, the state is
    written to this file every minute, when the work is interrupted, and at the end. The same call
    then goes on from there, and ends with the same numbers as an undisturbed one. The file stays:
    remove it when the result is saved.

    Raises ModelError where the model has no speech card, RecipeError where the settings do not fit
    the model, the file cannot be as small as asked, no step fits in the minutes, or `checkpoint` is
    the state of another model, teacher, speech or settings, FileError where `checkpoint` is a file
    of another kind or cannot be written, and DataError for a loss that is not finite, or speech
    that is too short.
    """
    if model.card is None:
        raise ModelError("fine-tuning needs a speech card; add --card FILE")
    keep_freed_memory()
    run = _Run(model, settings, corpus, teacher, calibration, options, progress)
    name = _run_name(model, teacher, settings, corpus, options)
    state = Checkpoint(checkpoint, run.tuner, name)
    known = state.restore()
    if not known and checkpoint is not None and checkpoint.exists():
        raise RecipeError(
            f"{checkpoint}: is the state of another run, of other settings, models or speech; give "
            "what that run was given, or remove the file"
        )
    processes.wait()
    if not known:
        state.facts = run.plan()
    return run.train(state)


class _Run:
    """A fine-tuning: the model that learns, its teacher, its speech, and what it is judged by."""

    def __init__(
        self,
        model: Model,
        settings: FinetuneSettings,
        corpus: Corpus,
        teacher: Model,
        calibration: Calibration | None,
        options: Options,
        progress: Progress,
    ) -> None:
        self.model, self.settings, self.corpus, self.progress = model, settings, corpus, progress
        self.options, dev, cache = options, options.get("dev", ()), options.get("cache")
        judged = bool(settings.evaluations and dev)
        self.in_turn = settings.variants > 0 and can_take_turns(corpus)
        self.cached = CachedTeacher(teacher, cache) if self.in_turn or judged else None
        self.taught = self.in_turn and settings.distill > 0 and self.can_know()
        self.tuner = Tuner(model, settings, None if self.taught else teacher, calibration)
        if (size := options.get("size")) is not None:
            set_size(self.tuner.executor, model, size)
        if judged:
            self.tuner.selection = self._selection(dev)

    def can_know(self) -> bool:
        """Whether features come again, so that the teacher's outputs for them can be kept."""
        return self.settings.channel_shift == 0

    def _selection(self, dev: Sequence[Utterance]) -> Selection:
        assert self.model.card is not None
        assert self.cached is not None
        by_text = self.settings.ctc > 0
        judge = SpeechJudge(dev, self.model.card, self.cached, by_text, self.progress)
        tuner = self.tuner
        return Selection(
            lambda it: judge(it, tuner.device, tuner.precision),
            (),
            self.settings.patience,
            lambda: settled(tuner.executor, tuner.pruner),
        )

    def batches(self, position: Position | None = None) -> Batches:
        """The stream of batches, from its beginning or from a position on."""
        how, card = self.settings, self.model.card
        assert card is not None
        if not self.in_turn:
            return Batches(self.corpus, card, how.batch_seconds, how.seed, position, self.model)
        teacher = self.cached if self.taught else None
        return TurnBatches(
            self.corpus, card, how.batch_seconds, how.seed, how.variants, teacher, position,
            self.model,
        )  # fmt: skip

    def plan(self) -> dict[str, str]:
        """How many steps there are, and their rate: the facts that a checkpoint keeps."""
        steps = self.settings.steps
        if (minutes := self.options.get("minutes")) is not None:
            until = (self.options.get("started") or time.monotonic()) + 60 * minutes
            pace = Pace(self.tuner, self.settings, self.batches, self.prepare)
            self.prepare(processes.agreed(pace.steps_until(until)))
            # Now that the outputs of the teacher are known:
            steps = processes.agreed(pace.steps_until(until))
        self.prepare(steps)
        rate = best_rate(self.tuner, self.settings, self.batches, steps, self.progress)
        return {"steps": str(steps), "rate": repr(rate)}

    def train(self, state: Checkpoint) -> Tuned:
        """Make the steps that are left; the model with its best weights."""
        tuner, steps = self.tuner, int(state.facts["steps"])
        rate, selection = float(state.facts["rate"]), tuner.selection
        if selection is not None:
            first = tuner.pruner.span[1]
            selection.steps = evaluation_steps(first, steps, self.settings.evaluations, HOLD)
        self.prepare(steps)
        loop = Loop(tuner, schedule(steps, rate), state, SAVE_SECONDS)
        loop.run(self.batches(state.position), "fine-tuning", self.progress)
        scores, best = {}, None
        if selection is not None:
            selection.take_best(tuner.executor)
            scores, best = selection.scores, selection.best_step
        return Tuned(self._finished(), state.done, rate, scores, best)

    def _finished(self) -> Model:
        """The model, its codes in the bits that they may take."""
        executor, pruner = self.tuner.executor, self.tuner.pruner
        if (size := self.options.get("size")) is not None:
            return fitted(executor, pruner, size)
        settle(executor, pruner)
        return pruner.model()

    def prepare(self, steps: int) -> int:
        """Have the outputs of the teacher that so many steps need; how many utterances' they
        are."""
        batches = self.batches()
        if self.cached is None or not self.taught or not isinstance(batches, TurnBatches):
            return 0
        upcoming = batches.upcoming(steps)
        self.cached.prepare(upcoming, self.progress)
        return len(upcoming)


def _run_name(
    model: Model,
    teacher: Model,
    settings: FinetuneSettings,
    corpus: Corpus,
    options: Options,
) -> str:
    """A text that is the same for the same models, settings and speech, and for no others."""
    speech = (repr(corpus.kept), repr(corpus.sources), repr(corpus.augment), str(corpus.rate))
    size = options.get("size")
    asked = options.get("dev", ()), options.get("minutes"), size and size.limit
    parts = (settings.model_dump_json(), model.digest(), teacher.digest(), *speech, repr(asked))
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def prepare_teacher(
    teacher: Model,
    settings: FinetuneSettings,
    corpus: Corpus,
    cache: Path | None,
    progress: Progress = silent,
) -> None:
    """Put into the cache the outputs of a teacher that a fine-tuning with these settings needs of
    it; nothing where it keeps none. Raises FileError where they cannot be written."""
    known = settings.variants > 0 and settings.distill > 0 and settings.channel_shift == 0
    if not known or not can_take_turns(corpus) or teacher.card is None:
        return
    batches = TurnBatches(
        corpus, teacher.card, settings.batch_seconds, settings.seed, settings.variants, None,
        model=teacher,
    )  # fmt: skip
    CachedTeacher(teacher, cache).prepare(batches.upcoming(settings.steps), progress)

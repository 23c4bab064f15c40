"""Fine-tuning of a compressed model, on transcripts and with the original as the teacher."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from tinyvox.calibration import Calibration
from tinyvox.errors import ModelError
from tinyvox.model import Model
from tinyvox.progress import Progress, silent
from tinyvox.recipe import FinetuneSettings
from tinyvox.speech import Corpus, Utterance
from tinyvox.training.batches import Batches, Position
from tinyvox.training.judging import SpeechJudge
from tinyvox.training.loop import Checkpoint, Loop
from tinyvox.training.pace import Pace, best_rate
from tinyvox.training.rounding import HOLD, settle
from tinyvox.training.selection import Selection, evaluation_steps
from tinyvox.training.teacher import CachedTeacher
from tinyvox.training.tuner import Tuner, schedule
from tinyvox.training.turns import TurnBatches, can_take_turns

SAVE_SECONDS = 60.0
"""Seconds between two checkpoints."""


def finetune(
    model: Model,
    settings: FinetuneSettings,
    corpus: Corpus,
    teacher: Model,
    progress: Progress = silent,
    checkpoint: Path | None = None,
    calibration: Calibration | None = None,
    *,
    dev: Sequence[Utterance] = (),
    cache: Path | None = None,
    until: float | None = None,
) -> Model:
    """Train a model on; the result has the same structure, with `prune` fewer units.

    The loss is `ctc` times the CTC loss on the transcripts that there are, plus `distill` times the
    KL divergence per frame of the outputs from those of `teacher` (Hinton 2015). The codes of coded
    matrices stay the same; their centroids and row scales are trained. With `quantize`, the
    matrices that a rule matches are rounded while they are trained, their codebooks are trained
    too, and they come out coded. They begin with the codes that they have. A matrix without codes
    is quantized first; for the method `entropy`, with the statistics that `calibration` has of the
    model. The steps of `entropy` are set so that the codes take no more bits than the rule says,
    and no more than at the start.

    With `variants`, the outputs of the teacher are kept in the folder `cache`, by default the
    user's. With `evaluations`, the model is judged on `dev`, and the best weights are the result.
    With `until`, a time of `time.monotonic`, there are as many steps as fit in, whatever the
    settings say.

    `progress` is told of every step, in the stage "fine-tuning". With `checkpoint`, the state is
    written to this file every minute, when the work is interrupted, and at the end. The same call
    then goes on from there, and ends with the same numbers as an undisturbed one. The file stays:
    remove it when the result is saved. The state of another model, teacher, speech or settings is
    passed over, and written over.

    Raises ModelError where the model has no speech card, RecipeError where the settings do not fit
    the model, FileError where `checkpoint` is a file of another kind or cannot be written, and
    DataError for a loss that is not finite, or speech that is too short.
    """
    if model.card is None:
        raise ModelError("fine-tuning needs a speech card; add --card FILE")
    run = _Run(model, settings, corpus, teacher, calibration, dev, cache, progress)
    state = Checkpoint(checkpoint, run.tuner, _run_name(model, teacher, settings, corpus, dev))
    if not state.restore():
        state.facts = run.plan(until)
    tuner = run.train(state)
    settle(tuner.executor, tuner.pruner)
    return tuner.pruner.model()


class _Run:
    """A fine-tuning: the model that learns, its teacher, its speech, and what it is judged by."""

    def __init__(
        self,
        model: Model,
        settings: FinetuneSettings,
        corpus: Corpus,
        teacher: Model,
        calibration: Calibration | None,
        dev: Sequence[Utterance],
        cache: Path | None,
        progress: Progress,
    ) -> None:
        self.model, self.settings, self.corpus, self.progress = model, settings, corpus, progress
        judged = bool(settings.evaluations and dev)
        self.in_turn = settings.variants > 0 and can_take_turns(corpus)
        self.cached = CachedTeacher(teacher, cache) if self.in_turn or judged else None
        # What is drawn at random cannot be in the cache.
        self.taught = self.in_turn and settings.distill > 0 and settings.channel_shift == 0
        self.tuner = Tuner(model, settings, None if self.taught else teacher, calibration)
        if judged:
            self.tuner.selection = self._selection(dev)

    def _selection(self, dev: Sequence[Utterance]) -> Selection:
        assert self.model.card is not None
        assert self.cached is not None
        by_text = self.settings.ctc > 0
        judge = SpeechJudge(dev, self.model.card, self.cached, by_text, self.progress)
        device, precision = self.tuner.device, self.tuner.precision
        return Selection(lambda it: judge(it, device, precision), (), self.settings.patience)

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

    def plan(self, until: float | None) -> dict[str, str]:
        """How many steps there are, and their rate: the facts that a checkpoint keeps."""
        steps = self.settings.steps
        if until is not None:
            pace = Pace(self.tuner, self.settings, self.batches, self.prepare)
            self.prepare(pace.steps_until(until))
            steps = pace.steps_until(until)  # now that the outputs of the teacher are known
        self.prepare(steps)
        rate = best_rate(self.tuner, self.settings, self.batches, steps, self.progress)
        return {"steps": str(steps), "rate": repr(rate)}

    def train(self, state: Checkpoint) -> Tuner:
        """Make the steps that are left; the model with its best weights."""
        tuner, steps = self.tuner, int(state.facts["steps"])
        selection = tuner.selection
        if selection is not None:
            first = tuner.pruner.span[1]
            selection.steps = evaluation_steps(first, steps, self.settings.evaluations, HOLD)
        self.prepare(steps)
        loop = Loop(tuner, schedule(steps, float(state.facts["rate"])), state, SAVE_SECONDS)
        loop.run(self.batches(state.position), "fine-tuning", self.progress)
        if selection is not None:
            selection.take_best(tuner.executor)
        return tuner

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
    dev: Sequence[Utterance],
) -> str:
    """A text that is the same for the same models, settings and speech, and for no others."""
    speech = (repr(corpus.kept), repr(corpus.sources), repr(corpus.augment), str(corpus.rate))
    parts = (settings.model_dump_json(), model.digest(), teacher.digest(), *speech, repr(dev))
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()

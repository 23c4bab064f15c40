"""Dense DeepSpeech models of several widths, trained alike: the peers of `large_then_small.py`.

Data, augmentation, features and the rest of the schedule are those of `models/commands/train.yaml`.
Widths are trained side by side, on the same batches, so that audio is augmented and turned into
features once; each goes on from its own checkpoint in the cache. Dropout and weight decay, which
were set for a width of 512, are weaker, and the rate is higher: small networks do better so.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from lib.places import COMMANDS
from lib.script import say
from tinyvox.exporters import export_pt2
from tinyvox.importers import load
from tinyvox.model import Model, SpeechCard, card_path, save_card
from tinyvox.progress import Update
from tinyvox.speech import Corpus
from tinyvox.training import (
    Batch,
    Batches,
    Loop,
    TrainConfig,
    Trainer,
    load_corpus,
    normalized,
)

CONFIG = COMMANDS / "train.yaml"
WIDTHS = (64, 96, 128)
STEPS = 6000
FOR_SMALL = {"warmup": 300, "weight_decay": 0.05, "dropout": 0.05}
NARROW, NARROW_RATE, WIDE_RATE = 128, 4e-3, 3e-3
"""Learning rates up to a width of `NARROW` and above: of 1.5, 3 and 6e-3 the higher ones learnt
faster, 6e-3 only at 64."""
SIDE_BY_SIDE = 3
"""Widths that share batches. Not all of them, so that the small ones are ready first."""
STEPS_A_CHECKPOINT, STEPS_A_REPORT = 500, 50


def config_of(base: TrainConfig, width: int, steps: int, cache: Path) -> TrainConfig:
    """The bundled model's configuration for another width, its files in the cache."""
    folder = cache / str(width)
    rate = NARROW_RATE if width <= NARROW else WIDE_RATE
    options = {"steps": steps, "learning_rate": rate, **FOR_SMALL}
    return base.model_copy(
        update={
            "model": base.model.model_copy(update={"width": width}),
            "optimization": base.optimization.model_copy(update=options),
            "output": folder / "dense.pt2",
            "checkpoints": folder,
        }
    )


def train_or_load(configs: Sequence[TrainConfig], corpus: Corpus | None = None) -> list[Model]:
    """The model of each configuration, trained where its file is not there yet.

    Audio comes from `corpus`, or is read into memory where there is something to train.
    """
    missing = [config for config in configs if not config.output.exists()]
    if missing:
        corpus = corpus or load_corpus(missing[0], _report_reading)
        card = normalized(missing[0].card(), corpus, missing[0].optimization.seed)
        for first in range(0, len(missing), SIDE_BY_SIDE):
            _train(missing[first : first + SIDE_BY_SIDE], corpus, card)
    return [load(config.output) for config in configs]


def _train(configs: Sequence[TrainConfig], corpus: Corpus, card: SpeechCard) -> None:
    loops = [_resumed(config, card) for config in configs]
    options = configs[0].optimization
    behind = min(loops, key=lambda loop: loop.checkpoint.done)
    start = behind.checkpoint.position
    _run(loops, Batches(corpus, card, options.batch_seconds, options.seed, start))
    for config, loop in zip(configs, loops, strict=True):
        loop.checkpoint.save()
        export_pt2(loop.learner.executor.model(), config.output)
        save_card(card, card_path(config.output))


def _run(loops: Sequence[Loop], batches: Iterable[Batch]) -> None:
    start = time.monotonic()
    for done, batch in enumerate(batches, 1):
        left = [loop for loop in loops if loop.checkpoint.done < loop.schedule.steps]
        if not left:
            return
        losses = [loop.advance(batch) for loop in left]
        if done % STEPS_A_REPORT == 0:
            rate = (time.monotonic() - start) / done
            _report_step(left[0].checkpoint.done, left[0].schedule.steps, rate, losses)
        if done % STEPS_A_CHECKPOINT == 0:
            for loop in left:
                loop.checkpoint.save()


def _resumed(config: TrainConfig, card: SpeechCard) -> Loop:
    """A training at its checkpoint, if there is one."""
    trainer = Trainer(config, card)
    checkpoint = trainer.checkpoint(config.checkpoints / "last.pt")
    checkpoint.restore()
    config.checkpoints.mkdir(parents=True, exist_ok=True)
    return Loop(trainer, config.optimization, checkpoint, math.inf)


def _report_reading(update: Update) -> None:
    if update.done % 1000 == 0:
        say(f"{update.stage}: {update.done} of {update.total}")


def _report_step(step: int, steps: int, seconds: float, losses: Sequence[float]) -> None:
    of_widths = ", ".join(f"{loss:.3f}" for loss in losses)
    say(f"step {step} of {steps}, {seconds:.2f} s each, losses in the order of widths {of_widths}")

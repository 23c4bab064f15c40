"""Dense DeepSpeech models of several widths, trained alike: the peers of `large_then_small.py`.

Data, augmentation, features and the rest of the schedule are those of `models/commands/train.yaml`.
Widths are trained side by side, on the same batches, so that audio is augmented and turned into
features once; each goes on from its own checkpoint in the cache. Dropout and weight decay, which
were set for a width of 512, are weaker, and the rate is higher: small networks do better so.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from tinyvox.exporters import export_pt2
from tinyvox.speech import Corpus
from tinyvox.training import Batch, Batches, TrainConfig, Trainer, load_corpus, normalized

from lib.places import COMMANDS
from lib.script import say
from tinyvox import files
from tinyvox.model import Model, SpeechCard, card_path, save_card

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
    return [files.load(config.output) for config in configs]


def _train(configs: Sequence[TrainConfig], corpus: Corpus, card: SpeechCard) -> None:
    trainers = [_resumed(config, card) for config in configs]
    options = configs[0].optimization
    seed = options.seed + 1000 * min(trainer.step for trainer in trainers)
    _run(trainers, Batches(corpus, card, options.batch_seconds, seed))
    for trainer in trainers:
        trainer.save(_checkpoint(trainer.config))
        export_pt2(trainer.executor.model(), trainer.config.output)
        save_card(card, card_path(trainer.config.output))


def _run(trainers: Sequence[Trainer], batches: Iterable[Batch]) -> None:
    start = time.monotonic()
    for done, batch in enumerate(batches, 1):
        left = [t for t in trainers if t.step < t.config.optimization.steps]
        if not left:
            return
        losses = {t.config.model.width: t.train_step(batch) for t in left}
        if done % STEPS_A_REPORT == 0:
            rate = (time.monotonic() - start) / done
            _report_step(left[0].step, left[0].config.optimization.steps, rate, losses)
        if done % STEPS_A_CHECKPOINT == 0:
            for trainer in left:
                trainer.save(_checkpoint(trainer.config))


def _resumed(config: TrainConfig, card: SpeechCard) -> Trainer:
    trainer = Trainer(config, card)
    if _checkpoint(config).exists():
        trainer.restore(_checkpoint(config))
    return trainer


def _checkpoint(config: TrainConfig) -> Path:
    return config.checkpoints / "last.pt"


def _report_reading(done: int, total: int) -> None:
    if done % 1000 == 0:
        say(f"reading audio: {done} of {total}")


def _report_step(step: int, steps: int, seconds: float, losses: dict[int, float]) -> None:
    of_widths = ", ".join(f"{width}: {loss:.3f}" for width, loss in losses.items())
    say(f"step {step} of {steps}, {seconds:.2f} s each, loss by width {of_widths}")

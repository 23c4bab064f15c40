"""How a whole job is done with tinyvox: calibrate, plan, compress, fine-tune, compare outputs.

The one file of the benchmarks that puts these together.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

from tinyvox.calibration import (
    NO_STATISTICS,
    OutputDivergence,
    Statistics,
    divergence_on_audio,
    statistics_from_audio,
    synthetic_statistics,
)
from tinyvox.planner import Plan, Planner, find_plan
from tinyvox.speech import Corpus, Utterance
from tinyvox.training import Architecture, Progress, deepspeech, finetune

from lib.places import BUNDLED
from tinyvox import files
from tinyvox.model import Model
from tinyvox.passes import Look, apply
from tinyvox.recipe import FinetuneSettings, Recipe

Calibrate = Look
"""What finds out the statistics of a model's matrices."""
Divergence = OutputDivergence
"""Speech, and what a model gives for it: `distance(changed)` is the mean over the frames of how far
a changed model's outputs are, `apart(changed)` besides the share of frames with another token."""
Tune = Callable[[Model, FinetuneSettings], Model]
QUICK_WIDTH = 48
"""Units of the network of smoke runs."""
SAID_EVERY = 50
"""Steps of fine-tuning from one report to the next."""


def bundled() -> Model:
    """The commands model, with its speech card."""
    return files.load(BUNDLED)


def random_network(width: int) -> Model:
    """A DeepSpeech of so many units with random weights, and the bundled model's card."""
    card = bundled().card
    assert card is not None
    return deepspeech(Architecture(width=width), card, seed=0)


def nothing_known(_: Model) -> Statistics:
    """Calibration that knows nothing."""
    return NO_STATISTICS


def from_audio(
    utterances: Sequence[Utterance], cache: Path | None = None, outputs: bool = True
) -> Calibrate:
    """Calibration from speech; with the Fisher information of the model's own `outputs`."""

    @functools.lru_cache(maxsize=4)
    def calibrate(model: Model) -> Statistics:
        return statistics_from_audio(
            model, utterances, fisher="outputs" if outputs else None, cache=cache
        )

    return calibrate


def synthetic() -> Calibrate:
    """Calibration from synthetic speech."""
    return functools.lru_cache(maxsize=4)(synthetic_statistics)


def divergence_on(
    original: Model, utterances: Sequence[Utterance], count: int | None = None
) -> Divergence:
    """On so many of these utterances at most, from all over the list; on all where None."""
    return divergence_on_audio(original, utterances, count or len(utterances))


def held_back(original: Model, utterances: Sequence[Utterance]) -> Divergence:
    """On as many of these utterances as plans are judged by."""
    return divergence_on_audio(original, utterances)


def plan(
    model: Model,
    ratio: float,
    calibrate: Calibrate | None = None,
    divergence: Divergence | None = None,
) -> Plan:
    """The plan that loses least at a ratio; by default with synthetic speech alone."""
    return find_plan(
        model, ratio=ratio, look=calibrate or synthetic_statistics, divergence=divergence
    )


def planner(model: Model, calibrate: Calibrate, divergence: Divergence) -> Planner:
    """One planner for several budgets: `best_within(bytes)` is a plan, or None."""
    return Planner(model, calibrate, divergence, 0, None, lambda _: None)


def compress(model: Model, recipe: Recipe, calibrate: Calibrate, tune: Tune | None = None) -> Model:
    """What a recipe makes of a model."""
    return apply(model, recipe, look=calibrate, finetune=tune).model


def tuner(teacher: Model, corpus: Corpus, calibrate: Calibrate, say: Callable[[str], None]) -> Tune:
    """Fine-tuning on a corpus, with the original as the teacher."""

    def tell(progress: Progress) -> None:
        if progress.step % SAID_EVERY == 0:
            say(f"  fine-tuning, step {progress.step}: loss {progress.loss:.3f}")

    return lambda model, settings: finetune(model, settings, corpus, teacher, tell, look=calibrate)

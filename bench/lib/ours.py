"""How a whole job is done with tinyvox: calibrate, plan, compress, fine-tune, compare outputs.

The one file of the benchmarks that puts these together, by `tinyvox.workflow` wherever a script
asks what a user asks; a planner for many budgets at once is the planner's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from lib.places import BUNDLED
from tinyvox.calibration import Calibration, OutputDivergence, divergence_on_audio
from tinyvox.importers import load
from tinyvox.model import Model
from tinyvox.passes import apply
from tinyvox.planner import Effort, Plan, Planner
from tinyvox.progress import Update
from tinyvox.recipe import FinetuneSettings, QuantizeSettings, Recipe
from tinyvox.speech import Corpus, Utterance
from tinyvox.training import Architecture, deepspeech, finetune
from tinyvox.workflow import CompressRequest, run

Calibrate = Calibration | None
"""What finds out the statistics of a model's matrices; None where nothing does."""
Divergence = OutputDivergence
"""Speech, and what a model gives for it: `distance(changed)` is the mean over the frames of how far
a changed model's outputs are, `apart(changed)` besides the share of frames with another token."""
Tune = Callable[[Model, FinetuneSettings], Model]
EIGHT_BITS = Recipe.of(QuantizeSettings(bits=8, method="symmetric"))
"""What others call quantized: a scale a row, nothing fitted."""
QUICK_WIDTH = 48
"""Units of the network of smoke runs."""
SAID_EVERY = 50
"""Steps of fine-tuning from one report to the next."""


def bundled() -> Model:
    """The commands model, with its speech card."""
    return load(BUNDLED)


def random_network(width: int) -> Model:
    """A DeepSpeech of so many units with random weights, and the bundled model's card."""
    card = bundled().card
    assert card is not None
    return deepspeech(Architecture(width=width), card, seed=0)


def from_audio(
    utterances: Sequence[Utterance], cache: Path | None = None, outputs: bool = True
) -> Calibration:
    """Calibration on speech; with the Fisher information of the model's own `outputs`."""
    return Calibration.from_audio(utterances, fisher="outputs" if outputs else None, cache=cache)


def synthetic() -> Calibration:
    """Calibration on synthetic speech."""
    return Calibration.synthetic()


def divergence_on(
    original: Model, utterances: Sequence[Utterance], count: int | None = None
) -> Divergence:
    """On so many of these utterances at most, from all over the list; on all where None."""
    return divergence_on_audio(original, utterances, count or len(utterances))


def held_back(original: Model, utterances: Sequence[Utterance]) -> Divergence:
    """On as many of these utterances as plans are judged by."""
    return divergence_on_audio(original, utterances)


def plan(model: Model, ratio: float, data: Path | None = None, effort: Effort = "normal") -> Plan:
    """The plan that a user gets for a ratio; without `data`, a manifest, by synthetic speech."""
    found = run(CompressRequest(model, ratio=ratio, data=data, effort=effort)).plan
    assert found is not None
    return found


def planner(model: Model, calibrate: Calibrate, divergence: Divergence) -> Planner:
    """One planner for several budgets: `best_within(bytes)` is a plan, or None."""
    return Planner(model, calibrate, divergence)


def compress(model: Model, recipe: Recipe, calibrate: Calibrate, tune: Tune | None = None) -> Model:
    """The model that a recipe makes of another."""
    return apply(model, recipe, calibration=calibrate, finetune=tune).model


def tuner(teacher: Model, corpus: Corpus, calibrate: Calibrate, say: Callable[[str], None]) -> Tune:
    """Fine-tuning on a corpus, with the original as the teacher."""

    def tell(update: Update) -> None:
        if update.done % SAID_EVERY == 0 and update.best_loss is not None:
            say(f"  fine-tuning, step {update.done}: loss {update.best_loss:.3f}")

    return lambda model, settings: finetune(
        model, settings, corpus, teacher, progress=tell, calibration=calibrate
    )

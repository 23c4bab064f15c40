"""The jobs as single calls, as `tinyvox` exports them."""

from __future__ import annotations

from pathlib import Path

from tinyvox.calibration import Calibration
from tinyvox.evaluation import Normalize
from tinyvox.model import Model
from tinyvox.planner import Effort
from tinyvox.progress import Progress, silent
from tinyvox.recipe import FinetuneSettings, Recipe
from tinyvox.training import finetune as train_on
from tinyvox.training import load_audio, open_corpus
from tinyvox.workflow.compression import run
from tinyvox.workflow.inputs import training_config
from tinyvox.workflow.request import CompressRequest, CompressResult

Given = Path | str | None


def compress(
    model: Model | Path | str,
    recipe: Recipe | Path | str | None = None,
    *,
    ratio: float | None = None,
    size: int | None = None,
    max_loss: float | None = None,
    data: Given = None,
    dev: Given = None,
    finetune: Given = None,
    effort: Effort = "normal",
    seed: int = 0,
    normalize: Normalize = "none",
    cache: Given = None,
    progress: Progress = silent,
) -> CompressResult:
    """Make a model small: by one of a ratio, a size in bytes, a loss allowed, and a recipe.

    `ratio` counts 4 bytes a parameter of the original; `max_loss` is in points of word error rate
    on `dev`. `data` is a manifest of speech, without transcripts, that shows what matters of each
    matrix; without it, synthetic speech does. `dev` judges plans; by default a fifth of `data`
    does, by speaker. `finetune` is a manifest with transcripts, or a training configuration. Word
    errors are counted in lower case with `normalize="lower"`.

    Raises a TinyvoxError, in one line: before any work for a faulty input, else where no plan fits
    or a step of the recipe cannot be taken.
    """
    request = CompressRequest(
        model=Path(model) if isinstance(model, str) else model,
        ratio=ratio,
        size=size,
        max_loss=max_loss,
        recipe=Path(recipe) if isinstance(recipe, str) else recipe,
        data=_path(data),
        dev=_path(dev),
        finetune=_path(finetune),
        effort=effort,
        cache=_path(cache),
        seed=seed,
        normalize=normalize,
    )
    return run(request, progress)


def plan(
    model: Model | Path | str,
    *,
    ratio: float | None = None,
    size: int | None = None,
    data: Given = None,
    effort: Effort = "normal",
    seed: int = 0,
    progress: Progress = silent,
) -> Recipe:
    """The recipe that loses least among those that reach a ratio or a size, as `compress` finds it.

    Raises RecipeError where no plan fits, and the errors of `compress` for faulty inputs.
    """
    found = compress(
        model, ratio=ratio, size=size, data=data, effort=effort, seed=seed, progress=progress
    )
    return found.recipe


def finetune(
    model: Model,
    data: Path | str,
    *,
    teacher: Model,
    settings: FinetuneSettings | None = None,
    checkpoint: Path | None = None,
    progress: Progress = silent,
) -> Model:
    """Train a compressed model on, with the original as the teacher.

    `data` is a manifest with transcripts, or a training configuration. With a `checkpoint`, a run
    that was interrupted goes on there. Raises ModelError where the model has no speech card,
    DataError for speech that cannot be used.
    """
    corpus = open_corpus(training_config(Path(data), model))
    load_audio(corpus, progress)
    return train_on(
        model,
        settings or FinetuneSettings(),
        corpus,
        teacher,
        checkpoint=checkpoint,
        calibration=Calibration.synthetic(),
        progress=progress,
    )


def _path(given: Given) -> Path | None:
    return None if given is None else Path(given)

"""The jobs as single calls, as `tinyvox` exports them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tinyvox.calibration import Calibration
from tinyvox.errors import RecipeError
from tinyvox.evaluation import Normalize
from tinyvox.model import Model
from tinyvox.planner import Effort
from tinyvox.progress import Progress, silent
from tinyvox.recipe import FinetuneSettings, Recipe
from tinyvox.storage import check_apart, check_output
from tinyvox.training import finetune as train_on
from tinyvox.training import load_audio, open_corpus
from tinyvox.workflow.arguments import check_model, path_of, speech_of
from tinyvox.workflow.compression import run
from tinyvox.workflow.inputs import check_taught, read_speech, training_config
from tinyvox.workflow.request import CompressRequest, CompressResult

Given = Path | str | None
Speech = Given | Sequence[Any]
"""A manifest; or features: an .npz file, a folder of .npy files, a list of arrays."""


def compress(
    model: Model | Path | str,
    recipe: Recipe | Path | str | None = None,
    *,
    ratio: float | None = None,
    size: int | None = None,
    max_loss: float | None = None,
    data: Speech = None,
    dev: Speech = None,
    finetune: Given = None,
    effort: Effort = "normal",
    seed: int = 0,
    normalize: Normalize = "none",
    cache: Given = None,
    lossless: bool = False,
    strict: bool = False,
    progress: Progress = silent,
) -> CompressResult:
    """Make a model small: by one of a ratio, a size in bytes, a loss allowed, and a recipe.

    `lossless` changes no weight: the codes of an original that is quantized are coded anew in fewer
    bytes.

    `ratio` counts 4 bytes a parameter of the original; `max_loss` is in points of word error rate
    on `dev`. `data` is a manifest of speech, without transcripts, that shows what matters of each
    matrix; without it, synthetic speech does. `dev` judges plans; by default a fifth of `data`
    does, by speaker. Both may be features, which a model without a speech card needs: an .npz file,
    a folder of .npy files, or a list of arrays [frames, size], one for each utterance. `finetune`
    is a manifest with transcripts, or a training configuration. Word errors are counted in lower
    case with `normalize="lower"`.

    The result says how far its outputs are from the original's, on `dev`, `data` or synthetic
    speech (`distance`). Where that is too far, there is a warning, or, with `strict`, an error.

    Raises a TinyvoxError, in one line: before any work for a faulty input, else where no plan fits
    or a step of the recipe cannot be taken.
    """
    request = CompressRequest(
        model=Path(model) if isinstance(model, str) else model,
        ratio=ratio,
        size=size,
        max_loss=max_loss,
        recipe=Path(recipe) if isinstance(recipe, str) else recipe,
        data=speech_of("data", data),
        dev=speech_of("dev", dev),
        finetune=path_of("finetune", finetune),
        effort=effort,
        cache=path_of("cache", cache),
        seed=seed,
        normalize=normalize,
        lossless=lossless,
        strict=strict,
    )
    return run(request, progress)


def plan(
    model: Model | Path | str,
    *,
    ratio: float | None = None,
    size: int | None = None,
    data: Speech = None,
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
    assert found.recipe is not None  # a plan has one
    return found.recipe


def finetune(
    model: Model,
    data: Path | str,
    *,
    teacher: Model,
    settings: FinetuneSettings | None = None,
    dev: Given = None,
    minutes: float | None = None,
    checkpoint: Given = None,
    cache: Given = None,
    progress: Progress = silent,
) -> Model:
    """Train a compressed model on, with the original as the teacher.

    `data` is a manifest, or a training configuration; what has no transcript is learned from the
    teacher alone. `dev` is a manifest of speech to judge by, where the settings have `evaluations`.
    With `minutes`, there are as many steps as fit in. With a `checkpoint`, a file, a run that was
    interrupted goes on there; remove it when the result is saved. `cache` is the folder of the
    teacher's outputs, where the settings have `variants`. Raises ModelError where the model has no
    speech card, DataError for speech that cannot be used or a loss that is not finite, FileError
    where the checkpoint cannot be written.
    """
    check_model("model", model)
    check_model("teacher", teacher)
    speech, kept = path_of("data", data), path_of("checkpoint", checkpoint)
    if speech is None:
        raise RecipeError("data is None, expected a path")
    if kept is not None:
        check_apart({"the checkpoint": kept}, [speech])
        check_output(kept)
    how = settings or FinetuneSettings()
    corpus = open_corpus(training_config(speech, model))
    check_taught(corpus, how)
    judging = path_of("dev", dev)
    assert model.card is not None  # training_config has seen to it
    load_audio(corpus, model.card, model, progress)
    return train_on(
        model,
        how,
        corpus,
        teacher,
        checkpoint=kept,
        calibration=Calibration.synthetic(),
        progress=progress,
        dev=() if judging is None else read_speech(judging, model, "judging by speech"),
        minutes=minutes,
        cache=path_of("cache", cache),
    )

"""All inputs of a compression, read and checked before any work begins."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from tinyvox.calibration import FeatureArrays, are_arrays, read_arrays
from tinyvox.errors import DataWarning, ModelError, RecipeError
from tinyvox.evaluation import (
    Normalize,
    check_normalize,
    normalized,
    tokens_of,
    unknown_characters,
)
from tinyvox.importers import load
from tinyvox.model import Model, card_path
from tinyvox.passes import Note, check_recipe
from tinyvox.planner import Effort, check_budget, check_reachable
from tinyvox.recipe import FinetuneSettings, Recipe, load_recipe, with_finetune
from tinyvox.speech import (
    Corpus,
    Utterance,
    check_audio,
    check_transcripts,
    read_manifest,
    split_by_speaker,
)
from tinyvox.storage import check_apart, check_folder, check_output, check_space
from tinyvox.training import (
    TrainConfig,
    check_teacher,
    load_config,
    open_corpus,
    plain_config,
)
from tinyvox.workflow.arguments import check_types
from tinyvox.workflow.description import BYTES_A_PARAMETER
from tinyvox.workflow.request import CompressRequest

HELD_BACK = 0.2
"""The share of the calibration speech that judges plans where no other speech does."""
BYTES_A_TRAINED_PARAMETER = 16
"""Bytes of a fine-tuning checkpoint: values, and the two averages of the optimizer."""


Speech = Sequence[Utterance] | FeatureArrays
"""Audio, or the features that a model takes."""


@dataclass(frozen=True)
class Inputs:
    """What a request named, read: nothing in it is missing or of the wrong kind.

    `calibration` and `judging` are utterances, none where the request has no speech for them.
    """

    model: Model
    recipe: Recipe | None
    calibration: Speech
    judging: Speech
    tuning: Corpus | None


def read_inputs(request: CompressRequest) -> Inputs:
    """Read and check everything that a request names; audio itself is read later.

    Raises RecipeError, DataError, FileError or ModelError, in one line, for the first fault: a
    budget out of range, an output that cannot be written, a disk that is full, a card that is
    missing, audio that is missing, a transcript with characters that are no tokens, a value of a
    wrong type, a model that is right for one number of frames only.
    """
    check_types(request)
    _check_budget(request)
    _check_outputs(request)
    model = request.model
    if isinstance(model, Path):
        model = load(model, request.card)
    model.check_length()
    recipe = request.recipe
    if isinstance(recipe, Path):
        recipe = load_recipe(recipe)
    if recipe is not None:
        recipe = with_finetune(recipe) if request.finetune is not None else recipe
        check_recipe(model, recipe, finetuned=request.finetune is not None)
    if (budget := _budget(request, model)) is not None:
        check_reachable(model, budget)
    _check_space(request, model)
    calibration, judging = _speech(request, model)
    return Inputs(model, recipe, calibration, judging, _tuning(request, model, recipe))


def read_speech(manifest: Path, model: Model, purpose: str) -> list[Utterance]:
    """The utterances of a manifest, every audio file of which is there.

    Raises ModelError where the model has no speech card, DataError as `read_manifest` does and
    where audio is missing, with the first file and how many there are.
    """
    if model.card is None:
        raise ModelError(
            f"{purpose} needs a speech card, and the model has none; add --card FILE, or give "
            "features instead of a manifest: an .npz file of arrays [frames, "
            f"{model.input_size}]"
        )
    utterances = read_manifest(manifest)
    check_audio(manifest, utterances)
    return utterances


def _check_budget(request: CompressRequest) -> None:
    asked = {"ratio": request.ratio, "size": request.size, "max_loss": request.max_loss}
    ways = [given is not None for given in (*asked.values(), request.recipe)]
    if sum([*ways, request.lossless]) != 1:
        raise RecipeError("give one of ratio, size, max_loss, recipe or lossless")
    if request.lossless and (request.finetune is not None or request.save_recipe is not None):
        raise RecipeError("a lossless file has no recipe and is not fine-tuned; leave that out")
    check_budget(asked)
    if request.effort not in get_args(Effort):
        known = ", ".join(get_args(Effort))
        raise RecipeError(f"effort is {request.effort!r}, expected one of {known}")
    check_normalize(request.normalize)


def _budget(request: CompressRequest, model: Model) -> float | None:
    """The bytes that a plan may have; None where they are not said."""
    if request.ratio is not None:
        return BYTES_A_PARAMETER * model.original_parameters / request.ratio
    return request.size


def _check_outputs(request: CompressRequest) -> None:
    named = [request.model, request.recipe, request.data, request.dev, request.finetune]
    inputs = [path for path in (*named, request.card) if isinstance(path, Path)]
    if isinstance(request.model, Path):
        inputs.append(card_path(request.model))
    outputs = {"the model": request.output, "the recipe": request.save_recipe}
    check_apart({what: path for what, path in outputs.items() if path is not None}, inputs)
    if request.output is not None:
        check_output(request.output, (".tvx",))
    if request.save_recipe is not None:
        check_output(request.save_recipe, (".yaml", ".yml"))
    if request.cache is not None:
        check_folder(request.cache)


def _check_space(request: CompressRequest, model: Model) -> None:
    """Room for the file and for what is kept meanwhile beside it."""
    if request.output is None:
        return
    original = BYTES_A_PARAMETER * model.original_parameters
    needed = request.size or int(original / (request.ratio or 1))
    if request.finetune is not None:
        needed += BYTES_A_TRAINED_PARAMETER * model.count_parameters()
    check_space(request.output, needed)


def _speech(request: CompressRequest, model: Model) -> tuple[Speech, Speech]:
    """Utterances that calibrate, and those that judge plans: other ones wherever there are any."""
    data = judging = None
    if request.data is not None:
        data = _read(request.data, model, "calibration with audio")
    if request.dev is not None:
        judging = _read(request.dev, model, "judging plans by speech")
        if isinstance(request.dev, Path) and not isinstance(judging, FeatureArrays):
            _warn_of_characters(request.dev, judging, model, request.normalize)
        elif request.finetune is not None:
            raise RecipeError("fine-tuning is judged on speech; give --dev MANIFEST, not features")
    elif data is not None and request.recipe is None:
        data, judging = _held_back(data, request.seed)
    if request.max_loss is not None:
        _check_words(request, judging if judging is not None else data, model)
    return data or (), judging or data or ()


def _read(source: Path | Sequence[Any], model: Model, purpose: str) -> Speech:
    """The utterances of a manifest, or the features in files or arrays."""
    if isinstance(source, Path) and not are_arrays(source):
        return read_speech(source, model, purpose)
    return read_arrays(source, model.input_size)


def _held_back(data: Speech, seed: int) -> tuple[Speech, Speech | None]:
    """What calibrates, and the fifth that judges; None where one utterance is all there is."""
    if isinstance(data, FeatureArrays):
        return data.split(HELD_BACK)
    return split_by_speaker(data, HELD_BACK, seed) if len(data) > 1 else (data, None)


def _check_words(request: CompressRequest, spoken: Speech | None, model: Model) -> None:
    """Raise RecipeError or DataError where no words are there to judge a loss on."""
    manifest = request.dev if request.dev is not None else request.data
    if spoken is None or isinstance(spoken, FeatureArrays) or not isinstance(manifest, Path):
        found = "" if spoken is None else ", and features have no words"
        raise RecipeError(f"a loss allowed has to be judged on speech{found}; give --dev MANIFEST")
    check_transcripts(manifest, spoken, "judging a loss")
    if request.dev is None:
        _warn_of_characters(manifest, spoken, model, request.normalize)


def _warn_of_characters(
    manifest: Path, utterances: Sequence[Utterance], model: Model, normalize: Normalize
) -> None:
    """They are errors in the original and in every plan, and hide what a plan costs."""
    references = [normalized(each.text, normalize) for each in utterances]
    if (unknown := unknown_characters(references, tokens_of(model))).counts:
        what = f"transcripts have characters that no token gives: {unknown}; {unknown.hint}"
        warnings.warn(f"{manifest}: {what}", DataWarning, stacklevel=2)


def _tunings(recipe: Recipe | None) -> list[FinetuneSettings]:
    """The settings of each fine-tuning; those that follow a plan where there is no recipe."""
    if recipe is None:
        return [FinetuneSettings()]
    tuned = [step.settings for step in recipe.steps]
    return [each for each in tuned if isinstance(each, FinetuneSettings)]


def _tuning(request: CompressRequest, model: Model, recipe: Recipe | None) -> Corpus | None:
    """The speech to fine-tune on, its transcripts checked against the card's tokens."""
    if request.finetune is None:
        return None
    corpus = open_corpus(training_config(request.finetune, model))
    check_teacher(model, model)  # the original teaches what is made of it
    for settings in _tunings(recipe):
        check_taught(corpus, settings)
    return corpus


def check_taught(corpus: Corpus, settings: FinetuneSettings) -> None:
    """Raise DataError for utterances that neither a transcript nor a teacher says anything of."""
    for source, utterances in zip(corpus.sources, corpus.kept, strict=True):
        written = [each for each in utterances if each.transcript is not None]
        if settings.ctc > 0 and (settings.distill == 0 or len(written) == len(utterances)):
            check_transcripts(source.manifest, utterances, "fine-tuning by CTC")


def untranscribed(corpus: Corpus, recipe: Recipe | None) -> list[Note]:
    """What is learned from the teacher alone, by manifest."""
    notes: list[Note] = []
    if not any(settings.ctc > 0 for settings in _tunings(recipe)):
        return notes
    for source, utterances in zip(corpus.sources, corpus.kept, strict=True):
        without = sum(each.transcript is None for each in utterances)
        if without:
            what = f"{without} of {len(utterances)} utterances have no transcript: "
            notes.append(Note(str(source.manifest), what + "distillation alone for them"))
    return notes


def training_config(data: Path, model: Model) -> TrainConfig:
    """A training configuration as it is, or a manifest with light augmentation.

    Raises ModelError where the model has no speech card, RecipeError for a faulty configuration.
    """
    if model.card is None:
        raise ModelError("fine-tuning needs a speech card, and the model has none; add --card FILE")
    if data.suffix.lower() in (".yaml", ".yml"):
        config, rate = load_config(data), model.card.features.sample_rate
        if config.features.sample_rate != rate:
            raise RecipeError(
                f"{data}: features.sample_rate is {config.features.sample_rate}, expected {rate} "
                "as in the model's card"
            )
        return config
    return plain_config(data, model.card)

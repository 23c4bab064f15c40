"""From a compressed file to a better one of the same form and size."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tinyvox.calibration import Calibration
from tinyvox.errors import RecipeError
from tinyvox.formats import tvx
from tinyvox.importers import load
from tinyvox.model import LARGE, Coded, Model, card_path
from tinyvox.passes import Note
from tinyvox.passes.quantization import finalize
from tinyvox.progress import Progress, silent
from tinyvox.recipe import FinetuneSettings, Recipe
from tinyvox.speech import Corpus, Utterance
from tinyvox.storage import (
    cache_folder,
    check_apart,
    check_folder,
    check_output,
    check_space,
    describe,
)
from tinyvox.training import (
    FileSize,
    Tuned,
    check_teacher,
    form_rules,
    is_first,
    load_audio,
    open_corpus,
    smallest_size,
    tune,
)
from tinyvox.workflow.inputs import (
    BYTES_A_TRAINED_PARAMETER,
    check_taught,
    read_speech,
    training_config,
    untranscribed,
)
from tinyvox.workflow.request import CompressRequest

STEPS = 1000
"""Steps where neither they nor the minutes are given."""
AT_SIZE: dict[str, Any] = {
    "variants": 4,
    "truncate": 100,
    "batch_seconds": 160.0,
    "learning_rate": 1e-3,
}
"""How the command trains: settings that make a large model quick to train."""
TRIED = (0.25, 0.5, 1.0, 2.0)
"""Factors of the learning rate that are tried where none is given, and there is speech to judge
by."""
EVALUATIONS = 12


@dataclass(frozen=True)
class FinetuneRequest:
    """What to train on: a compressed `model` towards its `teacher`, the original, on `data`.

    `data` is a manifest or a training configuration. Transcripts that it has count by `ctc`, the
    outputs of the teacher by `distill`. `dev` is speech to judge by. The result has at most `size`
    bytes, by default as many as the model's own file. Training takes so many `minutes`, or `steps`.
    What is None has a default. `cache` is the folder of the teacher's outputs.
    """

    model: Model | Path
    teacher: Model | Path
    data: Path
    output: Path | None = None
    dev: Path | None = None
    size: int | None = None
    minutes: float | None = None
    steps: int | None = None
    ctc: float | None = None
    distill: float | None = None
    learning_rate: float | None = None
    card: Path | None = None
    cache: Path | None = None
    seed: int = 0


@dataclass(frozen=True)
class FinetuneResult:
    """The trained model, a note for everything that was done, and how it was trained."""

    model: Model
    notes: tuple[Note, ...]
    tuned: Tuned

    def summary(self) -> dict[str, Any]:
        """The facts that `finetune --json` prints besides those of the file."""
        scores = {
            str(step): {"cer": score[0], "divergence": score[1]}
            for step, score in self.tuned.scores.items()
        }
        facts = {"steps": self.tuned.steps, "learning_rate": self.tuned.learning_rate}
        return {**facts, "best_step": self.tuned.best_step, "evaluations": scores}


@dataclass(frozen=True)
class _Inputs:
    """What a request named, read."""

    model: Model
    teacher: Model
    corpus: Corpus
    dev: Sequence[Utterance]
    settings: FinetuneSettings
    size: FileSize


def run_finetune(request: FinetuneRequest, progress: Progress = silent) -> FinetuneResult:
    """Check all inputs, train, and write the model where there is an `output`.

    The same request goes on where it was interrupted, from a file beside the output, which is
    removed when that is written. Raises, in one line and before the work, the errors of a faulty
    input; DataError for speech that cannot be used, RecipeError where the model cannot become as
    small as asked, FileError where something cannot be written.
    """
    started = time.monotonic()
    inputs = _read(request)
    model, corpus = inputs.model, inputs.corpus
    assert model.card is not None  # training_config has seen to it
    short = load_audio(corpus, model.card, model, progress)
    notes = [Note(str(manifest), what) for manifest, what in short]
    notes += untranscribed(corpus, Recipe.of(inputs.settings))
    output = request.output
    state = None if output is None else output.with_name(f"{output.name}.finetune-1.pt")
    tuned = tune(
        model, inputs.settings, corpus, inputs.teacher, progress, state, Calibration.synthetic(),
        dev=inputs.dev, cache=request.cache, size=inputs.size, minutes=request.minutes,
        started=started,
    )  # fmt: skip
    if output is not None and state is not None and is_first():
        tvx.save(tuned.model, output)
        state.unlink(missing_ok=True)
    return FinetuneResult(tuned.model, (*notes, _note(tuned)), tuned)


def _note(tuned: Tuned) -> Note:
    said = f"fine-tuned for {tuned.steps} steps at a learning rate of {tuned.learning_rate:g}"
    if tuned.best_step is not None:
        rate, divergence = tuned.scores[tuned.best_step]
        said += f"; the weights are those of step {tuned.best_step}: divergence {divergence:.4g}"
        said += f", CER {100 * rate:.2f}%" if rate else ""
    return Note("all layers", said)


def _read(request: FinetuneRequest) -> _Inputs:
    """Everything that a request names, read and checked; audio itself is read later."""
    _check_numbers(request)
    _check_outputs(request)
    model = _opened(request.model, request.card)
    _check_small(request, model)
    teacher = _opened(request.teacher, request.card)
    if model.card is None and teacher.card is not None:
        model = model.with_card(teacher.card)
    corpus = open_corpus(training_config(request.data, model))
    check_teacher(model, teacher)
    settings = _settings(request, model, any_text(corpus))
    check_taught(corpus, settings)
    dev = () if request.dev is None else read_speech(request.dev, model, "judging by speech")
    limit = tvx.size(model) if request.size is None else request.size
    if request.output is not None:
        check_space(request.output, limit + BYTES_A_TRAINED_PARAMETER * model.count_parameters())
    precision = _precision(model)  # the matrices' errors were measured before they were trained
    size = FileSize(limit, lambda tuned: finalize(tuned, precision).with_provenance(errors={}))
    return _Inputs(model, teacher, corpus, dev, settings, size)


def any_text(corpus: Corpus) -> bool:
    """Whether some utterance has a transcript."""
    return any(each.transcript is not None for source in corpus.kept for each in source)


def command_settings(model: Model, dev: bool, text: bool, **given: Any) -> FinetuneSettings:
    """How the command trains a model: what is given and not None, else its defaults. `dev` says
    whether there is speech to judge by, `text` whether anything is transcribed.

    Raises RecipeError, in one line, for a value out of range.
    """
    given = {name: value for name, value in given.items() if value is not None}
    chosen = {**AT_SIZE, "steps": STEPS, "quantize": form_rules(model)}
    if dev:
        chosen["evaluations"] = EVALUATIONS
        chosen["rates"] = (1.0,) if "learning_rate" in given else TRIED
    if not text:
        chosen["ctc"] = 0.0
    try:
        return FinetuneSettings.model_validate({**chosen, **given})
    except ValidationError as error:
        raise RecipeError(describe(error, FinetuneSettings)) from None


def planned_settings(request: CompressRequest, model: Model, corpus: Corpus) -> FinetuneSettings:
    """How a model is trained after it was planned: a large one, and one without a transcript, as by
    the command."""
    if model.original_parameters <= LARGE and any_text(corpus):
        return FinetuneSettings()
    settings = command_settings(model, request.dev is not None, any_text(corpus), seed=request.seed)
    return settings.model_copy(update={"quantize": ()})


def _settings(request: FinetuneRequest, model: Model, text: bool) -> FinetuneSettings:
    names = ("steps", "ctc", "distill", "learning_rate", "seed")
    given = {name: getattr(request, name) for name in names}
    if request.ctc == 0 and request.distill == 0:
        raise RecipeError("ctc and distill are both 0: nothing would be learned; leave one out")
    if request.ctc and not text:
        raise RecipeError(
            f"{request.data}: no utterance has a transcript, which ctc needs; leave ctc out"
        )
    return command_settings(model, request.dev is not None, text, **given)


def _check_numbers(request: FinetuneRequest) -> None:
    if request.minutes is not None and request.steps is not None:
        raise RecipeError("give one of minutes or steps")
    if request.minutes is not None and not 0 < request.minutes < math.inf:
        raise RecipeError(f"minutes is {request.minutes:g}, expected a number above 0")
    if request.size is not None and request.size < 1:
        raise RecipeError(f"size is {request.size}, expected a whole number of bytes above 0")


def _check_small(request: FinetuneRequest, model: Model) -> None:
    """Raise RecipeError for a model that nothing made small, or cannot be as small as asked."""
    name = request.model if isinstance(request.model, Path) else "the model"
    coded = any(isinstance(leaf, Coded) for _, leaf in model.leaves())
    if model.provenance.get("quantized"):
        raise RecipeError(
            f"{name}: is a model as its tool quantized it; make it small first, by tinyvox "
            "compress --to-finetune"
        )
    if not coded and model.count_parameters() >= model.original_parameters:
        raise RecipeError(
            f"{name}: is not compressed; make it small first, by tinyvox compress --to-finetune"
        )
    if request.size is not None and request.size < (least := smallest_size(model)):
        raise RecipeError(
            f"size is {request.size:,}; {name} can be trained down to about {least:,} bytes; give "
            "a larger --size, or compress the original anew"
        )


def _check_outputs(request: FinetuneRequest) -> None:
    named = (request.model, request.teacher, request.data, request.dev, request.card)
    inputs = [path for path in named if isinstance(path, Path)]
    inputs += [
        card_path(each) for each in (request.model, request.teacher) if isinstance(each, Path)
    ]
    if request.output is not None:
        check_apart({"the model": request.output}, inputs)
        check_output(request.output, (".tvx",))
    check_folder(request.cache or cache_folder())


def _opened(model: Model | Path, card: Path | None) -> Model:
    opened = load(model, card) if isinstance(model, Path) else model
    opened.check_length()
    return opened


def _precision(model: Model) -> Any:
    """The type in which the vectors of a model fit."""
    half = all(bool((v.half().float() == v).all()) for _, v in model.vectors())
    return "float16" if half else "float32"

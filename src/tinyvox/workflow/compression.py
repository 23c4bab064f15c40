"""From a request to a small model: planned or by a recipe, then fine-tuned."""

from __future__ import annotations

import glob
import itertools
import warnings
from dataclasses import replace
from pathlib import Path

from tinyvox.calibration import (
    Calibration,
    FeatureArrays,
    OutputDivergence,
    divergence_on_audio,
)
from tinyvox.errors import DataWarning, RecipeError
from tinyvox.evaluation import lost_words
from tinyvox.model import Coded, Model, leaves
from tinyvox.passes import Finetune, Note, apply
from tinyvox.planner import Judge, Plan, find_plan, settings_of
from tinyvox.progress import Progress, silent
from tinyvox.recipe import (
    FinetuneSettings,
    QuantizeSettings,
    Recipe,
    first_match,
    save_recipe,
    with_finetune,
)
from tinyvox.training import finetune, load_audio, prepare_teacher
from tinyvox.workflow.comparison import Comparison
from tinyvox.workflow.description import left_float
from tinyvox.workflow.finetuning import planned_settings
from tinyvox.workflow.inputs import Inputs, read_inputs, untranscribed
from tinyvox.workflow.precision import with_fine_inputs, with_halves
from tinyvox.workflow.request import CompressRequest, CompressResult

DIVERGENCE_UTTERANCES, DIVERGENCE_FRAMES = 60, 20_000
"""Of features, what plans are judged on at most."""

RANDOM_ALONE = (
    "JUDGED ON RANDOM FEATURES ALONE, as there is neither a speech card nor data; on what the "
    "model really takes it may be far worse, so give --data FEATURES.npz"
)


def run(request: CompressRequest, progress: Progress = silent) -> CompressResult:
    """Check all inputs, then make the model small, and write it where there is an `output`.

    The model of a plan is the planner's own: nothing is computed twice. Deterministic by the seed
    of the request. What is kept beside the output while it works stays until the output is written.
    In the end original and result are run on the same features (`Comparison`). Warns where they are
    far apart; raises RecipeError where that is to be an error.
    Raises the errors of `read_inputs` before the work, DataError for speech to fine-tune on that
    cannot be used, RecipeError where no plan fits the budget or a step cannot be taken, and
    FileError where something cannot be written.
    """
    inputs = read_inputs(request)
    if request.lossless:
        result = CompressResult(inputs.model, None, _unchanged(inputs.model))
        return _saved(request, _compared(request, inputs, result))
    original = inputs.model
    inputs, left_out = _opened(inputs)
    if inputs.tuning is not None:
        assert inputs.model.card is not None  # read_inputs has seen to it
        short = load_audio(inputs.tuning, inputs.model.card, inputs.model, progress)
        left_out += [Note(str(manifest), what) for manifest, what in short]
        left_out += untranscribed(inputs.tuning, inputs.recipe)
    calibration = calibration_of(request, inputs, progress)
    plan = None
    recipe = inputs.recipe
    if recipe is None:
        plan = _planned(request, inputs, calibration, progress)
        recipe = plan.recipe
        if inputs.tuning is not None:
            recipe = with_finetune(recipe, planned_settings(request, inputs.model, inputs.tuning))
    tune = None
    if inputs.tuning is not None:
        tune = _finetuner(request, inputs, original, calibration, progress)
    made = None if plan is None else plan.model
    small, notes = apply(
        inputs.model, recipe, calibration=calibration, finetune=tune, made=made, progress=progress
    )
    result = CompressResult(small, recipe, (*left_out, *notes), plan)
    return _saved(request, _compared(request, inputs, result))


def _opened(inputs: Inputs) -> tuple[Inputs, list[Note]]:
    """The inputs with a model whose matrices can be changed, and what has to be said of that."""
    names = _coded_anew(inputs)
    if not names:
        return inputs, []
    model = inputs.model.dequantized(names).with_provenance(quantized=False)
    note = Note("all layers", "the original is quantized; its values are compressed")
    return replace(inputs, model=model), [note]


def prepare(request: CompressRequest, progress: Progress = silent) -> None:
    """Put into the request's cache what `run` would gather and keep there: the statistics of the
    calibration speech, and the outputs of the original for the speech to fine-tune on.

    Then several runs, at once or elsewhere, find them. Raises the errors of `run`.
    """
    inputs = read_inputs(request)
    original = inputs.model
    inputs, _ = _opened(inputs)
    if inputs.calibration and not isinstance(inputs.calibration, FeatureArrays):
        calibration_of(request, inputs, progress).of(inputs.model)
    if inputs.tuning is None:
        return
    assert inputs.model.card is not None  # read_inputs has seen to it
    load_audio(inputs.tuning, inputs.model.card, inputs.model, progress)
    for settings in _trainings(request, inputs):
        prepare_teacher(original, settings, inputs.tuning, request.cache, progress)


def _trainings(request: CompressRequest, inputs: Inputs) -> list[FinetuneSettings]:
    """The settings of every fine-tuning that a run would do."""
    assert inputs.tuning is not None
    if inputs.recipe is None:
        return [planned_settings(request, inputs.model, inputs.tuning)]
    steps = [step.settings for step in inputs.recipe.steps]
    return [each for each in steps if isinstance(each, FinetuneSettings)]


def _compared(request: CompressRequest, inputs: Inputs, result: CompressResult) -> CompressResult:
    """The result with as much precision as it needs, and its distance from the original.

    Warns of a result that is too far. Raises RecipeError instead where the request is strict.
    """
    comparison = Comparison.on(inputs.model, inputs.judging, request.seed)
    model = result.model
    notes: tuple[Note, ...] = ()
    if result.plan is None and result.recipe is not None and _only_quantizes(result.recipe):
        model, notes = with_halves(model, inputs.model, comparison)
    model, more = with_fine_inputs(model, comparison)
    distance = comparison.distance(model)
    if distance.too_far and request.strict:
        raise RecipeError(f"{distance.warning()}; nothing was written")
    if distance.too_far:
        warnings.warn(distance.warning(), DataWarning, stacklevel=2)
    if not (inputs.judging or model.card or request.lossless):
        warnings.warn(f"{RANDOM_ALONE}: {distance}", DataWarning, stacklevel=2)
    notes = (*result.notes, *notes, *more)
    shapes = {name: matrix.shape for name, matrix in inputs.model.matrices()}
    return replace(result, model=model, notes=notes, distance=distance, shapes=shapes)


def _only_quantizes(recipe: Recipe) -> bool:
    return all(step.name == "quantize" for step in recipe.steps)


def _coded_anew(inputs: Inputs) -> set[str]:
    """The matrices whose codes give way to new ones: all that another tool coded or that a plan
    chooses for, and those of our own that the recipe codes."""
    recipe, foreign = inputs.recipe, inputs.model.provenance.get("quantized")
    return {
        name
        for name, matrix in inputs.model.matrices()
        if any(isinstance(leaf, Coded) for leaf in leaves(matrix))
        and (recipe is None or foreign or _codes(recipe, name))
    }


def _codes(recipe: Recipe, name: str) -> bool:
    """Whether a step quantizes the matrix. Coding while it is tuned begins with its codes."""
    steps = (step.settings for step in recipe.steps)
    return any(
        first_match(settings.in_order(), name) is not None
        for settings in steps
        if isinstance(settings, QuantizeSettings)
    )


def _saved(request: CompressRequest, result: CompressResult) -> CompressResult:
    """The result, written where the request has an output, and its recipe where it has a place."""
    if request.save_recipe is not None and result.recipe is not None:
        save_recipe(result.recipe, request.save_recipe)
    if request.output is not None:
        result.save(request.output)
        _remove_states(request.output)
    return result


def _unchanged(model: Model) -> tuple[Note, ...]:
    """What keeps the bytes of a model whose weights do not change."""
    dense = left_float(model)
    notes = [Note("all layers", "no weight was changed")]
    if len(dense) < len(list(model.matrices())):
        notes.append(Note("all layers", "the codes of the original are kept"))
    notes += [Note(name, "float32 in the original, so hardly smaller now") for name in dense]
    return tuple(notes)


def calibration_of(
    request: CompressRequest, inputs: Inputs, progress: Progress = silent
) -> Calibration:
    """What shows how the model is used: the request's speech, or else synthetic speech."""
    if isinstance(inputs.calibration, FeatureArrays):
        return Calibration.from_batches(inputs.calibration.batches(), seed=request.seed)
    if not inputs.calibration:
        parameters = inputs.model.count_parameters()
        amount = settings_of(request.effort, parameters).calibration
        return Calibration.synthetic(request.seed, amount, progress=progress)
    return Calibration.from_audio(inputs.calibration, cache=request.cache, progress=progress)


def _planned(
    request: CompressRequest, inputs: Inputs, calibration: Calibration, progress: Progress
) -> Plan:
    """The plan for the request's budget; a search that was interrupted goes on from its file."""
    state = _beside(request.output, ".plan.json")
    return find_plan(
        inputs.model,
        ratio=request.ratio,
        size=request.size,
        max_loss=request.max_loss,
        judge=_judge(request, inputs),
        calibration=calibration,
        divergence=_divergence(inputs),
        effort=request.effort,
        to_finetune=request.to_finetune or request.finetune is not None,
        seed=request.seed,
        state=state,
        progress=progress,
    )


def _judge(request: CompressRequest, inputs: Inputs) -> Judge | None:
    if request.max_loss is None:
        return None
    assert not isinstance(inputs.judging, FeatureArrays)  # read_inputs has seen to it
    return lost_words(inputs.model, inputs.judging, request.normalize)


def _divergence(inputs: Inputs) -> OutputDivergence | None:
    """What plans are judged on: the request's speech; None for the planner's synthetic speech."""
    if isinstance(inputs.judging, FeatureArrays):
        some = inputs.judging.within(DIVERGENCE_UTTERANCES, DIVERGENCE_FRAMES)
        return OutputDivergence(inputs.model, some.batches())
    return divergence_on_audio(inputs.model, inputs.judging) if inputs.judging else None


def _finetuner(
    request: CompressRequest,
    inputs: Inputs,
    teacher: Model,
    calibration: Calibration,
    progress: Progress,
) -> Finetune:
    """Fine-tuning towards the original; every such step has its checkpoint, from which it goes on,
    or which has its result."""
    numbers, corpus = itertools.count(1), inputs.tuning
    dev = inputs.judging if request.dev is not None else ()
    assert not isinstance(dev, FeatureArrays)  # read_inputs has seen to it
    assert corpus is not None

    def tune(model: Model, settings: FinetuneSettings) -> Model:
        checkpoint = _beside(request.output, f".finetune-{next(numbers)}.pt")
        return finetune(
            model, settings, corpus, teacher, checkpoint=checkpoint, calibration=calibration,
            progress=progress, dev=dev, cache=request.cache,
        )  # fmt: skip

    return tune


def _beside(output: Path | None, suffix: str) -> Path | None:
    return None if output is None else output.with_name(output.name + suffix)


def _remove_states(output: Path) -> None:
    """Remove what was kept beside an output while it was made."""
    name = glob.escape(output.name)
    for state in (f"{name}.plan.json", f"{name}.finetune-*.pt"):
        for path in output.parent.glob(state):
            path.unlink(missing_ok=True)

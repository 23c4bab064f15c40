"""The steps of a recipe, taken one after the other.

Every pass has the shape `pass_(model, settings, statistics) -> Outcome` and changes nothing that it
was given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tinyvox.calibration import NO_STATISTICS, Calibration, Statistics
from tinyvox.errors import RecipeError
from tinyvox.model import Model, groups
from tinyvox.passes.checks import check_recipe
from tinyvox.passes.equalization import equalize
from tinyvox.passes.lowrank import factorize
from tinyvox.passes.outcome import Note, Outcome
from tinyvox.passes.pruning import prune, sparsify
from tinyvox.passes.quantization import finalize, quantize, relative_error
from tinyvox.progress import Progress, counted, silent
from tinyvox.recipe import (
    EqualizeSettings,
    FinetuneSettings,
    PruneSettings,
    QuantizeSettings,
    Recipe,
    Step,
)

PASSES: dict[str, Callable[[Model, Any, Statistics], Outcome]] = {
    "prune": prune,
    "equalize": equalize,
    "factorize": factorize,
    "sparsify": sparsify,
    "quantize": quantize,
}
"""The passes by their names in recipes, in the order in which they are best taken."""

Finetune = Callable[[Model, FinetuneSettings], Model]


def apply(
    model: Model,
    recipe: Recipe,
    *,
    calibration: Calibration | None = None,
    finetune: Finetune | None = None,
    made: Model | None = None,
    progress: Progress = silent,
) -> Outcome:
    """Take the steps of a recipe; `progress` is told of each step.

    `made`, where a planner has it already, is the model that the steps before the first fine-tuning
    make: only the steps from there on are taken then.

    `calibration` gives statistics of the model before the first pass, and again where a step has
    changed the inputs of matrices; without it, passes work without statistics.

    The provenance of the result has the recipe, the parameter count of the original, and the
    relative squared error of each matrix whose shape is the same as in the original. Where the
    recipe equalizes, the error is counted from the equalized matrix, which is the same function.

    Raises RecipeError, with the number of the step, for what a step cannot do; before anything is
    done, as `check_recipe` does, also where the recipe fine-tunes and `finetune` is None.
    """
    names = [step.name for step in recipe.steps]
    check_recipe(model, recipe, finetuned=finetune is not None)
    work = _Work(model, calibration, finetune)
    done = 0
    if made is not None:
        done = names.index("finetune") if "finetune" in names else len(names)
        work.go_on_from(made, recipe.steps[:done])
    left = recipe.steps[done:]
    for number, step in enumerate(counted(left, "compressing", progress), start=done + 1):
        try:
            work.take(step)
        except RecipeError as error:
            raise RecipeError(f"step {number} of the recipe: {error}") from None
    facts = provenance(work.original, work.model, recipe)
    return Outcome(work.model.with_provenance(**facts), tuple(work.notes))


class _Work:
    """A model on its way through a recipe."""

    def __init__(
        self, model: Model, calibration: Calibration | None, finetune: Finetune | None
    ) -> None:
        self.model = self.original = model
        self.notes: list[Note] = []
        self._calibration, self._finetune = calibration, finetune
        self._statistics: Statistics | None = None  # of the model as it is
        self._quantized: QuantizeSettings | None = None  # the last settings that were used

    def go_on_from(self, made: Model, steps: Sequence[Step]) -> None:
        """Begin with the model that these steps made, none of which equalizes."""
        self.model = made
        for step in steps:
            if isinstance(step.settings, QuantizeSettings):
                self._quantized = step.settings

    def take(self, step: Step) -> None:
        """Take one step."""
        settings = step.settings
        if isinstance(settings, FinetuneSettings):
            self._tune(settings)
            return
        outcome = PASSES[step.name](self.model, settings, self._known())
        self.model = outcome.model
        self.notes += outcome.notes
        if isinstance(settings, PruneSettings | EqualizeSettings):
            self._statistics = None  # inputs have other sizes or scales now
        if isinstance(settings, EqualizeSettings):
            self.original = self.model  # the same function in other numbers
        if isinstance(settings, QuantizeSettings):
            self._quantized = settings

    def _tune(self, settings: FinetuneSettings) -> None:
        assert self._finetune is not None
        before = self.model
        tuned = self._finetune(before, settings)
        self.model = finalize(tuned, self._quantized.vectors if self._quantized else "float32")
        self._statistics = None
        self.notes.append(Note("all layers", f"fine-tuned for {settings.steps} steps"))
        self.notes += _pruned_meanwhile(before, self.model) if settings.prune else ()

    def _known(self) -> Statistics:
        """The statistics of the model as it is."""
        if self._statistics is None:
            calibration = self._calibration
            self._statistics = calibration.of(self.model) if calibration else NO_STATISTICS
        return self._statistics


def provenance(original: Model, model: Model, recipe: Recipe) -> dict[str, Any]:
    """The facts about a recipe that are written into the model that it made."""
    return {
        "original_parameters": original.original_parameters,
        "recipe": recipe.document(),
        "errors": _errors(original, model),
    }


def _pruned_meanwhile(before: Model, after: Model) -> Iterator[Note]:
    for old, new in zip(groups(before), groups(after), strict=True):
        yield Note(old.name, f"kept {new.size} of {old.size} units while it was trained")


def _errors(original: Model, model: Model) -> dict[str, float]:
    """The relative squared error of every matrix that changed but not in shape, to three digits."""
    before = dict(original.matrices())
    return {
        name: float(f"{relative_error(before[name], matrix):.3g}")
        for name, matrix in model.matrices()
        if matrix is not before[name] and matrix.shape == before[name].shape
    }


def compress(
    model: Model,
    recipe: Recipe,
    *,
    calibration: Calibration | None = None,
    finetune: Finetune | None = None,
) -> Model:
    """The model of `apply`, without the notes."""
    return apply(model, recipe, calibration=calibration, finetune=finetune).model

"""Passes rewrite a model's matrices; `apply` takes a recipe's steps one after the other.

Every pass has the shape `pass_(model, settings, statistics) -> Outcome` and changes nothing that it
was given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tinyvox.calibration import Statistics, synthetic_statistics
from tinyvox.errors import RecipeError
from tinyvox.model import Model, groups
from tinyvox.passes.bias_correction import correct_biases
from tinyvox.passes.equalization import equalize
from tinyvox.passes.lowrank import factorize
from tinyvox.passes.outcome import Note, Outcome
from tinyvox.passes.pruning import prune, sparsify
from tinyvox.passes.quantization import finalize, quantize, relative_error
from tinyvox.recipe import (
    EqualizeSettings,
    FinetuneSettings,
    PruneSettings,
    QuantizeSettings,
    Recipe,
)

__all__ = [
    "PASSES", "Note", "Outcome", "apply", "compress", "correct_biases", "equalize", "factorize",
    "provenance", "prune", "quantize", "sparsify",
]  # fmt: skip

PASSES: dict[str, Callable[[Model, Any, Statistics], Outcome]] = {
    "prune": prune,
    "equalize": equalize,
    "factorize": factorize,
    "sparsify": sparsify,
    "quantize": quantize,
}
"""The passes by the name that recipes use, in the order in which they are best taken."""

Finetune = Callable[[Model, FinetuneSettings], Model]
Look = Callable[[Model], Statistics]


def apply(
    model: Model,
    recipe: Recipe,
    *,
    finetune: Finetune | None = None,
    look: Look = synthetic_statistics,
    progress: Callable[[str], None] | None = None,
) -> Outcome:
    """Take the steps of a recipe; `progress` is told of each one before it begins.

    `look` finds out what the matrices of a model are multiplied by, from audio for instance
    (`statistics_from_audio.statistics_from_audio`); it is asked again where a step changed that.

    The recipe, the parameter count of the original, and how far each matrix ended up from what it
    was (relative squared error, where its shape is the same; from what equalization made of it,
    which changes no function) go into the provenance. Raises
    RecipeError, with the step's number, for what a step cannot do, and before anything is done
    where the recipe fine-tunes and `finetune` is None.
    """
    names = [step.name for step in recipe.steps]
    if "finetune" in names and finetune is None:
        number = names.index("finetune") + 1
        raise RecipeError(f"step {number} of the recipe fine-tunes; give --finetune MANIFEST")
    original = model
    notes: list[Note] = []
    statistics: Statistics | None = None
    quantized: QuantizeSettings | None = None
    for number, step in enumerate(recipe.steps, start=1):
        if progress is not None:
            progress(f"step {number} of {len(names)}: {step.name}")
        settings = step.settings
        try:
            if isinstance(settings, FinetuneSettings):
                assert finetune is not None
                before, model, statistics = model, finetune(model, settings), None
                model = finalize(model, quantized.vectors if quantized else "float32")
                notes.append(Note("all layers", f"fine-tuned for {settings.steps} steps"))
                notes += _pruned_meanwhile(before, model) if settings.prune else ()
                continue
            if statistics is None:
                statistics = look(model)
            model, more = PASSES[step.name](model, settings, statistics)
        except RecipeError as error:
            raise RecipeError(f"step {number} of the recipe: {error}") from None
        if isinstance(settings, PruneSettings | EqualizeSettings):
            statistics = None  # inputs have other sizes or scales now
        if isinstance(settings, EqualizeSettings):
            original = model  # the same function in other numbers
        quantized = settings if isinstance(settings, QuantizeSettings) else quantized
        notes.extend(more)
    return Outcome(model.with_provenance(**provenance(original, model, recipe)), tuple(notes))


def provenance(original: Model, model: Model, recipe: Recipe) -> dict[str, Any]:
    """What is written into a model that a recipe made of another."""
    return {
        "original_parameters": original.original_parameters,
        "recipe": recipe.document(),
        "errors": _errors(original, model),
    }


def _pruned_meanwhile(before: Model, after: Model) -> Iterator[Note]:
    for old, new in zip(groups(before), groups(after), strict=True):
        yield Note(old.name, f"kept {new.size} of {old.size} units while it was trained")


def _errors(original: Model, model: Model) -> dict[str, float]:
    """Relative squared error of every matrix that changed and kept its shape, to three digits."""
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
    finetune: Finetune | None = None,
    look: Look = synthetic_statistics,
) -> Model:
    """The model that a recipe makes; `apply` tells besides what each step did."""
    return apply(model, recipe, finetune=finetune, look=look).model

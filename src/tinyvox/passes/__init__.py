"""Passes: each one rewrites the matrices of a model and returns a new model."""

from tinyvox.passes.bias_correction import correct_biases
from tinyvox.passes.checks import check_recipe
from tinyvox.passes.least_squares import UNWEIGHTED, Weighting, inner_second_moment, refit_left
from tinyvox.passes.moment_propagation import Normal, propagate_moments, rectified, through
from tinyvox.passes.outcome import Note, Outcome, check_patterns
from tinyvox.passes.recipe_steps import PASSES, Finetune, apply, compress, provenance

__all__ = [
    "Finetune",
    "Normal",
    "Note",
    "Outcome",
    "PASSES",
    "UNWEIGHTED",
    "Weighting",
    "apply",
    "check_patterns",
    "check_recipe",
    "compress",
    "correct_biases",
    "inner_second_moment",
    "propagate_moments",
    "provenance",
    "rectified",
    "refit_left",
    "through",
]

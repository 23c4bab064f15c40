"""Passes: each rewrites a model's matrices and returns a new model."""

from tinyvox.passes.apply import PASSES, Look, apply, compress, provenance
from tinyvox.passes.bias_correction import correct_biases
from tinyvox.passes.error_compensation import compensate, inner_second_moment, refit_left
from tinyvox.passes.moment_propagation import Normal, propagate_moments, rectified, through
from tinyvox.passes.outcome import Note, Outcome, check_patterns

__all__ = [
    "Look",
    "Normal",
    "Note",
    "Outcome",
    "PASSES",
    "apply",
    "check_patterns",
    "compress",
    "correct_biases",
    "compensate",
    "inner_second_moment",
    "propagate_moments",
    "provenance",
    "rectified",
    "refit_left",
    "through",
]

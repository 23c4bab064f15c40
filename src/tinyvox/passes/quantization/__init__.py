"""Quantization of matrices and vectors."""

from tinyvox.passes.quantization.coding import (
    code,
    code_leaf,
    finalize,
    quantize,
    relative_error,
    round_vectors,
    unbiased,
    with_all_levels,
)
from tinyvox.passes.quantization.sequential import SequentialFit

__all__ = [
    "SequentialFit",
    "code",
    "code_leaf",
    "quantize",
    "relative_error",
    "round_vectors",
    "finalize",
    "unbiased",
    "with_all_levels",
]

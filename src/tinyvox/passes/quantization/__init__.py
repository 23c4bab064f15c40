"""Quantization of matrices and vectors."""

from tinyvox.passes.quantization.coding import code, quantize
from tinyvox.passes.quantization.error_compensation import compensate
from tinyvox.passes.quantization.finalizing import (
    finalize,
    in_half,
    relative_error,
    round_vectors,
    with_all_levels,
)
from tinyvox.passes.quantization.leaf_coding import code_leaf, unbiased
from tinyvox.passes.quantization.sequential import SequentialFit

__all__ = [
    "SequentialFit",
    "code",
    "code_leaf",
    "compensate",
    "finalize",
    "in_half",
    "quantize",
    "relative_error",
    "round_vectors",
    "unbiased",
    "with_all_levels",
]

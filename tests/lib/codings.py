"""Every way to quantize a matrix, for tests that must hold for all codebooks and scales."""

from __future__ import annotations

import functools
from collections.abc import Callable

from torch import Tensor

from tinyvox.model import Coded, Model, leaf_map
from tinyvox.quantizers import MOST_TRELLIS_BITS, QUANTIZERS

BITS = (1, 2, 3, 4, 5, 8)


def _granularities(method: str) -> tuple[str | int | None, ...]:
    if "granularity" not in QUANTIZERS[method].options:
        return (None,)
    return ("tensor", 4) if method == "kmeans" else ("tensor", 4, "row")


def _coding(method: str, bits: int, granularity: str | int | None) -> Callable[[Tensor], Coded]:
    options = {} if granularity is None else {"granularity": granularity}
    return functools.partial(QUANTIZERS[method].quantize_values, bits=bits, **options)


CODINGS = {
    "-".join(str(part) for part in (method, bits, granularity) if part): _coding(
        method, bits, granularity
    )
    for method in QUANTIZERS
    for granularity in _granularities(method)
    for bits in BITS
    if method != "trellis" or bits <= MOST_TRELLIS_BITS
}
"""Functions from values, float32 [out, in], to codes."""


def coded(model: Model, code: Callable[[Tensor], Coded]) -> Model:
    """A model whose leaves are all quantized; factors that were shared still are."""
    change = leaf_map(lambda leaf: code(leaf.decode()))
    return model.map_matrices(lambda _, matrix: change(matrix))

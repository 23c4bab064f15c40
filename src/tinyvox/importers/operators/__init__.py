"""What each ATen operator does to streams: the one vocabulary into which every importer translates.

A handler takes a `Call` and gives the stream of the operator's result. Operators of other
frameworks are written in ATen's first (`importers.tape`), so that each is understood once.
"""

from collections.abc import Callable
from typing import Any

from tinyvox.importers.operators.activations import ACTIVATIONS
from tinyvox.importers.operators.arithmetic import ARITHMETIC
from tinyvox.importers.operators.axes import AXIS_OPERATORS
from tinyvox.importers.operators.call import Call, Carried, Unusable, canonical
from tinyvox.importers.operators.features import FEATURE_OPERATORS
from tinyvox.importers.operators.layers import LAYER_OPERATORS
from tinyvox.importers.operators.masks import MASKS
from tinyvox.importers.operators.norms import NORM_OPERATORS
from tinyvox.importers.operators.pooling import POOLING
from tinyvox.importers.operators.time import TIME_OPERATORS
from tinyvox.importers.operators.transposed import TRANSPOSED

OPERATORS: dict[str, Callable[[Call], Any]] = {
    **AXIS_OPERATORS,
    **FEATURE_OPERATORS,
    **LAYER_OPERATORS,
    **NORM_OPERATORS,
    **ARITHMETIC,
    **ACTIVATIONS,
    **TIME_OPERATORS,
    **POOLING,
    **TRANSPOSED,
    **MASKS,
}
"""The handler of every operator on signals, by the operator's name without overload."""

__all__ = ["OPERATORS", "Call", "Carried", "Unusable", "canonical"]

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
from tinyvox.importers.operators.layers import LAYER_OPERATORS
from tinyvox.importers.operators.masks import MASKS

OPERATORS: dict[str, Callable[[Call], Any]] = {
    **AXIS_OPERATORS,
    **LAYER_OPERATORS,
    **ARITHMETIC,
    **ACTIVATIONS,
    **MASKS,
}
"""The handler of every operator on signals, by the operator's name without overload."""

__all__ = ["OPERATORS", "Call", "Carried", "Unusable", "canonical"]

"""What each TensorFlow operator comes to in PyTorch's terms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tinyvox.errors import ImporterError
from tinyvox.importers import tensorflow as shared
from tinyvox.importers.tape import Value
from tinyvox.importers.tf_graph.arrays import ARRAYS
from tinyvox.importers.tf_graph.axes import AXES
from tinyvox.importers.tf_graph.constants import CONSTANTS
from tinyvox.importers.tf_graph.convolutions import CONVOLUTIONS
from tinyvox.importers.tf_graph.recurrent import RECURRENT
from tinyvox.importers.tf_graph.translation import Context, Translator

aten = torch.ops.aten


def _unary(target: Any) -> Translator:
    return lambda c: c.tape.apply(target, c.given(0))


def _same(c: Context) -> Any:
    return c.given(0)


def _fits(one: Any, two: Any) -> list[int]:
    """The shape that two operands make. Raises ImporterError where they do not fit, or where it is
    too large."""
    return shared.bounded(np.broadcast_shapes(tuple(one.shape), tuple(two.shape)))


def _binary(target: Any) -> Translator:
    def translate(c: Context) -> Any:
        _fits(c.given(0), c.given(1))
        return c.tape.apply(target, *shared.scalar_first(c.given(0), c.given(1)))

    return translate


def _commuting(target: Any) -> Translator:
    def translate(c: Context) -> Any:
        _fits(c.given(0), c.given(1))
        return c.tape.apply(target, *shared.signal_first(c.given(0), c.given(1)))

    return translate


def _subtract(c: Context) -> Any:
    _fits(c.given(0), c.given(1))
    return shared.difference(c.tape, c.given(0), c.given(1))


def _multiply(c: Context) -> Any:
    """A product; masks of frames that are all there change nothing."""
    one, two = shared.signal_first(c.given(0), c.given(1))
    same = _fits(one, two) == list(one.shape)
    if same and isinstance(one, Value) and isinstance(two, Tensor) and bool((two == 1).all()):
        return one
    return c.tape.apply(aten.mul.Tensor, *shared.scalar_first(c.given(0), c.given(1)))


def _sum(c: Context) -> Any:
    total = c.given(0)
    for other in c.inputs[1:]:
        _fits(total, other)
        total = c.tape.apply(aten.add.Tensor, total, other)
    return total


def _bias_add(c: Context) -> Any:
    if c.attribute("data_format").text == "NCHW":
        raise ImporterError("has channels first (NCHW), expected NHWC")
    return _binary(aten.add.Tensor)(c)


def _squared_difference(c: Context) -> Any:
    value = _subtract(c)
    return c.tape.apply(aten.mul.Tensor, value, value)


def _square(c: Context) -> Any:
    return c.tape.apply(aten.mul.Tensor, c.given(0), c.given(0))


def _matmul(c: Context) -> Any:
    one, two = c.given(0), c.given(1)
    if c.attribute("transpose_a").whole:
        one = c.tape.apply(aten.transpose.int, one, 0, 1)
    turned = bool(c.attribute("transpose_b").whole)
    if isinstance(two, Tensor) and two.ndim == 2:
        shared.bounded([*one.shape[:-1], two.shape[0 if turned else 1]])
        return c.tape.apply(aten.linear.default, one, two if turned else two.T, None)
    if turned:
        two = c.tape.apply(aten.transpose.int, two, -2, -1)
    return c.tape.apply(aten.matmul.default, one, two)


def _batch_matmul(c: Context) -> Any:
    one, two = c.given(0), c.given(1)
    if c.attribute("adj_x").whole:
        one = c.tape.apply(aten.transpose.int, one, -2, -1)
    if c.attribute("adj_y").whole:
        two = c.tape.apply(aten.transpose.int, two, -2, -1)
    if isinstance(two, Tensor) and two.ndim > 2 and two.shape[:-2].numel() == 1:
        two = two.reshape(two.shape[-2:])
    return c.tape.apply(aten.matmul.default, one, two)


def _softmax(target: Any) -> Translator:
    return lambda c: c.tape.apply(target, c.given(0), -1)


def _leaky_relu(c: Context) -> Any:
    slope = c.attribute("alpha").real if "alpha" in c.node.attributes else 0.2
    return c.tape.apply(aten.leaky_relu.default, c.given(0), slope)


def _reduced(target: Any, fold: Callable[..., Tensor]) -> Translator:
    def translate(c: Context) -> Any:
        keep, value = bool(c.attribute("keep_dims").whole), c.given(0)
        dims = c.numbers(1)
        if isinstance(value, Tensor):
            for dim in sorted((d % max(value.ndim, 1) for d in dims), reverse=True):
                value = fold(value, dim, keep)
            return value
        return c.tape.apply(target, value, dims, keep)

    return translate


OPERATORS: dict[str, Translator] = {
    **ARRAYS,
    **AXES,
    **CONSTANTS,
    **CONVOLUTIONS,
    **RECURRENT,
    "Abs": _unary(aten.abs.default),
    "Add": _binary(aten.add.Tensor),
    "AddN": _sum,
    "AddV2": _binary(aten.add.Tensor),
    "All": _reduced(aten.all.dim, torch.all),
    "Any": _reduced(aten.any.dim, torch.any),
    "BatchMatMul": _batch_matmul,
    "BatchMatMulV2": _batch_matmul,
    "BiasAdd": _bias_add,
    "CheckNumerics": _same,
    "Div": _binary(aten.div.Tensor),
    "Elu": _unary(aten.elu.default),
    "EnsureShape": _same,
    "Exp": _unary(aten.exp.default),
    "Identity": _same,
    "IdentityN": lambda c: tuple(c.inputs),
    "LeakyRelu": _leaky_relu,
    "Log": _unary(aten.log.default),
    "LogSoftmax": _softmax(aten.log_softmax.int),
    "LoopCond": _same,
    "MatMul": _matmul,
    "Max": _reduced(aten.amax.default, torch.amax),
    "Maximum": _commuting(aten.maximum.default),
    "Mean": _reduced(aten.mean.dim, torch.mean),
    "Min": _reduced(aten.amin.default, torch.amin),
    "Minimum": _commuting(aten.minimum.default),
    "Mul": _multiply,
    "Neg": _unary(aten.neg.default),
    "NextIteration": _same,
    "PlaceholderWithDefault": _same,
    "PreventGradient": _same,
    "Prod": _reduced(None, torch.prod),
    "ReadVariableOp": _same,
    "RealDiv": _binary(aten.div.Tensor),
    "Relu": _unary(aten.relu.default),
    "Relu6": lambda c: c.tape.apply(aten.hardtanh.default, c.given(0), 0.0, 6.0),
    "Selu": _unary(aten.selu.default),
    "Sigmoid": _unary(aten.sigmoid.default),
    "Snapshot": _same,
    "Softmax": _softmax(aten.softmax.int),
    "Softplus": _unary(aten.softplus.default),
    "Sqrt": _unary(aten.sqrt.default),
    "Square": _square,
    "SquaredDifference": _squared_difference,
    "StopGradient": _same,
    "Sub": _subtract,
    "Sum": _reduced(aten.sum.dim_IntList, torch.sum),
    "Tanh": _unary(aten.tanh.default),
}
"""What translates each operator, by its name."""

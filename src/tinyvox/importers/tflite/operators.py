"""What each TensorFlow Lite operator comes to in PyTorch's terms."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tinyvox.errors import ImporterError
from tinyvox.importers import tensorflow as shared
from tinyvox.importers.tflite.axes import AXES
from tinyvox.importers.tflite.constants import CONSTANTS
from tinyvox.importers.tflite.convolutions import CONVOLUTIONS
from tinyvox.importers.tflite.recurrent import RECURRENT
from tinyvox.importers.tflite.translation import Context, Translator

aten = torch.ops.aten


def _unary(target: Any) -> Translator:
    return lambda c: c.tape.apply(target, c.given(0))


def _same(c: Context) -> Any:
    return c.given(0)


def _dequantize(c: Context) -> Any:
    value = c.given(0)
    return value.float() if isinstance(value, Tensor) else value


def _binary(target: Any, options: str | None) -> Translator:
    def translate(c: Context) -> Any:
        value = c.tape.apply(target, *shared.scalar_first(c.given(0), c.given(1)))
        return value if options is None else c.activated(value, _fused(c, options))

    return translate


def _fused(c: Context, options: str) -> int:
    return int(c.options(options).FusedActivationFunction())


def _subtract(c: Context) -> Any:
    value = shared.difference(c.tape, c.given(0), c.given(1))
    return c.activated(value, _fused(c, "SubOptions"))


def _fully_connected(c: Context) -> Any:
    options = c.options("FullyConnectedOptions")
    if options.WeightsFormat():
        raise ImporterError("has shuffled weights, expected weights in rows")
    weight, bias, source = c.constant(1), c.optional(2), c.given(0)
    if len(source.shape) != 2 and not options.KeepNumDims():
        source = c.tape.apply(aten.reshape.default, source, [-1, weight.shape[1]])
    value = c.tape.apply(aten.linear.default, source, weight, bias)
    return c.activated(value, options.FusedActivationFunction())


def _batch_matmul(c: Context) -> Any:
    options = c.options("BatchMatMulOptions")
    one, two = c.given(0), c.given(1)
    if options.AdjX():
        one = c.tape.apply(aten.transpose.int, one, -2, -1)
    if options.AdjY():
        two = c.tape.apply(aten.transpose.int, two, -2, -1)
    if isinstance(two, Tensor) and two.ndim > 2 and two.shape[:-2].numel() == 1:
        two = two.reshape(two.shape[-2:])
    return c.tape.apply(aten.matmul.default, one, two)


def _softmax(target: Any) -> Translator:
    return lambda c: c.tape.apply(target, c.given(0), -1)


def _leaky_relu(c: Context) -> Any:
    return c.tape.apply(aten.leaky_relu.default, c.given(0), c.options("LeakyReluOptions").Alpha())


def _prelu(c: Context) -> Any:
    raise ImporterError("is not supported; export with LeakyReLU or ReLU")


def _gelu(c: Context) -> Any:
    how = "tanh" if c.options("GeluOptions").Approximate() else "none"
    return c.tape.apply(aten.gelu.default, c.given(0), approximate=how)


def _reduced(target: Any) -> Translator:
    def translate(c: Context) -> Any:
        keep = bool(c.options("ReducerOptions").KeepDims())
        return c.tape.apply(target, c.given(0), c.numbers(1), keep)

    return translate


def _while(c: Context) -> Any:
    """A loop, run round by round; what it counts must be constants."""
    options, values = c.options("WhileOptions"), list(c.inputs)
    while True:
        condition = c.run(options.CondSubgraphIndex(), values)[0]
        if not isinstance(condition, Tensor):
            raise ImporterError("loops as long as a signal says, expected a number of rounds")
        if not bool(condition):
            return tuple(values)
        values = list(c.run(options.BodySubgraphIndex(), values))


def _square(c: Context) -> Any:
    return c.tape.apply(aten.mul.Tensor, c.given(0), c.given(0))


def _squared_difference(c: Context) -> Any:
    apart = shared.difference(c.tape, c.given(0), c.given(1))
    return c.tape.apply(aten.mul.Tensor, apart, apart)


def _relu(high: float) -> Translator:
    return lambda c: c.tape.apply(aten.hardtanh.default, c.given(0), 0.0, high)


def _minimum(c: Context) -> Any:
    return c.tape.apply(aten.minimum.default, *shared.signal_first(c.given(0), c.given(1)))


def _maximum(c: Context) -> Any:
    return c.tape.apply(aten.maximum.default, *shared.signal_first(c.given(0), c.given(1)))


OPERATORS: dict[str, Translator] = {
    **AXES,
    **CONSTANTS,
    **CONVOLUTIONS,
    **RECURRENT,
    "ABS": _unary(aten.abs.default),
    "ADD": _binary(aten.add.Tensor, "AddOptions"),
    "BATCH_MATMUL": _batch_matmul,
    "DENSIFY": _same,
    "DEQUANTIZE": _dequantize,
    "DIV": _binary(aten.div.Tensor, "DivOptions"),
    "ELU": _unary(aten.elu.default),
    "EXP": _unary(aten.exp.default),
    "FULLY_CONNECTED": _fully_connected,
    "GELU": _gelu,
    "HARD_SWISH": _unary(aten.hardswish.default),
    "LEAKY_RELU": _leaky_relu,
    "LOG": _unary(aten.log.default),
    "LOGISTIC": _unary(aten.sigmoid.default),
    "LOG_SOFTMAX": _softmax(aten.log_softmax.int),
    "MAXIMUM": _maximum,
    "MEAN": _reduced(aten.mean.dim),
    "MINIMUM": _minimum,
    "MUL": _binary(aten.mul.Tensor, "MulOptions"),
    "NEG": _unary(aten.neg.default),
    "PRELU": _prelu,
    "QUANTIZE": _same,
    "REDUCE_MAX": _reduced(aten.amax.default),
    "RSQRT": _unary(aten.rsqrt.default),
    "SQUARED_DIFFERENCE": _squared_difference,
    "RELU": _unary(aten.relu.default),
    "RELU6": _relu(6.0),
    "RELU_0_TO_1": _relu(1.0),
    "RELU_N1_TO_1": lambda c: c.tape.apply(aten.hardtanh.default, c.given(0), -1.0, 1.0),
    "SOFTMAX": _softmax(aten.softmax.int),
    "SQRT": _unary(aten.sqrt.default),
    "SQUARE": _square,
    "SUB": _subtract,
    "SUM": _reduced(aten.sum.dim_IntList),
    "TANH": _unary(aten.tanh.default),
    "WHILE": _while,
}
"""What translates each operator, by its name."""

"""ONNX operators on each value alone, and those that reduce dimensions."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch._ops import OpOverload

from tinyvox.errors import ImporterError
from tinyvox.importers.onnx.operation import Given, Operation, aten, dimension, is_float, number
from tinyvox.importers.onnx.operators.plumbing import Translator
from tinyvox.importers.tape import Value


def unary(target: OpOverload) -> Translator:
    """An operator of one input."""
    return lambda op: op.apply(target, op.input(0))


def binary(target: OpOverload) -> Translator:
    """An operator of two inputs."""
    return lambda op: op.apply(target, op.input(0), op.input(1))


def variadic(target: OpOverload) -> Translator:
    """An operator of two inputs that takes any number; the signal comes first."""

    def translate(op: Operation) -> Given:
        inputs = [op.input(i) for i in range(len(op.inputs))]
        inputs.sort(key=lambda given: isinstance(given, Tensor))
        return functools.reduce(lambda a, b: op.apply(target, a, b), inputs)

    return translate


def multiply(op: Operation) -> Given:
    """`Mul`. What multiplies a product of integer weights is the scale of these."""
    one, two = op.input(0), op.input(1)
    for product, factor in ((one, two), (two, one)):
        if id(product) in op.findings.unscaled and isinstance(factor, Tensor):
            op.findings.scaled(factor)
            return op.findings.unscaled[id(product)](factor)
    return op.apply(aten.mul.Tensor, one, two)


def divide(op: Operation) -> Given:
    """`Div`; of whole numbers, without the rest."""
    one, two = op.input(0), op.input(1)
    if is_float(one):
        return op.apply(aten.div.Tensor, one, two)
    if isinstance(two, Tensor) and not two.is_floating_point() and bool((two == 0).any()):
        raise ImporterError("divides by 0")
    return op.apply(aten.div.Tensor_mode, one, two, rounding_mode="trunc")


def power(op: Operation) -> Given:
    """`Pow` with a constant exponent."""
    given, exponent = op.input(0), number(op.constant(1))
    if isinstance(given, Tensor) or exponent is None:
        return op.apply(aten.pow.Tensor_Tensor, given, op.constant(1))
    if exponent == 0.5:
        return op.apply(aten.sqrt.default, given)
    return op.apply(aten.pow.Tensor_Scalar, given, exponent)


def softsign(op: Operation) -> Given:
    """`Softsign`."""
    found: Given = op.findings.tape.activation("softsign", op.input(0))
    return found


def leaky_relu(op: Operation) -> Given:
    """`LeakyRelu(alpha)`."""
    return op.apply(aten.leaky_relu.default, op.input(0), op.get("alpha", 0.01))


def prelu(op: Operation) -> Given:
    """`PRelu(slope)`: one slope, one for each channel, or others."""
    given, slope = op.input(0), op.constant(1)
    channels = given.shape[1] if len(given.shape) > 1 else -1
    each = slope.ndim == len(given.shape) - 1 and slope.numel() == channels
    if slope.numel() == 1 or (each and slope.shape[0] == channels):
        return op.apply(aten.prelu.default, given, slope.flatten())
    below = op.apply(aten.relu.default, op.apply(aten.neg.default, given))
    above = op.apply(aten.relu.default, given)
    return op.apply(aten.sub.Tensor, above, op.apply(aten.mul.Tensor, below, slope))


def elu(op: Operation) -> Given:
    """`Elu(alpha)`."""
    return op.apply(aten.elu.default, op.input(0), op.get("alpha", 1.0))


def celu(op: Operation) -> Given:
    """`Celu(alpha)`."""
    return op.apply(aten.celu.default, op.input(0), op.get("alpha", 1.0))


def selu(op: Operation) -> Given:
    """`Selu(alpha, gamma)`."""
    alpha, gamma = op.get("alpha", 1.6732632423543772), op.get("gamma", 1.0507009873554805)
    return op.apply(aten.elu.default, op.input(0), alpha, gamma)


def gelu(op: Operation) -> Given:
    """`Gelu(approximate)`."""
    approximate = op.get("approximate", b"none").decode(errors="replace")
    return op.apply(aten.gelu.default, op.input(0), approximate=approximate)


def hard_sigmoid(op: Operation) -> Given:
    """`HardSigmoid(alpha, beta)`: `min(max(alpha x + beta, 0), 1)`."""
    alpha, beta = op.get("alpha", 0.2), op.get("beta", 0.5)
    given = op.input(0)
    if math.isclose(alpha, 1 / 6, rel_tol=1e-4) and beta == 0.5:
        return op.apply(aten.hardsigmoid.default, given)
    scaled = op.apply(aten.mul.Tensor, given, torch.tensor(alpha))
    moved = op.apply(aten.add.Tensor, scaled, torch.tensor(beta))
    return op.apply(aten.clamp.default, moved, 0.0, 1.0)


def clip(op: Operation) -> Given:
    """`Clip(min, max)`."""
    low = op.constant(1) if op.given(1) else op.attributes.get("min")
    high = op.constant(2) if op.given(2) else op.attributes.get("max")
    if low is None and high is None:
        return op.input(0)
    limits = [None if limit is None else float(limit) for limit in (low, high)]
    return op.apply(aten.clamp.default, op.input(0), *limits)


def softmax(target: OpOverload) -> Translator:
    """`Softmax(axis)`; before version 13 over all dimensions from the axis on."""

    def translate(op: Operation) -> Given:
        given = op.input(0)
        axis = dimension(given, op.get("axis", -1 if op.version >= 13 else 1))
        if op.version >= 13 or math.prod(given.shape[axis + 1 :]) == 1:
            return op.apply(target, given, axis, False)
        flat = op.reshape(given, [*given.shape[:axis], math.prod(given.shape[axis:])])
        return op.reshape(op.apply(target, flat, axis, False), given.shape)

    return translate


def reduction(target: Callable[[Operation, Given, list[int], bool], Given]) -> Translator:
    """An operator that reduces `axes`, all of them where none are given."""

    def translate(op: Operation) -> Given:
        given, axes, keep = op.input(0), op.axes(1), bool(op.get("keepdims", 1))
        if not axes:
            if op.get("noop_with_empty_axes", 0):
                return given
            axes = list(range(len(given.shape)))
        dims = sorted({dimension(given, axis) for axis in axes})
        if dims and isinstance(given, Value) and all(given.shape[dim] == 1 for dim in dims):
            kept = [n for i, n in enumerate(given.shape) if keep or i not in dims]
            return op.reshape(given, kept)
        return target(op, given, dims, keep)

    return translate


def _mean(op: Operation, given: Given, dims: list[int], keep: bool) -> Given:
    return op.apply(aten.mean.dim, given, dims, keep)


def _sum(op: Operation, given: Given, dims: list[int], keep: bool) -> Given:
    return op.apply(aten.sum.dim_IntList, given, dims, keep)


def _largest(op: Operation, given: Given, dims: list[int], keep: bool) -> Given:
    return op.apply(aten.amax.default, given, dims, keep)


def _smallest(op: Operation, given: Given, dims: list[int], keep: bool) -> Given:
    return op.apply(aten.amin.default, given, dims, keep)


def _product(op: Operation, given: Given, dims: list[int], keep: bool) -> Given:
    for dim in dims[::-1]:
        given = op.apply(aten.prod.dim_int, given, dim, keep)
    return given


def _length(op: Operation, given: Given, dims: list[int], keep: bool) -> Given:
    return op.apply(aten.linalg_vector_norm.default, given, 2, dims, keep)


def unit_length(op: Operation) -> Given:
    """`LpNormalization(axis, p)`, where p is 2."""
    if op.get("p", 2) != 2:
        raise ImporterError(f"has p {op.get('p', 2)}, expected 2")
    given = op.input(0)
    axis = dimension(given, op.get("axis", -1))
    length = op.apply(aten.linalg_vector_norm.default, given, 2, [axis], True)
    return op.apply(aten.div.Tensor, given, length)


def einsum(op: Operation) -> Given:
    """`Einsum(equation)`."""
    equation = op.get("equation", b"").decode(errors="replace")
    return op.apply(aten.einsum.default, equation, [op.input(i) for i in range(len(op.inputs))])


ARITHMETIC: dict[str, Translator] = {
    "Relu": unary(aten.relu.default),
    "Sigmoid": unary(aten.sigmoid.default),
    "Tanh": unary(aten.tanh.default),
    "Softplus": unary(aten.softplus.default),
    "Softsign": softsign,
    "Mish": unary(aten.mish.default),
    "HardSwish": unary(aten.hardswish.default),
    "HardSigmoid": hard_sigmoid,
    "LeakyRelu": leaky_relu,
    "PRelu": prelu,
    "Elu": elu,
    "Celu": celu,
    "Selu": selu,
    "Gelu": gelu,
    "Swish": unary(aten.silu.default),
    "Clip": clip,
    "Softmax": softmax(aten._softmax.default),
    "LogSoftmax": softmax(aten._log_softmax.default),
    "Neg": unary(aten.neg.default),
    "Abs": unary(aten.abs.default),
    "Exp": unary(aten.exp.default),
    "Log": unary(aten.log.default),
    "Sqrt": unary(aten.sqrt.default),
    "Reciprocal": unary(aten.reciprocal.default),
    "Floor": unary(aten.floor.default),
    "Ceil": unary(aten.ceil.default),
    "Round": unary(aten.round.default),
    "Sign": unary(aten.sign.default),
    "Erf": unary(aten.erf.default),
    "Not": unary(aten.logical_not.default),
    "Add": binary(aten.add.Tensor),
    "Sub": binary(aten.sub.Tensor),
    "Mul": multiply,
    "Div": divide,
    "Pow": power,
    "Mod": binary(aten.remainder.Tensor),
    "And": binary(aten.logical_and.default),
    "Or": binary(aten.logical_or.default),
    "Xor": binary(aten.logical_xor.default),
    "Equal": binary(aten.eq.Tensor),
    "Greater": binary(aten.gt.Tensor),
    "GreaterOrEqual": binary(aten.ge.Tensor),
    "Less": binary(aten.lt.Tensor),
    "LessOrEqual": binary(aten.le.Tensor),
    "Min": variadic(aten.minimum.default),
    "Max": variadic(aten.maximum.default),
    "Sum": variadic(aten.add.Tensor),
    "ReduceMean": reduction(_mean),
    "ReduceSum": reduction(_sum),
    "ReduceMax": reduction(_largest),
    "ReduceMin": reduction(_smallest),
    "ReduceProd": reduction(_product),
    "ReduceL2": reduction(_length),
    "LpNormalization": unit_length,
    "Einsum": einsum,
}
"""What translates each operator on single values, by its name."""

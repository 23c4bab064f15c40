"""ONNX operators that are layers with weights, other than recurrent ones."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tinyvox.errors import ImporterError
from tinyvox.importers.onnx.operation import Given, Operation, aten, dimension
from tinyvox.importers.onnx.operators.plumbing import Translator
from tinyvox.importers.tape import Value


def matmul(op: Operation) -> Given:
    """`MatMul`."""
    return product(op, op.input(0), op.input(1))


def product(op: Operation, one: Given, two: Given) -> Given:
    """The product of two matrices, of which one may depend on the model's input."""
    if isinstance(two, Tensor) and 2 < two.ndim <= len(one.shape) and two[..., 0, 0].numel() == 1:
        two = two.reshape(two.shape[-2:])
    if isinstance(one, Value) or isinstance(two, Tensor) or len(one.shape) != 2:
        return op.apply(aten.matmul.default, one, two)
    turned = op.apply(aten.transpose.int, two, -2, -1)
    found = op.apply(aten.matmul.default, turned, one.T)
    return op.apply(aten.transpose.int, found, -2, -1)


def gemm(op: Operation) -> Given:
    """`Gemm(alpha, beta, transA, transB)`."""
    one, two = op.input(0), op.constant(1)
    if op.get("transA", 0):
        one = op.apply(aten.transpose.int, one, 0, 1)
    weight = two if op.get("transB", 0) else two.T
    alpha, beta = op.get("alpha", 1.0), op.get("beta", 1.0)
    weight = weight if alpha == 1 else weight * alpha
    bias = op.optional(2)
    whole = isinstance(bias, Value) or (bias is not None and math.prod(bias.shape[:-1]) != 1)
    if bias is None or whole or weight.ndim != 2:
        found = op.apply(aten.linear.default, one, weight, None)
        if bias is None:
            return found
        scaled = bias if beta == 1 else op.apply(aten.mul.Tensor, bias, torch.tensor(beta))
        return op.apply(aten.add.Tensor, found, scaled)
    assert isinstance(bias, Tensor)
    bias = op.apply(aten.expand.default, bias.flatten() * beta, [weight.shape[0]])
    return op.apply(aten.linear.default, one, weight, bias)


def convolution(op: Operation) -> Given:
    """`Conv(auto_pad, dilations, group, pads, strides)`, of one or two dimensions."""
    return convolved(op, op.input(0), op.constant(1), op.constant(2) if op.given(2) else None)


def convolved(op: Operation, given: Given, weight: Tensor, bias: Tensor | None) -> Given:
    """The convolution of a signal. A dimension of size 1 under a kernel of 1 is left out."""
    rank = weight.ndim - 2
    if rank not in (1, 2) or len(given.shape) != rank + 2:
        raise ImporterError(
            f"convolves {list(given.shape)} with {list(weight.shape)}, "
            "expected one or two dimensions after batch and channels"
        )
    strides = _each(op, "strides", rank, 1)
    dilations = _each(op, "dilations", rank, 1)
    pads = _pads(op, given, weight, strides, dilations)
    flat = [i for i in range(rank) if given.shape[i + 2] == weight.shape[i + 2] == 1]
    if rank == 2 and flat and not any(pads[flat[0]]):
        kept = 1 - flat[0]
        shape = [*given.shape[:2], given.shape[kept + 2]]
        found = _convolution(
            op,
            op.reshape(given, shape),
            weight.squeeze(flat[0] + 2),
            bias,
            ([strides[kept]], [dilations[kept]], [pads[kept]]),
        )
        sizes = [*found.shape[:2], found.shape[2]]
        sizes.insert(flat[0] + 2, 1)
        return op.reshape(found, sizes)
    return _convolution(op, given, weight, bias, (strides, dilations, pads))


Settings = tuple[list[int], list[int], list[tuple[int, int]]]
"""Strides, dilations, padding before and after, of each dimension."""


def _convolution(
    op: Operation, given: Given, weight: Tensor, bias: Tensor | None, settings: Settings
) -> Given:
    strides, dilations, pads = settings
    own = [before for before, _ in pads]
    if any(before != after for before, after in pads):
        flat = [n for pair in pads[::-1] for n in pair]
        given = op.apply(aten.constant_pad_nd.default, given, flat, 0)
        own = [0] * len(pads)
    target = aten.conv1d.default if len(pads) == 1 else aten.conv2d.default
    group = op.get("group", 1)
    return op.apply(target, given, weight, bias, strides, own, dilations, group)


def _each(op: Operation, name: str, rank: int, default: int) -> list[int]:
    """A list of settings, one for each dimension."""
    found = op.integers(name) or [default] * rank
    if len(found) != rank or min(found) < 1:
        raise ImporterError(f"attribute {name} is {found}, expected {rank} numbers above 0")
    return found


def _pads(
    op: Operation, given: Given, weight: Tensor, strides: Sequence[int], dilations: Sequence[int]
) -> list[tuple[int, int]]:
    """The padding before and after each dimension."""
    rank, auto = len(strides), op.get("auto_pad", b"NOTSET").decode(errors="replace")
    if auto in ("NOTSET", ""):
        pads = op.integers("pads") or [0] * 2 * rank
        if len(pads) != 2 * rank or min(pads) < 0:
            raise ImporterError(f"pads by {pads}, expected {2 * rank} numbers of 0 or more")
        return list(zip(pads[:rank], pads[rank:], strict=True))
    if auto not in ("VALID", "SAME_UPPER", "SAME_LOWER"):
        raise ImporterError(f"attribute auto_pad is {auto!r}")
    found = []
    for i in range(rank):
        size, reach = given.shape[i + 2], dilations[i] * (weight.shape[i + 2] - 1) + 1
        total = max((-(-size // strides[i]) - 1) * strides[i] + reach - size, 0)
        less, more = total // 2, total - total // 2
        pair = (less, more) if auto == "SAME_UPPER" else (more, less)
        found.append((0, 0) if auto == "VALID" else pair)
    return found


def batch_norm(op: Operation) -> Given:
    """`BatchNormalization(epsilon)`, with its statistics fixed."""
    if op.get("training_mode", 0) or op.outputs > 1:
        raise ImporterError("is in training mode; export the model in evaluation mode")
    weight, bias, mean, variance = (op.constant(i) for i in range(1, 5))
    epsilon = op.get("epsilon", 1e-5)
    return op.apply(
        aten.batch_norm.default,
        *(op.input(0), weight, bias, mean, variance, False, 0.1, epsilon, False),
    )


def layer_norm(op: Operation) -> Given:
    """`LayerNormalization(axis, epsilon)`: the first output alone."""
    given = op.input(0)
    shape = list(given.shape)[dimension(given, op.get("axis", -1)) :]
    weight = op.constant(1).expand(shape)
    bias = op.constant(2).expand(shape) if op.given(2) else None
    epsilon = op.get("epsilon", 1e-5)
    return op.apply(aten.layer_norm.default, given, shape, weight, bias, epsilon, False)


def pooled(kind: str) -> Translator:
    """`GlobalAveragePool` or `GlobalMaxPool`: all dimensions after the channels to one step."""

    def translate(op: Operation) -> Given:
        given = op.input(0)
        dims = [i for i in range(2, len(given.shape)) if given.shape[i] != 1]
        if not dims:
            return given
        target = aten.mean.dim if kind == "mean" else aten.amax.default
        return op.apply(target, given, dims, True)

    return translate


def windowed(kind: str) -> Translator:
    """`MaxPool` or `AveragePool(auto_pad, ceil_mode, count_include_pad, kernel_shape, pads,
    strides)`, of one or two dimensions."""

    def translate(op: Operation) -> Given:
        given, kernel = op.input(0), op.integers("kernel_shape") or []
        rank = len(kernel)
        if rank not in (1, 2) or any(n != 1 for n in op.get("dilations", [])):
            raise ImporterError(
                f"pools windows of {kernel}, expected one or two sizes, no dilation"
            )
        strides = _each(op, "strides", rank, 1)
        pads = _pads(op, given, torch.empty(1, 1, *kernel, device="meta"), strides, [1] * rank)
        if any(before != after for before, after in pads):
            raise ImporterError(f"pads {pads} around windows, expected as much after as before")
        ceil = bool(op.get("ceil_mode", 0))
        settings = [kernel, strides, [before for before, _ in pads]]
        if kind == "max":
            target = aten.max_pool1d.default if rank == 1 else aten.max_pool2d.default
            return op.apply(target, given, *settings, [1] * rank, ceil)
        target = aten.avg_pool1d.default if rank == 1 else aten.avg_pool2d.default
        return op.apply(target, given, *settings, ceil, bool(op.get("count_include_pad", 0)))

    return translate


def instance_norm(op: Operation) -> Given:
    """`InstanceNormalization(epsilon)`: each channel by itself."""
    weight, bias = op.constant(1), op.constant(2)
    epsilon = op.get("epsilon", 1e-5)
    target = aten.instance_norm.default
    return op.apply(target, op.input(0), weight, bias, None, None, True, 0.0, epsilon, False)


def group_norm(op: Operation) -> Given:
    """`GroupNormalization(num_groups, epsilon)`, with factors for each channel or each group."""
    given, groups = op.input(0), op.get("num_groups", 1)
    channels = given.shape[1]
    weight, bias = (
        values.repeat_interleave(channels // len(values))
        for values in (op.constant(1), op.constant(2))
    )
    return op.apply(aten.group_norm.default, given, groups, weight, bias, op.get("epsilon", 1e-5))


def not_yet(op: Operation) -> Given:
    """A loop that is no recurrent operator."""
    raise ImporterError(
        "is a loop over operators, expected LSTM, GRU or RNN; export with an opset that has these"
    )


def fused_matmul(op: Operation) -> Given:
    """`FusedMatMul(alpha, transA, transB)` of ONNX Runtime."""
    one, two = op.input(0), op.input(1)
    if op.get("transA", 0):
        one = op.apply(aten.transpose.int, one, -2, -1)
    if op.get("transB", 0):
        two = op.apply(aten.transpose.int, two, -2, -1)
    alpha = op.get("alpha", 1.0)
    if alpha != 1 and isinstance(two, Tensor):
        two = two * alpha
    elif alpha != 1:
        raise ImporterError(f"has alpha {alpha}, expected 1")
    return product(op, one, two)


LAYERS: dict[str, Translator] = {
    "MatMul": matmul,
    "Gemm": gemm,
    "FusedMatMul": fused_matmul,
    "Conv": convolution,
    "BatchNormalization": batch_norm,
    "LayerNormalization": layer_norm,
    "GlobalAveragePool": pooled("mean"),
    "GlobalMaxPool": pooled("max"),
    "MaxPool": windowed("max"),
    "AveragePool": windowed("mean"),
    "InstanceNormalization": instance_norm,
    "GroupNormalization": group_norm,
    **dict.fromkeys(("Loop", "Scan"), not_yet),
}
"""What translates each operator with weights, by its name."""

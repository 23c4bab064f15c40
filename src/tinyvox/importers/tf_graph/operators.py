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
from tinyvox.importers.tf_graph.graph import FLOATS
from tinyvox.importers.tf_graph.recurrent import RECURRENT
from tinyvox.importers.tf_graph.translation import DEAD, Context, Translator, is_true

aten = torch.ops.aten
_BOOL = 10


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


def _reshape(c: Context) -> Any:
    shape = c.numbers(1)
    return c.given(0) if list(c.given(0).shape) == shape else _reshaped(c, shape)


def _reshaped(c: Context, shape: list[int]) -> Any:
    return c.tape.apply(aten.reshape.default, c.given(0), shape)


def _squeeze(c: Context) -> Any:
    value = c.given(0)
    dims = c.attribute("squeeze_dims").wholes or c.attribute("axis").wholes
    dims = dims or [i for i, size in enumerate(value.shape) if size == 1]
    return c.tape.apply(aten.squeeze.dims, value, dims)


def _expand_dims(c: Context) -> Any:
    return c.tape.apply(aten.unsqueeze.default, c.given(0), c.number(1))


def _transpose(c: Context) -> Any:
    return c.tape.apply(aten.permute.default, c.given(0), c.numbers(1))


def _strided_slice(c: Context) -> Any:
    """A slice of each dimension named, with new dimensions of size 1 among them."""
    value = c.given(0)
    names = ("begin_mask", "end_mask", "shrink_axis_mask", "new_axis_mask", "ellipsis_mask")
    begin_mask, end_mask, shrink, new, ellipsis = (c.attribute(n).whole for n in names)
    begin, end, steps = c.numbers(1), c.numbers(2), c.numbers(3)
    if ellipsis or max(map(len, (begin, end, steps))) > 8:
        return _with_ellipsis(c, ellipsis, new, shrink)
    for dim in range(len(begin)):
        if new >> dim & 1:
            value = c.tape.apply(aten.unsqueeze.default, value, dim)
    masks = shared.Masks(begin_mask | new, end_mask | new, shrink & ~new)
    steps = [1 if new >> i & 1 else step for i, step in enumerate(steps)]
    return shared.strided_slice(c.tape, value, begin, end, steps, masks)


def _with_ellipsis(c: Context, ellipsis: int, new: int, shrink: int) -> Any:
    """`x[..., newaxis]` and `x[..., a:b]`: an ellipsis, then one thing."""
    begin, end, steps = c.numbers(1), c.numbers(2), c.numbers(3)
    if ellipsis != 1 or len(begin) != 2 or shrink:
        raise ImporterError("slices with an ellipsis in the middle, expected plain slices")
    if new == 2:
        return c.tape.apply(aten.unsqueeze.default, c.given(0), -1)
    masks = (c.attribute(name).whole >> 1 & 1 for name in ("begin_mask", "end_mask"))
    start, stop = (None if m else n for m, n in zip(masks, (begin[1], end[1]), strict=True))
    return c.tape.apply(aten.slice.Tensor, c.given(0), -1, start, stop, steps[1])


def _slice(c: Context) -> Any:
    return shared.plain_slice(c.tape, c.given(0), c.numbers(1), c.numbers(2))


def _split(c: Context) -> Any:
    count, value, dim = c.attribute("num_split").whole, c.given(1), c.number(0)
    if count < 1 or value.shape[dim] % count:
        raise ImporterError(f"splits {list(value.shape)} in {count} parts along {dim}")
    return tuple(c.tape.apply(aten.split.Tensor, value, value.shape[dim] // count, dim))


def _split_sizes(c: Context) -> Any:
    return tuple(shared.split_sizes(c.tape, c.given(0), c.numbers(1), c.number(2)))


def _unpack(c: Context) -> Any:
    return tuple(c.tape.apply(aten.unbind.int, c.given(0), c.attribute("axis").whole))


def _pack(c: Context) -> Any:
    return c.tape.apply(aten.stack.default, list(c.inputs), c.attribute("axis").whole)


def _joined(axis: int) -> Translator:
    """Tensors joined along the dimension that input `axis` names."""

    def translate(c: Context) -> Any:
        dim = c.number(axis)
        parts = c.inputs[:-1] if axis == -1 else c.inputs[1:]
        there = [p for p in parts if not (isinstance(p, Tensor) and p.numel() == 0)]
        if len(there) == 1:
            return there[0]
        return c.tape.apply(aten.cat.default, there or list(parts), dim)

    return translate


def _gather(c: Context) -> Any:
    value, indices = c.given(0), c.constant(1)
    axis = c.number(2) if len(c.inputs) > 2 else 0
    if isinstance(value, Tensor):
        axis %= max(value.ndim, 1)
        shape = [*value.shape[:axis], *indices.shape, *value.shape[axis + 1 :]]
        shared.bounded(shape)
        return c.tape.apply(aten.index_select.default, value, axis, indices.flatten()).reshape(
            shape
        )
    if indices.numel() != 1:
        raise ImporterError(f"takes {indices.numel()} steps of a signal, expected one")
    index = int(indices) % max(value.shape[axis], 1)
    if indices.ndim == 0:
        return c.tape.apply(aten.select.int, value, axis, index)
    return c.tape.apply(aten.slice.Tensor, value, axis, index, index + 1)


def _gather_nd(c: Context) -> Any:
    """Single steps of the first dimensions, one set of them."""
    value, indices = c.given(0), c.constant(1)
    if indices.ndim < 1 or indices.numel() != indices.shape[-1]:
        raise ImporterError("takes several steps of a tensor, expected one")
    for index in indices.flatten().tolist():
        value = c.tape.apply(aten.select.int, value, 0, int(index))
    shape = [*indices.shape[:-1], *value.shape]
    return c.tape.apply(aten.reshape.default, value, shape)


def _pad(c: Context) -> Any:
    value = float(c.constant(2)) if len(c.inputs) > 2 else 0.0
    return shared.padded(c.tape, c.given(0), c.constant(1), value)


def _convolution(depthwise: bool) -> Translator:
    def translate(c: Context) -> Any:
        weight, source = c.constant(1), c.given(0)
        if weight.ndim != 4 or len(source.shape) != 4:
            raise ImporterError(f"has weights {list(weight.shape)} for {list(source.shape)}")
        height, width, channels, count = weight.shape
        if depthwise:
            shape = (channels * count, 1, height, width)
            turned = weight.permute(2, 3, 0, 1).reshape(shape).contiguous()
        else:
            turned = weight.permute(3, 2, 0, 1).contiguous()
        return _convolved(c, turned, channels if depthwise else 1)

    return translate


def _convolved(c: Context, weight: Tensor, groups: int) -> Any:
    padding, layout = c.attribute("padding").text, c.attribute("data_format").text
    if layout not in ("", "NHWC"):
        raise ImporterError(f"has the layout {layout!r}, expected NHWC")
    if padding not in ("SAME", "VALID"):
        raise ImporterError(f"pads {padding!r}, expected SAME or VALID")
    stride, dilation = _sides(c, "strides"), _sides(c, "dilations")
    convolution = shared.Convolution(stride, dilation, groups, padding == "SAME")
    return convolution.apply(c.tape, c.given(0), weight, None)


def _sides(c: Context, name: str) -> tuple[int, int]:
    """A setting for height and width, of four numbers."""
    given = c.attribute(name).wholes or [1, 1, 1, 1]
    if len(given) != 4 or not all(1 <= n <= 1 << 16 for n in given):
        raise ImporterError(f"has {name} {given}, expected four numbers from 1")
    return given[1], given[2]


def _batch_norm(c: Context) -> Any:
    """Batch norm as it runs: a factor and an offset for each channel, which come last."""
    if c.attribute("data_format").text not in ("", "NHWC"):
        raise ImporterError("has channels first (NCHW), expected NHWC")
    if "is_training" not in c.node.attributes or c.attribute("is_training").whole:
        raise ImporterError("normalizes by the batch (is_training); freeze the graph for inference")
    scale, offset, mean, variance = (c.constant(i).float() for i in range(1, 5))
    epsilon = c.attribute("epsilon").real if "epsilon" in c.node.attributes else 1e-4
    factor = scale / torch.sqrt(variance + epsilon)
    scaled = c.tape.apply(aten.mul.Tensor, c.given(0), factor)
    return c.tape.apply(aten.add.Tensor, scaled, offset - mean * factor)


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


def _folded(compute: Callable[..., Tensor]) -> Translator:
    def translate(c: Context) -> Any:
        values = [c.constant(i) for i in range(len(c.inputs))]
        for value in values[1:]:
            _fits(values[0], value)
        return compute(*values)

    return translate


def _filled(c: Context) -> Any:
    return c.constant(1).reshape(()).expand(shared.bounded(c.numbers(0))).clone()


def _like(number: int) -> Translator:
    def translate(c: Context) -> Any:
        return torch.full(shared.bounded(list(c.given(0).shape)), number, dtype=_dtype(c))

    return translate


def _dtype(c: Context) -> torch.dtype:
    kind = c.attribute("T").whole
    return torch.float32 if kind in FLOATS else torch.bool if kind == _BOOL else torch.int64


def _cast(c: Context) -> Any:
    value, kind = c.given(0), c.attribute("DstT").whole
    if isinstance(value, Tensor):
        whole = torch.bool if kind == _BOOL else torch.int64
        return value.to(torch.float32 if kind in FLOATS else whole)
    if kind not in FLOATS:
        raise ImporterError("rounds a signal to whole numbers, expected real ones")
    return value


def _chosen(c: Context) -> Any:
    return shared.chosen(c.constant(0), c.given(1), c.given(2))


def _switch(c: Context) -> Any:
    return (DEAD, c.given(0)) if is_true(c.given(1)) else (c.given(0), DEAD)


def _reverse(c: Context) -> Any:
    return c.tape.apply(aten.flip.default, c.given(0), c.numbers(1))


def _reverse_sequences(c: Context) -> Any:
    """Each utterance of a batch reversed, where all are as long as the longest."""
    value, dim = c.given(0), c.attribute("seq_dim").whole
    if not 0 <= dim < len(value.shape) or any(n != value.shape[dim] for n in c.numbers(1)):
        raise ImporterError(f"reverses {c.numbers(1)} frames of each utterance, expected all")
    return c.tape.apply(aten.flip.default, value, [dim])


def _broadcast_to(c: Context) -> Any:
    return c.tape.apply(aten.expand.default, c.given(0), shared.bounded(c.numbers(1)))


def _tile(c: Context) -> Any:
    return shared.tiled(c.tape, c.given(0), c.numbers(1))


def _shape(c: Context) -> Any:
    return torch.tensor(list(c.given(0).shape), dtype=torch.int64)


def _placeholder(c: Context) -> Any:
    raise ImporterError("needs a value that is no features; freeze the graph with it as a constant")


OPERATORS: dict[str, Translator] = {
    **ARRAYS,
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
    "BroadcastTo": _broadcast_to,
    "Cast": _cast,
    "CheckNumerics": _same,
    "Concat": _joined(0),
    "ConcatV2": _joined(-1),
    "Conv2D": _convolution(depthwise=False),
    "DepthwiseConv2dNative": _convolution(depthwise=True),
    "Div": _binary(aten.div.Tensor),
    "Elu": _unary(aten.elu.default),
    "EnsureShape": _same,
    "Equal": _folded(torch.eq),
    "Exp": _unary(aten.exp.default),
    "ExpandDims": _expand_dims,
    "Fill": _filled,
    "FloorDiv": _folded(lambda a, b: torch.div(a, b, rounding_mode="floor")),
    "FloorMod": _folded(torch.remainder),
    "FusedBatchNorm": _batch_norm,
    "FusedBatchNormV2": _batch_norm,
    "FusedBatchNormV3": _batch_norm,
    "Gather": _gather,
    "GatherNd": _gather_nd,
    "GatherV2": _gather,
    "Greater": _folded(torch.gt),
    "GreaterEqual": _folded(torch.ge),
    "Identity": _same,
    "IdentityN": lambda c: tuple(c.inputs),
    "LeakyRelu": _leaky_relu,
    "Less": _folded(torch.lt),
    "LessEqual": _folded(torch.le),
    "Log": _unary(aten.log.default),
    "LogSoftmax": _softmax(aten.log_softmax.int),
    "LogicalAnd": _folded(torch.logical_and),
    "LogicalNot": _folded(torch.logical_not),
    "LogicalOr": _folded(torch.logical_or),
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
    "NotEqual": _folded(torch.ne),
    "OnesLike": _like(1),
    "Pack": _pack,
    "Pad": _pad,
    "PadV2": _pad,
    "Placeholder": _placeholder,
    "PlaceholderWithDefault": _same,
    "PreventGradient": _same,
    "Prod": _reduced(None, torch.prod),
    "Range": lambda c: shared.counted(c.constant(0), c.constant(1), c.constant(2)),
    "Rank": lambda c: torch.tensor(len(c.given(0).shape)),
    "ReadVariableOp": _same,
    "RealDiv": _binary(aten.div.Tensor),
    "Relu": _unary(aten.relu.default),
    "Relu6": lambda c: c.tape.apply(aten.hardtanh.default, c.given(0), 0.0, 6.0),
    "Reshape": _reshape,
    "ReverseSequence": _reverse_sequences,
    "ReverseV2": _reverse,
    "Rsqrt": _folded(torch.rsqrt),
    "Select": _chosen,
    "SelectV2": _chosen,
    "Selu": _unary(aten.selu.default),
    "Shape": _shape,
    "Sigmoid": _unary(aten.sigmoid.default),
    "Size": lambda c: _shape(c).prod(),
    "Slice": _slice,
    "Snapshot": _same,
    "Softmax": _softmax(aten.softmax.int),
    "Softplus": _unary(aten.softplus.default),
    "Split": _split,
    "SplitV": _split_sizes,
    "Sqrt": _unary(aten.sqrt.default),
    "Square": _square,
    "SquaredDifference": _squared_difference,
    "Squeeze": _squeeze,
    "StopGradient": _same,
    "StridedSlice": _strided_slice,
    "Sub": _subtract,
    "Sum": _reduced(aten.sum.dim_IntList, torch.sum),
    "Switch": _switch,
    "Tanh": _unary(aten.tanh.default),
    "Tile": _tile,
    "Transpose": _transpose,
    "Unpack": _unpack,
    "ZerosLike": _like(0),
}
"""What translates each operator, by its name."""

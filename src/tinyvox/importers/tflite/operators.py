"""What each TensorFlow Lite operator comes to in PyTorch's terms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tinyvox.errors import ImporterError
from tinyvox.importers import tensorflow as shared
from tinyvox.importers.tflite.recurrent import RECURRENT
from tinyvox.importers.tflite.translation import Context, Rows, Translator

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


def _reshape(c: Context) -> Any:
    value = c.given(0)
    shape = c.numbers(1) if len(c.inputs) > 1 and c.inputs[1] is not None else None
    if shape is None:
        shape = [int(n) for n in c.options("ReshapeOptions").NewShapeAsNumpy()]
    return c.tape.apply(aten.reshape.default, value, shape)


def _squeeze(c: Context) -> Any:
    value = c.given(0)
    dims = c.options("SqueezeOptions").SqueezeDimsAsNumpy()
    chosen = [int(d) for d in dims] if not isinstance(dims, int) else []
    chosen = chosen or [i for i, size in enumerate(value.shape) if size == 1]
    return c.tape.apply(aten.squeeze.dims, value, chosen)


def _expand_dims(c: Context) -> Any:
    return c.tape.apply(aten.unsqueeze.default, c.given(0), c.numbers(1)[0])


def _transpose(c: Context) -> Any:
    return c.tape.apply(aten.permute.default, c.given(0), c.numbers(1))


def _strided_slice(c: Context) -> Any:
    value, options = c.given(0), c.options("StridedSliceOptions")
    if options.EllipsisMask() or options.NewAxisMask():
        raise ImporterError("slices with an ellipsis or a new axis, expected plain slices")
    masks = shared.Masks(options.BeginMask(), options.EndMask(), options.ShrinkAxisMask())
    return shared.strided_slice(c.tape, value, c.numbers(1), c.numbers(2), c.numbers(3), masks)


def _slice(c: Context) -> Any:
    value, begin, size = c.given(0), c.numbers(1), c.numbers(2)
    if isinstance(value, Rows):
        last = None if size[0] == -1 else begin[0] + size[0]
        return Rows(value.parts[begin[0] : last])
    return shared.plain_slice(c.tape, value, begin, size)


def _split(c: Context) -> Any:
    count = int(c.options("SplitOptions").NumSplits())
    value, dim = c.given(1), c.numbers(0)[0]
    return c.tape.apply(aten.split.Tensor, value, value.shape[dim] // max(count, 1), dim)


def _split_sizes(c: Context) -> Any:
    return shared.split_sizes(c.tape, c.given(0), c.numbers(1), c.numbers(2)[0])


def _unpack(c: Context) -> Any:
    return tuple(c.tape.apply(aten.unbind.int, c.given(0), c.options("UnpackOptions").Axis()))


def _pack(c: Context) -> Any:
    return c.tape.apply(aten.stack.default, list(c.inputs), c.options("PackOptions").Axis())


def _concatenate(c: Context) -> Any:
    options, parts = c.options("ConcatenationOptions"), list(c.inputs)
    if any(isinstance(part, Rows) for part in parts) and options.Axis() == 0:
        return Rows(tuple(row for part in parts for row in _rows(c, part)))
    whole = [_whole(c, part) for part in parts if not _is_empty(part)]
    value = c.tape.apply(aten.cat.default, whole, options.Axis())
    return c.activated(value, options.FusedActivationFunction())


def _is_empty(value: Any) -> bool:
    return isinstance(value, Rows) and not value.parts


def _whole(c: Context, value: Any) -> Any:
    return c.tape.apply(aten.cat.default, list(value.parts)) if isinstance(value, Rows) else value


def _rows(c: Context, value: Any) -> tuple[Any, ...]:
    """A tensor row by row."""
    if isinstance(value, Rows):
        return value.parts
    return tuple(c.tape.apply(aten.split.Tensor, value, 1, 0)) if value.shape[0] != 1 else (value,)


def _update(c: Context) -> Any:
    """One row of a tensor replaced."""
    target, row, start = c.given(0), _whole(c, c.given(1)), c.numbers(2)
    parts = list(_rows(c, target))
    if any(start[1:]) or row.shape[0] != 1 or not 0 <= start[0] < len(parts):
        raise ImporterError(f"changes {list(row.shape)} at {start}, expected one whole row")
    parts[start[0]] = row
    return Rows(tuple(parts))


def _gather(c: Context) -> Any:
    options, value, indices = c.options("GatherOptions"), c.given(0), c.constant(1)
    if indices.numel() != 1 or options.BatchDims():
        value = _whole(c, value)
        if isinstance(value, Tensor) and not options.BatchDims():
            return torch.index_select(value, options.Axis(), indices.flatten()).reshape(
                *value.shape[: options.Axis()], *indices.shape, *value.shape[options.Axis() + 1 :]
            )
        raise ImporterError(f"takes {indices.numel()} steps of a signal, expected one")
    index = int(indices)
    if isinstance(value, Rows) and options.Axis() == 0:
        picked = value.parts[index]
        return c.tape.apply(aten.squeeze.dim, picked, 0) if indices.ndim == 0 else picked
    value = _whole(c, value)
    if indices.ndim == 0:
        return c.tape.apply(aten.select.int, value, options.Axis(), index)
    return c.tape.apply(
        aten.slice.Tensor,
        value,
        options.Axis(),
        *shared.one_step(index, value.shape[options.Axis()]),
    )


def _pad(c: Context) -> Any:
    value = float(c.constant(2)) if len(c.inputs) > 2 else 0.0
    return shared.padded(c.tape, c.given(0), c.constant(1), value)


def _conv2d(c: Context) -> Any:
    options = c.options("Conv2DOptions")
    dilation = (options.DilationHFactor(), options.DilationWFactor())
    weight = c.constant(1).permute(0, 3, 1, 2).contiguous()
    return _convolved(c, options, weight, dilation, groups=1)


def _depthwise(c: Context) -> Any:
    options = c.options("DepthwiseConv2DOptions")
    dilation = (options.DilationHFactor(), options.DilationWFactor())
    weight = c.constant(1).permute(3, 0, 1, 2).contiguous()
    return _convolved(c, options, weight, dilation, groups=c.given(0).shape[3])


def _convolved(
    c: Context, options: Any, weight: Tensor, dilation: tuple[int, int], groups: int
) -> Any:
    stride = (options.StrideH(), options.StrideW())
    convolution = shared.Convolution(stride, dilation, groups, same=options.Padding() == 0)
    value = convolution.apply(c.tape, c.given(0), weight, c.optional(2))
    return c.activated(value, options.FusedActivationFunction())


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


def _shape(c: Context) -> Any:
    return torch.tensor(list(_whole(c, c.given(0)).shape), dtype=torch.int64)


def _fill(c: Context) -> Any:
    return torch.full(shared.bounded(c.numbers(0)), float(c.constant(1)))


def _range(c: Context) -> Any:
    return shared.counted(c.constant(0), c.constant(1), c.constant(2))


def _reverse(c: Context) -> Any:
    return c.tape.apply(aten.flip.default, c.given(0), c.numbers(1))


def _broadcast_to(c: Context) -> Any:
    return c.tape.apply(aten.expand.default, c.given(0), shared.bounded(c.numbers(1)))


def _tile(c: Context) -> Any:
    return shared.tiled(c.tape, c.given(0), c.numbers(1))


def _cast(c: Context) -> Any:
    value = c.given(0)
    return value.clone() if isinstance(value, Tensor) else value


def _compared(compare: Callable[[Tensor, Tensor], Tensor]) -> Translator:
    return lambda c: compare(c.constant(0), c.constant(1))


def _folded(compute: Callable[..., Tensor]) -> Translator:
    def translate(c: Context) -> Any:
        return compute(*(c.constant(i) for i in range(len(c.inputs))))

    return translate


def _chosen(c: Context) -> Any:
    return shared.chosen(c.constant(0), c.given(1), c.given(2))


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


def _relu(high: float) -> Translator:
    return lambda c: c.tape.apply(aten.hardtanh.default, c.given(0), 0.0, high)


def _minimum(c: Context) -> Any:
    return c.tape.apply(aten.minimum.default, *shared.signal_first(c.given(0), c.given(1)))


def _maximum(c: Context) -> Any:
    return c.tape.apply(aten.maximum.default, *shared.signal_first(c.given(0), c.given(1)))


OPERATORS: dict[str, Translator] = {
    **RECURRENT,
    "ABS": _unary(aten.abs.default),
    "ADD": _binary(aten.add.Tensor, "AddOptions"),
    "BATCH_MATMUL": _batch_matmul,
    "BROADCAST_TO": _broadcast_to,
    "CAST": _cast,
    "CONCATENATION": _concatenate,
    "CONV_2D": _conv2d,
    "DENSIFY": _same,
    "DEPTHWISE_CONV_2D": _depthwise,
    "DEQUANTIZE": _dequantize,
    "DIV": _binary(aten.div.Tensor, "DivOptions"),
    "DYNAMIC_UPDATE_SLICE": _update,
    "ELU": _unary(aten.elu.default),
    "EQUAL": _compared(torch.eq),
    "EXP": _unary(aten.exp.default),
    "EXPAND_DIMS": _expand_dims,
    "FILL": _fill,
    "FLOOR_DIV": _folded(lambda a, b: torch.div(a, b, rounding_mode="floor")),
    "FULLY_CONNECTED": _fully_connected,
    "GATHER": _gather,
    "GELU": _gelu,
    "GREATER": _compared(torch.gt),
    "GREATER_EQUAL": _compared(torch.ge),
    "HARD_SWISH": _unary(aten.hardswish.default),
    "LEAKY_RELU": _leaky_relu,
    "LESS": _compared(torch.lt),
    "LESS_EQUAL": _compared(torch.le),
    "LOG": _unary(aten.log.default),
    "LOGICAL_AND": _compared(torch.logical_and),
    "LOGICAL_NOT": _folded(torch.logical_not),
    "LOGICAL_OR": _compared(torch.logical_or),
    "LOGISTIC": _unary(aten.sigmoid.default),
    "LOG_SOFTMAX": _softmax(aten.log_softmax.int),
    "MAXIMUM": _maximum,
    "MEAN": _reduced(aten.mean.dim),
    "MINIMUM": _minimum,
    "MUL": _binary(aten.mul.Tensor, "MulOptions"),
    "NEG": _unary(aten.neg.default),
    "PACK": _pack,
    "PAD": _pad,
    "PADV2": _pad,
    "PRELU": _prelu,
    "QUANTIZE": _same,
    "RANGE": _range,
    "REDUCE_MAX": _reduced(aten.amax.default),
    "RELU": _unary(aten.relu.default),
    "RELU6": _relu(6.0),
    "RELU_0_TO_1": _relu(1.0),
    "RELU_N1_TO_1": lambda c: c.tape.apply(aten.hardtanh.default, c.given(0), -1.0, 1.0),
    "RESHAPE": _reshape,
    "REVERSE_V2": _reverse,
    "RSQRT": _folded(torch.rsqrt),
    "SELECT": _chosen,
    "SELECT_V2": _chosen,
    "SHAPE": _shape,
    "SLICE": _slice,
    "SOFTMAX": _softmax(aten.softmax.int),
    "SPLIT": _split,
    "SPLIT_V": _split_sizes,
    "SQRT": _unary(aten.sqrt.default),
    "SQUARE": _square,
    "SQUEEZE": _squeeze,
    "STRIDED_SLICE": _strided_slice,
    "SUB": _subtract,
    "SUM": _reduced(aten.sum.dim_IntList),
    "TANH": _unary(aten.tanh.default),
    "TILE": _tile,
    "TRANSPOSE": _transpose,
    "UNPACK": _unpack,
    "WHILE": _while,
    "ZEROS_LIKE": lambda c: torch.zeros(list(_whole(c, c.given(0)).shape)),
}
"""What translates each operator, by its name."""

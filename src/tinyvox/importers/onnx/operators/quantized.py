"""ONNX operators on quantized weights. Weights are dequantized, signals are not quantized.

What a dynamically quantized model does to its signals, `DynamicQuantizeLinear` and products of
integers, becomes the product of floats that it stands for: the signal stays as it is, with scale 1
and zero point 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from tinyvox.errors import ImporterError
from tinyvox.importers.onnx.operation import Given, Operation, aten, dimension
from tinyvox.importers.onnx.operators.layers import convolved, product
from tinyvox.importers.onnx.operators.plumbing import Translator
from tinyvox.importers.onnx.operators.recurrent import Weights, run
from tinyvox.importers.tape import Value

_ROUNDED = "the rounding of signals to integers is left out: signals are float32"


def quantize(op: Operation) -> Given:
    """`QuantizeLinear`: a signal stays as it is, a constant is rounded.

    Where the least code stands for 0, there is no value below 0: exporters leave a `Relu` before it
    out.
    """
    given = op.input(0)
    unsigned = not op.given(2) or op.constant(2).dtype == torch.uint8
    low, high = (0, 255) if unsigned else (-128, 127)
    if isinstance(given, Value):
        op.note(_ROUNDED)
        least = low == (int(op.constant(2).flatten()[0]) if op.given(2) else 0)
        return op.apply(aten.relu.default, given) if least else given
    scale, zero = _spread(op, given, op.constant(1)), _zero(op, given, 2)
    codes = (given / scale).round() + zero
    return codes.clamp(low, high).to(torch.uint8 if unsigned else torch.int8)


def dequantize(op: Operation) -> Given:
    """`DequantizeLinear(axis, block_size)`."""
    codes = op.input(0)
    if isinstance(codes, Value):
        return codes
    scale, zero = _spread(op, codes, op.constant(1)), _zero(op, codes, 2)
    _count(op, codes, op.constant(1))
    return (codes.float() - zero) * scale


def _zero(op: Operation, codes: Tensor, index: int) -> Tensor:
    if not op.given(index):
        return torch.zeros(())
    return _spread(op, codes, op.constant(index).float())


def _spread(op: Operation, codes: Tensor, values: Tensor) -> Tensor:
    """Scales or zero points of a tensor, an axis or blocks, so that they fit the codes."""
    if values.numel() == 1:
        return values.reshape(())
    axis = dimension(codes, op.get("axis", 1))
    block = op.get("block_size", 0)
    if block > 0 and values.ndim == codes.ndim:
        values = values.repeat_interleave(block, axis).narrow(axis, 0, codes.shape[axis])
    elif values.ndim == 1:
        values = values.reshape([-1 if i == axis else 1 for i in range(codes.ndim)])
    if np.broadcast_shapes(values.shape, codes.shape) != tuple(codes.shape):
        raise ImporterError(
            f"has scales of shape {list(values.shape)} for codes {list(codes.shape)}"
        )
    return values


def _count(op: Operation, codes: Tensor, scales: Tensor) -> None:
    """Note the size of a matrix, and its scales."""
    op.findings.parameters += codes.numel()
    op.findings.scaled(scales)


def quantize_dynamically(op: Operation) -> Sequence[Given]:
    """`DynamicQuantizeLinear`: the signal as it is, scale 1, zero point 0."""
    op.note(_ROUNDED)
    return op.input(0), torch.ones(()), torch.zeros((), dtype=torch.uint8)


def _codes(op: Operation, index: int, zero: int) -> Tensor:
    """Integer weights without their zero point, as floats."""
    codes = op.constant(index)
    op.findings.parameters += codes.numel()
    if not op.given(zero):
        return codes.float()
    point = op.constant(zero).float()
    return codes.float() - (point.reshape(()) if point.numel() == 1 else point)


def _signal(op: Operation, zero: int) -> Given:
    if not isinstance(op.input(0), Value) or (op.given(zero) and op.constant(zero).any()):
        raise ImporterError(
            "multiplies integers that no DynamicQuantizeLinear gave, expected its outputs"
        )
    return op.input(0)


def multiply_integers(op: Operation) -> Given:
    """`MatMulInteger`."""
    signal, codes = _signal(op, 2), _codes(op, 1, 3)
    return _unscaled(op, codes, lambda weight: product(op, signal, weight), [1, -1])


def convolve_integers(op: Operation) -> Given:
    """`ConvInteger`."""
    signal, codes = _signal(op, 2), op.constant(1)
    op.findings.parameters += codes.numel()
    shape = [-1, *[1] * (codes.ndim - 1)]
    point = op.constant(3).float().reshape(shape) if op.given(3) else 0.0
    return _unscaled(
        op, codes.float() - point, lambda weight: convolved(op, signal, weight, None), shape
    )


def _unscaled(
    op: Operation, codes: Tensor, multiply: Callable[[Tensor], Given], shape: list[int]
) -> Given:
    """The product with codes alone; a scale of the shape [out] or one number is told apart."""
    found = multiply(codes)

    def scaled(scale: Tensor) -> Given:
        flat = scale.flatten()
        rows = codes.shape[shape.index(-1)]
        if flat.numel() not in (1, rows):
            return op.apply(aten.mul.Tensor, found, scale)
        return multiply(codes * flat.reshape(shape if flat.numel() > 1 else []))

    op.findings.unscaled[id(found)] = scaled
    return found


def multiply_dynamically(op: Operation) -> Given:
    """`DynamicQuantizeMatMul` of ONNX Runtime: (A, B, scale, zero point, bias)."""
    op.note(_ROUNDED)
    codes = _codes(op, 1, 3)
    op.findings.scaled(op.constant(2))
    return _biased(op, product(op, op.input(0), codes * op.constant(2)), 4)


def multiply_scaled(op: Operation) -> Given:
    """`MatMulIntegerToFloat` of ONNX Runtime: (A, B, scales and zero points of both, bias)."""
    codes = _codes(op, 1, 5)
    op.findings.scaled(op.constant(3))
    return _biased(op, product(op, _signal(op, 4), codes * op.constant(3)), 6)


def _biased(op: Operation, given: Given, index: int) -> Given:
    if not op.given(index):
        return given
    return op.apply(aten.add.Tensor, given, op.constant(index))


def recur_dynamically(op: Operation) -> Sequence[Given]:
    """`DynamicQuantizeLSTM` of ONNX Runtime, whose weights lie transposed."""
    op.note(_ROUNDED)
    of_input, of_state = (_turned(op, index, scale) for index, scale in ((1, 8), (2, 10)))
    bias = op.constant(3) if op.given(3) else None
    peepholes = op.constant(7) if op.given(7) else None
    return run(op, "LSTM", Weights(of_input, of_state, bias, peepholes))


def _turned(op: Operation, index: int, scale: int) -> Tensor:
    """Weights [sides, inputs, gates * hidden] of one scale a side or a row, dequantized."""
    codes, scales = op.constant(index), op.constant(scale)
    point = op.constant(scale + 1).float()
    if codes.ndim != 3 or codes.shape[0] != scales.shape[0] or scales.ndim not in (1, 2):
        raise ImporterError(
            f"has weights {list(codes.shape)} with scales {list(scales.shape)}, "
            "expected [directions, inputs, gates] with a scale a direction or a gate"
        )
    _count(op, codes, scales)
    shape = [codes.shape[0], 1, -1]
    values = (codes.float() - point.reshape(shape)) * scales.reshape(shape)
    return values.transpose(1, 2).contiguous()


def multiply_packed(op: Operation) -> Given:
    """`MatMulNBits(K, N, bits, block_size)` of ONNX Runtime: codes packed in bytes, low bits first.

    B is [N, blocks, bytes of a block], with a scale and a zero point a block.
    """
    rows, columns = op.get("N", 0), op.get("K", 0)
    bits, block = op.get("bits", 4), op.get("block_size", 0)
    blocks = -(-columns // block) if block > 0 else 0
    codes, scales = op.constant(1), op.constant(2)
    whole = codes.numel() * 8 == rows * blocks * block * bits
    if bits not in (2, 4, 8) or not whole or not rows or scales.numel() != rows * blocks:
        raise ImporterError(
            f"has {codes.numel()} bytes and {scales.numel()} scales for a {rows} x {columns} "
            f"matrix of {bits} bits in blocks of {block}"
        )
    if op.given(4):
        raise ImporterError("has columns in another order (g_idx), expected none")
    values = _unpacked(codes.to(torch.uint8), bits, rows * blocks).float()
    values = (values - _points(op, bits, rows, blocks)) * scales.reshape(-1, 1)
    op.findings.parameters += rows * columns
    op.findings.scaled(scales)
    weight = values.reshape(rows, -1)[:, :columns].contiguous()
    return op.apply(
        aten.linear.default, op.input(0), weight, op.constant(5) if op.given(5) else None
    )


def _points(op: Operation, bits: int, rows: int, blocks: int) -> Tensor:
    """The zero point of each block, [rows * blocks, 1]."""
    if not op.given(3):
        return torch.full((1, 1), float(1 << (bits - 1)))
    points = op.constant(3)
    if not points.is_floating_point():
        points = _unpacked(points.to(torch.uint8), bits, rows)[:, :blocks]
    if points.numel() != rows * blocks:
        raise ImporterError(f"has {points.numel()} zero points, expected {rows * blocks}")
    return points.reshape(-1, 1).float()


def _unpacked(packed: Tensor, bits: int, rows: int) -> Tensor:
    """Codes of so many bits each, in rows of whole bytes."""
    if packed.numel() % rows:
        raise ImporterError(f"has {packed.numel()} bytes for {rows} rows")
    shifts = torch.arange(0, 8, bits)
    codes = (packed.reshape(rows, -1, 1).long() >> shifts) & ((1 << bits) - 1)
    return codes.reshape(rows, -1)


QUANTIZED: dict[str, Translator] = {
    "QuantizeLinear": quantize,
    "DequantizeLinear": dequantize,
    "DynamicQuantizeLinear": quantize_dynamically,
    "MatMulInteger": multiply_integers,
    "ConvInteger": convolve_integers,
    "DynamicQuantizeMatMul": multiply_dynamically,
    "MatMulIntegerToFloat": multiply_scaled,
    "DynamicQuantizeLSTM": recur_dynamically,
    "MatMulNBits": multiply_packed,
}
"""What translates each operator on quantized weights, by its name."""

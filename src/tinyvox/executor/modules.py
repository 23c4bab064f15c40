"""What every layer computes, in torch: the parameters of a layer, and its function."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tinyvox.errors import ModelError
from tinyvox.executor import windows
from tinyvox.executor.activations import activated
from tinyvox.executor.counts import frames_after
from tinyvox.executor.frames import Frames, combined, shortest
from tinyvox.executor.parametrize import Factors, Weight, WeightModule, weight_module
from tinyvox.executor.recurrent import elementwise_recurrence, recurrent
from tinyvox.model import Layer, Matrix, layers

OnTensor = Callable[[str, Tensor], None]
"""A callback: takes the name of a matrix and its inputs, or the gradients of its outputs."""


class LayerModule(nn.Module):
    """One layer: its tensors as parameters, under their dotted names with '/' for '.'."""

    _FIXED = ("mean", "variance", "limits")

    def __init__(self, layer: Layer, factors: Factors) -> None:
        super().__init__()
        self.layer = layer
        self.counted: Tensor | None = None  # the values that a layer norm uses, if not all
        self.truncation: int | None = None  # frames through which gradients flow back, if not all
        self.exact = False  # whether products are float32 also where autocast is on
        self.on_inputs: OnTensor | None = None
        self.on_gradients: OnTensor | None = None
        self.weights = nn.ModuleDict(
            {
                name.replace(".", "/"): weight_module(matrix, factors)
                for name, matrix in layer.matrices().items()
            }
        )
        self.biases = nn.ParameterDict(
            {
                name.replace(".", "/"): nn.Parameter(v.clone(), name not in self._FIXED)
                for name, v in layer.vectors().items()
            }
        )

    def forward(self, *inputs: Frames) -> Frames:
        """The output signal for these input signals."""
        return _RUN[type(self.layer)](self, *inputs)

    def report_inputs(self, name: str, inputs: Frames) -> None:
        """Give the inputs of a matrix, [total frames, in], to the callback, if there is one."""
        if self.on_inputs is not None:
            self.on_inputs(name, inputs.alive())

    def report_gradients(self, name: str, outputs: Frames) -> None:
        """Give the gradient of the outputs of a matrix to the callback, if there is one.

        That happens in the backward pass.
        """
        callback = self.on_gradients
        if callback is not None:
            hook = functools.partial(_report_gradient, callback, name, outputs.lengths)
            outputs.values.register_hook(hook)  # type: ignore[no-untyped-call]

    def weight(self, name: str) -> Weight:
        """The trainable matrix of this dotted field name."""
        return self.weights[name.replace(".", "/")]  # type: ignore[return-value]

    def vector(self, name: str) -> Tensor | None:
        """The parameter of this dotted field name; None where the layer has no such vector."""
        key = name.replace(".", "/")
        vector: Tensor | None = self.biases.get(key, None)
        return vector

    def tensors(
        self, read: Callable[[WeightModule], Matrix]
    ) -> Iterator[tuple[str, Matrix | Tensor]]:
        """The present matrices, made by `read`, and vectors, by dotted field name."""
        for key, weight in self.weights.items():
            yield key.replace("/", "."), read(weight)  # type: ignore[arg-type]
        for key, vector in self.biases.items():
            yield key.replace("/", "."), vector.detach().cpu().clone()


def _report_gradient(
    callback: OnTensor, name: str, lengths: Tensor | None, gradient: Tensor
) -> None:
    callback(name, Frames(gradient, lengths).alive())


def _linear(module: LayerModule, x: Frames) -> Frames:
    bias = module.vector("bias")
    module.report_inputs("weight", x)
    if module.truncation is not None and module.on_gradients is None:
        with torch.autocast(x.values.device.type, enabled=not module.exact and _autocasts(x)):
            inputs = x.values.float() if module.exact else x.values
            return Frames(module.weight("weight").apply_to(inputs, bias), x.lengths)
    y = Frames(module.weight("weight").apply_to(x.values), x.lengths)
    module.report_gradients("weight", y)
    return y if bias is None else y.map(lambda values: values + bias)


def _autocasts(x: Frames) -> bool:
    return torch.is_autocast_enabled(x.values.device.type)


def _conv1d(module: LayerModule, x: Frames) -> Frames:
    layer = module.layer
    assert isinstance(layer, layers.Conv1d)
    weight = module.weight("weight")()
    kernel = weight.view(weight.shape[0], -1, layer.kernel)
    padded = x.padded(*layer.padding)
    y = F.conv1d(
        padded.transpose(1, 2),
        kernel,
        module.vector("bias"),
        layer.stride,
        0,
        layer.dilation,
        layer.groups,
    )
    reach = layer.dilation * (layer.kernel - 1) + 1
    lengths = _lengths(layer, x)
    outputs = Frames(y.transpose(1, 2), lengths)
    if layer.groups == 1 and module.on_inputs is not None:
        patches = padded.unfold(1, reach, layer.stride)[..., :: layer.dilation]
        module.report_inputs("weight", Frames(patches.flatten(2), lengths))
        module.report_gradients("weight", outputs)
    return outputs


def _conv2d(module: LayerModule, x: Frames) -> Frames:
    layer = module.layer
    assert isinstance(layer, layers.Conv2d)
    weight = module.weight("weight")()
    padded = F.pad(x.padded(*layer.padding[:2]), layer.padding[2:])
    y = F.conv2d(
        padded.transpose(1, 2),
        weight.view(weight.shape[0], -1, *layer.kernel),
        module.vector("bias"),
        layer.stride,
        0,
        layer.dilation,
        layer.groups,
    )
    lengths = _lengths(layer, x)
    outputs = Frames(y.permute(0, 2, 3, 1), lengths)  # [batch, frames, bands, channels]
    if layer.groups == 1 and module.on_inputs is not None:
        image = padded.transpose(1, 2)
        patches = F.unfold(image, layer.kernel, layer.dilation, stride=layer.stride)
        patches = patches.view(*patches.shape[:2], *y.shape[2:]).permute(0, 2, 3, 1)
        module.report_inputs("weight", Frames(patches, lengths))
        module.report_gradients("weight", outputs)
    return outputs.map(lambda values: values.transpose(2, 3))


def _lengths(layer: layers.Layer, x: Frames) -> Tensor | None:
    return None if x.lengths is None else frames_after(layer, x.lengths)


def _batch_norm(module: LayerModule, x: Frames) -> Frames:
    layer = module.layer
    assert isinstance(layer, layers.BatchNorm)
    mean, variance, weight, bias = (module.vector(n) for n in layer.vectors())
    assert mean is not None
    assert variance is not None
    assert weight is not None
    assert bias is not None
    factor = weight / torch.sqrt(variance + layer.eps)
    offset = bias - mean * factor
    if x.values.ndim == 4:
        factor, offset = factor[:, None], offset[:, None]
    return x.map(lambda values: values * factor + offset)


def _layer_norm(module: LayerModule, x: Frames) -> Frames:
    layer = module.layer
    assert isinstance(layer, layers.LayerNorm)
    weight, bias, counted = module.vector("weight"), module.vector("bias"), module.counted
    assert weight is not None
    assert bias is not None
    if counted is None:
        return x.map(lambda v: _normalized(layer, v, weight, bias))
    inner = x.map(lambda v: v[..., counted]).map(
        lambda v: _normalized(layer, v, weight[counted], bias[counted])
    )
    return inner.map(lambda v: v.new_zeros(x.values.shape).index_copy(-1, counted, v))


def _normalized(layer: layers.LayerNorm, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A layer norm of values [..., size], whose groups are whole."""
    if layer.kind == "layer" and layer.groups == 1:
        return F.layer_norm(x, x.shape[-1:], weight, bias, layer.eps)
    grouped = x.reshape(*x.shape[:-1], layer.groups, -1)
    normalize = F.rms_norm if layer.kind == "rms" else F.layer_norm
    scaled = normalize(grouped, grouped.shape[-1:], eps=layer.eps).flatten(-2)
    return scaled * weight + bias


def _activation(module: LayerModule, x: Frames) -> Frames:
    layer = module.layer
    assert isinstance(layer, layers.Activation)
    limits, slopes = module.vector("limits"), module.vector("slopes")
    if module.truncation is not None and limits is None and layer.kind == "clipped_relu":
        top = float(layer.limit or 0)  # one pass for the gradient, which is zero at the limits too
        return x.map(lambda values: F.hardtanh(values, 0.0, top))
    return x.map(lambda values: activated(layer, values, limits, slopes))


def _context_window(module: LayerModule, x: Frames) -> Frames:
    layer = module.layer
    assert isinstance(layer, layers.ContextWindow)
    padded = x.padded(layer.left, layer.right)
    windows = padded.unfold(1, layer.left + 1 + layer.right, 1)  # [batch, frames, size, window]
    return Frames(windows.transpose(2, 3).flatten(2), x.lengths)


def _frame_stacking(module: LayerModule, x: Frames) -> Frames:
    layer = module.layer
    assert isinstance(layer, layers.FrameStacking)
    windows = x.values.unfold(1, layer.count, layer.stride)
    return Frames(windows.transpose(2, 3).flatten(2), _lengths(layer, x))


def _subsample(module: LayerModule, x: Frames) -> Frames:
    layer = module.layer
    assert isinstance(layer, layers.Subsample)
    return Frames(x.values[:, :: layer.factor], _lengths(layer, x))


def _unflatten(module: LayerModule, x: Frames) -> Frames:
    layer = module.layer
    assert isinstance(layer, layers.Unflatten)
    return x.map(lambda values: values.reshape(*values.shape[:2], layer.channels, -1))


def _slice(module: LayerModule, x: Frames) -> Frames:
    layer = module.layer
    assert isinstance(layer, layers.Slice)
    return x.map(lambda values: values[..., layer.start : layer.stop])


def _flatten(module: LayerModule, x: Frames) -> Frames:
    return x.map(lambda values: values.flatten(2))


def _add(module: LayerModule, *inputs: Frames) -> Frames:
    return combined(torch.add, inputs)


def _multiply(module: LayerModule, *inputs: Frames) -> Frames:
    return combined(torch.mul, inputs)


def _concat(module: LayerModule, *inputs: Frames) -> Frames:
    frames = min(x.values.shape[1] for x in inputs)
    joined = torch.cat([x.values[:, :frames] for x in inputs], dim=2)
    return Frames(joined, shortest(inputs))


def _reduce(module: LayerModule, x: Frames) -> Frames:
    layer = module.layer
    assert isinstance(layer, layers.Reduce)
    return x.reduced(layer.kind)


def _log_softmax(module: LayerModule, x: Frames) -> Frames:
    return x.map(lambda values: F.log_softmax(values, dim=-1))


def _embedding(module: LayerModule, x: Frames) -> Frames:
    layer, ids = module.layer, x.values[..., 0]
    assert isinstance(layer, layers.Embedding)
    if not torch.compiler.is_compiling():
        _check_ids(ids, layer.ids)
    values = F.embedding(ids.long(), module.weight("weight")())
    if x.values.requires_grad and not values.requires_grad:
        values.requires_grad_()  # gradients go no further, but those of what follows are asked for
    return Frames(values, x.lengths)


def _check_ids(ids: Tensor, count: int) -> None:
    """Raise ModelError for what is no id."""
    wrong = ids[(ids < 0) | (ids >= count) | (ids != ids.floor())]
    if wrong.numel():
        raise ModelError(
            f"token id {float(wrong[0]):g}, expected a whole number from 0 to {count - 1}"
        )


_RUN: dict[type[Layer], Callable[..., Frames]] = {
    layers.Linear: _linear,
    layers.Recurrent: recurrent,
    layers.Conv1d: _conv1d,
    layers.Conv2d: _conv2d,
    layers.BatchNorm: _batch_norm,
    layers.LayerNorm: _layer_norm,
    layers.Activation: _activation,
    layers.ContextWindow: _context_window,
    layers.FrameStacking: _frame_stacking,
    layers.Subsample: _subsample,
    layers.Slice: _slice,
    layers.Unflatten: _unflatten,
    layers.Flatten: _flatten,
    layers.Add: _add,
    layers.Multiply: _multiply,
    layers.Reduce: _reduce,
    layers.Concat: _concat,
    layers.Softmax: windows.softmax,
    layers.LogSoftmax: _log_softmax,
    layers.Pool: windows.pool,
    layers.Take: windows.take,
    layers.FrameUnstacking: windows.frame_unstacking,
    layers.Spread: windows.spread,
    layers.Embedding: _embedding,
    layers.ElementwiseRecurrence: elementwise_recurrence,
}

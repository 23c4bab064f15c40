"""Keras convolutions along time, with or without bands, and what is one of them in disguise."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from torch import Tensor

from tinyvox.errors import ImporterError
from tinyvox.importers.axis_operations import pad
from tinyvox.importers.keras.activations import activate
from tinyvox.importers.keras.call import Call, Outputs
from tinyvox.importers.keras.settings import Settings, pair, shown
from tinyvox.importers.layer_graph import ColumnOrder
from tinyvox.importers.pooling import pool
from tinyvox.importers.signal import Axes, Axis, Stream
from tinyvox.model import Conv1d, Conv2d, Dense, Linear


@dataclasses.dataclass(frozen=True)
class Kernel:
    """How a kernel moves along one axis."""

    size: int
    stride: int = 1
    dilation: int = 1

    @property
    def reach(self) -> int:
        """Steps from its first to its last value."""
        return (self.size - 1) * self.dilation + 1

    def padding(self, call: Call, steps: int) -> tuple[int, int]:
        """Zeros before and after so many steps. TensorFlow's rule: `same` depends on the steps."""
        mode = call.config.text("padding", "valid")
        if mode == "valid":
            return 0, 0
        if mode == "causal":
            return self.reach - 1, 0
        if mode != "same":
            raise ImporterError(f"padding is {mode!r}, expected valid, same or causal")
        return self._same(steps)

    def _same(self, steps: int) -> tuple[int, int]:
        total = max(self.reach - (steps % self.stride or self.stride), 0)
        return total // 2, total - total // 2

    def out(self, steps: int, padding: tuple[int, int]) -> int:
        """Steps of the output."""
        return (steps + sum(padding) - self.reach) // self.stride + 1

    def frames(self, call: Call, steps: int) -> tuple[int, int]:
        """Padding along time, right for as many numbers of frames as can be.

        With a stride, `same` begins elsewhere for other numbers of frames. Where it begins at the
        same place for all, zeros after the end that some numbers have too many change nothing.
        """
        if call.config.text("padding", "valid") != "same" or self.stride == 1:
            return self.padding(call, steps)
        found = [self._same(rest) for rest in range(self.stride)]
        if len({before for before, _ in found}) == 1:
            return found[0][0], max(after for _, after in found)
        call.note(
            f"padding 'same' with a stride of {self.stride} begins at another frame for other "
            f"numbers of frames; this is right for those that are {steps % self.stride} more than "
            f"a multiple of {self.stride}"
        )
        return self._same(steps)


def conv1d(call: Call) -> Outputs:
    """`Conv1D(filters, kernel_size, strides, padding, dilation_rate, groups, activation)`."""
    config, groups = call.config, call.config.count("groups", 1)
    filters, kernel = config.count("filters"), _kernel(call)
    stream, node, order, channels = _input(call, groups)
    if channels % groups:
        raise ImporterError(f"has {groups} groups for {channels} channels")

    def build() -> Conv1d:
        weight = _kernel_values(call, kernel.size, channels // groups, filters).permute(2, 1, 0)
        return _conv1d(call, kernel, stream, weight, _bias(call, filters), groups, order)

    return [_add_conv1d(call, stream, node, kernel, call.once(build, order, stream.shape))]


def depthwise(call: Call) -> Outputs:
    """`DepthwiseConv1D` and `SeparableConv1D`: a kernel for each channel, then a linear layer."""
    config, separable = call.config, call.kind == "SeparableConv1D"
    kernel, each = _kernel(call), config.count("depth_multiplier", 1)
    stream, node, order, channels = _input(call, 2)
    depth = channels * each

    def build() -> tuple[Conv1d, Linear | None]:
        weight = call.take("kernel", kernel.size, channels, each).permute(1, 2, 0)
        weight = weight.reshape(depth, 1, kernel.size)
        filters = config.count("filters") if separable else depth
        point = call.take("pointwise kernel", 1, depth, filters)[0].T if separable else None
        bias = _bias(call, filters)
        inner = None if separable else bias
        first = _conv1d(call, kernel, stream, weight, inner, channels, order)
        return first, None if point is None else Linear(Dense(point.contiguous()), bias)

    first, second = call.once(build, order, stream.shape)
    stream = _add_conv1d(call, stream, node, kernel, first, activated=second is None)
    if second is not None:
        stream = call.add(second, stream, "pointwise")
        axes = stream.with_axis(-1, Axis("feature", second.weight.shape[0]))
        stream = activate(call, stream.becomes(stream.node, axes), config.get("activation"), "act")
    return [stream]


def _kernel(call: Call) -> Kernel:
    """The kernel of a convolution along time, the last dimension but one."""
    sizes = ((k, d) for k, d in (("kernel_size", None), ("strides", 1), ("dilation_rate", 1)))
    return Kernel(*(call.config.counts(key, 1, default)[0] for key, default in sizes))


def _input(call: Call, groups: int) -> tuple[Stream, str, ColumnOrder, int]:
    """The input of a convolution in time, its flat node, the order of its columns, its channels."""
    stream = call.stream
    _check_format(call)
    if len(stream.axes) != 3 or not stream.is_time(1) or stream.backwards:
        raise ImporterError(f"runs along dimension 1 of {stream}, expected [batch, time, features]")
    node, order = call.graph.flat(stream, -1)
    if order is not None and groups > 1:
        raise ImporterError("a grouped convolution takes channels in the order of the layer before")
    return stream, node, order, call.graph.signals[node].size


def _check_format(call: Call) -> None:
    if call.config.text("data_format", "channels_last") != "channels_last":
        raise ImporterError("data_format is channels_first, expected channels_last")


def _bias(call: Call, size: int) -> Tensor | None:
    return call.take("bias", size) if call.config.flag("use_bias", True) else None


def _kernel_values(call: Call, *shape: int) -> Tensor:
    """The kernel [steps of one or two axes, in, out]. In Keras 1 with one axis more."""
    steps = shape[:-2]
    if call.importing.version == 1 and len(steps) == 1:
        values = call.take("kernel", *steps, 1, *shape[-2:])[:, 0]
    else:
        values = call.take("kernel", *shape)
    return values.flip(*range(len(steps))) if call.importing.flips_kernels else values


def _conv1d(
    call: Call,
    kernel: Kernel,
    stream: Stream,
    weight: Tensor,
    bias: Tensor | None,
    groups: int,
    order: ColumnOrder,
) -> Conv1d:
    """The layer for a weight [out, in / groups, kernel], the padding before it taken in."""
    weight = weight if order is None else weight[:, list(order)]
    matrix = Dense(weight.flatten(1).contiguous())
    padding = _around(stream.span, kernel.frames(call, stream.shape[1]))
    return Conv1d(matrix, bias, kernel.size, kernel.stride, kernel.dilation, padding, groups)


def _around(span: tuple[int, int], padding: tuple[int, int]) -> tuple[int, int]:
    """The convolution's own padding along time, and that of its input."""
    if span[0] > 0 or span[1] < 0:
        raise ImporterError(f"a convolution over cut frames {span} is not supported, expected all")
    return padding[0] - span[0], padding[1] + span[1]


def _add_conv1d(
    call: Call, stream: Stream, node: str, kernel: Kernel, layer: Conv1d, *, activated: bool = True
) -> Stream:
    frames = _frames(stream, kernel, layer.padding)
    axes = stream.with_axis(-1, Axis("feature", layer.weight.shape[0]))
    axes = _with_frames(axes, 1, frames)
    call.place("" if activated else "depthwise")
    stream = stream.becomes(call.graph.add(layer, node), axes)
    return activate(call, stream, call.config.get("activation"), "act") if activated else stream


def _frames(stream: Stream, kernel: Kernel, padding: tuple[int, int], dim: int = 1) -> int:
    """Frames of the output; the padding holds that of the input too."""
    steps = stream.shape[dim] - (stream.span[1] - stream.span[0])
    frames = kernel.out(steps, padding)
    if frames < 1:
        raise ImporterError(f"its kernel reaches over {kernel.reach} frames of {stream}")
    return frames


def _with_frames(axes: Axes, dim: int, frames: int) -> Axes:
    kept = (Axis("time", frames),) if frames > 1 else ()
    return (*axes[:dim], kept, *axes[dim + 1 :])


def conv2d(call: Call) -> Outputs:
    """`Conv2D`, along time and bands in either order."""
    config, stream = call.config, call.stream
    _check_format(call)
    time = 1 if len(stream.axes) == 4 and stream.is_time(1) else 2
    if len(stream.axes) != 4 or not stream.is_time(time) or stream.backwards:
        raise ImporterError(f"runs along {stream}, expected [batch, time, bands, channels]")
    sizes, strides = config.counts("kernel_size", 2), config.counts("strides", 2, 1)
    if config.count("groups", 1) != 1 or config.counts("dilation_rate", 2, 1) != (1, 1):
        raise ImporterError("convolutions of two dimensions with groups or dilation are not read")
    band = 3 - time
    node = call.graph.image(stream, 3, band)
    kernels = [Kernel(sizes[d - 1], strides[d - 1]) for d in (time, band)]
    filters, channels = config.count("filters"), stream.shape[3]

    def build() -> Conv2d:
        weight = _kernel_values(call, *sizes, channels, filters)
        weight = weight.permute(3, 2, time - 1, band - 1)
        frames = _around(stream.span, kernels[0].frames(call, stream.shape[time]))
        bands = kernels[1].padding(call, stream.shape[band])
        return Conv2d(
            Dense(weight.flatten(1).contiguous()),
            _bias(call, filters),
            (kernels[0].size, kernels[1].size),
            (kernels[0].stride, kernels[1].stride),
            (*frames, bands[0] + stream.bands[0], bands[1] + stream.bands[1]),
        )

    layer: Conv2d = call.once(build, stream.shape)
    call.place()
    added = call.graph.add(layer, node)
    bands = call.graph.signals[added].shape[1]
    out = [stream.with_axis(3, Axis("feature", filters, 0))]
    out.append(dataclasses.replace(stream, axes=out[0]).with_axis(band, Axis("feature", bands, 1)))
    axes = _with_frames(out[1], time, _frames(stream, kernels[0], layer.padding[:2], time))
    return [activate(call, stream.becomes(added, axes), config.get("activation"), "act")]


def zero_padding(call: Call) -> Outputs:
    """`ZeroPadding1D(padding)` and `ZeroPadding2D(padding)`: the next convolution takes it in."""
    _check_format(call)
    stream, value = call.stream, call.config.get("padding")
    if call.kind == "ZeroPadding1D":
        return [pad(stream, 1, *pair(value, "padding"))]
    sides = value if isinstance(value, list) else [value, value]
    if len(sides) != 2:
        raise ImporterError(f"padding is {shown(value)}, expected two pairs")
    for dim, side in enumerate(sides, 1):
        stream = pad(stream, dim, *pair(side, "padding"))
    return [stream]


def _strides(config: Settings) -> bool:
    return "strides" in config and config.get("strides") is not None


def pooling(kind: str, rank: int) -> Callable[[Call], Outputs]:
    """The handler of `MaxPooling1D(pool_size, strides, padding)` and the like."""

    def handler(call: Call) -> Outputs:
        config = call.config
        if config.text("data_format", "channels_last") != "channels_last":
            raise ImporterError("data_format is channels_first, expected channels_last")
        kernel = config.counts("pool_size", rank, 2)
        stride = config.counts("strides", rank) if _strides(config) else kernel
        same = config.text("padding", "valid") == "same"
        if same and kernel != stride:
            raise ImporterError(
                f"pools {kernel} every {stride} with padding 'same', expected equal"
            )
        padding = [(0, size - 1 if same else 0) for size in kernel]
        call.place()
        inside = "mean_inside" if same and kind == "mean" else kind
        dims = range(1, 1 + rank)
        return [pool(call.graph, call.stream, inside, dims, kernel, stride, padding)]

    return handler


CONVOLUTIONS: dict[str, Callable[[Call], Outputs]] = {
    "Conv1D": conv1d,
    **dict.fromkeys(("DepthwiseConv1D", "SeparableConv1D"), depthwise),
    "Conv2D": conv2d,
    **dict.fromkeys(("ZeroPadding1D", "ZeroPadding2D"), zero_padding),
    **{f"AveragePooling{n}D": pooling("mean", n) for n in (1, 2)},
    **{f"MaxPooling{n}D": pooling("max", n) for n in (1, 2)},
}
"""The handler of every convolution, by its class."""

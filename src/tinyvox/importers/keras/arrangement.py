"""Keras layers that move axes, reduce time, or do nothing when a model is used."""

from __future__ import annotations

import math
from collections.abc import Callable

from tinyvox.errors import ImporterError
from tinyvox.importers.axis_operations import cut, permute, reshape
from tinyvox.importers.keras.call import Call, Outputs
from tinyvox.importers.keras.settings import pair, whole
from tinyvox.importers.reduction import reduced

_IN_TRAINING = "is used in training only, and left out"
_IGNORED = {
    **dict.fromkeys(
        (
            *("Dropout", "SpatialDropout1D", "SpatialDropout2D", "GaussianNoise"),
            *("GaussianDropout", "AlphaDropout", "ActivityRegularization"),
        ),
        _IN_TRAINING,
    ),
    "Masking": "padded frames are not masked: give each utterance its own frames alone",
    "InputLayer": "",
}


def ignored(call: Call) -> Outputs:
    """A layer that changes nothing when a model is used."""
    if _IGNORED[call.kind]:
        call.note(_IGNORED[call.kind])
    return [call.stream]


def reshaped(call: Call) -> Outputs:
    """`Reshape(target_shape)`."""
    stream = call.stream.unpadded()
    kept = stream.shape[: 2 if call.in_frames else 1]
    target = [whole(size, "target_shape", -1) for size in call.config.items("target_shape")]
    return [reshape(call.graph, stream, _filled_in(stream.shape, [*kept, *target]))]


def _filled_in(shape: tuple[int, ...], target: list[int]) -> list[int]:
    """The target with its one -1 as a number."""
    size, known = math.prod(shape), math.prod(s for s in target if s != -1)
    fits = known > 0 and size % known == 0 and target.count(-1) <= 1
    if not fits or (-1 not in target and size != known):
        raise ImporterError(f"target_shape {target} does not fit the shape {list(shape)}")
    return [size // known if s == -1 else s for s in target]


def flattened(call: Call) -> Outputs:
    """`Flatten()`, of the channels and bands of a frame."""
    stream = call.stream.unpadded()
    first = 2 if call.in_frames else 1
    if any(stream.is_time(dim) for dim in range(first, len(stream.axes))):
        raise ImporterError(
            f"joins all frames of {stream} into one, so that the model takes one number of frames "
            "alone; expected a layer for each frame, or a mean or maximum over the frames"
        )
    shape = [*stream.shape[:first], math.prod(stream.shape[first:])]
    return [reshape(call.graph, stream, shape)]


def permuted(call: Call) -> Outputs:
    """`Permute(dims)`, where the first dimension after the batch is 1."""
    rank = len(call.stream.axes)
    dims = [whole(dim, "dims") for dim in call.config.items("dims")]
    if sorted(dims) != list(range(1, rank)):
        raise ImporterError(f"dims are {dims}, expected the numbers from 1 to {rank - 1}")
    return [permute(call.stream, (0, *dims))]


def cropped(call: Call) -> Outputs:
    """`Cropping1D(cropping)`."""
    before, after = pair(call.config.get("cropping"), "cropping")
    stop = call.stream.shape[1] - after
    if stop <= before:
        raise ImporterError(f"cuts off {before} and {after} frames of {call.stream}")
    return [cut(call.graph, call.stream, 1, slice(before, stop))]


def pooled(kind: str) -> Callable[[Call], Outputs]:
    """The handler of a mean or maximum over all frames, by a kind of REDUCTIONS."""

    def handler(call: Call) -> Outputs:
        stream = call.stream
        if call.config.text("data_format", "channels_last") != "channels_last":
            raise ImporterError("data_format is channels_first, expected channels_last")
        dims = [d for d in range(1, len(stream.axes) - 1) if stream.axes[d]]
        if len(stream.axes) < 3:
            raise ImporterError(f"takes {stream}, expected [batch, time, features]")
        call.place()
        keep = call.config.flag("keepdims")
        result = reduced(call.graph, stream, kind, dims, True)
        last = len(result.axes) - 1
        axes = result.axes if keep else (result.axes[0], result.axes[last])
        return [result.becomes(result.node, axes)]

    return handler


def lambda_(call: Call) -> Outputs:
    """`Lambda`, which holds Python code."""
    raise ImporterError(
        "holds Python code, which is never run; build the model without it, copy the weights "
        "(set_weights) and save it again"
    )


ARRANGEMENT: dict[str, Callable[[Call], Outputs]] = {
    **dict.fromkeys(_IGNORED, ignored),
    "Reshape": reshaped,
    "Flatten": flattened,
    "Permute": permuted,
    "Cropping1D": cropped,
    **dict.fromkeys(("GlobalAveragePooling1D", "GlobalAveragePooling2D"), pooled("mean")),
    **dict.fromkeys(("GlobalMaxPooling1D", "GlobalMaxPooling2D"), pooled("max")),
    "Lambda": lambda_,
}
"""The handler of every layer that moves axes or does nothing, by its class."""

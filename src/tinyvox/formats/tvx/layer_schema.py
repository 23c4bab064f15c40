"""How each layer is stored: which of its fields, and in which order.

The classes are in the order of LayerKind in native/src/file.h, and the fields in the order of Node
there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tinyvox.model import FeatureKind, Layer, layers

LOG_PROBABILITIES, NORMALIZED, FLOORED = 1, 2, 4
"""Flags of the speech section."""
FEATURE_KINDS: tuple[FeatureKind, ...] = ("log_mel", "mfcc", "deepspeech_mfcc")
"""The kinds of features, by their number in the file."""


OLDEST, SHARING, PROJECTING, GATING = 2, 3, 4, 5
"""The oldest version of the format that is still written and read; the first versions with products
that share a factor, with projected LSTMs, and with what the layers and kinds below say."""
REPEAT = 255
"""The kind of a record in the file that stands for the very layer of an earlier record."""


@dataclass(frozen=True)
class LayerSchema:
    """The fields of a layer class, in the order of the file: integers, floats, tensors."""

    layer: type[Layer]
    tensors: tuple[str, ...] = ()
    ints: Mapping[str, int] = field(default_factory=dict)
    """How many numbers each field holds. A field of more than one is a tuple."""
    floats: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    """The texts that the numbers in the field `kind` stand for."""
    since: Mapping[str, int] = field(default_factory=dict)
    """The version of the format in which a tensor or a kind first appears, where that is not the
    oldest."""
    version: int = OLDEST
    """The version in which the layer first appears."""

    def version_of(self, layer: Layer) -> int:
        """The lowest version that can hold this layer."""
        fields = [*layer.matrices(), *layer.vectors(), *map(str, layer.settings().values())]
        return max([self.version, *(self.since.get(name, OLDEST) for name in fields)])


_CELL = ("weight_ih", "weight_hh", "bias", "bias_hn", "weight_hr")
_SIDES = ("forward", "backward")
_CELLS = tuple(f"{side}.{tensor}" for side in _SIDES for tensor in _CELL)
_SINCE = {f"{side}.weight_hr": PROJECTING for side in _SIDES}
LAYER_SCHEMAS = (
    LayerSchema(layers.Linear, ("weight", "bias")),
    LayerSchema(layers.Recurrent, _CELLS, {"kind": 1}, kinds=tuple(layers.GATES), since=_SINCE),
    LayerSchema(
        layers.Conv1d,
        ("weight", "bias"),
        {"kernel": 1, "stride": 1, "dilation": 1, "padding": 2, "groups": 1},
    ),
    LayerSchema(layers.Conv2d, ("weight", "bias"), {"kernel": 2, "stride": 2, "padding": 4}),
    LayerSchema(layers.BatchNorm, ("mean", "variance", "weight", "bias"), floats=("eps",)),
    LayerSchema(layers.LayerNorm, ("weight", "bias"), floats=("eps",)),
    LayerSchema(
        layers.Activation,
        ("limits", "slopes"),
        {"kind": 1},
        ("limit",),
        layers.ACTIVATIONS,
        {"slopes": GATING, **dict.fromkeys(layers.ACTIVATIONS[4:], GATING)},
    ),
    LayerSchema(layers.ContextWindow, (), {"left": 1, "right": 1}),
    LayerSchema(layers.FrameStacking, (), {"count": 1, "stride": 1}),
    LayerSchema(layers.Subsample, (), {"factor": 1}),
    LayerSchema(layers.Unflatten, (), {"channels": 1}),
    LayerSchema(layers.Flatten),
    LayerSchema(layers.Add),
    LayerSchema(layers.Concat),
    LayerSchema(layers.LogSoftmax),
    LayerSchema(layers.Multiply, version=GATING),
    LayerSchema(layers.Reduce, (), {"kind": 1}, kinds=layers.REDUCTIONS, version=GATING),
    LayerSchema(layers.Softmax, version=GATING),
)
"""The schema of every layer. Its place in this tuple is the layer's kind in the file."""
KIND_OF = {schema.layer: kind for kind, schema in enumerate(LAYER_SCHEMAS)}
"""The kind of a layer in the file, by its class."""

"""How each layer is stored: which of its fields, and in which order.

The classes are in the order of LayerKind in native/src/file.h, and the fields in the order of Node
there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

from tinyvox.model import FeatureKind, Layer, layers

LOG_PROBABILITIES, NORMALIZED, FLOORED = 1, 2, 4
"""Flags of the speech section."""
FEATURE_KINDS: tuple[FeatureKind, ...] = ("log_mel", "mfcc", "deepspeech_mfcc")
"""The kinds of features, by their number in the file."""


OLDEST, SHARING, PROJECTING, GATING, VARYING, SIGNALS = 2, 3, 4, 5, 6, 7
"""The oldest version of the format that is still written and read; the first versions with products
that share a factor, with projected LSTMs, and, three times, with what the layers and kinds below
say; the last has inputs of matrices in 16 bits too."""
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
    values: Mapping[str, tuple[str | None, ...]] = field(default_factory=dict)
    """The values that the numbers in a field stand for, where it does not hold the numbers
    themselves."""
    since: Mapping[str, int] = field(default_factory=dict)
    """The version of the format in which a tensor, a setting or a kind first appears, where that is
    not the oldest. Before it, a setting is what the class has by default."""
    version: int = OLDEST
    """The version in which the layer first appears."""

    def version_of(self, layer: Layer) -> int:
        """The lowest version that can hold this layer."""
        defaults = {field.name: field.default for field in dataclasses.fields(layer)}
        settings = layer.settings()
        chosen = [name for name in self.ints if settings[name] != defaults[name]]
        fields = [*layer.matrices(), *layer.vectors(), *chosen, str(settings.get("kind"))]
        return max([self.version, *(self.since.get(name, OLDEST) for name in fields)])


_CELL = {"weight_ih": OLDEST, "weight_hh": OLDEST, "bias": OLDEST, "bias_hn": OLDEST,
         "weight_hr": PROJECTING, "peepholes": VARYING}  # fmt: skip
_CELLS = {f"{side}.{name}": _CELL[name] for side in ("forward", "backward") for name in _CELL}
_BENDS = (None, *layers.CELL_ACTIVATIONS[1:])
LAYER_SCHEMAS = (
    LayerSchema(layers.Linear, ("weight", "bias")),
    LayerSchema(
        layers.Recurrent,
        tuple(_CELLS),
        {"kind": 1, "gates": 1, "activation": 1},
        values={
            "kind": tuple(layers.GATES),
            "gates": layers.GATE_FUNCTIONS,
            "activation": _BENDS,
        },
        since={
            **_CELLS,
            **dict.fromkeys(("gates", "activation", "gru_reset_before"), VARYING),
        },
    ),
    LayerSchema(
        layers.Conv1d,
        ("weight", "bias"),
        {"kernel": 1, "stride": 1, "dilation": 1, "padding": 2, "groups": 1},
    ),
    LayerSchema(
        layers.Conv2d,
        ("weight", "bias"),
        {"kernel": 2, "stride": 2, "padding": 4, "dilation": 2, "groups": 1},
        since=dict.fromkeys(("dilation", "groups"), VARYING),
    ),
    LayerSchema(layers.BatchNorm, ("mean", "variance", "weight", "bias"), floats=("eps",)),
    LayerSchema(layers.LayerNorm, ("weight", "bias"), floats=("eps",)),
    LayerSchema(
        layers.Activation,
        ("limits", "slopes"),
        {"kind": 1},
        ("limit",),
        {"kind": layers.ACTIVATIONS},
        {
            "slopes": GATING,
            **dict.fromkeys(layers.ACTIVATIONS[4:11], GATING),
            **dict.fromkeys(layers.ACTIVATIONS[11:], VARYING),
        },
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
    LayerSchema(layers.Reduce, (), {"kind": 1}, values={"kind": layers.REDUCTIONS}, version=GATING),
    LayerSchema(layers.Softmax, version=GATING),
    LayerSchema(layers.Slice, (), {"start": 1, "stop": 1}, version=VARYING),
)
"""The schema of every layer. Its place in this tuple is the layer's kind in the file."""
KIND_OF = {schema.layer: kind for kind, schema in enumerate(LAYER_SCHEMAS)}
"""The kind of a layer in the file, by its class."""

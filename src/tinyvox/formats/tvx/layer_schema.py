"""How each layer is stored: which of its fields, and in which order.

The classes are in the order of LayerKind in native/src/file.h, and the fields in the order of the
structs in native/src/layers/fields.h.
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
LIST = 0
"""The count of a field of any number of places, from -1 on: the record has how many they are, then
each of them plus 1. It is the last field."""
REPEAT, TIED = 255, 254
"""The kinds of records in the file that stand for the very layer of an earlier record, and for a
linear layer with the matrix of an earlier embedding."""


@dataclass(frozen=True)
class LayerSchema:
    """The fields of a layer class, in the order of the file: integers, floats, tensors."""

    layer: type[Layer]
    tensors: tuple[str, ...] = ()
    ints: Mapping[str, int] = field(default_factory=dict)
    """How many numbers each field holds, or LIST. A field of other than one is a tuple."""
    floats: tuple[str, ...] = ()
    values: Mapping[str, tuple[str | bool | None, ...]] = field(default_factory=dict)
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
        names = (*self.ints, *(name for name in self.floats if name in self.since))
        chosen = [name for name in names if settings[name] != defaults[name]]
        fields = [*layer.matrices(), *layer.vectors(), *chosen, str(settings.get("kind"))]
        fields += [_ALL_SUMS] if _takes_sums(layer) else []
        return max([self.version, *(self.since.get(name, OLDEST) for name in fields)])


def _takes_sums(layer: Layer) -> bool:
    cells = layer.cells().values() if isinstance(layer, layers.Recurrent) else ()
    return any(cell.weight_ih is None for cell in cells)


_ALL_SUMS = "no weight_ih"
_CELL = {"weight_ih": OLDEST, "weight_hh": OLDEST, "bias": OLDEST, "bias_hn": OLDEST,
         "weight_hr": PROJECTING, "peepholes": VARYING,
         "norm_hh": SIGNALS, "bias_hh": SIGNALS, "norm_cell": SIGNALS}  # fmt: skip
_CELLS = {f"{side}.{name}": _CELL[name] for side in ("forward", "backward") for name in _CELL}
_BENDS = (None, *layers.CELL_ACTIVATIONS[1:])
LAYER_SCHEMAS = (
    LayerSchema(layers.Linear, ("weight", "bias")),
    LayerSchema(
        layers.Recurrent,
        tuple(_CELLS),
        {"kind": 1, "gates": 1, "activation": 1, "carries_norm": 1},
        ("eps",),
        values={
            "kind": tuple(layers.GATES),
            "gates": layers.GATE_FUNCTIONS,
            "activation": _BENDS,
            "carries_norm": (True, False),
        },
        since={
            **_CELLS,
            **dict.fromkeys(("gates", "activation", "gru_reset_before"), VARYING),
            **dict.fromkeys(("carries_norm", "eps", "li_gru", _ALL_SUMS), SIGNALS),
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
    LayerSchema(
        layers.LayerNorm,
        ("weight", "bias"),
        {"kind": 1, "groups": 1},
        ("eps",),
        {"kind": layers.NORMS},
        dict.fromkeys(("kind", "groups"), SIGNALS),
    ),
    LayerSchema(
        layers.Activation,
        ("limits", "slopes"),
        {"kind": 1},
        ("limit",),
        {"kind": layers.ACTIVATIONS},
        {
            "slopes": GATING,
            **dict.fromkeys(layers.ACTIVATIONS[4:11], GATING),
            **dict.fromkeys(layers.ACTIVATIONS[11:18], VARYING),
            **dict.fromkeys(layers.ACTIVATIONS[18:], SIGNALS),
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
    LayerSchema(
        layers.Reduce,
        (),
        {"kind": 1},
        values={"kind": layers.REDUCTIONS},
        since=dict.fromkeys(layers.REDUCTIONS[4:], SIGNALS),
        version=GATING,
    ),
    LayerSchema(
        layers.Softmax,
        (),
        {"over": 1},
        values={"over": layers.SOFTMAX_AXES},
        since={"over": SIGNALS},
        version=GATING,
    ),
    LayerSchema(layers.Slice, (), {"start": 1, "stop": 1}, version=VARYING),
    LayerSchema(
        layers.Pool,
        (),
        {"kind": 1, "kernel": 2, "stride": 2, "padding": 4},
        values={"kind": layers.POOLINGS},
        version=SIGNALS,
    ),
    LayerSchema(layers.Take, (), {"axis": 1, "indices": LIST}, version=SIGNALS),
    LayerSchema(layers.FrameUnstacking, (), {"count": 1}, version=SIGNALS),
    LayerSchema(layers.Spread, version=SIGNALS),
    LayerSchema(layers.Embedding, ("weight",), version=SIGNALS),
    LayerSchema(
        layers.ElementwiseRecurrence,
        ("weight",),
        {"reverse": 1},
        values={"reverse": (False, True)},
        version=SIGNALS,
    ),
)
"""The schema of every layer. Its place in this tuple is the layer's kind in the file."""
KIND_OF = {schema.layer: kind for kind, schema in enumerate(LAYER_SCHEMAS)}
"""The kind of a layer in the file, by its class."""

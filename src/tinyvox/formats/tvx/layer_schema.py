"""Layers in the file: which field of which class goes where.

The order of the classes is that of LayerKind in native/src/file.h, the order of the fields that of
its Node.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tinyvox.model import FeatureKind, Layer, layers

LOG_PROBABILITIES, NORMALIZED = 1, 2
"""Flags of the speech section."""
FEATURE_KINDS: tuple[FeatureKind, ...] = ("log_mel", "mfcc", "deepspeech_mfcc")


@dataclass(frozen=True)
class LayerSchema:
    layer: type[Layer]
    tensors: tuple[str, ...] = ()
    ints: Mapping[str, int] = field(default_factory=dict)
    """How many numbers each field holds; more than one are a tuple."""
    floats: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    """What the number in the field `kind` stands for."""
    since: Mapping[str, int] = field(default_factory=dict)
    """The version of the format that brought a tensor, where that is not the first."""


SHARING, PROJECTING = 3, 4
"""The versions since which products may share factors, and LSTMs be projected."""
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
    LayerSchema(layers.Activation, ("limits",), {"kind": 1}, ("limit",), layers.ACTIVATIONS),
    LayerSchema(layers.ContextWindow, (), {"left": 1, "right": 1}),
    LayerSchema(layers.FrameStacking, (), {"count": 1, "stride": 1}),
    LayerSchema(layers.Subsample, (), {"factor": 1}),
    LayerSchema(layers.Unflatten, (), {"channels": 1}),
    LayerSchema(layers.Flatten),
    LayerSchema(layers.Add),
    LayerSchema(layers.Concat),
    LayerSchema(layers.LogSoftmax),
)
KIND_OF = {schema.layer: kind for kind, schema in enumerate(LAYER_SCHEMAS)}

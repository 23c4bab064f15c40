"""The YAML beside a file of named tensors: its layers, and which tensor is which.

input: 576                        # features of a frame
layers:
  - lstm: {weight_ih: enc.W, weight_hh: enc.U, bias: enc.b, transpose: true, gates: ifco}
    name: encoder                 # else named after its kind
    inputs: [input]               # else the layer before
  - linear: {weight: out.weight, bias: out.bias}
  - activation: {kind: sigmoid}
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

Name = str
"""The name of a tensor in the file."""


class Part(BaseModel):
    """Settings of one layer."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class LinearPart(Part):
    """`weight` [out, in], or [in, out] with `transpose`."""

    weight: Name
    bias: Name | None = None
    transpose: bool = False


class EmbeddingPart(Part):
    """`weight` [tokens, size]; the layer takes tokens one-hot, as features."""

    weight: Name


class CellPart(Part):
    """One cell. `bias_ih` and `bias_hh` are added up, but for the hidden bias of a GRU.

    `gates` are the letters of the gates in the order of the rows: i f g o (or c for g) of an LSTM,
    r z n (or h for n) of a GRU. `transpose` is for weights [in, gates * hidden].
    """

    weight_ih: Name
    weight_hh: Name
    bias: Name | None = None
    bias_ih: Name | None = None
    bias_hh: Name | None = None
    weight_hr: Name | None = None
    peepholes: tuple[Name, Name, Name] | None = None
    gates: str | None = None
    transpose: bool = False
    gate_activation: str = "sigmoid"
    activation: str | None = None
    backward: CellPart | None = None
    """The cell of the other direction."""
    reverse: bool = False
    """Whether this cell runs backwards in time."""


class Conv1dPart(Part):
    """Along time: `weight` [out, in / groups, kernel]."""

    weight: Name
    bias: Name | None = None
    stride: PositiveInt = 1
    dilation: PositiveInt = 1
    padding: tuple[int, int] = (0, 0)
    groups: PositiveInt = 1


class Conv2dPart(Part):
    """Along time and bands: `weight` [out, in, time, bands], or [out, in, bands]."""

    weight: Name
    bias: Name | None = None
    stride: tuple[PositiveInt, PositiveInt] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)


class BatchNormPart(Part):
    """Statistics and factors, each [channels]."""

    mean: Name
    variance: Name
    weight: Name | None = None
    bias: Name | None = None
    eps: float = 1e-5


class LayerNormPart(Part):
    """Factors, each [size]; without a bias 0 is added."""

    weight: Name
    bias: Name | None = None
    eps: float = 1e-5
    kind: Literal["layer", "rms"] = "layer"
    groups: PositiveInt = 1


class ActivationPart(Part):
    """An elementwise function."""

    kind: str
    limit: float | None = None
    slope: float | None = None


class ReflectPart(Part):
    """Values put around the features of a frame, mirrored at its ends."""

    before: Annotated[int, Field(ge=0)] = 0
    after: Annotated[int, Field(ge=0)] = 0


class WindowPart(Part):
    """Frames around the present one."""

    left: int
    right: int


class StackPart(Part):
    """`count` frames in one, every `stride`."""

    count: PositiveInt
    stride: PositiveInt


class CountPart(Part):
    """A number."""

    count: PositiveInt


class SlicePart(Part):
    """Features from `start` to before `stop`."""

    start: int
    stop: int


class ReducePart(Part):
    """One frame for the utterance."""

    kind: Literal["last", "first", "mean", "max"]


class NothingPart(Part):
    """A layer without settings."""


class LayerEntry(BaseModel):
    """One layer: exactly one kind, its name and its inputs if it has others than the layer
    before."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str | None = None
    inputs: tuple[str, ...] | None = None
    linear: LinearPart | None = None
    embedding: EmbeddingPart | None = None
    lstm: CellPart | None = None
    gru: CellPart | None = None
    gru_reset_before: CellPart | None = None
    rnn_tanh: CellPart | None = None
    rnn_relu: CellPart | None = None
    conv1d: Conv1dPart | None = None
    conv2d: Conv2dPart | None = None
    batch_norm: BatchNormPart | None = None
    layer_norm: LayerNormPart | None = None
    activation: ActivationPart | None = None
    reflect: ReflectPart | None = None
    context_window: WindowPart | None = None
    frame_stacking: StackPart | None = None
    subsample: CountPart | None = None
    unflatten: CountPart | None = None
    slice: SlicePart | None = None
    reduce: ReducePart | None = None
    flatten: NothingPart | None = None
    add: NothingPart | None = None
    multiply: NothingPart | None = None
    concat: NothingPart | None = None
    softmax: NothingPart | None = None
    log_softmax: NothingPart | None = None

    @model_validator(mode="before")
    @classmethod
    def _one_kind(cls, value: Any) -> Any:
        kinds = [k for k in value if k not in ("name", "inputs")] if isinstance(value, dict) else []
        if len(kinds) != 1:
            known = ", ".join(k for k in cls.model_fields if k not in ("name", "inputs"))
            raise ValueError(f"expected one of {known}, and its settings")
        return {k: {} if v is None and k in kinds else v for k, v in value.items()}

    @property
    def kind(self) -> str:
        """The key of the layer, such as `lstm`."""
        return next(k for k in self.model_fields_set if k not in ("name", "inputs"))

    @property
    def part(self) -> Any:
        """Its settings."""
        return getattr(self, self.kind)


class Layers(BaseModel):
    """The layers in their order; the last one gives the output."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input: PositiveInt
    layers: Annotated[tuple[LayerEntry, ...], Field(min_length=1)]

"""One use of a Keras layer, as its handler sees it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tinyvox.errors import ImporterError
from tinyvox.importers.keras.keras1 import modern
from tinyvox.importers.keras.settings import Settings
from tinyvox.importers.keras.stored import Weights
from tinyvox.importers.layer_graph import LayerGraph, Place
from tinyvox.importers.signal import Stream
from tinyvox.model import BatchNorm, Layer

Outputs = list[Stream | None]
"""What a layer gives. None stands for a value that no tinyvox layer gives: the state of a cell."""

_MOST_CALLS = 4000
_MOST_FEATURES = 1 << 20


@dataclass
class Importing:
    """What all layers of one import share."""

    graph: LayerGraph
    version: int
    """1, 2 or 3: which Keras wrote the file."""
    flips_kernels: bool = False
    """Whether Keras ran on Theano, whose convolutions turn the kernel round."""
    notes: list[str] = field(default_factory=list)
    """What was left out, and why."""
    parameters: int = 0
    """Trainable values in the file that the model needs."""
    calls: int = 0
    made: dict[object, Any] = field(default_factory=dict)
    """What was made from the weights of each layer: a layer that is used twice has them once."""

    def note(self, text: str) -> None:
        """Add a note once."""
        if text not in self.notes:
            self.notes.append(text)

    def count_call(self) -> None:
        """Count a use of a layer: models inside models can use one many times."""
        self.calls += 1
        if self.calls > _MOST_CALLS:
            raise ImporterError(f"the model uses more than {_MOST_CALLS} layers")


@dataclass(frozen=True)
class Call:
    """A layer's class, its settings, its inputs and its weights."""

    name: str
    """With the names of the models that it is in: `encoder.lstm`."""
    kind: str
    """The class: `LSTM`."""
    config: Settings
    inputs: list[Stream]
    weights: Weights
    importing: Importing
    in_frames: bool = False
    """Whether it is inside a TimeDistributed, so that it sees one frame and not all of them."""

    @property
    def graph(self) -> LayerGraph:
        """The layers found so far."""
        return self.importing.graph

    @property
    def stream(self) -> Stream:
        """The one input. Raises ImporterError where there are none or several."""
        if len(self.inputs) != 1:
            raise ImporterError(f"takes {len(self.inputs)} inputs, expected 1")
        return self.inputs[0]

    @property
    def legacy(self) -> bool:
        """Whether Keras 1 or 2 wrote the file."""
        return self.importing.version < 3

    def check_last(self, stream: Stream) -> None:
        """Raise ImporterError where the layer's `axis` is another one than the last."""
        axis, last = self.config.get("axis"), len(stream.axes) - 1 - self.in_frames
        if axis not in (None, -1, last, [-1], [last]):
            raise ImporterError(f"works on axis {axis!r:.60} of {stream}, expected the last one")

    def note(self, text: str) -> None:
        """Add a note about this layer."""
        self.importing.note(f"{self.name} ({self.kind}): {text}")

    def place(self, part: str = "") -> None:
        """Let the layers that are added next have the name of this one, or of a part of it."""
        self.graph.place = Place(f"{self.name}.{part}" if part else self.name, True)

    @classmethod
    def of(
        cls, name: str, kind: str, config: Settings, weights: Weights, importing: Importing
    ) -> Call:
        """A call without inputs; the names of Keras 1 become those of Keras 2."""
        if importing.version == 1:
            kind, config = modern(kind, config)
        return cls(name, kind, config, [], weights, importing)

    def inner(self, layer: Settings, weights: Weights, *, in_frames: bool = False) -> Call:
        """The call of a layer that this one wraps, by its class and settings."""
        kind, config = layer.text("class_name"), layer.part("config")
        call = Call.of(self.name, kind, config, weights, self.importing)
        return dataclasses.replace(call, inputs=self.inputs, in_frames=in_frames)

    def once(self, make: Callable[[], Any], *key: object) -> Any:
        """What `make` gives the first time it is asked for with this key for this layer."""
        known = (self.name, *key)
        if known not in self.importing.made:
            self.importing.made[known] = make()
        return self.importing.made[known]

    def take(self, what: str, *shape: int) -> Tensor:
        """The layer's next array, which counts as parameters."""
        values = self.weights.take(what, shape)
        self.importing.parameters += values.numel()
        return values

    def add(self, layer: Layer, stream: Stream, part: str = "") -> Stream:
        """The stream after a layer that keeps the shape, named after this call or a part of it."""
        self.place(part)
        return dataclasses.replace(stream, node=self.graph.add(layer, stream.node))


def filled(size: int, value: float) -> Tensor:
    """A vector of one value. Raises ImporterError where it would be huge: sizes are from a file."""
    if size > _MOST_FEATURES:
        raise ImporterError(f"has frames of {size} values, expected {_MOST_FEATURES} at most")
    return torch.full((size,), value)


def affine(size: int, factor: float, offset: float) -> BatchNorm:
    """The layer that gives `factor * x + offset` for each of `size` channels."""
    return BatchNorm(
        filled(size, 0.0), filled(size, 1.0), filled(size, factor), filled(size, offset), eps=0.0
    )

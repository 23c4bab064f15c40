"""Which input of a Keras model holds the features, and which tensor is its output."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tinyvox.errors import ImporterError
from tinyvox.importers.keras.recurrent import RECURRENT_LAYERS
from tinyvox.importers.keras.settings import Settings, shown, whole
from tinyvox.importers.keras.topology import Tensor, Topology
from tinyvox.importers.layer_graph import LayerGraph
from tinyvox.importers.signal import Axis, Kind, Stream
from tinyvox.model import INPUT, Unflatten

_FRAMES = 20160
"""Frames of an input that takes any number: it has many divisors, so that frames can be stacked."""
_WEIGHTLESS = ("InputLayer", "Lambda", "Dropout", "Activation", "Masking")


@dataclass(frozen=True)
class Entry:
    """The features' tensor with its sizes (None for free ones), and the output's tensor."""

    input: Tensor
    output: Tensor
    sizes: tuple[int | None, ...]

    @property
    def size(self) -> int:
        """Values in a frame."""
        return math.prod(s for i, s in enumerate(self.sizes) if i != self._time and s is not None)

    @property
    def _time(self) -> int | None:
        """The dimension after the batch that is time: the free one, or the first of several."""
        free = [i for i, size in enumerate(self.sizes) if size is None]
        return free[0] if free else 0 if len(self.sizes) > 1 else None

    def stream(self, graph: LayerGraph) -> Stream:
        """The stream of the features, [batch, frames, size] or [batch, frames, bands, channels]."""
        if len(self.sizes) == 1:
            return Stream(INPUT, (_axis("time", _FRAMES), _axis("feature", self.size)))
        features = [size for i, size in enumerate(self.sizes) if i != self._time]
        channels = features[1] if len(features) == 2 else 1
        node = INPUT
        index = [0, 0]
        if channels is not None and channels > 1:
            node, index = graph.add(Unflatten(channels), INPUT), [1, 0]
        axes = []
        for i, size in enumerate(self.sizes):
            if i == self._time:
                axes.append(_axis("time", size if size and size > 1 else _FRAMES))
            else:
                axes.append(_axis("feature", size or 1, index.pop(0)))
        return Stream(node, ((), *axes))


def _axis(kind: Kind, size: int, index: int = 0) -> tuple[Axis, ...]:
    return (Axis(kind, size, index),) if size > 1 else ()


def choose(topology: Topology) -> tuple[Entry, list[str]]:
    """The features and the output, and notes on what is left out.

    Raises ImporterError where they cannot be told.
    """
    notes: list[str] = []
    output = _output(topology, notes)
    needed = [t for t in topology.needed([output]) if _is_input(topology, t)]
    states = _states(topology)
    features = [tensor for tensor in needed if tensor not in states]
    if len(features) != 1:
        found = ", ".join(tensor.layer for tensor in features) or "none"
        raise ImporterError(f"takes inputs {found}; expected one, the features of the frames")
    left = [t.layer for t in topology.inputs if t not in needed]
    if left:
        notes.append(f"inputs that the output does not need are left out: {', '.join(left)}")
    sizes = _sizes(features[0].layer, topology.layers[features[0].layer].config)
    entry = Entry(features[0], output, sizes)
    if len(sizes) == 1:
        notes.append("each vector that the model takes is a frame")
    elif len(sizes) == 3 and entry.size and sizes[2] not in (1, None):
        notes.append("a frame's features are its channels one after the other, bands fastest")
    return entry, notes


def _is_input(topology: Topology, tensor: Tensor) -> bool:
    return topology.layers[tensor.layer].kind == "InputLayer"


def _states(topology: Topology) -> set[Tensor]:
    """The inputs that are taken as initial states alone."""
    states: set[Tensor] = set()
    others: set[Tensor] = set()
    for entry in topology.layers.values():
        for use in entry.uses:
            first = 1 if entry.kind in RECURRENT_LAYERS else len(use.inputs)
            states.update(use.inputs[first:], use.states)
            others.update(use.inputs[:first])
    return states - others


def _sizes(name: str, config: Settings) -> tuple[int | None, ...]:
    """The sizes after the batch; None for those that may be any."""
    keys = ("batch_input_shape", "batch_shape")
    shape = next((config.get(key) for key in keys if key in config), None)
    if shape is None and "input_shape" in config:
        shape = [None, *config.items("input_shape")]
    if shape is None and "input_dim" in config:
        shape = [None, config.get("input_length"), config.get("input_dim")]
    if not isinstance(shape, list) or not 2 <= len(shape) <= 4:
        raise ImporterError(
            f"the input {name} has shape {shown(shape)}, expected [batch, frames, features] or "
            "[batch, frames, bands, channels]; call the model on features once and save it again"
        )
    sizes = tuple(None if size is None else whole(size, "a size of the input") for size in shape)
    if len([s for s in sizes[1:] if s is None]) > 1 or sizes[1:] == (None,):
        raise ImporterError(
            f"the input {name} has shape {list(sizes)}, expected one free size after the batch, "
            "that of the frames"
        )
    return sizes[1:]


def _output(topology: Topology, notes: list[str]) -> Tensor:
    """The output; where that is a CTC loss or a decoder, what it takes."""
    outputs = [t for t in topology.outputs if not _is_state(topology, t)]
    if len(outputs) != 1 or not topology.outputs:
        found = ", ".join(t.layer for t in topology.outputs)
        raise ImporterError(
            f"gives {len(topology.outputs)} outputs ({found}), expected one; save a model that "
            "ends in one of them: keras.Model(model.inputs, model.get_layer(NAME).output)"
        )
    output = outputs[0]
    if len(topology.outputs) > 1:
        notes.append("the states that the model gives besides its output are left out")
    entry = topology.layers.get(output.layer)
    if entry is None or not _is_ctc(entry.name, entry.kind):
        return output
    branches = [t for t in topology.use(output).inputs if _has_weights(topology, t)]
    if len(branches) != 1:
        raise ImporterError(
            f"ends in {output.layer} ({entry.kind}) over {len(branches)} signals, expected one; "
            "save the model that ends before it"
        )
    notes.append(
        f"{output.layer} ({entry.kind}): a part of training, left out; the output is that of "
        f"{branches[0].layer}"
    )
    return branches[0]


def _is_state(topology: Topology, tensor: Tensor) -> bool:
    entry = topology.layers.get(tensor.layer)
    return tensor.output > 0 and entry is not None and entry.kind in RECURRENT_LAYERS


def _is_ctc(name: str, kind: str) -> bool:
    """Whether a layer computes a CTC loss, or decodes, by its name: its code is not looked at."""
    return "ctc" in name.lower() or "ctc" in kind.lower()


def _has_weights(topology: Topology, tensor: Tensor) -> bool:
    """Whether a tensor comes from the features, and not from labels and lengths."""
    kinds = {topology.layers[t.layer].kind for t in topology.needed([tensor])}
    return bool(kinds - set(_WEIGHTLESS))

"""Which units belong together: a walk over the graph that follows the units of every signal.

A list of segments describes every signal. A segment is a run of `size` units of one group, with
`width` consecutive values for each unit. A layer adds the columns of its matrix to the groups of
the signal that it reads.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tinyvox.model import layers
from tinyvox.model.graph import INPUT, Model, Node
from tinyvox.model.layers import GATES, PEEPHOLES


@dataclass(frozen=True)
class Member:
    """The part of a tensor, along `axis`, that the units of a group own.

    The positions of unit `u` are `start + u * width` to `start + u * width + width - 1`.
    """

    tensor: str
    axis: int
    start: int
    width: int = 1

    def positions(self, units: Tensor) -> Tensor:
        """The positions of these units (int64 indices), int64 [len(units) * width]."""
        return (self.start + units[:, None] * self.width + torch.arange(self.width)).flatten()


@dataclass(frozen=True)
class _Segment:
    group: int
    width: int


@dataclass
class Draft:
    """A group while it is found."""

    name: str
    size: int
    members: list[Member] = field(default_factory=list)
    through: list[str] = field(default_factory=list)
    fixed: bool = False
    bound: str | None = None
    merged_into: int | None = None

    def produced(self) -> bool:
        """Whether a layer computes the units."""
        return any(member.axis == 0 for member in self.members)

    def bind(self, reason: str) -> None:
        """Keep the units as they are, for this reason."""
        self.fixed, self.bound = True, self.bound or reason


class Derivation:
    """One walk over the graph. It fills `drafts`; `segments` describes each signal so far."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.drafts: list[Draft] = []
        self.segments: dict[str, list[_Segment]] = {}
        self.segments[INPUT] = [self._new(INPUT, model.input_size)]
        self._bind(self.segments[INPUT], "its units are tied to the model's input")
        for node in model.nodes:
            self.segments[node.name] = self._visit(node)
        self._bind(self.segments[model.output], "its units are tied to the model's output")

    def live(self) -> list[Draft]:
        """The groups that were not merged into another."""
        return [draft for draft in self.drafts if draft.merged_into is None]

    def _visit(self, node: Node) -> list[_Segment]:
        if not node.layer.matrices():
            for segment in (s for name in node.inputs for s in self.segments[name]):
                self._draft(segment).through.append(node.name)
        known = len(self.drafts)
        uses = self.model.uses(node.name)
        if node.name in self.model.ties().values():
            self._bind(self.segments[node.inputs[0]], f"{node.name!r} is tied to an embedding")
        # Its tensors are called after the first node that has them.
        made = _HANDLERS[type(node.layer)](self, dataclasses.replace(node, name=uses[0]))
        if len(uses) > 1:
            self._bind_repeated(node, made, known)
        return made

    def _bind_repeated(self, node: Node, made: list[_Segment], known: int) -> None:
        """The units of a layer that is used several times stay as they are."""
        uses = self.model.uses(node.name)
        for draft in self.drafts[known:]:
            draft.name = node.name + draft.name.removeprefix(uses[0])
            draft.bind(f"{', '.join(map(repr, uses))} have the same weights")
        inputs = self.segments[node.inputs[0]]
        self._bind([*made, *inputs], f"{', '.join(map(repr, uses))} read it with the same weights")

    def _new(self, name: str, size: int, width: int = 1) -> _Segment:
        self.drafts.append(Draft(name, size))
        return _Segment(len(self.drafts) - 1, width)

    def _root(self, index: int) -> int:
        target = self.drafts[index].merged_into
        return index if target is None else self._root(target)

    def _draft(self, segment: _Segment) -> Draft:
        return self.drafts[self._root(segment.group)]

    def _bind(self, segments: list[_Segment], reason: str) -> None:
        for segment in segments:
            self._draft(segment).bind(reason)

    def _read(self, node: Node, tensor: str, axis: int, per_value: int = 1) -> None:
        """This axis of the tensor runs over the values of the node's input, `per_value` positions
        for each value."""
        start = 0
        for segment in self.segments[node.inputs[0]]:
            width = segment.width * per_value
            draft = self._draft(segment)
            draft.members.append(Member(f"{node.name}.{tensor}", axis, start, width))
            start += draft.size * width

    def _rows(self, draft: Draft, node: Node, tensor: str, blocks: int = 1) -> None:
        for block in range(blocks):
            draft.members.append(Member(f"{node.name}.{tensor}", 0, block * draft.size))

    def _linear(self, node: Node) -> list[_Segment]:
        layer = node.layer
        assert isinstance(layer, layers.Linear | layers.Conv1d | layers.Conv2d)
        signal = self.model.signals[node.name]
        segment = self._new(node.name, signal.shape[0], signal.size // signal.shape[0])
        for tensor in ("weight", *layer.vectors()):
            self._rows(self.drafts[-1], node, tensor)
        if not isinstance(layer, layers.Linear) and layer.groups > 1:
            self._fix_groups(node, segment)
        if isinstance(layer, layers.Linear):
            self._read(node, "weight", 1)
        elif isinstance(layer, layers.Conv1d):
            self._read(node, "weight", 1, layer.kernel)
        else:
            self._read_bands(node, layer)
        return [segment]

    def _fix_groups(self, node: Node, segment: _Segment) -> None:
        """A grouped convolution cannot lose channels one by one.

        The positions of its members count the columns of all convolution groups one after the
        other: those of group `g` begin at `g * columns`.
        """
        for fixed in (segment, *self.segments[node.inputs[0]]):
            self._draft(fixed).fixed = True

    def _read_bands(self, node: Node, layer: layers.Conv2d) -> None:
        """A two-dimensional kernel reads whole channels: `bands` values, `kernel` columns each."""
        bands = self.model.signals[node.inputs[0]].shape[1]
        kernel = layer.kernel[0] * layer.kernel[1]
        incoming = self.segments[node.inputs[0]]
        if len(incoming) != 1 or incoming[0].width != bands:
            self._bind(incoming, f"{node.name!r} reads its units across channels")
            return
        self._draft(incoming[0]).members.append(Member(f"{node.name}.weight", 1, 0, kernel))

    def _recurrent(self, node: Node) -> list[_Segment]:
        layer = node.layer
        assert isinstance(layer, layers.Recurrent)
        result = []
        for side, cell in layer.cells().items():
            self._read_input(node, side, cell)
            name = node.name if len(layer.cells()) == 1 else f"{node.name}.{side}"
            projected = cell.weight_hr is not None
            state = self._new(f"{name}.units" if projected else name, cell.hidden)
            units = self._draft(state)
            present = {**cell.matrices(), **cell.vectors()}
            for tensor in ("weight_ih", "weight_hh", "bias", "norm_hh", "bias_hh"):
                if tensor in present:
                    self._rows(units, node, f"{side}.{tensor}", GATES[layer.kind])
            if cell.weight_ih is None:
                units.bind(f"{node.name!r} takes the sums in its gates from another layer")
            if cell.norm_hh is not None or cell.norm_cell is not None:
                units.bind(f"{node.name!r} normalizes its units together")
            if cell.norm_cell is not None:
                self._rows(units, node, f"{side}.norm_cell", 2)
            if cell.bias_hn is not None:
                self._rows(units, node, f"{side}.bias_hn")
            if cell.peepholes is not None:
                self._rows(units, node, f"{side}.peepholes", PEEPHOLES)
            if projected:
                units.members.append(Member(f"{node.name}.{side}.weight_hr", 1, 0))
                state = self._new(f"{name}.projection", cell.size)
                self._rows(self._draft(state), node, f"{side}.weight_hr")
            self._draft(state).members.append(Member(f"{node.name}.{side}.weight_hh", 1, 0))
            result.append(state)
        return result

    def _read_input(self, node: Node, side: str, cell: layers.Cell) -> None:
        if cell.weight_ih is not None:
            self._read(node, f"{side}.weight_ih", 1)
            return
        reason = f"{node.name!r} takes them as the sums in its gates"
        self._bind(self.segments[node.inputs[0]], reason)

    def _embedding(self, node: Node) -> list[_Segment]:
        """Its units are columns of the table, which no pass removes."""
        made = self._new(node.name, self.model.signals[node.name].size)
        self._draft(made).bind(f"{node.name!r} looks them up in a table")
        return [made]

    def _elementwise(self, node: Node) -> list[_Segment]:
        made = self._combine(node)
        if node.layer.vectors():
            self._normalize(node)
        return made

    def _normalize(self, node: Node) -> list[_Segment]:
        incoming = self.segments[node.inputs[0]]
        shape = self.model.signals[node.inputs[0]].shape
        inner = shape[1] if len(shape) == 2 else 1
        if isinstance(node.layer, layers.LayerNorm) and node.layer.groups > 1:
            self._bind(incoming, f"{node.name!r} scales its units in groups")
        if any(segment.width % inner for segment in incoming):
            self._bind(incoming, f"{node.name!r} has channels across its units")
            return incoming
        for tensor in node.layer.vectors():
            start = 0
            for segment in incoming:
                draft, width = self._draft(segment), segment.width // inner
                draft.members.append(Member(f"{node.name}.{tensor}", 0, start, width))
                start += draft.size * width
        return incoming

    def _activation(self, node: Node) -> list[_Segment]:
        each = any(vector.numel() > 1 for vector in node.layer.vectors().values())
        return self._normalize(node) if each else self._through(node)

    def _through(self, node: Node) -> list[_Segment]:
        return self.segments[node.inputs[0]]

    def _window(self, node: Node) -> list[_Segment]:
        layer = node.layer
        if isinstance(layer, layers.FrameStacking):
            return self.segments[node.inputs[0]] * layer.count
        assert isinstance(layer, layers.ContextWindow)
        return self.segments[node.inputs[0]] * (layer.left + 1 + layer.right)

    def _bands(self, node: Node) -> list[_Segment]:
        """Channels stay as they are, with another number of bands each."""
        before, after = self.model.signals[node.inputs[0]], self.model.signals[node.name]
        incoming = self.segments[node.inputs[0]]
        bands, made = before.size // before.shape[0], after.size // after.shape[0]
        moved = isinstance(node.layer, layers.Take) and node.layer.axis == 0
        if moved or any(segment.width % bands for segment in incoming):
            return self._mixed(node)
        return [_Segment(s.group, s.width // bands * made) for s in incoming]

    def _mixed(self, node: Node) -> list[_Segment]:
        """The units of the input have no units of the output of their own."""
        reason = f"{node.name!r} {_MIXING[type(node.layer)]} of its units"
        self._bind(self.segments[node.inputs[0]], reason)
        shape = self.model.signals[node.name].shape
        made = [self._new(node.name, shape[0], math.prod(shape[1:]))]
        self._bind(made, reason)
        return made

    def _combine(self, node: Node) -> list[_Segment]:
        first, *others = (self.segments[name] for name in node.inputs)
        for other in others:
            if [self._shape(s) for s in first] == [self._shape(s) for s in other]:
                for a, b in zip(first, other, strict=True):
                    self._merge(a.group, b.group)
            else:
                self._bind(
                    [*first, *other], f"{node.name!r} combines its units with parts of other sizes"
                )
        return first

    def _shape(self, segment: _Segment) -> tuple[int, int]:
        return self._draft(segment).size, segment.width

    def _merge(self, a: int, b: int) -> None:
        a, b = self._root(a), self._root(b)
        if a == b:
            return
        keep, gone = self.drafts[a], self.drafts[b]
        keep.members += gone.members
        keep.through += gone.through
        keep.fixed |= gone.fixed
        keep.bound = keep.bound or gone.bound
        gone.merged_into = a

    def _concat(self, node: Node) -> list[_Segment]:
        return [segment for name in node.inputs for segment in self.segments[name]]


_MIXING: dict[type, str] = {
    layers.Slice: "takes some",
    layers.Take: "takes some",
    layers.Unflatten: "makes channels",
    layers.FrameUnstacking: "makes frames",
    layers.Pool: "pools the values",
}
"""What layers do whose output has other units than their input."""
_HANDLERS: dict[type, Callable[[Derivation, Node], list[_Segment]]] = {
    layers.Linear: Derivation._linear,
    layers.Conv1d: Derivation._linear,
    layers.Conv2d: Derivation._linear,
    layers.Recurrent: Derivation._recurrent,
    layers.BatchNorm: Derivation._normalize,
    layers.LayerNorm: Derivation._normalize,
    layers.Activation: Derivation._activation,
    layers.ContextWindow: Derivation._window,
    layers.FrameStacking: Derivation._window,
    layers.Subsample: Derivation._through,
    layers.Slice: Derivation._mixed,
    layers.Unflatten: Derivation._mixed,
    layers.Flatten: Derivation._through,
    layers.Add: Derivation._combine,
    layers.Multiply: Derivation._combine,
    layers.Reduce: Derivation._through,
    layers.Concat: Derivation._concat,
    layers.Softmax: Derivation._through,
    layers.LogSoftmax: Derivation._through,
    layers.Pool: Derivation._bands,
    layers.Take: Derivation._bands,
    layers.FrameUnstacking: Derivation._mixed,
    layers.Spread: Derivation._through,
    layers.Embedding: Derivation._embedding,
    layers.ElementwiseRecurrence: Derivation._elementwise,
}

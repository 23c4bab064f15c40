"""Groups of units: which rows and columns go together when a hidden unit or channel is removed.

This is the only place that derives them. A list of segments describes every signal. A segment is a
run of `size` units of one group, with `width` consecutive values for each unit. A layer adds the
columns of its matrix to the groups of the signal that it reads.
"""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tinyvox.errors import ModelError
from tinyvox.model import layers
from tinyvox.model.graph import INPUT, Model, Node
from tinyvox.model.layers import GATES, PEEPHOLES
from tinyvox.model.matrix import Matrix, Product


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
class Group:
    """`size` units that can be removed one by one; `members` are the parts of tensors they own."""

    name: str
    size: int
    members: tuple[Member, ...]
    through: tuple[str, ...] = ()
    """Layers without a matrix that the values of the units pass: activations, windows, sums."""
    bound: str | None = None
    """The reason why the values of the units may not change at all, not even in scale."""

    def produced(self) -> tuple[Member, ...]:
        """The rows of tensors that compute the units."""
        return tuple(member for member in self.members if member.axis == 0)


def groups(model: Model) -> tuple[Group, ...]:
    """The groups of a model that may be pruned, in the order of the layers."""
    return tuple(_group(d) for d in _Derivation(model).live() if d.members and not d.fixed)


def all_groups(model: Model) -> tuple[Group, ...]:
    """Every group that a layer of the model computes, including those that may not be pruned."""
    return tuple(_group(d) for d in _Derivation(model).live() if d.produced())


def _group(draft: _Draft) -> Group:
    through = tuple(dict.fromkeys(draft.through))
    return Group(draft.name, draft.size, tuple(draft.members), through, draft.bound)


def fixed_layers(model: Model) -> tuple[str, ...]:
    """Names of the layers whose units may not be removed.

    They are the model's output, or they are coupled to the output, to the input, or to a layer that
    cannot lose units one by one.
    """
    return tuple(d.name for d in _Derivation(model).live() if d.fixed and d.produced())


def keep_units(model: Model, keep: Mapping[str, Tensor]) -> Model:
    """Keep only these units (rising int64 indices) of the named groups.

    Raises ModelError for an unknown group, an empty selection, or indices out of range or order.
    """
    known = {group.name: group for group in groups(model)}
    removed: dict[tuple[str, int], list[Tensor]] = defaultdict(list)
    for name, units in keep.items():
        if name not in known:
            raise ModelError(f"no group is called {name!r}; there are {', '.join(known)}")
        gone = _complement(known[name], units)
        for member in known[name].members:
            removed[member.tensor, member.axis].append(member.positions(gone))
    changed: dict[str, Matrix | Tensor] = {}
    factors: _Factors = {}
    for (tensor, axis), positions in removed.items():
        before = changed.get(tensor, model.tensor(tensor))
        changed[tensor] = _drop(before, axis, torch.cat(positions), factors)
    return model.with_tensors(changed)


def _complement(group: Group, units: Tensor) -> Tensor:
    inside = units.numel() and int(units.min()) >= 0 and int(units.max()) < group.size
    if not inside or bool((units[1:] <= units[:-1]).any()):
        raise ModelError(
            f"group {group.name!r}: keep some of its {group.size} units, in rising order; "
            f"found {units.numel()} indices"
        )
    mask = torch.ones(group.size, dtype=torch.bool)
    mask[units] = False
    return mask.nonzero().flatten()


_Factors = dict[tuple[Matrix, tuple[int, ...]], Matrix]
"""Right factors without some columns, by the whole factor and the columns that stay. Products that
shared the whole factor share the smaller one."""


def _drop(
    value: Matrix | Tensor, axis: int, positions: Tensor, factors: _Factors
) -> Matrix | Tensor:
    mask = torch.ones(value.shape[axis], dtype=torch.bool)
    mask[positions] = False
    kept = mask.nonzero().flatten()
    if isinstance(value, Tensor):
        return value[kept]
    if axis == 0 or not isinstance(value, Product):
        return value.take(rows=kept) if axis == 0 else value.take(columns=kept)
    key = value.right, tuple(kept.tolist())
    if key not in factors:
        factors[key] = value.right.take(columns=kept)
    return Product(value.left, factors[key])


@dataclass(frozen=True)
class _Segment:
    group: int
    width: int


@dataclass
class _Draft:
    name: str
    size: int
    members: list[Member] = field(default_factory=list)
    through: list[str] = field(default_factory=list)
    fixed: bool = False
    bound: str | None = None
    merged_into: int | None = None

    def produced(self) -> bool:
        return any(member.axis == 0 for member in self.members)

    def bind(self, reason: str) -> None:
        self.fixed, self.bound = True, self.bound or reason


class _Derivation:
    """One walk over the graph. It fills `drafts`; `segments` describes each signal so far."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.drafts: list[_Draft] = []
        self.segments: dict[str, list[_Segment]] = {}
        self.segments[INPUT] = [self._new(INPUT, model.input_size)]
        self._bind(self.segments[INPUT], "its units are tied to the model's input")
        for node in model.nodes:
            self.segments[node.name] = self._visit(node)
        self._bind(self.segments[model.output], "its units are tied to the model's output")

    def live(self) -> list[_Draft]:
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
        self.drafts.append(_Draft(name, size))
        return _Segment(len(self.drafts) - 1, width)

    def _root(self, index: int) -> int:
        target = self.drafts[index].merged_into
        return index if target is None else self._root(target)

    def _draft(self, segment: _Segment) -> _Draft:
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

    def _rows(self, draft: _Draft, node: Node, tensor: str, blocks: int = 1) -> None:
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
_HANDLERS: dict[type, Callable[[_Derivation, Node], list[_Segment]]] = {
    layers.Linear: _Derivation._linear,
    layers.Conv1d: _Derivation._linear,
    layers.Conv2d: _Derivation._linear,
    layers.Recurrent: _Derivation._recurrent,
    layers.BatchNorm: _Derivation._normalize,
    layers.LayerNorm: _Derivation._normalize,
    layers.Activation: _Derivation._activation,
    layers.ContextWindow: _Derivation._window,
    layers.FrameStacking: _Derivation._window,
    layers.Subsample: _Derivation._through,
    layers.Slice: _Derivation._mixed,
    layers.Unflatten: _Derivation._mixed,
    layers.Flatten: _Derivation._through,
    layers.Add: _Derivation._combine,
    layers.Multiply: _Derivation._combine,
    layers.Reduce: _Derivation._through,
    layers.Concat: _Derivation._concat,
    layers.Softmax: _Derivation._through,
    layers.LogSoftmax: _Derivation._through,
    layers.Pool: _Derivation._bands,
    layers.Take: _Derivation._bands,
    layers.FrameUnstacking: _Derivation._mixed,
    layers.Spread: _Derivation._through,
    layers.Embedding: _Derivation._embedding,
    layers.ElementwiseRecurrence: _Derivation._elementwise,
}

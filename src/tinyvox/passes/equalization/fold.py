"""Batch norms folded into the layer before them, and high biases moved into the layer after.

Source: Nagel et al., "Data-free quantization through weight equalization and bias correction",
2019, sections 3.1 (folding) and 4.1.3 (absorbing).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from tinyvox.calibration import Moments
from tinyvox.model import (
    Activation,
    BatchNorm,
    Coded,
    Conv1d,
    Conv2d,
    Dense,
    Group,
    Linear,
    Matrix,
    Member,
    Model,
    Node,
    Product,
    all_groups,
    layers,
)
from tinyvox.passes.moment_propagation import Known, Normal, batch_norm_output
from tinyvox.passes.outcome import Note

DEVIATIONS = 3
"""Values below the mean less so many deviations are cut off: 1 in 740 of a normal distribution."""

_KEEPING = (layers.FrameStacking, layers.Subsample, layers.Flatten, layers.Concat)
"""Layers that pass values on as they are, and pad no zeros."""


class Prepared(NamedTuple):
    """A model, the moments of the outputs of its layers that batch norms gave, and notes."""

    model: Model
    known: Known
    notes: tuple[Note, ...]


def fold_batch_norms(model: Model) -> Prepared:
    """Fold each batch norm into the linear layer or convolution before it, if no other layer reads
    that."""
    known: dict[str, Normal] = {}
    notes = []
    for node in model.nodes:
        if not isinstance(node.layer, BatchNorm):
            continue
        reason = _reason_against_folding(model, model.node(node.name))
        if reason is not None:
            notes.append(Note(node.name, f"left alone: {reason}"))
            continue
        before = model.node(node.name).inputs[0]
        known[before] = batch_norm_output(node.layer)
        model = _folded(model, node.name)
        notes.append(Note(node.name, f"folded into {before}"))
    return Prepared(model, known, tuple(notes))


def _reason_against_folding(model: Model, node: Node) -> str | None:
    before = next((n for n in model.nodes if n.name == node.inputs[0]), None)
    if before is None or not isinstance(before.layer, Linear | Conv1d | Conv2d):
        return "no linear layer or convolution stands before it"
    if sum(before.name in n.inputs for n in model.nodes) > 1:
        return f"others read {before.name!r} too"
    if len(uses := model.uses(before.name)) > 1:
        return f"{', '.join(map(repr, uses))} have the same weights"
    if _has_codes(before.layer.weight):
        return f"{before.name!r} is coded already; equalize before you quantize"
    if node is model.nodes[-1] and before is not model.nodes[-2]:
        return "it is the model's output"
    return None


def _has_codes(matrix: Matrix) -> bool:
    """Whether the leaf that holds the rows of a matrix is coded."""
    return _has_codes(matrix.left) if isinstance(matrix, Product) else isinstance(matrix, Coded)


def _folded(model: Model, name: str) -> Model:
    norm, before = model.node(name).layer, model.node(model.node(name).inputs[0])
    assert isinstance(norm, BatchNorm)
    assert isinstance(before.layer, Linear | Conv1d | Conv2d)
    mean, variance, weight, bias = (vector.double() for vector in norm.vectors().values())
    factor = weight / (variance + norm.eps).sqrt()
    own = mean.new_zeros(mean.shape) if before.layer.bias is None else before.layer.bias.double()
    layer = dataclasses.replace(
        before.layer,
        weight=scaled_rows(before.layer.weight, factor),
        bias=((own - mean) * factor + bias).float(),
    )
    nodes = []
    for node in model.nodes:
        inputs = tuple(before.name if source == name else source for source in node.inputs)
        if node.name != name:
            new = layer if node.name == before.name else node.layer
            nodes.append(Node(node.name, new, inputs))
    return dataclasses.replace(model, nodes=tuple(nodes))


def scaled_rows(matrix: Matrix, factor: Tensor) -> Matrix:
    """A dense matrix, or a product whose left factor is dense, its rows times float64 [out]."""
    if isinstance(matrix, Product):
        return Product(scaled_rows(matrix.left, factor), matrix.right)
    assert isinstance(matrix, Dense)
    return Dense((matrix.values.double() * factor[:, None]).float())


def absorb_biases(
    model: Model,
    known: Known,
    statistics: Mapping[str, Moments],
    chosen: Callable[[Group], bool],
) -> Prepared:
    """Move high biases before a relu into the layers that read it, for the groups `chosen`.

    A unit that is above c > 0 in all but 1 of 740 frames passes a relu unchanged. So c is
    subtracted from its bias, and the product of c and the readers' weights is added to the readers'
    biases. c is the mean less three deviations: of the unit before the relu by its batch norm, or
    of the readers' inputs by their statistics. The limit of a clipped relu falls by c, which is at
    most half of it. Clipped relus need a limit for each channel (`spell_limits`).
    """
    notes, known = [], dict(known)
    for group in filter(chosen, all_groups(model)):
        name = group.name
        surplus = _surplus(model, group, known, statistics)
        count = int((surplus > 0).sum())
        if not count:
            continue
        reason = _reason_against_absorbing(model, group)
        if reason is not None:
            notes.append(Note(name, f"{count} high biases left where they are: {reason}"))
            continue
        model = _absorbed(model, group, surplus)
        if name in known:
            known[name] = Normal(known[name].mean - surplus, known[name].variance)
        what = f"absorbed the biases of {count} of {group.size} units, up to"
        notes.append(Note(name, f"{what} {float(surplus.max()):.3g}"))
    return Prepared(model, known, tuple(notes))


def producers(model: Model, group: Group) -> list[Node]:
    """The nodes whose matrices compute the units of a group."""
    matrices = {name for name, _ in model.matrices()}
    found = [model.owner(m.tensor) for m in group.produced() if m.tensor in matrices]
    return list({node.name: node for node in found}.values())


def _surplus(model: Model, group: Group, known: Known, statistics: Mapping[str, Moments]) -> Tensor:
    """How far each unit is above zero in nearly all frames, float64 [size]; 0 where unknown."""
    found = []
    if group.name in known:
        normal = known[group.name]
        found.append(normal.mean - DEVIATIONS * normal.variance.sqrt())
    else:
        for member in group.members:
            if member.axis == 1 and member.tensor in statistics:
                moments = statistics[member.tensor]
                least = moments.mean - DEVIATIONS * moments.deviation()
                found.append(_by_unit(group, member, least).amin(1))
    if not found:
        return torch.zeros(group.size, dtype=torch.float64)
    for member, limits in _limits(model, group):
        found.append(_by_unit(group, member, limits.double()).amin(1) / 2)
    return torch.stack(found).amin(0).clamp(min=0)


def _limits(model: Model, group: Group) -> Iterator[tuple[Member, Tensor]]:
    vectors = dict(model.vectors())
    for member in group.members:
        if member.tensor.endswith(".limits"):
            yield member, vectors[member.tensor]


def _by_unit(group: Group, member: Member, values: Tensor) -> Tensor:
    """The values at a member's positions, [size, width]."""
    return values[member.positions(torch.arange(group.size))].view(group.size, member.width)


def _reason_against_absorbing(model: Model, group: Group) -> str | None:
    made = producers(model, group)
    if group.bound is not None:
        return group.bound
    if len(made) != 1 or not isinstance(made[0].layer, Linear | Conv1d | Conv2d):
        return "it takes one linear layer or convolution before a relu"
    between = [model.node(name) for name in group.through]
    relus = [n for n in between if _is_relu(n.layer)]
    for node in between:
        if node not in relus and not isinstance(node.layer, _KEEPING):
            return f"{node.name!r} lies between"
    if not relus:
        return "no relu follows"
    for member in group.members:
        node = model.owner(member.tensor)
        if member.axis == 1 and any(getattr(node.layer, "padding", ())):
            return f"{node.name!r} puts zeros around them"
    return None


def _is_relu(layer: layers.Layer) -> bool:
    return isinstance(layer, Activation) and layer.kind in ("relu", "clipped_relu")


def _absorbed(model: Model, group: Group, surplus: Tensor) -> Model:
    old = dict(model.vectors())
    amounts: dict[str, Tensor] = {f"{group.name}.bias": -surplus}
    for member, _ in _limits(model, group):
        where = amounts.setdefault(member.tensor, torch.zeros_like(old[member.tensor]).double())
        _put(where, group, member, -surplus)
    offsets: dict[str, Tensor] = {}
    for member in (m for m in group.members if m.axis == 1):
        size = columns(model.owner(member.tensor), member.tensor)
        where = offsets.setdefault(member.tensor, torch.zeros(size, dtype=torch.float64))
        _put(where, group, member, surplus)
    for tensor, offset in offsets.items():
        bias = tensor.removesuffix("weight").removesuffix("weight_ih") + "bias"
        amounts[bias] = _product(model.owner(tensor), model.matrix(tensor), offset)
    changed: dict[str, Matrix | Tensor] = {
        name: (old[name].double() + amount if name in old else amount).float()
        for name, amount in amounts.items()
    }
    return model.with_tensors(changed)


def _put(where: Tensor, group: Group, member: Member, amounts: Tensor) -> None:
    positions = member.positions(torch.arange(group.size))
    where[positions] = amounts.repeat_interleave(member.width)


def blocks(node: Node) -> int:
    """The number of groups of a convolution, whose columns are numbered through all groups; 1 for
    other layers."""
    return node.layer.groups if isinstance(node.layer, Conv1d | Conv2d) else 1


def columns(node: Node, tensor: str) -> int:
    """The number of columns of the matrix of this full name, those of all groups."""
    matrix = node.layer.matrices()[tensor.removeprefix(f"{node.name}.")]
    return matrix.shape[1] * blocks(node)


def _product(node: Node, matrix: Matrix, offset: Tensor) -> Tensor:
    """The product of a matrix and one value for each of its columns, float64 [out]."""
    weight = matrix.decode().double()
    weight = weight.view(blocks(node), -1, matrix.shape[1])
    return (weight @ offset.view(blocks(node), -1, 1)).flatten()

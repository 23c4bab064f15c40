"""Shared projection: matrices that read the same hidden state get one right factor.

Source: Prabhavalkar et al., "On the compression of recurrent neural networks with an application to
LVCSR acoustic modeling for embedded speech recognition", 2016, section 3 (one projection of a
layer's hidden state, for its own next frame and for the next layer). There the projection is that
of the recurrent matrix alone; here it is the best one for all matrices, whose outputs count alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tinyvox.calibration import Moments
from tinyvox.model import Matrix, Member, Model, Node, Recurrent, Subsample, all_groups
from tinyvox.passes.least_squares import Weighting, mean_second_moment, mean_square


@dataclass(frozen=True)
class Readers:
    """The matrices that are multiplied by the hidden state of a cell: their full `names` in the
    order of the model, with that of the `recurrent` one among them. `others` are matrices that read
    the state in another form or among other values, each with what it reads."""

    recurrent: str
    names: tuple[str, ...]
    others: Mapping[str, str]


def readers(model: Model) -> Iterator[Readers]:
    """Who reads the hidden state of each cell. Of a layer that is used several times no one does
    that all of its uses have in common, so it is left out; so is a cell whose recurrent matrix does
    not read the state alone."""
    for group in all_groups(model):
        columns = {member.tensor: member for member in group.members if member.axis == 1}
        for recurrent in filter(_is_recurrent, columns):
            owner = model.owner(recurrent)
            cell = owner.name
            if len(model.uses(cell)) > 1 or _resets_before(owner):
                continue
            why = {
                name: _reason_against(model, model.owner(name), columns[name], group.size, cell)
                for name, _ in model.matrices()
                if name in columns and not _is_recurrent(name)
            }
            others = {name: reason for name, reason in why.items() if reason is not None}
            exact = {recurrent, *why} - set(others)
            names = tuple(name for name, _ in model.matrices() if name in exact)
            yield Readers(recurrent, names, others)


def _is_recurrent(name: str) -> bool:
    return name.endswith(".weight_hh")


def _resets_before(node: Node) -> bool:
    return isinstance(node.layer, Recurrent) and node.layer.resets_before()


def _reason_against(model: Model, node: Node, member: Member, size: int, cell: str) -> str | None:
    """Why a matrix of a layer is not multiplied by exactly the state of a cell."""
    nodes = {each.name: each for each in model.nodes}
    source = node.inputs[0]
    while source in nodes and isinstance(nodes[source].layer, Subsample):
        source = nodes[source].inputs[0]
    if source != cell:
        return f"it reads {source!r}, not the state of {cell!r} itself"
    columns = model.matrix(member.tensor).shape[1]
    if columns != size or member.width != 1:
        return f"it reads {columns} values, the state of {cell!r} has {size}"
    return None


@dataclass(frozen=True)
class Stack:
    """Matrices of one input on top of each other, float32 [sum of their rows, in].

    Each is divided by the root mean square of its outputs (`scales`), so that the outputs of all
    count alike, whatever their scale. `rows` are the rows of each."""

    values: Tensor
    weighting: Weighting
    scales: tuple[float, ...]
    rows: tuple[int, ...]

    def unstack(self, left: Tensor) -> list[Tensor]:
        """The left factors of the matrices from that of the stack, [sum of rows, rank]."""
        parts = torch.split(left, list(self.rows))
        return [part * scale for part, scale in zip(parts, self.scales, strict=True)]


def stack(matrices: Mapping[str, Matrix], statistics: Mapping[str, Moments]) -> Stack:
    """Stack matrices of one input, by their full names. The second moment is the mean of those that
    are known of their inputs."""
    weightings = [Weighting.of(statistics.get(name)) for name in matrices]
    second_moment = mean_second_moment(weightings)
    scales = [mean_square(matrix, second_moment) ** 0.5 for matrix in matrices.values()]
    parts = [m.decode() / scale for m, scale in zip(matrices.values(), scales, strict=True)]
    rows = tuple(len(part) for part in parts)
    importance = _stacked_importance([each.importance for each in weightings], rows)
    weighting = Weighting(second_moment, importance)
    return Stack(torch.cat(parts), weighting, tuple(scales), rows)


def _stacked_importance(known: Sequence[Tensor | None], rows: Sequence[int]) -> Tensor | None:
    """The importance of the rows of a stack, 1 for those of which it is not known; None where it is
    not known of any."""
    if all(each is None for each in known):
        return None
    ones = [torch.ones(count, dtype=torch.float64) for count in rows]
    pairs = zip(known, ones, strict=True)
    return torch.cat([one if each is None else each for each, one in pairs])

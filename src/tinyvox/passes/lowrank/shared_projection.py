"""Shared-projection factorization: matrices that read the same hidden state get one right factor.

Source: Prabhavalkar et al., "On the compression of recurrent neural networks with an application to
LVCSR acoustic modeling for embedded speech recognition", 2016, section 3 (one projection of a
layer's hidden state, for its own next frame and for the next layer). There the projection is that
of the recurrent matrix alone; here it is the best for all of them, with outputs that count alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tinyvox.calibration import Statistics
from tinyvox.model import Matrix, Member, Model, Node, Subsample, all_groups
from tinyvox.passes.equalization import owners
from tinyvox.passes.error_compensation import importance_of, mean_square, second_moment_of


@dataclass(frozen=True)
class Readers:
    """Full names, in the order of the model, of the matrices that are multiplied by the hidden
    state of a cell: its `recurrent` one among them. `others` read it among other values, or
    changed; each with what it reads."""

    recurrent: str
    names: tuple[str, ...]
    others: Mapping[str, str]


def readers(model: Model) -> Iterator[Readers]:
    """Who reads the hidden state of each cell."""
    nodes = owners(model)
    for group in all_groups(model):
        columns = {member.tensor: member for member in group.members if member.axis == 1}
        for recurrent in filter(_is_recurrent, columns):
            cell = nodes[recurrent].name
            why = {
                name: _reason_against(model, nodes[name], columns[name], group.size, cell)
                for name in nodes
                if name in columns and not _is_recurrent(name)
            }
            names = [n for n in nodes if n == recurrent or (n in why and why[n] is None)]
            others = {name: reason for name, reason in why.items() if reason is not None}
            yield Readers(recurrent, tuple(names), others)


def _is_recurrent(name: str) -> bool:
    return name.endswith(".weight_hh")


def _reason_against(model: Model, node: Node, member: Member, size: int, cell: str) -> str | None:
    """Why a matrix of a layer is not multiplied by the state of a cell's layer, and that alone."""
    nodes = {each.name: each for each in model.nodes}
    source = node.inputs[0]
    while source in nodes and isinstance(nodes[source].layer, Subsample):
        source = nodes[source].inputs[0]
    if source != cell:
        return f"it reads {source!r}, not the state of {cell!r} itself"
    columns = dict(model.matrices())[member.tensor].shape[1]
    if columns != size or member.width != 1:
        return f"it reads {columns} values, the state of {cell!r} has {size}"
    return None


@dataclass(frozen=True)
class Stack:
    """Matrices above each other, each divided by the root mean square of its outputs, so that these
    count alike whatever their scale: float32 [sum of their rows, in]. `second_moment` is what is known of
    the inputs, `importance`, [sum of rows], how much the outputs of each matrix count beside each
    other, where that is known of any."""

    values: Tensor
    second_moment: Tensor | None
    importance: Tensor | None
    weights: tuple[float, ...]
    rows: tuple[int, ...]

    def unstack(self, left: Tensor) -> list[Tensor]:
        """The left factors of the matrices from that of the stack, [sum of rows, rank]."""
        parts = torch.split(left, list(self.rows))
        return [part * weight for part, weight in zip(parts, self.weights, strict=True)]


def stack(matrices: Mapping[str, Matrix], statistics: Statistics) -> Stack:
    """Matrices of one input, by their full names; the mean of what is known of their inputs is
    taken for all."""
    second_moment = second_moment_of(statistics, matrices)
    weights = [mean_square(matrix, second_moment) ** 0.5 for matrix in matrices.values()]
    parts = [m.decode() / weight for m, weight in zip(matrices.values(), weights, strict=True)]
    rows = tuple(len(part) for part in parts)
    known = [importance_of(statistics, name) for name in matrices]
    importance = None
    if any(each is not None for each in known):
        ones = [torch.ones(count, dtype=torch.float64) for count in rows]
        pairs = zip(known, ones, strict=True)
        importance = torch.cat([one if each is None else each for each, one in pairs])
    return Stack(torch.cat(parts), second_moment, importance, tuple(weights), rows)

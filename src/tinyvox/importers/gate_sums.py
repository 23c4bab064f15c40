"""Cells whose input products are computed before the loop: what gives these becomes the cell's own.

A loop often takes a linear layer's outputs at each frame, which lie in the order of its gates, not
in that of ours. Such a cell has a weight_ih whose every row takes one value, or a multiple of one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from tinyvox.importers.layer_graph import LayerGraph
from tinyvox.model import BatchNorm, Cell, Concat, Dense, LayerNorm, Linear


def absorbed(graph: LayerGraph, cell: Cell, node: str) -> tuple[Cell, str]:
    """The cell with the linear layers, and the batch norms after them, that give its sums, and the
    node that it then reads; without weight_ih where something else gives them. The same cell and
    node where its weight_ih is an ordinary matrix."""
    if cell.weight_ih is None or (taken := _selection(cell.weight_ih.decode())) is None:
        return cell, node
    order, factors = taken
    linear = _linear_of(graph, node)
    if linear is not None:
        made, source = linear
        return _with_linear(cell, made, order, factors), source
    found = _reordered(graph, node, order) if bool((factors == 1).all()) else None
    return (cell, node) if found is None else (dataclasses.replace(cell, weight_ih=None), found)


def _selection(weight: Tensor) -> tuple[Tensor, Tensor] | None:
    """Which value each row of a matrix takes, int64 [rows], and how many times; None where rows
    take more."""
    if not bool(((weight != 0).sum(1) == 1).all()):
        return None
    order = weight.abs().argmax(1)
    return order, weight.gather(1, order[:, None])[:, 0]


def _linear_of(graph: LayerGraph, node: str) -> tuple[Linear, str] | None:
    """The linear layer that a node is, with the batch norm after it, and what it reads; of several
    joined ones, which read the same, that of all their rows."""
    layer = graph.layer(node)
    if isinstance(layer, Linear):
        return layer, graph.nodes[node].inputs[0]
    if isinstance(layer, Concat):
        return _side_by_side([_linear_of(graph, each) for each in graph.nodes[node].inputs])
    if not isinstance(layer, BatchNorm):
        return None
    source = graph.nodes[node].inputs[0]
    before = graph.layer(source)
    if not isinstance(before, Linear) or not isinstance(before.weight, Dense):
        return None
    factor = layer.weight / torch.sqrt(layer.variance + layer.eps)
    weight = Dense(before.weight.values * factor[:, None])
    folded = Linear(weight, (_bias(before) - layer.mean) * factor + layer.bias)
    return folded, graph.nodes[source].inputs[0]


def _side_by_side(parts: Sequence[tuple[Linear, str] | None]) -> tuple[Linear, str] | None:
    known = [part for part in parts if part is not None]
    layers, sources = [layer for layer, _ in known], {source for _, source in known}
    weights = [each.weight.values for each in layers if isinstance(each.weight, Dense)]
    if len(weights) < len(parts) or len(sources) != 1:
        return None
    return Linear(Dense(torch.cat(weights)), torch.cat([*map(_bias, layers)])), sources.pop()


def _bias(linear: Linear) -> Tensor:
    return torch.zeros(linear.weight.shape[0]) if linear.bias is None else linear.bias


def _with_linear(cell: Cell, linear: Linear, order: Tensor, factors: Tensor) -> Cell:
    weight, bias = linear.weight.take(rows=order), cell.bias
    if bool((factors != 1).any()):
        weight = Dense(weight.decode() * factors[:, None])
    if linear.bias is not None:
        own = linear.bias[order] * factors
        bias = own if bias is None else bias + own
    return dataclasses.replace(cell, weight_ih=weight, bias=bias)


def _reordered(graph: LayerGraph, node: str, order: Tensor) -> str | None:
    """The node whose values are those of this one in another order; None where it cannot be."""
    size = graph.signals[node].size
    if len(order) != size:
        return None
    if torch.equal(order, torch.arange(size)):
        return node
    layer = graph.layer(node)
    if not isinstance(layer, LayerNorm) or not torch.equal(order.sort().values, torch.arange(size)):
        return None
    before = graph.nodes[node].inputs[0]
    linear = graph.layer(before)
    if not isinstance(linear, Linear):
        return None
    bias = None if linear.bias is None else linear.bias[order]
    first = graph.replace(before, Linear(linear.weight.take(rows=order), bias))
    here, graph.place = graph.place, graph.place_of(node)
    try:
        norm = dataclasses.replace(layer, weight=layer.weight[order], bias=layer.bias[order])
        return graph.add(norm, first)
    finally:
        graph.place = here

"""Cells whose input products are computed before the loop: what gives these becomes the cell's own.

A loop often takes a linear layer's outputs at each frame, which lie in the order of its gates, not
in that of ours. Such a cell has a weight_ih whose every row takes one value.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from tinyvox.importers.layer_graph import LayerGraph
from tinyvox.model import BatchNorm, Cell, Dense, LayerNorm, Linear


def absorbed(graph: LayerGraph, cell: Cell, node: str) -> tuple[Cell, str]:
    """The cell with the linear layer, and the batch norm after it, that give its sums, and the node
    that it then reads; without weight_ih where something else gives them. The same cell and node
    where its weight_ih is an ordinary matrix."""
    if cell.weight_ih is None or (order := _selection(cell.weight_ih.decode())) is None:
        return cell, node
    linear = _linear_of(graph, node)
    if linear is not None:
        made, source = linear
        return _with_linear(cell, made, order), source
    found = _reordered(graph, node, order)
    return (cell, node) if found is None else (dataclasses.replace(cell, weight_ih=None), found)


def _selection(weight: Tensor) -> Tensor | None:
    """Which value each row of a matrix takes, int64 [rows]; None where rows take more, or scaled
    ones."""
    one = (weight == 1).sum(1) == 1
    bare = (weight != 0).sum(1) == 1
    return weight.argmax(1) if bool((one & bare).all()) else None


def _linear_of(graph: LayerGraph, node: str) -> tuple[Linear, str] | None:
    """The linear layer that a node is, with the batch norm after it, and what it reads."""
    layer = graph.layer(node)
    if isinstance(layer, Linear):
        return layer, graph.nodes[node].inputs[0]
    if not isinstance(layer, BatchNorm):
        return None
    source = graph.nodes[node].inputs[0]
    before = graph.layer(source)
    if not isinstance(before, Linear) or not isinstance(before.weight, Dense):
        return None
    factor = layer.weight / torch.sqrt(layer.variance + layer.eps)
    bias = torch.zeros_like(factor) if before.bias is None else before.bias
    weight = Dense(before.weight.values * factor[:, None])
    folded = Linear(weight, (bias - layer.mean) * factor + layer.bias)
    return folded, graph.nodes[source].inputs[0]


def _with_linear(cell: Cell, linear: Linear, order: Tensor) -> Cell:
    weight, bias = linear.weight.take(rows=order), cell.bias
    if linear.bias is not None:
        own = linear.bias[order]
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

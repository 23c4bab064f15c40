"""Recurrences that ONNX has no operator for, as its Scan: a graph that is run for each frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tinyvox.exporters.onnx.building import Building
from tinyvox.exporters.onnx.graph import Graph
from tinyvox.model import GATES, Cell, Recurrent
from tinyvox.model.layers import ElementwiseRecurrence

Step = Callable[[Sequence[str], Sequence[str]], list[str]]
"""Adds one step to the graph: from the names of the states and of the frames to those of the next
states, the first of which is the output. All are [1, size]."""
SLOPES = {"hardsigmoid": 1 / 6, "hard_sigmoid_keras": 0.2}
"""Of the functions of gates that are clipped lines."""


def needs_scan(layer: Recurrent, cell: Cell) -> bool:
    """Whether ONNX has no operator for a cell."""
    normalizes = cell.norm_hh is not None or cell.norm_cell is not None
    return layer.kind == "li_gru" or normalizes or cell.weight_ih is None


def scan(
    graph: Graph, frames: Sequence[str], sizes: Sequence[int], step: Step, *, reverse: bool
) -> str:
    """The outputs [1, frames, size] of a recurrence over signals [1, frames, ...]; its states, of
    these sizes, start at zero."""
    start = len(graph.operators)
    states, slices = ([graph.name() for _ in each] for each in (sizes, frames))
    body = graph.subgraph(start, [*states, *slices], step(states, slices))
    zeros = [graph.constant(np.zeros((1, size), np.float32)) for size in sizes]
    both, way = len(frames), int(reverse)
    return graph.op(
        "Scan", *zeros, *frames, results=len(sizes) + 1, body=body, num_scan_inputs=both,
        scan_input_axes=[1] * both, scan_input_directions=[way] * both,
        scan_output_axes=[1], scan_output_directions=[way],
    )  # fmt: skip


def elementwise_recurrence(
    build: Building, layer: ElementwiseRecurrence, gate: str, x: str, size: int
) -> str:
    """`c = f * c + u` for each of so many values."""
    graph = build.graph
    weight = None if layer.weight is None else build.vector("weight", layer.weight)

    def step(states: Sequence[str], frames: Sequence[str]) -> list[str]:
        (state,), (f, u) = states, frames
        if weight is None:
            return [graph.op("Add", graph.op("Mul", f, state), u)]
        f = graph.op("Sigmoid", graph.op("Add", f, graph.op("Mul", weight, state)))
        return [_mixed(graph, f, state, u)]

    return scan(graph, [gate, x], [size], step, reverse=layer.reverse)


def _mixed(graph: Graph, gate: str, state: str, new: str) -> str:
    """`new + gate * (state - new)`."""
    return graph.op("Add", new, graph.op("Mul", gate, graph.op("Sub", state, new)))


def scanned_cell(build: Building, layer: Recurrent, side: str, cell: Cell, x: str) -> str:
    """The states [1, frames, size] of a cell of one direction, for frames [1, frames, in]."""
    if cell.weight_ih is not None:
        x = build.times(x, f"{side}.weight_ih", cell.weight_ih)
    if cell.bias is not None:
        x = build.graph.op("Add", x, build.vector(f"{side}.bias", cell.bias))
    sizes = [cell.size, cell.hidden] if layer.kind == "lstm" else [cell.size]
    step = _CellStep(build, layer, side, cell)
    return scan(build.graph, [x], sizes, step, reverse=side == "backward")


class _CellStep:
    """One step of a cell; its tensors stand in the graph around."""

    def __init__(self, build: Building, layer: Recurrent, side: str, cell: Cell) -> None:
        self._build, self._layer, self._cell, self._side = build, layer, cell, side
        self._graph = build.graph

    def __call__(self, states: Sequence[str], frames: Sequence[str]) -> list[str]:
        return _STEPS[self._layer.kind](self, list(states), frames[0])

    def _vector(self, name: str) -> str:
        return self._build.vector(f"{self._side}.{name}", getattr(self._cell, name))

    def _parts(self, x: str) -> list[str]:
        hidden = self._cell.hidden
        return [self._rows(x, i * hidden, (i + 1) * hidden) for i in range(GATES[self._layer.kind])]

    def _rows(self, x: str, start: int, stop: int) -> str:
        return self._graph.slice(x, start, self._graph.integers(stop), 1)

    def _by_state(self, state: str) -> str:
        product = self._build.times(state, f"{self._side}.weight_hh", self._cell.weight_hh)
        if self._cell.bias_hh is not None:
            product = self._graph.op("Add", product, self._vector("bias_hh"))
        if self._cell.norm_hh is None:
            return product
        norm = self._vector("norm_hh")
        return self._graph.op("LayerNormalization", product, norm, epsilon=self._layer.eps)

    def _gate(self, x: str) -> str:
        slope = SLOPES.get(self._layer.gates)
        if slope is None:
            return self._graph.op("Sigmoid", x)
        return self._graph.op("HardSigmoid", x, alpha=slope, beta=0.5)

    def _bend(self, x: str) -> str:
        own = "relu" if self._layer.kind == "rnn_relu" else "tanh"
        kinds = {"tanh": "Tanh", "relu": "Relu", "sigmoid": "Sigmoid", "identity": "Identity"}
        return self._graph.op(kinds[self._layer.activation or own], x)

    def _sum(self, *parts: str) -> str:
        total = parts[0]
        for part in parts[1:]:
            total = self._graph.op("Add", total, part)
        return total

    def _product(self, one: str, two: str) -> str:
        return self._graph.op("Mul", one, two)

    def lstm(self, states: list[str], x: str) -> list[str]:
        i, f, g, o = self._parts(self._sum(x, self._by_state(states[0])))
        peep = self._peepholes()
        if peep:
            i, f = (
                self._sum(gate, self._product(weight, states[1]))
                for gate, weight in zip((i, f), peep, strict=False)
            )
        kept = self._product(self._gate(f), states[1])
        cell = self._sum(kept, self._product(self._gate(i), self._bend(g)))
        normal = self._normalized(cell)
        cell = normal if self._layer.carries_norm else cell
        if peep:
            o = self._sum(o, self._product(peep[2], cell))
        output = self._product(self._gate(o), self._bend(normal))
        if self._cell.weight_hr is not None:
            output = self._build.times(output, f"{self._side}.weight_hr", self._cell.weight_hr)
        return [output, cell]

    def _peepholes(self) -> list[str]:
        if self._cell.peepholes is None:
            return []
        parts = enumerate(self._cell.peepholes.chunk(3))
        return [self._build.vector(f"{self._side}.peepholes{i}", part) for i, part in parts]

    def _normalized(self, cell: str) -> str:
        if self._cell.norm_cell is None:
            return cell
        parts = enumerate(self._cell.norm_cell.chunk(2))
        names = [self._build.vector(f"{self._side}.norm_cell{i}", part) for i, part in parts]
        return self._graph.op("LayerNormalization", cell, *names, epsilon=self._layer.eps)

    def gru(self, states: list[str], x: str) -> list[str]:
        (r, z, n), (by_r, by_z, by_n) = self._parts(x), self._parts(self._by_state(states[0]))
        if self._cell.bias_hn is not None:
            by_n = self._sum(by_n, self._vector("bias_hn"))
        reset = self._gate(self._sum(r, by_r))
        new = self._bend(self._sum(n, self._product(reset, by_n)))
        return [_mixed(self._graph, self._gate(self._sum(z, by_z)), states[0], new)]

    def gru_reset_before(self, states: list[str], x: str) -> list[str]:
        r, z, n = self._parts(x)
        by_r, by_z, _ = self._parts(self._by_state(states[0]))
        reset = self._product(self._gate(self._sum(r, by_r)), states[0])
        new = self._bend(self._sum(n, self._parts(self._by_state(reset))[2]))
        return [_mixed(self._graph, self._gate(self._sum(z, by_z)), states[0], new)]

    def li_gru(self, states: list[str], x: str) -> list[str]:
        z, n = self._parts(self._sum(x, self._by_state(states[0])))
        return [_mixed(self._graph, self._gate(z), states[0], self._bend(n))]

    def plain(self, states: list[str], x: str) -> list[str]:
        return [self._bend(self._sum(x, self._by_state(states[0])))]


_STEPS: dict[str, Callable[[_CellStep, list[str], str], list[str]]] = {
    "lstm": _CellStep.lstm,
    "gru": _CellStep.gru,
    "gru_reset_before": _CellStep.gru_reset_before,
    "li_gru": _CellStep.li_gru,
    "rnn_tanh": _CellStep.plain,
    "rnn_relu": _CellStep.plain,
}

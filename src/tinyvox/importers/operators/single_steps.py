"""Recurrent layers that run along the batch: each frame is an utterance of its own, and the one
step of a cell from a state of zeros is a function of its frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from tinyvox.importers.layer_graph import LayerGraph
from tinyvox.importers.per_frame import scaling
from tinyvox.importers.signal import Stream
from tinyvox.model import Activation, Add, Cell, Concat, Dense, Linear, Multiply, Recurrent

Step = Callable[[LayerGraph, Cell, str], str]
NOTE = (
    "a recurrent layer runs along the batch, not along time, so that each frame starts from zeros "
    "and its recurrent weights do nothing; batch_first may have been forgotten"
)


def runs_along_batch(graph: LayerGraph, stream: Stream, batch: int, time: int) -> bool:
    """Whether what a recurrent layer takes for the batch is time, and the other way round, while
    one before it runs along time: else it is the example that is turned."""
    turned = stream.is_time(batch) and not stream.axes[time]
    return turned and any(isinstance(node.layer, Recurrent) for node in graph.nodes.values())


def one_step(graph: LayerGraph, kind: str, cells: Sequence[Cell], node: str) -> str:
    """The node that gives the first step of cells of one kind, beside each other, for each frame of
    a flat node."""
    graph.notes.append(NOTE)
    steps = [_STEPS[kind](graph, cell, node) for cell in cells]
    return steps[0] if len(steps) == 1 else graph.add(Concat(), *steps)


def _lstm(graph: LayerGraph, cell: Cell, node: str) -> str:
    taken, _, new, out = (_gate(cell, i) for i in range(4))
    state = _product(graph, _act(graph, "sigmoid", taken, node), _act(graph, "tanh", new, node))
    squashed = graph.add(Activation("tanh"), state)
    step = _product(graph, _act(graph, "sigmoid", out, node), squashed)
    return step if cell.weight_hr is None else graph.add(Linear(cell.weight_hr), step)


def _gru(graph: LayerGraph, cell: Cell, node: str) -> str:
    reset, kept, new = (_gate(cell, i) for i in range(3))
    taken = Linear(Dense(-_values(kept)), None if kept.bias is None else -kept.bias)
    inner = graph.add(new, node)
    if cell.bias_hn is not None:
        gate = graph.add(scaling(cell.bias_hn), _act(graph, "sigmoid", reset, node))
        inner = graph.add(Add(), inner, gate)
    candidate = graph.add(Activation("tanh"), inner)
    return _product(graph, _act(graph, "sigmoid", taken, node), candidate)


def _plain(activation: str) -> Step:
    return lambda graph, cell, node: _act(graph, activation, _gate(cell, 0), node)


def _gate(cell: Cell, number: int) -> Linear:
    """What one gate makes of a frame."""
    rows = slice(number * cell.hidden, (number + 1) * cell.hidden)
    assert isinstance(cell.weight_ih, Dense)
    bias = None if cell.bias is None else cell.bias[rows].clone()
    return Linear(Dense(cell.weight_ih.values[rows].clone()), bias)


def _values(gate: Linear) -> Tensor:
    assert isinstance(gate.weight, Dense)
    return gate.weight.values


def _act(graph: LayerGraph, kind: str, gate: Linear, node: str) -> str:
    return graph.add(Activation(kind), graph.add(gate, node))


def _product(graph: LayerGraph, one: str, two: str) -> str:
    return graph.add(Multiply(), one, two)


_STEPS: dict[str, Step] = {
    "lstm": _lstm,
    "gru": _gru,
    "rnn_tanh": _plain("tanh"),
    "rnn_relu": _plain("relu"),
}

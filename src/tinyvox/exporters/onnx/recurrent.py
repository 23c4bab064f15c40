"""Recurrent layers as ONNX's LSTM, GRU and RNN."""

from __future__ import annotations

from typing import Any

import torch

from tinyvox.exporters.onnx.building import Building
from tinyvox.exporters.onnx.scanning import needs_scan, scanned_cell
from tinyvox.model import GATES, Cell, Recurrent

OPERATORS = {
    "lstm": "LSTM",
    "gru": "GRU",
    "gru_reset_before": "GRU",
    "rnn_tanh": "RNN",
    "rnn_relu": "RNN",
}
ORDER = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN": (0,)}
"""ONNX's order of gates, as places in ours: i o f c of i f g o, and z r h of r z n."""
PEEPHOLE_ORDER = (0, 2, 1)
"""i o f of i f o."""

Function = tuple[str, list[float], list[float]]
"""ONNX's name of a function, its alpha and its beta."""
FUNCTIONS: dict[str, Function] = {
    "sigmoid": ("Sigmoid", [], []),
    "hardsigmoid": ("HardSigmoid", [1 / 6], [0.5]),
    "hard_sigmoid_keras": ("HardSigmoid", [0.2], [0.5]),
    "tanh": ("Tanh", [], []),
    "relu": ("Relu", [], []),
    "identity": ("Affine", [1.0], [0.0]),
}


def recurrent(build: Building, layer: Recurrent, x: str) -> str:
    """One operator for each direction: ONNX has one for both only where they have equal sizes."""
    outputs = [
        (scanned_cell if needs_scan(layer, cell) else _direction)(build, layer, side, cell, x)
        for side, cell in layer.cells().items()
    ]
    joined = outputs[0] if len(outputs) == 1 else build.graph.op("Concat", *outputs, axis=2)
    return joined


def _direction(build: Building, layer: Recurrent, side: str, cell: Cell, x: str) -> str:
    """Hidden states of one direction, [1, frames, size]."""
    graph, operator = build.graph, OPERATORS[layer.kind]
    x = graph.transpose(x, 1, 0, 2)
    assert cell.weight_ih is not None
    rows = _rows(ORDER[operator], cell.hidden)
    weight = build.values(f"{side}.weight_ih", cell.weight_ih.take(rows=rows))
    state = build.values(f"{side}.weight_hh", cell.weight_hh.take(rows=rows))
    if cell.weight_hr is not None:
        # ONNX has no projection: its units feed back through the product of both matrices.
        state = graph.op("MatMul", state, build.values(f"{side}.weight_hr", cell.weight_hr))
    first = graph.integers(0)
    inputs = [x, *(graph.op("Unsqueeze", v, first) for v in (weight, state))]
    inputs.append(_bias(build, side, cell, rows))
    if cell.peepholes is not None:
        order = _rows(PEEPHOLE_ORDER, cell.hidden)
        peepholes = build.vector(f"{side}.peepholes", cell.peepholes[order][None])
        inputs += ["", "", "", peepholes]  # no lengths, no first states
    output = graph.op(operator, *inputs, **_settings(layer, side, cell))  # [frames, 1, 1, hidden]
    states = graph.transpose(graph.op("Squeeze", output, graph.integers(1)), 1, 0, 2)
    if cell.weight_hr is None:
        return states
    return build.times(states, f"{side}.weight_hr", cell.weight_hr)


def _rows(order: tuple[int, ...], hidden: int) -> torch.Tensor:
    return torch.cat([torch.arange(hidden) + gate * hidden for gate in order])


def _bias(build: Building, side: str, cell: Cell, rows: torch.Tensor) -> str:
    """The bias of the inputs, then that of the states, [1, 2 * rows]; no name for none."""
    if cell.bias is None and cell.bias_hn is None:
        return ""
    graph, count = build.graph, len(rows)
    bias = torch.zeros(count) if cell.bias is None else cell.bias[rows]
    own = build.vector(f"{side}.bias", bias)
    if cell.bias_hn is None:
        both = graph.op("Pad", own, graph.integers(0, count))
    else:
        new = build.vector(f"{side}.bias_hn", cell.bias_hn)
        added = graph.op("Pad", new, graph.integers(count - cell.hidden, 0))
        both = graph.op("Concat", own, added, axis=0)
    return graph.op("Unsqueeze", both, graph.integers(0))


def _settings(layer: Recurrent, side: str, cell: Cell) -> dict[str, Any]:
    bend = layer.activation or ("relu" if layer.kind == "rnn_relu" else "tanh")
    gates = GATES[layer.kind]
    names = {4: (layer.gates, bend, bend), 3: (layer.gates, bend), 1: (bend,)}[gates]
    functions = [FUNCTIONS[name] for name in names]
    settings: dict[str, Any] = {
        "hidden_size": cell.hidden,
        "direction": "forward" if side == "forward" else "reverse",
        "activations": [name for name, _, _ in functions],
    }
    for place, name in ((1, "activation_alpha"), (2, "activation_beta")):
        if values := [value for function in functions for value in function[place]]:
            settings[name] = values
    if gates == 3:
        settings["linear_before_reset"] = int(not layer.resets_before())
    return settings

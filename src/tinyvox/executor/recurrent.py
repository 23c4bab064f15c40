"""What recurrent layers compute: by torch's own cells, by ours, or step by step."""

from __future__ import annotations

import functools
import warnings
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from tinyvox.executor.frames import Frames, shortest
from tinyvox.executor.lstm import lstm
from tinyvox.executor.recurrent_cells import Functions, in_torch, unroll
from tinyvox.model import Cell, layers

if TYPE_CHECKING:
    from tinyvox.executor.modules import LayerModule


def recurrent(module: LayerModule, x: Frames) -> Frames:
    """The states of a recurrent layer in both directions, next to each other."""
    layer = module.layer
    assert isinstance(layer, layers.Recurrent)
    outputs = []
    for side, cell in layer.cells().items():
        inputs = x if side == "forward" else x.reversed()
        # Torch's own LSTM does not give the inputs of its projection, and takes one of as many
        # values as there are units for none.
        hidden_inputs = module.on_inputs or cell.size == cell.hidden
        apart = module.on_gradients or (hidden_inputs and cell.weight_hr is not None)
        apart = apart or not in_torch(layer)
        # Torch's cells would also round their states where products are of lower precision.
        own = module.truncation is not None or (_reduced(x) and not torch.is_grad_enabled())
        run = _unroll_cell if apart else _run_truncated if own else _run_cell
        states = Frames(run(module, side, inputs), x.lengths)
        if cell.weight_ih is not None:
            module.report_inputs(f"{side}.weight_ih", inputs)
        if not layer.resets_before():
            before = states.map(lambda v: F.pad(v[:, :-1], (0, 0, 1, 0)))
            module.report_inputs(f"{side}.weight_hh", before)
        outputs.append((states if side == "forward" else states.reversed()).values)
    joined = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2)
    return Frames(joined, x.lengths)


def _reduced(x: Frames) -> bool:
    """Whether matrix products are of lower precision now."""
    return torch.is_autocast_enabled(x.values.device.type)


def _run_truncated(module: LayerModule, side: str, inputs: Frames) -> Tensor:
    """The same with truncated gradients: an LSTM by our own cell, others by torch's, stretch by
    stretch."""
    layer, x = module.layer, inputs.values
    assert isinstance(layer, layers.Recurrent)
    frames = module.truncation or max(x.shape[1], 1)
    cell = layer.cells()[side]
    if layer.kind == "lstm" and cell.weight_hr is None:
        bias = module.vector(f"{side}.bias")
        product = module.weight(f"{side}.weight_ih").apply_to(x)
        factors = module.weight(f"{side}.weight_hh").factors()
        kind = x.device.type
        fast = torch.is_autocast_enabled(kind)
        dtype = torch.get_autocast_dtype(kind) if fast else torch.float32
        return lstm(product, bias, factors, frames, dtype)
    flat, outputs = _flat_weights(module, side, x), []
    state = _zero_state(layer, cell, x)
    for stretch in torch.split(x, frames, dim=1):
        states, *state = _in_torch(layer, stretch, flat, [each.detach() for each in state])
        outputs.append(states)
    return torch.cat(outputs, dim=1)


def _run_cell(module: LayerModule, side: str, inputs: Frames) -> Tensor:
    """Hidden states [batch, frames, size] by torch's own LSTM, GRU and RNN."""
    layer, x = module.layer, inputs.values
    assert isinstance(layer, layers.Recurrent)
    state = _zero_state(layer, layer.cells()[side], x)
    return _in_torch(layer, x, _flat_weights(module, side, x), state)[0]


def _zero_state(layer: layers.Recurrent, cell: Cell, x: Tensor) -> list[Tensor]:
    """The states before the first frame: hidden and, of an LSTM, cell states."""
    sizes = [cell.size, cell.hidden] if layer.kind == "lstm" else [cell.size]
    return [x.new_zeros(1, x.shape[0], size) for size in sizes]


def _in_torch(
    layer: layers.Recurrent, x: Tensor, flat: list[Tensor], state: list[Tensor]
) -> list[Tensor]:
    """Hidden states [batch, frames, size], and the states after the last frame."""
    train = torch.is_grad_enabled()
    options = (True, 1, 0.0, train, False, True)  # biases, layers, dropout, train, two-way, batch
    with warnings.catch_warnings():
        # These warnings are about which library computes it, and about copies that cuDNN makes.
        warnings.filterwarnings("ignore", "LSTM with projections|RNN module weights")
        if layer.kind == "lstm":
            return list(torch.lstm(x, state, flat, *options))
        function = {"gru": torch.gru, "rnn_tanh": torch.rnn_tanh, "rnn_relu": torch.rnn_relu}
        return list(function[layer.kind](x, state[0], flat, *options))


def _flat_weights(module: LayerModule, side: str, x: Tensor) -> list[Tensor]:
    """The weights and biases of a cell in the order in which torch takes them."""
    weights = [module.weight(f"{side}.weight_ih")(), module.weight(f"{side}.weight_hh")()]
    rows, size = weights[1].shape
    bias = module.vector(f"{side}.bias")
    bias_hn = module.vector(f"{side}.bias_hn")
    bias_ih = x.new_zeros(rows) if bias is None else bias
    bias_hh = x.new_zeros(rows)
    if bias_hn is not None:
        bias_hh = torch.cat([bias_hh[: rows - size], bias_hn])
    flat = [*weights, bias_ih, bias_hh]
    if f"{side}/weight_hr" in module.weights:
        flat.append(module.weight(f"{side}.weight_hr")())
    # With autocast, products have another type than what is stored.
    return [values.to(x.dtype) for values in flat] if x.is_cuda else flat


def _unroll_cell(module: LayerModule, side: str, inputs: Frames) -> Tensor:
    """The same step by step; callbacks get the gradients of each matrix's outputs, and the inputs
    of a projection."""
    layer = module.layer
    assert isinstance(layer, layers.Recurrent)
    cell, product = layer.cells()[side], inputs
    if cell.weight_ih is not None:
        product = inputs.map(module.weight(f"{side}.weight_ih").apply_to)
        module.report_gradients(f"{side}.weight_ih", product)
    bias, bias_hn = module.vector(f"{side}.bias"), module.vector(f"{side}.bias_hn")
    from_input = product.values if bias is None else product.values + bias
    from_state = product.map(lambda values: torch.zeros_like(values, requires_grad=True))
    if not layer.resets_before():
        module.report_gradients(f"{side}.weight_hh", from_state)
    added = from_state.values
    if bias_hn is not None:
        added = added + F.pad(bias_hn, (added.shape[2] - len(bias_hn), 0))
    projection = None
    if cell.weight_hr is not None:
        zeros = inputs.map(lambda v: v.new_zeros(*v.shape[:2], cell.size, requires_grad=True))
        module.report_gradients(f"{side}.weight_hr", zeros)
        projection = module.weight(f"{side}.weight_hr")(), zeros.values
    weight = module.weight(f"{side}.weight_hh")()
    if _reduced(inputs):  # once, instead of in every step
        weight = weight.to(torch.get_autocast_dtype(weight.device.type))
    functions = Functions.of(layer, functools.partial(_vector, module, side))
    outputs, states = unroll(functions, from_input, weight, added, projection, module.truncation)
    if projection:
        module.report_inputs(f"{side}.weight_hr", Frames(outputs, inputs.lengths))
    return states


def _vector(module: LayerModule, side: str, name: str) -> Tensor | None:
    """A vector of the cell of one direction."""
    return module.vector(f"{side}.{name}")


def elementwise_recurrence(module: LayerModule, gate: Frames, x: Frames) -> Frames:
    """The states of a recurrence of each value by itself, step by step."""
    layer = module.layer
    assert isinstance(layer, layers.ElementwiseRecurrence)
    frames = min(gate.values.shape[1], x.values.shape[1])
    lengths = shortest((gate, x))
    both = [Frames(each.values[:, :frames], lengths) for each in (gate, x)]
    if layer.reverse:
        both = [each.reversed() for each in both]
    weight = module.vector("weight")
    state, states = torch.zeros_like(both[0].values[:, 0]), []
    for f, u in zip(*(each.values.unbind(1) for each in both), strict=True):
        if weight is None:
            state = f * state + u
        else:
            state = u + torch.sigmoid(f + weight * state) * (state - u)
        states.append(state)
    found = Frames(torch.stack(states, dim=1), lengths)
    return found.reversed() if layer.reverse else found

"""Recurrent cells written out, one time step after the other.

Torch's own functions run a whole utterance in one call and do not give the outputs of the single
matrices. Where the gradients of these outputs are needed, `unroll` gives them. It computes the same
values as torch, and those of the cells that torch does not have.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tinyvox.model import Cell, Recurrent

State = tuple[Tensor, Tensor]
"""Hidden state, [batch, size], and cell state, [batch, hidden], which only an LSTM uses."""


GATES: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "hardsigmoid": F.hardsigmoid,
    "hard_sigmoid_keras": lambda x: (0.2 * x + 0.5).clamp(0, 1),
}
"""What each of GATE_FUNCTIONS computes."""
BENDS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "identity": lambda x: x,
}
"""What each of CELL_ACTIVATIONS computes."""


@dataclass(frozen=True)
class Functions:
    """The functions of a cell, and the vectors that they take, or none."""

    kind: str
    gate: Callable[[Tensor], Tensor]
    bend: Callable[[Tensor], Tensor]
    peepholes: Tensor | None = None
    norm_hh: Tensor | None = None
    bias_hh: Tensor | None = None
    norm_cell: Tensor | None = None
    carries_norm: bool = True
    eps: float = 0.0

    @classmethod
    def of(cls, layer: Recurrent, vector: Callable[[str], Tensor | None]) -> Functions:
        """Those of a cell of a layer, whose vectors `vector` gives by name."""
        own = "relu" if layer.kind == "rnn_relu" else "tanh"
        bend = BENDS[layer.activation or own]
        return cls(
            layer.kind,
            GATES[layer.gates],
            bend,
            vector("peepholes"),
            vector("norm_hh"),
            vector("bias_hh"),
            vector("norm_cell"),
            layer.carries_norm,
            layer.eps,
        )

    def from_state(self, state: Tensor, weight: Tensor, added: Tensor) -> Tensor:
        """The product of a recurrent matrix and a hidden state, plus what is added to it,
        normalized where a cell does so."""
        product = F.linear(state, weight, self.bias_hh) + added
        if self.norm_hh is None:
            return product
        return F.layer_norm(product, product.shape[-1:], self.norm_hh, None, self.eps)

    def normalized(self, cell: Tensor) -> Tensor:
        """The state of an LSTM's cell, normalized where it does so."""
        if self.norm_cell is None:
            return cell
        weight, bias = self.norm_cell.chunk(2)
        return F.layer_norm(cell, cell.shape[-1:], weight, bias, self.eps)


def in_torch(layer: Recurrent) -> bool:
    """Whether torch has the cells of a layer."""
    plain = layer.gates == "sigmoid" and layer.activation is None
    more = any(_has_more(cell) for cell in layer.cells().values())
    return plain and not more and layer.kind not in ("gru_reset_before", "li_gru")


def _has_more(cell: Cell) -> bool:
    """Whether a cell has tensors that torch's have not, or lacks one of theirs."""
    more = (cell.peepholes, cell.norm_hh, cell.norm_cell)
    return cell.weight_ih is None or any(each is not None for each in more)


def unroll(
    functions: Functions,
    from_input: Tensor,
    weight_hh: Tensor,
    from_state: Tensor,
    projection: tuple[Tensor, Tensor] | None = None,
    truncate: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Run a cell from zero states over all frames.

    Returns the outputs of the units, [batch, frames, hidden], and the hidden states, [batch,
    frames, size]; both are equal without a `projection`.

    `from_input`, [batch, frames, gates * hidden], is the product of the
    inputs and `weight_ih`, plus the biases. `from_state`, of the same shape, is added to the
    product of the hidden state and `weight_hh`, [gates * hidden, size]: the hidden bias of the new
    gate of a GRU, else zeros; its gradient is the gradient of that product. `projection` is the
    weight of the projection, [size, hidden], and zeros, [batch, frames, size], whose gradient is
    the gradient of its output. Gradients flow back through at most `truncate` frames.
    """
    batch, frames, _ = from_input.shape
    size = weight_hh.shape[1]
    weight, zeros = projection if projection else (None, from_input.new_zeros(0, frames))
    hidden = size if weight is None else weight.shape[1]
    state = from_input.new_zeros(batch, size), from_input.new_zeros(batch, hidden)
    outputs, states = [], []
    steps = zip(*(v.unbind(1) for v in (from_input, from_state, zeros)), strict=True)
    for frame, (now, added, zero) in enumerate(steps):
        if truncate is not None and frame % truncate == 0:
            state = state[0].detach(), state[1].detach()
        output, cell = _STEPS[functions.kind](functions, now, weight_hh, added, state)
        state = (output if weight is None else F.linear(output, weight) + zero), cell
        outputs.append(output)
        states.append(state[0])
    return torch.stack(outputs, dim=1), torch.stack(states, dim=1)


def _lstm(
    functions: Functions, from_input: Tensor, weight_hh: Tensor, added: Tensor, state: State
) -> State:
    gate, bend = functions.gate, functions.bend
    i, f, g, o = (from_input + functions.from_state(state[0], weight_hh, added)).chunk(4, dim=1)
    if functions.peepholes is None:
        cell = gate(f) * state[1] + gate(i) * bend(g)
        normal = functions.normalized(cell)
        return gate(o) * bend(normal), normal if functions.carries_norm else cell
    to_i, to_f, to_o = functions.peepholes.chunk(3)
    cell = gate(f + to_f * state[1]) * state[1] + gate(i + to_i * state[1]) * bend(g)
    normal = functions.normalized(cell)
    cell = normal if functions.carries_norm else cell
    return gate(o + to_o * cell) * bend(normal), cell


def _gru(
    functions: Functions, from_input: Tensor, weight_hh: Tensor, added: Tensor, state: State
) -> State:
    r_in, z_in, n_in = from_input.chunk(3, dim=1)
    by_state = functions.from_state(state[0], weight_hh, added)
    r_state, z_state, n_state = by_state.chunk(3, dim=1)
    new = functions.bend(n_in + functions.gate(r_in + r_state) * n_state)
    update = functions.gate(z_in + z_state)
    return new + update * (state[0] - new), state[1]


def _gru_reset_before(
    functions: Functions, from_input: Tensor, weight_hh: Tensor, added: Tensor, state: State
) -> State:
    hidden = state[0].shape[1]
    gates_in, n_in = torch.split(from_input + added, [2 * hidden, hidden], dim=1)
    of_gates, of_new = torch.split(weight_hh, [2 * hidden, hidden])
    reset, update = functions.gate(gates_in + F.linear(state[0], of_gates)).chunk(2, dim=1)
    new = functions.bend(n_in + F.linear(reset * state[0], of_new))
    return new + update * (state[0] - new), state[1]


def _rnn(
    functions: Functions, from_input: Tensor, weight_hh: Tensor, added: Tensor, state: State
) -> State:
    by_state = functions.from_state(state[0], weight_hh, added)
    return functions.bend(from_input + by_state), state[1]


def _li_gru(
    functions: Functions, from_input: Tensor, weight_hh: Tensor, added: Tensor, state: State
) -> State:
    by_state = functions.from_state(state[0], weight_hh, added)
    update, new = (from_input + by_state).chunk(2, dim=1)
    new = functions.bend(new)
    return new + functions.gate(update) * (state[0] - new), state[1]


_STEPS: dict[str, Callable[[Functions, Tensor, Tensor, Tensor, State], State]] = {
    "lstm": _lstm,
    "gru": _gru,
    "rnn_tanh": _rnn,
    "rnn_relu": _rnn,
    "gru_reset_before": _gru_reset_before,
    "li_gru": _li_gru,
}

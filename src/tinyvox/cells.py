"""Recurrent cells written out, one time step after the other.

Torch's own run a whole utterance in one call and do not say what the matrices put out on the way;
where gradients of that are wanted, these say it. They compute what torch's compute.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

State = tuple[Tensor, Tensor]
"""Hidden state and cell state, [batch, hidden] each; the cell state of an LSTM alone is used."""


def unroll(kind: str, from_input: Tensor, weight_hh: Tensor, from_state: Tensor) -> Tensor:
    """Hidden states [batch, frames, hidden] from zero ones.

    `from_input`, [batch, frames, gates * hidden], is what the inputs give, biases added;
    `from_state`, of the same shape, is added to what `weight_hh` makes of the hidden state: the
    bias of a GRU's new gate, and zeros whose gradients are those of that product.
    """
    size = from_input.shape[0], weight_hh.shape[1]
    state = from_input.new_zeros(size), from_input.new_zeros(size)
    states = []
    for now, added in zip(from_input.unbind(1), from_state.unbind(1), strict=True):
        state = _STEPS[kind](now, F.linear(state[0], weight_hh) + added, state)
        states.append(state[0])
    return torch.stack(states, dim=1)


def _lstm(from_input: Tensor, recurrent: Tensor, state: State) -> State:
    i, f, g, o = (from_input + recurrent).chunk(4, dim=1)
    cell = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(cell), cell


def _gru(from_input: Tensor, recurrent: Tensor, state: State) -> State:
    r_in, z_in, n_in = from_input.chunk(3, dim=1)
    r_state, z_state, n_state = recurrent.chunk(3, dim=1)
    new = torch.tanh(n_in + torch.sigmoid(r_in + r_state) * n_state)
    update = torch.sigmoid(z_in + z_state)
    return new + update * (state[0] - new), state[1]


def _tanh(from_input: Tensor, recurrent: Tensor, state: State) -> State:
    return torch.tanh(from_input + recurrent), state[1]


def _relu(from_input: Tensor, recurrent: Tensor, state: State) -> State:
    return torch.relu(from_input + recurrent), state[1]


_STEPS: dict[str, Callable[[Tensor, Tensor, State], State]] = {
    "lstm": _lstm,
    "gru": _gru,
    "rnn_tanh": _tanh,
    "rnn_relu": _relu,
}

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
"""Hidden state, [batch, size], and cell state, [batch, hidden], which an LSTM alone uses."""


def unroll(
    kind: str,
    from_input: Tensor,
    weight_hh: Tensor,
    from_state: Tensor,
    projection: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """What the units put out from zero states, [batch, frames, hidden], and the hidden states,
    [batch, frames, size]: the same without a `projection`.

    `from_input`, [batch, frames, gates * hidden], is what the inputs give, biases added;
    `from_state`, of the same shape, is added to what `weight_hh` makes of the hidden state: the
    bias of a GRU's new gate, and zeros whose gradients are those of that product. A projection is
    its weight, [size, hidden], and such zeros for it, [batch, frames, size].
    """
    batch, frames, _ = from_input.shape
    size = weight_hh.shape[1]
    weight, zeros = projection if projection else (None, from_input.new_zeros(0, frames))
    hidden = size if weight is None else weight.shape[1]
    state = from_input.new_zeros(batch, size), from_input.new_zeros(batch, hidden)
    outputs, states = [], []
    for now, added, zero in zip(
        *(v.unbind(1) for v in (from_input, from_state, zeros)), strict=True
    ):
        output, cell = _STEPS[kind](now, F.linear(state[0], weight_hh) + added, state)
        state = (output if weight is None else F.linear(output, weight) + zero), cell
        outputs.append(output)
        states.append(state[0])
    return torch.stack(outputs, dim=1), torch.stack(states, dim=1)


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

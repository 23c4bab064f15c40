"""Recurrent cells written out, one time step after the other.

Torch's own functions run a whole utterance in one call and do not give the outputs of the single
matrices. Where the gradients of these outputs are needed, `unroll` gives them. It computes the same
values as torch.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

State = tuple[Tensor, Tensor]
"""Hidden state, [batch, size], and cell state, [batch, hidden], which only an LSTM uses."""


def unroll(
    kind: str,
    from_input: Tensor,
    weight_hh: Tensor,
    from_state: Tensor,
    projection: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Run a cell from zero states over all frames.

    Returns the outputs of the units, [batch, frames, hidden], and the hidden states, [batch,
    frames, size]; both are equal without a `projection`.

    `kind` is a key of GATES. `from_input`, [batch, frames, gates * hidden], is the product of the
    inputs and `weight_ih`, plus the biases. `from_state`, of the same shape, is added to the
    product of the hidden state and `weight_hh`, [gates * hidden, size]: the hidden bias of the new
    gate of a GRU, else zeros; its gradient is the gradient of that product. `projection` is the
    weight of the projection, [size, hidden], and zeros, [batch, frames, size], whose gradient is
    the gradient of its output.
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

"""An LSTM over whole utterances whose recurrent matrix may be a product, with truncated gradients.

Torch's own LSTM takes a whole matrix. Here the two factors of a product are applied one after the
other, which at a low rank is a small part of the work; and the gradients of all matrices are
products over all frames at once. With truncated gradients the stretches of an utterance are
independent of each other in the backward pass, so that they run side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def lstm(
    from_input: Tensor, factors: Sequence[Tensor], truncate: int, dtype: torch.dtype
) -> Tensor:
    """Hidden states, float32 [batch, frames, hidden], from zero states.

    `from_input`, [batch, frames, 4 * hidden], is the product of the inputs and `weight_ih`, plus
    the bias. The product of `factors`, one or two, is `weight_hh`. Gradients flow back through at
    most `truncate` frames (Williams and Peng 1990); the states themselves are carried on. Matrix
    products are computed in `dtype`; the cell and its sums are float32.
    """
    with torch.autocast(from_input.device.type, enabled=False):
        frames = from_input.shape[1]
        count = max(1, -(-frames // truncate))
        stretch = -(-frames // count)
        padded = F.pad(
            from_input.float().transpose(0, 1), (0, 0, 0, 0, 0, count * stretch - frames)
        )
        last = factors[1] if len(factors) > 1 else None
        states: Tensor = _LSTM.apply(  # type: ignore[no-untyped-call]
            padded, factors[0], last, stretch, dtype
        )
        return states[:frames].transpose(0, 1)


class _LSTM(torch.autograd.Function):
    """Times first: inputs [frames, batch, 4 * hidden] to states [frames, batch, hidden]."""

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        left: Tensor,
        right: Tensor | None,
        stretch: int,
        dtype: torch.dtype,
    ) -> Tensor:
        to_gates = [w.to(dtype) for w in (left, right) if w is not None]
        frames, batch, size = inputs.shape
        gates = inputs.clone()
        cells = inputs.new_empty(frames, batch, size // 4)
        states = torch.empty_like(cells)
        state = cell = inputs.new_zeros(batch, size // 4)
        for now in range(frames):
            cell = _forward_step(gates[now], _applied(to_gates, state), cell, cells[now])
            state = torch.mul(gates[now].chunk(4, 1)[3], cell.tanh(), out=states[now])
        ctx.save_for_backward(gates, cells, states, *to_gates)
        ctx.stretch = stretch
        return states

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        gates, cells, states, *to_gates = ctx.saved_tensors
        from_gates = _gate_gradients(gates, cells, grads[0], to_gates, ctx.stretch)
        before = F.pad(states[:-1], (0, 0, 0, 0, 1, 0)).flatten(0, 1).to(to_gates[0].dtype)
        errors = from_gates.flatten(0, 1).to(to_gates[0].dtype)
        if len(to_gates) == 1:
            return from_gates, (errors.T @ before).float(), None, None, None
        left, right = to_gates
        of_left = errors.T @ (before @ right.T)
        of_right = (errors @ left).T @ before
        return from_gates, of_left.float(), of_right.float(), None, None


def _applied(factors: Sequence[Tensor], state: Tensor) -> Tensor:
    """The product of the factors times states [..., size]."""
    product = state.to(factors[0].dtype)
    for factor in reversed(factors):
        product = product @ factor.T
    return product


def _forward_step(gates: Tensor, recurrent: Tensor, cell: Tensor, out: Tensor) -> Tensor:
    """The new cell states, written to `out`; `gates` become what lets values through."""
    gates += recurrent
    i, f, g, o = gates.chunk(4, 1)
    for gate in (i, f, o):
        gate.sigmoid_()
    g.tanh_()
    return torch.mul(f, cell, out=out).addcmul_(i, g)


def _gate_gradients(
    gates: Tensor, cells: Tensor, grads: Tensor, factors: Sequence[Tensor], stretch: int
) -> Tensor:
    """The gradients of the sums inside the gates, [frames, batch, 4 * hidden]."""
    frames, batch, size = gates.shape
    before = F.pad(cells[:-1], (0, 0, 0, 0, 1, 0))
    shape = frames // stretch, stretch, batch
    gates, cells, before, grads = (
        v.view(*shape, -1).transpose(0, 1) for v in (gates, cells, before, grads.contiguous())
    )
    result = gates.new_empty(*shape, size).transpose(0, 1)
    of_state = of_cell = gates.new_zeros(shape[0], batch, size // 4)
    for now in range(stretch - 1, -1, -1):
        step = gates[now], cells[now], before[now], grads[now] + of_state, of_cell
        of_gates, of_cell = _backward_step(*step)
        result[now] = of_gates
        of_state = of_gates.to(factors[0].dtype)
        for factor in factors:
            of_state = of_state @ factor
    return result.transpose(0, 1).reshape(frames, batch, size)


def _backward_step(
    gates: Tensor, cell: Tensor, before: Tensor, of_state: Tensor, of_cell: Tensor
) -> tuple[Tensor, Tensor]:
    """The gradients inside the gates, and that of the cell states before."""
    i, f, g, o = gates.chunk(4, -1)
    bent = cell.tanh()
    of_cell = of_cell + of_state * o * (1 - bent * bent)
    inside = (
        of_cell * g * (i * (1 - i)),
        of_cell * before * (f * (1 - f)),
        of_cell * i * (1 - g * g),
        of_state * bent * (o * (1 - o)),
    )
    return torch.cat(inside, -1), of_cell * f

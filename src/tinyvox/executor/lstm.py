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
    product: Tensor,
    bias: Tensor | None,
    factors: Sequence[Tensor],
    truncate: int,
    dtype: torch.dtype,
) -> Tensor:
    """Hidden states, [batch, frames, hidden], from zero states, as `dtype`.

    `product`, [batch, frames, 4 * hidden], is that of the inputs and `weight_ih`; the product of
    `factors`, one or two, is `weight_hh`. Gradients flow back through at most `truncate` frames
    (Williams and Peng 1990); the states themselves are carried on. Matrix products are computed in
    `dtype`; the cell and its sums are float32.
    """
    with torch.autocast(product.device.type, enabled=False):
        last = factors[1] if len(factors) > 1 else None
        bias = product.new_zeros(product.shape[2]) if bias is None else bias
        states: Tensor = _LSTM.apply(  # type: ignore[no-untyped-call]
            product, bias, factors[0], last, truncate, dtype
        )
        return states.transpose(0, 1)


class _LSTM(torch.autograd.Function):
    """The states come with the frames first, [frames, batch, hidden]."""

    @staticmethod
    def forward(
        ctx: Any,
        product: Tensor,
        bias: Tensor,
        left: Tensor,
        right: Tensor | None,
        truncate: int,
        dtype: torch.dtype,
    ) -> Tensor:
        factors = [w.to(dtype) for w in (left, right) if w is not None]
        batch, frames, size = product.shape
        count = max(1, -(-frames // truncate))
        stretch = -(-frames // count)  # all are as long: frames past the end are zeros
        gates = bias.new_empty(count * stretch, batch, size)
        gates[:frames] = product.transpose(0, 1)
        gates[:frames] += bias
        gates[frames:] = 0
        cells = gates.new_empty(count * stretch, batch, size // 4)
        states = gates.new_empty(cells.shape, dtype=dtype)
        state, cell = states.new_zeros(batch, size // 4), cells.new_zeros(batch, size // 4)
        for now in range(len(gates)):
            state = _forward_step(gates[now], _applied(factors, state), cell, cells[now])
            state, cell = states[now].copy_(state), cells[now]
        ctx.save_for_backward(gates, cells, states, *factors)
        ctx.stretch, ctx.frames, ctx.kind = stretch, frames, product.dtype
        return states[:frames]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        gates, cells, states, *factors = ctx.saved_tensors
        padded = F.pad(grads[0], (0, 0, 0, 0, 0, len(gates) - ctx.frames)).float()
        errors = _gate_gradients(gates, cells, padded, factors, ctx.stretch)
        of_product = errors[: ctx.frames].transpose(0, 1).to(ctx.kind)
        of_bias = errors.sum((0, 1), dtype=torch.float32)
        before = F.pad(states[:-1], (0, 0, 0, 0, 1, 0)).flatten(0, 1)
        errors = errors.flatten(0, 1)
        if len(factors) == 1:
            return of_product, of_bias, (errors.T @ before).float(), None, None, None
        left, right = factors
        of_left = errors.T @ (before @ right.T)
        of_right = (errors @ left).T @ before
        return of_product, of_bias, of_left.float(), of_right.float(), None, None


def _applied(factors: Sequence[Tensor], state: Tensor) -> Tensor:
    """The product of the factors times states [..., size]."""
    for factor in reversed(factors):
        state = state @ factor.T
    return state


def _forward_step(gates: Tensor, recurrent: Tensor, cell: Tensor, out: Tensor) -> Tensor:
    """The hidden states; `gates` become what they let through, `out` the new cell states."""
    gates += recurrent
    i, f, g, o = gates.chunk(4, 1)
    gates[:, : 2 * i.shape[1]].sigmoid_()
    g.tanh_()
    o.sigmoid_()
    torch.mul(f, cell, out=out).addcmul_(i, g)
    return out.tanh().mul_(o)


def _gate_gradients(
    gates: Tensor, cells: Tensor, grads: Tensor, factors: Sequence[Tensor], stretch: int
) -> Tensor:
    """The gradients of the sums inside the gates, [frames, batch, 4 * hidden]; `grads` are those of
    the states."""
    frames, batch, size = gates.shape
    result = states_like = gates.new_empty(gates.shape, dtype=factors[0].dtype)
    before = F.pad(cells[:-1], (0, 0, 0, 0, 1, 0))
    shape = frames // stretch, stretch, batch
    gates, cells, before, grads, result = (
        v.view(*shape, -1) for v in (gates, cells, before, grads, result)
    )
    errors = result.new_empty(shape[0], batch, size)
    of_cell = gates.new_zeros(shape[0], batch, size // 4)
    of_state = of_cell.to(result.dtype)
    for now in range(stretch - 1, -1, -1):
        of_now = grads[:, now].add_(of_state)
        step = gates[:, now], cells[:, now], before[:, now], of_now, of_cell
        of_cell = _backward_step(*step, errors)
        result[:, now] = errors
        of_state = errors.flatten(0, 1)
        for factor in factors:
            of_state = of_state @ factor
        of_state = of_state.view(of_cell.shape)
    return states_like


def _backward_step(
    gates: Tensor, cell: Tensor, before: Tensor, of_state: Tensor, of_cell: Tensor, out: Tensor
) -> Tensor:
    """The gradient of the cell states before; those inside the gates go to `out`."""
    i, f, g, o = gates.chunk(4, -1)
    of_i, of_f, of_g, of_o = out.chunk(4, -1)
    bent = cell.tanh()
    of_o.copy_((of_state * bent).mul_(o - o * o))
    of_cell = of_cell.addcmul(of_state * o, 1 - bent * bent)
    of_i.copy_((of_cell * g).mul_(i - i * i))
    of_g.copy_((of_cell * i).mul_(1 - g * g))
    of_f.copy_((of_cell * before).mul_(f - f * f))
    return of_cell.mul_(f)

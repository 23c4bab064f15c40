"""The last linear layer, fitted to the outputs of the original by their divergence.

What least squares fit are the logits, all alike. What counts is the softmax of them, and the
divergence of a linear layer's softmax is convex: it has one minimum, which is found here.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tinyvox.model import Linear, LogSoftmax, Model, Node

STEPS = 40
"""Iterations of the minimization at most."""
HOLD = 1e-3
"""How strongly the weights are drawn to where they were, as a share of the mean curvature."""


def gives_outputs(model: Model, node: Node) -> bool:
    """Whether a layer is linear, and the outputs of the model are the log-softmax of its own."""
    last = model.nodes[-1]
    read = [each.name for each in model.nodes if node.name in each.inputs]
    return (
        isinstance(node.layer, Linear)
        and isinstance(last.layer, LogSoftmax)
        and model.output == last.name
        and read == [last.name]
    )


def fit_outputs(
    values: Tensor, bias: Tensor, inputs: Tensor, wanted: Tensor
) -> tuple[Tensor, Tensor]:
    """The weights, float32 [out, in], and the bias [out] with the least divergence.

    It is the mean KL divergence over frames of the softmax of the outputs for `inputs`, float32
    [frames, in], from `wanted`, log-probabilities [frames, out]. The weights are also drawn to
    `values`, with which the search begins.
    """
    targets = wanted.exp()
    hold = HOLD * inputs.square().mean() * (targets * (1 - targets)).mean() / 2
    weight = values.clone().requires_grad_()
    offset = bias.clone().requires_grad_()
    search = torch.optim.LBFGS(
        [weight, offset], max_iter=STEPS, history_size=12, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        search.zero_grad()
        outputs = F.log_softmax(F.linear(inputs, weight, offset), dim=1)
        found = (targets * (wanted - outputs)).sum(1).mean()
        found = found + hold * (weight - values).square().sum()
        found.backward()  # type: ignore[no-untyped-call]
        return found

    search.step(loss)  # type: ignore[no-untyped-call]
    if not bool(torch.isfinite(weight).all() and torch.isfinite(offset).all()):
        return values, bias
    return weight.detach(), offset.detach()

"""Structured pruning while a model is trained: on a schedule, and by group lasso.

In a training loop:

    pruner = Pruner(executor, GradualPruning(keep=0.5), steps=1000)
    for features, targets in batches:
        loss = criterion(executor(features), targets) + pruner.penalty()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        pruner.step()
    small = pruner.model()
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tinyvox.errors import RecipeError
from tinyvox.executor import DenseWeight, Executor, ProductWeight
from tinyvox.model import Coded, Group, LayerNorm, Member, Model, groups, keep_units
from tinyvox.passes import check_patterns
from tinyvox.recipe import GradualPruning, matches, units_kept


class Pruner:
    """Removes hidden units, neurons and channels of an executor while it is trained.

    A unit owns its rows in all gates, its biases and normalization, and the columns of every matrix
    that reads it. When it is removed, these stay zero, also where weights are rounded, and it does
    not count in layer norms. So `model()`, which is smaller, computes what the executor computes.
    """

    def __init__(
        self, executor: Executor, settings: GradualPruning | None, steps: int | None = None
    ) -> None:
        """Prune a training of so many `steps`, which is needed where the settings give fractions of
        it. Without settings nothing is pruned. The executor must be on its device already.

        Raises RecipeError for a pattern that matches no group, a matrix that is coded, or a range
        of steps that does not fit the training.
        """
        self.executor, self.settings, self.done = executor, settings, 0
        self.span = (0, 0) if settings is None else _span(settings, steps)
        self._groups = [] if settings is None else _matching(executor, settings)
        leaves = {share.parameter: share.leaf for u in self._groups for share in u.shares}
        self._masks = {p: torch.ones_like(p, requires_grad=False) for p in leaves}
        for parameter, leaf in leaves.items():
            if leaf is not None:
                leaf.register_forward_hook(functools.partial(_masked, self._masks[parameter]))

    def penalty(self) -> Tensor:
        """`lasso` times the sum of the norms of all units, a scalar to add to the loss; zero before
        `start` and after `stop`.

        The norm of a unit is over its weights in all matrices, each counted once: the rows of all
        gates, and the columns of all matrices that read it. Biases do not count: without the
        columns they have no effect.

        Source: Wen et al., "Learning intrinsic sparse structures within LSTM", 2018, section 3.2.
        """
        start, stop = self.span
        lasso = self.settings.lasso if self.settings and start <= self.done < stop else 0
        if not lasso:
            return torch.zeros(())
        squares = torch.cat([units.total(torch.square) for units in self._groups])
        return lasso * squares[squares > 0].sqrt().sum()

    def step(self) -> None:
        """Call this after each step of the optimizer, before the gradients are cleared: it removes
        units where it is time, and sets the weights of removed units back to zero."""
        self.done += 1
        if self.settings is not None:
            with torch.no_grad():
                self._step(self.settings)

    def model(self) -> Model:
        """The model with the present parameters, without the removed units."""
        kept = {u.name: u.alive.nonzero().flatten() for u in self._groups if not u.alive.all()}
        return keep_units(self.executor.model(), kept)

    def left_of(self, leaf: DenseWeight, coded: Coded) -> Coded:
        """The codes of a leaf without the rows and columns of removed units."""
        mask = self._masks.get(leaf.values)
        if mask is None:
            return coded
        rows, columns = (mask.any(axis).nonzero().flatten().cpu() for axis in (1, 0))
        return coded.take(rows, columns)

    def state_dict(self) -> dict[str, Any]:
        """The state of the pruning: steps done, which units are left, and their scores so
        far."""
        return {
            "done": self.done,
            "alive": {units.name: units.alive for units in self._groups},
            "scores": {units.name: units.scores for units in self._groups},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state. One without groups comes from a training that did not prune so far.

        Raises RecipeError where the state is one of other groups, or where the pruning would be
        over already.
        """
        found = {name: len(alive) for name, alive in state["alive"].items()}
        mine = {units.name: units.size for units in self._groups}
        if found and found != mine:
            raise RecipeError(
                f"prune: found the state of the groups {', '.join(found)}, "
                f"expected {', '.join(mine) or 'none'}; begin anew"
            )
        if self._groups and not found and state["done"] >= self.span[1]:
            raise RecipeError(
                f"prune: found {state['done']} steps done without pruning, expected fewer than "
                f"{self.span[1]}, where it stops; train on for longer"
            )
        self.done = state["done"]
        for units in self._groups if found else ():
            units.alive = state["alive"][units.name].cpu()
            units.scores.copy_(state["scores"][units.name])
        with torch.no_grad():
            self._mask()
            self._hold()

    def _step(self, settings: GradualPruning) -> None:
        start, stop = self.span
        if settings.criterion == "taylor" and self.done <= stop:
            self._weigh()
        due = (self.done - start) % settings.every == 0 or self.done == stop
        if due and start <= self.done <= stop:
            self._remove(settings)
        self._hold()

    def _weigh(self) -> None:
        """Add the first-order Taylor term of each weight, |weight * gradient|, to the scores of
        its unit (Molchanov et al., "Importance estimation for neural network pruning", 2019,
        section 3, with magnitudes instead of squares)."""
        if all(parameter.grad is None for parameter in self._masks):
            raise RecipeError("prune: found no gradients; step the pruner before they are cleared")
        for units in self._groups:
            units.scores += units.total(_taylor)

    def _remove(self, settings: GradualPruning) -> None:
        start, stop = self.span
        for units in self._groups:
            norms = units.total(torch.square).sqrt()
            scores = norms if settings.criterion == "norm" else units.scores
            keep = 1.0 if settings.keep is None else settings.keep
            gone = 1 - units_kept(keep, settings.multiple, units.size) / units.size
            sparsity = cubic_sparsity(self.done, start, stop, gone)
            units.keep_best(scores, units.size - round(sparsity * units.size))
            if settings.lasso and self.done == stop:
                left = norms[units.alive]
                large = int((left >= settings.threshold * left.max()).sum())
                units.keep_best(norms, _rounded_up(large, settings.multiple))
            units.scores.zero_()
        self._mask()

    def _mask(self) -> None:
        for mask in self._masks.values():
            mask.fill_(1)
        for units in self._groups:
            for share in units.shares:
                lines = share.lines[~units.alive.to(share.lines.device)].flatten()
                self._masks[share.parameter].index_fill_(share.axis, lines, 0)
        vectors = dict(self.executor.vectors())
        for node in self.executor.source.nodes:
            weight = vectors.get(f"{node.name}.weight")
            if isinstance(node.layer, LayerNorm) and weight in self._masks:
                self.executor.count_in_norm(node.name, self._masks[weight].nonzero().flatten())

    def _hold(self) -> None:
        for parameter, mask in self._masks.items():
            if parameter.requires_grad:
                parameter.mul_(mask)


def cubic_sparsity(step: int, start: int, stop: int, final: float) -> float:
    """The share of units that is removed after so many steps: 0 up to `start`, `final` from `stop`.

    Source: Zhu and Gupta, "To prune, or not to prune", 2017, equation 1.
    """
    left = min(1.0, max(0.0, (stop - step) / (stop - start)))
    return final * (1 - left**3)


def _span(settings: GradualPruning, steps: int | None) -> tuple[int, int]:
    """The first and the last step of the pruning, in a training of so many steps."""
    moments = (settings.start, settings.stop)
    if steps is None and any(isinstance(moment, float) for moment in moments):
        raise RecipeError(
            f"prune: from {moments[0]} to {moments[1]} of an unknown number of steps; "
            "give steps, or start and stop as whole numbers"
        )
    start, stop = (m if isinstance(m, int) else round(m * (steps or 0)) for m in moments)
    if start >= stop or (steps is not None and stop > steps):
        known = "" if steps is None else f" of {steps}"
        raise RecipeError(f"prune: from step {start} to {stop}{known}, expected a rising range")
    return start, stop


def _rounded_up(count: int, multiple: int) -> int:
    return math.ceil(count / multiple) * multiple


@dataclass(frozen=True, eq=False)
class _Share:
    """What the units of a group own in one parameter: rows (axis 0) or columns (axis 1), whose
    indices are `lines`, int64 [units, lines of a unit]."""

    parameter: nn.Parameter
    axis: int
    lines: Tensor
    leaf: DenseWeight | None
    """The leaf that the parameter belongs to; None where it is a vector."""
    counted: Tensor | None
    """Weights that are counted with the rows of the unit already, bool of the parameter's shape."""

    def total(self, measure: Callable[[nn.Parameter], Tensor]) -> Tensor:
        """Sum of a measure over the weights of each unit, [units]."""
        values = measure(self.parameter)
        if self.counted is not None:
            values = values.masked_fill(self.counted, 0)
        return values.sum(1 - self.axis)[self.lines].sum(1)


class _Units:
    """The units of one group: what they own, which are left, and their scores so far."""

    def __init__(self, group: Group, shares: tuple[_Share, ...]) -> None:
        self.name, self.size, self.shares = group.name, group.size, shares
        self.alive = torch.ones(group.size, dtype=torch.bool)
        self.scores = torch.zeros(group.size, device=shares[0].parameter.device)

    def total(self, measure: Callable[[nn.Parameter], Tensor]) -> Tensor:
        """Sum of a measure over the weights of each unit in all matrices, [units]."""
        return torch.stack([s.total(measure) for s in self.shares if s.leaf is not None]).sum(0)

    def keep_best(self, scores: Tensor, count: int) -> None:
        """Keep so many of the units that are left, those with the highest scores."""
        count = min(count, int(self.alive.sum()))
        best = scores.cpu().masked_fill(~self.alive, -1).topk(count).indices
        self.alive = torch.zeros_like(self.alive).index_fill(0, best, True)


def _taylor(parameter: nn.Parameter) -> Tensor:
    gradient = parameter.grad
    return torch.zeros_like(parameter) if gradient is None else (parameter * gradient).abs()


def _masked(mask: Tensor, leaf: nn.Module, inputs: object, values: Tensor) -> Tensor:
    return values * mask


def _matching(executor: Executor, settings: GradualPruning) -> list[_Units]:
    found = groups(executor.source)
    check_patterns(settings.layers, [group.name for group in found], "prune")
    matching = [group for group in found if matches(settings.layers, group.name)]
    return [_Units(group, _shares(executor, group)) for group in matching]


def _shares(executor: Executor, group: Group) -> tuple[_Share, ...]:
    """What the units of the group own in each parameter, rows before columns."""
    weights, vectors = dict(executor.weights()), dict(executor.vectors())
    units = torch.arange(group.size)
    lines: dict[tuple[nn.Parameter, int], list[Tensor]] = {}
    leaves: dict[nn.Parameter, DenseWeight] = {}
    for member in sorted(group.members, key=lambda member: member.axis):
        if member.tensor in weights:
            leaf = _leaf(weights[member.tensor], member, group)
            leaves[leaf.values] = leaf
            parameter = leaf.values
        else:
            parameter = vectors[member.tensor]
        positions = member.positions(units).view(group.size, -1).to(parameter.device)
        parts = lines.setdefault((parameter, member.axis), [])
        if not any(torch.equal(part, positions) for part in parts):  # else it is a shared factor
            parts.append(positions)
    joined = {place: torch.cat(parts, dim=1) for place, parts in lines.items()}
    return tuple(
        _Share(parameter, axis, own, leaves.get(parameter), _crossing(parameter, axis, joined))
        for (parameter, axis), own in joined.items()
    )


def _leaf(weight: nn.Module, member: Member, group: Group) -> DenseWeight:
    """The leaf that has the rows (axis 0) or columns (axis 1) of the member's matrix."""
    while isinstance(weight, ProductWeight):
        weight = weight.left if member.axis == 0 else weight.right
    if not isinstance(weight, DenseWeight):
        raise RecipeError(
            f"prune: {member.tensor} is coded, and units of {group.name!r} have weights in it, "
            f"expected dense values; prune before quantizing, or leave {group.name!r} out"
        )
    return weight


def _crossing(
    parameter: nn.Parameter, axis: int, lines: Mapping[tuple[nn.Parameter, int], Tensor]
) -> Tensor | None:
    """Where the columns of a unit cross its own rows, bool [out, in]; None where they do not."""
    rows = lines.get((parameter, 0))
    if axis == 0 or rows is None:
        return None
    mask = torch.zeros(parameter.shape, dtype=torch.bool, device=parameter.device)
    mask[rows[:, :, None], lines[parameter, 1][:, None, :]] = True
    return mask

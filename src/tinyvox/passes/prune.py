"""Structured pruning: whole hidden units, neurons and channels go."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tinyvox.evidence import NOTHING, Evidence
from tinyvox.groups import Group, fixed_layers, groups, keep_units
from tinyvox.model import Model
from tinyvox.passes.outcome import Note, Outcome, check_patterns
from tinyvox.recipe import PruneSettings, matches


def prune(model: Model, settings: PruneSettings, evidence: Evidence = NOTHING) -> Outcome:
    """Keep the units of the largest norm in every group that matches; evidence is not looked at.

    Raises RecipeError for a pattern that matches no group.
    """
    found = groups(model)
    check_patterns(settings.layers, [group.name for group in found], "prune")
    reason = "left alone: its units are tied to the model's input, output or a grouped layer"
    notes = [Note(name, reason) for name in fixed_layers(model)]
    keep = {}
    for group in found:
        count = _count(group.size, settings)
        if not matches(settings.layers, group.name):
            notes.append(Note(group.name, f"left alone: no pattern matches its {group.size} units"))
        elif count == group.size:
            notes.append(Note(group.name, f"left alone: all {group.size} units are kept"))
        else:
            keep[group.name] = importance(model, group).topk(count).indices.sort().values
            notes.append(Note(group.name, f"kept {count} of {group.size} units"))
    return Outcome(keep_units(model, keep), tuple(notes))


def _count(size: int, settings: PruneSettings) -> int:
    if isinstance(settings.keep, int):
        return min(size, settings.keep)
    count = math.ceil(round(settings.keep * size, 6))
    return min(size, math.ceil(count / settings.multiple) * settings.multiple)


def importance(model: Model, group: Group) -> Tensor:
    """The norm of each unit over every matrix that it has a part in, float64 [size].

    A unit's rows (how it is computed) and columns (who reads it) count alike. For each matrix and
    axis the mean square of the unit's values is divided by that of the matrix, so that neither the
    sizes nor the scales of the matrices matter; vectors do not count.

    Sources: Li et al., "Pruning filters for efficient ConvNets", 2017, section 3.1 (the norm);
    Wen et al., "Learning intrinsic sparse structures within LSTM", 2018, section 3.1 (which rows
    and columns belong to a unit).
    """
    matrices = dict(model.matrices())
    total = torch.zeros(group.size, dtype=torch.float64)
    places: dict[tuple[str, int], list[Tensor]] = {}
    for member in group.members:
        if member.tensor in matrices:
            positions = member.positions(torch.arange(group.size)).view(group.size, -1)
            places.setdefault((member.tensor, member.axis), []).append(positions)
    for (name, axis), parts in places.items():
        squares = matrices[name].decode().double().square()
        lines = squares.mean(1 - axis)[torch.cat(parts, dim=1)].mean(1)
        total += lines / squares.mean().clamp(min=torch.finfo(torch.float64).tiny)
    return total.sqrt()

"""Groups of units: which rows and columns go together when a hidden unit or channel is removed.

Nothing else derives them: `unit_derivation` walks over the graph for it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tinyvox.errors import ModelError
from tinyvox.model.graph import Model
from tinyvox.model.matrix import Matrix, Product
from tinyvox.model.unit_derivation import Derivation, Draft, Member


@dataclass(frozen=True)
class Group:
    """`size` units that can be removed one by one; `members` are the parts of tensors they own."""

    name: str
    size: int
    members: tuple[Member, ...]
    through: tuple[str, ...] = ()
    """Layers without a matrix that the values of the units pass: activations, windows, sums."""
    bound: str | None = None
    """The reason why the values of the units may not change at all, not even in scale."""

    def produced(self) -> tuple[Member, ...]:
        """The rows of tensors that compute the units."""
        return tuple(member for member in self.members if member.axis == 0)


def groups(model: Model) -> tuple[Group, ...]:
    """The groups of a model that may be pruned, in the order of the layers."""
    return tuple(_group(d) for d in Derivation(model).live() if d.members and not d.fixed)


def all_groups(model: Model) -> tuple[Group, ...]:
    """Every group that a layer of the model computes, including those that may not be pruned."""
    return tuple(_group(d) for d in Derivation(model).live() if d.produced())


def _group(draft: Draft) -> Group:
    through = tuple(dict.fromkeys(draft.through))
    return Group(draft.name, draft.size, tuple(draft.members), through, draft.bound)


def fixed_layers(model: Model) -> tuple[str, ...]:
    """Names of the layers whose units may not be removed.

    They are the model's output, or they are coupled to the output, to the input, or to a layer that
    cannot lose units one by one.
    """
    return tuple(d.name for d in Derivation(model).live() if d.fixed and d.produced())


def keep_units(model: Model, keep: Mapping[str, Tensor]) -> Model:
    """Keep only these units (rising int64 indices) of the named groups.

    Raises ModelError for an unknown group, an empty selection, or indices out of range or order.
    """
    known = {group.name: group for group in groups(model)}
    removed: dict[tuple[str, int], list[Tensor]] = defaultdict(list)
    for name, units in keep.items():
        if name not in known:
            raise ModelError(f"no group is called {name!r}; there are {', '.join(known)}")
        gone = _complement(known[name], units)
        for member in known[name].members:
            removed[member.tensor, member.axis].append(member.positions(gone))
    changed: dict[str, Matrix | Tensor] = {}
    factors: _Factors = {}
    for (tensor, axis), positions in removed.items():
        before = changed.get(tensor, model.tensor(tensor))
        changed[tensor] = _drop(before, axis, torch.cat(positions), factors)
    return model.with_tensors(changed)


def _complement(group: Group, units: Tensor) -> Tensor:
    inside = units.numel() and int(units.min()) >= 0 and int(units.max()) < group.size
    if not inside or bool((units[1:] <= units[:-1]).any()):
        raise ModelError(
            f"group {group.name!r}: keep some of its {group.size} units, in rising order; "
            f"found {units.numel()} indices"
        )
    mask = torch.ones(group.size, dtype=torch.bool)
    mask[units] = False
    return mask.nonzero().flatten()


_Factors = dict[tuple[Matrix, tuple[int, ...]], Matrix]
"""Right factors without some columns, by the whole factor and the columns that stay. Products that
shared the whole factor share the smaller one."""


def _drop(
    value: Matrix | Tensor, axis: int, positions: Tensor, factors: _Factors
) -> Matrix | Tensor:
    mask = torch.ones(value.shape[axis], dtype=torch.bool)
    mask[positions] = False
    kept = mask.nonzero().flatten()
    if isinstance(value, Tensor):
        return value[kept]
    if axis == 0 or not isinstance(value, Product):
        return value.take(rows=kept) if axis == 0 else value.take(columns=kept)
    key = value.right, tuple(kept.tolist())
    if key not in factors:
        factors[key] = value.right.take(columns=kept)
    return Product(value.left, factors[key])

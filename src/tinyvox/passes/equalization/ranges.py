"""Equalization: the weights that compute a unit and the weights that read it get equal ranges.

Before a relu, the weights that compute a unit may be divided by s > 0, and those that read it
multiplied by s: the function stays the same. Without it, a quantizer would round the weights of
small units to zero beside those of large ones.

Source: Nagel et al., "Data-free quantization through weight equalization and bias correction",
2019, section 4.1; the hidden units of a relu network, residual sums and clipped relus are ours.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

from tinyvox.calibration import NO_STATISTICS, Moments
from tinyvox.model import (
    SCALING,
    Activation,
    Dense,
    Group,
    Layer,
    Matrix,
    Member,
    Model,
    Product,
    Recurrent,
    all_groups,
    is_projection,
    layers,
    leaves,
)
from tinyvox.passes.equalization.fold import (
    absorb_biases,
    blocks,
    columns,
    fold_batch_norms,
    producers,
)
from tinyvox.passes.moment_propagation import Known, Normal
from tinyvox.passes.outcome import Note, Outcome, check_patterns
from tinyvox.recipe import EqualizeSettings, matches

SWEEPS = 200
TOLERANCE = 2e-4
"""Sweeps over the groups end when no unit is scaled by more than this share in a sweep."""
LARGEST = 1024.0
"""A unit is scaled by 1 / LARGEST to LARGEST: ranges that differ by a factor of a million become
equal, and biases and limits stay within float16."""

_LINEAR = (
    layers.BatchNorm, layers.ContextWindow, layers.FrameStacking, layers.Subsample,
    layers.Flatten, layers.Add, layers.Concat, layers.Reduce, layers.Pool, layers.Take,
    layers.Spread,
)  # fmt: skip
"""Layers that give s y for s x, where their own offsets are scaled as well."""


def equalize(
    model: Model, settings: EqualizeSettings, statistics: Mapping[str, Moments] = NO_STATISTICS
) -> Outcome:
    """Fold batch norms, absorb high biases if asked, and equalize the groups that match.

    Notes name every group that is left alone. Only absorbing changes what the model computes, and
    only in few frames. Raises RecipeError for a pattern that matches no group.
    """
    return equalize_known(model, settings, statistics)[0]


def equalize_known(
    model: Model, settings: EqualizeSettings, statistics: Mapping[str, Moments] = NO_STATISTICS
) -> tuple[Outcome, Known]:
    """`equalize`, and the moments of layers' outputs that the folded batch norms gave, as they are
    after it, for `correct_biases`."""

    def chosen(group: Group) -> bool:
        return matches(settings.layers, group.name)

    model, known, folding = fold_batch_norms(model)
    check_patterns(settings.layers, [g.name for g in _with_producers(model)], "equalize")
    absorbing: tuple[Note, ...] = ()
    spelled = spell_limits(model)
    if settings.absorb:
        spelled, known, absorbing = absorb_biases(spelled, known, statistics, chosen)
    open_groups, alone = _sort(spelled, chosen)
    scales = _Scales(spelled)
    scales.finalize(open_groups)
    done = tuple(note for group in open_groups for note in _notes(spelled, group, scales))
    known = {name: scales.apply_known(name, normal) for name, normal in known.items()}
    result = _restore_limits(scales.apply(open_groups), model)
    return Outcome(result, (*folding, *absorbing, *done, *alone)), known


def _with_producers(model: Model) -> list[Group]:
    return [group for group in all_groups(model) if producers(model, group)]


def spell_limits(model: Model) -> Model:
    """The model with a limit for each channel in every clipped relu."""

    def spelled(layer: Layer, channels: int) -> Layer:
        if not isinstance(layer, Activation) or layer.limit is None:
            return layer
        return Activation(layer.kind, None, torch.full((channels,), layer.limit))

    nodes = (
        dataclasses.replace(n, layer=spelled(n.layer, model.signals[n.name].shape[0]))
        for n in model.nodes
    )
    return dataclasses.replace(model, nodes=tuple(nodes))


def _restore_limits(model: Model, before: Model) -> Model:
    """The model with limits that have not changed as one number again."""
    spelled = dict(spell_limits(before).vectors())
    nodes = []
    for node, old in zip(model.nodes, before.nodes, strict=True):
        limits = node.layer.vectors().get("limits")
        same = limits is not None and torch.equal(limits, spelled[f"{node.name}.limits"])
        nodes.append(old if same else node)
    return dataclasses.replace(model, nodes=tuple(nodes))


def _sort(model: Model, chosen: Callable[[Group], bool]) -> tuple[list[Group], list[Note]]:
    """The groups that can be equalized and are asked for, and notes why the others are not."""
    found, notes = [], []
    for group in _with_producers(model):
        reason = _reason_against(model, group, chosen)
        if reason is None:
            found.append(group)
        else:
            notes += [Note(name, f"left alone: {reason}") for name in _names(model, group)]
    return found, notes


def _names(model: Model, group: Group) -> list[str]:
    """The names of the layers that compute a group; of the cell where a layer has two."""
    names = [group.name, *(node.name for node in producers(model, group))]
    return [n for n in dict.fromkeys(names) if not group.name.startswith(f"{n}.")]


def _reason_against(model: Model, group: Group, chosen: Callable[[Group], bool]) -> str | None:
    if not chosen(group):
        return "no pattern matches it"
    for member in group.produced():
        node = model.owner(member.tensor)
        if not isinstance(node.layer, Recurrent) or is_projection(member.tensor):
            continue
        if node.layer.kind != "rnn_relu":
            return f"its units are bent by the cell of {node.name!r} ({node.layer.kind})"
    for name in group.through:
        layer = model.node(name).layer
        if isinstance(layer, Activation) and layer.kind not in SCALING:
            return f"its units are bent by {name!r} ({layer.kind})"
        if isinstance(layer, layers.Reduce) and layer.kind.startswith("variance"):
            return f"its units are squared by {name!r} ({layer.kind})"
        if isinstance(layer, layers.LayerNorm):
            return f"its units are normalized together by {name!r}"
    if group.bound is not None:
        return group.bound
    for name in group.through:
        layer = model.node(name).layer
        if not isinstance(layer, (*_LINEAR, Activation)):
            return f"its units are mixed by {name!r} ({type(layer).__name__})"
    return _reason_in_matrices(model, group)


def _reason_in_matrices(model: Model, group: Group) -> str | None:
    matrices = dict(model.matrices())
    mine = [member for member in group.members if member.tensor in matrices]
    if not any(member.axis == 1 for member in mine):
        return "no matrix reads its units"
    for member in mine:
        if not isinstance(_outer(matrices[member.tensor], member.axis), Dense):
            return f"{member.tensor} is coded already; equalize before you quantize"
    return None


def _outer(matrix: Matrix, axis: int) -> Matrix:
    """The leaf that holds the rows (axis 0) or the columns (axis 1) of a matrix."""
    *_, last = parts = list(leaves(matrix))
    return parts[0] if axis == 0 else last


class _Scales:
    """The scales of all rows and columns of all matrices so far, float64.

    Rows are divided by their scales, columns multiplied by theirs. In a product the left factor
    holds the rows, the right one the columns."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.matrices = dict(model.matrices())
        self.nodes = {name: model.owner(name) for name in self.matrices}
        self.magnitudes = _magnitudes(self.matrices)
        ones = {name: (matrix.shape[0], columns(self.nodes[name], name))
                for name, matrix in self.matrices.items()}  # fmt: skip
        self.rows = {name: torch.ones(rows).double() for name, (rows, _) in ones.items()}
        self.columns = {name: torch.ones(count).double() for name, (_, count) in ones.items()}
        self.units: dict[str, Tensor] = {}
        self.factors: dict[tuple[Matrix, int, tuple[float, ...]], Matrix] = {}

    def finalize(self, groups: Iterable[Group]) -> None:
        """Scale until both ranges of every group are equal."""
        groups = list(groups)
        self.units = {g.name: torch.ones(g.size, dtype=torch.float64) for g in groups}
        for _ in range(SWEEPS):
            moved = [self._step(group) for group in groups]
            if max(moved, default=0.0) < TOLERANCE:
                return

    def _step(self, group: Group) -> float:
        """Scale the units of one group; returns the largest change, as a logarithm."""
        made, read = self.ranges(group)
        alive = (made > 0) & (read > 0)
        # Where one matrix holds both the row and the column of a unit, as W_hh does, a step moves
        # both ranges from both sides: a whole step would overshoot.
        power = 0.25 if self._reads_itself(group) else 0.5
        step = torch.where(alive, made / read.clamp(min=1e-300), 1.0).pow(power)
        before = self.units[group.name]
        after = (before * step).clamp(1 / LARGEST, LARGEST)
        self._put(group, after / before)
        self.units[group.name] = after
        return float((after / before).log().abs().max())

    def _reads_itself(self, group: Group) -> bool:
        axes = {(m.tensor, m.axis) for m in group.members if m.tensor in self.matrices}
        return any((tensor, 1 - axis) in axes for tensor, axis in axes)

    def ranges(self, group: Group) -> tuple[Tensor, Tensor]:
        """The largest weight that computes each unit, and the largest that reads it, [size]."""
        found: tuple[list[Tensor], list[Tensor]] = ([], [])
        for member in group.members:
            if member.tensor in self.matrices:
                values = self._range(member)[member.positions(torch.arange(group.size))]
                found[member.axis].append(values.view(group.size, -1).amax(1))
        made, read = (torch.stack(part).amax(0) for part in found)
        return made, read

    def _range(self, member: Member) -> Tensor:
        """The largest magnitude in each row or column of a matrix with its present scales."""
        name, axis = member.tensor, member.axis
        sides = (1 / self.rows[name], self.columns[name])
        largest = self.magnitudes[name, axis]
        largest = largest.view(blocks(self.nodes[name]), -1, largest.shape[1])
        if not isinstance(self.matrices[name], Product):
            across = sides[1 - axis].float().view(largest.shape[0], 1, -1)
            largest = largest * (across if axis == 0 else across.mT)
        return largest.amax(2 - axis).flatten().double() * sides[axis]

    def _scaled(self, values: Tensor, name: str, axis: int | None = None) -> Tensor:
        """A leaf with the scales of its rows (axis 0), its columns (1), or both if it has both."""
        count = blocks(self.nodes[name])
        both = not isinstance(self.matrices[name], Product)
        if both or axis == 0:
            values = values / self.rows[name].to(values.dtype)[:, None]
        if both or axis == 1:
            parts = values.view(count, -1, values.shape[1])
            scales = self.columns[name].to(values.dtype).view(count, 1, -1)
            values = (parts * scales).view(values.shape)
        return values

    def _put(self, group: Group, step: Tensor) -> None:
        for member in group.members:
            if member.tensor in self.matrices:
                side = self.rows if member.axis == 0 else self.columns
                positions = member.positions(torch.arange(group.size))
                side[member.tensor][positions] *= step.repeat_interleave(member.width)

    def apply(self, groups: Iterable[Group]) -> Model:
        """The model with scaled matrices and vectors."""
        changed: dict[str, Matrix | Tensor] = {
            name: self._apply_matrix(name, matrix) for name, matrix in self.matrices.items()
        }
        vectors = dict(self.model.vectors())
        for group in groups:
            for member in group.members:
                # Of a batch norm the mean and the offset, not the variance and the factor.
                field = member.tensor.rpartition(".")[2]
                if member.tensor in vectors and field in ("bias", "limits", "mean"):
                    value = changed.get(member.tensor, vectors[member.tensor])
                    assert isinstance(value, Tensor)
                    changed[member.tensor] = self._divided(value, group, member)
        return self.model.with_tensors(changed)

    def _divided(self, value: Tensor, group: Group, member: Member) -> Tensor:
        new, positions = value.clone(), member.positions(torch.arange(group.size))
        units = self.units[group.name].repeat_interleave(member.width)
        new[positions] = (new[positions].double() / units).float()
        return new

    def _apply_matrix(self, name: str, matrix: Matrix) -> Matrix:
        if all(bool((s[name] == 1).all()) for s in (self.rows, self.columns)):
            return matrix
        if isinstance(matrix, Product):
            left = _map_outer(matrix.left, 0, lambda values: self._scaled(values, name, 0))
            return Product(left, self._apply_factor(name, matrix.right))
        return _map_outer(matrix, 0, lambda values: self._scaled(values, name))

    def _apply_factor(self, name: str, factor: Matrix) -> Matrix:
        """A right factor with scaled columns; products that shared one still share one."""
        scales = tuple(self.columns[name].tolist())
        key = factor, blocks(self.nodes[name]), scales
        if key not in self.factors:
            same = all(scale == 1 for scale in scales)
            self.factors[key] = (
                factor
                if same
                else _map_outer(factor, 1, lambda values: self._scaled(values, name, 1))
            )
        return self.factors[key]

    def apply_known(self, name: str, normal: Normal) -> Normal:
        """The moments of a layer's output, divided by the scales of the layer's rows."""
        scale = self.rows[f"{name}.weight"]
        return Normal(normal.mean / scale, normal.variance / scale.square())


def _magnitudes(matrices: Mapping[str, Matrix]) -> dict[tuple[str, int], Tensor]:
    """Magnitudes of the leaf that holds the rows (axis 0) and of that which holds the columns (1),
    by name and axis."""
    found: dict[tuple[str, int], Tensor] = {}
    for name, matrix in matrices.items():
        found[name, 0] = _outer(matrix, 0).decode().abs()
        whole = not isinstance(matrix, Product)
        found[name, 1] = found[name, 0] if whole else _outer(matrix, 1).decode().abs()
    return found


def _map_outer(matrix: Matrix, axis: int, change: Callable[[Tensor], Tensor]) -> Matrix:
    """A matrix in which the leaf that holds its rows or columns is changed, in float64. A leaf that
    is coded stays as it is."""
    if not isinstance(matrix, Product):
        dense = isinstance(matrix, Dense)
        return Dense(change(matrix.decode().double()).float()) if dense else matrix
    if axis == 0:
        return Product(_map_outer(matrix.left, axis, change), matrix.right)
    return Product(matrix.left, _map_outer(matrix.right, axis, change))


def _notes(model: Model, group: Group, scales: _Scales) -> list[Note]:
    units = scales.units[group.name]
    what = f"{group.size} units scaled by {float(1 / units.max()):.3g} to"
    what += f" {float(1 / units.min()):.3g}"
    limited = int(((units >= LARGEST) | (units <= 1 / LARGEST)).sum())
    if limited:
        what += f", {limited} of them as far as is allowed"
    return [Note(name, what) for name in _names(model, group)]

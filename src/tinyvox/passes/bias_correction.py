"""Bias correction: what compression adds to the mean output of a layer is subtracted from its bias.

With weights W before and V after, the outputs change by (V - W) x, and their mean by (V - W) E[x].
E[x] is taken from statistics, or where there are none, estimated (`propagate_moments`).

Source: Nagel et al., "Data-free quantization through weight equalization and bias correction",
2019, section 4.2; the recurrent layers are ours.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tinyvox.calibration import NO_STATISTICS, Moments
from tinyvox.errors import ModelError
from tinyvox.model import GATES, Embedding, Matrix, Model, Node, Recurrent, is_projection
from tinyvox.passes.moment_propagation import (
    UNKNOWN,
    Known,
    Normal,
    apply_weight,
    propagate_moments,
)
from tinyvox.passes.outcome import Note, Outcome


class _Shift(NamedTuple):
    """The change of the mean output, float64, to be subtracted from `bias` (its full name)."""

    bias: str
    amount: Tensor
    source: str
    """Where the mean of the inputs comes from: "statistics" or "estimate"."""


def correct_biases(
    original: Model,
    changed: Model,
    statistics: Mapping[str, Moments] = NO_STATISTICS,
    known: Known = UNKNOWN,
) -> Outcome:
    """`changed` with biases that give each layer the mean output that it has in `original`, for
    the inputs that it has there. A layer without a bias gets one.

    Both models have the same layers; `statistics` and `known` (of the outputs of layers, as
    `equalize_known` gets it from batch norms) are of the original. Raises ModelError where the
    layers, the sizes of their matrices, or those of the statistics differ.
    """
    _check_same(original, changed)
    estimates = _Lazy(original, known)
    before = dict(original.matrices())
    shifts: dict[str, list[_Shift]] = defaultdict(list)
    alone: list[Note] = []
    for node in changed.holders():
        if isinstance(node.layer, Embedding):
            continue  # a table has no bias
        for name, matrix in node.layer.matrices().items():
            full = f"{node.name}.{name}"
            if matrix is before[full]:
                continue
            if is_projection(full):
                alone.append(Note(full, "means left alone: a projection has no bias"))
                continue
            error = matrix.decode().double() - before[full].decode().double()
            found = _output_shift(node, name, error, statistics, estimates)
            for shift in _shifts(node, name, *found):
                shifts[shift.bias].append(shift)
    old = dict(changed.vectors())
    changed = _without(changed, [shift for parts in shifts.values() for shift in parts])
    notes = tuple(_note(name, parts, name in old) for name, parts in shifts.items())
    return Outcome(changed, (*notes, *alone))


def take_off(model: Model, node: Node, matrix: str, amount: Tensor) -> Model:
    """The model with the change of the mean output of one matrix (its name in the layer), float64
    [out], subtracted from the biases. A layer without a bias gets one."""
    return _without(model, list(_shifts(node, matrix, amount, "")))


def _without(model: Model, shifts: Sequence[_Shift]) -> Model:
    amounts: dict[str, list[Tensor]] = defaultdict(list)
    for shift in shifts:
        amounts[shift.bias].append(shift.amount)
    old = dict(model.vectors())
    biases: dict[str, Matrix | Tensor] = {}
    for name, parts in amounts.items():
        total = torch.stack(parts).sum(0)
        if bool(total.any()):
            biases[name] = (old[name].double() - total if name in old else -total).float()
    return model.with_tensors(biases)


def moments_of(statistics: Mapping[str, Moments], name: str, inputs: int) -> Moments | None:
    """The statistics of the matrix of this full name, if there are any.

    Raises ModelError where they are of another number of inputs.
    """
    moments = statistics.get(name)
    if moments is not None and moments.mean.shape != (inputs,):
        raise ModelError(
            f"the statistics of {name!r} are of {moments.mean.numel()} inputs, expected "
            f"{inputs}; calibrate the model as it is"
        )
    return moments


class _Lazy:
    """The propagated moments, computed when they are first asked for."""

    def __init__(self, model: Model, known: Known) -> None:
        self.model, self.known = model, known
        self._found: dict[str, Normal] | None = None

    def mean(self, name: str) -> Tensor:
        """The mean output of a layer."""
        if self._found is None:
            self._found = propagate_moments(self.model, self.known)
        return self._found[name].mean


def _output_shift(
    node: Node, matrix: str, error: Tensor, statistics: Mapping[str, Moments], estimates: _Lazy
) -> tuple[Tensor, str]:
    """The error of a matrix times the mean of its inputs, [out], and where that mean comes from."""
    moments = moments_of(statistics, f"{node.name}.{matrix}", error.shape[1])
    if moments is not None:
        return error @ moments.mean, "statistics"
    if matrix.endswith("weight_hh"):
        shift = error @ _hidden_mean(node, matrix, estimates)
        return _by_hidden_state(node, shift), "estimate"
    shift = apply_weight(node.layer, error, estimates.mean(node.inputs[0]))
    return (shift.mean(1) if shift.ndim == 2 else shift), "estimate"


def _hidden_mean(node: Node, matrix: str, estimates: _Lazy) -> Tensor:
    """The mean hidden state of the cell to which a matrix belongs, [size]."""
    assert isinstance(node.layer, Recurrent)
    sizes = {side: cell.size for side, cell in node.layer.cells().items()}
    parts = torch.split(estimates.mean(node.name), list(sizes.values()))
    mean: Tensor = dict(zip(sizes, parts, strict=True))[matrix.partition(".")[0]]
    return mean


def _by_hidden_state(node: Node, shift: Tensor) -> Tensor:
    """The change of the mean output of a recurrent matrix, in the rows that read the hidden state
    itself; 0 in the others, of whose inputs nothing is known."""
    assert isinstance(node.layer, Recurrent)
    if not node.layer.resets_before():
        return shift
    hidden = shift.numel() // GATES[node.layer.kind]
    return torch.cat([shift[:-hidden], shift.new_zeros(hidden)])


def _shifts(node: Node, matrix: str, amount: Tensor, source: str) -> Iterator[_Shift]:
    """The change of the mean output of a matrix, split by the biases that can correct it."""
    if not isinstance(node.layer, Recurrent):
        yield _Shift(f"{node.name}.bias", amount, source)
        return
    side, _, field = matrix.partition(".")
    if field == "weight_hh" and node.layer.cells()[side].norm_hh is not None:
        yield _Shift(f"{node.name}.{side}.bias_hh", amount, source)
        return
    if node.layer.kind == "gru" and field == "weight_hh":
        # The reset gate multiplies the hidden side of the new gate, its bias included.
        hidden = amount.numel() // 3
        yield _Shift(f"{node.name}.{side}.bias_hn", amount[-hidden:], source)
        amount = torch.cat([amount[:-hidden], amount.new_zeros(hidden)])
    yield _Shift(f"{node.name}.{side}.bias", amount, source)


def _check_same(original: Model, changed: Model) -> None:
    def structure(model: Model) -> list[tuple[object, ...]]:
        shapes = ((n, {k: m.shape for k, m in n.layer.matrices().items()}) for n in model.nodes)
        return [(node.name, type(node.layer), node.inputs, found) for node, found in shapes]

    for before, after in zip(structure(original), structure(changed), strict=False):
        if before != after:
            raise ModelError(
                f"layer {after[0]!r} is not what layer {before[0]!r} was before; biases are "
                f"corrected where passes leave layers and sizes as they are"
            )
    if len(original.nodes) != len(changed.nodes):
        raise ModelError(
            f"the models have {len(original.nodes)} and {len(changed.nodes)} layers, "
            f"expected the same ones"
        )


def _note(name: str, parts: list[_Shift], known: bool) -> Note:
    largest = max(float(part.amount.abs().max()) for part in parts)
    sources = " and ".join(dict.fromkeys(part.source for part in parts))
    if largest == 0:
        return Note(name, "left alone: the means of the inputs are 0")
    what = "corrected" if known else "added"
    return Note(name, f"{what}, by up to {largest:.3g}; means of the inputs: {sources}")

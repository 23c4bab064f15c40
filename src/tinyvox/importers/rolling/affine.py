"""Sums of products that lead to a value: what stands inside the gates of a cell."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tinyvox.importers.tape import Step, Tape, Value

SAME_VALUES = frozenset(
    (
        *("view", "reshape", "_unsafe_view", "squeeze", "unsqueeze", "flatten", "expand"),
        *("clone", "contiguous", "alias", "detach", "dropout", "to", "_to_copy"),
    )
)
"""Operators that change the shape at most."""
PARTS = frozenset(("split", "split_with_sizes", "chunk", "slice", "narrow"))
"""Operators that cut a dimension."""


@dataclass(frozen=True, eq=False)
class Part:
    """`weight` [rows, n] times a value of n features."""

    weight: Tensor
    operand: Value

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for the very same weights."""
        weight = self.weight
        return weight.data_ptr(), tuple(weight.shape), weight.stride()


@dataclass(frozen=True, eq=False)
class Norm:
    """Rows from `first` on of a layer norm of a sum: times weight [n], plus bias [n]."""

    inner: Affine
    value: Value
    weight: Tensor
    bias: Tensor
    eps: float
    first: int = 0


@dataclass(frozen=True, eq=False)
class Affine:
    """The sum of matrices times values, of vectors times values, of products, of norms, and of a
    bias.

    Each has so many `rows`.
    """

    rows: int
    parts: tuple[Part, ...] = ()
    diagonals: tuple[tuple[Tensor, Value], ...] = ()
    products: tuple[tuple[Value, Value], ...] = ()
    bias: Tensor | None = None
    norms: tuple[Norm, ...] = ()

    def __add__(self, other: Affine) -> Affine:
        biases = [b for b in (self.bias, other.bias) if b is not None]
        return Affine(
            self.rows,
            self.parts + other.parts,
            self.diagonals + other.diagonals,
            self.products + other.products,
            sum(biases[1:], biases[0]) if biases else None,
            self.norms + other.norms,
        )

    def take(self, first: int, last: int) -> Affine | None:
        """The rows from `first` to before `last`; None where it has products of values."""
        if self.products:
            return None
        return Affine(
            last - first,
            tuple(replace(p, weight=p.weight[first:last]) for p in self.parts),
            tuple((vector[first:last], value) for vector, value in self.diagonals),
            (),
            None if self.bias is None else self.bias[first:last],
            tuple(replace(norm, first=norm.first + first) for norm in self.norms),
        )

    def projects(self, output: Value) -> bool:
        """Whether the sum is one matrix times an output, and nothing else."""
        bare = self.bias is None or not self.bias.any()
        only = not self.diagonals and not self.products and not self.norms
        return bare and only and [part.operand for part in self.parts] == [output]


class Sources:
    """Which step gives each value of a tape."""

    def __init__(self, tape: Tape) -> None:
        self._steps = {id(v): (step, i) for step in tape.steps for i, v in enumerate(step.results)}
        self._cuts: dict[tuple[object, ...], Value] = {}
        self._scaled: dict[tuple[object, ...], tuple[Part, Tensor]] = {}
        self._identities: dict[int, Tensor] = {}
        self._diagonals: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def step(self, value: object) -> Step | None:
        """The step that gives a value; None for an input or a constant."""
        return self._steps[id(value)][0] if id(value) in self._steps else None

    def index(self, value: Value) -> int:
        """Which result of its step a value is."""
        return self._steps[id(value)][1]

    def root(self, value: object) -> object:
        """The value before operators that change the shape at most, and products with 1; of equal
        parts of one value, as `x[t]` that is written twice, the first."""
        while (before := self._before(self.step(value))) is not None:
            value = before
        cut = self.range_of(value) if isinstance(value, Value) else None
        if cut is None:
            return value
        assert isinstance(value, Value)
        return self._cuts.setdefault((id(self.root(cut[0])), *cut[1:], value.shape), value)

    def _before(self, step: Step | None) -> object | None:
        """What a step has the values of; None where it computes others."""
        if step is None:
            return None
        if step.operator in SAME_VALUES:
            first: object = next(iter(step.arguments.values()))
            return first
        if step.operator != "mul" or len(values := list(step.inputs())) != 1:
            return None
        one, two = step.arguments["self"], step.arguments["other"]
        factor = torch.as_tensor(one if isinstance(two, Value) else two)
        same = values[0].shape == step.results[0].shape and bool((factor == 1).all())
        return values[0] if same else None

    def made_by(self, value: object, *operators: str) -> Step | None:
        """The step that gives a value, but for its shape, if it is of one of these operators."""
        step = self.step(self.root(value))
        return step if step is not None and step.operator in operators else None

    def range_of(self, value: Value) -> tuple[Value, int, int, int] | None:
        """For a part of another value: that value, the dimension, the first and the last step."""
        step = self.step(value)
        if step is None or not (step.operator in PARTS or step.operator in ("select", "unbind")):
            return None
        source = step.arguments["self"]
        dim = step.arguments["dim"] % len(source.shape)
        if step.operator in ("select", "unbind"):
            one = step.operator == "select"
            first = step.arguments["index"] if one else self.index(value)
            first %= source.shape[dim]
            return source, dim, first, first + 1
        size = value.shape[dim]
        if step.operator == "slice":
            first, _, stride = slice(
                step.arguments["start"], step.arguments["end"], step.arguments["step"]
            ).indices(source.shape[dim])
            return (source, dim, first, first + size) if stride == 1 else None
        if step.operator == "narrow":
            first = int(step.arguments["start"])
            return source, dim, first, first + size
        first = sum(v.shape[dim] for v in step.results[: self.index(value)])
        return source, dim, first, first + size

    def is_rest(self, step: Step, gate: object) -> bool:
        """Whether a difference is 1 minus a gate."""
        if step.arguments.get("alpha", 1) != 1:
            return False
        one, other = step.arguments["self"], step.arguments["other"]
        if step.operator == "rsub":
            one, other = other, one
        is_one = not isinstance(one, Value) and bool((torch.as_tensor(one) == 1).all())
        return is_one and self.root(other) is self.root(gate)

    def affine(self, value: object) -> Affine | None:
        """What a value is a sum of; None where it is something else."""
        root = self.root(value)
        if not isinstance(root, Value) or (step := self.step(root)) is None:
            return None
        given = step.arguments
        match step.operator:
            case "linear":
                return self._product(given["weight"], given["input"], given["bias"])
            case "addmm" if given["alpha"] == given["beta"] == 1:
                return self._product(_turned(given["mat2"]), given["mat1"], given["self"])
            case "mm" | "matmul":
                other = given["mat2" if step.operator == "mm" else "other"]
                return self._product(_turned(other), given["self"], None)
            case "add" if given.get("alpha", 1) == 1:
                one, two = (self._term(given[name], root) for name in ("self", "other"))
                return None if one is None or two is None else one + two
            case "layer_norm":
                return self._normalized(root, step)
            case operator if operator in PARTS:
                return self._rows(root)
        return None

    def scaled(self, known: Affine, factor: float) -> Affine | None:
        """A sum times a number; None where it has products of values, or norms."""
        if known.products or known.norms:
            return None
        return Affine(
            known.rows,
            tuple(replace(p, weight=self._weight(p, factor)) for p in known.parts),
            tuple((vector * factor, value) for vector, value in known.diagonals),
            (),
            None if known.bias is None else known.bias * factor,
        )

    def _weight(self, part: Part, factor: float) -> Tensor:
        """A weight times a number, the very same one for each step."""
        made = self._scaled.setdefault((*part.key, factor), (part, part.weight * factor))
        return made[1]

    def itself(self, value: Value) -> Affine:
        """A value as a sum of itself alone: once the identity times it."""
        rows = value.shape[-1]
        if rows not in self._identities:
            self._identities[rows] = torch.eye(rows)
        return Affine(rows, (Part(self._identities[rows], value),))

    def diagonal(self, vector: Tensor, value: Value) -> Part:
        """A vector times a value, as the product of a matrix."""
        key = vector.data_ptr(), len(vector)
        if key not in self._diagonals:
            self._diagonals[key] = torch.diag(vector), vector
        return Part(self._diagonals[key][0], value)

    def _normalized(self, value: Value, step: Step) -> Affine | None:
        """A layer norm of a sum over its rows."""
        given, rows = step.arguments, value.shape[-1]
        inner = self.affine(given["input"])
        if list(given["normalized_shape"]) != [rows] or inner is None or not inner.parts:
            return None
        weight, bias = given["weight"], given["bias"]
        if isinstance(weight, Value) or isinstance(bias, Value):
            return None
        weight = torch.ones(rows) if weight is None else weight
        bias = torch.zeros(rows) if bias is None else bias
        return Affine(rows, norms=(Norm(inner, value, weight, bias, given["eps"]),))

    def _term(self, value: object, whole: Value) -> Affine | None:
        """One term of a sum of this shape."""
        rows = whole.shape[-1] if whole.shape else 0
        if not isinstance(value, Value):
            return _constant(value, rows)
        if not rows or value.shape[-1:] != (rows,):
            return None
        known = self.affine(value)
        if known is not None:
            return known
        step = self.made_by(value, "mul")
        if step is None:
            root = self.root(value)
            return self.itself(root if isinstance(root, Value) else value)
        one, two = step.arguments["self"], step.arguments["other"]
        if isinstance(one, Value) and isinstance(two, Value):
            return Affine(rows, products=((one, two),))
        vector, other = (two, one) if isinstance(one, Value) else (one, two)
        spread = as_vector(vector, rows)
        return None if spread is None else Affine(rows, diagonals=((spread, other),))

    def _product(self, weight: object, operand: object, bias: object) -> Affine | None:
        """A matrix times a value, which may be several values joined."""
        if not isinstance(weight, Tensor) or weight.ndim != 2 or not isinstance(operand, Value):
            return None
        if isinstance(bias, Value):
            return None
        start = Affine(len(weight)) if bias is None else _constant(bias, len(weight))
        found = self._joined(weight, operand)
        return None if start is None or found is None else start + found

    def _joined(self, weight: Tensor, operand: Value) -> Affine | None:
        rows = weight.shape[0]
        root = self.root(operand)
        assert isinstance(root, Value)
        step = self.made_by(root, "cat")
        last = step is not None and step.arguments["dim"] % len(root.shape) == len(root.shape) - 1
        if step is None or not last:
            return Affine(rows, (Part(weight, root),))
        found, first = Affine(rows), 0
        for piece in step.arguments["tensors"]:
            size = tuple(piece.shape)[-1]
            columns, first = weight[:, first : first + size], first + size
            part = self._piece(columns, piece)
            if part is None:
                return None
            found = found + part
        return found

    def _piece(self, columns: Tensor, piece: object) -> Affine | None:
        """Columns of a matrix times what they see."""
        if isinstance(piece, Value):
            return self._joined(columns, piece)
        seen = as_vector(piece, columns.shape[1])
        if seen is None:
            return None
        rows = len(columns)
        return Affine(rows, bias=columns @ seen) if seen.any() else Affine(rows)

    def _rows(self, value: Value) -> Affine | None:
        cut = self.range_of(value)
        if cut is None or cut[1] != len(cut[0].shape) - 1:
            return None
        root = self.root(cut[0])
        whole = self.affine(cut[0])
        if whole is None and isinstance(root, Value) and root.shape[-1] == cut[0].shape[-1]:
            whole = self.itself(root)
        return None if whole is None else whole.take(cut[2], cut[3])


def _turned(weight: object) -> object:
    return weight.T if isinstance(weight, Tensor) and weight.ndim == 2 else None


def _constant(value: object, rows: int) -> Affine | None:
    vector = as_vector(value, rows)
    return None if vector is None else Affine(rows, bias=vector)


def as_vector(value: object, rows: int) -> Tensor | None:
    """A constant as a vector of so many values; None where it is not the same for all frames."""
    spread = torch.as_tensor(value, dtype=torch.float32)
    if not spread.numel() or (spread.ndim and spread.shape[-1] not in (1, rows)):
        return None
    flat = spread.reshape(-1, spread.shape[-1] if spread.ndim else 1)
    return flat[0].expand(rows) if bool((flat == flat[0]).all()) else None

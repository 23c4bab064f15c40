"""How the tensors of a model stand in a file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tinyvox.model import Coded, Dense, Matrix, Model, Product


@dataclass(frozen=True)
class Form:
    """How a tensor stands in a file: `form` is for people, `bytes` are those of its arrays."""

    name: str
    form: str
    bytes: int


def named_leaves(model: Model, shared: dict[str, str]) -> Iterator[tuple[str, Dense | Coded]]:
    """Every leaf by a name of its own, `layer.field.left.right`.

    A factor that was there before comes once; `shared` is given its other names, with the first.
    """
    known: dict[Matrix, str] = {}

    def walk(name: str, matrix: Matrix) -> Iterator[tuple[str, Dense | Coded]]:
        if matrix in known:
            shared[name] = known[matrix]
            return
        known[matrix] = name
        if isinstance(matrix, Product):
            yield from walk(f"{name}.left", matrix.left)
            yield from walk(f"{name}.right", matrix.right)
        else:
            yield name, matrix

    for name, matrix in model.matrices():
        yield from walk(name, matrix)

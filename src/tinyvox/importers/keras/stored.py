"""Where the weights of each layer lie in a file: as Keras 1 and 2 write them, or as Keras 3 does.

Both give the arrays of a layer in Keras' own order: kernel, recurrent kernel, bias and so on.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from tinyvox.errors import ImporterError
from tinyvox.importers.hdf5 import Contents
from tinyvox.importers.keras.topology import MODELS


class Weights(Protocol):
    """The arrays of one layer, or of a model."""

    def part(self, name: str) -> Weights:
        """Those of a part that Keras calls so: `cell`, `forward_layer`, `layer`."""
        ...

    def parts(self, layers: Sequence[tuple[str, str]], below: str) -> list[Weights]:
        """Those of each of several layers, given by (name, class), in a list called `below`."""
        ...

    def take(self, what: str, shape: Sequence[int]) -> Tensor:
        """The next array, float32, of this shape. Raises ImporterError where it has another."""
        ...

    def next_shape(self) -> tuple[int, ...] | None:
        """The shape of the array that comes next; None where there is none."""
        ...

    def finish(self) -> None:
        """Raise ImporterError where an array was not taken."""
        ...


class _Arrays:
    """A list of arrays, which are taken one after the other."""

    def __init__(self, contents: Contents, paths: Sequence[str]) -> None:
        self.contents, self.paths = contents, list(paths)
        self._next = 0

    def take(self, what: str, shape: Sequence[int]) -> Tensor:
        found = self.next_shape()
        if found is None:
            raise ImporterError(
                f"has no {what}: the file holds {len(self.paths)} arrays of it; "
                "save the model again with Keras"
            )
        if found != tuple(shape):
            raise ImporterError(
                f"the {what} has shape {list(found)}, expected {list(shape)}; "
                "weights and settings in the file do not fit, save the model again with Keras"
            )
        self._next += 1
        return self.contents.tensor(self.paths[self._next - 1])

    def next_shape(self) -> tuple[int, ...] | None:
        if self._next >= len(self.paths):
            return None
        return self.contents.shape(self.paths[self._next])

    def finish(self) -> None:
        if self._next != len(self.paths):
            raise ImporterError(
                f"the file holds {len(self.paths)} arrays of it, expected {self._next}; "
                "weights and settings in the file do not fit, save the model again with Keras"
            )


class LegacyWeights(_Arrays):
    """A group of `model_weights`, whose attribute `weight_names` lists all arrays below it."""

    def part(self, name: str) -> LegacyWeights:
        """All parts of a layer stand in one list."""
        return self

    def parts(self, layers: Sequence[tuple[str, str]], below: str) -> list[Weights]:
        """Cells stand one after the other; the layers of a model are told by their names."""
        if below == "cells":
            return [self for _ in layers]
        self._next = len(self.paths)  # the layers take them
        return [LegacyWeights(self.contents, self._below(*each)) for each in layers]

    def _below(self, name: str, kind: str) -> list[str]:
        """The arrays of a layer. Those of a model may stand among others, without its name."""
        # The paths begin with `/model_weights/` and the layer at the top.
        inside = [(path, path.split("/")[3:-1]) for path in self.paths]
        exact = [path for path, parents in inside if name in parents]
        numbered = re.compile(re.escape(name) + r"_\d+")
        found = exact or [p for p, parents in inside if any(map(numbered.fullmatch, parents))]
        return self.paths if not found and kind in MODELS else found


class LegacyModel(LegacyWeights):
    """The group `model_weights`: a group for each layer."""

    def __init__(self, contents: Contents) -> None:
        super().__init__(contents, [])

    def parts(self, layers: Sequence[tuple[str, str]], below: str) -> list[Weights]:
        """Each layer has a group of its name."""
        return [self._layer(name) for name, _ in layers]

    def _layer(self, name: str) -> Weights:
        group = f"/model_weights/{name}"
        names = self.contents.names(group, "weight_names")
        return LegacyWeights(self.contents, [f"{group}/{each}" for each in names])


class TreeWeights(_Arrays):
    """A group of `model.weights.h5`: `vars/0`, `vars/1` and so on, and groups for the parts."""

    def __init__(self, contents: Contents, path: str = "") -> None:
        self.path = path
        count = contents.members(f"{path}/vars")
        super().__init__(contents, [f"{path}/vars/{i}" for i in range(count)])

    def part(self, name: str) -> TreeWeights:
        """The group of the part."""
        return TreeWeights(self.contents, f"{self.path}/{name}")

    def parts(self, layers: Sequence[tuple[str, str]], below: str) -> list[Weights]:
        """Groups that are named after the classes, numbered from the second one of a class."""
        seen: Counter[str] = Counter()
        found: list[Weights] = []
        for _, kind in layers:
            name = _snake_case(kind)
            numbered = f"{name}_{seen[name]}" if seen[name] else name
            seen[name] += 1
            found.append(self.part(f"{below}/{numbered}"))
        return found


def _snake_case(name: str) -> str:
    """`BatchNormalization` as `batch_normalization`, in Keras' way."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()

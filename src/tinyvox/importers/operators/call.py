"""One ATen operator applied to streams, as its handler sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tinyvox.errors import ImporterError
from tinyvox.importers.final_states import States
from tinyvox.importers.layer_graph import LayerGraph
from tinyvox.importers.signal import Axes, Stream, rearrangement


@dataclass(frozen=True)
class Unusable:
    """A value that no layer gives. `reason` is the error, should an operator use it."""

    reason: str


@dataclass(frozen=True)
class Carried:
    """What comes from an input of the model that holds states, and from nothing else."""

    name: str


@dataclass(frozen=True, eq=False)
class Call:
    """An operator applied: its arguments by name, and what torch computes for the example."""

    graph: LayerGraph
    arguments: Mapping[str, Any]
    result: Any
    only_use: bool
    """Whether nothing else uses the first signal among the arguments."""

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    def given(self, /, **arguments: Any) -> Call:
        """The same place and result, for the handler of another operator with these arguments."""
        return replace(self, arguments=arguments, only_use=False)

    def stream(self, name: str) -> Stream:
        """An argument that is a stream. Raises ImporterError where it is a constant."""
        value = self[name]
        if isinstance(value, States):
            return value.stream(self.graph)
        if not isinstance(value, Stream):
            raise ImporterError(
                f"argument {name!r} is a constant, expected a tensor that depends on the "
                "model's input"
            )
        return value

    def tensor(self, name: str) -> Tensor:
        """A weight. Raises ImporterError where it depends on the input or is not float32."""
        value = self[name]
        if isinstance(value, Stream | States | Unusable):
            raise ImporterError(
                f"argument {name!r} depends on the model's input, expected a weight"
            )
        if not isinstance(value, Tensor) or value.dtype != torch.float32:
            found = getattr(value, "dtype", value)
            raise ImporterError(
                f"argument {name!r} is {found}, expected float32; export in float32"
            )
        return value

    def optional(self, name: str) -> Tensor | None:
        """A weight, or None where the argument is not given."""
        return None if self[name] is None else self.tensor(name)

    def whole(self, name: str) -> Stream:
        """A stream of exactly the frames that a node gives."""
        return self.graph.whole(self.stream(name))


def canonical(axes: Axes, values: Tensor) -> Tensor:
    """A tensor with these axes, of any number of frames, as [batch, frames, features]."""
    plan = rearrangement(axes)
    return values.reshape(plan.split).permute(plan.order).reshape(plan.shape)

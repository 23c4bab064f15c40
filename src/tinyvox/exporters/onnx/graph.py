"""An ONNX graph while it is built: operators, and the arrays that the file holds."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

OPSET, CONTRIBUTED = 20, "com.microsoft"
"""The version of ONNX's operators, and the domain of ONNX Runtime's own."""
TYPES = {"float": 1, "uint8": 2, "int32": 6, "int64": 7}
"""The element types that `cast` takes, as ONNX counts them."""


@dataclass(frozen=True)
class Operator:
    """One node; an empty input is left out."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    domain: str
    attributes: dict[str, Any]


@dataclass
class Graph:
    """Operators in their order, and arrays by name. Names begin with `place`, a layer's name."""

    operators: list[Operator] = field(default_factory=list)
    arrays: dict[str, Array] = field(default_factory=dict)
    place: str = ""
    _constants: dict[tuple[str, tuple[int, ...], bytes], str] = field(default_factory=dict)
    _count: int = 0

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in self.arrays.values())

    def op(
        self, kind: str, *inputs: str, domain: str = "", results: int = 1, **attributes: Any
    ) -> str:
        """Add an operator with so many outputs, and return the name of the last."""
        outputs = tuple(self.name() for _ in range(results))
        self.operators.append(Operator(kind, inputs, outputs, domain, attributes))
        return outputs[-1]

    def subgraph(self, start: int, inputs: Sequence[str], results: Sequence[str]) -> Any:
        """The operators from one on, taken out of the graph, as a graph that another operator
        runs: from these inputs to these results, the first of which comes once more at the end.
        It sees the tensors of the graph around it."""
        from onnx import helper

        again = self.op("Identity", results[0])
        nodes = self.nodes(start)
        del self.operators[start:]
        given, made = (
            [helper.make_tensor_value_info(name, TYPES["float"], None) for name in names]
            for names in (inputs, [*results, again])
        )
        return helper.make_graph(nodes, f"{self.place}/step", given, made)

    def output(self, name: str, source: str) -> None:
        """Give a tensor the name of an output of the graph."""
        self.operators.append(Operator("Identity", (source,), (name,), "", {}))

    def constant(self, values: Array) -> str:
        """The name of an array, which is stored once, however often it is asked for."""
        values = np.ascontiguousarray(values)
        key = values.dtype.str, values.shape, hashlib.sha256(values.tobytes()).digest()
        if key not in self._constants:
            self._constants[key] = self.name()
            self.arrays[self._constants[key]] = values
        return self._constants[key]

    def integers(self, *values: int) -> str:
        """The name of an int64 vector."""
        return self.constant(np.array(values, np.int64))

    def number(self, value: float) -> str:
        """The name of a float32 scalar."""
        return self.constant(np.array(value, np.float32))

    def floats(self, values: Array) -> str:
        """The name of a float32 array: stored in half the bytes where that changes no value."""
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if values.size > 16 and np.array_equal(half.astype(np.float32), values):
            return self.cast(self.constant(half), "float")
        return self.constant(values.astype(np.float32))

    def cast(self, name: str, kind: str) -> str:
        """A tensor with elements of another type, a key of TYPES."""
        return self.op("Cast", name, to=TYPES[kind])

    def slice(self, name: str, start: int, stop: str, axis: int, step: int = 1) -> str:
        """A part of a tensor along an axis; `stop` is the name of an int64 vector of one."""
        parts = self.integers(start), stop, self.integers(axis), self.integers(step)
        return self.op("Slice", name, *parts)

    def transpose(self, name: str, *order: int) -> str:
        """A tensor with its axes in another order."""
        return self.op("Transpose", name, perm=list(order))

    def reshape(self, name: str, *shape: int) -> str:
        """A tensor of another shape; 0 keeps an axis, -1 stands for what is left."""
        return self.op("Reshape", name, self.integers(*shape))

    def nodes(self, start: int = 0) -> list[Any]:
        """The operators, or those from one on, as ONNX nodes."""
        from onnx import helper

        return [
            helper.make_node(
                o.kind, list(o.inputs), list(o.outputs), domain=o.domain, **o.attributes
            )
            for o in self.operators[start:]
        ]

    def initializers(self) -> list[Any]:
        """The arrays as ONNX tensors."""
        from onnx import numpy_helper

        return [numpy_helper.from_array(array, name) for name, array in self.arrays.items()]

    def domains(self) -> Sequence[str]:
        """The domains of the operators."""
        return sorted({operator.domain for operator in self.operators} | {""})

    def name(self) -> str:
        """A name that nothing has yet."""
        self._count += 1
        return f"{self.place}/{self._count}"

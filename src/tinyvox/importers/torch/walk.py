"""The walk through an exported program, operator by operator, that finds the layers."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from pathlib import PurePath
from typing import Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.fx.node import map_aggregate

from tinyvox.errors import ImporterError, ModelError
from tinyvox.importers.layer_graph import LayerGraph, Place
from tinyvox.importers.reduction import States
from tinyvox.importers.signal import Stream, input_stream
from tinyvox.importers.torch.activations import ACTIVATIONS
from tinyvox.importers.torch.arithmetic import ARITHMETIC
from tinyvox.importers.torch.axis_operators import AXIS_OPERATORS
from tinyvox.importers.torch.call import Call, Unusable
from tinyvox.importers.torch.layer_operators import LAYER_OPERATORS
from tinyvox.model import INPUT, Model

OPERATORS: dict[str, Callable[[Call], Any]] = {
    **AXIS_OPERATORS,
    **LAYER_OPERATORS,
    **ARITHMETIC,
    **ACTIVATIONS,
}
"""The handler of every operator on signals, by the operator's name without overload."""

# The operators that may compute constants. They have no side effects, so no file does harm by them.
# fmt: off
_PURE = frozenset((
    "_to_copy", "_weight_norm", "_weight_norm_interface", "abs", "add", "alias", "arange",
    "cat", "ceil", "clamp", "clone", "concat", "contiguous", "detach", "div", "dot", "exp",
    "expand", "expand_as", "eye", "flatten", "flip", "floor", "full", "full_like", "index",
    "lift_fresh",
    "lift_fresh_copy", "linspace", "log", "mT", "matmul", "maximum", "mean", "minimum", "mm",
    "movedim", "mul", "mv", "neg", "new_full", "new_ones", "new_zeros", "norm", "numpy_T", "ones",
    "ones_like", "permute", "pow", "reciprocal", "repeat", "reshape", "rsqrt", "scalar_tensor",
    "select", "slice", "sqrt", "squeeze", "stack", "sub", "sum", "sym_size", "t", "to",
    "transpose", "unflatten", "unsqueeze", "vdot", "view", "view_as", "zeros", "zeros_like",
))
# fmt: on
_FLOATS = (torch.float16, torch.bfloat16, torch.float64)
"""Types for which float32 is taken."""
_NUMBERS = frozenset(
    [
        *(operator.add, operator.sub, operator.mul, operator.floordiv, operator.truediv),
        *(operator.mod, operator.neg, torch.sym_max, torch.sym_min, torch.sym_int),
    ]
)
"""Functions on sizes."""


_ON_NUMBERS = frozenset(("add", "sub", "rsub", "mul", "div"))
"""Operators on signals that may take numbers."""


class Walk:
    """One import of a program, for one meaning (`layout`) of its input's dimensions.

    The program is also run for the example, operator by operator, so that all sizes are plain
    numbers and that the model's output can be compared with the program's.
    """

    def __init__(
        self, program: ExportedProgram, entry: fx.Node, example: Tensor, layout: tuple[str, ...]
    ) -> None:
        self.program, self.entry, self.layout = program, entry, layout
        self.graph = LayerGraph(example.shape[layout.index("feature")])
        self.example, self.features = example, input_stream(layout, tuple(example.shape))
        self.values: dict[fx.Node, Any] = {}
        """What each node gives: a stream, an unusable value, a constant, or a tuple of these."""
        self.computed: dict[fx.Node, Any] = {}
        """What torch computes for the example."""

    def model(self) -> Model:
        """The model. Raises ImporterError with the operator that no layer stands for.

        Afterwards `output` is the stream of the model's output, and `expected` the program's.
        """
        for node in needed_nodes(self.program):
            if node.op == "output":
                break
            try:
                self._follow(node)
            except (ImporterError, ModelError) as error:
                raise ImporterError(f"{_where(node)}: {_taken_apart(node) or error}") from error
        self.output = self._output(node)
        self.expected: Tensor = self.computed[node.all_input_nodes[0]]
        return self.graph.model(self.output.node)

    @property
    def frames(self) -> int:
        """The number of frames of the example."""
        return self.example.shape[self.layout.index("time")]

    def uses_length(self) -> str | None:
        """The operator that computes with a number that is the number of frames, if there is one.

        A program for one number of frames has that number as a constant, like any other.
        """
        for node, value in self.values.items():
            numbers = [abs(a) for a in node.args if isinstance(a, int | float)]
            if isinstance(value, Stream) and _name(node) in _ON_NUMBERS:
                counts = [axis.size for dim in value.axes for axis in dim if axis.kind == "time"]
                if any(math.isclose(n, x) for n in numbers for c in counts for x in (c, 1 / c)):
                    return _where(node)
        return None

    def _follow(self, node: fx.Node) -> None:
        """Set what a node gives, and what torch computes for it."""
        if node is self.entry:
            self.values[node], self.computed[node] = self.features, self.example.clone()
            return
        if node.op == "placeholder":
            self.values[node] = self.computed[node] = self._stored(node)
            return
        if node.target is operator.getitem:
            for known in (self.values, self.computed):
                source, index = _with_known(node.args, known)
                known[node] = source[index]
            return
        inputs = [self.values[source] for source in node.all_input_nodes]
        if any(isinstance(value, Stream | States | Unusable | tuple) for value in inputs):
            self._operator(node)
        else:
            self.values[node] = self.computed[node] = self._constant(node)

    def _constant(self, node: fx.Node) -> Any:
        """The result of an operator on constants."""
        if node.target not in _NUMBERS and _name(node) not in _PURE:
            raise ImporterError(
                "is not supported on constants; compute its result before the export"
            )
        return self._compute(node)

    def _stored(self, node: fx.Node) -> Tensor:
        """A parameter, a buffer, or a constant of the program."""
        signature, program = self.program.graph_signature, self.program
        stored = {**program.state_dict, **program.constants}
        names = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        value = stored.get(names.get(node.name, ""))
        if not isinstance(value, Tensor):
            raise ImporterError("is no tensor of the program; export it again")
        return value.detach().float() if value.dtype in _FLOATS else value.detach()

    def _operator(self, node: fx.Node) -> None:
        """Apply an operator to signals."""
        name = _name(node)
        args, kwargs = (_with_known(a, self.values) for a in (node.args, node.kwargs))
        for value in [*args, *kwargs.values()]:
            if isinstance(value, Unusable):
                raise ImporterError(value.reason)
        if name not in OPERATORS:
            raise ImporterError(f"is not supported; supported are {', '.join(sorted(OPERATORS))}")
        result = self._compute(node)
        self.graph.place = _place(node)
        first = node.all_input_nodes[0]
        call = Call(self.graph, _bound(node, args, kwargs), result, len(first.users) == 1)
        value = OPERATORS[name](call)
        _check_shape(value, result)
        for changed in [node, *([first] if _in_place(node) else [])]:
            self.values[changed], self.computed[changed] = value, result

    def _compute(self, node: fx.Node) -> Any:
        """What torch computes for the example."""
        args, kwargs = (_with_known(a, self.computed) for a in (node.args, node.kwargs))
        assert callable(node.target)
        try:
            with torch.no_grad():
                return node.target(*args, **kwargs)
        except (RuntimeError, TypeError, ValueError, IndexError, ZeroDivisionError) as error:
            text = str(error).strip().splitlines() or [type(error).__name__]
            raise ImporterError(f"torch cannot compute it: {text[0]}") from error

    def _output(self, node: fx.Node) -> Stream:
        signature = self.program.graph_signature
        if signature.buffers_to_mutate:
            changed = next(iter(signature.buffers_to_mutate.values()))
            raise ImporterError(
                f"changes the buffer {changed}; call .eval() on the module before export"
            )
        outputs = [self.values.get(out, out) for out in node.all_input_nodes]
        for output in outputs:
            if isinstance(output, Unusable):
                raise ImporterError(f"returns more than its outputs: {output.reason}")
            if isinstance(output, States):
                raise ImporterError(
                    "returns the final states of a recurrent layer too, expected one signal; "
                    "wrap the module so that it returns that alone"
                )
        if len(signature.user_outputs) != 1 or not isinstance(outputs[0], Stream):
            raise ImporterError(
                f"returns {len(signature.user_outputs)} values, expected one signal; "
                "wrap the module so that it returns its logits alone"
            )
        stream = self.graph.finalize(outputs[0])
        if stream.is_padded or stream.backwards:
            raise ImporterError(
                "returns padded, cut or reversed frames, expected the frames of a layer"
            )
        if stream.node == INPUT:
            raise ImporterError("returns its input; there is no layer to import")
        return stream


def _with_known(arguments: Any, known: dict[fx.Node, Any]) -> Any:
    """Arguments in which the nodes are replaced by what is known of them, and types by float32."""

    def replaced(argument: Any) -> Any:
        if isinstance(argument, fx.Node):
            return known[argument]
        is_float = isinstance(argument, torch.dtype) and argument in _FLOATS
        return torch.float32 if is_float else argument

    return map_aggregate(arguments, replaced)


def _check_shape(value: Any, result: Any) -> None:
    """Raise ImporterError where a handler expects another shape than torch computes."""
    stream, tensor = (value[0], result[0]) if isinstance(value, tuple) else (value, result)
    if isinstance(stream, Stream) and stream.shape != tuple(tensor.shape):
        raise ImporterError(f"gives a tensor of shape {list(tensor.shape)}, expected {stream}")


def needed_nodes(program: ExportedProgram) -> list[fx.Node]:
    """The nodes that the outputs depend on, with those that change one of them in place; the last
    one is the output."""
    nodes = list(program.graph.nodes)
    needed = {nodes[-1]}
    for node in reversed(nodes):
        changes = _in_place(node) and node.args[0] in needed
        if node in needed or changes:
            needed.update([node, *node.all_input_nodes])
    return [node for node in nodes if node in needed]


def _name(node: fx.Node) -> str:
    """An ATen operator's name without overload, and without the underscore of its in-place form."""
    if not isinstance(node.target, torch._ops.OpOverload) or node.target.namespace != "aten":
        return ""
    name = node.target._schema.name.split("::")[1]
    return name[:-1] if _in_place(node) else name


def _in_place(node: fx.Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def _bound(node: fx.Node, args: Any, kwargs: Any) -> dict[str, Any]:
    """The arguments by name, defaults included."""
    assert isinstance(node.target, torch._ops.OpOverload)
    schema = node.target._schema.arguments
    defaults = {a.name: a.default_value for a in schema}
    return {**defaults, **{a.name: v for a, v in zip(schema, args, strict=False)}, **kwargs}


def _module(node: fx.Node) -> tuple[str, str]:
    """The path and the class of the module that a node stands in."""
    stack = node.meta.get("nn_module_stack") or {}
    path, kind = next(reversed(stack.values()), ("", ""))
    if path.startswith("_empty_nn_module_stack"):
        return "", ""
    return path, kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"


def _taken_apart(node: fx.Node) -> str | None:
    """What to do where an operator is a part of a recurrent layer."""
    kinds = [f"torch.nn.modules.rnn.{kind}" for kind in ("LSTM", "GRU", "RNN")]
    if _module(node)[1] not in kinds or _name(node) in ("lstm", "gru", "rnn_tanh", "rnn_relu"):
        return None
    return (
        "the recurrent layer is taken apart into single operators; "
        "leave run_decompositions() out and export again"
    )


def _place(node: fx.Node) -> Place:
    """The module that a node stands in."""
    path, kind = _module(node)
    is_layer = kind.startswith(("torch.nn.modules.", "tinyvox."))
    return Place(path.replace("/", ".").strip("."), is_layer)


def _where(node: fx.Node) -> str:
    """Operator, module and line, as far as the program remembers them."""
    path = _place(node).path
    frames = re.findall(r'File "(.*)", line (\d+)', node.meta.get("stack_trace") or "")
    lines = [(file, line) for file, line in frames if "/torch/nn/" not in file.replace("\\", "/")]
    module = f" in module {path!r}" if path else ""
    source = f" at {PurePath(lines[-1][0]).name}:{lines[-1][1]}" if lines else ""
    return f"{node.target} (node {node.name!r}{module}{source})"

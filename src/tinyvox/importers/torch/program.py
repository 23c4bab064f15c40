"""An exported program, operator by operator, as a tape."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.fx.node import map_aggregate
from torch.utils import _pytree

from tinyvox.errors import ImporterError
from tinyvox.importers.layer_graph import Place
from tinyvox.importers.tape import Tape, Value, computed, operator_name
from tinyvox.importers.torch.results import named
from tinyvox.importers.torch.writing_out import applied

# The operators that may compute constants. They have no side effects, so no file does harm by them.
# fmt: off
_PURE = frozenset((
    "_to_copy", "_weight_norm", "_weight_norm_interface", "abs", "add", "alias",
    "arange", "cat", "ceil", "chunk", "clamp", "clone", "concat", "contiguous", "detach", "div",
    "dot", "exp", "expand", "expand_as", "eye", "flatten", "flip", "floor", "full", "full_like",
    "index", "layer_norm", "lift_fresh", "lift_fresh_copy", "linear", "linspace", "log", "mT",
    "matmul", "maximum", "mean", "minimum", "mm", "movedim", "mul", "mv", "neg", "new_full",
    "new_ones", "new_zeros", "norm", "numpy_T", "ones", "ones_like", "permute", "pow",
    "reciprocal", "relu",
    "repeat", "reshape", "rsqrt", "scalar_tensor", "select", "sigmoid", "slice", "split",
    "split_with_sizes", "sqrt", "squeeze", "stack", "sub", "sum", "sym_size", "t", "tanh", "to",
    "transpose", "unbind", "unflatten", "unsqueeze", "vdot", "view", "view_as", "zeros",
    "zeros_like",
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


class Reading:
    """A program run for examples of its inputs that are signals, and constants for the others.

    Raises ImporterError, with the operator, where torch cannot compute it.
    """

    def __init__(
        self,
        program: ExportedProgram,
        examples: Mapping[str, Tensor],
        constants: Mapping[str, Tensor],
    ) -> None:
        self._program, self._examples, self._constants = program, examples, constants
        self.tape = Tape()
        self.outputs: dict[str, Any] = {}
        """What the program gives: values and constants, by name."""
        self._values: dict[fx.Node, Any] = {}
        """What each node gives: a value, a constant, or a tuple of these."""
        for node in needed_nodes(program):
            if node.op == "output":
                self.outputs = self._outputs(node)
                return
            try:
                self._follow(node)
            except ImporterError as error:
                raise ImporterError(f"{_where(node)}: {_taken_apart(node) or error}") from error

    def _follow(self, node: fx.Node) -> None:
        """Find what a node gives."""
        if node.name in self._examples and node.op == "placeholder":
            self._values[node] = self.tape.input(node.name, self._examples[node.name].clone())
        elif node.name in self._constants and node.op == "placeholder":
            self._values[node] = self._constants[node.name]
        elif node.op == "placeholder":
            self._values[node] = self._stored(node)
        elif node.target is operator.getitem:
            source, index = self._known(node.args)
            self._values[node] = source[index]
        else:
            self._values[node] = self._applied(node)

    def _applied(self, node: fx.Node) -> Any:
        """The result of an operator, on signals or on constants."""
        args, kwargs = self._known(node.args), self._known(node.kwargs)
        inputs = [self._values[source] for source in node.all_input_nodes]
        on_signals = any(isinstance(value, Value | tuple) for value in inputs)
        if not on_signals and node.target not in _NUMBERS and _name(node) not in _PURE:
            raise ImporterError(
                "is not supported on constants; compute its result before the export"
            )
        target = node.target
        if not isinstance(target, torch._ops.OpOverload):
            assert callable(target)
            return computed(target, args, kwargs)
        self.tape.place, self.tape.where = _place(node), _where(node)
        result = applied(self.tape, target, args, kwargs)
        if _in_place(node):
            self._values[node.all_input_nodes[0]] = result
        return result

    def _stored(self, node: fx.Node) -> Tensor:
        """A parameter, a buffer, or a constant of the program."""
        signature, program = self._program.graph_signature, self._program
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

    def _outputs(self, node: fx.Node) -> dict[str, Any]:
        signature = self._program.graph_signature
        if signature.buffers_to_mutate:
            changed = next(iter(signature.buffers_to_mutate.values()))
            raise ImporterError(
                f"changes the buffer {changed}; call .eval() on the module before export"
            )
        (found,) = self._known(node.args)
        return dict(named(_pytree.tree_unflatten(found, self._program.call_spec.out_spec)))

    def _known(self, arguments: Any) -> Any:
        """Arguments in which nodes are replaced by what they give, and types by float32."""

        def replaced(argument: Any) -> Any:
            if isinstance(argument, fx.Node):
                return self._values[argument]
            is_float = isinstance(argument, torch.dtype) and argument in _FLOATS
            return torch.float32 if is_float else argument

        return map_aggregate(arguments, replaced)


def needed_inputs(program: ExportedProgram) -> dict[str, Tensor]:
    """The inputs that the outputs depend on, without values; sizes may be free."""
    names = program.graph_signature.user_inputs
    nodes = [n for n in needed_nodes(program) if n.op == "placeholder" and n.name in names]
    return {n.name: n.meta["val"] for n in nodes if isinstance(n.meta["val"], Tensor)}


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
    return operator_name(node.target)


def _in_place(node: fx.Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


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

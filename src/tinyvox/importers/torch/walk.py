"""The walk through an exported program, operator by operator, that finds the layers."""

from __future__ import annotations

import itertools
import operator
import re
from collections.abc import Callable, Sequence
from pathlib import PurePath
from typing import Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.fx.node import map_aggregate

from tinyvox.errors import ImporterError, ModelError
from tinyvox.importers.torch.arithmetic import ARITHMETIC
from tinyvox.importers.torch.axes import AXES
from tinyvox.importers.torch.graph import Axes, Axis, Call, Graph, Stream, Unusable
from tinyvox.importers.torch.operators import LAYERS
from tinyvox.model import INPUT, Activation, Layer, Model, Node, Recurrent

OPERATORS: dict[str, Callable[[Call], Any]] = {**AXES, **LAYERS, **ARITHMETIC}
"""What is done for an operator on signals, by its name without overload."""

# What may compute a constant: operators without effects, so that a file does no harm through them.
# fmt: off
_PURE = frozenset((
    "_to_copy", "_weight_norm", "_weight_norm_interface", "abs", "add", "alias", "arange",
    "cat", "ceil", "clamp", "clone", "concat", "contiguous", "detach", "div", "exp", "expand",
    "expand_as", "eye", "flatten", "flip", "floor", "full", "full_like", "index", "lift_fresh",
    "lift_fresh_copy", "linspace", "log", "mT", "matmul", "maximum", "mean", "minimum", "mm",
    "movedim", "mul", "neg", "new_full", "new_ones", "new_zeros", "norm", "numpy_T", "ones",
    "ones_like", "permute", "pow", "reciprocal", "repeat", "reshape", "rsqrt", "scalar_tensor",
    "select", "slice", "sqrt", "squeeze", "stack", "sub", "sum", "sym_size", "t", "to",
    "transpose", "unflatten", "unsqueeze", "view", "view_as", "zeros", "zeros_like",
))
# fmt: on
_NUMBERS = frozenset(
    [
        *(operator.add, operator.sub, operator.mul, operator.floordiv, operator.truediv),
        *(operator.mod, operator.neg, torch.sym_max, torch.sym_min, torch.sym_int),
    ]
)
"""Functions on sizes."""


class Walk:
    """One way through a program, for one meaning of its input's dimensions.

    Every value is computed for an example as it goes, so that all sizes are plain numbers, and the
    model can be compared with the program in the end.
    """

    def __init__(
        self, program: ExportedProgram, entry: fx.Node, example: Tensor, layout: tuple[str, ...]
    ) -> None:
        self.program, self.entry, self.layout = program, entry, layout
        self.graph = Graph(example.shape[layout.index("feature")])
        self.features = Stream(example, INPUT, _axes(layout, example))
        self.values: dict[fx.Node, Any] = {}

    def model(self) -> Model:
        """The model. Raises ImporterError, naming the operator, where there is none."""
        nodes = list(self.program.graph.nodes)
        for node in _needed(nodes):
            if node.op == "output":
                break
            try:
                self.values[node] = self._value(node)
            except (ImporterError, ModelError) as error:
                raise ImporterError(f"{_where(node)}: {error}") from error
        self.output = self._output(nodes[-1])
        found = _reachable(self.graph, self.output.node)
        names = _names(self.graph, found)
        renamed = [
            Node(names[n.name], n.layer, tuple(names.get(i, i) for i in n.inputs)) for n in found
        ]
        return Model(self.graph.signals[INPUT].size, tuple(renamed))

    def _value(self, node: fx.Node) -> Any:
        if node is self.entry:
            return Stream(self.features.example.clone(), INPUT, self.features.axes)
        if node.op == "placeholder":
            return self._constant(node)
        args = map_aggregate(node.args, self._known)
        kwargs = map_aggregate(node.kwargs, self._known)
        if node.target is operator.getitem:
            return args[0][args[1]]  # type: ignore[index]
        inputs = [self.values[source] for source in node.all_input_nodes]
        if any(isinstance(value, Stream | Unusable | tuple) for value in inputs):
            return self._operator(node, args, kwargs)
        return _constant(node, args, kwargs)

    def _known(self, argument: Any) -> Any:
        return self.values[argument] if isinstance(argument, fx.Node) else argument

    def _constant(self, node: fx.Node) -> Tensor:
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
            raise ImporterError("is no tensor of the program")
        return value.detach()

    def _operator(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        """An operator on signals."""
        name = _name(node)
        for value in [*args, *kwargs.values()]:
            if isinstance(value, Unusable):
                raise ImporterError(value.reason)
        if name not in OPERATORS:
            raise ImporterError(f"is not supported; supported are {', '.join(sorted(OPERATORS))}")
        result = _compute(node, *(map_aggregate(a, _example) for a in (args, kwargs)))
        self.graph.place = _place(node)
        first = node.all_input_nodes[0]
        call = Call(self.graph, _bound(node, args, kwargs), result, len(first.users) == 1)
        value = OPERATORS[name](call)
        if _in_place(node):
            self.values[first] = value
        return value

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
        if len(signature.user_outputs) != 1 or not isinstance(outputs[0], Stream):
            raise ImporterError(
                f"returns {len(signature.user_outputs)} values, expected one signal; "
                "wrap the module so that it returns its logits alone"
            )
        stream = self.graph.finalize(outputs[0])
        if stream.span != (0, 0) or stream.bands != (0, 0) or stream.backwards:
            raise ImporterError("returns padded, cut or turned frames, expected frames as they are")
        if stream.node == INPUT:
            raise ImporterError("returns its input; there is no layer to import")
        return stream


def _axes(layout: tuple[str, ...], example: Tensor) -> Axes:
    kinds: dict[str, Callable[[int], tuple[Axis, ...]]] = {
        "": lambda size: (),
        "batch": lambda size: (Axis("batch", size),),
        "time": lambda size: (Axis("time", size),),
        "feature": lambda size: (Axis("feature", size),),
    }
    return tuple(
        kinds[kind](size) if size > 1 else ()
        for kind, size in zip(layout, example.shape, strict=True)
    )


def _needed(nodes: list[fx.Node]) -> list[fx.Node]:
    """What the outputs depend on, operators that change such a tensor in place included."""
    needed = {nodes[-1]}
    for node in reversed(nodes):
        changes = _in_place(node) and node.args[0] in needed
        if node in needed or changes:
            needed.update([node, *node.all_input_nodes])
    return [node for node in nodes if node in needed]


def _name(node: fx.Node) -> str:
    """An ATen operator's name without overload, and without the mark of the in-place form."""
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


def _constant(node: fx.Node, args: Any, kwargs: Any) -> Any:
    """An operator on constants, which torch may compute at once."""
    if node.target not in _NUMBERS and _name(node) not in _PURE:
        raise ImporterError("is not supported on constants")
    return _compute(node, args, kwargs)


def _compute(node: fx.Node, args: Any, kwargs: Any) -> Any:
    assert callable(node.target)
    try:
        with torch.no_grad():
            return node.target(*args, **kwargs)
    except (RuntimeError, TypeError, ValueError, IndexError, ZeroDivisionError) as error:
        text = str(error).strip().splitlines() or [type(error).__name__]
        raise ImporterError(f"torch cannot compute it: {text[0]}") from error


def _example(value: Any) -> Any:
    return value.example if isinstance(value, Stream) else value


def _place(node: fx.Node) -> tuple[str, bool]:
    """The path of the module that a node stands in, and whether it is one layer."""
    stack = node.meta.get("nn_module_stack") or {}
    path, kind = next(reversed(stack.values()), ("", ""))
    if path.startswith("_empty_nn_module_stack"):
        return "", False
    kind = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
    return path.replace("/", ".").strip("."), kind.startswith(("torch.nn.modules.", "tinyvox."))


def _where(node: fx.Node) -> str:
    """Operator, module and line, as far as the program remembers them."""
    path = _place(node)[0]
    frames = re.findall(r'File "(.*)", line (\d+)', node.meta.get("stack_trace") or "")
    lines = [(file, line) for file, line in frames if "/torch/nn/" not in file.replace("\\", "/")]
    module = f" in module {path!r}" if path else ""
    source = f" at {PurePath(lines[-1][0]).name}:{lines[-1][1]}" if lines else ""
    return f"{node.target} (node {node.name!r}{module}{source})"


def _reachable(graph: Graph, output: str) -> list[Node]:
    """The nodes that the output depends on, in the order in which they were found."""
    needed = {output}
    for node in reversed(list(graph.nodes.values())):
        if node.name in needed:
            needed.update(node.inputs)
    return [node for node in graph.nodes.values() if node.name in needed]


def _names(graph: Graph, nodes: Sequence[Node]) -> dict[str, str]:
    """Names after the modules: `dense1`; `lstm.0`, `lstm.1` of two layers; `block.relu`."""
    groups: dict[str, list[Node]] = {}
    for node in nodes:
        groups.setdefault(graph.places[node.name][0], []).append(node)
    names: dict[str, str] = {}
    for node in nodes:
        path, own = graph.places[node.name]
        parent = not own and any(other.startswith(path + ".") for other in groups)
        title = _title(path, own, parent, groups[path], node)
        names[node.name] = _unique(title, {INPUT, *names.values()})
    return names


def _title(path: str, own: bool, parent: bool, group: list[Node], node: Node) -> str:
    if path and len(group) == 1 and not parent:
        return path
    if own and all(isinstance(other.layer, Recurrent) for other in group):
        return f"{path}.{group.index(node)}"
    if own and node is group[-1]:
        return path
    return f"{path}.{_kind(node.layer)}".lstrip(".")


def _unique(name: str, taken: set[str]) -> str:
    numbered = (name if i == 1 else f"{name}_{i}" for i in itertools.count(1))
    return next(candidate for candidate in numbered if candidate not in taken)


def _kind(layer: Layer) -> str:
    """A layer in words: `relu`, `lstm`, `context_window`."""
    if isinstance(layer, Activation | Recurrent):
        return layer.kind
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(layer).__name__).lower()

"""The graph of a Keras model as its JSON has it: layers, and which tensor each use of one takes.

The forms of Keras 1 and 2 and that of Keras 3 become one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from tinyvox.errors import ImporterError
from tinyvox.importers.keras.settings import Settings, shown, whole

MODELS = ("Functional", "Model", "Sequential")
"""The classes of models whose computation is in the file."""


class Tensor(NamedTuple):
    """An output of one use of a layer."""

    layer: str
    use: int
    output: int


@dataclass(frozen=True)
class Use:
    """The inputs of one use of a layer. `states` are initial states of a recurrent layer."""

    inputs: list[Tensor]
    states: list[Tensor] = field(default_factory=list)

    @property
    def all(self) -> list[Tensor]:
        """Inputs and states."""
        return [*self.inputs, *self.states]


@dataclass(frozen=True)
class LayerEntry:
    """A layer in a model: its name, its class, its settings, and how it is used."""

    name: str
    kind: str
    config: Settings
    uses: list[Use]


@dataclass(frozen=True)
class Topology:
    """A model: its layers by name, in the order of the file, its inputs and its outputs."""

    layers: dict[str, LayerEntry]
    inputs: list[Tensor]
    outputs: list[Tensor]

    def use(self, tensor: Tensor) -> Use:
        """The use of a layer that gives a tensor. Raises ImporterError where there is none."""
        entry = self.layers.get(tensor.layer)
        if entry is None:
            raise ImporterError(f"the model's graph names {shown(tensor.layer)}, which is no layer")
        if tensor.use >= len(entry.uses):
            raise ImporterError(
                f"the model's graph takes use {tensor.use} of {tensor.layer}, "
                f"which has {len(entry.uses)}"
            )
        return entry.uses[tensor.use]

    def needed(self, tensors: list[Tensor]) -> dict[Tensor, None]:
        """The tensors that these depend on, themselves included, those that come first first.

        Raises ImporterError where the graph is a circle.
        """
        done: dict[Tensor, None] = {}
        open_: set[Tensor] = set()
        waiting = [(tensor, False) for tensor in reversed(tensors)]
        while waiting:
            tensor, inputs_done = waiting.pop()
            if inputs_done:
                open_.discard(tensor)
                done[tensor] = None
            elif tensor not in done:
                if tensor in open_:
                    raise ImporterError(f"the model's graph runs in a circle at {tensor.layer}")
                open_.add(tensor)
                waiting.append((tensor, True))
                waiting += [(each, False) for each in reversed(self.use(tensor).all)]
        return done


def topology(kind: str, config: Settings | list[object]) -> Topology:
    """The graph of a model of this class. Raises ImporterError where it is not in the file."""
    if isinstance(config, list):
        return _chain([Settings.of(value, "a layer") for value in config])
    if kind == "Sequential":
        return _chain(config.parts("layers"), config.get("build_input_shape"))
    entries = [_entry(layer) for layer in config.parts("layers")]
    layers = {entry.name: entry for entry in entries}
    if len(layers) != len(entries):
        raise ImporterError("two layers of the model have one name; rename one of them")
    inputs, outputs = (_tensors(config.get(key)) for key in ("input_layers", "output_layers"))
    if not inputs or not outputs:
        raise ImporterError("the model's graph has no inputs or no outputs")
    is_new = any(isinstance(n, dict) for x in config.parts("layers") for n in _nodes(x))
    return _outputs_from_0(layers, inputs, outputs) if is_new else _from_0(layers, inputs, outputs)


def _outputs_from_0(
    layers: dict[str, LayerEntry], inputs: list[Tensor], outputs: list[Tensor]
) -> Topology:
    """Keras 3 counts the uses of a model in a model from 1, but in the outputs alone."""
    models = {name for name, entry in layers.items() if entry.kind in ("Functional", "Model")}
    outputs = [t._replace(use=max(0, t.use - 1)) if t.layer in models else t for t in outputs]
    return Topology(layers, inputs, outputs)


def _from_0(layers: dict[str, LayerEntry], inputs: list[Tensor], outputs: list[Tensor]) -> Topology:
    """Keras 2 counts the uses of a model in a model from 1, where it was built by itself."""
    uses = [use for entry in layers.values() for use in entry.uses]
    named = [*outputs, *(tensor for use in uses for tensor in use.all)]
    last: dict[str, int] = {}
    for tensor in named:
        last[tensor.layer] = max(tensor.use, last.get(tensor.layer, 0))
    first = {n: last.get(n, 0) + 1 - len(entry.uses) for n, entry in layers.items()}

    def moved(tensors: list[Tensor]) -> list[Tensor]:
        return [t._replace(use=t.use - max(0, min(first.get(t.layer, 0), t.use))) for t in tensors]

    found = {
        name: dataclasses.replace(
            entry, uses=[Use(moved(use.inputs), moved(use.states)) for use in entry.uses]
        )
        for name, entry in layers.items()
    }
    return Topology(found, inputs, moved(outputs))


def _nodes(layer: Settings) -> list[object]:
    nodes = layer.get("inbound_nodes") or []
    if not isinstance(nodes, list):
        raise ImporterError(f"inbound_nodes is {shown(nodes)}, expected a list")
    return nodes


def _entry(layer: Settings) -> LayerEntry:
    config = layer.part("config")
    name = layer.text("name", config.get("name"))
    kind = layer.text("class_name")
    uses = [_use(node) for node in _nodes(layer)]
    if kind == "InputLayer":
        uses = [Use([])]
    return LayerEntry(name, kind, config, uses)


def _use(node: object) -> Use:
    if isinstance(node, dict):
        states = _tensors(_of(node.get("kwargs"), "initial_state"))
        return Use(_tensors(node.get("args")), states)
    states = [t for each in _lists(node) for t in _tensors(_of(each[3], "initial_state"))]
    return Use(_tensors(node), states)


def _of(value: object, key: str) -> object:
    return value.get(key) if isinstance(value, dict) else None


def _lists(node: object) -> Iterator[list[object]]:
    """The `[layer, use, output, arguments]` of an inbound node of Keras 2."""
    for each in node if isinstance(node, list) else ():
        if isinstance(each, list) and len(each) == 4:
            yield each


def _tensors(value: object) -> list[Tensor]:
    """All tensors in a value: `[layer, use, output, ...]`, what Keras 3 writes, or lists of these.

    Constants are left out; a layer that needs one finds an input missing.
    """
    found: list[Tensor] = []
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict) and each.get("class_name") == "__keras_tensor__":
            each = _of(each.get("config"), "keras_history")
        elif isinstance(each, dict):
            waiting += reversed(list(each.values()))
        if isinstance(each, list | tuple) and len(each) >= 3 and isinstance(each[0], str):
            found.append(Tensor(each[0], whole(each[1], "use", 0), whole(each[2], "output", 0)))
        elif isinstance(each, list | tuple):
            waiting += reversed(each)
    return found


def _chain(layers: list[Settings], shape: object = None) -> Topology:
    """A Sequential model: each layer takes what the one before gives."""
    if not layers:
        raise ImporterError("the model has no layers")
    entries = [_entry(layer) for layer in layers]
    if entries[0].kind != "InputLayer":
        given = {**entries[0].config.values, "name": "input"}
        given.setdefault("batch_input_shape", shape)
        entries.insert(0, LayerEntry("input", "InputLayer", Settings(given), [Use([])]))
    found: dict[str, LayerEntry] = {entries[0].name: entries[0]}
    last = Tensor(entries[0].name, 0, 0)
    for entry in entries[1:]:
        if entry.name in found:
            raise ImporterError(f"two layers of the model are called {entry.name}; rename one")
        found[entry.name] = LayerEntry(entry.name, entry.kind, entry.config, [Use([last])])
        last = Tensor(entry.name, 0, 0)
    return Topology(found, [Tensor(entries[0].name, 0, 0)], [last])

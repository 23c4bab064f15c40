"""Which nodes of a graph are the model's input, its output and its states."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tinyvox.importers import deepspeech
from tinyvox.importers.tensorflow import FRAMES, example_shape
from tinyvox.importers.tf_graph.graph import (
    GraphFile,
    GraphNode,
    source_of,
)
from tinyvox.importers.tf_tensors import FLOATS

MAX_ENDS = 64
"""Most nodes that are tried as the output, the last ones of the file."""
_FRONT = "Mfcc"
"""The operator at whose output the network begins; what computes the features stands before."""


@dataclass(frozen=True)
class Choice:
    """A way to see a graph: the node with the features and the shape that it has for an example;
    the node of the output; the other nodes that may give states."""

    entry: str
    shape: tuple[int, ...]
    """The shape of the entry as the graph has it."""
    taken: tuple[int, ...]
    """The same without dimensions of size 1 beside the batch: the shape of the example."""
    output: str
    others: tuple[str, ...] = ()
    windowed: bool = False
    frames: int | None = None
    """The number of frames that was asked for, where the graph leaves it open."""


def is_deepspeech(file: GraphFile) -> bool:
    """Whether a graph was exported by DeepSpeech 0.6 to 0.9, or by Coqui STT."""
    return {deepspeech.FEATURES, deepspeech.LOGITS} <= file.nodes.keys()


def candidates(file: GraphFile) -> Iterator[tuple[GraphNode, GraphNode]]:
    """The inputs with features and the outputs to try, in order."""
    if is_deepspeech(file):
        yield file.nodes[deepspeech.FEATURES], file.nodes[deepspeech.LOGITS]
        return
    for output in reversed(_ends(file)):
        for entry in _entries(file, output):
            yield entry, output


def _ends(file: GraphFile) -> list[GraphNode]:
    return [node for node in file.nodes.values() if _is_end(file, node)][-MAX_ENDS:]


def _is_end(file: GraphFile, node: GraphNode) -> bool:
    """Whether a node gives a result that no other takes."""
    used = any(not i.startswith("^") for u in file.users.get(node.name, []) for i in u.inputs
               if source_of(i) == node.name)  # fmt: skip
    return not used and node.op not in ("Const", "Placeholder", "NoOp", "Assert")


def _entries(file: GraphFile, output: GraphNode) -> list[GraphNode]:
    """The nodes that may hold the features of an output: those with the most dimensions first."""
    needed = needed_by(file, output.name)
    fronts = [node for node in needed if node.op == _FRONT]
    inputs = [n for n in needed if n.op == "Placeholder" and n.type in FLOATS and n.shape != ()]
    return fronts or sorted(inputs, key=lambda node: -len(node.shape or (1, 1, 1)))


def needed_by(file: GraphFile, name: str) -> list[GraphNode]:
    """The nodes that an output depends on, up to where features begin."""
    waiting, found = [name], {}
    while waiting:
        now = waiting.pop()
        if now in found or now not in file.nodes:
            continue
        found[now] = file.nodes[now]
        if file.nodes[now].op != _FRONT:
            waiting += map(source_of, file.nodes[now].inputs)
    return list(found.values())


def choice_of(file: GraphFile, entry: GraphNode, output: GraphNode, frames: int = FRAMES) -> Choice:
    """How the graph is seen with this input and this output.

    Raises ImporterError where the input's shape is impossible.
    """
    others = tuple(
        end.name
        for end in _ends(file)
        if end is not output and any(n is entry for n in needed_by(file, end.name))
    )
    entry, declared = _shaped(file, entry)
    shape = tuple(example_shape(declared, frames))
    is_open = declared != shape
    windowed = is_deepspeech(file) and len(shape) == 4 and shape[2] > 1
    taken = shape
    if not windowed and len(shape) > 3:
        taken = (shape[0], *(size for size in shape[1:] if size != 1))
    asked = frames if is_open else None
    return Choice(entry.name, shape, taken, output.name, others, windowed, asked)


def _shaped(file: GraphFile, entry: GraphNode) -> tuple[GraphNode, tuple[int, ...]]:
    """The entry and its shape, after the reshapes that make frames of flat features.

    They must be all that takes it.
    """
    declared = _declared(entry)
    if entry.op != _FRONT and len(declared) > 2:
        return entry, declared
    found, node = (entry, declared), entry
    for _ in range(_MOST_RESHAPES):
        users = file.users.get(node.name, [])
        if len(users) != 1 or users[0].op not in _MOVING:
            break
        node = users[0]
        shape = _new_shape(file, node)
        if shape is not None and len(shape) > 2:
            found = node, shape
    return found


_MOVING = ("Reshape", "Identity")
_MOST_RESHAPES = 16


def _declared(entry: GraphNode) -> tuple[int, ...]:
    if entry.op == _FRONT:
        given = "dct_coefficient_count" in entry.attributes
        return 1, FRAMES, entry.attribute("dct_coefficient_count").whole if given else 13
    return (-1, -1, -1) if entry.shape is None else entry.shape


def _new_shape(file: GraphFile, node: GraphNode) -> tuple[int, ...] | None:
    """What a Reshape to a constant shape gives."""
    if node.op != "Reshape" or len(node.inputs) < 2:
        return None
    given = file.nodes.get(source_of(node.inputs[1]))
    if given is None or given.op != "Const":
        return None
    value = given.attribute("value").tensor
    if isinstance(value, bytes) or value.numel() > 8:
        return None
    return tuple(int(size) for size in value.flatten().tolist())

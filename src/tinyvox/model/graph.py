"""The model: a frozen graph of layers, and the queries for its parts."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import weakref
from collections import defaultdict
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tinyvox.errors import ModelError
from tinyvox.model.card import SpeechCard
from tinyvox.model.layers import Embedding, Layer, Linear, Signal
from tinyvox.model.matrix import Coded, Dense, Matrix, Product, leaf_map, leaves

LARGE = 20_000_000
"""Parameters of a network from which on its time is what one has to be careful of."""
INPUT = "input"
"""The name under which nodes refer to the model's input."""


@dataclass(frozen=True, eq=False)
class Node:
    """A layer, its name, and the names of the nodes (or INPUT) that feed it."""

    name: str
    layer: Layer
    inputs: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Model:
    """Nodes in topological order; the last one's signal is the output.

    Nodes may have the very same layer. If it has matrices, these are stored once, and called after
    the first of the nodes; passes change them for all. An embedding may have the very same matrix
    as a linear layer. It is then tied: the matrix is stored once, and called after the linear layer
    alone.

    Raises ModelError, naming the layer, where shapes, names or values do not fit.
    """

    input_size: int
    nodes: tuple[Node, ...]
    card: SpeechCard | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """What is known of the model's origin: source, original parameters, recipe, results."""

    def __post_init__(self) -> None:
        if not self.nodes:
            raise ModelError("a model needs at least one layer, found none")
        if self.input_size < 1:
            raise ModelError(f"the input size is {self.input_size}, expected 1 or more")
        signals = {INPUT: Signal((self.input_size,))}
        for node in self.nodes:
            signals[node.name] = _infer(node, signals)
        object.__setattr__(self, "_signals", signals)
        self._check_tensor_names()
        self._check_card(signals[self.output])

    @property
    def output(self) -> str:
        """The name of the last node, whose signal is the model's output."""
        return self.nodes[-1].name

    @property
    def signals(self) -> Mapping[str, Signal]:
        """The signal of every node, and of INPUT."""
        return self._signals  # type: ignore[attr-defined,no-any-return]

    @property
    def ids(self) -> int | None:
        """How many token ids there are, where the input is ids, one a frame; None for features."""
        counts = [n.layer.ids for n in self.nodes if isinstance(n.layer, Embedding)]
        return min(counts) if counts else None

    @property
    def original_parameters(self) -> int:
        """Parameters of the model before any pass."""
        return int(self.provenance.get("original_parameters", self.count_parameters()))

    def node(self, name: str) -> Node:
        """The node of this name. Raises ModelError, with all names, for others."""
        if name not in self._nodes:
            raise ModelError(f"no layer is called {name!r}; there are {', '.join(self._nodes)}")
        return self._nodes[name]

    def matrix(self, name: str) -> Matrix:
        """The matrix of this full name. Raises ModelError, with all names, for others."""
        found = self._tensors.get(name)
        if found is None or isinstance(found[1], Tensor):
            names = ", ".join(known for known, _ in self.matrices())
            raise ModelError(f"no matrix is called {name!r}; there are {names or 'none'}")
        return found[1]

    def vector(self, name: str) -> Tensor:
        """The vector of this full name. Raises ModelError, with all names, for others."""
        found = self._tensors.get(name)
        if found is None or not isinstance(found[1], Tensor):
            names = ", ".join(known for known, _ in self.vectors())
            raise ModelError(f"no vector is called {name!r}; there are {names or 'none'}")
        return found[1]

    def tensor(self, name: str) -> Matrix | Tensor:
        """The matrix or vector of this full name. Raises ModelError, with all names, for others."""
        return self._found(name)[1]

    def owner(self, name: str) -> Node:
        """The node whose layer has the tensor of this full name.

        Raises ModelError, with the names of all tensors, where no layer has it.
        """
        return self._found(name)[0]

    def uses(self, name: str) -> tuple[str, ...]:
        """The nodes that have the very same weights as this one, itself included."""
        return self._uses[self._key(self.node(name))]

    def holders(self) -> Iterator[Node]:
        """The nodes after which tensors are called: of those that have the same weights, the first.

        These are all nodes, where no layer is used twice.
        """
        yield from (self._nodes[names[0]] for names in self._uses.values())

    def has(self, name: str) -> bool:
        """Whether some layer has a tensor of this full name."""
        return name in self._tensors

    def matrices(self) -> Iterator[tuple[str, Matrix]]:
        """Every weight matrix with its full name, `layer.field`."""
        for node in self.holders():
            if node.name not in self.ties():
                for name, matrix in node.layer.matrices().items():
                    yield f"{node.name}.{name}", matrix

    def ties(self) -> Mapping[str, str]:
        """The embeddings that are tied, each with the linear layer that has its matrix."""
        return self._ties

    def dequantized(self, names: Container[str] | None = None) -> Model:
        """The model with the codes of these matrices, or of all, as the values that they stand for,
        float32."""
        decode = leaf_map(lambda leaf: Dense(leaf.decode()))
        chosen = ((name, m) for name, m in self.matrices() if names is None or name in names)
        return self.with_tensors({name: decode(matrix) for name, matrix in chosen})

    def shared_factors(self) -> dict[Matrix, tuple[str, ...]]:
        """The right factors that several products share, with the full names of those products.

        A pass treats such a factor as if it belonged to the first product.
        """
        names: dict[Matrix, list[str]] = defaultdict(list)
        for name, matrix in self.matrices():
            if isinstance(matrix, Product):
                names[matrix.right].append(name)
        return {factor: tuple(users) for factor, users in names.items() if len(users) > 1}

    def leaves(self) -> Iterator[tuple[str, Dense | Coded]]:
        """Every leaf with the full name of its matrix.

        The leaves of a factor that several products share come once, under the first name, as in
        the file.
        """
        seen: set[Matrix] = set()
        for name, matrix in self.matrices():
            for side in (matrix.left, matrix.right) if isinstance(matrix, Product) else (matrix,):
                if side not in seen:
                    yield from ((name, leaf) for leaf in leaves(side))
            if isinstance(matrix, Product):
                seen.add(matrix.right)

    def vectors(self) -> Iterator[tuple[str, Tensor]]:
        """Every bias and normalization vector with its full name, `layer.field`."""
        for node in self.holders():
            for name, vector in node.layer.vectors().items():
                yield f"{node.name}.{name}", vector

    def tensors(self) -> Iterator[tuple[str, Matrix | Tensor]]:
        """Every matrix, then every vector, with its full name."""
        yield from self.matrices()
        yield from self.vectors()

    def count_parameters(self) -> int:
        """The number of weights and biases.

        A product counts the weights of its factors; a factor that products share counts once.
        """
        weights = sum(leaf.shape[0] * leaf.shape[1] for _, leaf in self.leaves())
        return weights + sum(vector.numel() for _, vector in self.vectors())

    def digest(self) -> str:
        """The SHA-256 of the graph and of every number in it, in hexadecimal."""
        digest = hashlib.sha256(repr((self.input_size, self.card)).encode())
        for node in self.nodes:
            digest.update(repr((node.name, type(node.layer).__name__, node.inputs)).encode())
            if len(uses := self.uses(node.name)) > 1:
                digest.update(repr(uses).encode())
            digest.update(repr(node.layer.settings()).encode())
        for name, matrix in self.matrices():
            for leaf in leaves(matrix):
                digest.update(name.encode() + leaf.decode().contiguous().numpy().tobytes())
        for name, vector in self.vectors():
            digest.update(name.encode() + vector.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def with_tensors(self, new: Mapping[str, Matrix | Tensor]) -> Model:
        """A model in which the tensors of these full names are replaced.

        Raises ModelError where no layer has such a name, or where the new tensors do not fit.
        """
        holders = {node.name + ".": node for node in self.holders()}
        for name in new:
            if not any(name.startswith(prefix) for prefix in holders):
                names = ", ".join(node.name for node in holders.values())
                raise ModelError(f"no layer holds {name!r}; there are {names}")
        changed = {}
        for prefix, node in holders.items():
            mine = {k.removeprefix(prefix): v for k, v in new.items() if k.startswith(prefix)}
            layer = node.layer.with_tensors(mine) if mine else node.layer
            changed.update(dict.fromkeys(self.uses(node.name), layer))
        for table, linear in self.ties().items():
            weight = changed[linear].matrices()["weight"]
            tied = changed[table].with_tensors({"weight": weight})
            changed.update(dict.fromkeys(self.uses(table), tied))
        nodes = (dataclasses.replace(node, layer=changed[node.name]) for node in self.nodes)
        return dataclasses.replace(self, nodes=tuple(nodes))

    def map_matrices(self, change: Callable[[str, Matrix], Matrix]) -> Model:
        """A model in which `change(full name, matrix)` replaces every matrix."""
        return self.with_tensors({name: change(name, m) for name, m in self.matrices()})

    def check_length(self) -> None:
        """Raise ModelError where the model holds a number that fits one number of frames only.

        The importer says so in the provenance: the number of frames stood in the program.
        """
        place = self.provenance.get("length_in_graph")
        if place is not None:
            frames = self.provenance.get("exported_frames")
            raise ModelError(
                f"{place} computes with the number of frames, {frames}, so the model is right for "
                f"{frames} frames only; leave that out of the module, or export it for another "
                f"number of frames if the two numbers are equal by chance"
            )

    def with_provenance(self, **facts: Any) -> Model:
        """A model with these facts added to its provenance."""
        return dataclasses.replace(self, provenance={**self.provenance, **facts})

    def with_card(self, card: SpeechCard) -> Model:
        """A model with this speech card. Raises ModelError where the card does not fit."""
        return dataclasses.replace(self, card=card)

    @functools.cached_property
    def _nodes(self) -> dict[str, Node]:
        return {node.name: node for node in self.nodes}

    @functools.cached_property
    def _uses(self) -> dict[int | str, tuple[str, ...]]:
        """The names of the nodes that have the same weights, in the order of the nodes."""
        names: dict[int | str, list[str]] = defaultdict(list)
        for node in self.nodes:
            names[self._key(node)].append(node.name)
        return {key: tuple(found) for key, found in names.items()}

    @functools.cached_property
    def _ties(self) -> dict[str, str]:
        linear = {
            id(node.layer.weight): node.name
            for node in self.holders()
            if isinstance(node.layer, Linear)
        }
        return {
            node.name: linear[id(node.layer.weight)]
            for node in self.holders()
            if isinstance(node.layer, Embedding) and id(node.layer.weight) in linear
        }

    @staticmethod
    def _key(node: Node) -> int | str:
        """What nodes with the same weights have in common."""
        return id(node.layer) if node.layer.matrices() else node.name

    @functools.cached_property
    def _tensors(self) -> dict[str, tuple[Node, Matrix | Tensor]]:
        """Every tensor and its node, by the tensor's full name."""
        return {
            f"{node.name}.{name}": (node, tensor)
            for node in self.holders()
            for name, tensor in (*node.layer.matrices().items(), *node.layer.vectors().items())
            if node.name not in self.ties()
        }

    def _found(self, name: str) -> tuple[Node, Matrix | Tensor]:
        if name not in self._tensors:
            names = ", ".join(self._tensors) or "none"
            raise ModelError(f"no layer has a tensor {name!r}; there are {names}")
        return self._tensors[name]

    def _check_tensor_names(self) -> None:
        seen: set[str] = set()
        for name, _ in self.tensors():
            if name in seen:
                raise ModelError(f"two layers hold a tensor {name!r}; rename one of them")
            seen.add(name)

    def _check_card(self, output: Signal) -> None:
        if self.card is None:
            return
        if self.ids is not None:
            raise ModelError("the model takes token ids, so it can have no speech card")
        if self.card.features.size != self.input_size:
            raise ModelError(
                f"the speech card describes {self.card.features.size} features a frame, "
                f"but the model takes {self.input_size}"
            )
        if (len(self.card.tokens),) != output.shape:
            raise ModelError(
                f"the speech card lists {len(self.card.tokens)} tokens, "
                f"but {self.output!r} puts out {output.shape}"
            )


def _infer(node: Node, signals: Mapping[str, Signal]) -> Signal:
    if node.name in signals or not node.name or "/" in node.name:
        raise ModelError(
            f"layer name {node.name!r} is used twice, reserved, empty or holds '/'; rename it"
        )
    unknown = [name for name in node.inputs if name not in signals]
    if unknown:
        raise ModelError(f"layer {node.name!r}: input {unknown[0]!r} is no earlier layer")
    try:
        if isinstance(node.layer, Embedding) and node.inputs != (INPUT,):
            raise ModelError(f"reads {node.inputs}, expected the input: token ids")
        _check_finite(node.layer)
        return node.layer.infer(*(signals[name] for name in node.inputs))
    except ModelError as error:
        raise ModelError(f"layer {node.name!r} ({type(node.layer).__name__}): {error}") from None


_FINITE: weakref.WeakSet[Layer] = weakref.WeakSet()
"""Layers that have been checked: models that a pass makes of each other share most of theirs."""


def _check_finite(layer: Layer) -> None:
    if layer in _FINITE:
        return
    for name, matrix in layer.matrices().items():
        for leaf in leaves(matrix):
            if not leaf.is_finite():
                raise ModelError(f"{name} holds NaN or infinity; mend the source model")
    for name, vector in layer.vectors().items():
        if vector.dtype != torch.float32:
            raise ModelError(f"{name} is {vector.dtype}, expected torch.float32")
        if not torch.isfinite(vector).all():
            raise ModelError(f"{name} holds NaN or infinity; mend the source model")
    _FINITE.add(layer)

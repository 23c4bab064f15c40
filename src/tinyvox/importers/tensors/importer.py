"""Named tensors and the YAML beside them as a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tinyvox.errors import ImporterError, ModelError
from tinyvox.importers.tensors.archive import Archive, read_tensors
from tinyvox.importers.tensors.schema import CellPart, LayerEntry, Layers
from tinyvox.model import INPUT, Cell, Dense, Layer, Model, Node, Signal, layers
from tinyvox.storage import Place, read_yaml

_GATES = {"lstm": "ifgo", "gru": "rzn", "gru_reset_before": "rzn"}
"""The order of the gates in a cell."""
_ALIASES = str.maketrans({"c": "g", "j": "g", "h": "n", "u": "z"})


def layers_path(path: Path) -> Path:
    """The YAML of a file of tensors: `NAME.layers.yaml` beside it."""
    return path.with_name(path.stem + ".layers.yaml")


def load_tensors(path: Path) -> Model:
    """Import a `.npz` or `.safetensors` file by the `NAME.layers.yaml` beside it.

    Raises ImporterError or ModelError with the file and the layer, FileError where the YAML cannot
    be read.
    """
    beside = layers_path(path)
    if not beside.exists():
        raise ImporterError(
            f"{path}: holds tensors alone; write {beside.name} beside it, which says what layers "
            "they are (docs: Import named tensors)"
        )
    wanted = read_yaml(beside, Layers, ImporterError, _where)
    used = {name for entry in wanted.layers for name in _names(entry.part.model_dump())}
    tensors = read_tensors(path, used)
    nodes: list[Node] = []
    signals = {INPUT: Signal((wanted.input,))}
    for number, entry in enumerate(wanted.layers, start=1):
        place = f"{beside}: layer {number} ({entry.kind})"
        try:
            node = _node(entry, nodes, signals, tensors)
            signals[node.name] = node.layer.infer(*(signals[name] for name in node.inputs))
        except ImporterError as error:
            raise ImporterError(f"{place}: {error}") from error
        except ModelError as error:
            raise ModelError(f"{place}: {error}") from error
        nodes.append(node)
    left = sorted(set(tensors.names) - used)
    notes = [f"tensors that no layer uses: {', '.join(left)}"] if left else []
    try:
        model = Model(wanted.input, tuple(nodes))
    except ModelError as error:
        raise ModelError(f"{beside}: {error}") from error
    facts: dict[str, Any] = {"source": path.name, "import_notes": notes}
    return dataclasses.replace(model, provenance=facts)


def _where(place: Place) -> str:
    parts = [str(part + 1) if isinstance(part, int) else part for part in place]
    if parts[:1] == ["layers"] and len(parts) > 1:
        return f"layer {parts[1]}" + (f", {'.'.join(parts[2:])}" if parts[2:] else "")
    return ".".join(parts)


def _names(value: Any) -> list[str]:
    """All texts in the settings of a layer, which the names of tensors are among."""
    if isinstance(value, dict):
        return [name for each in value.values() for name in _names(each)]
    if isinstance(value, list | tuple):
        return [name for each in value for name in _names(each)]
    return [value] if isinstance(value, str) else []


def _node(
    entry: LayerEntry,
    nodes: list[Node],
    signals: Mapping[str, Signal],
    tensors: Archive,
) -> Node:
    inputs = entry.inputs or ((nodes[-1].name if nodes else INPUT),)
    for name in inputs:
        if name not in signals:
            raise ImporterError(f"input {name!r} is no layer above; there are {', '.join(signals)}")
    name = entry.name or _free(entry.kind, signals)
    if name in signals:
        raise ImporterError(f"the name {name!r} is taken")
    build = _BUILD.get(entry.kind, _cell_layer)
    return Node(name, build(_Build(entry, signals[inputs[0]], tensors)), inputs)


def _free(kind: str, taken: Mapping[str, Signal]) -> str:
    names = [kind, *(f"{kind}_{i}" for i in range(2, len(taken) + 3))]
    return next(name for name in names if name not in taken)


@dataclasses.dataclass(frozen=True)
class _Build:
    """A layer to be built: its entry, its first input, the tensors of the file."""

    entry: LayerEntry
    signal: Signal
    tensors: Archive

    @property
    def part(self) -> Any:
        """The settings."""
        return self.entry.part

    def tensor(self, name: str) -> Tensor:
        """A tensor of the file."""
        return self.tensors.tensor(name)

    def vector(self, name: str | None) -> Tensor | None:
        """A tensor in one dimension."""
        return None if name is None else self.tensor(name).flatten()

    def matrix(self, name: str, transpose: bool = False) -> Dense:
        """A tensor [out, ...] as a matrix [out, rest]."""
        values = self.tensor(name)
        if values.ndim < 2:
            raise ImporterError(f"{name!r} has shape {list(values.shape)}, expected a matrix")
        values = values.T if transpose else values
        return Dense(values.flatten(1).contiguous())


def _cell_layer(b: _Build) -> Layer:
    kind, part = b.entry.kind, b.part
    forward, backward = _cell(b, kind, part), None
    if part.backward is not None:
        backward = _cell(b, kind, part.backward)
    elif part.reverse:
        return layers.Recurrent(
            kind, None, forward, gates=part.gate_activation, activation=part.activation
        )
    return layers.Recurrent(
        kind, forward, backward, gates=part.gate_activation, activation=part.activation
    )


def _cell(b: _Build, kind: str, part: CellPart) -> Cell:
    by_input = b.matrix(part.weight_ih, part.transpose).values
    by_state = b.matrix(part.weight_hh, part.transpose).values
    bias_ih, bias_hh = b.vector(part.bias_ih), b.vector(part.bias_hh)
    given = [v for v in (b.vector(part.bias), bias_ih, bias_hh) if v is not None]
    order = _order(part.gates, kind, len(by_input))
    bias = sum(given[1:], given[0]) if given else None
    bias_hn = None
    if kind == "gru" and bias_hh is not None and bias is not None:
        hidden = len(bias_hh) // 3
        bias_hn = bias_hh[order][-hidden:].clone()
        bias = bias.clone()
        bias[order[-hidden:]] -= bias_hn
    peepholes = None
    if part.peepholes is not None:
        peepholes = torch.cat([b.tensor(name).flatten() for name in part.peepholes])
    return Cell(
        Dense(by_input[order]),
        Dense(by_state[order]),
        None if bias is None else bias[order],
        bias_hn,
        None if part.weight_hr is None else b.matrix(part.weight_hr, part.transpose),
        peepholes,
    )


def _order(gates: str | None, kind: str, rows: int) -> Tensor:
    """The rows of the file in the order of a cell."""
    wanted = _GATES.get(kind, "")
    given = (gates or wanted).lower().translate(_ALIASES)
    if sorted(given) != sorted(wanted):
        raise ImporterError(f"gates are {gates!r}, expected the letters {' '.join(wanted)}")
    if not wanted:
        return torch.arange(rows)
    if rows % len(wanted):
        raise ImporterError(f"{rows} rows do not divide into {len(wanted)} gates")
    hidden = rows // len(wanted)
    return torch.cat([torch.arange(hidden) + given.index(g) * hidden for g in wanted])


def _conv1d(b: _Build) -> Layer:
    part, kernel = b.part, b.tensor(b.part.weight).shape[-1]
    return layers.Conv1d(
        b.matrix(part.weight), b.vector(part.bias), kernel,
        part.stride, part.dilation, part.padding, part.groups,
    )  # fmt: skip


def _conv2d(b: _Build) -> Layer:
    part, shape = b.part, b.tensor(b.part.weight).shape
    kernel = (1, shape[2]) if len(shape) == 3 else (shape[2], shape[3])
    return layers.Conv2d(
        b.matrix(part.weight), b.vector(part.bias), kernel, part.stride, part.padding
    )


def _batch_norm(b: _Build) -> Layer:
    part = b.part
    mean = b.tensor(part.mean).flatten()
    weight, bias = b.vector(part.weight), b.vector(part.bias)
    return layers.BatchNorm(
        mean,
        b.tensor(part.variance).flatten(),
        torch.ones_like(mean) if weight is None else weight,
        torch.zeros_like(mean) if bias is None else bias,
        part.eps,
    )


def _layer_norm(b: _Build) -> Layer:
    part, weight = b.part, b.tensor(b.part.weight).flatten()
    bias = b.vector(part.bias)
    bias = torch.zeros_like(weight) if bias is None else bias
    return layers.LayerNorm(weight, bias, part.eps, part.kind, part.groups)


def _activation(b: _Build) -> Layer:
    slopes = None if b.part.slope is None else torch.tensor([b.part.slope])
    return layers.Activation(b.part.kind, b.part.limit, slopes=slopes)


def _reflect(b: _Build) -> Layer:
    """Mirrored values are a matrix of ones and zeros."""
    size, before, after = b.signal.size, b.part.before, b.part.after
    if max(before, after) >= size:
        raise ImporterError(f"mirrors {max(before, after)} of {size} features")
    row = [*range(before, 0, -1), *range(size), *range(size - 2, size - 2 - after, -1)]
    return layers.Linear(Dense(torch.eye(size)[row]))


_BUILD: dict[str, Callable[[_Build], Layer]] = {
    "linear": lambda b: layers.Linear(
        b.matrix(b.part.weight, b.part.transpose), b.vector(b.part.bias)
    ),
    "embedding": lambda b: layers.Linear(b.matrix(b.part.weight, transpose=True)),
    "conv1d": _conv1d,
    "conv2d": _conv2d,
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "activation": _activation,
    "reflect": _reflect,
    "context_window": lambda b: layers.ContextWindow(b.part.left, b.part.right),
    "frame_stacking": lambda b: layers.FrameStacking(b.part.count, b.part.stride),
    "subsample": lambda b: layers.Subsample(b.part.count),
    "unflatten": lambda b: layers.Unflatten(b.part.count),
    "slice": lambda b: layers.Slice(b.part.start, b.part.stop),
    "reduce": lambda b: layers.Reduce(b.part.kind),
    "flatten": lambda b: layers.Flatten(),
    "add": lambda b: layers.Add(),
    "multiply": lambda b: layers.Multiply(),
    "concat": lambda b: layers.Concat(),
    "softmax": lambda b: layers.Softmax(),
    "log_softmax": lambda b: layers.LogSoftmax(),
}
"""What builds each kind of layer; all others are cells."""

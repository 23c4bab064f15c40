"""Recurrent Keras layers: their cells, both directions, what they return."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tinyvox.errors import ImporterError
from tinyvox.importers.keras.activations import function_name
from tinyvox.importers.keras.call import Call, Outputs, affine
from tinyvox.importers.keras.keras1 import OLD_GATES
from tinyvox.importers.keras.settings import Settings
from tinyvox.importers.keras.stored import Weights
from tinyvox.importers.layer_graph import ColumnOrder
from tinyvox.importers.reduction import reduced
from tinyvox.importers.signal import Axis, Stream
from tinyvox.model import Add, Cell, Concat, Dense, Multiply, Recurrent

_GATES = {"lstm": 4, "gru": 3, "gru_reset_before": 3, "rnn": 1}
_ORDER = {"lstm": (0, 1, 2, 3), "gru": (1, 0, 2), "gru_reset_before": (1, 0, 2), "rnn": (0,)}
"""Where a tinyvox cell finds its gates among Keras' i f c o, and z r h."""
_ACTIVATIONS = {"tanh": "tanh", "relu": "relu", "sigmoid": "sigmoid", "linear": "identity"}


@dataclass(frozen=True)
class Form:
    """What a cell computes, apart from its weights."""

    kind: str
    units: int
    biased: bool
    activation: str
    gates: str = "sigmoid"
    cudnn: bool = False

    @property
    def rows(self) -> int:
        """Rows of the weight matrices: those of all gates."""
        return _GATES[self.kind] * self.units

    def layer(self, forward: Cell | None, backward: Cell | None) -> Recurrent:
        """The layer with these cells."""
        settings: dict[str, Any] = {}
        kind, activation = self.kind, self.activation
        if kind == "rnn":
            kind = "rnn_relu" if activation == "relu" else "rnn_tanh"
            activation = "tanh" if activation == "relu" else activation
        if activation != "tanh":
            settings["activation"] = activation
        if self.gates != "sigmoid":
            settings["gates"] = self.gates
        return Recurrent(kind, forward, backward, **settings)


def form(kind: str, config: Settings, legacy: bool) -> Form:
    """The form of a layer or cell of this class. Raises ImporterError for other classes."""
    units, biased = config.count("units"), config.flag("use_bias", True)
    if kind in ("CuDNNLSTM", "CuDNNGRU"):
        return Form("lstm" if kind == "CuDNNLSTM" else "gru", units, True, "tanh", cudnn=True)
    activation = _activation(config)
    if kind in ("SimpleRNN", "SimpleRNNCell"):
        return Form("rnn", units, biased, activation)
    gates = _gates(config, legacy)
    if kind in ("LSTM", "LSTMCell"):
        return Form("lstm", units, biased, activation, gates)
    if kind in ("GRU", "GRUCell"):
        after = config.flag("reset_after", not legacy)  # older files do not say
        return Form("gru" if after else "gru_reset_before", units, biased, activation, gates)
    raise ImporterError(f"the recurrent cell {kind} is not supported; expected LSTM, GRU or RNN")


def _activation(config: Settings) -> str:
    name = function_name(config.values.get("activation", "tanh"))
    if name not in _ACTIVATIONS:
        raise ImporterError(
            f"the activation of its cells is {name!r}, expected one of {', '.join(_ACTIVATIONS)}"
        )
    return _ACTIVATIONS[name]


def _gates(config: Settings, legacy: bool) -> str:
    default = "hard_sigmoid" if legacy else "sigmoid"
    name = function_name(config.values.get("recurrent_activation", default))
    if name == "hard_sigmoid":
        return "hard_sigmoid_keras" if legacy else "hardsigmoid"
    if name != "sigmoid":
        raise ImporterError(f"its gates are {name!r}, expected sigmoid or hard_sigmoid")
    return "sigmoid"


def _cell(call: Call, form: Form, weights: Weights, inputs: int, order: ColumnOrder) -> Cell:
    """A cell from Keras' kernel [in, gates * units], recurrent kernel, and bias."""
    call = dataclasses.replace(call, weights=weights)
    if call.importing.version == 1:
        kernel, inner, bias, bias_hn = _old_gates(call, form, inputs)
    else:
        kernel = _gated(form, call.take("kernel", inputs, form.rows))
        inner = _gated(form, call.take("recurrent kernel", form.units, form.rows))
        bias, bias_hn = _biases(call, form)
    if form.cudnn:
        # cuDNN's matrices are [out, in] already, whatever the shape of the array says.
        kernel = [gate.reshape(form.units, inputs) for gate in kernel]
    else:
        kernel, inner = [gate.T for gate in kernel], [gate.T for gate in inner]
    ih = torch.cat(kernel)
    ih = ih if order is None else ih[:, list(order)]
    return Cell(Dense(ih.contiguous()), Dense(torch.cat(inner).contiguous()), bias, bias_hn)


def _old_gates(
    call: Call, form: Form, inputs: int
) -> tuple[list[Tensor], list[Tensor], Tensor | None, Tensor | None]:
    """The arrays of Keras 1, which has three for each gate."""
    shapes = ((inputs, form.units), (form.units, form.units), (form.units,))
    what = ("W", "U", "b")
    gates = [
        [call.take(name, *shape) for name, shape in zip(what, shapes, strict=True)]
        for _ in OLD_GATES[form.kind]
    ]
    kernel, inner, bias = zip(*(gates[i] for i in OLD_GATES[form.kind]), strict=True)
    return list(kernel), list(inner), torch.cat(bias), None


def _gated(form: Form, weight: Tensor) -> list[Tensor]:
    """The parts of an array for each gate, in the order of a tinyvox cell."""
    parts = torch.split(weight, form.units, dim=-1)
    return [parts[i] for i in _ORDER[form.kind]]


def _biases(call: Call, form: Form) -> tuple[Tensor | None, Tensor | None]:
    """The bias of a cell, and that which the reset gate of a GRU multiplies, where it has them."""
    if not form.biased:
        return None, None
    if not form.cudnn and form.kind != "gru":
        return torch.cat(_gated(form, call.take("bias", form.rows))), None
    shape = (2 * form.rows,) if form.cudnn else (2, form.rows)
    outer, inner = (_gated(form, each) for each in call.take("bias", *shape).view(2, form.rows))
    if form.kind == "lstm":
        return torch.cat(outer) + torch.cat(inner), None
    return torch.cat([outer[0] + inner[0], outer[1] + inner[1], outer[2]]), inner[2].contiguous()


@dataclass(frozen=True)
class Chain:
    """The cells of one direction, one on top of the other, and where their weights lie."""

    forms: list[Form]
    weights: list[Weights]
    returns_sequences: bool
    returns_state: bool
    backwards: bool

    @classmethod
    def of(cls, call: Call) -> Chain:
        """The cells of a recurrent layer."""
        config, legacy = call.config, call.legacy
        flags = [config.flag(k) for k in ("return_sequences", "return_state", "go_backwards")]
        if config.flag("stateful"):
            call.note("stateful: each utterance starts from the zero state")
        if call.kind != "RNN":
            weights = call.weights if call.kind.startswith("CuDNN") else call.weights.part("cell")
            return cls([form(call.kind, config, legacy)], [weights], *flags)
        cell, weights = config.part("cell"), call.weights.part("cell")
        kinds = [cell]
        if cell.text("class_name") == "StackedRNNCells":
            kinds = cell.part("config").parts("cells")
            names = [(k.part("config").text("name", "cell"), k.text("class_name")) for k in kinds]
            found = weights.parts(names, "cells")
        else:
            found = [weights]
        if not kinds or cell.part("config").flag("reverse_state_order"):
            raise ImporterError("has no cells, or reversed states; expected one cell or more")
        forms = [form(k.text("class_name"), k.part("config"), legacy) for k in kinds]
        return cls(forms, found, *flags)

    def cells(self, call: Call, inputs: int, order: ColumnOrder, side: str) -> list[Cell]:
        """The cells with their weights, which are read once."""

        def read() -> list[Cell]:
            sizes = [inputs, *(form.units for form in self.forms)]
            orders = [order, *(None for _ in self.forms)]
            parts = zip(self.forms, self.weights, sizes, orders, strict=False)
            return [_cell(call, *part) for part in parts]

        found: list[Cell] = call.once(read, side, order)
        return found


def recurrent(call: Call) -> Outputs:
    """A recurrent layer in one direction: LSTM, GRU, SimpleRNN, RNN."""
    chain = Chain.of(call)
    stream, node, order = _input(call)
    cells = chain.cells(call, call.graph.signals[node].size, order, "cells")
    backwards = chain.backwards != stream.backwards
    node = _stacked(call, chain, cells, node, backwards)
    return _returned(call, chain, _over_time(stream, node, chain, backwards))


def _input(call: Call) -> tuple[Stream, str, ColumnOrder]:
    """The input, its flat node, and the order of the columns of a weight."""
    stream = call.stream.unpadded()
    if len(stream.axes) != 3 or not stream.is_time(1) or call.config.flag("time_major"):
        raise ImporterError(f"runs along dimension 1 of {stream}, expected [batch, time, features]")
    return stream, *call.graph.flat(stream, -1)


def _stacked(call: Call, chain: Chain, cells: list[Cell], node: str, backwards: bool) -> str:
    """The node of the topmost of several cells."""
    call.place()
    for form, cell in zip(chain.forms, cells, strict=True):
        sides = (None, cell) if backwards else (cell, None)
        layer = call.once(functools.partial(form.layer, *sides), id(cell), backwards)
        node = call.graph.add(layer, node)
    return node


def _over_time(stream: Stream, node: str, chain: Chain, backwards: bool) -> Stream:
    """The outputs of all frames, in the order in which the cells gave them."""
    axes = stream.with_axis(-1, Axis("feature", chain.forms[-1].units))
    return dataclasses.replace(stream.becomes(node, axes), backwards=backwards)


def _returned(call: Call, chain: Chain, stream: Stream) -> Outputs:
    """What a layer returns: all outputs or the last one, then its states if asked for."""
    last = _last(call, stream) if chain.returns_state or not chain.returns_sequences else None
    outputs: Outputs = [stream if chain.returns_sequences else last]
    if chain.returns_state:
        # The states of a stack that lie below the top are not kept, nor is that of an LSTM's cell.
        states: Outputs = [None] * sum(2 if form.kind == "lstm" else 1 for form in chain.forms)
        states[0] = last if len(chain.forms) == 1 else None
        outputs += states
    return outputs


def _last(call: Call, stream: Stream) -> Stream:
    """The last output: that of the first frame, where the cells run backwards."""
    call.place("last")
    return reduced(call.graph, stream, "last", (1,), False)


def bidirectional(call: Call) -> Outputs:
    """`Bidirectional(layer, merge_mode, backward_layer)`."""
    config = call.config
    key = "backward_layer" if "backward_layer" in config else "layer"
    ahead = Chain.of(call.inner(config.part("layer"), call.weights.part("forward_layer")))
    back = Chain.of(call.inner(config.part(key), call.weights.part("backward_layer")))
    stream, node, order = _input(call)
    if ahead.backwards or stream.backwards or (key != "layer" and not back.backwards):
        raise ImporterError("runs over reversed frames; run it over the frames in their order")
    size = call.graph.signals[node].size
    cells = [
        chain.cells(call, size, order, side)
        for chain, side in ((ahead, "forward"), (back, "backward"))
    ]
    mode = config.values.get("merge_mode", "concat")
    one_layer = (
        len(cells[0]) == len(cells[1]) == 1
        and ahead.forms[0].layer(None, None).settings()
        == back.forms[0].layer(None, None).settings()
    )
    if mode == "concat" and one_layer and ahead.returns_sequences and not ahead.returns_state:
        return [_both(call, ahead.forms[0], cells[0][0], cells[1][0], stream, node)]
    sides = []
    for chain, mine, backwards in ((ahead, cells[0], False), (back, cells[1], True)):
        top = _stacked(call, chain, mine, node, backwards)
        sides.append(_returned(call, chain, _over_time(stream, top, chain, backwards)))
    outputs = [dataclasses.replace(s, backwards=False) for (s, *_) in sides if s is not None]
    states = [state for side in sides for state in side[1:]]
    if mode is None:
        return [*outputs, *states]
    return [_merged(call, mode, *outputs), *states]


def _both(call: Call, form: Form, ahead: Cell, back: Cell, stream: Stream, node: str) -> Stream:
    """Both directions in one layer, one after the other in each frame."""
    call.place()
    layer = call.once(lambda: form.layer(ahead, back), "both", id(ahead))
    axes = stream.with_axis(-1, Axis("feature", ahead.size + back.size))
    return stream.becomes(call.graph.add(layer, node), axes)


def _merged(call: Call, mode: object, ahead: Stream, back: Stream) -> Stream:
    """The outputs of both directions as one."""
    layers = {"concat": Concat(), "sum": Add(), "ave": Add(), "mul": Multiply()}
    if not isinstance(mode, str) or mode not in layers:
        raise ImporterError(f"merge_mode is {mode!r}, expected one of {', '.join(layers)}")
    call.place(mode)
    node = call.graph.add(layers[mode], ahead.node, back.node)
    size = call.graph.signals[node].size
    if mode == "ave":
        node = call.graph.add(affine(size, 0.5, 0.0), node)
    return ahead.becomes(node, ahead.with_axis(-1, Axis("feature", size)))


RECURRENT_LAYERS: dict[str, Callable[[Call], Outputs]] = {
    **dict.fromkeys(("LSTM", "GRU", "SimpleRNN", "RNN", "CuDNNLSTM", "CuDNNGRU"), recurrent),
    "Bidirectional": bidirectional,
}
"""The handler of every recurrent layer, by its class."""

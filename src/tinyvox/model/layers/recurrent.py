"""Recurrent layers: LSTM, GRU and plain RNN cells, in one direction or both, and recurrences
value by value."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from tinyvox.errors import ModelError
from tinyvox.model.layers.base import Layer, Signal, Tensors, expect, flat_size
from tinyvox.model.matrix import Matrix

GATES = {
    "lstm": 4,
    "gru": 3,
    "rnn_tanh": 1,
    "rnn_relu": 1,
    "gru_reset_before": 3,
    "li_gru": 2,
}
"""Gates of each kind of cell. `gru_reset_before` is the GRU of Cho et al., "Learning phrase
representations using RNN encoder-decoder", 2014: its reset gate multiplies the hidden state before
the recurrent matrix does, not the product of both as in `gru`. `li_gru` is a GRU without a reset
gate: Ravanelli et al., "Light gated recurrent units for speech recognition", 2018."""

GATE_FUNCTIONS = ("sigmoid", "hardsigmoid", "hard_sigmoid_keras")
"""The functions of gates: hardsigmoid is `min(max(x / 6 + 0.5, 0), 1)`, and hard_sigmoid_keras
`min(max(0.2 x + 0.5, 0), 1)`, that of Keras 2 and of ONNX."""

PEEPHOLES = 3
"""Gates that see the state of the cell: i, f and o."""

CELL_ACTIVATIONS = ("tanh", "relu", "sigmoid", "identity")
"""The functions that may take the place of a cell's tanh."""

_GATED = ("lstm", "gru", "gru_reset_before", "li_gru")


@dataclass(frozen=True, eq=False)
class Cell(Tensors):
    """One direction of a recurrent layer.

    weight_ih [gates * hidden, in], weight_hh [gates * hidden, size], bias [gates * hidden] (the
    input bias plus the hidden bias). Gates are in PyTorch's order: i f g o (LSTM), r z n (GRU), z n
    (light GRU). The new gate of a GRU keeps its hidden bias apart, in bias_hn [hidden], because the
    reset gate multiplies it.

    An LSTM may project the output of its units: its hidden state is then weight_hr [size, hidden]
    times that output. Source: Sak et al., "Long short-term memory recurrent neural network
    architectures for large scale acoustic modeling", 2014, section 2.

    Its gates may see the state of the cell itself, each unit its own: peepholes [3 * hidden], in
    the order i f o, are added times that state, i and f before the step, o after it. Source: Gers
    and Schmidhuber, "Recurrent nets that time and count", 2000.

    Without weight_ih the frames of the input are what that matrix would give, [gates * hidden].

    With norm_hh [gates * hidden] the product of weight_hh and the hidden state, plus bias_hh [gates
    * hidden], is scaled to mean 0 and variance 1, then multiplied by norm_hh. With norm_cell [2 *
    hidden] the state of an LSTM's cell is scaled so too, multiplied by the first half, and the
    second half is added. Source: Ba et al., "Layer normalization", 2016, supplement.
    """

    weight_ih: Matrix | None
    weight_hh: Matrix
    bias: Tensor | None = None
    bias_hn: Tensor | None = None
    weight_hr: Matrix | None = None
    peepholes: Tensor | None = None
    norm_hh: Tensor | None = None
    bias_hh: Tensor | None = None
    norm_cell: Tensor | None = None

    @property
    def hidden(self) -> int:
        """The number of units."""
        return (self.weight_hh if self.weight_hr is None else self.weight_hr).shape[1]

    @property
    def size(self) -> int:
        """The size of the hidden state, which is the output of the cell."""
        return self.weight_hh.shape[1]


def is_projection(name: str) -> bool:
    """Whether the matrix of this full name is the projection of a cell.

    A projection comes after the nonlinearity of the units and has no bias.
    """
    return name.endswith(".weight_hr")


@dataclass(frozen=True, eq=False)
class Recurrent(Layer):
    """One recurrent layer: a cell that runs forward in time, one that runs backward, or both.

    The output is the hidden state, [size], forward before backward. A stack of layers is a chain
    of these. `kind` is a key of GATES. States start at zero.

    `gates`, of GATE_FUNCTIONS, is the function of all gates of an LSTM or a GRU. `activation`, of
    CELL_ACTIVATIONS, takes the place of tanh: in an LSTM of both, that of the candidate and that of
    the cell state, in a GRU of that of the candidate. It is None where the kind says it all: tanh
    becomes None, and an `rnn_tanh` with a relu becomes an `rnn_relu`.

    `eps` is added to variances where cells normalize. `carries_norm` says whether the next step of
    an LSTM sees the normalized state of the cell, or that before.
    """

    kind: str
    forward: Cell | None = None
    backward: Cell | None = None
    gates: str = "sigmoid"
    activation: str | None = None
    carries_norm: bool = True
    eps: float = 1e-5

    def __post_init__(self) -> None:
        if self.kind == "rnn_tanh" and self.activation == "relu":
            object.__setattr__(self, "kind", "rnn_relu")
            object.__setattr__(self, "activation", None)
        elif self.kind != "rnn_relu" and self.activation == "tanh":
            object.__setattr__(self, "activation", None)

    def cells(self) -> dict[str, Cell]:
        """The cells that exist, by field name, in the order of the output."""
        both = {"forward": self.forward, "backward": self.backward}
        return {name: cell for name, cell in both.items() if cell is not None}

    def resets_before(self) -> bool:
        """Whether the rows of weight_hh have different inputs: those of the new gate the hidden
        state times the reset gate, the others the hidden state itself."""
        return self.kind == "gru_reset_before"

    def _infer(self, *inputs: Signal) -> Signal:
        if self.kind not in GATES:
            raise ModelError(f"kind is {self.kind!r}, expected one of {', '.join(GATES)}")
        self._check_functions()
        if not self.cells():
            raise ModelError("has no cell, expected one forward, one backward, or both")
        for cell in self.cells().values():
            self._check(cell, flat_size(inputs[0]))
        return Signal((sum(c.size for c in self.cells().values()),), inputs[0].stride)

    def _check_functions(self) -> None:
        if self.gates not in (GATE_FUNCTIONS if self.kind in _GATED else GATE_FUNCTIONS[:1]):
            raise ModelError(
                f"gates of {self.kind} are {self.gates!r}, expected one of "
                f"{', '.join(GATE_FUNCTIONS)}; only an LSTM or a GRU has others than the first"
            )
        if self.activation not in (None, *(CELL_ACTIVATIONS if self.kind != "rnn_relu" else ())):
            raise ModelError(
                f"activation of {self.kind} is {self.activation!r}, expected None or one of "
                f"{', '.join(CELL_ACTIVATIONS)}; an rnn_relu takes none"
            )

    def _check(self, cell: Cell, inputs: int) -> None:
        rows = GATES[self.kind] * cell.hidden
        if cell.weight_ih is None:
            expect("input size of a cell without weight_ih", inputs, rows)
        else:
            expect("weight_ih shape", cell.weight_ih.shape, (rows, inputs))
        expect("weight_hh shape", cell.weight_hh.shape, (rows, cell.size))
        if cell.weight_hr is not None:
            expect("kind of a cell with weight_hr", self.kind, "lstm")
            expect("weight_hr shape", cell.weight_hr.shape, (cell.size, cell.hidden))
        if cell.bias is not None:
            expect("bias shape", tuple(cell.bias.shape), (rows,))
        if cell.bias_hn is not None:
            expect("kind of a cell with bias_hn", self.kind, "gru")
            expect("bias_hn shape", tuple(cell.bias_hn.shape), (cell.hidden,))
        if cell.peepholes is not None:
            expect("kind of a cell with peepholes", self.kind, "lstm")
            expect("peepholes shape", tuple(cell.peepholes.shape), (PEEPHOLES * cell.hidden,))
        self._check_norms(cell, rows)

    def _check_norms(self, cell: Cell, rows: int) -> None:
        if cell.norm_hh is not None:
            expect("norm_hh shape", tuple(cell.norm_hh.shape), (rows,))
            if self.resets_before():
                raise ModelError("a GRU that resets before has no norm_hh")
            expect("whether a cell with norm_hh has bias_hn", cell.bias_hn is not None, False)
        if cell.bias_hh is not None:
            expect("bias_hh shape", tuple(cell.bias_hh.shape), (rows,))
            expect("whether a cell with bias_hh has norm_hh", cell.norm_hh is not None, True)
        if cell.norm_cell is not None:
            expect("kind of a cell with norm_cell", self.kind, "lstm")
            expect("norm_cell shape", tuple(cell.norm_cell.shape), (2 * cell.hidden,))
        if not 0 <= self.eps < math.inf:
            raise ModelError(f"eps is {self.eps}, expected 0 or more")


@dataclass(frozen=True, eq=False)
class ElementwiseRecurrence(Layer):
    """A recurrence of each value by itself, from two signals f and u: `c = f * c + u`.

    With `weight` [size] the gate is computed here, from its sum and the state before: `f =
    sigmoid(f + weight * c)`, then `c = f * c + (1 - f) * u`. The output is c; it starts at zero.
    With `reverse` it runs from the last frame to the first.

    It serves quasi-recurrent networks (Bradbury et al. 2017), simple recurrent units (Lei et al.
    2018), whose second form has `weight`, minimal GRUs (Feng et al. 2024), and moving averages: the
    products of inputs, the output gate and the highway around are layers of their own.
    """

    arity: ClassVar[int | None] = None

    weight: Tensor | None = None
    reverse: bool = False

    def _infer(self, *inputs: Signal) -> Signal:
        expect("number of inputs", len(inputs), 2)
        expect("size of the second input", flat_size(inputs[1]), flat_size(inputs[0]))
        expect("stride of the second input", inputs[1].stride, inputs[0].stride)
        if self.weight is not None:
            expect("weight shape", tuple(self.weight.shape), inputs[0].shape)
        return inputs[0]

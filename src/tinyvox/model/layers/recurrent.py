"""Recurrent layers: LSTM, GRU and plain RNN cells, in one direction or both."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from tinyvox.errors import ModelError
from tinyvox.model.layers.base import Layer, Signal, Tensors, expect, flat_size
from tinyvox.model.matrix import Matrix

GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
"""Gates of each kind of cell."""


@dataclass(frozen=True, eq=False)
class Cell(Tensors):
    """One direction of a recurrent layer.

    weight_ih [gates * hidden, in], weight_hh [gates * hidden, size], bias [gates * hidden] (the
    input bias plus the hidden bias). Gates are in PyTorch's order: i f g o (LSTM), r z n (GRU). The
    new gate of a GRU keeps its hidden bias apart, in bias_hn [hidden], because the reset gate
    multiplies it.

    An LSTM may project the output of its units: its hidden state is then weight_hr [size, hidden]
    times that output. Source: Sak et al., "Long short-term memory recurrent neural network
    architectures for large scale acoustic modeling", 2014, section 2.
    """

    weight_ih: Matrix
    weight_hh: Matrix
    bias: Tensor | None = None
    bias_hn: Tensor | None = None
    weight_hr: Matrix | None = None

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
    """

    kind: str
    forward: Cell | None = None
    backward: Cell | None = None

    def cells(self) -> dict[str, Cell]:
        """The cells that exist, by field name, in the order of the output."""
        both = {"forward": self.forward, "backward": self.backward}
        return {name: cell for name, cell in both.items() if cell is not None}

    def _infer(self, *inputs: Signal) -> Signal:
        if self.kind not in GATES:
            raise ModelError(f"kind is {self.kind!r}, expected one of {', '.join(GATES)}")
        if not self.cells():
            raise ModelError("has no cell, expected one forward, one backward, or both")
        for cell in self.cells().values():
            self._check(cell, flat_size(inputs[0]))
        return Signal((sum(c.size for c in self.cells().values()),), inputs[0].stride)

    def _check(self, cell: Cell, inputs: int) -> None:
        rows = GATES[self.kind] * cell.hidden
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

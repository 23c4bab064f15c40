"""Cells that a program runs in a loop become recurrent layers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch_modules import FEATURES, assert_same

from tinyvox.importers.torch import from_torch
from tinyvox.model import Model, Recurrent

HIDDEN, FRAMES = 6, 5


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)


class Loop(nn.Module):
    """A cell over all frames, one after the other; `step` takes a frame and states, and gives an
    output and states."""

    def __init__(self, step: nn.Module, states: tuple[int, ...], backwards: bool = False) -> None:
        super().__init__()
        self.step, self.states, self.backwards = step, states, backwards

    def forward(self, x: Tensor) -> Tensor:
        states = tuple(x.new_zeros(x.shape[0], size) for size in self.states)
        outputs = []
        for frame in x.flip(1).unbind(1) if self.backwards else x.unbind(1):
            output, states = self.step(frame, states)
            outputs.append(output)
        return torch.stack(outputs[::-1] if self.backwards else outputs, dim=1)


class Lstm(nn.Module):
    def __init__(self, size: int = FEATURES) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(size, HIDDEN)

    def forward(self, x: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        h, c = self.cell(x, (states[0], states[1]))
        return h, (h, c)


class Gru(nn.Module):
    def __init__(self, size: int = FEATURES) -> None:
        super().__init__()
        self.cell = nn.GRUCell(size, HIDDEN)

    def forward(self, x: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        h = self.cell(x, states[0])
        return h, (h,)


class Plain(nn.Module):
    def __init__(self, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(FEATURES, HIDDEN), nn.Linear(HIDDEN, HIDDEN, bias=False)
        self.activation = activation

    def forward(self, x: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        h = self.activation(self.inner(x) + self.outer(states[0]))
        return h, (h,)


class JoinedLstm(nn.Module):
    """One matrix over the frame and the state beside each other, as TensorFlow has it."""

    def __init__(
        self, forget_bias: float = 0.0, projected: int = 0, peepholes: bool = False
    ) -> None:
        super().__init__()
        self.gates = nn.Linear(FEATURES + (projected or HIDDEN), 4 * HIDDEN)
        self.forget_bias = forget_bias
        self.projection = nn.Linear(HIDDEN, projected, bias=False) if projected else None
        self.peepholes = nn.Parameter(torch.randn(3, HIDDEN)) if peepholes else None

    def forward(self, x: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        h, c = states
        i, g, f, o = self.gates(torch.cat([x, h], 1)).chunk(4, 1)
        f = f + self.forget_bias
        if self.peepholes is not None:
            i, f = i + self.peepholes[0] * c, f + self.peepholes[1] * c
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        if self.peepholes is not None:
            o = o + self.peepholes[2] * c
        h = torch.sigmoid(o) * torch.tanh(c)
        h = h if self.projection is None else self.projection(h)
        return h, (h, c)


class JoinedGru(nn.Module):
    """The reset gate multiplies the state; `form` is how the states are mixed."""

    def __init__(self, form: str, after: bool = False) -> None:
        super().__init__()
        self.gates = nn.Linear(FEATURES + HIDDEN, 2 * HIDDEN)
        self.by_input, self.by_state = nn.Linear(FEATURES, HIDDEN), nn.Linear(HIDDEN, HIDDEN)
        self.form, self.after = form, after

    def forward(self, x: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        (h,) = states
        r, u = torch.sigmoid(self.gates(torch.cat([x, h], 1))).chunk(2, 1)
        seen = r * self.by_state(h) if self.after else self.by_state(r * h)
        n = torch.tanh(self.by_input(x) + seen)
        h = {
            "keep": lambda: u * h + (1 - u) * n,
            "renew": lambda: (1 - u) * h + u * n,
            "sum": lambda: (1.0 - u) * n + u * h,
            "lerp": lambda: n + u * (h - n),
        }[self.form]()
        return h, (h,)


def layers_of(model: Model) -> list[Recurrent]:
    return [node.layer for node in model.nodes if isinstance(node.layer, Recurrent)]


def imported(module: nn.Module) -> Model:
    model = from_torch(module.eval(), torch.randn(1, FRAMES, FEATURES))
    assert_same(model, module, FRAMES, 3 * FRAMES)
    return model


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize(
    ("step", "states", "kind"),
    [
        (Lstm(), 2, "lstm"),
        (Gru(), 1, "gru"),
        (Plain(torch.tanh), 1, "rnn_tanh"),
        (Plain(torch.relu), 1, "rnn_relu"),
        (JoinedLstm(), 2, "lstm"),
        (JoinedLstm(forget_bias=1.0), 2, "lstm"),
        (JoinedLstm(peepholes=True), 2, "lstm"),
        *((JoinedGru(f), 1, "gru_reset_before") for f in ("keep", "renew", "sum", "lerp")),
        *((JoinedGru(f, after=True), 1, "gru") for f in ("keep", "renew", "sum", "lerp")),
    ],
)
def test_a_cell_in_a_loop_is_one_layer(
    step: nn.Module, states: int, kind: str, backwards: bool
) -> None:
    (layer,) = layers_of(imported(Loop(step, (HIDDEN,) * states, backwards)))
    assert layer.kind == kind
    assert (layer.forward is None) == backwards


@pytest.mark.parametrize("peepholes", [False, True])
def test_projections_and_peepholes_come_with_the_cell(peepholes: bool) -> None:
    step = JoinedLstm(1.0, projected=4, peepholes=peepholes)
    (layer,) = layers_of(imported(Loop(step, (4, HIDDEN))))
    cell = layer.cells()["forward"]
    assert (cell.size, cell.hidden) == (4, HIDDEN)
    assert (cell.peepholes is not None) == peepholes


def test_loops_after_each_other_are_two_layers() -> None:
    first, second = Loop(Lstm(), (HIDDEN,) * 2), Loop(Gru(HIDDEN), (HIDDEN,))
    model = imported(nn.Sequential(first, second, nn.Linear(HIDDEN, 3)))
    assert [layer.kind for layer in layers_of(model)] == ["lstm", "gru"]


def test_two_cells_in_one_loop_are_two_layers() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = Lstm(), Lstm(HIDDEN)

        def forward(
            self, x: Tensor, states: tuple[Tensor, ...]
        ) -> tuple[Tensor, tuple[Tensor, ...]]:
            h, one = self.one(x, states[:2])
            h, two = self.two(torch.relu(h), states[2:])
            return h, (*one, *two)

    assert len(layers_of(imported(Loop(Both(), (HIDDEN,) * 4)))) == 2


def test_the_last_output_of_a_loop_is_the_last_frame() -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.loop, self.head = Loop(Gru(), (HIDDEN,)), nn.Linear(HIDDEN, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.loop(x)[:, -1:])

    model = imported(Last())
    assert [type(node.layer).__name__ for node in model.nodes] == ["Recurrent", "Reduce", "Linear"]


def test_a_loop_over_a_batch_is_a_layer_too() -> None:
    module = Loop(Lstm(), (HIDDEN,) * 2)
    model = from_torch(module.eval(), torch.randn(2, FRAMES, FEATURES))
    assert [layer.kind for layer in layers_of(model)] == ["lstm"]

"""Recurrent modules that run their cells in loops, as published code does."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def parts(x: Tensor, count: int) -> list[Tensor]:
    """As many parts of the features."""
    size = x.shape[-1] // count
    return [x[..., i * size : (i + 1) * size] for i in range(count)]


class UnbindLoop(nn.Module):
    """Over `x.unbind(1)`, from the zeros of the cell itself."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell, self.out = cell, nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        state, outputs = None, []
        for frame in x.unbind(1):
            state = self.cell(frame, state)
            outputs.append(state[0] if isinstance(state, tuple) else state)
        return self.out(torch.stack(outputs, dim=1))


class RangeLoop(nn.Module):
    """Over `range(x.size(1))`, several layers in one loop, zeros made by hand, joined by cat."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.LSTMCell(6, 8), nn.LSTMCell(8, 8)
        self.out = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        h1 = c1 = h2 = c2 = x.new_zeros(x.size(0), 8)
        outputs = []
        for t in range(x.size(1)):
            h1, c1 = self.one(x[:, t], (h1, c1))
            h2, c2 = self.two(h1, (h2, c2))
            outputs.append(self.out(h2).unsqueeze(1))
        return torch.cat(outputs, 1)


class TimeFirst(nn.Module):
    """Frames first, a list of cells, states in lists."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.ModuleList([nn.GRUCell(6, 8), nn.GRUCell(8, 8)])

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(0, 1)
        states = [torch.zeros(x.size(1), 8) for _ in self.cells]
        outputs = []
        for i in range(x.size(0)):
            frame = x[i]
            for j, cell in enumerate(self.cells):
                states[j] = frame = cell(frame, states[j])
            outputs.append(frame)
        return torch.stack(outputs).transpose(0, 1)


class Learned(nn.Module):
    """From a learned state."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.first = nn.GRUCell(6, 8), nn.Parameter(torch.randn(1, 8))

    def forward(self, x: Tensor) -> Tensor:
        state, outputs = self.first.expand(x.size(0), -1), []
        for frame in x.unbind(1):
            state = self.cell(frame, state)
            outputs.append(state)
        return torch.stack(outputs, 1)


class Written(nn.Module):
    """An LSTM written by hand, with one matrix for input and state."""

    def __init__(self) -> None:
        super().__init__()
        self.gates, self.out = nn.Linear(6 + 8, 32), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        h, c = torch.zeros(x.size(0), 8), torch.zeros(x.size(0), 8)
        outputs = []
        for t in range(x.size(1)):
            i, f, o, g = self.gates(torch.cat([x[:, t, :], h], 1)).chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            outputs.append(h)
        return self.out(torch.stack(outputs, 1))


class Before(nn.Module):
    """A GRU whose products of the input are computed for all frames before the loop."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.u = nn.Linear(6, 24), nn.Linear(8, 24)

    def forward(self, x: Tensor) -> Tensor:
        h, outputs = x.new_zeros(x.size(0), 8), []
        for wx in self.w(x).unbind(1):
            r, z, n = wx.chunk(3, 1)
            ur, uz, un = self.u(h).chunk(3, 1)
            r, z = torch.sigmoid(r + ur), torch.sigmoid(z + uz)
            h = (1 - z) * torch.tanh(n + r * un) + z * h
            outputs.append(h)
        return torch.stack(outputs, 1)


class Filled(nn.Module):
    """Outputs are written into a tensor of zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(6, 8)

    def forward(self, x: Tensor) -> Tensor:
        h = c = torch.zeros(x.size(0), 8)
        outputs = torch.zeros(x.size(0), x.size(1), 8)
        for t in range(x.size(1)):
            h, c = self.cell(x[:, t], (h, c))
            outputs[:, t] = h
        return outputs


class Forced(nn.Module):
    """A decoder that is forced to the right tokens, without attention."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.cell, self.out = nn.Embedding(12, 6), nn.LSTMCell(6, 8), nn.Linear(8, 12)

    def forward(self, tokens: Tensor) -> Tensor:
        h = c = torch.zeros(tokens.size(0), 8)
        scores = []
        for t in range(tokens.size(1)):
            h, c = self.cell(self.table(tokens[:, t]), (h, c))
            scores.append(self.out(h))
        return torch.stack(scores, 1).log_softmax(-1)


class LayerNormLSTM(nn.Module):
    """Norms of both products and of the state, as in torch's examples of cells of one's own."""

    def __init__(self, *, carries: bool = True, bias: bool = False) -> None:
        super().__init__()
        self.w, self.u = nn.Linear(6, 32, bias=bias), nn.Linear(8, 32, bias=bias)
        self.of_input, self.of_state = nn.LayerNorm(32), nn.LayerNorm(32)
        self.of_cell, self.carries = nn.LayerNorm(8), carries
        for norm in (self.of_input, self.of_state, self.of_cell):
            nn.init.normal_(norm.weight, 1, 0.3)
            nn.init.normal_(norm.bias, 0, 0.3)

    def forward(self, x: Tensor) -> Tensor:
        h = c = torch.zeros(x.size(0), 8)
        outputs = []
        for frame in x.unbind(1):
            gates = self.of_input(self.w(frame)) + self.of_state(self.u(h))
            i, f, g, o = gates.chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            normal = self.of_cell(c)
            c = normal if self.carries else c
            h = torch.sigmoid(o) * torch.tanh(normal)
            outputs.append(h)
        return torch.stack(outputs, 1)


class LiGRU(nn.Module):
    """Batch norm of the products of the input, which are computed before the loop; relu."""

    def __init__(self, *, norm: bool = True) -> None:
        super().__init__()
        self.w, self.u = nn.Linear(6, 16, bias=False), nn.Linear(8, 16, bias=False)
        self.norm = nn.BatchNorm1d(16) if norm else None
        self.register_buffer("h_init", torch.zeros(1, 8))
        nn.init.orthogonal_(self.u.weight)
        if self.norm is not None:
            nn.init.uniform_(self.norm.running_var, 0.5, 2)
            nn.init.normal_(self.norm.running_mean)

    def forward(self, x: Tensor) -> Tensor:
        w = self.w(x)
        if self.norm is not None:
            flat = self.norm(w.reshape(w.shape[0] * w.shape[1], w.shape[2]))
            w = flat.reshape(w.shape[0], w.shape[1], w.shape[2])
        h, outputs = self.h_init, []
        for k in range(w.shape[1]):
            a, z = (w[:, k] + self.u(h)).chunk(2, 1)
            z = torch.sigmoid(z)
            h = z * h + (1 - z) * torch.relu(a)
            outputs.append(h)
        return torch.stack(outputs, dim=1)


class QRNN(nn.Module):
    """Quasi-recurrent: convolutions over the frame before and this one, then fo-pooling."""

    def __init__(self, window: int = 2, *, o: bool = True) -> None:
        super().__init__()
        self.linear, self.window, self.o = nn.Linear(6 * window, 24), window, o

    def forward(self, x: Tensor) -> Tensor:
        if self.window == 2:
            before = torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], 1)
            x = torch.cat([x, before], 2)
        z, f, o = parts(self.linear(x), 3)
        z, f = torch.tanh(z), torch.sigmoid(f)
        c, states = None, []
        for t in range(z.size(1)):
            c = (1 - f[:, t]) * z[:, t] if c is None else f[:, t] * c + (1 - f[:, t]) * z[:, t]
            states.append(c)
        states = torch.stack(states, 1)
        return torch.sigmoid(o) * states if self.o else states


class SRU(nn.Module):
    """The simple recurrent unit: its first form, or its second, whose gates see the state."""

    def __init__(self, *, second: bool = True, highway: bool = True) -> None:
        super().__init__()
        size = 6 if highway else 8
        self.u, self.bias = nn.Linear(6, 3 * size, bias=False), nn.Parameter(torch.randn(2, size))
        self.v = nn.Parameter(torch.randn(2, size)) if second else None
        self.highway = highway

    def forward(self, x: Tensor) -> Tensor:
        u0, u1, u2 = parts(self.u(x), 3)
        c, outputs = x.new_zeros(x.size(0), u0.size(2)), []
        for t in range(x.size(1)):
            seen = (0, 0) if self.v is None else (self.v[0] * c, self.v[1] * c)
            f = torch.sigmoid(u1[:, t] + seen[0] + self.bias[0])
            r = torch.sigmoid(u2[:, t] + seen[1] + self.bias[1])
            c = f * c + (1 - f) * u0[:, t]
            h = r * torch.tanh(c)
            outputs.append(h + (1 - r) * x[:, t] if self.highway else h)
        return torch.stack(outputs, 1)


class MinGRU(nn.Module):
    """A GRU whose gate and candidate see the input alone."""

    def __init__(self) -> None:
        super().__init__()
        self.z, self.h = nn.Linear(6, 8), nn.Linear(6, 8)

    def forward(self, x: Tensor) -> Tensor:
        h, outputs = torch.zeros(x.size(0), 8), []
        for t in range(x.size(1)):
            z = torch.sigmoid(self.z(x[:, t]))
            h = (1 - z) * h + z * self.h(x[:, t])
            outputs.append(h)
        return torch.stack(outputs, 1)


class IndRNN(nn.Module):
    """Each unit sees its own state alone."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.u = nn.Linear(6, 8), nn.Parameter(torch.rand(8))

    def forward(self, x: Tensor) -> Tensor:
        h, outputs = torch.zeros(x.size(0), 8), []
        for t in range(x.size(1)):
            h = F.relu(self.w(x[:, t]) + self.u * h)
            outputs.append(h)
        return torch.stack(outputs, 1)


class Smoothed(nn.Module):
    """A moving average of a linear layer's outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Linear(6, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.w(x)
        state, outputs = torch.zeros(x.size(0), 8), []
        for t in range(x.size(1)):
            state = 0.9 * state + 0.1 * y[:, t]
            outputs.append(state)
        return torch.stack(outputs, 1)


class SelectedSRU(nn.Module):
    """Two simple recurrent units whose products lie in a dimension of their own, from which each
    frame selects; outputs are written into zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.ParameterList([torch.randn(6, 32) * 0.3, torch.randn(8, 24) * 0.3])
        self.own, self.bias = nn.Parameter(torch.randn(2, 8)), nn.Parameter(torch.randn(2, 8))

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(0, 1)
        for weight in self.weights:
            u = x.reshape(-1, x.size(2)).mm(weight).view(*x.shape[:2], 8, -1)
            x0, c = u[..., 0], x.new_zeros(x.size(1), 8)
            around, h = (x if u.size(3) == 3 else u[..., 3]), x.new_zeros(*x.shape[:2], 8)
            for t in range(len(x)):
                f = torch.sigmoid(u[t, ..., 1] + c * self.own[0] + self.bias[0])
                r = torch.sigmoid(u[t, ..., 2] + c * self.own[1] + self.bias[1])
                c = x0[t] + (c - x0[t]) * f
                h[t, :, :] = around[t] + (c.tanh() - around[t]) * r
            x = h
        return x.transpose(0, 1)


class BothInABatch(nn.Module):
    """Both directions with the same weights, one batch after the other, as SpeechBrain and
    pytorch-kaldi write them: a light GRU whose candidate is multiplied for dropout."""

    def __init__(self, dim: int = 0, kept: float = 1.0) -> None:
        super().__init__()
        self.ws = nn.ModuleList(nn.Linear(n, 16, bias=False) for n in (6, 16))
        self.us = nn.ModuleList(nn.Linear(8, 16, bias=False) for _ in self.ws)
        self.norms = nn.ModuleList(nn.BatchNorm1d(16) for _ in self.ws)
        self.dim, self.kept = dim, torch.tensor([kept])
        for u in self.us:
            nn.init.orthogonal_(u.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(0, self.dim)
        for w, u, norm in zip(self.ws, self.us, self.norms, strict=True):
            both = torch.cat([x, x.flip(1 - self.dim)], self.dim)
            sums = w(both)
            sums = norm(sums.reshape(-1, 16)).reshape(sums.shape)
            h, states = torch.zeros(1, 8), []
            for frame in sums.unbind(1 - self.dim):
                n, z = (frame + u(h)).chunk(2, 1)
                z = torch.sigmoid(z)
                h = z * h + (1 - z) * (torch.relu(n) * self.kept)
                states.append(h)
            one, two = torch.stack(states, 1 - self.dim).chunk(2, self.dim)
            x = torch.cat([one, two.flip(1 - self.dim)], 2)
        return x.transpose(0, self.dim)


class GatesApart(nn.Module):
    """An LSTM with matrices and norms of its own for each gate, both directions as a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.ModuleDict({gate: nn.Linear(6, 8) for gate in "fico"})
        self.u = nn.ModuleDict({gate: nn.Linear(8, 8, bias=False) for gate in "fico"})
        self.norm = nn.ModuleDict({gate: nn.BatchNorm1d(8) for gate in "fico"})

    def forward(self, x: Tensor) -> Tensor:
        batch, frames = x.shape[:2]
        x = torch.cat([x, x[:, torch.arange(frames - 1, -1, -1)]], 0)
        sums = {k: self.norm[k](w(x).view(-1, 8)).view(*x.shape[:2], 8) for k, w in self.w.items()}
        h = c = torch.zeros(2 * batch, 8)
        states = []
        for t in range(frames):
            f, i, g, o = (sums[k][:, t] + self.u[k](h) for k in "fico")
            c = torch.sigmoid(i) * torch.tanh(g) + torch.sigmoid(f) * c
            h = torch.sigmoid(o) * torch.tanh(c)
            states.append(h)
        h = torch.stack(states, 1)
        return torch.cat([h[:batch], h[batch:].flip(1)], 2)


class LinearGRU(nn.Module):
    """A GRU whose candidate is a sum as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.u = nn.Linear(6, 24), nn.Linear(8, 24)
        nn.init.uniform_(self.u.weight, -0.1, 0.1)

    def forward(self, x: Tensor) -> Tensor:
        h, outputs = x.new_zeros(x.size(0), 8), []
        for t in range(x.size(1)):
            wz, wr, wn = self.w(x[:, t]).chunk(3, dim=1)
            uz, ur, un = self.u(h).chunk(3, dim=1)
            z, r = torch.sigmoid(wz + uz), torch.sigmoid(wr + ur)
            h = z * h + (1 - z) * (wn + r * un)
            outputs.append(h)
        return torch.stack(outputs, 1)


class ScaledGRU(nn.Module):
    """GRUs as pytorch-kaldi writes them: the reset gate before the matrix, or the update gate in
    its place, and the candidate multiplied for dropout."""

    def __init__(self, minimal: bool = False) -> None:
        super().__init__()
        self.w = nn.ModuleDict({gate: nn.Linear(6, 8) for gate in "hzr"})
        self.u = nn.ModuleDict({gate: nn.Linear(8, 8, bias=False) for gate in "hzr"})
        self.minimal = minimal

    def forward(self, x: Tensor) -> Tensor:
        sums = {gate: w(x) for gate, w in self.w.items()}
        h, states = torch.zeros(len(x), 8), []
        for t in range(x.shape[1]):
            z = torch.sigmoid(sums["z"][:, t] + self.u["z"](h))
            r = z if self.minimal else torch.sigmoid(sums["r"][:, t] + self.u["r"](h))
            candidate = torch.tanh(sums["h"][:, t] + self.u["h"](r * h)) * torch.tensor([0.8])
            h = z * h + (1 - z) * candidate
            states.append(h)
        return torch.stack(states, 1)


LOOPS = {
    "lstm_cell": lambda: UnbindLoop(nn.LSTMCell(6, 8)),
    "gru_cell": lambda: UnbindLoop(nn.GRUCell(6, 8)),
    "rnn_cell": lambda: UnbindLoop(nn.RNNCell(6, 8)),
    "relu_cell": lambda: UnbindLoop(nn.RNNCell(6, 8, nonlinearity="relu")),
    "two_in_a_loop": RangeLoop,
    "time_first": TimeFirst,
    "written": Written,
    "before": Before,
    "filled": Filled,
    "norm_lstm": LayerNormLSTM,
    "norm_lstm_output": lambda: LayerNormLSTM(carries=False, bias=True),
    "li_gru": LiGRU,
    "li_gru_plain": lambda: LiGRU(norm=False),
    "qrnn": QRNN,
    "qrnn_1": lambda: QRNN(1),
    "qrnn_f": lambda: QRNN(1, o=False),
    "sru_1": lambda: SRU(second=False),
    "sru_2": SRU,
    "sru_2_no_highway": lambda: SRU(highway=False),
    "min_gru": MinGRU,
    "ind_rnn": IndRNN,
    "smoothed": Smoothed,
    "sru_selected": SelectedSRU,
    "both_in_a_batch": BothInABatch,
    "both_time_first": lambda: BothInABatch(1, 0.8),
    "gates_apart": GatesApart,
    "gru_linear": LinearGRU,
    "gru_scaled": ScaledGRU,
    "gru_minimal": lambda: ScaledGRU(minimal=True),
}

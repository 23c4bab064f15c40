"""Recurrent cells that PyTorch does not have, in loops over time, as repositories write them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lib.zoo.architecture import Architecture, Inputs, time_first

BANDS, WIDTH = 40, 64
_scripted: Callable[[Any], Any] = torch.jit.script_method  # type: ignore[attr-defined]


class _SruCell(nn.Module):
    def __init__(self, size: int, hidden: int) -> None:
        super().__init__()
        self.hidden_size = hidden
        self.k = 3 if size == hidden else 4
        self.weight = nn.Parameter(torch.randn(size, hidden * self.k) * (3.0 / size) ** 0.5)
        self.weight_c = nn.Parameter(torch.randn(2 * hidden) * 0.1)
        self.bias = nn.Parameter(torch.randn(2 * hidden) * 0.1)
        self.scale_x = 1.0

    def forward(self, x: Tensor, c0: Tensor) -> tuple[Tensor, Tensor]:
        length, batch, d = x.size(0), x.size(1), self.hidden_size
        u = x.view(-1, x.size(2)).mm(self.weight)
        u = u.view(length, batch, d, self.k)
        x0 = u[..., 0]
        forget_wc, reset_wc = self.weight_c.view(2, d)
        forget_bias, reset_bias = self.bias.view(2, d)
        h = x.new_zeros(length, batch, d)
        x_prime = x * self.scale_x if self.k == 3 else u[..., 3]
        c = c0
        for t in range(length):
            forget_t = (u[t, ..., 1] + c * forget_wc + forget_bias).sigmoid()
            reset_t = (u[t, ..., 2] + c * reset_wc + reset_bias).sigmoid()
            c = x0[t] + (c - x0[t]) * forget_t
            h[t, :, :] = x_prime[t] + (c.tanh() - x_prime[t]) * reset_t
        return h, c


class Sru(nn.Module):
    """SRU: features [frames, batch, size]."""

    def __init__(self, layers: int = 3) -> None:
        super().__init__()
        self.rnn_lst = nn.ModuleList(_SruCell(WIDTH if i else BANDS, WIDTH) for i in range(layers))

    def forward(self, input: Tensor, c0: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The last layer's outputs [frames, batch, hidden size], and the cells."""
        if c0 is None:
            zeros = torch.zeros(input.size(1), WIDTH, dtype=input.dtype, device=input.device)
            states = [zeros for _ in self.rnn_lst]
        else:
            states = [x.squeeze(0) for x in c0.chunk(len(self.rnn_lst), 0)]
        prevx, lstc = input, []
        for i, rnn in enumerate(self.rnn_lst):
            prevx, c = rnn(prevx, states[i])
            lstc.append(c)
        return prevx, torch.stack(lstc)


def _forget_mult(f: Tensor, x: Tensor, hidden: Tensor | None) -> Tensor:
    result = []
    forgets = f.split(1, dim=0)  # type: ignore[no-untyped-call]
    prev_h = hidden
    products = (f * x).split(1, dim=0)  # type: ignore[no-untyped-call]
    for i, h in enumerate(products):
        if prev_h is not None:
            h = h + (1 - forgets[i]) * prev_h
        h = h.view(h.size()[1:])
        result.append(h)
        prev_h = h
    return torch.stack(result)


class _QrnnLayer(nn.Module):
    def __init__(self, size: int, hidden: int, window: int) -> None:
        super().__init__()
        self.window, self.hidden_size = window, hidden
        self.linear = nn.Linear(window * size, 3 * hidden)

    def forward(self, x: Tensor, hidden: Tensor | None = None) -> tuple[Tensor, Tensor]:
        seq_len, batch_size, _ = x.size()
        source = x
        if self.window == 2:
            before = torch.cat([x[:1, :, :] * 0, x[:-1, :, :]], 0)
            source = torch.cat([x, before], 2)
        y = self.linear(source)
        y = y.view(seq_len, batch_size, 3 * self.hidden_size)
        z, f, o = y.chunk(3, dim=2)
        z = torch.tanh(z)
        f = torch.sigmoid(f)
        z, f = z.contiguous(), f.contiguous()
        c = _forget_mult(f, z, hidden)
        h = torch.sigmoid(o) * c
        return h, c[-1:, :, :]


class Qrnn(nn.Module):
    """QRNN: features [frames, batch, size], the first layer with a window of two frames."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([_QrnnLayer(BANDS, WIDTH, 2), _QrnnLayer(WIDTH, WIDTH, 1)])

    def forward(self, input: Tensor, hidden: Any = None) -> tuple[Tensor, Tensor]:
        """The last layer's outputs [frames, batch, hidden size], and the cells."""
        next_hidden = []
        for i, layer in enumerate(self.layers):
            input, hn = layer(input, None if hidden is None else hidden[i])
            next_hidden.append(hn)
        states = torch.cat(next_hidden, 0).view(len(self.layers), *next_hidden[0].size()[-2:])
        return input, states


def _flip(x: Tensor) -> Tensor:
    return x[torch.arange(x.size(0) - 1, -1, -1).long()]


class LiGru(nn.Module):
    """pytorch-kaldi's liGRU: features [frames, batch, size], backward frames as more utterances."""

    def __init__(self, layers: int = 2, dropout: float = 0.2) -> None:
        super().__init__()
        self.dropout = dropout
        sizes = [BANDS] + [2 * WIDTH] * (layers - 1)
        self.wh = nn.ModuleList(nn.Linear(size, WIDTH, bias=False) for size in sizes)
        self.wz = nn.ModuleList(nn.Linear(size, WIDTH, bias=False) for size in sizes)
        self.uh = nn.ModuleList(nn.Linear(WIDTH, WIDTH, bias=False) for _ in sizes)
        self.uz = nn.ModuleList(nn.Linear(WIDTH, WIDTH, bias=False) for _ in sizes)
        self.bn_wh = nn.ModuleList(nn.BatchNorm1d(WIDTH, momentum=0.05) for _ in sizes)
        self.bn_wz = nn.ModuleList(nn.BatchNorm1d(WIDTH, momentum=0.05) for _ in sizes)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs [frames, batch, twice the hidden size]."""
        for i in range(len(self.wh)):
            batch = x.shape[1]
            ht = torch.zeros(2 * batch, WIDTH)
            x = torch.cat([x, _flip(x)], 1)
            drop_mask = torch.FloatTensor([1 - self.dropout])
            wh_out, wz_out = self.wh[i](x), self.wz[i](x)
            flat = wh_out.shape[0] * wh_out.shape[1]
            wh_bn = self.bn_wh[i](wh_out.view(flat, wh_out.shape[2]))
            wh_out = wh_bn.view(wh_out.shape[0], wh_out.shape[1], wh_out.shape[2])
            wz_bn = self.bn_wz[i](wz_out.view(flat, wz_out.shape[2]))
            wz_out = wz_bn.view(wz_out.shape[0], wz_out.shape[1], wz_out.shape[2])
            hiddens = []
            for k in range(x.shape[0]):
                zt = torch.sigmoid(wz_out[k] + self.uz[i](ht))
                at = wh_out[k] + self.uh[i](ht)
                hcand = torch.relu(at) * drop_mask
                ht = zt * ht + (1 - zt) * hcand
                hiddens.append(ht)
            h = torch.stack(hiddens)
            forward, backward = h[:, 0:batch], _flip(h[:, batch : 2 * batch].contiguous())
            x = torch.cat([forward, backward], 2)
        return x


class _LayerNormCell(torch.jit.ScriptModule):
    def __init__(self, size: int, hidden: int) -> None:
        super().__init__()
        self.weight_ih = nn.Parameter(torch.randn(4 * hidden, size) * 0.2)
        self.weight_hh = nn.Parameter(torch.randn(4 * hidden, hidden) * 0.2)
        self.layernorm_i = nn.LayerNorm(4 * hidden)
        self.layernorm_h = nn.LayerNorm(4 * hidden)
        self.layernorm_c = nn.LayerNorm(hidden)

    @_scripted
    def forward(
        self, input: Tensor, state: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        hx, cx = state
        igates = self.layernorm_i(torch.mm(input, self.weight_ih.t()))
        hgates = self.layernorm_h(torch.mm(hx, self.weight_hh.t()))
        gates = igates + hgates
        ingate, forgetgate, cellgate, outgate = gates.chunk(4, 1)
        ingate = torch.sigmoid(ingate)
        forgetgate = torch.sigmoid(forgetgate)
        cellgate = torch.tanh(cellgate)
        outgate = torch.sigmoid(outgate)
        cy = self.layernorm_c((forgetgate * cx) + (ingate * cellgate))
        hy = outgate * torch.tanh(cy)
        return hy, (hy, cy)


class LayerNormLstm(torch.jit.ScriptModule):
    """PyTorch's scripted LSTM with layer normalization: features [frames, batch, size], a state."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = _LayerNormCell(BANDS, WIDTH)

    @_scripted
    def forward(
        self, input: Tensor, state: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Outputs [frames, batch, hidden size], and the next state."""
        inputs = input.unbind(0)
        outputs: list[Tensor] = []
        for i in range(len(inputs)):
            out, state = self.cell(inputs[i], state)
            outputs += [out]
        return torch.stack(outputs), state


def _frames(frames: int) -> Inputs:
    return (torch.randn(frames, 1, BANDS),)


ARCHITECTURES = (
    Architecture("SRU", "asappresearch/sru sru/ops.py", Sru, _frames, time_first),
    Architecture("QRNN", "salesforce/pytorch-qrnn torchqrnn/qrnn.py", Qrnn, _frames, time_first),
    Architecture(
        "liGRU", "mravanelli/pytorch-kaldi neural_networks.py", LiGru, _frames, time_first
    ),
    Architecture(
        "layer-norm LSTM",
        "pytorch/pytorch benchmarks/fastrnns/custom_lstms.py",
        LayerNormLstm,
        lambda frames: (*_frames(frames), (torch.zeros(1, WIDTH), torch.zeros(1, WIDTH))),
        time_first,
    ),
)
"""In the order of the table."""

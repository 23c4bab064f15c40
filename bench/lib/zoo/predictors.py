"""Language models, predictors, hand-written cells of pytorch-kaldi."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.zoo.architecture import (
    Architecture,
    Inputs,
    time_first,
    tokens,
)

TOKENS, WIDTH, BANDS = 100, 64, 40


class WenetPredictor(nn.Module):
    """WeNet's RNNPredictor: ids [batch, length] and a cache."""

    def __init__(self) -> None:
        super().__init__()
        self.n_layers, self.hidden_size = 2, WIDTH
        self.embed = nn.Embedding(TOKENS, WIDTH)
        self.dropout = nn.Dropout(0.1)
        self.rnn = nn.LSTM(WIDTH, WIDTH, 2, bias=True, batch_first=True, dropout=0.1)
        self.projection = nn.Linear(WIDTH, WIDTH)

    def init_state(self, batch_size: int) -> Any:
        """Zeros for each layer."""
        return [
            torch.zeros(1 * self.n_layers, batch_size, self.hidden_size),
            torch.zeros(1 * self.n_layers, batch_size, self.hidden_size),
        ]

    def forward(self, input: Tensor, cache: Any = None) -> Any:
        """Predictions [batch, length, width]."""
        embed = self.embed(input)
        embed = self.dropout(embed)
        if cache is None:
            state = self.init_state(batch_size=input.size(0))
            states = (state[0], state[1])
        else:
            assert len(cache) == 2
            states = (cache[0], cache[1])
        out, _ = self.rnn(embed, states)
        out = self.projection(out)
        return out


class StatelessDecoder(nn.Module):
    """icefall's stateless decoder: ids [batch, length]; a convolution over embeddings."""

    def __init__(self, context: int = 2) -> None:
        super().__init__()
        self.embedding = nn.Embedding(TOKENS, WIDTH, padding_idx=0)
        self.context_size = context
        self.conv = nn.Conv1d(WIDTH, WIDTH, context, padding=0, groups=WIDTH // 4, bias=False)
        self.proj = nn.Linear(WIDTH, WIDTH)

    def forward(self, y: Tensor, need_pad: bool = True) -> Any:
        """Predictions [batch, length, width]."""
        y = y.to(torch.int64)
        embedding_out = self.embedding(y.clamp(min=0)) * (y >= 0).unsqueeze(-1)
        if self.context_size > 1:
            embedding_out = embedding_out.permute(0, 2, 1)
            if need_pad is True:
                embedding_out = F.pad(embedding_out, pad=(self.context_size - 1, 0))
            else:
                assert embedding_out.size(-1) == self.context_size
            embedding_out = self.conv(embedding_out)
            embedding_out = embedding_out.permute(0, 2, 1)
        embedding_out = F.relu(embedding_out)
        return self.proj(embedding_out)


def flip(x: Tensor, dim: int) -> Tensor:
    """A tensor with one dimension in reverse, by places."""
    xsize = x.size()
    dim = x.dim() + dim if dim < 0 else dim
    x = x.contiguous()
    x = x.view(-1, *xsize[dim:])
    x = x.view(x.size(0), x.size(1), -1)[
        :, getattr(torch.arange(x.size(1) - 1, -1, -1), ("cpu", "cuda")[x.is_cuda])().long(), :
    ]
    return x.view(xsize)


class KaldiLSTM(nn.Module):
    """pytorch-kaldi's LSTM: features [frames, batch, size]; gates with batch norms."""

    def __init__(
        self,
        bidir: bool = True,
        batchnorm: bool = True,
        layers: int = 2,
        size: int = 40,
        width: int = 64,
    ) -> None:
        super().__init__()
        self.bidir, self.bn, self.width = bidir, batchnorm, width

        def mk() -> nn.ModuleList:
            return nn.ModuleList()

        self.wfx, self.ufh, self.wix, self.uih = mk(), mk(), mk(), mk()
        self.wox, self.uoh, self.wcx, self.uch = mk(), mk(), mk(), mk()
        self.bn_wfx, self.bn_wix, self.bn_wox, self.bn_wcx = mk(), mk(), mk(), mk()
        cur = size
        for _ in range(layers):
            for w in (self.wfx, self.wix, self.wox, self.wcx):
                w.append(nn.Linear(cur, width, bias=not batchnorm))
            for u in (self.ufh, self.uih, self.uoh, self.uch):
                u.append(nn.Linear(width, width, bias=False))
            for b in (self.bn_wfx, self.bn_wix, self.bn_wox, self.bn_wcx):
                b.append(nn.BatchNorm1d(width, momentum=0.05))
            cur = 2 * width if bidir else width
        self.N_lay = layers
        self.act = nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        """Outputs [frames, batch, twice the hidden size]."""
        for i in range(self.N_lay):
            if self.bidir:
                h_init = torch.zeros(2 * x.shape[1], self.width)
                x = torch.cat([x, flip(x, 0)], 1)
            else:
                h_init = torch.zeros(x.shape[1], self.width)
            drop_mask = torch.FloatTensor([1 - 0.2])
            wfx_out = self.wfx[i](x)
            wix_out = self.wix[i](x)
            wox_out = self.wox[i](x)
            wcx_out = self.wcx[i](x)
            if self.bn:
                outs = []
                for w, bn in (
                    (wfx_out, self.bn_wfx),
                    (wix_out, self.bn_wix),
                    (wox_out, self.bn_wox),
                    (wcx_out, self.bn_wcx),
                ):
                    w_bn = bn[i](w.view(w.shape[0] * w.shape[1], w.shape[2]))
                    outs.append(w_bn.view(w.shape[0], w.shape[1], w.shape[2]))
                wfx_out, wix_out, wox_out, wcx_out = outs
            hiddens = []
            ct = h_init
            ht = h_init
            for k in range(x.shape[0]):
                ft = torch.sigmoid(wfx_out[k] + self.ufh[i](ht))
                it = torch.sigmoid(wix_out[k] + self.uih[i](ht))
                ot = torch.sigmoid(wox_out[k] + self.uoh[i](ht))
                ct = it * self.act(wcx_out[k] + self.uch[i](ht)) * drop_mask + ft * ct
                ht = ot * self.act(ct)
                hiddens.append(ht)
            h = torch.stack(hiddens)
            if self.bidir:
                h_f = h[:, 0 : int(x.shape[1] / 2)]
                h_b = flip(h[:, int(x.shape[1] / 2) : x.shape[1]].contiguous(), 0)
                h = torch.cat([h_f, h_b], 2)
            x = h
        return x


class KaldiGRU(nn.Module):
    """pytorch-kaldi's GRU: the reset gate before the product."""

    def __init__(
        self,
        minimal: bool = False,
        bidir: bool = True,
        layers: int = 2,
        size: int = 40,
        width: int = 64,
    ) -> None:
        super().__init__()
        self.minimal, self.bidir, self.width, self.N_lay = minimal, bidir, width, layers

        def mk() -> nn.ModuleList:
            return nn.ModuleList()

        self.wh, self.uh, self.wz, self.uz, self.wr, self.ur = mk(), mk(), mk(), mk(), mk(), mk()
        cur = size
        for _ in range(layers):
            for w in (self.wh, self.wz, self.wr):
                w.append(nn.Linear(cur, width, bias=True))
            for u in (self.uh, self.uz, self.ur):
                u.append(nn.Linear(width, width, bias=False))
            cur = 2 * width if bidir else width
        self.act = nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        """Outputs [frames, batch, twice the hidden size]."""
        for i in range(self.N_lay):
            if self.bidir:
                h_init = torch.zeros(2 * x.shape[1], self.width)
                x = torch.cat([x, flip(x, 0)], 1)
            else:
                h_init = torch.zeros(x.shape[1], self.width)
            drop_mask = torch.FloatTensor([1 - 0.2])
            wh_out = self.wh[i](x)
            wz_out = self.wz[i](x)
            wr_out = self.wr[i](x)
            hiddens = []
            ht = h_init
            for k in range(x.shape[0]):
                zt = torch.sigmoid(wz_out[k] + self.uz[i](ht))
                if self.minimal:
                    at = wh_out[k] + self.uh[i](zt * ht)
                else:
                    rt = torch.sigmoid(wr_out[k] + self.ur[i](ht))
                    at = wh_out[k] + self.uh[i](rt * ht)
                hcand = self.act(at) * drop_mask
                ht = zt * ht + (1 - zt) * hcand
                hiddens.append(ht)
            h = torch.stack(hiddens)
            if self.bidir:
                h_f = h[:, 0 : int(x.shape[1] / 2)]
                h_b = flip(h[:, int(x.shape[1] / 2) : x.shape[1]].contiguous(), 0)
                h = torch.cat([h_f, h_b], 2)
            x = h
        return x


class _LSTMWithProjection(nn.Module):
    def __init__(self, size: int, hidden: int, projected: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(size, hidden, batch_first=True)
        self.linear = nn.Linear(hidden, projected, bias=False)

    def forward(self, x: Tensor) -> Any:
        self.lstm.flatten_parameters()
        o, (_, _) = self.lstm(x)
        return self.linear(o)


class CoquiSpeaker(nn.Module):
    """Coqui's speaker encoder: features [batch, frames, size], normalized over the utterance."""

    def __init__(self, lstm_dim: int = 64, proj_dim: int = 48) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _LSTMWithProjection(BANDS, lstm_dim, proj_dim),
            _LSTMWithProjection(proj_dim, lstm_dim, proj_dim),
        )
        self.instancenorm = nn.InstanceNorm1d(BANDS)

    def forward(self, x: Tensor, l2_norm: bool = True) -> Any:
        """Embeddings [batch, size] of length one."""
        x = x.transpose(1, 2)
        x = self.instancenorm(x)
        x = x.transpose(1, 2)
        d = self.layers(x)
        d = d[:, -1]
        return F.normalize(d, p=2, dim=1) if l2_norm else d


def _ids(length: int) -> Tensor:
    return torch.randint(1, TOKENS, (1, length))


def _frames(frames: int) -> Inputs:
    return (torch.randn(frames, 1, BANDS),)


ARCHITECTURES = (
    Architecture(
        "RNN predictor of WeNet",
        "wenet-e2e/wenet wenet/transducer/predictor.py",
        WenetPredictor,
        lambda length: (_ids(length),),
        tokens,
    ),
    Architecture(
        "stateless decoder of icefall",
        "k2-fsa/icefall egs/librispeech/ASR/pruned_transducer_stateless/decoder.py",
        StatelessDecoder,
        lambda length: (_ids(length),),
        tokens,
    ),
    Architecture(
        "pytorch-kaldi, LSTM",
        "mravanelli/pytorch-kaldi neural_networks.py",
        KaldiLSTM,
        _frames,
        time_first,
    ),
    Architecture(
        "pytorch-kaldi, GRU",
        "mravanelli/pytorch-kaldi neural_networks.py",
        KaldiGRU,
        _frames,
        time_first,
    ),
    Architecture(
        "speaker encoder of Coqui",
        "coqui-ai/TTS TTS/encoder/models/lstm.py",
        CoquiSpeaker,
        lambda frames: (torch.randn(1, frames, BANDS),),
    ),
)
"""In the order of the table."""

"""Encoders of recognizers with attention and of transducers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lib.zoo.architecture import Architecture, Inputs, columns, feature_first

BANDS = 40


class _Pyramid(nn.Module):
    def __init__(self, size: int, hidden: int) -> None:
        super().__init__()
        self.rnn = nn.LSTM(size * 2, hidden, 1, bidirectional=True, batch_first=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        batch_size, timestep, feature_dim = x.size(0), x.size(1), x.size(2)
        x = x.contiguous().view(batch_size, int(timestep / 2), feature_dim * 2)
        output, hidden = self.rnn(x)
        return output, hidden


class Listener(nn.Module):
    """Listen, Attend and Spell: three pyramidal layers over [batch, frames, size]."""

    def __init__(self, hidden: int = 32) -> None:
        super().__init__()
        self.pLSTM_layer0 = _Pyramid(BANDS, hidden)
        self.pLSTM_layer1 = _Pyramid(2 * hidden, hidden)
        self.pLSTM_layer2 = _Pyramid(2 * hidden, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Encoded frames, an eighth as many."""
        x, _ = self.pLSTM_layer0(x)
        x, _ = self.pLSTM_layer1(x)
        x, _ = self.pLSTM_layer2(x)
        return x


def _pad_mask(lengths: Any) -> Tensor:
    if not isinstance(lengths, list):
        lengths = lengths.tolist()
    count = torch.arange(0, int(max(lengths)), dtype=torch.int64)
    count = count.unsqueeze(0).expand(len(lengths), int(max(lengths)))
    return count >= count.new(lengths).unsqueeze(-1)


class _RNNP(nn.Module):
    """Layers with a projection and a subsampling after each."""

    def __init__(self, size: int, cells: int, projection: int, subsample: list[int]) -> None:
        super().__init__()
        self.subsample, self.elayers = subsample, len(subsample) - 1
        for i in range(self.elayers):
            rnn = nn.LSTM(projection if i else size, cells, 1, bidirectional=True, batch_first=True)
            setattr(self, f"birnn{i}", rnn)
            setattr(self, f"bt{i}", nn.Linear(2 * cells, projection))

    def forward(self, xs: Tensor, ilens: Any, prev: Any = None) -> tuple[Tensor, Any, list[Any]]:
        states = []
        for layer in range(self.elayers):
            packed = pack_padded_sequence(xs, ilens, batch_first=True)
            rnn = getattr(self, f"birnn{layer}")
            rnn.flatten_parameters()
            ys, state = rnn(packed, hx=None if prev is None else prev[layer])
            states.append(state)
            ys_pad, ilens = pad_packed_sequence(ys, batch_first=True)
            sub = self.subsample[layer + 1]
            if sub > 1:
                ys_pad = ys_pad[:, ::sub]
                ilens = torch.tensor([int(i + 1) // sub for i in ilens])
            dense = getattr(self, f"bt{layer}")
            projected = dense(ys_pad.contiguous().view(-1, ys_pad.size(2)))
            xs = projected.view(ys_pad.size(0), ys_pad.size(1), -1)
            if layer < self.elayers - 1:
                xs = torch.tanh(F.dropout(xs, p=0.1, training=self.training))
        return xs, ilens, states


class _RNN(nn.Module):
    def __init__(self, size: int, cells: int, projection: int) -> None:
        super().__init__()
        self.nbrnn = nn.LSTM(size, cells, 2, batch_first=True, dropout=0.1, bidirectional=True)
        self.l_last = nn.Linear(cells * 2, projection)

    def forward(self, xs: Tensor, ilens: Any, prev: Any = None) -> tuple[Tensor, Any, Any]:
        packed = pack_padded_sequence(xs, ilens, batch_first=True)
        self.nbrnn.flatten_parameters()
        ys, states = self.nbrnn(packed, hx=prev)
        ys_pad, ilens = pad_packed_sequence(ys, batch_first=True)
        projected = torch.tanh(self.l_last(ys_pad.contiguous().view(-1, ys_pad.size(2))))
        return projected.view(ys_pad.size(0), ys_pad.size(1), -1), ilens, states


class _VGG2L(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1_1 = nn.Conv2d(1, channels, 3, stride=1, padding=1)
        self.conv1_2 = nn.Conv2d(channels, channels, 3, stride=1, padding=1)
        self.conv2_1 = nn.Conv2d(channels, 2 * channels, 3, stride=1, padding=1)
        self.conv2_2 = nn.Conv2d(2 * channels, 2 * channels, 3, stride=1, padding=1)

    def forward(self, xs: Tensor, ilens: Any, prev: Any = None) -> tuple[Tensor, Any, None]:
        xs = xs.view(xs.size(0), xs.size(1), 1, xs.size(2)).transpose(1, 2)
        xs = F.relu(self.conv1_1(xs))
        xs = F.relu(self.conv1_2(xs))
        xs = F.max_pool2d(xs, 2, stride=2, ceil_mode=True)
        xs = F.relu(self.conv2_1(xs))
        xs = F.relu(self.conv2_2(xs))
        xs = F.max_pool2d(xs, 2, stride=2, ceil_mode=True)
        ilens = ilens.cpu().numpy() if torch.is_tensor(ilens) else np.array(ilens, np.float32)
        ilens = np.array(np.ceil(ilens / 2), dtype=np.int64)
        ilens = np.array(np.ceil(np.array(ilens, dtype=np.float32) / 2), dtype=np.int64).tolist()
        xs = xs.transpose(1, 2)
        xs = xs.contiguous().view(xs.size(0), xs.size(1), xs.size(2) * xs.size(3))
        return xs, ilens, None


class EspnetEncoder(nn.Module):
    """ESPnet's encoder: features [batch, frames, size] and their lengths through parts in turn."""

    def __init__(self, parts: list[nn.Module]) -> None:
        super().__init__()
        self.enc = nn.ModuleList(parts)

    def forward(self, xs: Tensor, ilens: Tensor, prev: Any = None) -> tuple[Tensor, Any, list[Any]]:
        """Encoded frames, their lengths, and the states of the parts."""
        if prev is None:
            prev = [None] * len(self.enc)
        states = []
        for module, state in zip(self.enc, prev, strict=True):
            xs, ilens, after = module(xs, ilens, state)
            states.append(after)
        mask = _pad_mask(ilens).unsqueeze(-1)
        return xs.masked_fill(mask, 0.0), ilens, states


class _Stacking(nn.Module):
    def __init__(self, factor: int, size: int, out: int) -> None:
        super().__init__()
        self.subsampling_factor = factor
        self.proj_out = nn.Linear(factor * size, out)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        b, t, h = x.size()
        factor = self.subsampling_factor
        pad = (factor - (t % factor)) % factor
        x = F.pad(x, (0, 0, 0, pad))
        _, t, _ = x.size()
        x = torch.reshape(x, (b, t // factor, h * factor))
        x = self.proj_out(x)
        lengths = torch.div(lengths + pad, factor, rounding_mode="floor")
        return x, lengths


class NemoEncoder(nn.Module):
    """NeMo's RNNEncoder: features [batch, size, frames], stacked, through projected LSTMs."""

    def __init__(self, hidden: int = 96, out: int = 64, layers: int = 2) -> None:
        super().__init__()
        self.pre_encode = _Stacking(2, BANDS, out)
        self.layers = nn.ModuleList()
        for _ in range(layers):
            self.layers.append(nn.LSTM(out, hidden, 1, batch_first=True, proj_size=out))
            self.layers.append(nn.LayerNorm(out))
            self.layers.append(nn.Dropout(p=0.1))

    def forward(self, audio_signal: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Encoded frames [batch, size, frames'], and their lengths."""
        audio_signal = torch.transpose(audio_signal, 1, 2)
        audio_signal, length = self.pre_encode(audio_signal, length)
        for layer in self.layers:
            if isinstance(layer, nn.Dropout | nn.LayerNorm):
                audio_signal = layer(audio_signal)
            else:
                audio_signal, _ = layer(audio_signal)
        return torch.transpose(audio_signal, 1, 2), length


def _features(frames: int) -> Inputs:
    return torch.randn(1, frames, BANDS), torch.tensor([frames])


ARCHITECTURES = (
    Architecture(
        "Listen, Attend and Spell: the listener",
        "AzizCode92/Listen-Attend-and-Spell-Pytorch models/encoder.py",
        Listener,
        lambda frames: (torch.randn(1, frames, BANDS),),
        lengths=(48, 96, 72),
    ),
    Architecture(
        "BLSTMP encoder of ESPnet",
        "espnet/espnet espnet/nets/pytorch_backend/rnn/encoders.py",
        lambda: EspnetEncoder([_RNNP(BANDS, 48, 48, [1, 2, 2, 1])]),
        _features,
    ),
    Architecture(
        "VGG-BLSTM encoder of ESPnet",
        "espnet/espnet espnet/nets/pytorch_backend/rnn/encoders.py",
        lambda: EspnetEncoder([_VGG2L(4), _RNN(8 * BANDS // 4, 48, 48)]),
        _features,
    ),
    Architecture(
        "RNNEncoder of NeMo",
        "NVIDIA/NeMo nemo/collections/asr/modules/rnn_encoder.py",
        NemoEncoder,
        lambda frames: (torch.randn(1, BANDS, frames), torch.tensor([frames])),
        feature_first,
        columns,
    ),
)
"""In the order of the table."""

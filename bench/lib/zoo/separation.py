"""Separation and enhancement of more kinds."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from lib.zoo.architecture import (
    Architecture,
    columns,
    feature_first,
)

EPS = 1e-8


class _TasEncoder(nn.Module):
    def __init__(self, length: int, basis: int) -> None:
        super().__init__()
        self.length, self.basis = length, basis
        self.conv1d_U = nn.Conv1d(length, basis, kernel_size=1, stride=1, bias=False)
        self.conv1d_V = nn.Conv1d(length, basis, kernel_size=1, stride=1, bias=False)

    def forward(self, mixture: Tensor) -> Any:
        batch, frames, length = mixture.size()
        norm_coef = torch.norm(mixture, p=2, dim=2, keepdim=True)
        norm_mixture = mixture / (norm_coef + EPS)
        norm_mixture = torch.unsqueeze(norm_mixture.view(-1, length), 2)
        conv = F.relu(self.conv1d_U(norm_mixture))
        gate = torch.sigmoid(self.conv1d_V(norm_mixture))
        mixture_w = conv * gate
        mixture_w = mixture_w.view(batch, frames, self.basis)
        return mixture_w, norm_coef


class _TasSeparator(nn.Module):
    def __init__(self, basis: int, layers: int, hidden: int, speakers: int) -> None:
        super().__init__()
        self.basis, self.nspk = basis, speakers
        self.layer_norm = nn.LayerNorm(basis)
        self.rnn = nn.LSTM(basis, hidden, layers, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(2 * hidden, speakers * basis)

    def forward(self, mixture_w: Tensor, mixture_lengths: Tensor) -> Tensor:
        batch_size, frames, _ = mixture_w.size()
        norm_mixture_w = self.layer_norm(mixture_w)
        total_length = norm_mixture_w.size(1)
        packed_input = pack_padded_sequence(norm_mixture_w, mixture_lengths, batch_first=True)
        packed_output, _ = self.rnn(packed_input)
        output, _ = pad_packed_sequence(packed_output, batch_first=True, total_length=total_length)
        score = self.fc(output)
        score = score.view(batch_size, frames, self.nspk, self.basis)
        est_mask = F.softmax(score, dim=2)
        return est_mask


class _TasDecoder(nn.Module):
    def __init__(self, basis: int, length: int) -> None:
        super().__init__()
        self.basis_signals = nn.Linear(basis, length, bias=False)

    def forward(self, mixture_w: Tensor, est_mask: Tensor, norm_coef: Tensor) -> Any:
        source_w = torch.unsqueeze(mixture_w, 2) * est_mask
        est_source = self.basis_signals(source_w)
        norm_coef = torch.unsqueeze(norm_coef, 2)
        est_source = est_source * norm_coef
        est_source = est_source.permute((0, 2, 1, 3)).contiguous()
        return est_source


class TasNet(nn.Module):
    """TasNet: segments of a mixture [batch, frames, samples], and their number."""

    def __init__(
        self,
        length: int = 40,
        basis: int = 50,
        hidden: int = 32,
        layers: int = 2,
        speakers: int = 2,
    ) -> None:
        super().__init__()
        self.encoder = _TasEncoder(length, basis)
        self.separator = _TasSeparator(basis, layers, hidden, speakers)
        self.decoder = _TasDecoder(basis, length)

    def forward(self, mixture: Tensor, mixture_lengths: Tensor) -> Any:
        """Segments of the sources [batch, sources, frames, samples]."""
        mixture_w, norm_coef = self.encoder(mixture)
        est_mask = self.separator(mixture_w, mixture_lengths)
        return self.decoder(mixture_w, est_mask, norm_coef)


class PitNet(nn.Module):
    """uPIT: magnitudes [batch, frames, bins]; a mask for each speaker."""

    def __init__(
        self, bins: int = 65, hidden: int = 48, layers: int = 2, num_spks: int = 2
    ) -> None:
        super().__init__()
        self.num_spks = num_spks
        self.rnn = nn.LSTM(bins, hidden, layers, batch_first=True, dropout=0.5, bidirectional=True)
        self.drops = nn.Dropout(p=0.5)
        self.linear = nn.ModuleList([nn.Linear(hidden * 2, bins) for _ in range(num_spks)])
        self.non_linear = F.relu
        self.num_bins = bins

    def forward(self, x: Any, train: bool = True) -> list[Tensor]:
        """Masks [batch, frames, bins], one a speaker."""
        is_packed = isinstance(x, PackedSequence)
        if not is_packed and x.dim() != 3:
            x = torch.unsqueeze(x, 0)
        x, _ = self.rnn(x)
        if is_packed:
            x, _ = pad_packed_sequence(x, batch_first=True)
        m = []
        for linear in self.linear:
            y = linear(x)
            y = self.non_linear(y)
            if not train:
                y = y.view(-1, self.num_bins)
            m.append(y)
        return m


class DcNet(nn.Module):
    """Deep clustering: log magnitudes [batch, frames, bins]; an embedding of each bin."""

    def __init__(self, bins: int = 33, hidden: int = 48, layers: int = 2, dims: int = 10) -> None:
        super().__init__()
        self.rnn = nn.LSTM(bins, hidden, layers, batch_first=True, dropout=0.5, bidirectional=True)
        self.drops = nn.Dropout(p=0.5)
        self.embed = nn.Linear(hidden * 2, bins * dims)
        self.non_linear = torch.tanh
        self.embedding_dim = dims

    def forward(self, x: Any, train: bool = True) -> Any:
        """Embeddings of length one [batch, frames * bins, size]."""
        is_packed = isinstance(x, PackedSequence)
        if not is_packed and x.dim() != 3:
            x = torch.unsqueeze(x, 0)
        x, _ = self.rnn(x)
        if is_packed:
            x, _ = pad_packed_sequence(x, batch_first=True)
        batch = x.size(0)
        x = self.drops(x)
        x = self.embed(x)
        x = self.non_linear(x)
        x = x.view(batch, -1, self.embedding_dim) if train else x.view(-1, self.embedding_dim)
        x = F.normalize(x, p=2, dim=-1)
        return x


class _BLSTM(nn.Module):
    def __init__(self, dim: int, layers: int = 1) -> None:
        super().__init__()
        self.lstm = nn.LSTM(bidirectional=True, num_layers=layers, hidden_size=dim, input_size=dim)
        self.linear = nn.Linear(2 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(2, 0, 1)
        x = self.lstm(x)[0]
        x = self.linear(x)
        x = x.permute(1, 2, 0)
        return x


def _center_trim(tensor: Tensor, reference: Any) -> Tensor:
    if hasattr(reference, "size"):
        reference = reference.size(-1)
    delta = tensor.size(-1) - reference
    if delta < 0:
        raise ValueError("tensor must be larger than reference")
    if delta:
        tensor = tensor[..., delta // 2 : -(delta - delta // 2)]
    return tensor


class Demucs(nn.Module):
    """Demucs: two channels of samples [batch, 2, samples]."""

    def __init__(self, channels: int = 24, depth: int = 2, context: int = 3) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        in_channels, kernel_size, stride, sources = 2, 8, 4, 2
        for index in range(depth):
            encode = [nn.Conv1d(in_channels, channels, kernel_size, stride), nn.ReLU()]
            encode += [nn.Conv1d(channels, 2 * channels, 1), nn.GLU(dim=1)]
            self.encoder.append(nn.Sequential(*encode))
            decode = []
            out_channels = in_channels if index > 0 else sources * 2
            decode += [nn.Conv1d(channels, 2 * channels, context), nn.GLU(dim=1)]
            decode += [nn.ConvTranspose1d(channels, out_channels, kernel_size, stride)]
            if index > 0:
                decode.append(nn.ReLU())
            self.decoder.insert(0, nn.Sequential(*decode))
            in_channels = channels
            channels = int(2 * channels)
        self.lstm = _BLSTM(in_channels, 2)

    def forward(self, mix: Tensor) -> Any:
        """Sources [batch, sources, channels, samples]."""
        x = mix
        mean = 0
        std = 1
        x = (x - mean) / (1e-5 + std)
        saved = [x]
        for encode in self.encoder:
            x = encode(x)
            saved.append(x)
        x = self.lstm(x)
        for decode in self.decoder:
            skip = _center_trim(saved.pop(-1), x)
            x = x + skip
            x = decode(x)
        x = x * std + mean
        x = x.view(x.size(0), 2, 2, x.size(-1))
        return x


class CausalDemucs(nn.Module):
    """Denoiser's Demucs: waveform [batch, 1, samples], causal, unidirectional."""

    def __init__(
        self, hidden: int = 24, depth: int = 2, kernel_size: int = 8, stride: int = 4
    ) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        chin, chout = 1, 1
        self.depth, self.kernel_size, self.stride, self.floor = depth, kernel_size, stride, 1e-3
        for index in range(depth):
            encode = [
                nn.Conv1d(chin, hidden, kernel_size, stride),
                nn.ReLU(),
                nn.Conv1d(hidden, hidden * 2, 1),
                nn.GLU(1),
            ]
            self.encoder.append(nn.Sequential(*encode))
            decode = [
                nn.Conv1d(hidden, 2 * hidden, 1),
                nn.GLU(1),
                nn.ConvTranspose1d(hidden, chout, kernel_size, stride),
            ]
            if index > 0:
                decode.append(nn.ReLU())
            self.decoder.insert(0, nn.Sequential(*decode))
            chout = hidden
            chin = hidden
            hidden = int(2 * hidden)
        self.lstm = nn.LSTM(chin, chin, 2)

    def valid_length(self, length: int) -> int:
        """The least length from this on that all strides divide."""
        for _ in range(self.depth):
            length = math.ceil((length - self.kernel_size) / self.stride) + 1
            length = max(length, 1)
        for _ in range(self.depth):
            length = (length - 1) * self.stride + self.kernel_size
        return math.ceil(length)

    def forward(self, mix: Tensor) -> Any:
        """The denoised waveform, of the same shape."""
        if mix.dim() == 2:
            mix = mix.unsqueeze(1)
        length = mix.shape[-1]
        x = mix
        x = F.pad(x, (0, self.valid_length(length) - length))
        skips = []
        for encode in self.encoder:
            x = encode(x)
            skips.append(x)
        x = x.permute(2, 0, 1)
        x, _ = self.lstm(x)
        x = x.permute(1, 2, 0)
        for decode in self.decoder:
            skip = skips.pop(-1)
            x = x + skip[..., : x.shape[-1]]
            x = decode(x)
        x = x[..., :length]
        return x


ARCHITECTURES = (
    Architecture(
        "TasNet, BLSTM",
        "kaituoxu/TasNet src/tasnet.py",
        TasNet,
        lambda frames: (torch.randn(1, frames, 40), torch.tensor([frames])),
        outputs=lambda outputs: outputs[0].transpose(0, 1).flatten(1),
    ),
    Architecture(
        "uPIT",
        "funcwj/uPIT-for-speech-separation model.py",
        PitNet,
        lambda frames: (torch.rand(1, frames, 65),),
    ),
    Architecture(
        "deep clustering",
        "funcwj/deep-clustering model.py",
        DcNet,
        lambda frames: (torch.randn(1, frames, 33),),
        outputs=lambda outputs: outputs.reshape(-1, 330),
    ),
    Architecture(
        "Demucs, of waveforms",
        "facebookresearch/demucs demucs/model.py",
        Demucs,
        lambda samples: (torch.randn(1, 2, samples),),
        feature_first,
        columns,
        lengths=(404, 804, 644),
    ),
    Architecture(
        "denoiser, causal Demucs",
        "facebookresearch/denoiser denoiser/demucs.py",
        CausalDemucs,
        lambda samples: (torch.randn(1, 1, samples),),
        feature_first,
        columns,
        lengths=(404, 804, 644),
    ),
)
"""In the order of the table."""

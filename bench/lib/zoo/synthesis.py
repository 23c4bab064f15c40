"""Encoders of speech synthesis and of voice conversion."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import weight_norm
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lib.zoo.architecture import (
    Architecture,
    Inputs,
    columns,
    image,
    tokens,
)

TOKENS = 60


class _BatchNormConv1d(nn.Module):
    def __init__(
        self,
        in_dim: Any,
        out_dim: Any,
        kernel_size: Any,
        stride: Any,
        padding: Any,
        activation: Any = None,
    ) -> None:
        super().__init__()
        self.conv1d = nn.Conv1d(
            in_dim, out_dim, kernel_size=kernel_size, stride=stride, padding=padding, bias=False
        )
        self.bn = nn.BatchNorm1d(out_dim, momentum=0.99, eps=1e-3)
        self.activation = activation

    def forward(self, x: Tensor) -> Any:
        x = self.conv1d(x)
        if self.activation is not None:
            x = self.activation(x)
        return self.bn(x)


class _Highway(nn.Module):
    def __init__(self, in_size: int, out_size: int) -> None:
        super().__init__()
        self.plain = nn.Linear(in_size, out_size)
        self.plain.bias.data.zero_()
        self.gate = nn.Linear(in_size, out_size)
        self.gate.bias.data.fill_(-1)
        self.relu = nn.ReLU()
        self.sigmoid = nn.Sigmoid()

    def forward(self, inputs: Tensor) -> Any:
        plain = self.relu(self.plain(inputs))
        gate = self.sigmoid(self.gate(inputs))
        return plain * gate + inputs * (1.0 - gate)


class Cbhg(nn.Module):
    """CBHG: frames [batch, frames, size] and their lengths."""

    def __init__(self, in_dim: int = 48, kernels: int = 5, projections: Any = (48, 48)) -> None:
        super().__init__()
        self.in_dim = in_dim
        self.relu = nn.ReLU()
        self.conv1d_banks = nn.ModuleList(
            [
                _BatchNormConv1d(in_dim, in_dim, k, 1, k // 2, self.relu)
                for k in range(1, kernels + 1)
            ]
        )
        self.max_pool1d = nn.MaxPool1d(kernel_size=2, stride=1, padding=1)
        in_sizes = [kernels * in_dim, *projections[:-1]]
        activations = [self.relu] * (len(projections) - 1) + [None]
        self.conv1d_projections = nn.ModuleList(
            [
                _BatchNormConv1d(i, o, 3, 1, 1, ac)
                for i, o, ac in zip(in_sizes, projections, activations, strict=True)
            ]
        )
        self.pre_highway = nn.Linear(projections[-1], in_dim, bias=False)
        self.highways = nn.ModuleList([_Highway(in_dim, in_dim) for _ in range(4)])
        self.gru = nn.GRU(in_dim, in_dim, 1, batch_first=True, bidirectional=True)

    def forward(self, inputs: Any, input_lengths: Any = None) -> Any:
        """[batch, frames, twice the size]."""
        x = inputs
        if x.size(-1) == self.in_dim:
            x = x.transpose(1, 2)
        count = x.size(-1)
        x = torch.cat([conv1d(x)[:, :, :count] for conv1d in self.conv1d_banks], dim=1)
        assert x.size(1) == self.in_dim * len(self.conv1d_banks)
        x = self.max_pool1d(x)[:, :, :count]
        for conv1d in self.conv1d_projections:
            x = conv1d(x)
        x = x.transpose(1, 2)
        if x.size(-1) != self.in_dim:
            x = self.pre_highway(x)
        x += inputs
        for highway in self.highways:
            x = highway(x)
        if input_lengths is not None:
            x = pack_padded_sequence(x, input_lengths, batch_first=True)
        outputs, _ = self.gru(x)
        if input_lengths is not None:
            outputs, _ = pad_packed_sequence(outputs, batch_first=True)
        return outputs


class _Prenet(nn.Module):
    def __init__(self, in_dim: int, sizes: Any) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [nn.Linear(i, o) for i, o in zip([in_dim, *sizes[:-1]], sizes, strict=True)]
            )
        )
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(0.5)

    def forward(self, inputs: Tensor) -> Tensor:
        for linear in self.layers:
            inputs = self.dropout(self.relu(linear(inputs)))
        return inputs


class TacotronEncoder(nn.Module):
    """The encoder of Tacotron: letters [batch, length] and lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(TOKENS, 64)
        self.prenet = _Prenet(64, [64, 48])
        self.cbhg = Cbhg(48)

    def forward(self, inputs: Tensor, input_lengths: Any = None) -> Any:
        """Encoded letters [batch, length, size]."""
        inputs = self.embedding(inputs)
        inputs = self.prenet(inputs)
        return self.cbhg(inputs, input_lengths)


class ReferenceEncoder(nn.Module):
    """The reference encoder of global style tokens: [batch, frames, bands], one vector."""

    def __init__(self, n_mel: int = 80, kernels: int = 4, size: int = 128) -> None:
        super().__init__()
        filters = [1, 8, 8, 16, 16]
        self.convs = nn.ModuleList(
            [nn.Conv2d(filters[i], filters[i + 1], (3, 3), (2, 2), (1, 1)) for i in range(kernels)]
        )
        self.bns = nn.ModuleList([nn.BatchNorm2d(filters[i + 1]) for i in range(kernels)])
        out_channels = self.calculate_channels(n_mel, 3, 2, 1, kernels)
        self.gru = nn.GRU(filters[-1] * out_channels, size // 2, batch_first=True)
        self.n_mels = n_mel

    def calculate_channels(
        self, size: Any, kernel_size: Any, stride: Any, pad: Any, n_convs: Any
    ) -> Any:
        """The bands that the convolutions leave."""
        for _ in range(n_convs):
            size = (size - kernel_size + 2 * pad) // stride + 1
        return size

    def forward(self, inputs: Tensor) -> Any:
        """The final state [batch, size]."""
        batch = inputs.size(0)
        out = inputs.view(batch, 1, -1, self.n_mels)
        for conv, bn in zip(self.convs, self.bns, strict=True):
            out = conv(out)
            out = bn(out)
            out = F.relu(out)
        out = out.transpose(1, 2)
        count = out.size(1)
        batch = out.size(0)
        out = out.contiguous().view(batch, count, -1)
        self.gru.flatten_parameters()
        _memory, out = self.gru(out)
        return out.squeeze(0)


class _LayerNorm(nn.Module):
    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.channels, self.eps = channels, eps
        self.gamma = nn.Parameter(torch.ones(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, -1)
        x = F.layer_norm(x, (self.channels,), self.gamma, self.beta, self.eps)
        return x.transpose(1, -1)


class StyleTextEncoder(nn.Module):
    """StyleTTS's text encoder: phonemes [batch, length], lengths and a mask."""

    def __init__(self, channels: int = 48, kernel_size: int = 5, depth: int = 3) -> None:
        super().__init__()
        self.embedding = nn.Embedding(TOKENS, channels)
        padding = (kernel_size - 1) // 2
        self.cnn = nn.ModuleList()
        for _ in range(depth):
            self.cnn.append(
                nn.Sequential(
                    weight_norm(
                        nn.Conv1d(channels, channels, kernel_size=kernel_size, padding=padding)
                    ),
                    _LayerNorm(channels),
                    nn.LeakyReLU(0.2),
                    nn.Dropout(0.2),
                )
            )
        self.lstm = nn.LSTM(channels, channels // 2, 1, batch_first=True, bidirectional=True)

    def forward(self, x: Any, input_lengths: Any, m: Tensor) -> Any:
        """Encoded phonemes [batch, size, length]."""
        x = self.embedding(x)
        x = x.transpose(1, 2)
        m = m.to(input_lengths.device).unsqueeze(1)
        x.masked_fill_(m, 0.0)
        for c in self.cnn:
            x = c(x)
            x.masked_fill_(m, 0.0)
        x = x.transpose(1, 2)
        input_lengths = input_lengths.cpu().numpy()
        x = pack_padded_sequence(x, input_lengths, batch_first=True, enforce_sorted=False)
        self.lstm.flatten_parameters()
        x, _ = self.lstm(x)
        x, _ = pad_packed_sequence(x, batch_first=True)
        x = x.transpose(-1, -2)
        x_pad = torch.zeros([x.shape[0], x.shape[1], m.shape[-1]])
        x_pad[:, :, : x.shape[-1]] = x
        x = x_pad.to(x.device)
        x.masked_fill_(m, 0.0)
        return x


class _ResBlock(nn.Module):
    def __init__(self, size: int, out: int) -> None:
        super().__init__()
        self.downsample = size != out
        self.pre_conv = nn.Sequential(
            nn.BatchNorm2d(size),
            nn.LeakyReLU(0.01, inplace=True),
            nn.MaxPool2d(kernel_size=(1, 2)),
        )
        self.conv = nn.Sequential(
            nn.Conv2d(size, out, 3, padding=1, bias=False),
            nn.BatchNorm2d(out),
            nn.LeakyReLU(0.01, inplace=True),
            nn.Conv2d(out, out, 3, padding=1, bias=False),
        )
        if self.downsample:
            self.conv1by1 = nn.Conv2d(size, out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pre_conv(x)
        x = self.conv(x) + self.conv1by1(x) if self.downsample else self.conv(x) + x
        return x


class JdcNet(nn.Module):
    """JDC: pitch of singing, from mel powers [batch, 1, bands, frames]."""

    def __init__(self, classes: int = 1, bands: int = 80) -> None:
        super().__init__()
        self.num_class = classes
        self.conv_block = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.LeakyReLU(0.01, inplace=True),
            nn.Conv2d(8, 8, 3, padding=1, bias=False),
        )
        self.res_block1 = _ResBlock(8, 12)
        self.res_block2 = _ResBlock(12, 16)
        self.res_block3 = _ResBlock(16, 16)
        self.pool_block = nn.Sequential(
            nn.BatchNorm2d(16),
            nn.LeakyReLU(0.01, inplace=True),
            nn.MaxPool2d((1, 4)),
            nn.Dropout(p=0.2),
        )
        self.width = 16 * (bands // 32)
        self.bilstm_classifier = nn.LSTM(self.width, 32, batch_first=True, bidirectional=True)
        self.classifier = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Any:
        """Pitches [batch, frames], features for other losses, pooled features."""
        x = x.float().transpose(-1, -2)
        seq_len = x.shape[-2]
        convblock_out = self.conv_block(x)
        resblock1_out = self.res_block1(convblock_out)
        resblock2_out = self.res_block2(resblock1_out)
        resblock3_out = self.res_block3(resblock2_out)
        poolblock_out = self.pool_block[0](resblock3_out)
        poolblock_out = self.pool_block[1](poolblock_out)
        gan_feature = poolblock_out.transpose(-1, -2)
        poolblock_out = self.pool_block[2](poolblock_out)
        classifier_out = (
            poolblock_out.permute(0, 2, 1, 3).contiguous().view((-1, seq_len, self.width))
        )
        classifier_out, _ = self.bilstm_classifier(classifier_out)
        classifier_out = classifier_out.contiguous().view((-1, 64))
        classifier_out = self.classifier(classifier_out)
        classifier_out = classifier_out.view((-1, seq_len, self.num_class))
        return torch.abs(classifier_out.squeeze()), gan_feature, poolblock_out


def _ids(length: int) -> Tensor:
    return torch.randint(1, TOKENS, (1, length))


def _masked(length: int) -> Inputs:
    return _ids(length), torch.tensor([length]), torch.zeros(1, length, dtype=torch.bool)


ARCHITECTURES = (
    Architecture(
        "Tacotron encoder, CBHG",
        "r9y9/tacotron_pytorch tacotron_pytorch/tacotron.py",
        TacotronEncoder,
        lambda length: (_ids(length), torch.tensor([length])),
        tokens,
    ),
    Architecture(
        "reference encoder of style tokens",
        "KinglittleQ/GST-Tacotron GST.py",
        ReferenceEncoder,
        lambda frames: (torch.randn(1, frames, 80),),
    ),
    Architecture(
        "StyleTTS, text encoder",
        "yl4579/StyleTTS models.py",
        StyleTextEncoder,
        _masked,
        tokens,
        columns,
    ),
    Architecture(
        "JDC, pitch of singing",
        "yl4579/StarGANv2-VC Utils/JDC/model.py",
        JdcNet,
        lambda frames: (torch.randn(1, 1, 80, frames),),
        image,
        lambda outputs: outputs[0].reshape(-1, 1),
    ),
)
"""In the order of the table."""

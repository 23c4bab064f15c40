"""Modules that pack sequences and mask by length, in the forms in which they are published."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

BANDS = 41
"""Frequencies of a spectrum that `DeepSpeech2` takes."""


class SequenceWise(nn.Module):
    """A module over the frames of all utterances in one dimension."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        frames, batch = x.size(0), x.size(1)
        return self.module(x.view(frames * batch, -1)).view(frames, batch, -1)


class MaskConv(nn.Module):
    """Convolutions, each followed by zeros beyond the end of every utterance."""

    def __init__(self, layers: nn.Sequential) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
            mask = torch.BoolTensor(x.size()).fill_(0)
            for i, length in enumerate(lengths):
                length = length.item()
                if mask[i].size(2) - length > 0:
                    mask[i].narrow(2, length, mask[i].size(2) - length).fill_(1)
            x = x.masked_fill(mask, 0)
        return x


class BatchRNN(nn.Module):
    """Batch norm and a recurrent layer over packed frames; both directions are summed."""

    def __init__(self, kind: type[nn.RNNBase], size: int, hidden: int, both: bool, norm: bool):
        super().__init__()
        self.norm = SequenceWise(nn.BatchNorm1d(size)) if norm else None
        self.rnn = kind(size, hidden, bidirectional=both)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        self.rnn.flatten_parameters()
        x = x if self.norm is None else self.norm(x)
        x, _ = pad_packed_sequence(self.rnn(pack_padded_sequence(x, lengths))[0])
        if self.rnn.bidirectional:
            x = x.view(x.size(0), x.size(1), 2, -1).sum(2).view(x.size(0), x.size(1), -1)
        return x


class DeepSpeech2(nn.Module):
    """Two convolutions, recurrent layers, one dense layer: Amodei et al. 2015, as ported to
    PyTorch."""

    def __init__(self, kind: type[nn.RNNBase], hidden: int, layers: int, both: bool) -> None:
        super().__init__()
        self.conv = MaskConv(
            nn.Sequential(
                *(nn.Conv2d(1, 4, (11, 11), (2, 2), (5, 5)), nn.BatchNorm2d(4)),
                nn.Hardtanh(0, 20, inplace=True),
                *(nn.Conv2d(4, 4, (7, 11), (2, 1), (3, 5)), nn.BatchNorm2d(4)),
                nn.Hardtanh(0, 20, inplace=True),
            )
        )
        size = 4 * math.ceil(math.ceil(BANDS / 2) / 2)
        sizes = [size, *[hidden] * (layers - 1)]
        self.rnns = nn.Sequential(
            *(BatchRNN(kind, each, hidden, both, i > 0) for i, each in enumerate(sizes))
        )
        self.lookahead = None if both else nn.Conv1d(hidden, hidden, 4, groups=hidden, bias=False)
        self.out = SequenceWise(
            nn.Sequential(nn.BatchNorm1d(hidden), nn.Linear(hidden, 9, bias=False))
        )

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        lengths = self.lengths_after(lengths.cpu().int())
        x = self.conv(x, lengths)
        x = x.view(x.size(0), x.size(1) * x.size(2), x.size(3))
        x = x.transpose(1, 2).transpose(0, 1).contiguous()
        for rnn in self.rnns:
            x = rnn(x, lengths)
        if self.lookahead is not None:
            x = self.lookahead(F.pad(x.permute(1, 2, 0), (0, 3), value=0))
            x = x.permute(2, 0, 1).contiguous()
        x = self.out(x).transpose(0, 1)
        return (x if self.training else F.softmax(x, dim=-1)), lengths

    def lengths_after(self, lengths: Tensor) -> Tensor:
        for layer in self.conv.modules():
            if type(layer) is nn.Conv2d:
                reach = layer.dilation[1] * (layer.kernel_size[1] - 1)
                lengths = lengths + 2 * layer.padding[1] - reach - 1
                lengths = torch.div(lengths, layer.stride[1], rounding_mode="floor") + 1
        return lengths.int()


class Pyramid(nn.Module):
    """Packed recurrent layers, each with a projection, some of them with every second frame."""

    def __init__(self, size: int) -> None:
        super().__init__()
        sizes = [size, 8, 8]
        self.rnns = nn.ModuleList(
            nn.LSTM(each, 5, batch_first=True, bidirectional=True) for each in sizes
        )
        self.projections = nn.ModuleList(nn.Linear(10, 8) for _ in sizes)
        self.every = (1, 2, 1)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        for rnn, projection, every in zip(self.rnns, self.projections, self.every, strict=True):
            packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True)
            padded, lengths = pad_packed_sequence(rnn(packed)[0], batch_first=True)
            if every > 1:
                padded = padded[:, ::every]
                lengths = torch.tensor([int(n + 1) // every for n in lengths])
            projected = projection(padded.contiguous().view(-1, padded.size(2)))
            x = torch.tanh(projected.view(padded.size(0), padded.size(1), -1))
        return x, lengths


class OnPackedData(nn.Module):
    """Layers over the data of a packed sequence, in any order of the utterances."""

    def __init__(self, size: int, batch_first: bool) -> None:
        super().__init__()
        self.batch_first = batch_first
        self.rnn = nn.GRU(size, 5, 2, batch_first=batch_first, bidirectional=True)
        self.out = nn.Linear(10, 4)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        frames = x.size(1)
        x = x if self.batch_first else x.transpose(0, 1)
        packed = pack_padded_sequence(x, lengths.tolist(), self.batch_first, enforce_sorted=False)
        packed, _ = self.rnn(packed)
        packed = PackedSequence(
            F.relu(self.out(packed.data)),
            packed.batch_sizes,
            packed.sorted_indices,
            packed.unsorted_indices,
        )
        x, _ = pad_packed_sequence(packed, self.batch_first, total_length=frames)
        return x if self.batch_first else x.transpose(0, 1)

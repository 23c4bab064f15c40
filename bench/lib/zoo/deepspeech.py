"""The DeepSpeech family: convolutions over spectrograms, packed recurrent layers, CTC."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.zoo.architecture import Architecture, Inputs, channel_of_frames, image

LABELS = 29


@dataclass(frozen=True)
class Size:
    """How large a deepspeech.pytorch is."""

    bands: int = 41
    channels: int = 8
    hidden: int = 64
    layers: int = 3


SMALL = Size()
PUBLISHED = Size(bands=161, channels=32, hidden=1024, layers=5)


class _MaskConv(nn.Module):
    def __init__(self, stack: nn.Sequential) -> None:
        super().__init__()
        self.seq_module = stack

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        for module in self.seq_module:
            x = module(x)
            mask = torch.BoolTensor(x.size()).fill_(0)
            if x.is_cuda:
                mask = mask.cuda()
            for i, length in enumerate(lengths):
                valid = length.item()
                beyond = mask[i].size(2) - valid
                if beyond > 0:
                    mask[i].narrow(2, valid, beyond).fill_(1)
            x = x.masked_fill(mask, 0)
        return x, lengths


class _SequenceWise(nn.Module):
    """A module on all frames of all utterances at once."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        t, n = x.size(0), x.size(1)
        x = x.view(t * n, -1)
        x = self.module(x)
        return x.view(t, n, -1)


class _BatchRNN(nn.Module):
    def __init__(
        self, kind: type[nn.RNNBase], size: int, hidden: int, bidirectional: bool, norm: bool
    ) -> None:
        super().__init__()
        self.bidirectional = bidirectional
        self.batch_norm = _SequenceWise(nn.BatchNorm1d(size)) if norm else None
        self.rnn = kind(  # type: ignore[call-arg]
            input_size=size, hidden_size=hidden, bidirectional=bidirectional, bias=True
        )

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        if self.batch_norm is not None:
            x = self.batch_norm(x)
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths)
        packed, _ = self.rnn(packed)
        x, _ = nn.utils.rnn.pad_packed_sequence(packed)
        if self.bidirectional:
            x = x.view(x.size(0), x.size(1), 2, -1).sum(2).view(x.size(0), x.size(1), -1)
        return x


class _Lookahead(nn.Module):
    def __init__(self, size: int, context: int) -> None:
        super().__init__()
        self.pad = (0, context - 1)
        self.conv = nn.Conv1d(size, size, kernel_size=context, groups=size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(0, 1).transpose(1, 2)
        x = F.pad(x, pad=self.pad, value=0)
        x = self.conv(x)
        return x.transpose(1, 2).transpose(0, 1).contiguous()


class _InferenceSoftmax(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if self.training else F.softmax(x, dim=-1)


def _convolutions(count: int, channels: int) -> nn.Sequential:
    shapes = [((41, 11), (2, 2), (20, 5)), *[((21, 11), (2, 1), (10, 5))] * (count - 1)]
    parts: list[nn.Module] = []
    for i, (kernel, stride, padding) in enumerate(shapes):
        parts += [
            nn.Conv2d(channels if i else 1, channels, kernel, stride=stride, padding=padding),
            nn.BatchNorm2d(channels),
            nn.Hardtanh(0, 20, inplace=True),
        ]
    return nn.Sequential(*parts)


class DeepSpeech(nn.Module):
    """deepspeech.pytorch: spectrograms [batch, 1, bands, frames] and their lengths."""

    def __init__(
        self,
        kind: type[nn.RNNBase],
        bidirectional: bool,
        convolutions: int = 2,
        size: Size = SMALL,
    ) -> None:
        super().__init__()
        hidden = size.hidden
        self.bidirectional = bidirectional
        self.conv = _MaskConv(_convolutions(convolutions, size.channels))
        bands = size.bands
        for _ in range(convolutions):
            bands = (bands - 1) // 2 + 1
        sizes = [bands * size.channels, *[hidden] * (size.layers - 1)]
        self.rnns = nn.Sequential(
            *(_BatchRNN(kind, n, hidden, bidirectional, bool(i)) for i, n in enumerate(sizes))
        )
        self.lookahead = (
            None
            if bidirectional
            else nn.Sequential(_Lookahead(hidden, 20), nn.Hardtanh(0, 20, inplace=True))
        )
        dense = nn.Sequential(nn.BatchNorm1d(hidden), nn.Linear(hidden, LABELS, bias=False))
        self.fc = nn.Sequential(_SequenceWise(dense))
        self.inference_softmax = _InferenceSoftmax()

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities [batch, frames', labels], and their lengths."""
        lengths = lengths.cpu().int()
        output_lengths = self._output_lengths(lengths)
        x, _ = self.conv(x, output_lengths)
        sizes = x.size()
        x = x.view(sizes[0], sizes[1] * sizes[2], sizes[3])
        x = x.transpose(1, 2).transpose(0, 1).contiguous()
        for rnn in self.rnns:
            x = rnn(x, output_lengths)
        if self.lookahead is not None:
            x = self.lookahead(x)
        x = self.fc(x)
        x = x.transpose(0, 1)
        return self.inference_softmax(x), output_lengths

    def _output_lengths(self, lengths: Tensor) -> Tensor:
        for m in self.conv.modules():
            if isinstance(m, nn.Conv2d):
                reach = m.dilation[1] * (m.kernel_size[1] - 1)
                lengths = (lengths + 2 * int(m.padding[1]) - reach - 1) // m.stride[1] + 1
        return lengths.int()


class _FullyConnected(nn.Module):
    def __init__(self, size: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.fc = nn.Linear(size, hidden, bias=True)
        self.relu_max_clip = 20
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc(x)
        x = F.relu(x)
        x = F.hardtanh(x, 0, self.relu_max_clip)
        if self.dropout:
            x = F.dropout(x, self.dropout, self.training)
        return x


class TorchaudioDeepSpeech(nn.Module):
    """torchaudio's DeepSpeech: features [batch, 1, frames, size]."""

    def __init__(self, size: int = 26, hidden: int = 96, dropout: float = 0.1) -> None:
        super().__init__()
        self.n_hidden = hidden
        self.fc1 = _FullyConnected(size, hidden, dropout)
        self.fc2 = _FullyConnected(hidden, hidden, dropout)
        self.fc3 = _FullyConnected(hidden, hidden, dropout)
        self.bi_rnn = nn.RNN(hidden, hidden, num_layers=1, nonlinearity="relu", bidirectional=True)
        self.fc4 = _FullyConnected(hidden, hidden, dropout)
        self.out = nn.Linear(hidden, LABELS)

    def forward(self, x: Tensor) -> Tensor:
        """Log-probabilities [batch, frames, labels]."""
        x = self.fc1(x)
        x = self.fc2(x)
        x = self.fc3(x)
        x = x.squeeze(1)
        x = x.transpose(0, 1)
        x, _ = self.bi_rnn(x)
        x = x[:, :, : self.n_hidden] + x[:, :, self.n_hidden :]
        x = self.fc4(x)
        x = self.out(x)
        x = x.permute(1, 0, 2)
        return F.log_softmax(x, dim=2)


def _spectrogram(frames: int, bands: int = SMALL.bands) -> Inputs:
    return torch.randn(1, 1, bands, frames), torch.tensor([frames])


ARCHITECTURES = (
    Architecture(
        "deepspeech.pytorch, BiLSTM",
        "SeanNaren/deepspeech.pytorch deepspeech_pytorch/model.py",
        lambda: DeepSpeech(nn.LSTM, bidirectional=True),
        _spectrogram,
        image,
    ),
    Architecture(
        "deepspeech.pytorch, LSTM with lookahead",
        "SeanNaren/deepspeech.pytorch deepspeech_pytorch/model.py",
        lambda: DeepSpeech(nn.LSTM, bidirectional=False),
        _spectrogram,
        image,
    ),
    Architecture(
        "DanSpeech, BiGRU",
        "danspeech/danspeech danspeech/deepspeech/model.py",
        lambda: DeepSpeech(nn.GRU, bidirectional=True, convolutions=3),
        _spectrogram,
        image,
    ),
    Architecture(
        "DeepSpeech of torchaudio",
        "pytorch/audio torchaudio/models/deepspeech.py",
        TorchaudioDeepSpeech,
        lambda frames: (torch.randn(1, 1, frames, 26),),
        channel_of_frames,
    ),
)
"""In the order of the table."""

LARGE = Architecture(
    "deepspeech.pytorch, BiLSTM, as published",
    "SeanNaren/deepspeech.pytorch deepspeech_pytorch/model.py",
    lambda: DeepSpeech(nn.LSTM, bidirectional=True, size=PUBLISHED),
    lambda frames: _spectrogram(frames, PUBLISHED.bands),
    image,
)
"""At the width of its repository, for what importing takes."""

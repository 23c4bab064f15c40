"""Sound events and music: convolutional recurrent networks over spectrograms."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.zoo.architecture import (
    Architecture,
    channel_of_frames,
    channels_of_frames,
)

BANDS = 64


class _ConvBlock(nn.Module):
    def __init__(self, size: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(size, out, (3, 3), stride=(1, 1), padding=(1, 1))
        self.bn = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu_(self.bn(self.conv(x)))


class SeldNet(nn.Module):
    """SELDnet: features of channels [batch, channels, frames, bands]."""

    def __init__(self, channels: int = 4, filters: int = 12, hidden: int = 48) -> None:
        super().__init__()
        self.conv_block_list = nn.ModuleList()
        for i, (t_pool, f_pool) in enumerate(((2, 4), (1, 4), (1, 2))):
            self.conv_block_list.append(_ConvBlock(filters if i else channels, filters))
            self.conv_block_list.append(nn.MaxPool2d((t_pool, f_pool)))
            self.conv_block_list.append(nn.Dropout2d(p=0.05))
        self.in_gru_size = filters * int(BANDS / 32)
        self.gru = nn.GRU(
            input_size=self.in_gru_size,
            hidden_size=hidden,
            num_layers=2,
            batch_first=True,
            dropout=0.05,
            bidirectional=True,
        )
        self.fnn_list = nn.ModuleList([nn.Linear(hidden, 64, bias=True), nn.Linear(64, 36)])

    def forward(self, x: Tensor) -> Tensor:
        """Directions of sounds [batch, frames', 3 * classes]."""
        for conv_cnt in range(len(self.conv_block_list)):
            x = self.conv_block_list[conv_cnt](x)
        x = x.transpose(1, 2).contiguous()
        x = x.view(x.shape[0], x.shape[1], -1).contiguous()
        (x, _) = self.gru(x)
        x = torch.tanh(x)
        x = x[:, :, x.shape[-1] // 2 :] * x[:, :, : x.shape[-1] // 2]
        for fnn_cnt in range(len(self.fnn_list) - 1):
            x = self.fnn_list[fnn_cnt](x)
        return torch.tanh(self.fnn_list[-1](x))


class _GLU(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.sigmoid = nn.Sigmoid()
        self.linear = nn.Linear(size, size)

    def forward(self, x: Tensor) -> Any:
        lin = self.linear(x.permute(0, 2, 3, 1))
        lin = lin.permute(0, 3, 1, 2)
        sig = self.sigmoid(x)
        res = lin * sig
        return res


class _Cnn(nn.Module):
    def __init__(self, filters: list[int], poolings: list[tuple[int, int]]) -> None:
        super().__init__()
        cnn = nn.Sequential()
        for i, (filter, pooling) in enumerate(zip(filters, poolings, strict=True)):
            cnn.add_module(f"conv{i}", nn.Conv2d(filters[i - 1] if i else 1, filter, 3, 1, 1))
            cnn.add_module(f"batchnorm{i}", nn.BatchNorm2d(filter, eps=0.001, momentum=0.99))
            cnn.add_module(f"glu{i}", _GLU(filter))
            cnn.add_module(f"dropout{i}", nn.Dropout(0.5))
            cnn.add_module(f"pooling{i}", nn.AvgPool2d(pooling))
        self.cnn = cnn

    def forward(self, x: Tensor) -> Any:
        return self.cnn(x)


class _BidirectionalGRU(nn.Module):
    def __init__(self, size: int, hidden: int) -> None:
        super().__init__()
        self.rnn = nn.GRU(size, hidden, bidirectional=True, batch_first=True, num_layers=2)

    def forward(self, x: Tensor) -> Any:
        recurrent, _ = self.rnn(x)
        return recurrent


class DcaseCrnn(nn.Module):
    """DCASE's baseline: log mel powers [batch, 1, frames, bands]."""

    def __init__(self, hidden: int = 48, classes: int = 10) -> None:
        super().__init__()
        self.cnn = _Cnn([8, 12, 16, 24], [(2, 2), (2, 4), (1, 4), (1, 2)])
        self.rnn = _BidirectionalGRU(24, hidden)
        self.dropout = nn.Dropout(0.5)
        self.dense = nn.Linear(hidden * 2, classes)
        self.sigmoid = nn.Sigmoid()
        self.dense_softmax = nn.Linear(hidden * 2, classes)
        self.softmax = nn.Softmax(dim=-1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Strong labels [batch, frames', classes] and weak ones [batch, classes]."""
        x = self.cnn(x)
        bs, chan, frames, freq = x.size()
        if freq != 1:
            x = x.permute(0, 2, 1, 3)
            x = x.contiguous().view(bs, frames, chan * freq)
        else:
            x = x.squeeze(-1)
            x = x.permute(0, 2, 1)
        x = self.rnn(x)
        x = self.dropout(x)
        strong = self.dense(x)
        strong = self.sigmoid(strong)
        sof = self.dense_softmax(x)
        sof = self.softmax(sof)
        sof = torch.clamp(sof, min=1e-7, max=1)
        weak = (strong * sof).sum(1) / sof.sum(1)
        return strong, weak


class _PannsBlock(nn.Module):
    def __init__(self, size: int, out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(size, out, (3, 3), (1, 1), (1, 1), bias=False)
        self.conv2 = nn.Conv2d(out, out, (3, 3), (1, 1), (1, 1), bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.bn2 = nn.BatchNorm2d(out)

    def forward(self, input: Tensor, pool_size: Any = (2, 2), pool_type: Any = "avg") -> Tensor:
        x = input
        x = F.relu_(self.bn1(self.conv1(x)))
        x = F.relu_(self.bn2(self.conv2(x)))
        if pool_type == "max":
            x = F.max_pool2d(x, kernel_size=pool_size)
        elif pool_type == "avg":
            x = F.avg_pool2d(x, kernel_size=pool_size)
        elif pool_type == "avg+max":
            x1 = F.avg_pool2d(x, kernel_size=pool_size)
            x2 = F.max_pool2d(x, kernel_size=pool_size)
            x = x1 + x2
        return x


class _AttBlock(nn.Module):
    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.temperature = 1.0
        self.att = nn.Conv1d(n_in, n_out, 1)
        self.cla = nn.Conv1d(n_in, n_out, 1)
        self.bn_att = nn.BatchNorm1d(n_out)

    def forward(self, x: Tensor) -> Any:
        norm_att = torch.softmax(torch.clamp(self.att(x), -10, 10), dim=-1)
        cla = torch.sigmoid(self.cla(x))
        x = torch.sum(norm_att * cla, dim=2)
        return x, norm_att, cla


class GruFrameAtt(nn.Module):
    """Sound event detection after PANNs: log mel powers [batch, 1, frames, bands]."""

    def __init__(self, classes: int = 12) -> None:
        super().__init__()
        self.bn0 = nn.BatchNorm2d(BANDS)
        self.conv_block1 = _PannsBlock(1, 16)
        self.conv_block2 = _PannsBlock(16, 24)
        self.conv_block3 = _PannsBlock(24, 32)
        self.gru = nn.GRU(32, 32, 1, bias=True, batch_first=True, bidirectional=True)
        self.fc1 = nn.Linear(64, 64)
        self.att_block = _AttBlock(64, classes)

    def forward(self, x: Tensor) -> Any:
        """Probabilities [batch, classes]."""
        x = x.transpose(1, 3)
        x = self.bn0(x)
        x = x.transpose(1, 3)
        x = self.conv_block1(x, pool_size=(2, 2), pool_type="avg")
        x = F.dropout(x, p=0.2, training=self.training)
        x = self.conv_block2(x, pool_size=(2, 2), pool_type="avg+max")
        x = F.dropout(x, p=0.2, training=self.training)
        x = self.conv_block3(x, pool_size=(1, 1), pool_type="avg")
        x = torch.mean(x, dim=3)
        x = x.transpose(1, 2)
        (x, _) = self.gru(x)
        x = F.dropout(x, p=0.5, training=self.training)
        x = F.relu_(self.fc1(x))
        x = x.transpose(1, 2)
        x1 = F.max_pool1d(x, kernel_size=3, stride=1, padding=1)
        x2 = F.avg_pool1d(x, kernel_size=3, stride=1, padding=1)
        x = x1 + x2
        clipwise_output, _, _ = self.att_block(x)
        return clipwise_output


class _ConvStack(nn.Module):
    def __init__(self, size: int, out: int, filters: int = 8) -> None:
        super().__init__()
        self.cnn = nn.Sequential(
            nn.Conv2d(1, filters, (3, 3), padding=1), nn.BatchNorm2d(filters), nn.ReLU(),
            nn.Conv2d(filters, filters, (3, 3), padding=1), nn.BatchNorm2d(filters), nn.ReLU(),
            nn.MaxPool2d((1, 2)), nn.Dropout(0.25),
            nn.Conv2d(filters, 2 * filters, (3, 3), padding=1), nn.BatchNorm2d(2 * filters),
            nn.ReLU(), nn.MaxPool2d((1, 2)), nn.Dropout(0.25),
        )  # fmt: skip
        self.fc = nn.Sequential(nn.Linear(2 * filters * (size // 4), out), nn.Dropout(0.5))

    def forward(self, mel: Tensor) -> Any:
        x = mel.view(mel.size(0), 1, mel.size(1), mel.size(2))
        x = self.cnn(x)
        x = x.transpose(1, 2).flatten(-2)
        x = self.fc(x)
        return x


class _ChunkedBiLSTM(nn.Module):
    inference_chunk_length = 512

    def __init__(self, size: int, hidden: int) -> None:
        super().__init__()
        self.rnn = nn.LSTM(size, hidden, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor) -> Any:
        if self.training:
            return self.rnn(x)[0]
        batch_size, sequence_length = x.size(0), x.size(1)
        hidden_size = self.rnn.hidden_size
        num_directions = 2 if self.rnn.bidirectional else 1
        h = torch.zeros(num_directions, batch_size, hidden_size, device=x.device)
        c = torch.zeros(num_directions, batch_size, hidden_size, device=x.device)
        output = torch.zeros(
            batch_size, sequence_length, num_directions * hidden_size, device=x.device
        )
        slices = range(0, sequence_length, self.inference_chunk_length)
        for start in slices:
            end = start + self.inference_chunk_length
            output[:, start:end, :], (h, c) = self.rnn(x[:, start:end, :], (h, c))
        if self.rnn.bidirectional:
            h.zero_()
            c.zero_()
            for start in reversed(slices):
                end = start + self.inference_chunk_length
                result, (h, c) = self.rnn(x[:, start:end, :], (h, c))
                output[:, start:end, hidden_size:] = result[:, :, hidden_size:]
        return output


class OnsetsAndFrames(nn.Module):
    """Onsets and Frames: mel powers [batch, frames, bands], the keys of a piano."""

    def __init__(self, keys: int = 24, width: int = 48) -> None:
        super().__init__()
        self.onset_stack = nn.Sequential(
            _ConvStack(BANDS, width),
            _ChunkedBiLSTM(width, width // 2),
            nn.Linear(width, keys),
            nn.Sigmoid(),
        )
        self.offset_stack = nn.Sequential(
            _ConvStack(BANDS, width),
            _ChunkedBiLSTM(width, width // 2),
            nn.Linear(width, keys),
            nn.Sigmoid(),
        )
        self.frame_stack = nn.Sequential(
            _ConvStack(BANDS, width), nn.Linear(width, keys), nn.Sigmoid()
        )
        self.combined_stack = nn.Sequential(
            _ChunkedBiLSTM(keys * 3, width // 2), nn.Linear(width, keys), nn.Sigmoid()
        )
        self.velocity_stack = nn.Sequential(_ConvStack(BANDS, width), nn.Linear(width, keys))

    def forward(self, mel: Tensor) -> Any:
        """Onsets, offsets, sounding, frames and velocities, each [batch, frames, keys]."""
        onset_pred = self.onset_stack(mel)
        offset_pred = self.offset_stack(mel)
        activation_pred = self.frame_stack(mel)
        combined_pred = torch.cat(
            [onset_pred.detach(), offset_pred.detach(), activation_pred], dim=-1
        )
        frame_pred = self.combined_stack(combined_pred)
        velocity_pred = self.velocity_stack(mel)
        return frame_pred, onset_pred, offset_pred, activation_pred, velocity_pred


ARCHITECTURES = (
    Architecture(
        "SELDnet",
        "sharathadavanne/seld-dcase2022 seldnet_model.py",
        SeldNet,
        lambda frames: (torch.randn(1, 4, frames, BANDS),),
        channels_of_frames,
        lengths=(48, 96, 76),
    ),
    Architecture(
        "CRNN of DCASE, gated",
        "turpaultn/DCASE2019_task4 baseline/models/CRNN.py",
        DcaseCrnn,
        lambda frames: (torch.randn(1, 1, frames, BANDS),),
        channel_of_frames,
    ),
    Architecture(
        "PANNs, GRU with frame attention",
        "qiuqiangkong/sound_event_detection_dcase2017_task4 pytorch/models.py",
        GruFrameAtt,
        lambda frames: (torch.randn(1, 1, frames, BANDS),),
        channel_of_frames,
    ),
    Architecture(
        "Onsets and Frames",
        "jongwook/onsets-and-frames onsets_and_frames/transcriber.py",
        OnsetsAndFrames,
        lambda frames: (torch.randn(1, frames, BANDS),),
    ),
)
"""In the order of the table."""

"""Noise suppression and source separation."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.zoo.architecture import Architecture, columns, image

BINS = 65


class DtlnCore(nn.Module):
    """The first core of DTLN: magnitudes [batch, frames, bins] and states [2, batch, hidden, 2]."""

    def __init__(self, hidden: int = 64) -> None:
        super().__init__()
        self.rnn1 = nn.LSTM(BINS, hidden, num_layers=1, batch_first=True)
        self.rnn2 = nn.LSTM(hidden, hidden, num_layers=1, batch_first=True)
        self.drop = nn.Dropout(0.25)
        self.dense = nn.Linear(hidden, BINS)
        self.sigmoid = nn.Sigmoid()

    def forward(self, mag: Tensor, in_states: Tensor) -> tuple[Tensor, Tensor]:
        """Estimated magnitudes, and the next states."""
        h1_in, c1_in = in_states[:1, :, :, 0], in_states[:1, :, :, 1]
        h2_in, c2_in = in_states[1:, :, :, 0], in_states[1:, :, :, 1]
        x1, (h1, c1) = self.rnn1(mag, (h1_in, c1_in))
        x1 = self.drop(x1)
        x2, (h2, c2) = self.rnn2(x1, (h2_in, c2_in))
        x2 = self.drop(x2)
        mask = self.dense(x2)
        mask = self.sigmoid(mask)
        estimated_mag = mask * mag
        h = torch.cat((h1, h2), dim=0)
        c = torch.cat((c1, c2), dim=0)
        return estimated_mag, torch.stack((h, c), dim=-1)


class RnNoise(nn.Module):
    """RNNoise: features [batch, frames, 65], gains of four frames fewer."""

    def __init__(self, cond: int = 48, hidden: int = 64) -> None:
        super().__init__()
        self.gru_size = hidden
        self.conv1 = nn.Conv1d(65, cond, kernel_size=3, padding="valid")
        self.conv2 = nn.Conv1d(cond, hidden, kernel_size=3, padding="valid")
        self.gru1 = nn.GRU(hidden, hidden, batch_first=True)
        self.gru2 = nn.GRU(hidden, hidden, batch_first=True)
        self.gru3 = nn.GRU(hidden, hidden, batch_first=True)
        self.dense_out = nn.Linear(4 * hidden, 32)
        self.vad_dense = nn.Linear(4 * hidden, 1)

    def forward(self, features: Tensor, states: Any = None) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Gains [batch, frames', 32], speech probabilities, and the states of the layers."""
        device, batch_size = features.device, features.size(0)
        if states is None:
            gru1_state = torch.zeros((1, batch_size, self.gru_size), device=device)
            gru2_state = torch.zeros((1, batch_size, self.gru_size), device=device)
            gru3_state = torch.zeros((1, batch_size, self.gru_size), device=device)
        else:
            gru1_state, gru2_state, gru3_state = states[0], states[1], states[2]
        tmp = features.permute(0, 2, 1)
        tmp = torch.tanh(self.conv1(tmp))
        tmp = torch.tanh(self.conv2(tmp))
        tmp = tmp.permute(0, 2, 1)
        gru1_out, gru1_state = self.gru1(tmp, gru1_state)
        gru2_out, gru2_state = self.gru2(gru1_out, gru2_state)
        gru3_out, gru3_state = self.gru3(gru2_out, gru3_state)
        out_cat = torch.cat([tmp, gru1_out, gru2_out, gru3_out], dim=-1)
        gain = torch.sigmoid(self.dense_out(out_cat))
        vad = torch.sigmoid(self.vad_dense(out_cat))
        return gain, vad, [gru1_state, gru2_state, gru3_state]


class NsNet2(nn.Module):
    """NSNet2: log powers [batch, frames, bins]."""

    def __init__(self, hidden: int = 64, dense: int = 96) -> None:
        super().__init__()
        self.fc1 = nn.Linear(BINS, hidden)
        self.rnn1 = nn.GRU(hidden, hidden, num_layers=1, batch_first=True)
        self.rnn2 = nn.GRU(hidden, hidden, num_layers=1, batch_first=True)
        self.fc2 = nn.Linear(hidden, dense)
        self.fc3 = nn.Linear(dense, dense)
        self.fc4 = nn.Linear(dense, BINS)

    def forward(self, x: Tensor) -> Tensor:
        """Gains [batch, frames, bins]."""
        x = self.fc1(x)
        x, _ = self.rnn1(x)
        x, _ = self.rnn2(x)
        x = F.relu(self.fc2(x))
        x = F.relu(self.fc3(x))
        return torch.sigmoid(self.fc4(x))


class PercepNet(nn.Module):
    """PercepNet: features [batch, frames, 70], gains and pitch strengths of six frames fewer."""

    def __init__(self, dense: int = 48, hidden: int = 64) -> None:
        super().__init__()
        self.fc = nn.Sequential(nn.Linear(70, dense), nn.Sigmoid())
        self.conv1 = nn.Conv1d(dense, hidden, 5, stride=1)
        self.conv2 = nn.Conv1d(hidden, hidden, 3, stride=1)
        self.gru = nn.GRU(hidden, hidden, 3, batch_first=True)
        self.gru_gb = nn.GRU(hidden, hidden, 1, batch_first=True)
        self.gru_rb = nn.GRU(hidden, dense, 1, batch_first=True)
        self.fc_gb = nn.Sequential(nn.Linear(hidden, 34), nn.Sigmoid())
        self.fc_rb = nn.Sequential(nn.Linear(dense, 34), nn.Sigmoid())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Both [batch, frames', 34]."""
        x = self.fc(x)
        x = x.permute([0, 2, 1])
        x = self.conv1(x)
        convout = self.conv2(x)
        convout = convout.permute([0, 2, 1])
        gruout, _ = self.gru(convout)
        rnn_gb_out = self.gru_gb(gruout)
        gb = self.fc_gb(rnn_gb_out[0])
        rnn_rb_out = self.gru_rb(gruout)
        rb = self.fc_rb(rnn_rb_out[0])
        return gb, rb


class _CausalConv(nn.Module):
    def __init__(self, size: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(size, out, kernel_size=(3, 2), stride=(2, 1), padding=(0, 1))
        self.norm = nn.BatchNorm2d(out)
        self.activation = nn.ELU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        x = x[:, :, :, :-1]  # the frame that the padding adds at the end
        x = self.norm(x)
        activated: Tensor = self.activation(x)
        return activated


class _CausalTransposedConv(nn.Module):
    def __init__(self, size: int, out: int, last: bool, more: tuple[int, int] = (0, 0)) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(
            size, out, kernel_size=(3, 2), stride=(2, 1), output_padding=more
        )
        self.norm = nn.BatchNorm2d(out)
        self.activation = nn.ReLU() if last else nn.ELU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        x = x[:, :, :, :-1]
        x = self.norm(x)
        activated: Tensor = self.activation(x)
        return activated


class Crn(nn.Module):
    """A convolutional recurrent network: magnitudes [batch, 1, 161, frames]."""

    def __init__(self) -> None:
        super().__init__()
        channels = (1, 4, 8, 8, 16, 16)
        self.encoder = nn.ModuleList(_CausalConv(channels[i], channels[i + 1]) for i in range(5))
        self.lstm = nn.LSTM(64, 64, 2, batch_first=True)
        decoder = []
        for i in reversed(range(5)):
            more = (1, 0) if i == 1 else (0, 0)
            decoder.append(_CausalTransposedConv(2 * channels[i + 1], channels[i], i == 0, more))
        self.decoder = nn.ModuleList(decoder)

    def forward(self, x: Tensor) -> Tensor:
        """Estimated magnitudes of the same shape."""
        skips = []
        for layer in self.encoder:
            x = layer(x)
            skips.append(x)
        batch_size, n_channels, n_f_bins, n_frame_size = x.shape
        lstm_in = x.reshape(batch_size, n_channels * n_f_bins, n_frame_size).permute(0, 2, 1)
        lstm_out, _ = self.lstm(lstm_in)
        x = lstm_out.permute(0, 2, 1).reshape(batch_size, n_channels, n_f_bins, n_frame_size)
        for layer, skip in zip(self.decoder, reversed(skips), strict=True):
            x = layer(torch.cat((x, skip), 1))
        return x


class OpenUnmix(nn.Module):
    """Open-Unmix: stereo magnitudes [batch, 2, bins, frames]."""

    def __init__(self, hidden: int = 64, bandwidth: int = 49) -> None:
        super().__init__()
        self.nb_output_bins, self.nb_bins, self.hidden_size = BINS, bandwidth, hidden
        self.fc1 = nn.Linear(bandwidth * 2, hidden, bias=False)
        self.bn1 = nn.BatchNorm1d(hidden)
        self.lstm = nn.LSTM(hidden, hidden // 2, 3, bidirectional=True, dropout=0.4)
        self.fc2 = nn.Linear(2 * hidden, hidden, bias=False)
        self.bn2 = nn.BatchNorm1d(hidden)
        self.fc3 = nn.Linear(hidden, BINS * 2, bias=False)
        self.bn3 = nn.BatchNorm1d(BINS * 2)
        self.input_mean = nn.Parameter(torch.randn(bandwidth))
        self.input_scale = nn.Parameter(torch.rand(bandwidth) + 0.5)
        self.output_scale = nn.Parameter(torch.ones(BINS))
        self.output_mean = nn.Parameter(torch.ones(BINS))

    def forward(self, x: Tensor) -> Tensor:
        """Magnitudes of the target, of the same shape."""
        x = x.permute(3, 0, 1, 2)
        nb_frames, nb_samples, nb_channels, _ = x.data.shape
        mix = x.detach().clone()
        x = x[..., : self.nb_bins]
        x = x + self.input_mean
        x = x * self.input_scale
        x = self.fc1(x.reshape(-1, nb_channels * self.nb_bins))
        x = self.bn1(x)
        x = x.reshape(nb_frames, nb_samples, self.hidden_size)
        x = torch.tanh(x)
        lstm_out = self.lstm(x)
        x = torch.cat([x, lstm_out[0]], -1)
        x = self.fc2(x.reshape(-1, x.shape[-1]))
        x = self.bn2(x)
        x = F.relu(x)
        x = self.fc3(x)
        x = self.bn3(x)
        x = x.reshape(nb_frames, nb_samples, nb_channels, self.nb_output_bins)
        x *= self.output_scale
        x += self.output_mean
        x = F.relu(x) * mix
        return x.permute(1, 2, 3, 0)


class _GroupedGRULayer(nn.Module):
    def __init__(self, size: int, hidden: int, groups: int) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.groups = size // groups, hidden // groups, groups
        self.layers = nn.ModuleList(
            nn.GRU(self.input_size, self.hidden_size, batch_first=True) for _ in range(groups)
        )

    def forward(self, input: Tensor, h0: Tensor) -> tuple[Tensor, Tensor]:
        outputs, outstates = [], []
        for i, layer in enumerate(self.layers):
            o, s = layer(
                input[..., i * self.input_size : (i + 1) * self.input_size],
                h0[i : i + 1].detach(),
            )
            outputs.append(o)
            outstates.append(s)
        return torch.cat(outputs, dim=-1), torch.cat(outstates, dim=0)


class _GroupedLinear(nn.Module):
    def __init__(self, size: int, hidden: int, groups: int) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.groups = size // groups, hidden // groups, groups
        self.layers = nn.ModuleList(
            nn.Linear(self.input_size, self.hidden_size) for _ in range(groups)
        )

    def forward(self, x: Tensor) -> Tensor:
        outputs = []
        for i, layer in enumerate(self.layers):
            outputs.append(layer(x[..., i * self.input_size : (i + 1) * self.input_size]))
        output = torch.cat(outputs, dim=-1)
        orig_shape = output.shape
        return output.view(-1, self.hidden_size, self.groups).transpose(-1, -2).reshape(orig_shape)


class GroupedGRU(nn.Module):
    """DeepFilterNet's grouped GRU, shuffled between layers, then grouped dense layers."""

    def __init__(self, size: int = 64, hidden: int = 128, layers: int = 3, groups: int = 4) -> None:
        super().__init__()
        self.groups, self.hidden_size = groups, hidden // groups
        self.grus = nn.ModuleList(
            _GroupedGRULayer(hidden if i else size, hidden, groups) for i in range(layers)
        )
        self.fc_emb = nn.Sequential(_GroupedLinear(hidden, size, groups), nn.ReLU(inplace=True))

    def forward(self, input: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Embeddings [batch, frames, size] and the states of the groups."""
        dim0, dim1, _ = input.shape
        if state is None:
            state = torch.zeros(len(self.grus) * self.groups, dim0, self.hidden_size)
        output = torch.zeros(dim0, dim1, self.hidden_size * self.groups)
        outstates = []
        for i, gru in enumerate(self.grus):
            input, s = gru(input, state[i * self.groups : (i + 1) * self.groups])
            outstates.append(s)
            if i < len(self.grus) - 1:
                input = (
                    input.view(dim0, dim1, -1, self.groups).transpose(2, 3).reshape(dim0, dim1, -1)
                )
            output += input
        return self.fc_emb(output), torch.cat(outstates, dim=0)


ARCHITECTURES = (
    Architecture(
        "DTLN, first core with states",
        "lhwcv/DTLN_pytorch DTLN_model.py",
        DtlnCore,
        lambda frames: (torch.rand(1, frames, BINS), torch.zeros(2, 1, 64, 2)),
    ),
    Architecture(
        "RNNoise",
        "xiph/rnnoise torch/rnnoise/rnnoise.py",
        RnNoise,
        lambda frames: (torch.randn(1, frames, 65),),
    ),
    Architecture(
        "NSNet2",
        "microsoft/DNS-Challenge NSNet2-baseline",
        NsNet2,
        lambda frames: (torch.randn(1, frames, BINS),),
    ),
    Architecture(
        "PercepNet",
        "jzi040941/PercepNet rnn_train.py",
        PercepNet,
        lambda frames: (torch.randn(1, frames, 70),),
    ),
    Architecture(
        "CRN",
        "haoxiangsnr/A-Convolutional-Recurrent-Neural-Network-for-Real-Time-Speech-Enhancement "
        "model/crn.py",
        Crn,
        lambda frames: (torch.rand(1, 1, 161, frames),),
        image,
        columns,
    ),
    Architecture(
        "Open-Unmix",
        "sigsep/open-unmix-pytorch openunmix/model.py",
        OpenUnmix,
        lambda frames: (torch.rand(1, 2, BINS, frames),),
        image,
        columns,
    ),
    Architecture(
        "DeepFilterNet, grouped GRU",
        "Rikorose/DeepFilterNet DeepFilterNet/df/modules.py",
        GroupedGRU,
        lambda frames: (torch.randn(1, frames, 64),),
    ),
)
"""In the order of the table."""

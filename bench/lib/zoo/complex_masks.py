"""Enhancement of real and imaginary parts, by complex masks and maps."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.zoo.architecture import (
    Architecture,
    channels_of_frames,
    columns,
    image,
)

EPS = 1e-8


class _GluConv(nn.Module):
    def __init__(self, i: int, o: int, kernel: Any, stride: Any, padding: Any = 0) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(i, o, kernel, stride, padding)
        self.conv2 = nn.Conv2d(i, o, kernel, stride, padding)
        self.sigmoid = nn.Sigmoid()

    def forward(self, inputs: Tensor) -> Any:
        main_conv = self.conv1(inputs)
        gate_conv = self.sigmoid(self.conv2(inputs))
        return main_conv * gate_conv


class _GluConvTranspose(nn.Module):
    def __init__(self, i: int, o: int, kernel: Any, stride: Any) -> None:
        super().__init__()
        self.conv1 = nn.ConvTranspose2d(i, o, kernel, stride)
        self.conv2 = nn.ConvTranspose2d(i, o, kernel, stride)
        self.sigmoid = nn.Sigmoid()

    def forward(self, inputs: Tensor) -> Any:
        return self.conv1(inputs) * self.sigmoid(self.conv2(inputs))


class _Glstm(nn.Module):
    def __init__(self, in_features: int, out_features: int, groups: int) -> None:
        super().__init__()
        hidden_size = out_features // groups
        self.lstm_list1 = nn.ModuleList(
            [nn.LSTM(hidden_size, hidden_size, 1, batch_first=True) for _ in range(groups)]
        )
        self.lstm_list2 = nn.ModuleList(
            [nn.LSTM(hidden_size, hidden_size, 1, batch_first=True) for _ in range(groups)]
        )
        self.ln1 = nn.LayerNorm(groups * hidden_size)
        self.ln2 = nn.LayerNorm(groups * hidden_size)
        self.groups = groups
        self.mid_features = in_features

    def forward(self, x: Any) -> Any:
        out = x
        out = out.transpose(1, 2).contiguous()
        out = out.view(out.size(0), out.size(1), -1).contiguous()
        out = torch.chunk(out, self.groups, dim=-1)
        out = torch.stack([self.lstm_list1[i](out[i])[0] for i in range(self.groups)], dim=-1)
        out = torch.flatten(out, start_dim=-2, end_dim=-1)
        out = self.ln1(out)
        out = torch.chunk(out, self.groups, dim=-1)
        out = torch.cat([self.lstm_list2[i](out[i])[0] for i in range(self.groups)], dim=-1)
        out = self.ln2(out)
        out = out.view(out.size(0), out.size(1), x.size(1), -1).contiguous()
        out = out.transpose(1, 2).contiguous()
        return out


class Gcrn(nn.Module):
    """GCRN: real and imaginary parts [batch, 2, frames, 65]."""

    def __init__(self) -> None:
        super().__init__()
        ch = (2, 12, 24, 32, 40)
        self.conv = nn.ModuleList([_GluConv(ch[i], ch[i + 1], (1, 3), (1, 2)) for i in range(4)])
        self.bn = nn.ModuleList([nn.BatchNorm2d(c) for c in ch[1:]])
        self.glstm = _Glstm(120, 120, 2)
        out = (32, 24, 12, 1)

        def dec() -> nn.ModuleList:
            sizes = [(2 * ch[4 - i], out[i]) for i in range(4)]
            return nn.ModuleList([_GluConvTranspose(*each, (1, 3), (1, 2)) for each in sizes])

        self.dec1, self.dec2 = dec(), dec()
        self.bn1 = nn.ModuleList([nn.BatchNorm2d(c) for c in out])
        self.bn2 = nn.ModuleList([nn.BatchNorm2d(c) for c in out])
        self.elu = nn.ELU(inplace=True)
        self.fc1 = nn.Linear(63, 63)
        self.fc2 = nn.Linear(63, 63)

    def forward(self, x: Tensor) -> Tensor:
        """Estimated parts of the same shape."""
        out = x
        skips = []
        for conv, bn in zip(self.conv, self.bn, strict=True):
            out = self.elu(bn(conv(out)))
            skips.append(out)
        out = self.glstm(out)
        out = torch.cat((out, skips[-1]), dim=1)
        halves = []
        for dec, bns in ((self.dec1, self.bn1), (self.dec2, self.bn2)):
            d = out
            for i in range(4):
                d = self.elu(bns[i](dec[i](d)))
                if i < 3:
                    d = torch.cat((d, skips[2 - i]), dim=1)
            halves.append(d)
        out1 = self.fc1(halves[0])
        out2 = self.fc2(halves[1])
        out = torch.cat((out1, out2), dim=1)
        return out


class _ComplexConv2d(nn.Module):
    def __init__(
        self,
        in_channels: Any,
        out_channels: Any,
        kernel_size: Any,
        stride: Any,
        padding: Any,
        causal: Any = True,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels // 2, out_channels // 2
        self.padding, self.causal = padding, causal
        self.real_conv = nn.Conv2d(
            self.in_channels, self.out_channels, kernel_size, stride, padding=(padding[0], 0)
        )
        self.imag_conv = nn.Conv2d(
            self.in_channels, self.out_channels, kernel_size, stride, padding=(padding[0], 0)
        )

    def forward(self, inputs: Tensor) -> Tensor:
        if self.padding[1] != 0 and self.causal:
            inputs = F.pad(inputs, [self.padding[1], 0, 0, 0])
        else:
            inputs = F.pad(inputs, [self.padding[1], self.padding[1], 0, 0])
        real, imag = torch.chunk(inputs, 2, 1)
        real2real = self.real_conv(real)
        imag2imag = self.imag_conv(imag)
        real2imag = self.imag_conv(real)
        imag2real = self.real_conv(imag)
        real = real2real - imag2imag
        imag = real2imag + imag2real
        return torch.cat([real, imag], 1)


class _ComplexConvTranspose2d(nn.Module):
    def __init__(
        self,
        in_channels: Any,
        out_channels: Any,
        kernel_size: Any,
        stride: Any,
        padding: Any,
        output_padding: Any,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels // 2, out_channels // 2
        args = (self.in_channels, self.out_channels, kernel_size, stride)
        self.real_conv = nn.ConvTranspose2d(*args, padding=padding, output_padding=output_padding)
        self.imag_conv = nn.ConvTranspose2d(*args, padding=padding, output_padding=output_padding)

    def forward(self, inputs: Any) -> Tensor:
        real, imag = torch.chunk(inputs, 2, dim=1)
        real2real, imag2imag = self.real_conv(real), self.imag_conv(imag)
        real2imag, imag2real = self.imag_conv(real), self.real_conv(imag)
        return torch.cat([real2real - imag2imag, real2imag + imag2real], 1)


class _NavieComplexLSTM(nn.Module):
    def __init__(self, input_size: int, hidden_size: int, projection_dim: Any = None) -> None:
        super().__init__()
        self.input_dim, self.rnn_units = input_size // 2, hidden_size // 2
        self.real_lstm = nn.LSTM(self.input_dim, self.rnn_units, num_layers=1, batch_first=False)
        self.imag_lstm = nn.LSTM(self.input_dim, self.rnn_units, num_layers=1, batch_first=False)
        self.projection_dim = None
        if projection_dim is not None:
            self.projection_dim = projection_dim // 2
            self.r_trans = nn.Linear(self.rnn_units, self.projection_dim)
            self.i_trans = nn.Linear(self.rnn_units, self.projection_dim)

    def forward(self, inputs: Any) -> Any:
        if isinstance(inputs, list):
            real, imag = inputs
        else:
            real, imag = torch.chunk(inputs, -1)
        r2r_out = self.real_lstm(real)[0]
        r2i_out = self.imag_lstm(real)[0]
        i2r_out = self.real_lstm(imag)[0]
        i2i_out = self.imag_lstm(imag)[0]
        real_out = r2r_out - i2i_out
        imag_out = i2r_out + r2i_out
        if self.projection_dim is not None:
            real_out = self.r_trans(real_out)
            imag_out = self.i_trans(imag_out)
        return [real_out, imag_out]


class Dccrn(nn.Module):
    """DCCRN between its STFT and its inverse: real and imaginary parts [batch, 2, bins, frames]."""

    def __init__(self, rnn_units: int = 96) -> None:
        super().__init__()
        kernel_num = [2, 16, 32, 64]
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        for i in range(3):
            self.encoder.append(
                nn.Sequential(
                    _ComplexConv2d(kernel_num[i], kernel_num[i + 1], (5, 2), (2, 1), (2, 1)),
                    nn.BatchNorm2d(kernel_num[i + 1]),
                    nn.PReLU(),
                )
            )
        hidden_dim = 8
        self.enhance = nn.Sequential(
            _NavieComplexLSTM(hidden_dim * kernel_num[-1], rnn_units),
            _NavieComplexLSTM(rnn_units, rnn_units, hidden_dim * kernel_num[-1]),
        )
        for i in range(3, 0, -1):
            conv = _ComplexConvTranspose2d(
                kernel_num[i] * 2, kernel_num[i - 1], (5, 2), (2, 1), (2, 0), (1, 0)
            )
            if i != 1:
                self.decoder.append(
                    nn.Sequential(conv, nn.BatchNorm2d(kernel_num[i - 1]), nn.PReLU())
                )
            else:
                self.decoder.append(nn.Sequential(conv))

    def forward(self, specs: Tensor) -> Any:
        """Masked parts of the same shape."""
        real, imag = specs[:, 0], specs[:, 1]
        spec_mags = torch.sqrt(real**2 + imag**2 + 1e-8)
        cspecs = torch.stack([real, imag], 1)
        cspecs = cspecs[:, :, 1:]
        out = cspecs
        encoder_out = []
        for layer in self.encoder:
            out = layer(out)
            encoder_out.append(out)
        batch_size, channels, dims, lengths = out.size()
        out = out.permute(3, 0, 1, 2)
        r_rnn_in = out[:, :, : channels // 2]
        i_rnn_in = out[:, :, channels // 2 :]
        r_rnn_in = torch.reshape(r_rnn_in, [lengths, batch_size, channels // 2 * dims])
        i_rnn_in = torch.reshape(i_rnn_in, [lengths, batch_size, channels // 2 * dims])
        r_rnn_in, i_rnn_in = self.enhance([r_rnn_in, i_rnn_in])
        r_rnn_in = torch.reshape(r_rnn_in, [lengths, batch_size, channels // 2, dims])
        i_rnn_in = torch.reshape(i_rnn_in, [lengths, batch_size, channels // 2, dims])
        out = torch.cat([r_rnn_in, i_rnn_in], 2)
        out = out.permute(1, 2, 3, 0)
        for idx in range(len(self.decoder)):
            real, imag = torch.chunk(out, 2, 1)
            real_s, imag_s = torch.chunk(encoder_out[-1 - idx], 2, 1)
            out = torch.cat([real, real_s, imag, imag_s], 1)
            out = self.decoder[idx](out)
            out = out[..., 1:]
        mask_real = out[:, 0]
        mask_imag = out[:, 1]
        mask_real = F.pad(mask_real, [0, 0, 1, 0])
        mask_imag = F.pad(mask_imag, [0, 0, 1, 0])
        return self.masked(specs, spec_mags, mask_real, mask_imag)

    def masked(self, specs: Any, spec_mags: Any, mask_real: Any, mask_imag: Any) -> Any:
        """The parts times the mask, as complex numbers."""
        real, imag = specs[:, 0], specs[:, 1]
        real, imag = real * mask_real - imag * mask_imag, real * mask_imag + imag * mask_real
        return torch.stack([real, imag], 1)


def _stacked(outputs: Any) -> Tensor:
    """Frames of outputs [1, channels, frames, size]."""
    frames: Tensor = outputs[0].transpose(0, 1).flatten(1)
    return frames


ARCHITECTURES = (
    Architecture(
        "GCRN",
        "JupiterEthan/GCRN-complex scripts/utils/networks.py",
        Gcrn,
        lambda frames: (torch.randn(1, 2, frames, 63),),
        channels_of_frames,
        _stacked,
    ),
    Architecture(
        "DCCRN between its transforms",
        "huyanxin/DeepComplexCRN dc_crn.py",
        Dccrn,
        lambda frames: (torch.randn(1, 2, 65, frames),),
        image,
        columns,
    ),
)
"""In the order of the table."""

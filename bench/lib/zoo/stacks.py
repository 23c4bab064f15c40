"""Acoustic models of convolutions and recurrent layers: icefall, SpeechBrain, reading of lines."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.zoo.architecture import Architecture, feature_first, image

BANDS = 40


class _DoubleSwishFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.detach()
        s = torch.sigmoid(x - 1.0)
        y = x * s
        ctx.save_for_backward(s, y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        s, y = ctx.saved_tensors
        slope: Tensor = (y * (1 - s) + s) * grad
        return slope


class _DoubleSwish(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if torch.jit.is_scripting():  # type: ignore[attr-defined]
            return x * torch.sigmoid(x - 1.0)
        y: Tensor = _DoubleSwishFunction.apply(x)  # type: ignore[no-untyped-call]
        return y


class _BasicNorm(nn.Module):
    def __init__(self, eps: float = 0.25, learn_eps: bool = True) -> None:
        super().__init__()
        value = torch.tensor(eps).log().detach()
        if learn_eps:
            self.eps = nn.Parameter(value)
        else:
            self.register_buffer("eps", value)

    def forward(self, x: Tensor) -> Tensor:
        scales = (torch.mean(x**2, dim=-1, keepdim=True) + self.eps.exp()) ** -0.5
        return x * scales


class _ScaledLinear(nn.Linear):
    def __init__(self, size: int, out: int) -> None:
        super().__init__(size, out)
        self.weight_scale = nn.Parameter(torch.tensor(0.1))
        self.bias_scale = nn.Parameter(torch.tensor(-0.1))

    def forward(self, input: Tensor) -> Tensor:
        weight, bias = self.weight * self.weight_scale.exp(), self.bias * self.bias_scale.exp()
        return F.linear(input, weight, bias)


class _ScaledConv2d(nn.Conv2d):
    def __init__(self, size: int, out: int, stride: int, padding: int) -> None:
        super().__init__(size, out, kernel_size=3, stride=stride, padding=padding)
        self.weight_scale = nn.Parameter(torch.tensor(0.1))
        self.bias_scale = nn.Parameter(torch.tensor(-0.1))

    def forward(self, input: Tensor) -> Tensor:
        assert self.bias is not None
        weight, bias = self.weight * self.weight_scale.exp(), self.bias * self.bias_scale.exp()
        return F.conv2d(input, weight, bias, self.stride, self.padding, self.dilation, self.groups)


class _ScaledLSTM(nn.LSTM):
    def __init__(self, size: int, hidden: int) -> None:
        super().__init__(size, hidden, num_layers=1)
        self._scales_names = [name + "_scale" for name in self._flat_weights_names]
        for name in self._scales_names:
            self.register_parameter(name, nn.Parameter(torch.tensor(0.1)))

    def forward(self, input: Tensor, hx: Any = None) -> Any:  # type: ignore[override]
        if hx is None:
            zeros = torch.zeros(1, input.size(1), self.hidden_size, dtype=input.dtype)
            hx = (zeros, zeros)
        scales = [getattr(self, name) for name in self._scales_names]
        weights = [w * s.exp() for w, s in zip(self._flat_weights, scales, strict=True)]
        result = torch._VF.lstm(
            input, hx, weights, self.bias, 1, self.dropout, self.training, False, False
        )
        return result[0], result[1:]


class _Subsampling(nn.Module):
    """A quarter as many frames."""

    def __init__(self, size: int, out: int, widths: tuple[int, int, int]) -> None:
        super().__init__()
        one, two, three = widths
        self.conv = nn.Sequential(
            _ScaledConv2d(1, one, 1, 1), nn.Identity(), _DoubleSwish(),
            _ScaledConv2d(one, two, 2, 0), nn.Identity(), _DoubleSwish(),
            _ScaledConv2d(two, three, 2, 0), nn.Identity(), _DoubleSwish(),
        )  # fmt: skip
        self.out = _ScaledLinear(three * (((size - 1) // 2 - 1) // 2), out)
        self.out_norm = _BasicNorm(learn_eps=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x.unsqueeze(1)
        x = self.conv(x)
        b, c, t, f = x.size()
        x = self.out(x.transpose(1, 2).contiguous().view(b, t, c * f))
        normed: Tensor = self.out_norm(x)
        return normed


class _EncoderLayer(nn.Module):
    def __init__(self, size: int, dense: int) -> None:
        super().__init__()
        self.lstm = _ScaledLSTM(size, size)
        self.feed_forward = nn.Sequential(
            _ScaledLinear(size, dense), nn.Identity(), _DoubleSwish(), nn.Dropout(),
            _ScaledLinear(dense, size),
        )  # fmt: skip
        self.norm_final = _BasicNorm()
        self.dropout = nn.Dropout(0.1)

    def forward(self, src: Tensor, warmup: float = 1.0) -> Tensor:
        src_orig = src
        alpha = 1.0 if not self.training else min(0.1 + warmup, 1.0)
        src_lstm = self.lstm(src)[0]
        src = src + self.dropout(src_lstm)
        src = src + self.dropout(self.feed_forward(src))
        src = self.norm_final(src)
        if alpha != 1.0:
            src = alpha * src + (1 - alpha) * src_orig
        return src


class LstmTransducerEncoder(nn.Module):
    """icefall's LSTM encoder of transducers: features [batch, frames, size] and their lengths."""

    def __init__(self, size: int = BANDS, width: int = 64, layers: int = 2) -> None:
        super().__init__()
        self.encoder_embed = _Subsampling(size, width, (4, 8, 16))
        layer = _EncoderLayer(width, 2 * width)
        self.layers = nn.ModuleList([copy.deepcopy(layer) for _ in range(layers)])

    def forward(self, x: Tensor, x_lens: Tensor, warmup: float = 1.0) -> tuple[Tensor, Tensor]:
        """Encoded frames, a quarter as many, and their lengths."""
        x = self.encoder_embed(x)
        x = x.permute(1, 0, 2)
        lengths = (((x_lens - 1) >> 1) - 1) >> 1
        assert x.size(0) == lengths.max().item()
        for layer in self.layers:
            x = layer(x, warmup=warmup)
        x = x.permute(1, 0, 2)
        return x, lengths


class TdnnLstm(nn.Module):
    """icefall's TDNN-LSTM for CTC: features [batch, size, frames], a third as many outputs."""

    def __init__(self, size: int = BANDS, classes: int = 50, width: int = 64) -> None:
        super().__init__()
        shapes = ((size, 3, 1), (width, 3, 1), (width, 3, 3))
        parts: list[nn.Module] = []
        for channels, kernel, stride in shapes:
            parts += [
                nn.Conv1d(channels, width, kernel, stride=stride, padding=1),
                nn.ReLU(inplace=True),
                nn.BatchNorm1d(width, affine=False),
            ]
        self.tdnn = nn.Sequential(*parts)
        self.lstms = nn.ModuleList([nn.LSTM(width, width) for _ in range(3)])
        self.lstm_bnorms = nn.ModuleList([nn.BatchNorm1d(width, affine=False) for _ in range(3)])
        self.dropout = nn.Dropout(0.2)
        self.linear = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Log-probabilities [batch, frames', classes]."""
        x = self.tdnn(x)
        x = x.permute(2, 0, 1)
        for lstm, bnorm in zip(self.lstms, self.lstm_bnorms, strict=True):
            x_new, _ = lstm(x)
            x_new = bnorm(x_new.permute(1, 2, 0)).permute(2, 0, 1)
            x_new = self.dropout(x_new)
            x = x_new + x
        x = x.transpose(1, 0)
        x = self.linear(x)
        return F.log_softmax(x, dim=-1)


class _Conv2dSame(nn.Module):
    """[batch, frames, bands, channels], padded by reflection to the same size."""

    def __init__(self, size: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(size, out, 3, stride=1, padding=0)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, -1)
        x = F.pad(x, (1, 1, 1, 1), mode="reflect")
        wx = self.conv(x)
        return wx.transpose(1, -1)  # type: ignore[no-any-return]


class _Pooling1d(nn.Module):
    def __init__(self, size: int, axis: int, dims: int) -> None:
        super().__init__()
        self.pool_axis = axis
        self.pool_layer: nn.Module = nn.MaxPool1d(size)
        if dims == 4:
            self.pool_layer = nn.MaxPool2d((1, size), stride=(1, size))

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(-1, self.pool_axis)
        x = self.pool_layer(x)
        return x.transpose(-1, self.pool_axis)


class _Block(nn.Module):
    def __init__(self, bands: int, size: int, out: int) -> None:
        super().__init__()
        self.conv_1, self.conv_2 = _Conv2dSame(size, out), _Conv2dSame(out, out)
        self.norm_1, self.norm_2 = nn.LayerNorm([bands, out]), nn.LayerNorm([bands, out])
        self.act_1, self.act_2 = nn.LeakyReLU(), nn.LeakyReLU()
        self.pooling = _Pooling1d(2, 2, 4)
        self.drop = nn.Dropout2d(0.15)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act_1(self.norm_1(self.conv_1(x)))
        x = self.act_2(self.norm_2(self.conv_2(x)))
        x = self.pooling(x)
        x = x.transpose(1, -1)
        x = self.drop(x)
        return x.transpose(-1, 1)


class Crdnn(nn.Module):
    """SpeechBrain's CRDNN: features [batch, frames, size], two frames to one."""

    def __init__(self, width: int = 48, channels: tuple[int, int] = (4, 8)) -> None:
        super().__init__()
        self.CNN = nn.Sequential(_Block(BANDS, 1, channels[0]), _Block(BANDS // 2, *channels))
        self.time_pooling = _Pooling1d(2, 1, 4)
        self.RNN = nn.LSTM(
            channels[1] * BANDS // 4, width, 2, batch_first=True, bidirectional=True, dropout=0.15
        )
        self.linear = nn.Linear(2 * width, width)
        self.bn = nn.BatchNorm1d(width)
        self.act = nn.LeakyReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Encoded frames [batch, frames', width]."""
        if x.ndim == 3:
            x = x.unsqueeze(-1)
        x = self.CNN(x)
        x = self.time_pooling(x)
        if x.ndim == 4:
            x = x.reshape(x.shape[0], x.shape[1], x.shape[2] * x.shape[3])
        self.RNN.flatten_parameters()
        x, _ = self.RNN(x)
        x = self.linear(x)
        x = self.bn(x.transpose(-1, 1)).transpose(1, -1)
        y: Tensor = self.act(x)
        return y


class _BidirectionalLSTM(nn.Module):
    def __init__(self, size: int, hidden: int, out: int) -> None:
        super().__init__()
        self.rnn = nn.LSTM(size, hidden, bidirectional=True)
        self.embedding = nn.Linear(hidden * 2, out)

    def forward(self, x: Tensor) -> Tensor:
        recurrent, _ = self.rnn(x)
        T, b, h = recurrent.size()  # noqa: N806
        t_rec = recurrent.view(T * b, h)
        output = self.embedding(t_rec)
        output = output.view(T, b, -1)
        return output  # type: ignore[no-any-return]


class Crnn(nn.Module):
    """CRNN, which reads lines of text: an image [batch, 1, 32, width]."""

    def __init__(self, classes: int = 37, hidden: int = 48) -> None:
        super().__init__()
        kernels, pads = (3, 3, 3, 3, 3, 3, 2), (1, 1, 1, 1, 1, 1, 0)
        channels = (1, 8, 8, 16, 16, 32, 32, 32)
        cnn = nn.Sequential()
        for i, (kernel, pad) in enumerate(zip(kernels, pads, strict=True)):
            cnn.add_module(f"conv{i}", nn.Conv2d(channels[i], channels[i + 1], kernel, 1, pad))
            if i in (2, 4, 6):
                cnn.add_module(f"batchnorm{i}", nn.BatchNorm2d(channels[i + 1]))
            cnn.add_module(f"relu{i}", nn.ReLU(True))
            if i in (0, 1):
                cnn.add_module(f"pooling{i}", nn.MaxPool2d(2, 2))
            if i in (3, 5):
                cnn.add_module(f"pooling{i}", nn.MaxPool2d((2, 2), (2, 1), (0, 1)))
        self.cnn = cnn
        self.rnn = nn.Sequential(
            _BidirectionalLSTM(channels[-1], hidden, hidden),
            _BidirectionalLSTM(hidden, hidden, classes),
        )

    def forward(self, input: Tensor) -> Tensor:
        """Logits [frames, batch, classes]."""
        conv = self.cnn(input)
        _, _, h, _ = conv.size()
        assert h == 1, "the height of conv must be 1"
        conv = conv.squeeze(2)
        conv = conv.permute(2, 0, 1)
        output: Tensor = self.rnn(conv)
        return output


ARCHITECTURES = (
    Architecture(
        "LSTM transducer encoder of icefall",
        "k2-fsa/icefall egs/librispeech/ASR/lstm_transducer_stateless/lstm.py",
        LstmTransducerEncoder,
        lambda frames: (torch.randn(1, frames, BANDS), torch.tensor([frames])),
    ),
    Architecture(
        "TDNN-LSTM of icefall",
        "k2-fsa/icefall egs/librispeech/ASR/tdnn_lstm_ctc/model.py",
        TdnnLstm,
        lambda frames: (torch.randn(1, BANDS, frames),),
        feature_first,
    ),
    Architecture(
        "CRDNN of SpeechBrain",
        "speechbrain/speechbrain speechbrain/lobes/models/CRDNN.py",
        Crdnn,
        lambda frames: (torch.randn(1, frames, BANDS),),
    ),
    Architecture(
        "CRNN for lines of text",
        "meijieru/crnn.pytorch models/crnn.py",
        Crnn,
        lambda frames: (torch.randn(1, 1, 32, frames),),
        image,
    ),
)
"""In the order of the table."""

"""Recognizers of courses and widely read texts, wake words."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from lib.zoo.architecture import (
    Architecture,
    Inputs,
    feature_first,
    image,
)

BANDS = 64


class _CNNLayerNorm(nn.Module):
    def __init__(self, n_feats: int) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(n_feats)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(2, 3).contiguous()
        x = self.layer_norm(x)
        return x.transpose(2, 3).contiguous()


class _ResidualCNN(nn.Module):
    def __init__(self, size: int, out: int, kernel: int, n_feats: int) -> None:
        super().__init__()
        self.cnn1 = nn.Conv2d(size, out, kernel, 1, padding=kernel // 2)
        self.cnn2 = nn.Conv2d(out, out, kernel, 1, padding=kernel // 2)
        self.dropout1 = nn.Dropout(0.1)
        self.dropout2 = nn.Dropout(0.1)
        self.layer_norm1 = _CNNLayerNorm(n_feats)
        self.layer_norm2 = _CNNLayerNorm(n_feats)

    def forward(self, x: Tensor) -> Tensor:
        residual = x
        x = self.layer_norm1(x)
        x = F.gelu(x)
        x = self.dropout1(x)
        x = self.cnn1(x)
        x = self.layer_norm2(x)
        x = F.gelu(x)
        x = self.dropout2(x)
        x = self.cnn2(x)
        x += residual
        return x


class _BidirectionalGRU(nn.Module):
    def __init__(self, rnn_dim: int, hidden_size: int, batch_first: bool) -> None:
        super().__init__()
        self.BiGRU = nn.GRU(
            input_size=rnn_dim,
            hidden_size=hidden_size,
            num_layers=1,
            batch_first=batch_first,
            bidirectional=True,
        )
        self.layer_norm = nn.LayerNorm(rnn_dim)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer_norm(x)
        x = F.gelu(x)
        x, _ = self.BiGRU(x)
        x = self.dropout(x)
        return x


class SpeechRecognitionModel(nn.Module):
    """AssemblyAI's Deep Speech in PyTorch: mel powers [batch, 1, bands, frames]."""

    def __init__(self, rnn_dim: int = 48, n_class: int = 29, n_feats: int = BANDS) -> None:
        super().__init__()
        n_feats = n_feats // 2
        self.cnn = nn.Conv2d(1, 8, 3, stride=2, padding=3 // 2)
        self.rescnn_layers = nn.Sequential(*[_ResidualCNN(8, 8, 3, n_feats) for _ in range(2)])
        self.fully_connected = nn.Linear(n_feats * 8, rnn_dim)
        self.birnn_layers = nn.Sequential(
            *[
                _BidirectionalGRU(rnn_dim if i == 0 else rnn_dim * 2, rnn_dim, i == 0)
                for i in range(2)
            ]
        )
        self.classifier = nn.Sequential(
            nn.Linear(rnn_dim * 2, rnn_dim), nn.GELU(), nn.Dropout(0.1), nn.Linear(rnn_dim, n_class)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits [batch, frames', classes]."""
        x = self.cnn(x)
        x = self.rescnn_layers(x)
        sizes = x.size()
        x = x.view(sizes[0], sizes[1] * sizes[2], sizes[3])
        x = x.transpose(1, 2)
        x = self.fully_connected(x)
        x = self.birnn_layers(x)
        x = self.classifier(x)
        return x


class _ActDropNormCNN1D(nn.Module):
    def __init__(self, n_feats: int, dropout: float, keep_shape: bool = False) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(n_feats)
        self.keep_shape = keep_shape

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2)
        x = self.dropout(F.gelu(self.norm(x)))
        if self.keep_shape:
            return x.transpose(1, 2)
        else:
            return x


class SpeechRecognition(nn.Module):
    """A hacker's assistant: mel powers [batch, 1, bands, frames] and the state of its LSTM."""

    def __init__(self, hidden_size: int = 64, num_classes: int = 29, n_feats: int = 81) -> None:
        super().__init__()
        self.num_layers, self.hidden_size = 1, hidden_size
        self.cnn = nn.Sequential(
            nn.Conv1d(n_feats, n_feats, 10, 2, padding=10 // 2), _ActDropNormCNN1D(n_feats, 0.1)
        )
        self.dense = nn.Sequential(
            nn.Linear(n_feats, 48),
            nn.LayerNorm(48),
            nn.GELU(),
            nn.Dropout(0.1),
            nn.Linear(48, 48),
            nn.LayerNorm(48),
            nn.GELU(),
            nn.Dropout(0.1),
        )
        self.lstm = nn.LSTM(48, hidden_size, num_layers=1, dropout=0.0, bidirectional=False)
        self.layer_norm2 = nn.LayerNorm(hidden_size)
        self.dropout2 = nn.Dropout(0.1)
        self.final_fc = nn.Linear(hidden_size, num_classes)

    def _init_hidden(self, batch_size: int) -> Any:
        n, hs = self.num_layers, self.hidden_size
        return (torch.zeros(n * 1, batch_size, hs), torch.zeros(n * 1, batch_size, hs))

    def forward(self, x: Tensor, hidden: Any) -> Any:
        """Logits [frames', batch, classes], and the next state."""
        x = x.squeeze(1)
        x = self.cnn(x)
        x = self.dense(x)
        x = x.transpose(0, 1)
        out, (hn, cn) = self.lstm(x, hidden)
        x = self.dropout2(F.gelu(self.layer_norm2(out)))
        return self.final_fc(x), (hn, cn)


class HowlGru(nn.Module):
    """Howl's GRU: mel powers with deltas [batch, 3, bands, frames], and lengths."""

    def __init__(self, hidden: int = 48, classes: int = 4) -> None:
        super().__init__()
        self.rnn = nn.GRU(40, hidden, 1, batch_first=True, bidirectional=True)
        self.dnn = nn.Sequential(
            nn.Linear(2 * hidden, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, classes)
        )

    def forward(self, x: Tensor, lengths: Tensor) -> Any:
        """Logits [batch, classes]."""
        x = x[:, 0]  # log-Mels only
        x = x.permute(0, 2, 1)
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        _, rnn_out = self.rnn(packed)
        x = rnn_out.permute(1, 0, 2).contiguous().view(x.size(0), -1)
        return self.dnn(x)


class ShanAttention(nn.Module):
    """Shan's attention: mel powers [batch, size, frames], a GRU, soft attention."""

    def __init__(self, size: int = 40, hidden: int = 48, classes: int = 2) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, (20, 5), stride=(8, 2))
        self.rnn = nn.GRU(8 * 3, hidden, num_layers=2, batch_first=True, dropout=0.1)
        self.attn_layer = nn.Sequential(
            nn.Linear(hidden, 64), nn.Tanh(), nn.Linear(64, 1, bias=False)
        )
        self.fc = nn.Linear(hidden, classes, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Log-probabilities [batch, classes]."""
        conv_output = self.conv(inputs.unsqueeze(dim=1))
        conv_output = conv_output.permute(0, 3, 1, 2).reshape(inputs.shape[0], -1, 24)
        rnn_output, _ = self.rnn(conv_output)
        attn = self.attn_layer(rnn_output).squeeze(-1)
        alpha = torch.softmax(attn, dim=-1)
        attn_output = (rnn_output * alpha[..., None]).sum(dim=1)
        return F.log_softmax(self.fc(attn_output), dim=-1)


class _Vgg(nn.Module):
    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.freq = 40
        self.extractor = nn.Sequential(
            nn.Conv2d(1, channels, 3, stride=1, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, stride=1, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2, stride=2),
            nn.Conv2d(channels, 2 * channels, 3, stride=1, padding=1),
            nn.ReLU(),
            nn.Conv2d(2 * channels, 2 * channels, 3, stride=1, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2, stride=2),
        )

    def view_input(self, feature: Tensor, feat_len: Tensor) -> Any:
        feat_len = torch.div(feat_len, 4, rounding_mode="floor")
        if feature.shape[1] % 4 != 0:
            feature = feature[:, : -(feature.shape[1] % 4), :].contiguous()
        bs, ts, _ = feature.shape
        feature = feature.view(bs, ts, 1, self.freq)
        feature = feature.transpose(1, 2)
        return feature, feat_len

    def forward(self, feature: Tensor, feat_len: Tensor) -> Any:
        feature, feat_len = self.view_input(feature, feat_len)
        feature = self.extractor(feature)
        feature = feature.transpose(1, 2)
        feature = feature.contiguous().view(feature.shape[0], feature.shape[1], -1)
        return feature, feat_len


class _RnnLayer(nn.Module):
    def __init__(self, size: int, dim: int, rate: int, style: str) -> None:
        super().__init__()
        self.sample_rate, self.sample_style = rate, style
        out = 2 * dim if style == "drop" else 2 * dim * rate
        self.layer = nn.LSTM(size, dim, bidirectional=True, num_layers=1, batch_first=True)
        self.ln = nn.LayerNorm(2 * dim)
        self.dp = nn.Dropout(p=0.2)
        self.pj = nn.Linear(out, out)

    def forward(self, input_x: Tensor, x_len: Tensor) -> Any:
        if not self.training:
            self.layer.flatten_parameters()
        output, _ = self.layer(input_x)
        output = self.ln(output)
        output = self.dp(output)
        if self.sample_rate > 1:
            batch_size, timestep, feature_dim = output.shape
            x_len = x_len // self.sample_rate
            if self.sample_style == "drop":
                output = output[:, :: self.sample_rate, :].contiguous()
            else:
                if timestep % self.sample_rate != 0:
                    output = output[:, : -(timestep % self.sample_rate), :]
                output = output.contiguous().view(
                    batch_size, int(timestep / self.sample_rate), feature_dim * self.sample_rate
                )
        output = torch.tanh(self.pj(output))
        return output, x_len


class LiuEncoder(nn.Module):
    """The encoder of End-to-end-ASR-Pytorch: features [batch, frames, size] and lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [_Vgg(), _RnnLayer(80, 32, 1, "drop"), _RnnLayer(64, 32, 2, "concat")]
        )

    def forward(self, input_x: Tensor, enc_len: Tensor) -> Any:
        """Encoded frames [batch, frames', size], and their lengths."""
        for layer in self.layers:
            input_x, enc_len = layer(input_x, enc_len)
        return input_x, enc_len


def _with_state(frames: int) -> Inputs:
    return torch.randn(1, 1, 81, frames), (torch.zeros(1, 1, 64), torch.zeros(1, 1, 64))


ARCHITECTURES = (
    Architecture(
        "AssemblyAI's Deep Speech 2",
        "AssemblyAI/blog Building an end-to-end Speech Recognition model in PyTorch",
        SpeechRecognitionModel,
        lambda frames: (torch.randn(1, 1, BANDS, frames),),
        image,
    ),
    Architecture(
        "A Hacker's AI Voice Assistant",
        "LearnedVector/A-Hackers-AI-Voice-Assistant VoiceAssistant/speechrecognition",
        SpeechRecognition,
        _with_state,
        image,
    ),
    Architecture(
        "encoder of End-to-end-ASR-Pytorch",
        "Alexander-H-Liu/End-to-end-ASR-Pytorch src/module.py",
        LiuEncoder,
        lambda frames: (torch.randn(1, frames, 40), torch.tensor([frames])),
        lengths=(48, 96, 72),
    ),
    Architecture(
        "Howl, GRU",
        "castorini/howl howl/model/rnn.py",
        HowlGru,
        lambda frames: (torch.randn(1, 3, 40, frames), torch.tensor([frames])),
        image,
    ),
    Architecture(
        "attention for keywords",
        "isadrtdinov/kws-attention model.py (Shan et al.)",
        ShanAttention,
        lambda frames: (torch.randn(1, 40, frames),),
        feature_first,
    ),
)
"""In the order of the table."""

"""Encoders of speakers, emotions and segments of speakers."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lib.zoo.architecture import Architecture, Inputs, feature_first

BANDS, WIDTH = 40, 64


class VoiceEncoder(nn.Module):
    """Resemblyzer: mel powers [batch, frames, size], one embedding an utterance."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(BANDS, WIDTH, 3, batch_first=True)
        self.linear = nn.Linear(WIDTH, WIDTH)
        self.relu = nn.ReLU()

    def forward(self, mels: Tensor) -> Tensor:
        """Embeddings [batch, size] of length one."""
        _, (hidden, _) = self.lstm(mels)
        embeds_raw = self.relu(self.linear(hidden[-1]))
        embeds: Tensor = embeds_raw / torch.norm(embeds_raw, dim=1, keepdim=True)
        return embeds


class SpeechEmbedder(nn.Module):
    """GE2E: features [batch, frames, size], the embedding of the last frame."""

    def __init__(self) -> None:
        super().__init__()
        self.LSTM_stack = nn.LSTM(BANDS, WIDTH, num_layers=3, batch_first=True)
        self.projection = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """Embeddings [batch, size] of length one."""
        x, _ = self.LSTM_stack(x.float())
        x = x[:, x.size(1) - 1]
        x = self.projection(x.float())
        embeds: Tensor = x / torch.norm(x, dim=1).unsqueeze(1)
        return embeds


class AttentivePooledDvector(nn.Module):
    """d-vectors: features [batch, frames, size], pooled by attention."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(BANDS, WIDTH, 3, batch_first=True)
        self.embedding = nn.Linear(WIDTH, WIDTH)
        self.linear = nn.Linear(WIDTH, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Embeddings [batch, size] of length one."""
        lstm_outs, _ = self.lstm(inputs)
        embeds = torch.tanh(self.embedding(lstm_outs))
        attn_weights = F.softmax(self.linear(embeds), dim=1)
        embeds = torch.sum(embeds * attn_weights, dim=1)
        return embeds.div(embeds.norm(p=2, dim=-1, keepdim=True))


class _Tdnn(nn.Module):
    def __init__(self, size: int, out: int, context: int, dilation: int) -> None:
        super().__init__()
        self.context_size, self.dilation, self.input_dim = context, dilation, size
        self.kernel = nn.Linear(size * context, out)
        self.nonlinearity = nn.ReLU()
        self.bn = nn.BatchNorm1d(out)

    def forward(self, x: Tensor) -> Tensor:
        _, _, d = x.shape
        assert d == self.input_dim
        x = x.unsqueeze(1)
        x = F.unfold(
            x, (self.context_size, self.input_dim), stride=(1, self.input_dim),
            dilation=(self.dilation, 1),
        )  # fmt: skip
        x = x.transpose(1, 2)
        x = self.kernel(x)
        x = self.nonlinearity(x)
        x = x.transpose(1, 2)
        x = self.bn(x)
        return x.transpose(1, 2)


class XvectorLstm(nn.Module):
    """x-vectors with an LSTM: features [batch, frames, size], statistics of frames."""

    def __init__(self, speakers: int = 20) -> None:
        super().__init__()
        self.tdnn1 = _Tdnn(BANDS, WIDTH, 5, 1)
        self.tdnn2 = _Tdnn(WIDTH, WIDTH, 3, 2)
        self.tdnn3 = _Tdnn(WIDTH, WIDTH, 3, 3)
        self.lstm = nn.LSTM(WIDTH, WIDTH, batch_first=True)
        self.segment6 = nn.Linear(2 * WIDTH, WIDTH)
        self.segment7 = nn.Linear(WIDTH, WIDTH)
        self.output = nn.Linear(WIDTH, speakers)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [batch, speakers] and x-vectors [batch, size]."""
        x = self.tdnn3(self.tdnn2(self.tdnn1(inputs)))
        x, _ = self.lstm(x)
        mean = torch.mean(x, 1)
        std = torch.std(x, 1)
        stat_pooling = torch.cat((mean, std), 1)
        segment6_out = self.segment6(stat_pooling)
        x_vec = self.segment7(segment6_out)
        return self.output(x_vec), x_vec


class LocalAttention(nn.Module):
    """Emotions by a BLSTM and attention: a pair of features [batch, frames, size] and lengths."""

    def __init__(self, size: int = 32, cells: int = 48, classes: int = 4) -> None:
        super().__init__()
        self.featdim, self.nhid = size, WIDTH
        self.fc1 = nn.Linear(size, WIDTH)
        self.fc2 = nn.Linear(WIDTH, WIDTH)
        self.do2 = nn.Dropout()
        self.blstm = nn.LSTM(WIDTH, cells, 1, batch_first=True, bidirectional=True)
        self.u = nn.Parameter(torch.randn(cells * 2))
        self.fc3 = nn.Linear(cells * 2, classes)

    def forward(self, inputs_lens_tuple: Any) -> Tensor:
        """Probabilities [batch, classes]."""
        inputs = inputs_lens_tuple[0]
        batch_size = inputs.size()[0]
        lens = list(inputs_lens_tuple[1])
        indep_feats = inputs.view(-1, self.featdim)
        indep_feats = F.relu(self.fc1(indep_feats))
        indep_feats = F.relu(self.do2(self.fc2(indep_feats)))
        batched_feats = indep_feats.view(batch_size, -1, self.nhid)
        packed = pack_padded_sequence(batched_feats, lens, batch_first=True)
        output, _ = self.blstm(packed)
        padded, _ = pad_packed_sequence(output, batch_first=True, padding_value=0.0)
        alpha = F.softmax(torch.matmul(padded, self.u), dim=1)
        return F.softmax(self.fc3(torch.sum(torch.matmul(alpha, padded), dim=1)), dim=1)


class PyanNet(nn.Module):
    """pyannote's PyanNet after its SincNet: features [batch, size, frames]."""

    def __init__(self, size: int = 60, hidden: int = 48, classes: int = 7) -> None:
        super().__init__()
        self.lstm = nn.LSTM(size, hidden, 2, batch_first=True, dropout=0.5, bidirectional=True)
        self.linear = nn.ModuleList([nn.Linear(2 * hidden, 64), nn.Linear(64, 64)])
        self.classifier = nn.Linear(64, classes)
        self.activation = nn.LogSoftmax(dim=-1)

    def forward(self, features: Tensor) -> Tensor:
        """Log-probabilities [batch, frames, classes]."""
        outputs, _ = self.lstm(features.permute(0, 2, 1))
        for linear in self.linear:
            outputs = F.leaky_relu(linear(outputs))
        activated: Tensor = self.activation(self.classifier(outputs))
        return activated


def _frames(frames: int) -> Inputs:
    return (torch.randn(1, frames, BANDS),)


def _pair_features(inputs: Inputs) -> Tensor:
    features: Tensor = inputs[0][0][0]
    return features


ARCHITECTURES = (
    Architecture(
        "Resemblyzer", "resemble-ai/Resemblyzer resemblyzer/voice_encoder.py", VoiceEncoder, _frames
    ),
    Architecture(
        "GE2E speaker encoder",
        "HarryVolek/PyTorch_Speaker_Verification speech_embedder_net.py",
        SpeechEmbedder,
        _frames,
    ),
    Architecture(
        "d-vector, attentive pooling",
        "yistLin/dvector modules/dvector.py",
        AttentivePooledDvector,
        _frames,
    ),
    Architecture(
        "x-vector with LSTM",
        "KrishnaDN/x-vector-pytorch models/x_vector.py (an LSTM before the pooling)",
        XvectorLstm,
        _frames,
    ),
    Architecture(
        "emotion BLSTM with attention",
        "gogyzzz/localatt_emorecog localatt/localatt.py",
        LocalAttention,
        lambda frames: ((torch.randn(1, frames, 32), torch.tensor([frames])),),
        _pair_features,
    ),
    Architecture(
        "PyanNet after SincNet",
        "pyannote/pyannote-audio pyannote/audio/models/segmentation/PyanNet.py",
        PyanNet,
        lambda frames: (torch.randn(1, 60, frames),),
        feature_first,
    ),
)
"""In the order of the table."""

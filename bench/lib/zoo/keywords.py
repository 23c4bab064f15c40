"""Keyword spotting, wake words and speech detection."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.zoo.architecture import Architecture, channel_of_frames

BANDS = 40


class HelloEdgeCrnn(nn.Module):
    """Hello Edge's CRNN: coefficients [batch, frames, size], the class of an utterance."""

    def __init__(self, filters: int = 16, hidden: int = 64, classes: int = 12) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, filters, (10, 4), stride=(2, 2))
        self.gru = nn.GRU(filters * 4, hidden, 2, batch_first=True)
        self.fc1 = nn.Linear(hidden, 64)
        self.dropout = nn.Dropout(0.5)
        self.fc2 = nn.Linear(64, classes)

    def forward(self, fingerprint: Tensor) -> Tensor:
        """Logits [batch, classes]."""
        x = fingerprint.unsqueeze(1)
        x = F.relu(self.conv(x))
        batch, _, time, _ = x.shape
        x = x.permute(0, 2, 1, 3).reshape(batch, time, -1)
        _, state = self.gru(x)
        x = F.relu(self.fc1(state[-1]))
        logits: Tensor = self.fc2(self.dropout(x))
        return logits


class AttentionRnn(nn.Module):
    """de Andrade's attention RNN: mel powers [batch, 1, frames, size], the class of a command."""

    def __init__(self, hidden: int = 32, classes: int = 12) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 10, (5, 1), padding=(2, 0))
        self.bn1 = nn.BatchNorm2d(10)
        self.conv2 = nn.Conv2d(10, 1, (5, 1), padding=(2, 0))
        self.bn2 = nn.BatchNorm2d(1)
        self.lstm = nn.LSTM(BANDS, hidden, 2, batch_first=True, bidirectional=True)
        self.query = nn.Linear(2 * hidden, 2 * hidden)
        self.dense1 = nn.Linear(2 * hidden, 64)
        self.dense2 = nn.Linear(64, 32)
        self.output = nn.Linear(32, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Probabilities [batch, classes]."""
        x = self.bn1(F.relu(self.conv1(x)))
        x = self.bn2(F.relu(self.conv2(x)))
        x = x.squeeze(1)
        x, _ = self.lstm(x)
        query = self.query(x[:, -1])
        scores = torch.bmm(x, query.unsqueeze(2)).squeeze(2)
        scores = F.softmax(scores, dim=1)
        vector = torch.bmm(scores.unsqueeze(1), x).squeeze(1)
        vector = F.relu(self.dense1(vector))
        vector = self.dense2(vector)
        return F.softmax(self.output(vector), dim=1)


class Precise(nn.Module):
    """Mycroft Precise: coefficients [batch, frames, size], a GRU of linear candidates."""

    def __init__(self, size: int = 13, units: int = 64) -> None:
        super().__init__()
        self.units = units
        self.by_input = nn.Linear(size, 3 * units)
        self.by_state = nn.Linear(units, 3 * units)
        self.dense = nn.Linear(units, 1)

    def forward(self, x: Tensor) -> Tensor:
        """The probability of the wake word [batch, 1]."""
        h = x.new_zeros(x.size(0), self.units)
        for t in range(x.size(1)):
            z_x, r_x, n_x = self.by_input(x[:, t]).chunk(3, dim=1)
            z_h, r_h, n_h = self.by_state(h).chunk(3, dim=1)
            z = torch.sigmoid(z_x + z_h)
            r = torch.sigmoid(r_x + r_h)
            h = z * h + (1 - z) * (n_x + r * n_h)
        return torch.sigmoid(self.dense(h))


class _SileroBlock(nn.Module):
    def __init__(self, size: int, out: int, stride: int) -> None:
        super().__init__()
        self.reparam_conv = nn.Conv1d(size, out, 3, stride=stride, padding=1)
        self.se = nn.Identity()
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        activated: Tensor = self.activation(self.se(self.reparam_conv(x)))
        return activated


class SileroVad(nn.Module):
    """silero's detector: a stretch of 576 samples [batch, 576] and a state [2, batch, 64]."""

    def __init__(self, hidden: int = 64) -> None:
        super().__init__()
        self.padding = nn.ReflectionPad1d((0, 64))
        self.register_buffer("forward_basis_buffer", torch.randn(258, 1, 256) / 16)
        self.encoder = nn.Sequential(
            _SileroBlock(129, hidden, 1), _SileroBlock(hidden, 32, 2),
            _SileroBlock(32, 32, 2), _SileroBlock(32, hidden, 1),
        )  # fmt: skip
        self.rnn = nn.LSTMCell(hidden, hidden)
        self.decoder = nn.Sequential(
            nn.Dropout(0.1), nn.ReLU(), nn.Conv1d(hidden, 1, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """The probability of speech [batch, 1], and the next state."""
        x = self.padding(x).unsqueeze(1)
        x = F.conv1d(x, self.get_buffer("forward_basis_buffer"), stride=128, padding=0)
        real, imaginary = x[:, :129, :].float(), x[:, 129:, :].float()
        x = torch.sqrt(real**2 + imaginary**2)
        x = self.encoder(x)
        x = x.squeeze(-1)
        h, c = self.rnn(x, (state[0], state[1]))
        x = h.unsqueeze(-1).float()
        state = torch.stack([h, c])
        x = self.decoder(x)
        return x.squeeze(1).mean(dim=1, keepdim=True), state


ARCHITECTURES = (
    Architecture(
        "Hello Edge CRNN",
        "ARM-software/ML-KWS-for-MCU models.py (create_crnn_model)",
        HelloEdgeCrnn,
        lambda frames: (torch.randn(1, frames, 10),),
    ),
    Architecture(
        "attention RNN for commands",
        "douglas125/SpeechCmdRecognition SpeechModels.py (AttRNNSpeechModel)",
        AttentionRnn,
        lambda frames: (torch.randn(1, 1, frames, BANDS),),
        channel_of_frames,
    ),
    Architecture(
        "Mycroft Precise",
        "MycroftAI/mycroft-precise precise/model.py",
        Precise,
        lambda frames: (torch.randn(1, frames, 13),),
    ),
    Architecture(
        "silero VAD",
        "snakers4/silero-vad src/silero_vad/data/silero_vad.jit",
        SileroVad,
        lambda _: (torch.randn(1, 576), torch.zeros(2, 1, 64)),
        lambda inputs: inputs[0],  # one frame
        lengths=(24, 37),
        stepwise=True,
    ),
)
"""In the order of the table."""

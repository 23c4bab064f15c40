"""A speaker encoder that others trained: Resemblyzer's, with its own features, on real speech."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tinyvox.speech import Utterance, read_audio

Array = npt.NDArray[Any]
WHEEL, WEIGHTS = "resemblyzer==0.1.4", "resemblyzer/pretrained.pt"
"""The package, and the weights inside it."""
RATE, WINDOW, HOP, BANDS = 16000, 400, 160, 40
LOUDNESS_DB = -30.0
"""To which quieter speech is raised, in decibels of full scale."""
PARTIAL = 160
"""The frames of which the network makes one embedding."""


class VoiceEncoder(nn.Module):
    """40 mel powers [batch, frames, 40] to raw embeddings [batch, frames, 256], one after each
    frame: that of the last one is the utterance's, once its length is 1."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        self.lstm = nn.LSTM(BANDS, 256, 3, batch_first=True)
        self.linear = nn.Linear(256, 256)
        own = {name: value for name, value in state.items() if name in self.state_dict()}
        self.load_state_dict(own)

    def forward(self, powers: Tensor) -> Tensor:
        """The embedding after each frame, before it is brought to length 1."""
        return torch.relu(self.linear(self.lstm(powers)[0]))


def encoder(cache: Path) -> VoiceEncoder:
    """The network with its published weights, which are downloaded to the folder once."""
    folder = cache / "speaker"
    if not any(folder.glob("*.whl")):
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", WHEEL, "--no-deps", "--no-cache-dir"]
        subprocess.run([*command, "--dest", str(folder), "--quiet"], check=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        weights = io.BytesIO(wheel.read(WEIGHTS))
    state = torch.load(weights, map_location="cpu", weights_only=True)["model_state"]
    return VoiceEncoder(state).eval()


def powers_of(utterance: Utterance) -> Array:
    """The mel powers of an utterance at the loudness that the network is used to."""
    return mel_powers(raised(read_audio(utterance.path, RATE)))


def raised(audio: Array) -> Array:
    """Audio at LOUDNESS_DB at least."""
    loudness = 20 * np.log10(np.sqrt(np.mean(audio.astype(np.float64) ** 2)) + 1e-12)
    factor: float = 10 ** (max(0.0, LOUDNESS_DB - loudness) / 20)
    return audio * factor


def mel_powers(audio: Array) -> Array:
    """40 mel powers, not their logarithms, of windows of 25 ms around every 10 ms, as librosa's
    melspectrogram has them, float32 [frames, 40]."""
    padded = np.pad(audio, WINDOW // 2)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    stretches = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    powers = np.abs(np.fft.rfft(stretches * window)) ** 2
    found: Array = (powers @ _filters().T).astype(np.float32)
    return found


def _filters() -> Array:
    """Triangles of equal area, evenly spaced on Slaney's mel scale from 0 to 8000 Hz, [40, 201]."""
    edges = _hertz(np.linspace(0, _mel(RATE / 2), BANDS + 2))
    bins = np.arange(WINDOW // 2 + 1) * RATE / WINDOW
    widths = np.diff(edges)[:, None]
    rising = (bins - edges[:-2, None]) / widths[:-1]
    falling = (edges[2:, None] - bins) / widths[1:]
    return np.maximum(0, np.minimum(rising, falling)) * (2 / (edges[2:] - edges[:-2]))[:, None]


def _mel(hertz: float) -> float:
    """Linear up to 1000 Hz, logarithmic above (Slaney, "Auditory toolbox", 1998)."""
    return 15 + 27 * np.log(hertz / 1000) / np.log(6.4) if hertz > 1000 else hertz * 3 / 200


def _hertz(mel: Array) -> Array:
    return np.where(mel > 15, 1000 * 6.4 ** ((mel - 15) / 27), mel * 200 / 3)


def last(outputs: Array) -> Array:
    """The embedding of an utterance, of length 1, from the outputs of all its frames."""
    embedding = outputs[-1].astype(np.float64)
    found: Array = embedding / max(float(np.linalg.norm(embedding)), 1e-12)
    return found


def partials(powers: Array) -> list[Array]:
    """The stretches of PARTIAL frames that the network is given, end to end; shorter speech as it
    is."""
    starts = range(0, max(1, len(powers) - PARTIAL + 1), PARTIAL)
    return [powers[start : start + PARTIAL] for start in starts]

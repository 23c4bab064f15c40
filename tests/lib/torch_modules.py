"""Modules to import."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim

from tinyvox.executor import Executor
from tinyvox.model import Dense, Model

FEATURES, FRAMES = 6, 9


def speech(frames: int = FRAMES, batch: int = 2) -> Tensor:
    return torch.randn(batch, frames, FEATURES)


def assert_same(model: Model, module: nn.Module, *frames: int, turn: bool = False) -> None:
    """Model and module agree to 1e-5 for these numbers of frames; `turn` for [time, batch, ...]."""
    module.eval()
    for count in frames:
        x = speech(count, 3)
        with torch.no_grad():
            expected = module(x)
            found = Executor(model)(x)
        torch.testing.assert_close(found, expected.transpose(0, 1) if turn else expected)


class Function(nn.Module):
    """A module without weights of its own, of one function, and those that it may call."""

    def __init__(self, function: Callable[..., Tensor], **parts: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, **dict(self.named_children()))


class DeepSpeech(nn.Module):
    """Context, three clipped layers, LSTM, one clipped layer, logits: Hannun et al. 2014."""

    def __init__(self, context: Callable[[Tensor], Tensor], left: int = 2) -> None:
        super().__init__()
        self.context = context
        self.dense1 = nn.Linear(FEATURES * (2 * left + 1), 16)
        self.dense2 = nn.Linear(16, 14)
        self.dense3 = nn.Linear(14, 18)
        self.lstm = nn.LSTM(18, 12, batch_first=True)
        self.dense5 = nn.Linear(12, 10)
        self.dense6 = nn.Linear(10, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.context(x)
        for dense in (self.dense1, self.dense2, self.dense3):
            x = torch.clamp(torch.relu(dense(x)), max=0.7)
        x = torch.clamp(self.dense5(self.lstm(x)[0]), 0, 0.7)
        return F.log_softmax(self.dense6(x), dim=-1)


def shifts(x: Tensor) -> Tensor:
    padded = F.pad(x, (0, 0, 2, 2))
    return torch.cat([padded[:, i : i + x.shape[1]] for i in range(5)], dim=-1)


def _disturb(module: nn.Module) -> None:
    """Statistics other than 0 and 1."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            norm.running_mean = torch.randn(norm.num_features)
            norm.running_var = torch.rand(norm.num_features) + 0.5
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(FEATURES, 8)
        self.norm = nn.LayerNorm(8, eps=1e-3)
        self.inner = nn.Linear(8, 8)
        self.activate = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.3)
        nn.init.normal_(self.norm.weight)
        nn.init.normal_(self.norm.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.project((x - 0.3) / 1.7)
        x = x + self.drop(self.activate(self.inner(self.norm(x))))
        return torch.cat([torch.tanh(x), torch.sigmoid(self.inner(x)) * 2], dim=-1)


class Convolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(FEATURES, 8, 5, stride=2, padding=2)
        self.norm1 = nn.BatchNorm1d(8)
        self.conv2 = nn.Conv1d(8, 8, 3, padding="same", dilation=2, groups=4)
        self.conv3 = nn.Conv1d(8, 6, 4)
        self.relu = nn.ReLU6()
        _disturb(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(self.conv1(x.mT)).relu()
        x = self.relu(self.conv2(x))
        return self.conv3(F.pad(x, (3, 0))).mT


def dense(rows: int, columns: int) -> Dense:
    return Dense(torch.randn(rows, columns) / columns**0.5)


def export_to(module: nn.Module, path: Path, example: Tensor, dynamic: bool = False) -> Path:
    shapes = ({0: Dim.AUTO, 1: Dim.AUTO},) if dynamic else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(module, (example,), dynamic_shapes=shapes, strict=False)
        torch.export.save(program, path)
    return path

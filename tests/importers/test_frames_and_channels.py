"""Frames that code reorders, delays, cuts into windows or pads to a multiple; several channels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from runtime_models import open_model
from torch import Tensor, nn
from torch_modules import FEATURES, Function

from tinyvox.executor import Executor
from tinyvox.importers.torch import from_torch
from tinyvox.model import Model

FRAMES, HIDDEN = 16, 5
LENGTHS = (FRAMES, 17, 18, 19, 45)
Case = tuple[Callable[..., Tensor], dict[str, nn.Module]]


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)


def check(model: Model, folder: Path, pairs: list[tuple[Tensor, Tensor]]) -> None:
    """Executor and native runtime give these outputs for these inputs, both [frames, size]."""
    session = open_model(model, folder)
    for x, expected in pairs:
        with torch.no_grad():
            found = Executor(model)(x[None])[0]
        torch.testing.assert_close(found.flatten(1), expected, atol=1e-5, rtol=1e-5)
        for chunk in (1, 7, len(x)):
            native = session.run(x.numpy(), chunk)
            np.testing.assert_allclose(native, expected.numpy(), atol=2e-5, rtol=1e-4)


def windows(x: Tensor, linear: nn.Module, dilation: int = 1) -> Tensor:
    """The windows of a TDNN, as x-vectors are written."""
    cut = F.unfold(x[:, None], (3, FEATURES), stride=(1, FEATURES), dilation=(dilation, 1))
    found: Tensor = linear(cut.transpose(1, 2))
    return found


def padded_stacks(x: Tensor, linear: nn.Module) -> Tensor:
    batch, frames, size = x.shape
    x = F.pad(x, (0, 0, 0, (3 - frames % 3) % 3))
    found: Tensor = linear(x.reshape(batch, -1, 3 * size))
    return found


def joined_backwards(x: Tensor, linear: nn.Module) -> Tensor:
    """The present frame before the one that was earlier."""
    before = torch.cat([x[:, :1] * 0, x[:, :-1]], 1)
    found: Tensor = linear(torch.cat([x, before], -1))
    return found


def joined_around(x: Tensor, linear: nn.Module) -> Tensor:
    padded = F.pad(x, (0, 0, 1, 1))
    found: Tensor = linear(torch.cat([x, padded[:, 2:], padded[:, :-2]], -1))
    return found


def delayed(x: Tensor, linear: nn.Module) -> Tensor:
    found: Tensor = linear(x + F.pad(x, (0, 0, 2, 0))[:, :-2])
    return found


def deltas(x: Tensor, linear: nn.Module) -> Tensor:
    padded = F.pad(linear(x), (0, 0, 1, 1))
    return (padded[:, 2:] - padded[:, :-2]) / 2


def reversed_by_index(x: Tensor, rnn: nn.Module) -> Tensor:
    backwards = torch.arange(x.shape[1] - 1, -1, -1)
    return torch.cat([rnn(x)[0], rnn(x[:, backwards])[0][:, backwards]], -1)


def gru() -> nn.Module:
    return nn.GRU(FEATURES, HIDDEN, batch_first=True)


CASES: dict[str, Case] = {
    "windows": (windows, {"linear": nn.Linear(3 * FEATURES, 4)}),
    "windows dilated": (lambda x, linear: windows(x, linear, 2), {
        "linear": nn.Linear(3 * FEATURES, 4)
    }),
    "stacks of padded frames": (padded_stacks, {"linear": nn.Linear(3 * FEATURES, 4)}),
    "joined backwards": (joined_backwards, {"linear": nn.Linear(2 * FEATURES, 4)}),
    "joined in any order": (joined_around, {"linear": nn.Linear(3 * FEATURES, 4)}),
    "delayed": (delayed, {"linear": nn.Linear(FEATURES, 4)}),
    "deltas": (deltas, {"linear": nn.Linear(FEATURES, 4)}),
    "reversed by an index": (reversed_by_index, {"rnn": gru()}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("frames", [FRAMES, 18])
def test_frames_as_code_has_them(case: Case, frames: int, tmp_path: Path) -> None:
    """For examples whose frames are a multiple, and not."""
    function, parts = case
    module = Function(function, **parts).eval()
    model = from_torch(module, torch.zeros(1, frames, FEATURES))
    inputs = [torch.randn(count, FEATURES) for count in LENGTHS]
    with torch.no_grad():
        check(model, tmp_path, [(x, module(x[None])[0]) for x in inputs])


class Stereo(nn.Module):
    """Two channels of magnitudes, [batch, channel, band, frame], and a mask for each."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(4) + 0.5)
        self.inner = nn.Linear(2 * 4, HIDDEN)
        self.rnn = nn.GRU(HIDDEN, HIDDEN)
        self.out = nn.Linear(HIDDEN, 2 * FEATURES)

    def forward(self, x: Tensor) -> Tensor:
        mix = x = x.permute(3, 0, 1, 2)
        frames, batch = x.shape[:2]
        x = self.inner((x[..., :4] * self.scale).reshape(frames, batch, 8))
        x = self.out(self.rnn(x)[0]).reshape(mix.shape)
        return (x.relu() * mix).permute(1, 2, 3, 0)


class Image(nn.Module):
    """Two channels, [batch, channel, frame, band], in a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).relu().transpose(1, 2).flatten(2)


@pytest.mark.parametrize("kind", [Stereo, Image])
def test_two_channels(kind: type[nn.Module], tmp_path: Path) -> None:
    """The native input has the channels one after the other."""
    module = kind().eval()
    frames_last = kind is Stereo

    def given(frames: int) -> Tensor:
        shape = (FEATURES, frames) if frames_last else (frames, FEATURES)
        return torch.randn(1, 2, *shape)

    def rows(values: Tensor) -> Tensor:
        if values.ndim == 3:
            return values[0]
        return (values[0].permute(2, 0, 1) if frames_last else values[0].transpose(0, 1)).flatten(1)

    model = from_torch(module, given(FRAMES))
    inputs = [given(frames) for frames in LENGTHS]
    with torch.no_grad():
        check(model, tmp_path, [(rows(x), rows(module(x))) for x in inputs])


class Streaming(nn.Module):
    """A cell in a loop, from a state and frames."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs = nn.Linear(FEATURES, HIDDEN)
        self.state = nn.Linear(HIDDEN, HIDDEN)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        found = []
        for frame in self.inputs(x).unbind(1):
            state = torch.tanh(frame + self.state(state))
            found.append(state)
        return torch.stack(found, 1), state


class OneTuple(nn.Module):
    """Its only argument is a tuple, of features and lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(FEATURES, HIDDEN, batch_first=True)

    def forward(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, lengths = batch
        assert x.shape[1] == int(lengths.max())
        found: Tensor = self.rnn(x)[0]
        return found


def test_states_of_zeros_beside_features(tmp_path: Path) -> None:
    module, zeros = Streaming().eval(), torch.zeros(1, HIDDEN)
    model = from_torch(module, torch.randn(1, FRAMES, FEATURES), zeros)
    inputs = [torch.randn(count, FEATURES) for count in LENGTHS]
    with torch.no_grad():
        check(model, tmp_path, [(x, module(x[None], zeros)[0][0]) for x in inputs])


def test_a_tuple_that_is_the_only_argument(tmp_path: Path) -> None:
    module = OneTuple().eval()

    def given(x: Tensor) -> Any:
        return x[None], torch.tensor([len(x)])

    model = from_torch(module, given(torch.randn(FRAMES, FEATURES)))
    again = from_torch(module, (given(torch.randn(FRAMES, FEATURES)),))
    inputs = [torch.randn(count, FEATURES) for count in LENGTHS]
    with torch.no_grad():
        pairs = [(x, module(given(x))[0]) for x in inputs]
    check(model, tmp_path, pairs)
    check(again, tmp_path, pairs)

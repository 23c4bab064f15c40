"""Modules that cannot be imported are refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_modules import FEATURES, FRAMES, Function, speech

from tinyvox.errors import ImporterError
from tinyvox.importers import load
from tinyvox.importers.torch import from_torch


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)


class Refused(nn.Module):
    def __init__(self, function: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.block = Function(function)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> object:
        return self.block(x)


def lstm(x: Tensor, **options: object) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    return nn.LSTM(FEATURES, 5, batch_first=True, **options)(x)  # type: ignore[arg-type]


RNN = nn.LSTM(FEATURES, 5, batch_first=True)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (F.gelu, r"aten\.gelu\.default \(node 'gelu' in module 'block' at torch_modules"),
        (
            lambda x: F.gelu(x),
            r"at torch_modules\.py:\d+\): is not supported; supported are",
        ),
        (lambda x: x.softmax(-1), r"aten\.softmax\.int.*is not supported"),
        (lambda x: x * x.sigmoid(), "multiplies two signals"),
        (lambda x: x.mean(1), r"aten\.mean\.dim .* is not supported"),
        (lambda x: F.dropout(x, 0.5, True) @ torch.eye(6), r"training mode; call \.eval\(\)"),
        (lambda x: x[:, 3] @ torch.eye(6), "takes one step out of dimension 1"),
        (lambda x: x[:, 3:].tanh(), "returns padded, cut or reversed frames"),
        (lambda x: x.tanh().flip(1), "returns padded, cut or reversed frames"),
        (lambda x: x[:, :, :3].tanh(), "keeps 0:3 of dimension 2"),
        (lambda x: F.pad(x, (0, 0, 1, 1)).sigmoid(), "padding and cut frames are supported before"),
        (lambda x: F.pad(x, (0, 0, 1, 1), value=1.0), "something else than zeros"),
        (
            lambda x: F.pad(x, (0, 0, 3, 2)).unfold(1, 5, 1),
            "5 frames of context around padding 3, 2",
        ),
        (lambda x: x.unfold(1, 4, 1).flatten(2).tanh(), "order that only a linear or recurrent"),
        (lambda x: torch.cat([x, x.tanh()], 1), "only zeros can be put around one"),
        (lambda x: x.clamp(-1, 1), r"clamps to -1.0, 1.0, expected 0 and a limit"),
        (lambda x: x.tanh() + torch.arange(FRAMES)[:, None], "varies over time"),
        (lambda x: (x.tanh(), x), "returns 2 values, expected one signal"),
        (lambda x: x.transpose(1, 2).reshape(2, 27, 2).tanh(), "mixes axes"),
        (lambda x: x, "there is no layer to import"),
        (lambda x: x.half().tanh(), r"expected float32; export in float32"),
    ],
)
def test_what_is_refused(function: Callable[[Tensor], object], message: str) -> None:
    with pytest.raises(ImporterError, match=message) as caught:
        from_torch(Refused(function), speech())
    assert str(caught.value).startswith("Refused: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("rnn", "function", "message"),
    [
        (RNN, lambda x, rnn: rnn(x)[1][0], "final hidden state is used"),
        (RNN, lambda x, rnn: rnn(x), "returns more than its outputs: the final hidden state"),
        (
            RNN,
            lambda x, rnn: rnn(x, (torch.ones(1, 2, 5), torch.zeros(1, 2, 5)))[0],
            "initial state is not zero",
        ),
        (RNN, lambda x, rnn: rnn(x, (x[None, :, 0, :5],) * 2)[0], "takes one step out"),
        (RNN, lambda x, rnn: rnn(x.transpose(0, 1))[0], "which is not time; set batch_first"),
    ],
)
def test_what_is_refused_of_recurrent_layers(
    rnn: nn.Module, function: Callable[..., Tensor], message: str
) -> None:
    with pytest.raises(ImporterError, match=message):
        from_torch(Function(function, rnn=rnn), speech())


def test_what_depends_on_the_number_of_frames_is_refused() -> None:
    module = Function(lambda x, dense: dense(x)[:, ::2] * x.shape[1], dense=nn.Linear(FEATURES, 4))
    with pytest.raises(ImporterError, match="differ from the program's by"):
        from_torch(module, speech())


def test_a_module_with_two_inputs_is_refused(tmp_path: Path) -> None:
    module = nn.Bilinear(FEATURES, FEATURES, 3)
    program = torch.export.export(module, (speech(), speech()))
    torch.export.save(program, tmp_path / "two.pt2")
    with pytest.raises(ImporterError, match=r"two\.pt2: takes inputs .*features alone"):
        load(tmp_path / "two.pt2")


def test_a_module_that_cannot_be_traced_is_refused() -> None:
    module = Function(lambda x: x if float(x.sum()) > 0 else -x)
    with pytest.raises(ImporterError, match=r"Function: torch\.export cannot trace it: "):
        from_torch(module, speech())

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


LINEAR = nn.Linear(FEATURES, FEATURES)
RNN = nn.LSTM(FEATURES, 5, batch_first=True)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (torch.sin, r"aten\.sin\.default \(in module 'block' at torch_modules"),
        (
            lambda x: torch.sin(x),
            r"at test_from_torch_refused\.py:\d+\): is not supported; the docs list what is",
        ),
        (lambda x: LINEAR(x).log_softmax(1), "runs over dimension 1 of .* expected features"),
        (lambda x: x[:, :6] * x.mT[:, :, :6], "combines .* expected equal layouts"),
        (
            lambda x: F.layer_norm(LINEAR(x).mT, (FEATURES, FRAMES)),
            "over time: this needs the whole utterance before its",
        ),
        (
            lambda x: torch.einsum("btf,bsf->bts", LINEAR(x), LINEAR(x)),
            "different frames of two signals, as an attention does",
        ),
        (lambda x: LINEAR(x).repeat(1, 2, 1), "changes frames or batch of"),
        (lambda x: LINEAR(torch.cat([x] * 2, 2)[..., :6]).repeat(1, 1, 2).amax(2), "8 features at"),
        (lambda x: LINEAR(x).mean(), "takes the mean over dimensions .. of"),
        (lambda x: x.pow(5), "takes the power 5, expected -1, 1 to 4, or a fraction"),
        (lambda x: F.softplus(x, 2.0, 3), "is a softplus with threshold 3, expected 15 or more"),
        (
            lambda x: F.adaptive_avg_pool1d(LINEAR(x).mT, 3),
            "pools dimension -1 of .* to 3, expected one frame",
        ),
        (lambda x: x.max(1)[1].float(), "places of the largest values are used"),
        (lambda x: F.dropout(x, 0.5, True) @ torch.eye(6), r"training mode; .*training=self\.tr"),
        (lambda x: LINEAR(x).flip(1), "returns padded, cut or reversed frames"),
        (
            lambda x: F.pad(LINEAR(x), (0, 0, 1, 1)).sigmoid(),
            "padding and cut frames are supported before",
        ),
        (lambda x: F.pad(x, (0, 0, 1, 1), value=1.0), "something else than zeros"),
        (
            lambda x: F.pad(x, (0, 0, 3, 2)).unfold(1, 5, 1),
            "5 frames of context around padding 3, 2",
        ),
        (lambda x: torch.cat([LINEAR(x), x], 1), "only zeros can be put around one"),
        (lambda x: LINEAR(x) + torch.arange(FRAMES)[:, None], "varies over time"),
        (lambda x: x.transpose(1, 2).reshape(2, 27, 2).tanh(), "mixes axes"),
        (lambda x: x, "there is no layer to import"),
        (lambda x: x.long().tanh(), r"converts to torch\.int64, expected float32"),
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
        (RNN, lambda x, rnn: rnn(x)[1][1], "final cell state is used"),
        (
            nn.LSTM(FEATURES, 5, 2, batch_first=True, bidirectional=True),
            lambda x, rnn: rnn(x)[1][0].view(2, 2, -1, 5).tanh(),
            r"write h\[-1\], h\.squeeze\(0\), or",
        ),
        (
            RNN,
            lambda x, rnn: rnn(x, (torch.ones(1, 2, 5), torch.zeros(1, 2, 5)))[0],
            "initial state is not zero",
        ),
        (RNN, lambda x, rnn: rnn(x, (x[None, :, 0, :5],) * 2)[0], "initial state is not zero"),
        (RNN, lambda x, rnn: rnn(x.mT @ x)[0], "runs along dimension 1 of .* which is not time"),
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


def in_place(x: Tensor, dense: nn.Module) -> Tensor:
    """Scales a view of its input, so that the input changes too."""
    bands = x.transpose(1, 2)
    bands *= 3
    result: Tensor = dense(x)
    return result


@pytest.mark.parametrize("size", [1.0, 2e-3])
@pytest.mark.parametrize("example", [torch.zeros, torch.ones, torch.randn])
def test_the_comparison_depends_on_no_example_and_no_size(
    example: Callable[..., Tensor], size: float
) -> None:
    dense = nn.Linear(FEATURES, 5, bias=False)
    dense.weight.data *= size
    with pytest.raises(
        ImporterError, match="that an operation changes in place through another view"
    ):
        from_torch(Function(in_place, dense=dense), example(1, FRAMES, FEATURES))


def test_small_outputs_beside_a_large_constant_are_compared() -> None:
    dense = nn.Linear(FEATURES, 5)
    dense.weight.data *= 1e-3
    dense.bias.data += 1.0
    assert from_torch(Function(lambda x, dense: dense(x), dense=dense), speech())
    with pytest.raises(
        ImporterError, match="that an operation changes in place through another view"
    ):
        from_torch(Function(in_place, dense=dense), speech())


ROWS = torch.randint(0, 9, (1, FRAMES))


@pytest.mark.parametrize(
    ("module", "example", "message"),
    [
        (nn.Flatten(), ROWS, "the example holds input of torch.int64, expected features"),
        (nn.LSTM(FEATURES, 5), torch.randn(1, 1, FEATURES), "with two frames or more"),
        ({"weight": torch.ones(2, 2)}, speech(), "is no nn.Module; build the module"),
    ],
)
def test_what_is_no_module_of_features_is_refused(
    module: nn.Module, example: Tensor, message: str
) -> None:
    with pytest.raises(ImporterError, match=message) as caught:
        from_torch(module, example)
    assert "\n" not in str(caught.value)


def test_a_module_with_two_inputs_is_refused(tmp_path: Path) -> None:
    module = nn.Bilinear(FEATURES, FEATURES, 3)
    program = torch.export.export(module, (speech(), speech()))
    torch.export.save(program, tmp_path / "two.pt2")
    with pytest.raises(ImporterError, match=r"two\.pt2: .* needs inputs input1, input2"):
        load(tmp_path / "two.pt2")


def test_a_module_that_decides_by_values_is_refused() -> None:
    module = Function(lambda x: x if float(x.sum()) > 0 else -x)
    place = r"aten\.item\.default \(at test_from_torch_refused\.py:\d+\)"
    with pytest.raises(ImporterError, match=f"Function: {place}: the module decides by values"):
        from_torch(module, speech())


def test_a_module_that_does_not_run_on_its_example_is_refused() -> None:
    module = Function(lambda x, dense: dense(x), dense=nn.Linear(FEATURES + 1, 3))
    with pytest.raises(ImporterError, match=r"does not run on its example at .*: RuntimeError: "):
        from_torch(module, speech())
    with pytest.raises(ImporterError, match="has no example"):
        from_torch(module)

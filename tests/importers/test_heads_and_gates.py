"""Heads of one frame an utterance, masks and gates, activations, and computed weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm
from torch_modules import FEATURES, FRAMES, Function, assert_same, export_to, speech

import tinyvox as tv
from tinyvox.executor import Executor, Frames
from tinyvox.formats import tvx
from tinyvox.importers import load
from tinyvox.importers.torch import from_torch
from tinyvox.model import Model, layers


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)


def check(model: Model, module: nn.Module, folder: Path, *lengths: int) -> None:
    """The executor and the native runtime give what the module gives, for any cut."""
    tvx.save(model, folder / "m.tvx")
    session = tv.open(folder / "m.tvx")
    for frames in lengths:
        x = speech(frames)[:1]
        with torch.no_grad():
            expected = module(x).reshape(1, -1, session.output_size)[0]
            torch.testing.assert_close(Executor(model)(x)[0], expected, rtol=1e-4, atol=1e-5)
        for chunk in (1, 7, 1000):
            found = session.run(x[0].numpy(), chunk)
            np.testing.assert_allclose(found, expected.numpy(), rtol=1e-3, atol=2e-5)


class Spotter(nn.Module):
    """One score for each of five words, of a whole utterance."""

    def __init__(self, head: Callable[[Tensor, Tensor], Tensor], **options: int) -> None:
        super().__init__()
        self.head = head
        self.rnn = nn.GRU(FEATURES, 8, batch_first=True, **options)
        size = head(*self.rnn(torch.randn(1, 3, FEATURES))).shape[-1]
        self.out = nn.Linear(size, 5)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.out(self.head(*self.rnn(x)))
        return result


HEADS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "last": lambda y, h: y[:, -1],
    "last index": lambda y, h: y[:, y.shape[1] - 1, :],
    "last slice": lambda y, h: y[:, -1:],
    "first": lambda y, h: y[:, 0],
    "mean": lambda y, h: y.mean(1),
    "mean kept": lambda y, h: y.mean(dim=1, keepdim=True).squeeze(1),
    "maximum": lambda y, h: y.amax(1),
    "max": lambda y, h: y.max(1)[0],
    "max values": lambda y, h: y.max(dim=1, keepdim=True).values,
    "pool": lambda y, h: F.adaptive_avg_pool1d(y.transpose(1, 2), 1).squeeze(-1),
    "max pool": lambda y, h: F.adaptive_max_pool1d(y.mT, 1).flatten(1),
    "both": lambda y, h: torch.cat([y.mean(1), y.amax(1)], -1),
    "state": lambda y, h: h[-1],
}
STATES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "squeezed": lambda y, h: h.squeeze(0),
    "viewed": lambda y, h: h.view(-1, 8),
}


@pytest.mark.parametrize("head", [*HEADS.values(), *STATES.values()], ids=[*HEADS, *STATES])
def test_one_frame_an_utterance(head: Callable[[Tensor, Tensor], Tensor], tmp_path: Path) -> None:
    module = Spotter(head).eval()
    model = from_torch(module, torch.zeros(1, FRAMES, FEATURES))
    assert model.signals[model.output] == layers.Signal((5,), 0)
    assert isinstance(model.node("rnn").layer, layers.Recurrent)
    check(model, module, tmp_path, 1, 2, FRAMES, 70)
    again = load(export_to(module, tmp_path / "m.pt2", speech(20)))
    check(again, module, tmp_path, 9, 45)


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_one_frame_of_two_directions(
    head: Callable[[Tensor, Tensor], Tensor], tmp_path: Path
) -> None:
    module = Spotter(head, bidirectional=True, num_layers=2).eval()
    check(from_torch(module, speech()), module, tmp_path, 1, FRAMES, 70)


def test_final_states_of_two_directions(tmp_path: Path) -> None:
    for head in (
        lambda y, h: torch.cat((h[-2], h[-1]), 1),
        lambda y, h: torch.cat([h[0], h[1], y[:, -1]], dim=-1),
    ):
        module = Spotter(head, bidirectional=True).eval()
        check(from_torch(module, speech()), module, tmp_path, 1, FRAMES, 70)
    module = Spotter(lambda y, h: h[0] + h[1], num_layers=2).eval()
    check(from_torch(module, speech()), module, tmp_path, 1, FRAMES, 70)


def test_a_reduced_utterance_of_a_batch_gives_what_it_gives_alone() -> None:
    for kind in layers.REDUCTIONS:
        x, lengths = torch.randn(4, 9, 3), torch.tensor([9, 1, 5, 0])
        found = Frames(x, lengths).reduced(kind)
        assert found.lengths is not None
        assert found.lengths.tolist() == [1, 1, 1, 0]
        assert found.values.isfinite().all()
        for i, length in enumerate(lengths.tolist()[:3]):
            alone = Frames(x[i : i + 1, :length]).reduced(kind)
            torch.testing.assert_close(found.values[i], alone.values[0])
        assert Frames(x[:, :0]).reduced(kind).values.shape == (4, 0, 3)


def test_the_mean_of_many_frames_loses_nothing(tmp_path: Path) -> None:
    """A plain float sum of these would be off by more than a hundredth."""
    model = Model(2, (tv.model.Node("mean", layers.Reduce("mean"), ("input",)),))
    tvx.save(model, tmp_path / "m.tvx")
    x = np.full((1_000_000, 2), 0.1, np.float32) + np.float32(100.0)
    found = tv.open(tmp_path / "m.tvx").run(x, 4096)
    np.testing.assert_allclose(found[0], x.astype(np.float64).mean(0), rtol=1e-7)


ELEMENTWISE: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "swish": lambda x: x * torch.sigmoid(x),
    "gelu": F.gelu,
    "gelu tanh": lambda x: F.gelu(x, approximate="tanh"),
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "hardtanh": F.hardtanh,
    "hardtanh to 2": lambda x: F.hardtanh(x, -0.5, 2.0),
    "clamp above": lambda x: x.clamp(max=0.3),
    "clamp below": lambda x: x.clamp(min=-0.3),
    "maximum": lambda x: torch.maximum(x, torch.tensor(0.2)),
    "minimum": lambda x: torch.minimum(x, torch.tensor(-0.2)),
    "leaky relu": lambda x: F.leaky_relu(x, 0.1),
    "elu": F.elu,
    "elu of 0.5": lambda x: F.elu(x, 0.5),
    "selu": F.selu,
    "celu": lambda x: F.celu(x, 0.7),
    "softplus": F.softplus,
    "mish": F.mish,
    "exp": torch.exp,
    "abs": torch.abs,
    "root of the absolute": lambda x: x.abs().sqrt(),
    "logarithm of a softplus": lambda x: F.softplus(x).log(),
    "softmax": lambda x: x.softmax(-1),
    "square": lambda x: x**2,
    "negative": lambda x: -x,
    "one less": lambda x: 1 - x,
    "less": lambda x: x - 2 * x.tanh(),
    "highway": lambda x: x.sigmoid() * x.tanh() + (1 - x.sigmoid()) * x,
    "three": lambda x: x * x.tanh() * x.sigmoid(),
}


@pytest.mark.parametrize("function", ELEMENTWISE.values(), ids=ELEMENTWISE)
def test_activations_and_gates(function: Callable[[Tensor], Tensor], tmp_path: Path) -> None:
    module = Function(lambda x, inner: function(2 * inner(x)), inner=nn.Linear(FEATURES, 7)).eval()
    model = from_torch(module, speech())
    check(model, module, tmp_path, 1, FRAMES)
    again = load(export_to(module, tmp_path / "m.pt2", speech()))
    check(again, module, tmp_path, FRAMES, 40)


def test_slopes_for_each_channel(tmp_path: Path) -> None:
    channels = nn.PReLU(7)
    nn.init.uniform_(channels.weight, -1, 1)
    for module in (
        nn.Sequential(nn.Linear(FEATURES, 7), nn.PReLU()),
        Function(
            lambda x, inner, act: act(inner(x).mT).mT, inner=nn.Linear(FEATURES, 7), act=channels
        ),
    ):
        module.eval()
        check(from_torch(module, speech()), module, tmp_path, 1, FRAMES)


class Masker(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(FEATURES, 8, batch_first=True, bidirectional=True)
        self.out = nn.Linear(16, FEATURES)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = torch.sigmoid(self.out(self.rnn(x)[0])) * x
        return result


def test_a_mask_times_the_input(tmp_path: Path) -> None:
    module = Masker().eval()
    check(from_torch(module, speech()), module, tmp_path, 1, FRAMES, 70)


NORMS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "old weight norm": weight_norm,
    "weight norm": parametrizations.weight_norm,
    "old spectral norm": spectral_norm,
    "spectral norm": parametrizations.spectral_norm,
    "pruning": lambda part: prune.random_unstructured(part, "weight", 0.5),
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)
def test_computed_weights_are_resolved(
    norm: Callable[[nn.Module], nn.Module], tmp_path: Path
) -> None:
    module = nn.Sequential(norm(nn.Linear(FEATURES, 9)), nn.Tanh(), norm(nn.Linear(9, 4)))
    module(speech())  # in training mode: estimates the spectral norm
    module.eval()
    check(from_torch(module, speech()), module, tmp_path, 1, FRAMES)
    again = load(export_to(module, tmp_path / "m.pt2", speech()))
    check(again, module, tmp_path, FRAMES)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_are_cast(kind: torch.dtype) -> None:
    module = nn.GRU(FEATURES, 5, batch_first=True).to(kind)
    model = from_torch(Function(lambda x, rnn: rnn(x)[0], rnn=module), speech().to(kind))
    x = speech(40)
    torch.testing.assert_close(Executor(model)(x), module.float()(x)[0])
    assert {vector.dtype for _, vector in model.vectors()} == {torch.float32}


def test_a_bare_layer_gets_a_name() -> None:
    rnn = Function(lambda x, rnn: rnn(x)[0], rnn=nn.LSTM(FEATURES, 4, 2, batch_first=True))
    for module, names in (
        (nn.Linear(FEATURES, 4), ["linear"]),
        (nn.LayerNorm(FEATURES), ["layer_norm"]),
        (nn.ReLU(), ["relu"]),
        (rnn, ["rnn.0", "rnn.1"]),
    ):
        assert [node.name for node in from_torch(module, speech()).nodes] == names


class Unrolled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(FEATURES, FEATURES, batch_first=True)
        self.norm, self.out = nn.LayerNorm(FEATURES), nn.Linear(FEATURES, FEATURES)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = x + self.out(self.norm(self.rnn(x)[0]))
        return x


def test_a_layer_used_three_times_is_there_once(tmp_path: Path) -> None:
    module = Unrolled().eval()
    model = from_torch(module, speech())
    assert len(model.nodes) == 12
    names = [name for name, _ in model.matrices()]
    assert names == ["rnn.0.forward.weight_ih", "rnn.0.forward.weight_hh", "out.0.weight"]
    again = load(export_to(module, tmp_path / "m.pt2", speech()))
    assert [name for name, _ in again.matrices()] == names
    check(model, module, tmp_path, 1, FRAMES)
    check(tvx.load(tmp_path / "m.tvx"), module, tmp_path, FRAMES)


def test_other_layouts_are_those_of_files(tmp_path: Path) -> None:
    rnn, out = nn.GRU(FEATURES, 8), nn.Linear(8, 5)
    major = Function(lambda x, rnn, out: out(rnn(x)[0]), rnn=rnn, out=out).eval()
    bands = Function(
        lambda x, conv, out: out(conv(x).flatten(1, 2).mT),
        conv=nn.Conv2d(1, 4, (3, 5), padding=(1, 2)),
        out=nn.Linear(4 * FEATURES, 5),
    ).eval()
    last = Function(lambda x, conv: conv(x).tanh(), conv=nn.Conv1d(FEATURES, 5, 3)).eval()
    for module, example in (
        (major, torch.randn(50, 1, FEATURES)),
        (major, torch.randn(50, 2, FEATURES)),
        (major, torch.randn(50, FEATURES)),
        (last, torch.randn(1, FEATURES, 50)),
        (bands, torch.randn(1, 1, FEATURES, 50)),
    ):
        model = from_torch(module, example)
        other = load(export_to(module, tmp_path / "m.pt2", example))
        x = speech(30)
        torch.testing.assert_close(Executor(model)(x), Executor(other)(x))


@pytest.mark.parametrize("padding", [(2, 1), "same"])
def test_images_take_groups_and_dilation(padding: object, tmp_path: Path) -> None:
    """As in a depthwise separable convolution."""
    module = Function(
        lambda x, first, depth, out: out(depth(first(x[:, None])).transpose(1, 2).flatten(2)),
        first=nn.Conv2d(1, 4, (3, 3), padding=1),
        depth=nn.Conv2d(4, 8, (3, 3), padding=padding, dilation=(2, 1), groups=4),
        out=nn.Linear(8 * FEATURES, 5),
    ).eval()
    model = from_torch(module, speech())
    check(model, module, tmp_path, 1, FRAMES)


def test_inputs_in_a_tuple_are_taken(tmp_path: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(FEATURES, 4, batch_first=True)

        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            return self.rnn(x)[0]

    module = Net().eval()
    model = from_torch(module, (speech(), torch.tensor([FRAMES])))
    assert_same(model, Function(lambda x, rnn: rnn(x)[0], rnn=module.rnn), 5, 40)
    assert model.provenance["unused_inputs"] == ["lengths"]
    assert "fixed_frames" not in model.provenance


@pytest.mark.filterwarnings("ignore:JUDGED ON RANDOM", "ignore:THE RESULT IS FAR")
def test_a_shared_layer_stays_shared_through_every_pass() -> None:
    model = from_torch(Unrolled().eval(), speech())
    steps = [
        {"equalize": {}},
        {"factorize": {"rank": 3}},
        {"quantize": {"bits": 4}},
    ]
    small = tv.compress(model, tv.recipe.Recipe.model_validate({"steps": steps})).model
    assert small.uses("out.0") == ("out.0", "out.1", "out.2")
    assert len(list(small.matrices())) == 3
    assert dataclasses.replace(small).digest() == small.digest()
    planned = tv.compress(model, ratio=2, effort="fast").model
    assert planned.uses("rnn.0") == ("rnn.0", "rnn.1", "rnn.2")

"""Modules that torch exported to ONNX, by both of its exporters, against ONNX Runtime."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F
from onnx_graphs import FEATURES, assert_parity, export, given, original
from torch import Tensor, nn
from torch_modules import Function

from tinyvox.importers import load
from tinyvox.model import layers


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)


class DeepSpeech2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, (3, 5), stride=(2, 1), padding=(1, 2))
        self.norm = nn.BatchNorm2d(4)
        self.norm.running_mean.normal_()
        self.norm.running_var.uniform_(0.5, 2)
        self.gru = nn.GRU(4 * FEATURES // 2, 8, batch_first=True, bidirectional=True)
        self.out = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.hardtanh(self.norm(self.conv(x.transpose(1, 2).unsqueeze(1))), 0, 20)
        batch, channels, bands, frames = x.shape
        x = x.reshape(batch, channels * bands, frames).transpose(1, 2)
        return F.log_softmax(self.out(self.gru(x)[0]), -1)


def rnn(kind: type[nn.RNNBase], count: int = 1, **settings: bool) -> nn.Module:
    module = kind(FEATURES, 8, count, batch_first=True, **settings)
    size = 16 if settings else 8
    return Function(lambda x, rnn, out: out(rnn(x)[0]), rnn=module, out=nn.Linear(size, 4))


def on(function: Callable[..., Tensor], **parts: nn.Module) -> nn.Module:
    return Function(function, **parts)


DENSE = {"dense": nn.Linear(FEATURES, 8)}
MODULES: dict[str, Callable[[], nn.Module]] = {
    "lstm": lambda: rnn(nn.LSTM, 2),
    "bidirectional lstm": lambda: rnn(nn.LSTM, bidirectional=True),
    "gru": lambda: rnn(nn.GRU, 2, bidirectional=True),
    "deepspeech2": DeepSpeech2,
    "last hidden state": lambda: on(
        lambda x, rnn, out: out(rnn(x)[1][-1]),
        rnn=nn.GRU(FEATURES, 8, 2, batch_first=True),
        out=nn.Linear(8, 4),
    ),
    "last frame": lambda: on(
        lambda x, rnn, out: out(rnn(x)[0][:, -1]),
        rnn=nn.LSTM(FEATURES, 8, batch_first=True),
        out=nn.Linear(8, 4),
    ),
    "mean": lambda: on(lambda x, dense: dense(x).mean(1), **DENSE),
    "convolutions": lambda: on(
        lambda x, one, two, norm: norm(two(F.relu(one(x.transpose(1, 2))))).transpose(1, 2),
        one=nn.Conv1d(FEATURES, 8, 3, padding=1),
        two=nn.Conv1d(8, 8, 5, padding=2, stride=2, groups=2),
        norm=nn.BatchNorm1d(8),
    ),
    "layer norm and gelu": lambda: on(
        lambda x, dense, norm: F.gelu(norm(dense(x))), **DENSE, norm=nn.LayerNorm(8)
    ),
    "softplus, mish, elu": lambda: on(
        lambda x, dense: F.mish(F.softplus(F.elu(dense(x)))) + F.hardswish(dense(x)), **DENSE
    ),
    "softsign, silu, selu": lambda: on(
        lambda x, dense: F.softsign(dense(x)) + F.silu(dense(x)) * F.selu(dense(x)), **DENSE
    ),
    "prelu": lambda: nn.Sequential(nn.Linear(FEATURES, 8), nn.PReLU(), nn.Linear(8, 3)),
    "softmax": lambda: nn.Sequential(nn.Linear(FEATURES, 8), nn.Softmax(-1)),
    "mask": lambda: on(
        lambda x, rnn, out: x * torch.sigmoid(out(rnn(x)[0])),
        rnn=nn.GRU(FEATURES, 8, batch_first=True),
        out=nn.Linear(8, FEATURES),
    ),
    "gate": lambda: on(lambda x, dense: torch.cat([F.glu(dense(x), -1), x], -1), **DENSE),
    "normalized": lambda: on(lambda x, dense: dense((x - torch.arange(6.0)) / 2.5), **DENSE),
}


@pytest.mark.parametrize("opset", [11, 17])
@pytest.mark.parametrize("name", MODULES)
def test_the_exporter_by_scripts(name: str, opset: int, tmp_path: Path) -> None:
    module = MODULES[name]()
    path = export(module, tmp_path / "m.onnx", opset_version=opset)
    model = assert_parity(path, tolerance=5e-6)
    assert model.provenance["source"] == "m.onnx"
    expected = sum(p.numel() for p in module.parameters())
    buffers = sum(b.numel() for b in module.buffers())
    assert abs(model.original_parameters - expected) <= buffers + 8  # batch norms may be folded


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MODULES)
def test_the_exporter_of_programs(name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    path = export(MODULES[name](), tmp_path / "m.onnx", dynamo=True)
    assert_parity(path, 7, tolerance=5e-6)  # torch fixes the frames of many modules


def test_context_windows_by_places(tmp_path: Path) -> None:
    """The windows of `unfold`, which the exporter of programs writes as a Gather."""
    pytest.importorskip("onnxscript")
    module = on(
        lambda x, out: out(F.pad(x, (0, 0, 2, 2)).unfold(1, 5, 1).flatten(2)),
        out=nn.Linear(5 * FEATURES, 4),
    )
    model = assert_parity(export(module, tmp_path / "m.onnx", dynamo=True), 7)
    assert [type(node.layer) for node in model.nodes] == [layers.ContextWindow, layers.Linear]


def test_names_of_layers(tmp_path: Path) -> None:
    model = load(export(DeepSpeech2(), tmp_path / "m.onnx"))
    assert [name for name, _ in model.matrices()] == [
        "conv.weight",
        *(f"gru.{side}.weight_{of}" for side in ("forward", "backward") for of in ("ih", "hh")),
        "out.weight",
    ]


def test_one_number_of_frames(tmp_path: Path) -> None:
    path = export(rnn(nn.LSTM), tmp_path / "m.onnx", dynamic_axes={})
    assert assert_parity(path, 7).provenance["exported_frames"] == 7


class Detector(nn.Module):
    """As voice activity detectors are exported: samples of one frame and states a call, and a
    short-time spectrum within the frame."""

    def __init__(self) -> None:
        super().__init__()
        self.basis = nn.Conv1d(1, 18, 16, stride=8, bias=False)
        self.conv = nn.Conv1d(9, 6, 3, stride=2, padding=1)
        self.last = nn.Conv1d(6, 5, 3, stride=2, padding=1)
        self.rnn = nn.LSTM(5, 4)
        self.out = nn.Conv1d(4, 1, 1)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        spectrum = self.basis(F.pad(x, (0, 4), "reflect").unsqueeze(1))
        power = (spectrum[:, :9] ** 2 + spectrum[:, 9:] ** 2).sqrt()
        hidden = F.relu(self.last(F.relu(self.conv(power)))).squeeze(-1)
        _, (h, c) = self.rnn(hidden.unsqueeze(0), (state[:1], state[1:]))
        y = torch.sigmoid(self.out(F.relu(h[0].unsqueeze(-1)))).squeeze(1)
        return y, torch.cat([h, c])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("is_free", [False, True])
def test_frames_of_samples_with_states(is_free: bool, tmp_path: Path) -> None:
    samples, frames = 36, 50
    axes = {"x": {0: "batch", 1: "sequence"}, "state": {1: "batch"}} if is_free else {}
    torch.onnx.export(
        Detector().eval(),
        (torch.randn(1, samples), torch.zeros(2, 1, 4)),
        tmp_path / "m.onnx",
        dynamo=False,
        input_names=["x", "state"],
        output_names=["y", "next"],
        dynamic_axes=axes,
        opset_version=15,
    )
    model = load(tmp_path / "m.onnx")
    assert model.input_size == samples
    notes = model.provenance["import_notes"]
    assert notes[-1] == "the states in state are those of the recurrent layers, kept by the model"
    assert ("a frame is taken to have 36 values" in notes[0]) == is_free
    session, state = ort.InferenceSession(tmp_path / "m.onnx"), np.zeros((2, 1, 4), np.float32)
    x, found = torch.randn(1, frames, samples), []
    for i in range(frames):
        y, state = session.run(None, {"x": x[:, i].numpy(), "state": state})
        found.append(torch.from_numpy(y[0]))
    assert float((given(model, x)[0] - torch.stack(found)).abs().max()) <= 2e-6


class Streaming(nn.Module):
    """The states of a recurrent layer go in and come out."""

    def __init__(self, kind: type[nn.RNNBase], count: int) -> None:
        super().__init__()
        self.rnn = kind(FEATURES, 8, count, batch_first=True)
        self.out = nn.Linear(8, 4)

    def forward(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        y, found = self.rnn(x, states if len(states) > 1 else states[0])
        return (self.out(y), *(found if isinstance(found, tuple) else (found,)))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("chunk", [1, 10, None])
@pytest.mark.parametrize(("kind", "count", "states"), [(nn.LSTM, 2, 2), (nn.GRU, 1, 1)])
def test_streaming(
    kind: type[nn.RNNBase], count: int, states: int, chunk: int | None, tmp_path: Path
) -> None:
    """A call takes a frame, ten, or any number."""
    names = [f"state{i}" for i in range(states)]
    axes = {"x": {0: "batch", 1: "time"}, **{name: {1: "batch"} for name in names}}
    torch.onnx.export(
        Streaming(kind, count).eval(),
        (torch.randn(1, chunk or 7, FEATURES), *(torch.zeros(count, 1, 8) for _ in names)),
        tmp_path / "m.onnx",
        dynamo=False,
        input_names=["x", *names],
        output_names=["y", *(f"next{name}" for name in names)],
        dynamic_axes={} if chunk else axes,
    )
    model = load(tmp_path / "m.onnx")
    session = ort.InferenceSession(tmp_path / "m.onnx")
    held = {name: np.zeros((count, 1, 8), np.float32) for name in names}
    x, found = torch.randn(1, 40, FEATURES), []
    for part in x.split(chunk or 5, dim=1):
        y, *rest = session.run(None, {"x": part.numpy(), **held})
        held = dict(zip(names, rest, strict=True))
        found.append(torch.from_numpy(y))
    assert float((given(model, x) - torch.cat(found, 1)).abs().max()) <= 2e-6


class Windows(nn.Module):
    """As DeepSpeech takes its features: each frame with nine before and nine after it."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(19 * FEATURES, 8)
        self.rnn = nn.LSTM(8, 8, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.rnn(F.hardtanh(self.dense(x.flatten(2)), 0, 20))[0]
        return y


class Bands(nn.Module):
    """Images [batch, 1, frames, features], of which the bands are averaged."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.out = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out(F.relu(self.conv(x)).mean(3).transpose(1, 2))
        return y


@pytest.mark.parametrize("is_free", [False, True])
def test_windows_and_images(is_free: bool, tmp_path: Path) -> None:
    axes = {"x": {1: "time"}} if is_free else {}
    example = torch.randn(1, 16, 19, FEATURES)
    path = export(Windows(), tmp_path / "windows.onnx", example, dynamic_axes=axes)
    model, features = load(path), torch.randn(1, 16, FEATURES)
    padded = F.pad(features, (0, 0, 9, 9)).unfold(1, 19, 1).transpose(2, 3).contiguous()
    assert float((given(model, features) - original(path, padded)).abs().max()) <= 2e-6
    axes = {"x": {2: "time"}} if is_free else {}
    path = export(Bands(), tmp_path / "bands.onnx", features[:, None], dynamic_axes=axes)
    if is_free:  # else the bands could be the frames
        found = given(load(path), features)
        assert float((found - original(path, features[:, None])).abs().max()) <= 2e-6


def test_lengths_of_packed_sequences(tmp_path: Path) -> None:
    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(FEATURES, 8, batch_first=True)

        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
            y: Tensor = nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0], batch_first=True)[0]
            return y

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Packed().eval(),
            (torch.randn(1, 7, FEATURES), torch.tensor([7])),
            tmp_path / "m.onnx",
            dynamo=False,
            input_names=["x", "lengths"],
            dynamic_axes={"x": {0: "batch", 1: "time"}, "lengths": {0: "batch"}},
        )
    model, x = load(tmp_path / "m.onnx"), torch.randn(1, 12, FEATURES)
    session = ort.InferenceSession(tmp_path / "m.onnx")
    (expected,) = session.run(None, {"x": x.numpy(), "lengths": np.array([12])})
    assert float((given(model, x) - torch.from_numpy(expected)).abs().max()) <= 2e-6

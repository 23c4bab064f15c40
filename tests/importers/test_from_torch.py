"""The torch importer against the module that it imports."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_modules import (
    FEATURES,
    FRAMES,
    Convolutions,
    DeepSpeech,
    Function,
    Residual,
    _disturb,
    assert_same,
    shifts,
    speech,
)

from tinyvox.executor import Executor
from tinyvox.importers.torch import from_torch
from tinyvox.model import layers


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)


def zeros_joined(x: Tensor) -> Tensor:
    zeros = x.new_zeros(x.shape[0], 2, x.shape[2])
    padded = torch.cat([zeros, x, zeros], dim=1)
    return torch.stack([padded[:, i : i + x.shape[1]] for i in range(5)], dim=2).flatten(2)


def windows(x: Tensor) -> Tensor:
    return F.pad(x, (0, 0, 2, 2)).unfold(1, 5, 1).transpose(2, 3).flatten(2)


def feature_major(x: Tensor) -> Tensor:
    return F.pad(x, (0, 0, 2, 2)).unfold(1, 5, 1).reshape(x.shape[0], x.shape[1], -1)


@pytest.mark.parametrize("context", [shifts, zeros_joined, windows, feature_major])
def test_deepspeech(context: Callable[[Tensor], Tensor]) -> None:
    module = DeepSpeech(context)
    model = from_torch(module, speech())
    assert_same(model, module, 1, 7, FRAMES, 50)
    assert [type(n.layer).__name__ for n in model.nodes].count("ContextWindow") == 1
    names = [node.name for node in model.nodes]
    assert {"dense1", "dense2", "dense3", "lstm", "dense5", "dense6", "log_softmax"} < set(names)
    assert isinstance(model.node("lstm").layer, layers.Recurrent)
    assert [n.layer.limit for n in model.nodes if isinstance(n.layer, layers.Activation)] == [
        0.7
    ] * 4
    parameters = sum(p.numel() for p in module.parameters())
    assert model.provenance == {"source": "DeepSpeech", "original_parameters": parameters}


class TimeMajor(nn.Module):
    """The frames of all utterances in one axis for dense layers, time first for the LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(FEATURES, 8)
        self.lstm = nn.LSTM(8, 5, num_layers=2)
        self.last = nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        batch, frames, size = x.shape
        x = x.permute(1, 0, 2).reshape(-1, size)
        x = torch.minimum(F.relu(self.first(x)), torch.tensor(0.5))
        x = self.lstm(x.view(frames, batch, 8))[0]
        return self.last(x.reshape(frames * batch, 5)).view(frames, batch, 4)


def test_time_major_lstm_and_merged_axes() -> None:
    module = TimeMajor()
    model = from_torch(module, speech())
    assert [node.name for node in model.nodes] == [
        "first",
        "clipped_relu",
        "lstm.0",
        "lstm.1",
        "last",
    ]
    assert_same(model, module, 1, 9, 40, turn=True)


@pytest.mark.parametrize(
    "recurrent",
    [
        nn.LSTM(FEATURES, 5, num_layers=2, bidirectional=True, batch_first=True),
        nn.GRU(FEATURES, 5, num_layers=3, batch_first=True),
        nn.GRU(FEATURES, 5, num_layers=2, bidirectional=True, bias=False, batch_first=True),
        nn.RNN(FEATURES, 5, num_layers=2, batch_first=True),
        nn.RNN(FEATURES, 5, nonlinearity="relu", bidirectional=True, batch_first=True),
        nn.LSTM(FEATURES, 5, bias=False, dropout=0.0, batch_first=True),
    ],
    ids=["bilstm", "gru", "bigru", "rnn_tanh", "rnn_relu", "lstm without biases"],
)
def test_recurrent(recurrent: nn.RNNBase) -> None:
    module = Function(lambda x, rnn: rnn(x)[0], rnn=recurrent)
    model = from_torch(module, speech())
    assert_same(model, module, 1, 13, 200)
    assert len(model.nodes) == recurrent.num_layers
    assert all(isinstance(node.layer, layers.Recurrent) for node in model.nodes)


class TurnedPair(nn.Module):
    """A bidirectional layer written as two, one over turned frames."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead = nn.GRU(FEATURES, 5, batch_first=True)
        self.back = nn.GRU(FEATURES, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        back = self.back(x.flip(1))[0].flip(1)
        return torch.cat([self.ahead(x)[0], back], dim=2)


def test_two_turned_layers_are_one_bidirectional_layer() -> None:
    module = TurnedPair()
    model = from_torch(module, speech())
    assert len(model.nodes) == 1
    assert_same(model, module, 1, 30)


class DeepSpeech2(nn.Module):
    """Two-dimensional convolutions, batch norm, summed bidirectional GRUs: Amodei et al. 2016."""

    def __init__(self, band_first: bool) -> None:
        super().__init__()
        self.band_first = band_first
        self.input_norm = nn.BatchNorm2d(1)
        self.conv1 = nn.Conv2d(1, 3, (3, 5), (2, 2), (1, 2))
        self.norm1 = nn.BatchNorm2d(3)
        self.conv2 = nn.Conv2d(3, 4, (2, 3), (1, 1), (0, 1))
        self.norm2 = nn.BatchNorm2d(4)
        self.gru = nn.GRU(8 if band_first else 12, 5, bidirectional=True)
        self.norm3 = nn.BatchNorm1d(5)
        self.last = nn.Linear(5, 4)
        _disturb(self)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2) if self.band_first else x
        x = self.input_norm(x.unsqueeze(1))
        x = F.hardtanh(self.norm1(self.conv1(x)), 0, 0.8)
        x = F.hardtanh(self.norm2(self.conv2(x)), 0, 0.8)
        x = x if self.band_first else x.transpose(2, 3)  # [batch, channels, bands, frames]
        x = x.reshape(x.shape[0], -1, x.shape[3]).permute(2, 0, 1)
        x = self.gru(x)[0]
        frames, batch, _ = x.shape
        x = x.view(frames, batch, 2, -1).sum(2)
        x = self.norm3(x.view(frames * batch, -1))
        return self.last(x).view(frames, batch, -1).transpose(0, 1)


@pytest.mark.parametrize("band_first", [True, False])
def test_deep_speech_2(band_first: bool) -> None:
    module = DeepSpeech2(band_first)
    model = from_torch(module, speech())
    assert {"input_norm", "conv1", "norm1", "conv2", "norm2", "last"} < {
        n.name for n in model.nodes
    }
    assert_same(model, module, 6, 25, 61)


def test_channels_behind_bands_reorder_the_columns_of_the_next_layer() -> None:
    module = Function(
        lambda x, conv, gru: gru(conv(x.unsqueeze(1)).permute(0, 2, 3, 1).flatten(2))[0],
        conv=nn.Conv2d(1, 3, (1, 3)),
        gru=nn.GRU(12, 5, batch_first=True),
    )
    assert_same(from_torch(module, speech()), module, 5, 30)


def test_residual_layer_norm_concat_and_constants() -> None:
    module = Residual()
    model = from_torch(module, speech())
    assert_same(model, module, 1, 31)
    kinds = {type(node.layer) for node in model.nodes}
    assert {layers.Add, layers.Concat, layers.LayerNorm, layers.BatchNorm} < kinds


def test_convolutions_in_time() -> None:
    module = Convolutions()
    model = from_torch(module, speech())
    assert [node.name for node in model.nodes] == [
        "conv1",
        "norm1",
        "relu",
        "conv2",
        "relu_2",
        "conv3",
    ]
    conv3 = model.node("conv3").layer
    assert isinstance(conv3, layers.Conv1d)
    assert conv3.padding == (3, 0)
    assert_same(model, module, 1, 8, 33)


def stack_by_reshape(x: Tensor) -> Tensor:
    stacks = x.shape[1] // 3
    return x[:, : stacks * 3].reshape(x.shape[0], stacks, -1)


def stack_by_view_and_drop(x: Tensor) -> Tensor:
    return x.view(x.shape[0], -1, 3, FEATURES).flatten(2)


def stack_by_unfold(x: Tensor) -> Tensor:
    return x.unfold(1, 3, 2).transpose(2, 3).flatten(2)


@pytest.mark.parametrize(
    ("function", "expected", "frames"),
    [
        (stack_by_reshape, {"count": 3, "stride": 3}, (3, 30)),
        (stack_by_view_and_drop, {"count": 3, "stride": 3}, (3, 30)),
        (stack_by_unfold, {"count": 3, "stride": 2}, (3, 12, 31)),
    ],
)
def test_frame_stacking(
    function: Callable[[Tensor], Tensor], expected: dict[str, int], frames: tuple[int, ...]
) -> None:
    module = Function(lambda x, dense: dense(function(x)), dense=nn.Linear(3 * FEATURES, 4))
    model = from_torch(module, speech())
    stacking = model.nodes[0].layer
    assert isinstance(stacking, layers.FrameStacking)
    assert vars(stacking) == expected
    assert_same(model, module, *frames)


def test_subsampling() -> None:
    module = Function(lambda x, dense: dense(x)[:, ::3], dense=nn.Linear(FEATURES, 4))
    model = from_torch(module, speech())
    assert isinstance(model.nodes[-1].layer, layers.Subsample)
    assert_same(model, module, 1, 9, 31)


def test_products_with_constants_are_linear_layers() -> None:
    weight, bias = torch.randn(FEATURES, 5), torch.randn(5)
    module = Function(lambda x: torch.tanh(x @ weight + bias) @ (weight.T @ weight).T[:5, :5])
    model = from_torch(module, speech())
    assert [type(node.layer).__name__ for node in model.nodes] == ["Linear", "Activation", "Linear"]
    assert_same(model, module, 4, 20)


def test_weight_norm_is_folded() -> None:
    dense = nn.utils.parametrizations.weight_norm(nn.Linear(FEATURES, 4))
    module = nn.Sequential(dense, nn.Tanh())
    assert_same(from_torch(module, speech()), module, 4)


def test_one_utterance_at_a_time() -> None:
    module = Function(
        lambda x, rnn, dense: dense(rnn(x.squeeze(0))[0]).unsqueeze(0),
        rnn=nn.LSTM(FEATURES, 5),
        dense=nn.Linear(5, 4),
    )
    model = from_torch(module, speech(batch=1))
    x = speech(40, 1)
    torch.testing.assert_close(Executor(model)(x), module(x))


def test_a_module_that_takes_one_number_of_frames() -> None:
    module = Function(
        lambda x, dense: dense(x.reshape(2 * FRAMES, FEATURES)).view(2, FRAMES, 4),
        dense=nn.Linear(FEATURES, 4),
    )
    model = from_torch(module, speech())
    assert model.provenance["fixed_frames"] == FRAMES
    assert Executor(model)(speech(7)).shape == (2, 7, 4)


def test_the_module_is_left_as_it_was() -> None:
    module = nn.Sequential(nn.Linear(FEATURES, 4), nn.Dropout(0.5)).double().train()
    from_torch(module, speech())
    assert module.training
    assert module[0].weight.dtype == torch.float64

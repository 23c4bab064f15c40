"""The torch importer against the module that it imports."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim

from tinyvox.errors import FileError, ImporterError, ModelError
from tinyvox.executor import Executor
from tinyvox.exporters import export_pt2
from tinyvox.importers import load
from tinyvox.importers.torch import from_torch
from tinyvox.model import (
    INPUT,
    Cell,
    Dense,
    Features,
    Model,
    Node,
    SpeechCard,
    card_path,
    layers,
    save_card,
)

FEATURES, FRAMES = 6, 9


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)


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


def _disturb(module: nn.Module) -> None:
    """Statistics other than 0 and 1."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            norm.running_mean = torch.randn(norm.num_features)
            norm.running_var = torch.rand(norm.num_features) + 0.5
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)


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


def test_residual_layer_norm_concat_and_constants() -> None:
    module = Residual()
    model = from_torch(module, speech())
    assert_same(model, module, 1, 31)
    kinds = {type(node.layer) for node in model.nodes}
    assert {layers.Add, layers.Concat, layers.LayerNorm, layers.BatchNorm} < kinds


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


def export(module: nn.Module, path: Path, example: Tensor, dynamic: bool = False) -> Path:
    shapes = ({0: Dim.AUTO, 1: Dim.AUTO},) if dynamic else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(module, (example,), dynamic_shapes=shapes, strict=False)
        torch.export.save(program, path)
    return path


@pytest.mark.parametrize("dynamic", [True, False])
@pytest.mark.parametrize("build", [lambda: DeepSpeech(shifts), Convolutions, Residual])
def test_pt2(build: Callable[[], nn.Module], dynamic: bool, tmp_path: Path) -> None:
    module = build().eval()
    path = export(module, tmp_path / "model.pt2", speech(), dynamic)
    model = load(path)
    assert_same(model, module, 2, 24, 35)
    parameters = sum(p.numel() for p in module.parameters())
    assert model.provenance == {"source": "model.pt2", "original_parameters": parameters}


@pytest.mark.parametrize("layout", [(1, 0, 2), (0, 2, 1)], ids=["time first", "time last"])
def test_pt2_with_another_order_of_the_input(layout: tuple[int, ...], tmp_path: Path) -> None:
    if layout[0]:
        module: nn.Module = Function(lambda x, rnn: rnn(x)[0], rnn=nn.GRU(FEATURES, 5))
    else:
        module = nn.Sequential(nn.Conv1d(FEATURES, 5, 3), nn.Tanh())
    model = load(export(module.eval(), tmp_path / "model.pt2", speech().permute(layout)))
    x = speech(15)
    back = torch.argsort(torch.tensor(layout)).tolist()
    expected = module(x.permute(layout)).permute(back)
    torch.testing.assert_close(Executor(model)(x), expected)


def dense(rows: int, columns: int) -> Dense:
    return Dense(torch.randn(rows, columns) / columns**0.5)


def every_layer() -> Model:
    """Every layer once, on the way that a streaming model might go."""
    vectors = [torch.rand(12) + 0.5 for _ in range(4)]
    chain: list[tuple[str, layers.Layer]] = [
        ("context", layers.ContextWindow(1, 2)),
        ("image", layers.Unflatten(4)),
        ("conv2d", layers.Conv2d(dense(6, 36), torch.randn(6), (3, 3), (1, 2), (1, 1, 0, 1))),
        ("norm2d", layers.BatchNorm(*(torch.rand(6) + 0.5 for _ in range(4)))),
        ("flat", layers.Flatten()),
        ("dense.1", layers.Linear(dense(12, 18), torch.randn(12))),
        ("relu", layers.Activation("clipped_relu", 0.9)),
        ("conv1d", layers.Conv1d(dense(12, 36), torch.randn(12), 3, 1, 2, (4, 0))),
        ("norm", layers.BatchNorm(*vectors)),
        ("subsample", layers.Subsample(2)),
        ("stack", layers.FrameStacking(2, 1)),
        ("lstm.0", layers.Recurrent("lstm", Cell(dense(20, 24), dense(20, 5), torch.randn(20)))),
        ("gru", layers.Recurrent("gru", gru_cell(5, 6), gru_cell(5, 6))),
        ("normed", layers.LayerNorm(vectors[0], vectors[1])),
        ("back", layers.Recurrent("rnn_tanh", None, Cell(dense(12, 12), dense(12, 12)))),
    ]
    names = [INPUT, *(name for name, _ in chain)]
    nodes = [Node(name, layer, (names[i],)) for i, (name, layer) in enumerate(chain)]
    nodes.append(Node("forward", layers.Add(), ("normed", "back")))
    nodes.append(Node("both", layers.Concat(), ("forward", "gru")))
    nodes.append(Node("softmax", layers.LogSoftmax(), ("both",)))
    return Model(FEATURES, tuple(nodes))


def gru_cell(size: int, hidden: int) -> Cell:
    bias = torch.randn(3 * hidden)
    return Cell(dense(3 * hidden, size), dense(3 * hidden, hidden), bias, torch.randn(hidden))


def test_what_is_exported_is_imported_again(tmp_path: Path) -> None:
    model = every_layer()
    export_pt2(model, tmp_path / "model.pt2")
    again = load(tmp_path / "model.pt2")
    assert [node.name for node in again.nodes] == [node.name for node in model.nodes]
    assert [type(node.layer) for node in again.nodes] == [type(node.layer) for node in model.nodes]
    assert list(tmp_path.iterdir()) == [tmp_path / "model.pt2"]
    for frames in (10, 64, 77):
        x = speech(frames)
        found, expected = Executor(again)(x), Executor(model)(x)
        assert (found - expected).abs().max() <= 1e-6 * max(1.0, expected.abs().max())


def test_the_card_beside_the_file_is_attached(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    export_pt2(Model(6, (Node("last", layers.Linear(dense(3, 6)), (INPUT,)),)), path)
    assert load(path).card is None
    card = SpeechCard(features=Features(coefficients=6), tokens=("a", "b", ""), blank=2)
    save_card(card, card_path(path))
    assert load(path).card == card
    other = card.model_copy(update={"tokens": ("x", "y", "")})
    assert load(path, other).card == other
    save_card(card.model_copy(update={"tokens": ("a", "")}), card_path(path))
    with pytest.raises((ModelError, ImporterError), match="2 tokens"):
        load(path, card.model_copy(update={"tokens": ("a", ""), "blank": 1}))


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
        (F.gelu, r"aten\.gelu\.default \(node 'gelu' in module 'block' at test_importers_torch"),
        (
            lambda x: F.gelu(x),
            r"at test_importers_torch\.py:\d+\): is not supported; supported are",
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


@pytest.mark.parametrize("part", [nn.BatchNorm1d(FEATURES), nn.Dropout(0.5)])
def test_pt2_in_training_mode_is_refused(part: nn.Module, tmp_path: Path) -> None:
    module = Function(lambda x, part: part(x.mT).mT, part=part.train())
    path = export(module, tmp_path / "model.pt2", speech())
    with pytest.raises(ImporterError, match=r"model\.pt2: .*training mode; call \.eval\(\)"):
        load(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"none\.pt2: no such file; check the path"):
        load(tmp_path / "none.pt2")
    with pytest.raises(FileError, match=r"is a folder, expected a model file, \.tvx or \.pt2"):
        load(tmp_path)
    for name, found in (("model.txt", r"files \.txt"), ("model", "files without a suffix")):
        (tmp_path / name).write_bytes(b"something else")
        with pytest.raises(ImporterError, match=f"{name}: tinyvox does not read {found}, expected"):
            load(tmp_path / name)
    path = tmp_path / "model.pt2"
    path.write_bytes(b"something else")
    with pytest.raises(ImporterError, match=r"model\.pt2: not a program .* export it again"):
        load(path)


def test_damaged_files_are_refused_whatever_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    export_pt2(Model(6, (Node("last", layers.Linear(dense(3, 6)), (INPUT,)),)), path)
    whole = path.read_bytes()
    for i in range(0, len(whole), len(whole) // 20):
        path.write_bytes(whole[:i])
        with pytest.raises(ImporterError, match=r"model\.pt2: not a program"):
            load(path)


def rewrite(path: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    """Change one member of a zip file."""
    with zipfile.ZipFile(path) as archive:
        members = {n: archive.read(n) for n in archive.namelist()}
    members[name] = change(members[name])
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in members.items():
            archive.writestr(member, data)


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    export_pt2(Model(6, (Node("last", layers.Linear(dense(3, 6)), (INPUT,)),)), path)
    with zipfile.ZipFile(path) as archive:
        config = next(
            n for n in archive.namelist() if n.endswith("weights/model_weights_config.json")
        )
        inputs = next(n for n in archive.namelist() if n.endswith("sample_inputs/model.pt"))
    whole = path.read_bytes()
    rewrite(path, config, lambda data: data.replace(b'"use_pickle": false', b'"use_pickle": true'))
    with pytest.raises(ImporterError, match="is a pickled object, which is not loaded"):
        load(path)
    path.write_bytes(whole)
    rewrite(path, inputs, lambda data: b"cposix\nsystem\n(S'true'\ntR.")
    with pytest.raises(ImporterError, match="not a program"):
        load(path)


def test_sizes_that_are_code_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    export_pt2(Model(6, (Node("last", layers.Linear(dense(3, 6)), (INPUT,)),)), path)
    with zipfile.ZipFile(path) as archive:
        graph = next(n for n in archive.namelist() if n.endswith("models/model.json"))
        assert b'"expr_str"' in archive.read(graph)
    mark = tmp_path / "ran"
    code = f'"expr_str": "open({str(mark)!r}, chr(119)).close() or '.encode()
    rewrite(path, graph, lambda data: data.replace(b'"expr_str": "', code))
    with pytest.raises(ImporterError, match="expected plain arithmetic"):
        load(path)
    assert not mark.exists()

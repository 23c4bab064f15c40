"""How published modules write what a layer does: banks of convolutions, cuts of padded frames,
norms over an utterance, layers along the batch, numbers of frames that suit strides."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from runtime_models import open_model
from torch import Tensor, nn
from torch_modules import FEATURES, Function

from tinyvox.errors import ImporterError
from tinyvox.executor import Executor
from tinyvox.importers.torch import from_torch
from tinyvox.model import Linear, Model, Recurrent

FRAMES = 24
Case = tuple[Callable[..., Tensor], dict[str, nn.Module]]


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)


def check(module: nn.Module, model: Model, folder: Path, *frames: int) -> None:
    """The native runtime gives what the module gives for so many frames [1, frames, features]."""
    session = open_model(model, folder)
    for count in frames:
        x = torch.randn(1, count, FEATURES)
        with torch.no_grad():
            expected = module(x)
            np.testing.assert_allclose(Executor(model)(x), expected, atol=1e-5, rtol=1e-4)
        np.testing.assert_allclose(session.run(x[0].numpy()), expected[0], atol=2e-5, rtol=1e-4)


def bank(x: Tensor, one: nn.Module, two: nn.Module, three: nn.Module) -> Tensor:
    """Convolutions with kernels of 1, 2 and 3 frames, each cut to the frames of the input."""
    count = x.shape[1]
    return torch.cat([conv(x.mT)[:, :, :count] for conv in (one, two, three)], 1).mT


def parts_of_padded(x: Tensor, one: nn.Module, two: nn.Module) -> Tensor:
    """Both halves of frames with zeros before them, as complex convolutions take them."""
    left, right = F.pad(x.mT, (2, 0)).chunk(2, 1)
    return (one(left) - two(right)).mT


def single_channels(x: Tensor, linear: nn.Module) -> Tensor:
    """Two images of one channel as an image of two."""
    image = torch.cat([x[:, None], linear(x)[:, None]], 1)
    return (image[:, 0] * image[:, 1]).tanh()


def one_channel_more(x: Tensor, conv: nn.Module) -> Tensor:
    """An image of one channel beside one of three."""
    image = conv(x[:, None])
    return torch.cat([x[:, None], image], 1).transpose(1, 2).flatten(2)


def bands_with_zeros(x: Tensor, linear: nn.Module) -> Tensor:
    """A mask that leaves the first feature out, with a zero in its place."""
    return F.pad(linear(x), (1, 0)) * x


def parts_of_bands(x: Tensor, conv: nn.Module) -> Tensor:
    """A part of bands of which zeros were put around."""
    return F.pad(conv(x[:, None]), (1, 2))[:, :, :, :5].transpose(1, 2).flatten(2)


def attended(x: Tensor, score: nn.Module) -> Tensor:
    """A sum over frames by their weights, as one einsum."""
    weights = score(x)[..., 0].softmax(1)
    return torch.einsum("bt,btf->bf", weights, x)[:, None]


CASES: dict[str, Case] = {
    "bank": (bank, {
        "one": nn.Conv1d(FEATURES, 3, 1), "two": nn.Conv1d(FEATURES, 3, 2, padding=1),
        "three": nn.Conv1d(FEATURES, 4, 3, padding=1),
    }),
    "parts of padded frames": (parts_of_padded, {
        "one": nn.Conv1d(FEATURES // 2, 4, 3), "two": nn.Conv1d(FEATURES // 2, 4, 3),
    }),
    "single channels": (single_channels, {"linear": nn.Linear(FEATURES, FEATURES)}),
    "one channel more": (one_channel_more, {"conv": nn.Conv2d(1, 3, 3, padding=1)}),
    "bands with zeros": (bands_with_zeros, {"linear": nn.Linear(FEATURES, FEATURES - 1)}),
    "parts of bands": (parts_of_bands, {"conv": nn.Conv2d(1, 3, 3, padding=1)}),
    "attended": (attended, {"score": nn.Linear(FEATURES, 1)}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_published_modules_write_is_understood(name: str, tmp_path: Path) -> None:
    function, parts = CASES[name]
    module = Function(function, **parts)
    check(module, from_torch(module, torch.randn(1, FRAMES, FEATURES)), tmp_path, 7, FRAMES, 61)


def random(norm: nn.Module) -> nn.Module:
    """The norm with random factors and offsets."""
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    return norm


NORMS: dict[str, nn.Module] = {
    "each feature": nn.InstanceNorm1d(FEATURES),
    "each feature, scaled": nn.InstanceNorm1d(FEATURES, affine=True),
    "all features": nn.GroupNorm(1, FEATURES),
    "groups of features": nn.GroupNorm(2, FEATURES),
}


@pytest.mark.parametrize("name", NORMS)
def test_norms_over_an_utterance(name: str, tmp_path: Path) -> None:
    module = Function(lambda x, norm: norm(x.mT).mT, norm=random(NORMS[name]))
    check(module, from_torch(module, torch.randn(1, FRAMES, FEATURES)), tmp_path, 5, 61)


@pytest.mark.parametrize("norm", [nn.InstanceNorm2d(3, affine=True), nn.GroupNorm(1, 3)])
def test_norms_of_channels_over_bands_and_an_utterance(norm: nn.Module, tmp_path: Path) -> None:
    def function(x: Tensor, conv: nn.Module, norm: nn.Module) -> Tensor:
        return norm(conv(x[:, None])).transpose(1, 2).flatten(2)

    module = Function(function, conv=nn.Conv2d(1, 3, 3, padding=1), norm=random(norm))
    check(module, from_torch(module, torch.randn(1, FRAMES, FEATURES)), tmp_path, 5, 61)


def deviations(x: Tensor, linear: nn.Module) -> Tensor:
    """Features normalized over an utterance, as some do it for each speaker."""
    x = (x - x.mean(1, keepdim=True)) / (x.std(1, keepdim=True) + 1e-10)
    return linear(x)  # type: ignore[no-any-return]


def biased(x: Tensor, linear: nn.Module) -> Tensor:
    mean, variance = x.mean(1, keepdim=True), x.var(1, unbiased=False, keepdim=True)
    return linear((x - mean) / torch.sqrt(variance + 1e-3))  # type: ignore[no-any-return]


def level(x: Tensor, linear: nn.Module) -> Tensor:
    """Divided by the mean of all values of an utterance, as FullSubNet does."""
    x = x[:, None].abs()
    x = x / (x.mean(dim=(1, 2, 3), keepdim=True) + 1e-5)
    return linear(x[:, 0])  # type: ignore[no-any-return]


@pytest.mark.parametrize("function", [deviations, biased, level])
def test_norms_over_an_utterance_that_are_written_out(
    function: Callable[..., Tensor], tmp_path: Path
) -> None:
    module = Function(function, linear=nn.Linear(FEATURES, 4))
    check(module, from_torch(module, torch.randn(1, FRAMES, FEATURES)), tmp_path, 5, 61)


def all_states(x: Tensor, rnn: nn.Module) -> Tensor:
    return rnn(x)[1].tanh()  # type: ignore[no-any-return]


KEYS = torch.randn(2, 1, 3, 4)


def style_tokens(x: Tensor, rnn: nn.Module, query: nn.Module) -> Tensor:
    """Attention of several heads to keys that are constants, by a final state."""
    queries = query(rnn(x)[1].squeeze(0).unsqueeze(1))
    queries = torch.stack(torch.split(queries, 4, dim=2), dim=0)
    scores = F.softmax(torch.matmul(queries, KEYS.transpose(2, 3)) / 2, dim=3)
    heads = torch.matmul(scores, KEYS)
    return torch.cat(torch.split(heads, 1, dim=0), dim=3).squeeze(0)


@pytest.mark.parametrize(
    ("function", "parts"),
    [
        (all_states, {"rnn": nn.GRU(FEATURES, 5, batch_first=True, bidirectional=True)}),
        (style_tokens, {"rnn": nn.GRU(FEATURES, 5, batch_first=True), "query": nn.Linear(5, 8)}),
    ],
)
def test_final_states_as_one_tensor(
    function: Callable[..., Tensor], parts: dict[str, nn.Module], tmp_path: Path
) -> None:
    module = Function(function, **parts)
    model = from_torch(module, torch.randn(1, FRAMES, FEATURES))
    x = torch.randn(1, 61, FEATURES)
    with torch.no_grad():
        expected = module(x).reshape(1, -1)
    found = open_model(model, tmp_path).run(x[0].numpy())
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_an_embedding_of_each_bin(tmp_path: Path) -> None:
    """All bins of all frames in one dimension, each with a vector of length one."""

    def function(x: Tensor, linear: nn.Module) -> Tensor:
        return F.normalize(linear(x).tanh().view(1, -1, 4), dim=-1)

    module = Function(function, linear=nn.Linear(FEATURES, FEATURES * 4))
    model = from_torch(module, torch.randn(1, FRAMES, FEATURES))
    x = torch.randn(1, 61, FEATURES)
    with torch.no_grad():
        expected = module(x).view(61, -1)
    found = open_model(model, tmp_path).run(x[0].numpy())
    np.testing.assert_allclose(found, expected, atol=1e-5)


ALONG_BATCH: dict[str, Callable[..., nn.Module]] = {
    "lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN,
}  # fmt: skip


@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}, {"bias": False}])
@pytest.mark.parametrize("kind", ALONG_BATCH)
def test_a_layer_along_the_batch_is_a_function_of_each_frame(
    kind: str, options: dict[str, int], tmp_path: Path
) -> None:
    def function(x: Tensor, first: nn.Module, second: nn.Module) -> Tensor:
        return second(first(x)[0])[0]  # type: ignore[no-any-return]

    first = nn.GRU(FEATURES, 5, batch_first=True)
    module = Function(function, first=first, second=ALONG_BATCH[kind](5, 4, **options))
    model = from_torch(module, torch.randn(1, FRAMES, FEATURES))
    (note,) = model.provenance["import_notes"]
    assert note.endswith("batch_first may have been forgotten")
    assert sum(isinstance(node.layer, Recurrent) for node in model.nodes) == 1
    check(module, model, tmp_path, 7, 40)


def test_an_example_that_is_turned_is_refused() -> None:
    module = Function(lambda x, lstm: lstm(x)[0], lstm=nn.LSTM(FEATURES, 5))
    with pytest.raises(ImporterError, match="set batch_first or transpose the input"):
        from_torch(module, torch.randn(1, FRAMES, FEATURES))


def cut_to_pairs(x: Tensor, conv: nn.Module, linear: nn.Module) -> Tensor:
    """Frames are cut to pairs before a convolution that sees the next frame."""
    x = conv(x[:, : x.shape[1] // 2 * 2].mT).mT
    return linear(x.reshape(1, -1, 2 * x.shape[2]))  # type: ignore[no-any-return]


def test_a_module_that_cuts_frames_to_suit_its_strides(tmp_path: Path) -> None:
    parts = {"conv": nn.Conv1d(FEATURES, 4, 3, padding=1), "linear": nn.Linear(8, 3)}
    module = Function(cut_to_pairs, **parts)
    model = from_torch(module, torch.randn(1, FRAMES, FEATURES))
    assert model.provenance["import_notes"] == [
        "the source cuts or adds frames at the end unless their number is a multiple of 2; the "
        "model does not"
    ]
    check(module, model, tmp_path, 2, 18, 62)
    assert any(isinstance(node.layer, Linear) for node in model.nodes)

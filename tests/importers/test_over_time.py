"""One output an utterance: final states, statistics, attention; pooling, transposed convolutions,
mirrored bands, pyramids."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_modules import FEATURES, Function

import tinyvox as tv
from tinyvox.errors import ImporterError
from tinyvox.executor import Executor
from tinyvox.formats import tvx
from tinyvox.importers.torch import from_torch
from tinyvox.model import Model, layers

Case = tuple[Callable[..., Tensor], dict[str, nn.Module]]
FRAMES = 16


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)


def imported(case: Case) -> tuple[Model, nn.Module]:
    function, parts = case
    module = Function(function, **parts).eval()
    with torch.no_grad():
        module(torch.randn(1, FRAMES, FEATURES))  # lazy layers learn their sizes
    return from_torch(module, torch.randn(1, FRAMES, FEATURES)), module


def check(case: Case, folder: Path, *lengths: int) -> Model:
    """Executor and native runtime give what the module gives, for any number of frames and cut."""
    model, module = imported(case)
    tvx.save(model, folder / "m.tvx")
    session = tv.open(folder / "m.tvx")
    for frames in (FRAMES, 18, *lengths):
        x = torch.randn(1, frames, FEATURES)
        with torch.no_grad():
            expected = module(x).reshape(-1, session.output_size)
            found = Executor(model)(x)[0]
        torch.testing.assert_close(found.reshape(expected.shape), expected, rtol=1e-5, atol=1e-5)
        for chunk in (1, 5, 1000):
            native = session.run(x[0].numpy(), chunk)
            np.testing.assert_allclose(native, expected.numpy(), rtol=1e-4, atol=2e-5)
    return model


def alone_and_together(model: Model) -> None:
    """An utterance of a batch gives what it gives alone."""
    lengths = torch.tensor([23, FRAMES, 18, 8])
    x = torch.randn(4, 23, FEATURES)
    with torch.no_grad():
        found, counts = Executor(model).run(x, lengths)
        for i, length in enumerate(lengths.tolist()):
            alone = Executor(model)(x[i : i + 1, :length])[0]
            assert len(alone) == counts[i]
            torch.testing.assert_close(found[i, : len(alone)], alone, rtol=1e-5, atol=1e-5)


def gru(**options: Any) -> nn.GRU:
    return nn.GRU(FEATURES, 8, batch_first=True, **options)


# Final states.


STATES: dict[str, Callable[[Tensor], Tensor]] = {
    "joined": lambda h: torch.cat((h[-2], h[-1]), 1),
    "permuted": lambda h: h.permute(1, 0, 2).reshape(h.shape[1], -1),
    "transposed": lambda h: h.transpose(0, 1).contiguous().view(h.shape[1], -1),
    "viewed": lambda h: h.view(2, 2, -1, 8)[-1].transpose(0, 1).reshape(-1, 16),
    "viewed and joined": lambda h: torch.cat(list(h.view(2, 2, h.shape[1], 8)[-1]), -1),
    "of directions": lambda h: h.view(2, 2, h.shape[1], 8)[:, 1][0],
    "sum of two": lambda h: h[-2:].sum(0),
    "sum kept": lambda h: h.sum(0, keepdim=True).squeeze(0),
    "mean": lambda h: h.mean(0),
    "unbound": lambda h: torch.cat(h.unbind(0), -1),
    "iterated": lambda h: torch.cat(list(h), 1),
    "sum of directions": lambda h: h.view(2, 2, h.shape[1], 8)[-1].sum(0),
    "stacked": lambda h: torch.stack([h[0], h[3]], 1).mean(1),
    "last kept": lambda h: h[-1:, :, :].squeeze(0),
    "last two": lambda h: h[-2:].permute(1, 0, 2).flatten(1),
    "indexed": lambda h: h[-1, :, :],
}


@pytest.mark.parametrize("function", STATES.values(), ids=STATES)
def test_final_states_as_people_write_them(
    function: Callable[[Tensor], Tensor], tmp_path: Path
) -> None:
    parts = {"rnn": gru(num_layers=2, bidirectional=True), "out": nn.LazyLinear(3)}
    model = check((lambda x, rnn, out: out(function(rnn(x)[1])), parts), tmp_path, 1, 40)
    assert model.signals[model.output] == layers.Signal((3,), 0)
    alone_and_together(model)


@pytest.mark.parametrize(
    "function",
    [lambda h: h, lambda h: h[0], lambda h: h.squeeze(0), lambda h: h.transpose(0, 1).flatten(1)],
)
def test_the_final_state_of_one_cell(function: Callable[[Tensor], Tensor], tmp_path: Path) -> None:
    parts = {"rnn": nn.LSTM(FEATURES, 8, batch_first=True), "out": nn.Linear(8, 3)}
    check((lambda x, rnn, out: out(function(rnn(x)[1][0])), parts), tmp_path, 1, 40)


def test_final_states_of_two_layers_and_their_pools(tmp_path: Path) -> None:
    def ends(x: Tensor, one: nn.Module, two: nn.Module) -> Tensor:
        y, first = one(x)
        z, second = two(y)
        return torch.cat([torch.cat([first, second], 0).mean(0), z.mean(1), z.amax(1)], -1)

    two = nn.GRU(8, 8, batch_first=True)
    check((ends, {"one": gru(), "two": two}), tmp_path, 3)


@pytest.mark.parametrize(
    "function", [lambda h: h.sum(1), lambda h: h[:, :, :3], lambda h: h.view(4, -1, 4, 2)]
)
def test_parts_of_final_states_that_no_layer_gives(function: Callable[[Tensor], Tensor]) -> None:
    rnn = gru(num_layers=2, bidirectional=True)
    with pytest.raises(ImporterError, match=r"final states.*write h\[-1\], h\.squeeze\(0\), or"):
        imported((lambda x, rnn: function(rnn(x)[1]), {"rnn": rnn}))


# One frame, statistics.


ENDS: dict[str, Callable[[Tensor], Tensor]] = {
    "middle": lambda y: y[:, y.shape[1] // 2],
    "third": lambda y: y[:, 2],
    "third last": lambda y: y[:, -3],
    "sum": lambda y: y.sum(1),
    "mean and deviation": lambda y: torch.cat([y.mean(1), y.std(1)], 1),
    "both at once": lambda y: torch.cat(torch.std_mean(y, 1), 1),
    "variance": lambda y: torch.sqrt(y.var(1, unbiased=False) + 1e-5),
    "deviation of channels": lambda y: y.mT.std(-1, correction=0, keepdim=True).flatten(1),
    "by hand": lambda y: ((y * y).mean(1) - y.mean(1) ** 2).clamp(min=1e-6).sqrt(),
}


@pytest.mark.parametrize("function", ENDS.values(), ids=ENDS)
def test_one_output_an_utterance(function: Callable[[Tensor], Tensor], tmp_path: Path) -> None:
    model = check((lambda x, rnn: function(rnn(x)[0]), {"rnn": gru()}), tmp_path, 5, 40)
    assert model.signals[model.output].stride == 0
    alone_and_together(model)


def test_a_frame_that_is_counted_is_no_middle_frame(tmp_path: Path) -> None:
    case = (lambda x, rnn: rnn(x)[0][:, FRAMES // 2], {"rnn": gru()})
    check(case, tmp_path, FRAMES, FRAMES + 1, 3 * FRAMES)


# Attention.


def additive(x: Tensor, rnn: nn.Module, hidden: nn.Module, score: nn.Module) -> Tensor:
    y, _ = rnn(x)
    return (torch.softmax(score(torch.tanh(hidden(y))), 1) * y).sum(1)


def heads(x: Tensor, rnn: nn.Module, score: nn.Module) -> Tensor:
    y, _ = rnn(x)
    return torch.bmm(F.softmax(score(y), dim=1).transpose(1, 2), y).flatten(1)


def values_first(x: Tensor, rnn: nn.Module, score: nn.Module) -> Tensor:
    y, _ = rnn(x)
    return torch.matmul(y.mT, score(y).softmax(1)).squeeze(2)


def of_channels(x: Tensor, rnn: nn.Module, score: nn.Module) -> Tensor:
    """Attentive statistics, Okabe et al. 2018."""
    y, _ = rnn(x)
    weights = score(y).softmax(1)
    mean = (weights * y).sum(1)
    deviation = ((weights * y * y).sum(1) - mean * mean).clamp(min=1e-6).sqrt()
    return torch.cat([mean, deviation], 1)


def middle_query(x: Tensor, rnn: nn.Module, query: nn.Module) -> Tensor:
    """De Andrade et al., "A neural attention model for speech command recognition", 2018."""
    y, _ = rnn(x)
    scores = torch.bmm(y, query(y[:, y.shape[1] // 2]).unsqueeze(2)).squeeze(2)
    return torch.bmm(F.softmax(scores, dim=1).unsqueeze(1), y).squeeze(1)


class Query(nn.Module):
    """A learned vector, times each frame."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(8))

    def forward(self, y: Tensor) -> Tensor:
        return (y * F.softmax(y @ self.query, dim=1).unsqueeze(-1)).sum(1)


ATTENTION: dict[str, Case] = {
    "additive": (additive, {"rnn": gru(), "hidden": nn.Linear(8, 6), "score": nn.Linear(6, 1)}),
    "heads": (heads, {"rnn": gru(), "score": nn.Linear(8, 3)}),
    "values first": (values_first, {"rnn": gru(), "score": nn.Linear(8, 1)}),
    "of channels": (of_channels, {"rnn": gru(), "score": nn.Linear(8, 8)}),
    "middle query": (middle_query, {"rnn": gru(), "query": nn.Linear(8, 8)}),
    "learned query": (lambda x, rnn, query: query(rnn(x)[0]), {"rnn": gru(), "query": Query()}),
    "weights": (lambda x, dense: F.softmax(dense(x), 1), {"dense": nn.Linear(FEATURES, 3)}),
    "excited": (
        lambda x, dense, gate: dense(x) * gate(dense(x).mean(1, keepdim=True)).sigmoid(),
        {"dense": nn.Linear(FEATURES, 5), "gate": nn.Linear(5, 5)},
    ),
    "without the mean": (
        lambda x, dense: dense(x - x.mean(1, keepdim=True)),
        {"dense": nn.Linear(FEATURES, 5)},
    ),
}


@pytest.mark.parametrize("case", ATTENTION.values(), ids=ATTENTION)
def test_attention_over_time(case: Case, tmp_path: Path) -> None:
    alone_and_together(check(case, tmp_path, 1, 40))


# Pooling.


def pooling(pool: nn.Module, *, turned: bool = False) -> Case:
    def run(x: Tensor, conv: nn.Module, pool: nn.Module, out: nn.Module) -> Tensor:
        if turned:
            return out(pool(conv(x.mT.unsqueeze(1))).permute(0, 3, 1, 2).flatten(2))
        return out(pool(conv(x.unsqueeze(1))).permute(0, 2, 1, 3).flatten(2))

    conv = nn.Conv2d(1, 4, 3, padding=1)
    return run, {"conv": conv, "pool": pool, "out": nn.LazyLinear(3)}


def of_frames(pool: nn.Module) -> Case:
    conv = nn.Conv1d(FEATURES, 6, 3, padding=1)
    return (lambda x, conv, pool: pool(conv(x.mT)).mT), {"conv": conv, "pool": pool}


POOLS: dict[str, Case] = {
    "max": pooling(nn.MaxPool2d(2)),
    "max, padded": pooling(nn.MaxPool2d(3, 2, 1)),
    "max, ceil": pooling(nn.MaxPool2d(2, 2, ceil_mode=True)),
    "max, ceil of bands": pooling(nn.MaxPool2d((3, 4), (2, 3), ceil_mode=True)),
    "mean of bands": pooling(nn.AvgPool2d((1, 2))),
    "mean, padded": pooling(nn.AvgPool2d(3, 2, 1)),
    "mean inside": pooling(nn.AvgPool2d(3, 2, 1, count_include_pad=False)),
    "mean, ceil": pooling(nn.AvgPool2d(3, 2, ceil_mode=True)),
    "turned": pooling(nn.MaxPool2d((2, 1)), turned=True),
    "turned, padded": pooling(nn.MaxPool2d((3, 2), (2, 2), (1, 1)), turned=True),
    "frames": of_frames(nn.MaxPool1d(3, 2, 1)),
    "mean of frames": of_frames(nn.AvgPool1d(2)),
    "features": (lambda x, dense: F.max_pool1d(dense(x), 2), {"dense": nn.Linear(FEATURES, 6)}),
    "adapted bands": pooling(nn.AdaptiveAvgPool2d((None, 3))),
}
WHOLE: dict[str, Callable[[Tensor], Tensor]] = {
    "time": lambda y: F.adaptive_avg_pool2d(y, (1, None)).flatten(1),
    "all": lambda y: F.adaptive_avg_pool2d(y, 1).flatten(1),
    "time and bands": lambda y: F.adaptive_avg_pool2d(y, (1, 3)).flatten(1),
    "max of all": lambda y: F.adaptive_max_pool2d(y, 1).flatten(1),
    "mean": lambda y: y.mean([2, 3]),
    "max": lambda y: y.amax((2, 3)),
    "of bands first": lambda y: y.mean(3).amax(2),
}


@pytest.mark.parametrize("case", POOLS.values(), ids=POOLS)
def test_pooling(case: Case, tmp_path: Path) -> None:
    model = check(case, tmp_path, 17, 41)
    assert any(isinstance(node.layer, layers.Pool) for node in model.nodes)
    alone_and_together(model)


@pytest.mark.parametrize("function", WHOLE.values(), ids=WHOLE)
def test_pooling_of_whole_utterances(function: Callable[[Tensor], Tensor], tmp_path: Path) -> None:
    parts = {"conv": nn.Conv2d(1, 4, 3, padding=1), "out": nn.LazyLinear(3)}
    case = (lambda x, conv, out: out(function(conv(x.unsqueeze(1)))), parts)
    alone_and_together(check(case, tmp_path, 1, 41))


POOLS_REFUSED: dict[str, tuple[nn.Module, str]] = {
    "dilated": (nn.MaxPool2d(2, dilation=2), r"pools with dilation \[2, 2\], expected 1"),
    "places": (
        Function(lambda x: F.max_pool2d(x, 2, return_indices=True)[1].float()),
        "the places of the largest values are used",
    ),
    "ceil": (nn.MaxPool2d((2, 1), (3, 1), ceil_mode=True), "stride and padding of 2 at most"),
    "counted": (nn.AvgPool2d(3, 2, 1, ceil_mode=True), "take count_include_pad=False"),
    "divisor": (nn.AvgPool2d(2, divisor_override=3), "divides by 3, expected the window's size"),
    "adaptive": (nn.AdaptiveAvgPool2d((4, None)), "pools dimension -2 of .* to 4"),
}


@pytest.mark.parametrize(("pool", "message"), POOLS_REFUSED.values(), ids=POOLS_REFUSED)
def test_pooling_that_is_refused(pool: nn.Module, message: str) -> None:
    def run(x: Tensor, dense: nn.Module, pool: nn.Module) -> Tensor:
        return pool(dense(x).unsqueeze(1))

    dense = nn.Linear(FEATURES, FEATURES)
    module = Function(run, dense=dense, pool=pool).eval()
    with pytest.raises(ImporterError, match=message):
        from_torch(module, torch.randn(1, FRAMES, FEATURES))


# Convolutions.


def transposed(conv: nn.Module, turn: nn.Module) -> Case:
    def run(x: Tensor, conv: nn.Module, turn: nn.Module, out: nn.Module) -> Tensor:
        return out(turn(conv(x.unsqueeze(1))).permute(0, 2, 1, 3).flatten(2))

    return run, {"conv": conv, "turn": turn, "out": nn.LazyLinear(3)}


def up(conv: nn.Module, turn: nn.Module) -> Case:
    return (lambda x, conv, turn: turn(conv(x.mT)).mT), {"conv": conv, "turn": turn}


def image(stride: int | tuple[int, int] = 1) -> nn.Conv2d:
    return nn.Conv2d(1, 4, 3, stride, 1)


TRANSPOSED: dict[str, Case] = {
    "bands": transposed(image(), nn.ConvTranspose2d(4, 3, (1, 3), (1, 2), (0, 1), (0, 1))),
    "even kernel": transposed(image(), nn.ConvTranspose2d(4, 3, (3, 4), (1, 2), (1, 1))),
    "groups": transposed(image(), nn.ConvTranspose2d(4, 6, (1, 5), (1, 3), groups=2, bias=False)),
    "kernel below stride": transposed(image(), nn.ConvTranspose2d(4, 3, (1, 2), (1, 3))),
    "both": transposed(image(2), nn.ConvTranspose2d(4, 6, (4, 3), (2, 2), (1, 1), (0, 1))),
    "both, groups": transposed(image(2), nn.ConvTranspose2d(4, 6, (2, 2), (2, 2), groups=2)),
    "frames": up(nn.Conv1d(FEATURES, 6, 3, 2, 1), nn.ConvTranspose1d(6, 5, 4, 2, 1)),
    "frames, groups": up(nn.Conv1d(FEATURES, 6, 2, 2), nn.ConvTranspose1d(6, 4, 2, 2, groups=2)),
    "longer": up(nn.Conv1d(FEATURES, 6, 2, 2), nn.ConvTranspose1d(6, 5, 3, 2)),
    "shorter": up(nn.Conv1d(FEATURES, 6, 2, 2), nn.ConvTranspose1d(6, 5, 3, 2, 1)),
    "of stride 1": up(nn.Identity(), nn.ConvTranspose1d(FEATURES, 5, 3, 1, 1)),
    "causal": (
        lambda x, conv, turn: turn(conv(x.mT))[..., :-1].mT,
        {"conv": nn.Conv1d(FEATURES, 6, 2, 2), "turn": nn.ConvTranspose1d(6, 5, 3, 2)},
    ),
}


@pytest.mark.parametrize("case", TRANSPOSED.values(), ids=TRANSPOSED)
def test_transposed_convolutions(case: Case, tmp_path: Path) -> None:
    alone_and_together(check(case, tmp_path, 40))


@pytest.mark.parametrize(
    ("turn", "message"),
    [
        (nn.ConvTranspose1d(FEATURES, 5, 4, 2, 1), "makes 2 frames of one that stands for 1 of"),
        (nn.ConvTranspose1d(FEATURES, 5, 3, dilation=2), r"has dilation \[2\], expected 1"),
    ],
)
def test_transposed_convolutions_that_are_refused(turn: nn.Module, message: str) -> None:
    with pytest.raises(ImporterError, match=message):
        imported(up(nn.Identity(), turn))


def test_a_depthwise_separable_convolution(tmp_path: Path) -> None:
    def run(x: Tensor, first: nn.Module, depth: nn.Module, point: nn.Module) -> Tensor:
        return point(depth(first(x.unsqueeze(1)))).permute(0, 2, 1, 3).flatten(2)

    depth = nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4)
    check((run, {"first": image(), "depth": depth, "point": nn.Conv2d(4, 6, 1)}), tmp_path, 40)


# Padding, pyramids, cut frames.


def around_bands(mode: str, before: int, after: int) -> Case:
    def run(x: Tensor, first: nn.Module, conv: nn.Module) -> Tensor:
        padded = F.pad(first(x.unsqueeze(1)), (before, after, 0, 0), mode=mode)
        return conv(padded).permute(0, 2, 1, 3).flatten(2)

    return run, {"first": image(), "conv": nn.Conv2d(4, 3, (1, 3))}


ARRANGED: dict[str, Case] = {
    "reflected": around_bands("reflect", 2, 1),
    "replicated": around_bands("replicate", 1, 3),
    "circular": around_bands("circular", 2, 1),
    "reflected features": (
        lambda x, dense: dense(F.pad(x, (2, 3), mode="reflect")),
        {"dense": nn.Linear(FEATURES + 5, 3)},
    ),
    "odd frames": (lambda x, dense: dense(x[:, 1::2]), {"dense": nn.Linear(FEATURES, 3)}),
    "even and odd": (
        lambda x, dense: dense(torch.cat([x[:, ::2], x[:, 1::2]], -1)),
        {"dense": nn.Linear(2 * FEATURES, 3)},
    ),
    "pyramid": (
        lambda x, rnn: rnn(x[:, : x.shape[1] // 2 * 2].reshape(1, x.shape[1] // 2, -1))[0],
        {"rnn": nn.GRU(2 * FEATURES, 3, batch_first=True)},
    ),
    "every third": (lambda x, rnn: rnn(x)[0][:, 2:-1:3], {"rnn": gru()}),
    "cut": (lambda x, rnn: rnn(x[:, 2:-1])[0], {"rnn": gru()}),
    "cut at the end": (lambda x, rnn: rnn(x)[0][:, 1:], {"rnn": gru()}),
    "causal": (
        lambda x, conv, next: next(torch.relu(conv(x.mT)[..., :-4])).mT,
        {"conv": nn.Conv1d(FEATURES, 6, 3, padding=4, dilation=2), "next": nn.Conv1d(6, 3, 1)},
    ),
}


@pytest.mark.parametrize("case", ARRANGED.values(), ids=ARRANGED)
def test_mirrored_bands_and_cut_frames(case: Case, tmp_path: Path) -> None:
    alone_and_together(check(case, tmp_path, 40))


def test_frames_that_are_cut_off_a_padded_convolution_are_never_computed() -> None:
    model, _ = imported(ARRANGED["causal"])
    assert [type(node.layer) for node in model.nodes] == [
        *(layers.Conv1d, layers.Activation, layers.Conv1d)
    ]
    assert model.node("conv").layer.settings()["padding"] == (4, 0)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_time_is_padded_by_zeros_alone(mode: str) -> None:
    conv = nn.Conv1d(FEATURES, 4, 3, padding=1, padding_mode=mode)
    with pytest.raises(ImporterError, match=r"pads time by|circular"):
        imported((lambda x, conv: conv(x.mT).mT, {"conv": conv}))


def test_moments_of_many_frames_lose_nothing(tmp_path: Path) -> None:
    """A plain float sum of squares would be off by more than the variance itself."""
    nodes = (tv.model.Node("variance", layers.Reduce("variance"), ("input",)),)
    tvx.save(Model(1, nodes), tmp_path / "m.tvx")
    x = np.random.default_rng(0).standard_normal((300_000, 1)).astype(np.float32) + 1000
    found = tv.open(tmp_path / "m.tvx").run(x, 4096)
    np.testing.assert_allclose(found[0], x.astype(np.float64).var(0), rtol=1e-6)
    assert math.isfinite(float(found[0, 0]))

"""What works on each frame by itself: arithmetic of signals, norms, parts and sums of features."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_modules import FEATURES, Function, speech

import tinyvox as tv
from tinyvox.executor import Executor
from tinyvox.formats import tvx
from tinyvox.importers.layer_graph import LayerGraph, picked
from tinyvox.importers.torch import from_torch
from tinyvox.model import INPUT, Model, layers

torch.manual_seed(0)
SIZE, HALF = 16, 8
VECTOR, OTHER = torch.randn(SIZE), torch.randn(SIZE)
WEIGHT, GROUPED = torch.randn(SIZE, 5), torch.randn(2, HALF, 3)
BANDS = torch.randn(4, FEATURES)


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)


def halves(h: Tensor) -> Tensor:
    return h.unflatten(-1, (2, HALF))


def normalize(h: Tensor, eps: float) -> Tensor:
    centered = h - h.mean(-1, keepdim=True)
    return VECTOR * centered / torch.sqrt(centered.pow(2).mean(-1, keepdim=True) + eps)


Functions = dict[str, Callable[[Tensor], Tensor]]
GROUPS: dict[str, Functions] = {
    "products": {
        "swish": lambda h: h * torch.sigmoid(1.7 * h),
        "glu": lambda h: F.glu(h, -1),
        "gate": lambda h: torch.tanh(h[..., :HALF]) * torch.sigmoid(h[..., HALF:]),
        "interpolation": lambda h: torch.lerp(h, h.tanh(), torch.sigmoid(h)),
        "added product": lambda h: torch.addcmul(h, h, h.tanh(), value=0.5),
        "affine": lambda h: (1 - h.sigmoid()) * h * VECTOR + OTHER / 3,
        "one gate": lambda h: h * torch.sigmoid((h * VECTOR).sum(-1, keepdim=True)),
        "one of them": lambda h: h[..., 3:4] * h - h[..., :1],
    },
    "quotients": {
        "masks": lambda h: h.sigmoid() / (h.sigmoid() + h.exp()),
        "inverse": lambda h: 1 / (1 + h * h) + torch.reciprocal(2 + h.tanh()),
        "softmax by hand": lambda h: h.exp() / h.exp().sum(-1, keepdim=True),
        "quotient added": lambda h: torch.addcdiv(h, h, 1 + h.abs()),
    },
    "powers": {
        "cube": lambda h: h**3,
        "compressed": lambda h: (h.abs() + 1e-3) ** 0.3,
        "magnitude": lambda h: torch.sqrt(h[..., :HALF] ** 2 + h[..., HALF:] ** 2),
        "inverse root": lambda h: torch.rsqrt(h.square() + 1) + (1 + h * h).pow(-0.5),
        "exponential": lambda h: 2**h + torch.expm1(h) + torch.exp2(h),
        "logarithms": lambda h: torch.log10(1 + h.abs()) + torch.log2(2 + h.tanh()),
        "of one more": lambda h: torch.log1p(h.abs()) + torch.log(torch.clamp(h, min=1e-5)),
    },
    "larger and smaller": {
        "maximum": lambda h: torch.maximum(h, h.tanh()),
        "minimum": lambda h: torch.min(h, h.tanh()),
        "maxout": lambda h: torch.max(h[..., :HALF], h[..., HALF:]),
        "maxout by view": lambda h: h.unflatten(-1, (HALF, 2)).amax(-1),
        "of directions": lambda h: halves(h).max(2).values,
    },
    "activations": {
        "logsigmoid": F.logsigmoid,
        "softplus": lambda h: F.softplus(h, beta=2.0),
        "mish": lambda h: h * torch.tanh(F.softplus(h)),
        "softshrink": F.softshrink,
        "tanhshrink": F.tanhshrink,
        "rrelu": lambda h: F.rrelu(h),
        "gelu": lambda h: 0.5 * h * (1 + torch.tanh(0.7978845608 * (h + 0.044715 * h**3))),
        "softmin": lambda h: F.softmin(h, -1),
        "log_softmax": lambda h: F.log_softmax(h, -1) * 0.5,
        "of parts": lambda h: halves(h).softmax(-1).flatten(2),
    },
    "norms": {
        "rms": lambda h: F.rms_norm(h, (SIZE,), VECTOR, 1e-6),
        "rms by hand": lambda h: VECTOR * h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + 1e-6),
        "unit": lambda h: F.normalize(h, dim=-1),
        "unit by hand": lambda h: h / (h.norm(dim=-1, keepdim=True) + 1e-5),
        "unit by sum": lambda h: h / h.pow(2).sum(-1, keepdim=True).sqrt(),
        "bare": lambda h: F.layer_norm(h, (SIZE,)),
        "by hand": lambda h: normalize(h, 1e-3),
        "by deviation": lambda h: (h - h.mean(-1, keepdim=True)) / (h.std(-1, keepdim=True) + 1e-6),
        "groups": lambda h: F.group_norm(h.flatten(0, 1), 4, VECTOR, OTHER).unflatten(
            0, h.shape[:2]
        ),
        "centered": lambda h: h - h.mean(-1, keepdim=True),
    },
    "spread": {
        "deviation": lambda h: h.std(-1, keepdim=True) + h,
        "length": lambda h: h.norm(dim=-1, keepdim=True) + h,
        "variance": lambda h: h.var(-1, correction=0, keepdim=True) * h,
    },
    "parts": {
        "chunks": lambda h: torch.mul(*h.chunk(2, -1)),
        "splits": lambda h: torch.cat(h.split([3, 5, 8], -1)[::-1], -1),
        "unbound": lambda h: torch.sub(*halves(h).unbind(2)),
        "narrow": lambda h: h.narrow(-1, 2, 5),
        "selected": lambda h: halves(h).select(2, 1) * halves(h)[..., 3:4].flatten(2)[..., :1],
        "every other": lambda h: h[..., ::2] * h[..., 1::2],
        "places": lambda h: h[..., [0, 3, 5]],
        "turned round": lambda h: h.flip(-1) + torch.roll(h, 1, -1),
        "repeated": lambda h: h.repeat(1, 1, 2) + h.repeat_interleave(2, dim=-1),
        "side by side": lambda h: torch.stack((h, h.tanh()), -1).flatten(2),
    },
    "sums": {
        "slices": lambda h: h[..., :HALF] + h[..., HALF:],
        "sum": lambda h: halves(h).sum(2),
        "mean": lambda h: halves(h).mean(2),
        "stacked": lambda h: torch.stack(h.chunk(2, -1)).mean(0),
        "of pairs": lambda h: h.unflatten(-1, (HALF, 2)).sum(-1),
        "of all": lambda h: h.mean(-1, keepdim=True),
    },
    "matrices": {
        "matmul": lambda h: h @ WEIGHT + h @ WEIGHT[None],
        "from the left": lambda h: (WEIGHT.T @ h.mT).mT,
        "heads": lambda h: (halves(h)[..., None, :] @ GROUPED).flatten(2),
        "tensordot": lambda h: torch.tensordot(h, WEIGHT, dims=1),
        "vector": lambda h: (h @ VECTOR)[..., None],
        "einsum": lambda h: torch.einsum("btf,fo->bto", h, WEIGHT),
        "einsum of heads": lambda h: torch.einsum("btgf,gfo->btgo", halves(h), GROUPED).flatten(2),
        "einsum of a vector": lambda h: torch.einsum("btf,f->btf", h, VECTOR),
        "einsum of two": lambda h: torch.einsum("btf,btf->bt", h, h.tanh())[..., None],
        "einsum that turns": lambda h: torch.einsum("btf->bft", h).mT.relu(),
    },
}
"""Functions of frames [batch, time, SIZE]."""


def test_every_function_equals_torch() -> None:
    """All functions of a group make one model."""
    for functions in GROUPS.values():
        inner = nn.Linear(FEATURES, SIZE)

        def run(x: Tensor, inner: nn.Module, functions: Functions = functions) -> Tensor:
            return torch.cat([function(inner(x)) for function in functions.values()], -1)

        assert_streams(Function(run, inner=inner))


IMAGES: Functions = {
    "channels and bands": lambda x: F.layer_norm(x.transpose(1, 2), (4, 6), BANDS, BANDS).flatten(
        2
    ),
    "bands": lambda x: F.layer_norm(x, (6,), BANDS[0], BANDS[1]).transpose(1, 2).flatten(2),
    "channels": lambda x: F.layer_norm(x.permute(0, 2, 3, 1), (4,), BANDS[:, 0]).flatten(2),
    "bands before channels": lambda x: x.permute(0, 2, 3, 1).flatten(2).tanh(),
    "a constant": lambda x: (x * BANDS[None, :, None]).transpose(1, 2).flatten(2),
    "squeezed": lambda x: (x * x.mean(3, keepdim=True).sigmoid()).transpose(1, 2).flatten(2),
    "joined": lambda x: torch.cat((x, x.tanh()), 1).transpose(1, 2).flatten(2),
    "joined bands": lambda x: torch.cat((x, x.tanh()), 3).transpose(1, 2).flatten(2),
    "gated": lambda x: F.glu(x, 1).transpose(1, 2).flatten(2),
    "of each band": lambda x: F.linear(x.permute(0, 2, 3, 1), BANDS[:, :4]).flatten(2),
}
"""Functions of frames with bands, [batch, 4, time, 6]."""


def test_frames_with_bands() -> None:
    def run(x: Tensor, conv: nn.Module) -> Tensor:
        return torch.cat([function(conv(x[:, None])) for function in IMAGES.values()], -1)

    assert_streams(Function(run, conv=nn.Conv2d(1, 4, 3, padding=1)))


def assert_streams(module: nn.Module) -> Model:
    """The model equals the module to 1e-5, for other numbers of frames, too."""
    model = from_torch(module.eval(), speech(13)[:1])
    for frames in (1, 40):
        x = speech(frames, 3)
        with torch.no_grad():
            torch.testing.assert_close(Executor(model)(x), module(x), rtol=1e-4, atol=1e-5)
    return model


def test_the_runtime_equals_the_executor(tmp_path: Path) -> None:
    """Signals combined in every way, in any pieces."""

    def run(x: Tensor, inner: nn.Module, rnn: nn.Module) -> Tensor:
        h, both = inner(x), rnn(x)[0]
        gate = torch.sigmoid((h * VECTOR).sum(-1, keepdim=True))
        mask = both[..., :HALF] / (1 + both[..., HALF:] ** 2)
        return torch.cat([F.normalize(h, dim=-1) * gate, mask.flip(-1), F.glu(h, -1)], -1)

    rnn = nn.LSTM(FEATURES, HALF, batch_first=True, bidirectional=True)
    module = Function(run, inner=nn.Linear(FEATURES, SIZE), rnn=rnn).eval()
    model = from_torch(module, speech(13)[:1])
    tvx.save(model, tmp_path / "m.tvx")
    session = tv.open(tmp_path / "m.tvx")
    x = speech(40)[:1]
    expected = Executor(model)(x)[0].detach().numpy()
    for chunk in (1, 7, 1000):
        np.testing.assert_allclose(session.run(x[0].numpy(), chunk), expected, atol=2e-5)


def test_a_norm_by_hand_is_one_layer() -> None:
    names = ("rms by hand", "unit", "unit by hand", "unit by sum", "by hand", "by deviation")
    inner = nn.Linear(FEATURES, SIZE)

    def run(x: Tensor, inner: nn.Module) -> Tensor:
        return torch.cat([GROUPS["norms"][name](inner(x)) for name in names], -1)

    model = from_torch(Function(run, inner=inner), speech(13))
    kinds = [type(node.layer) for node in model.nodes if node.layer.vectors()][1:]
    assert kinds == [layers.LayerNorm] * len(names)


def test_a_signal_times_its_own_gate_is_an_activation() -> None:
    for function, kind in (
        (lambda x: x * torch.sigmoid(x), "silu"),
        (lambda x: torch.tanh(F.softplus(x)) * x, "mish"),
        (lambda x: x * F.hardsigmoid(x), "hardswish"),
    ):
        (node,) = from_torch(Function(function), speech()).nodes
        assert isinstance(node.layer, layers.Activation)
        assert node.layer.kind == kind


@pytest.mark.parametrize(
    ("places", "kinds"),
    [
        (range(12), []),
        (range(3, 7), ["Slice"]),
        (range(11, -1, -1), ["Take"]),
        ([0] * 5, ["Take"]),
        ([b + 4 * c for b in range(4) for c in range(3)], ["Take"]),
        ([11, *range(11)], ["Take"]),
        ([0, 1, 2, 7, 9], ["Take"]),
        ([(5 * i * i) % 12 for i in range(90)], ["Take"]),
    ],
)
def test_values_by_their_places(places: list[int], kinds: list[str]) -> None:
    graph = LayerGraph(12)
    node = picked(graph, INPUT, places)
    assert [type(each.layer).__name__ for each in graph.nodes.values()] == kinds
    if kinds:
        x = torch.randn(1, 4, 12)
        torch.testing.assert_close(Executor(graph.model(node))(x), x[..., list(places)])


def test_places_behind_other_layers_that_pick() -> None:
    graph = LayerGraph(12)
    joined = graph.add(layers.Concat(), INPUT, graph.add(layers.Activation("tanh"), INPUT))
    turned = picked(graph, joined, range(11, -1, -1))
    assert graph.nodes[turned].inputs == (INPUT,)
    assert picked(graph, turned, range(11, -1, -1)) == INPUT

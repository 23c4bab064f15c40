"""Layers of the executor against torch's modules."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from small_models import chain, dense, features, recurrent, run
from torch import Tensor, nn

from tinyvox.executor import Executor
from tinyvox.model import INPUT, Cell, Dense, Layer, Model, Node, Recurrent, layers


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def output(layer: Layer, x: Tensor) -> Tensor:
    return run(chain(x.shape[2], layer=layer), x)


# Layers against torch's modules.


@pytest.mark.parametrize("bias", [True, False])
def test_linear_is_torch_linear(bias: bool) -> None:
    module = nn.Linear(6, 4, bias=bias)
    layer = layers.Linear(Dense(module.weight.detach()), module.bias)
    torch.testing.assert_close(output(layer, features(6)), module(features(6)).detach())


MODULES: dict[str, Callable[..., nn.RNNBase]] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn_tanh": nn.RNN}


@pytest.mark.parametrize("two_ways", [False, True])
@pytest.mark.parametrize("make", MODULES.values(), ids=MODULES)
def test_recurrent_is_torch_recurrent_over_hundreds_of_steps(
    make: Callable[..., nn.RNNBase], two_ways: bool
) -> None:
    module = make(5, 16, batch_first=True, bidirectional=two_ways)
    x = features(5, 320)
    expected = module(x)[0].detach()
    torch.testing.assert_close(output(recurrent(module), x), expected, rtol=1e-5, atol=1e-5)


def test_relu_recurrence_is_torch_relu_rnn() -> None:
    module = nn.RNN(5, 8, nonlinearity="relu", batch_first=True)
    layer = dataclasses.replace(recurrent(module), kind="rnn_relu")
    x = features(5, 300)
    torch.testing.assert_close(output(layer, x), module(x)[0].detach(), rtol=1e-5, atol=1e-5)


def test_a_chain_of_two_way_layers_is_a_torch_stack() -> None:
    module = nn.LSTM(5, 7, 2, batch_first=True, bidirectional=True)
    model = chain(5, first=recurrent(module, 0), second=recurrent(module, 1))
    x = features(5, 60)
    torch.testing.assert_close(run(model, x), module(x)[0].detach(), rtol=1e-5, atol=1e-5)


def equations(kind: str, cell: Cell, x: Tensor) -> Tensor:
    """The textbook recurrences in float64, step by step."""
    assert cell.bias is not None
    w_ih, w_hh, bias = (t.double() for t in (cell.weight_ih.decode(), cell.weight_hh.decode(),
                                             cell.bias))  # fmt: skip
    h = c = torch.zeros(x.shape[0], cell.hidden, dtype=torch.float64)
    states = []
    for frame in x.double().unbind(1):
        from_x, from_h = frame @ w_ih.T + bias, h @ w_hh.T
        if kind == "lstm":
            i, f, g, o = (from_x + from_h).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
        elif kind == "gru":
            assert cell.bias_hn is not None
            (xr, xz, xn), (hr, hz, hn) = from_x.chunk(3, 1), from_h.chunk(3, 1)
            r, z = (xr + hr).sigmoid(), (xz + hz).sigmoid()
            h = (1 - z) * (xn + r * (hn + cell.bias_hn.double())).tanh() + z * h
        elif kind == "gru_reset_before":
            (xr, xz, xn), (hr, hz, _) = from_x.chunk(3, 1), from_h.chunk(3, 1)
            r, z = (xr + hr).sigmoid(), (xz + hz).sigmoid()
            h = (1 - z) * (xn + (r * h) @ w_hh[2 * cell.hidden :].T).tanh() + z * h
        elif kind == "li_gru":
            z, n = (from_x + from_h).chunk(2, 1)
            h = (1 - z.sigmoid()) * n.tanh() + z.sigmoid() * h
        else:
            h = (from_x + from_h).tanh() if kind == "rnn_tanh" else (from_x + from_h).relu()
        states.append(h)
    return torch.stack(states, 1).float()


@pytest.mark.parametrize("kind", layers.GATES)
def test_gates_stand_in_the_order_that_the_docstring_says(kind: str) -> None:
    rows = layers.GATES[kind] * 6
    bias_hn = torch.randn(6) if kind == "gru" else None
    cell = Cell(dense(rows, 4), dense(rows, 6), torch.randn(rows), bias_hn)
    found = output(Recurrent(kind, cell), x := features(4, 40))
    torch.testing.assert_close(found, equations(kind, cell, x), rtol=1e-4, atol=1e-4)


def test_a_backward_cell_alone_reads_the_utterance_from_its_end() -> None:
    layer = recurrent(nn.GRU(4, 5))
    turned = Recurrent("gru", None, layer.forward)
    x = features(4, 30)
    assert torch.equal(output(turned, x), output(layer, x.flip(1)).flip(1))


def test_a_cell_without_bias_has_bias_zero() -> None:
    without = Cell(dense(12, 4), dense(12, 3))
    zero = dataclasses.replace(without, bias=torch.zeros(12))
    x = features(4)
    assert torch.equal(output(Recurrent("lstm", without), x), output(Recurrent("lstm", zero), x))


@pytest.mark.parametrize("padding", [(0, 0), (2, 2), (3, 1)])
@pytest.mark.parametrize(("stride", "dilation", "groups"), [(1, 1, 1), (2, 1, 2), (3, 2, 4)])
def test_conv1d_is_torch_conv1d(
    stride: int, dilation: int, groups: int, padding: tuple[int, int]
) -> None:
    module = nn.Conv1d(8, 12, 3, stride, 0, dilation, groups)
    weight = Dense(module.weight.detach().flatten(1))
    layer = layers.Conv1d(weight, module.bias, 3, stride, dilation, padding, groups)
    x = features(8, 21)
    expected = module(F.pad(x, (0, 0, *padding)).mT).mT.detach()
    torch.testing.assert_close(output(layer, x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("padding", [(0, 0, 0, 0), (1, 1, 2, 2), (3, 0, 0, 1)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 3)])
@pytest.mark.parametrize(("dilation", "groups"), [((1, 1), 1), ((2, 1), 2), ((1, 2), 1)])
def test_conv2d_is_torch_conv2d(
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    dilation: tuple[int, int],
    groups: int,
) -> None:
    module = nn.Conv2d(2, 4, (3, 5), stride, 0, dilation, groups)
    weight = Dense(module.weight.detach().flatten(1))
    layer = layers.Conv2d(weight, module.bias, (3, 5), stride, padding, dilation, groups)
    x = features(2 * 9, 14)
    image = F.pad(x.unflatten(2, (2, 9)).transpose(1, 2), (*padding[2:], *padding[:2]))
    model = chain(18, image=layers.Unflatten(2), conv=layer, flat=layers.Flatten())
    expected = module(image).transpose(1, 2).flatten(2).detach()
    torch.testing.assert_close(run(model, x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", layers.ACTIVATIONS[11:])
def test_no_activation_and_no_gradient_of_a_finite_value_is_infinite(kind: str) -> None:
    x = torch.tensor([0, 1e-39, 1e-20, 1, 87, 89, 1e30])
    x = torch.cat([x, -x])[None, :, None].requires_grad_()
    y = Executor(chain(1, act=layers.Activation(kind)))(x)
    y.sum().backward()
    assert y.isfinite().all()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def trained_norm(module: nn.BatchNorm1d | nn.BatchNorm2d) -> layers.BatchNorm:
    """Random statistics and factors in the module, and the layer that holds the same."""
    assert module.running_mean is not None
    assert module.running_var is not None
    module.running_mean.normal_()
    module.running_var.uniform_(0.1, 2)
    nn.init.normal_(module.weight)
    nn.init.normal_(module.bias)
    module.eval()
    tensors = (module.running_mean, module.running_var, module.weight, module.bias)
    return layers.BatchNorm(*(t.detach().clone() for t in tensors), eps=module.eps)


def test_batch_norm_is_torch_batch_norm_in_eval_mode() -> None:
    module = nn.BatchNorm1d(6, eps=1e-2)
    x = features(6)
    found = output(trained_norm(module), x)
    torch.testing.assert_close(found, module(x.mT).mT.detach(), rtol=1e-5, atol=1e-5)


def test_batch_norm_of_images_goes_by_channel() -> None:
    module = nn.BatchNorm2d(3)
    model = chain(12, i=layers.Unflatten(3), n=trained_norm(module), f=layers.Flatten())
    x = features(12)
    expected = module(x.unflatten(2, (3, 4)).transpose(1, 2)).transpose(1, 2).flatten(2).detach()
    torch.testing.assert_close(run(model, x), expected, rtol=1e-5, atol=1e-5)


def test_layer_norm_is_torch_layer_norm() -> None:
    module = nn.LayerNorm(6, eps=1e-2)
    nn.init.normal_(module.weight)
    nn.init.normal_(module.bias)
    layer = layers.LayerNorm(module.weight.detach(), module.bias.detach(), 1e-2)
    torch.testing.assert_close(output(layer, features(6)), module(features(6)).detach())


def test_norms_of_groups_and_by_mean_square_are_those_of_torch() -> None:
    weight, bias, x = torch.randn(6), torch.randn(6), features(6)
    grouped = output(layers.LayerNorm(weight, bias, 1e-2, groups=3), x)
    expected = F.group_norm(x.flatten(0, 1), 3, weight, bias, 1e-2).view(x.shape)
    torch.testing.assert_close(grouped, expected)
    scaled = output(layers.LayerNorm(weight, bias, 1e-2, "rms"), x)
    torch.testing.assert_close(scaled, F.rms_norm(x, (6,), weight, 1e-2) + bias)


def test_a_reciprocal_is_never_infinite() -> None:
    x = torch.tensor([[[0.0, -0.0, 1e-42, -1e-42, 2.0, -4.0]]])
    found = output(layers.Activation("reciprocal"), x)
    most = 2.0**63
    assert found.flatten().tolist() == [most, -most, most, -most, 0.5, -0.25]


def test_a_layer_norm_may_count_some_of_its_inputs_alone() -> None:
    module = nn.LayerNorm(3)
    vectors = torch.randn(2, 6)
    executor = Executor(chain(6, norm=layers.LayerNorm(*vectors)))
    counted = torch.tensor([1, 2, 4])
    executor.count_in_norm("norm", counted)
    with torch.no_grad():
        module.weight.copy_(vectors[0][counted])
        module.bias.copy_(vectors[1][counted])
        found, x = executor(features(6)), features(6)
        torch.testing.assert_close(found[..., counted], module(x[..., counted]))
    assert bool((found[..., [0, 3, 5]] == 0).all())


@pytest.mark.parametrize(
    ("layer", "module"),
    [
        (layers.Activation("relu"), nn.ReLU()),
        (layers.Activation("clipped_relu", 0.7), nn.Hardtanh(0, 0.7)),
        (layers.Activation("tanh"), nn.Tanh()),
        (layers.Activation("sigmoid"), nn.Sigmoid()),
        (layers.LogSoftmax(), nn.LogSoftmax(dim=-1)),
    ],
)
def test_elementwise_layers_are_torch_modules(layer: Layer, module: nn.Module) -> None:
    x = 3 * features(6)
    torch.testing.assert_close(output(layer, x), module(x), rtol=0, atol=1e-6)


def test_a_clipped_relu_may_have_a_limit_for_each_channel() -> None:
    limits = torch.rand(6) + 0.1
    layer = layers.Activation("clipped_relu", None, limits)
    x = 3 * features(6)
    assert torch.equal(output(layer, x), x.clamp(min=0).minimum(limits))
    layer = layers.Activation("clipped_relu", None, limits[:2])
    model = chain(6, image=layers.Unflatten(2), clip=layer)
    expected = x.clamp(min=0).minimum(limits[:2].repeat_interleave(3)).view(*x.shape[:2], 2, 3)
    assert torch.equal(run(model, x), expected)
    assert not any(p.requires_grad for p in Executor(model).parameters())


# Layers that move frames, by hand.


@pytest.mark.parametrize(("left", "right"), [(0, 0), (2, 1), (0, 3), (9, 9)])
def test_context_window_lays_frames_out_in_the_order_of_time(left: int, right: int) -> None:
    x = features(3, 5)
    found = output(layers.ContextWindow(left, right), x)
    for time in range(5):
        for place, source in enumerate(range(time - left, time + right + 1)):
            inside = 0 <= source < 5
            expected = x[:, source] if inside else torch.zeros(2, 3)
            assert torch.equal(found[:, time, 3 * place : 3 * place + 3], expected)


@pytest.mark.parametrize(
    ("count", "stride", "frames"), [(1, 1, 7), (3, 2, 3), (2, 2, 3), (2, 3, 2)]
)
def test_frame_stacking_drops_an_incomplete_stack(count: int, stride: int, frames: int) -> None:
    x = features(4, 7)
    found = output(layers.FrameStacking(count, stride), x)
    assert found.shape == (2, frames, 4 * count)
    for i in range(frames):
        assert torch.equal(found[:, i], x[:, i * stride : i * stride + count].flatten(1))


@pytest.mark.parametrize("frames", [1, 6, 7])
def test_subsampling_keeps_the_first_frame(frames: int) -> None:
    x = features(4, frames)
    assert torch.equal(output(layers.Subsample(3), x), x[:, torch.arange(0, frames, 3)])


def two_inputs(join: Layer, first: Layer, second: Layer) -> Model:
    nodes = (
        Node("a", first, (INPUT,)),
        Node("b", second, (INPUT,)),
        Node("join", join, ("a", "b")),
    )
    return Model(4, nodes)


@pytest.mark.parametrize(
    ("join", "expected"),
    [(layers.Add(), torch.add), (layers.Concat(), lambda a, b: torch.cat([a, b], 2))],
)
def test_joins_end_with_the_shorter_input(
    join: Layer, expected: Callable[[Tensor, Tensor], Tensor]
) -> None:
    first, second = layers.Conv1d(dense(4, 12), None, 3), layers.Activation("tanh")
    x = features(4, 9)
    found = run(two_inputs(join, first, second), x)
    assert torch.equal(found, expected(output(first, x), x.tanh()[:, :7]))

"""The executor: batches of unequal lengths, coded matrices, the way back, gradients."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from small_matrices import coded
from small_models import chain, dense, features, linear, recurrent, run, speech_model
from torch import Tensor, nn

from tinyvox.executor import Executor
from tinyvox.model import (
    INPUT,
    Cell,
    Coded,
    Dense,
    Features,
    Layer,
    Matrix,
    Model,
    Node,
    Product,
    Recurrent,
    SpeechCard,
    Table,
    layers,
    on_grid,
)
from tinyvox.quantizers import kmeans


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def product(rows: int, columns: int) -> Product:
    return Product(coded(rows, 3), dense(3, columns))


# Batches of unequal lengths.


def mixed_model() -> Model:
    """Every layer that looks at more than one frame."""
    stack: list[tuple[str, Layer]] = [
        ("context", layers.ContextWindow(2, 1)),
        ("image", layers.Unflatten(4)),
        ("conv2d", layers.Conv2d(dense(3, 36), torch.randn(3), (3, 3), (1, 2), (1, 1, 0, 1))),
        ("norm", layers.BatchNorm(*(torch.rand(3) + 0.5 for _ in range(4)))),
        ("flat", layers.Flatten()),
        ("conv1d", layers.Conv1d(dense(6, 27), torch.randn(6), 3, 1, 2, (3, 1))),
        ("lstm", recurrent(nn.LSTM(6, 3, bidirectional=True))),
    ]
    names = [INPUT, *(name for name, _ in stack)]
    nodes = [Node(name, layer, (names[i],)) for i, (name, layer) in enumerate(stack)]
    nodes += [
        Node("sum", layers.Add(), ("conv1d", "lstm")),
        Node("both", layers.Concat(), ("sum", "flat")),
        Node("subsample", layers.Subsample(2), ("both",)),
        Node("stacking", layers.FrameStacking(2, 1), ("subsample",)),
        Node("back", Recurrent("rnn_tanh", None, Cell(dense(5, 30), dense(5, 5))), ("stacking",)),
        Node("out", linear(3, 5), ("back",)),
        Node("softmax", layers.LogSoftmax(), ("out",)),
    ]
    return Model(6, tuple(nodes))


@pytest.mark.parametrize("lengths", [[20, 20, 20], [20, 9, 5], [7, 20, 8], [6, 6, 6]])
def test_each_utterance_of_a_batch_gives_what_it_gives_alone(lengths: list[int]) -> None:
    executor = Executor(mixed_model()).eval()
    x = features(6, 20, 3)
    for i, length in enumerate(lengths):
        x[i, length:] = 1e3
    with torch.no_grad():
        values, found = executor.run(x, torch.tensor(lengths))
        for i, length in enumerate(lengths):
            alone = executor(x[i : i + 1, :length])
            assert int(found[i]) == alone.shape[1]
            torch.testing.assert_close(values[i, : alone.shape[1]], alone[0], rtol=1e-5, atol=1e-5)


def test_an_utterance_too_short_for_a_kernel_has_length_zero() -> None:
    model = chain(4, conv=layers.Conv1d(dense(2, 20), None, 5), stack=layers.FrameStacking(2, 2))
    _, lengths = Executor(model).run(features(4, 9, 3), torch.tensor([9, 4, 1]))
    assert lengths.tolist() == [2, 0, 0]


# Matrices that are not dense, and the way back.


def with_matrices(model: Model, make: Callable[[int, int], Matrix]) -> Model:
    return model.map_matrices(lambda _, matrix: make(*matrix.shape))


@pytest.mark.parametrize("make", [coded, product])
def test_coded_and_factored_models_run_as_they_decode(make: Callable[[int, int], Matrix]) -> None:
    model = with_matrices(mixed_model(), make)
    plain = model.map_matrices(lambda _, matrix: Dense(matrix.decode()))
    x = features(6, 20)
    torch.testing.assert_close(run(model, x), run(plain, x), rtol=1e-4, atol=1e-5)


def assert_same_matrix(a: Matrix, b: Matrix) -> None:
    assert type(a) is type(b)
    if isinstance(a, Product) and isinstance(b, Product):
        assert_same_matrix(a.left, b.left)
        assert_same_matrix(a.right, b.right)
    elif isinstance(a, Coded) and isinstance(b, Coded):
        assert b.codes.dtype == torch.uint8
        pairs = ((a.codes, b.codes), (a.scale, b.scale))
        assert all(torch.equal(x, y) for x, y in pairs)
        assert torch.equal(a.codebook.centroids, b.codebook.centroids)
    else:
        assert torch.equal(a.decode(), b.decode())


@pytest.mark.parametrize("make", [dense, coded, product])
def test_a_model_comes_back_as_it_went_in(make: Callable[[int, int], Matrix]) -> None:
    model = with_matrices(mixed_model(), make).with_provenance(source="x")
    again = Executor(model).model()
    for (name, before), (other, after) in zip(model.matrices(), again.matrices(), strict=True):
        assert name == other
        assert_same_matrix(before, after)
    for (name, vector), (other, found) in zip(model.vectors(), again.vectors(), strict=True):
        assert name == other
        assert torch.equal(vector, found)
    assert again.provenance == {"source": "x"}
    assert [n.name for n in again.nodes] == [n.name for n in model.nodes]


def test_the_card_comes_back() -> None:
    card = SpeechCard(features=Features(coefficients=10), tokens=(*"abcdef", ""), blank=6)
    assert Executor(speech_model().with_card(card)).model().card == card


def test_training_moves_the_new_model_and_leaves_the_old_one() -> None:
    model = speech_model()
    before = {name: m.decode().clone() for name, m in model.matrices()}
    before |= {name: v.clone() for name, v in model.vectors()}
    executor = Executor(model)
    optimizer = torch.optim.SGD(executor.parameters(), lr=0.1)
    executor(features(10)).square().sum().backward()
    optimizer.step()
    trained = executor.model()
    new = {name: m.decode() for name, m in trained.matrices()} | dict(trained.vectors())
    old = {name: m.decode() for name, m in model.matrices()} | dict(model.vectors())
    assert all(torch.equal(old[name], values) for name, values in before.items())
    assert not any(torch.equal(new[name], values) for name, values in before.items())
    torch.testing.assert_close(run(trained, features(10)), executor(features(10)).detach())


# Gradients.


@pytest.mark.parametrize("make", [dense, coded, product])
def test_gradients_reach_every_leaf_but_fixed_statistics(
    make: Callable[[int, int], Matrix],
) -> None:
    executor = Executor(with_matrices(mixed_model(), make))
    executor(features(6, 20))[..., 0].sum().backward()
    for name, parameter in executor.named_parameters():
        if name.endswith(("mean", "variance")):
            assert parameter.grad is None, name
        else:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


def test_gradients_of_codes_are_those_of_the_dense_matrix_gathered() -> None:
    matrix = coded(5, 8)
    x = features(8)
    plain = matrix.decode().requires_grad_()
    F.linear(x, plain).square().sum().backward()
    executor = Executor(chain(8, out=layers.Linear(matrix)))
    executor(x).square().sum().backward()
    found = {name.split(".")[-1]: p.grad for name, p in executor.named_parameters()}
    assert plain.grad is not None
    flat = (plain.grad * matrix.scale[:, None]).flatten()
    centroids = torch.zeros(4).index_add(0, matrix.codes.flatten().long(), flat)
    scales = (plain.grad * matrix.codebook.centroids[matrix.codes.long()]).sum(1)
    torch.testing.assert_close(found["centroids"], centroids, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found["scale"], scales, rtol=1e-4, atol=1e-4)


def code_on_grid(values: Tensor) -> Coded:
    """Two bits, with centroids that are on the kernels' grid already."""
    coded = kmeans(values, 2)
    centroids = on_grid(coded.codebook.centroids)
    on_the_grid = dataclasses.replace(coded, codebook=Table(centroids))
    return on_the_grid.with_codes(on_the_grid.nearest(values))


def test_rounded_leaves_are_seen_rounded_and_trained_straight_through() -> None:
    model = chain(6, a=linear(5, 6), b=linear(3, 5))
    coded = code_on_grid(model.node("a").layer.weight.decode())
    executor = Executor(model)
    executor.set_rounding({"a.weight": coded}, {})
    coarse = model.with_tensors({"a.weight": coded})
    x = features(6)
    torch.testing.assert_close(executor(x).detach(), run(coarse, x))
    executor(x).square().sum().backward()
    dense_model = model.with_tensors({"a.weight": Dense(coded.decode())})
    plain, trained_codes = Executor(dense_model), Executor(coarse)
    for other in (plain, trained_codes):
        other(x).square().sum().backward()
    leaf = dict(executor.dense_leaves())["a.weight"]
    expected = dict(plain.dense_leaves())["a.weight"].values.grad
    torch.testing.assert_close(leaf.values.grad, expected)
    grads = {name.split(".")[-1]: p.grad for name, p in trained_codes.named_parameters()}
    torch.testing.assert_close(leaf.rounding.levels.centroids.grad, grads["centroids"])
    torch.testing.assert_close(leaf.rounding.scales.scale.grad, grads["scale"])


def test_rounded_leaves_come_out_coded_and_the_others_dense() -> None:
    model = chain(6, a=linear(5, 6), b=linear(3, 5))
    coded = code_on_grid(model.node("a").layer.weight.decode())
    executor = Executor(model)
    executor.set_rounding({"a.weight": coded}, {})
    result = executor.model()
    assert isinstance(result.node("b").layer.weight, Dense)
    torch.testing.assert_close(result.node("a").layer.weight.decode(), coded.decode())


def test_dense_leaves_of_a_product_share_its_name() -> None:
    model = chain(6, out=layers.Linear(Product(dense(4, 2), dense(2, 6))))
    shapes = [(name, tuple(leaf.values.shape)) for name, leaf in Executor(model).dense_leaves()]
    assert shapes == [("out.weight", (4, 2)), ("out.weight", (2, 6))]

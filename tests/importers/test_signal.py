"""Axes and streams by themselves: what becomes of a tensor's dimensions, and which layers result.

Every case does the same to a stream and to values, then runs the layers that were found: their
output must be the values, rearranged to [batch, frames, features].
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tinyvox.errors import ImporterError, ModelError
from tinyvox.executor import Executor
from tinyvox.importers import axis_operations as operations
from tinyvox.importers import layer_graph, signal
from tinyvox.importers.axis_operations import Zeros
from tinyvox.importers.directions import sum_directions
from tinyvox.importers.layer_graph import LayerGraph, Place
from tinyvox.importers.signal import Axis, Stream, input_stream, rearrangement
from tinyvox.model import INPUT, Cell, Dense, Layer, layers

BATCH, FRAMES, SIZE = 2, 12, 6
BATCHES, TIME, FEATURES = Axis("batch", BATCH), Axis("time", FRAMES), Axis("feature", SIZE)


@pytest.fixture
def graph() -> LayerGraph:
    torch.manual_seed(0)
    return LayerGraph(SIZE)


def start() -> Stream:
    return input_stream(("batch", "time", "feature"), (BATCH, FRAMES, SIZE))


def values() -> Tensor:
    return torch.randn(BATCH, FRAMES, SIZE)


def canonical(stream: Stream, array: Tensor) -> Tensor:
    plan = rearrangement(stream.axes)
    return array.reshape(plan.split).permute(plan.order).reshape(plan.shape)


def kinds(graph: LayerGraph) -> list[str]:
    return [type(node.layer).__name__ for node in graph.nodes.values()]


def check(graph: LayerGraph, stream: Stream, x: Tensor, expected: Tensor) -> None:
    """The layers found so far, and a weight applied to them, give what the operators gave."""
    assert stream.shape == tuple(expected.shape)
    node, order = graph.columns(stream.unpadded())
    weight = torch.randn(3, graph.signals[node].size)
    placed = weight if order is None else weight[:, list(order)]
    output = graph.add(layers.Linear(Dense(placed)), node)
    found = Executor(graph.model(output))(x)
    features = [i for i, dim in enumerate(stream.axes) if any(a in stream.features() for a in dim)]
    others = [i for i in range(expected.ndim) if i not in features]
    flat = expected.permute(*others, *features).flatten(len(others))
    times = [a for i in others for a in stream.axes[i]]
    plan = rearrangement((*(stream.axes[i] for i in others), (Axis("feature", 3),)))
    assert {axis.kind for axis in times} <= {"batch", "time"}
    product = (flat @ weight.T).reshape(plan.split).permute(plan.order).reshape(plan.shape)
    torch.testing.assert_close(found, product)


def test_nothing_here_knows_a_framework() -> None:
    for module in (signal, layer_graph, operations):
        tree = ast.parse(Path(module.__file__ or "").read_text(encoding="utf-8"))
        imported = {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
        imported |= {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
        foreign = {"torch", "numpy", "onnx", "keras", "tensorflow"}
        assert not {name.split(".")[0] for name in imported} & foreign
        ours = {name for name in imported if name.startswith("tinyvox.")}
        room = "tinyvox.importers."
        assert all(n.startswith(room) or n in ("tinyvox.errors", "tinyvox.model") for n in ours)


# Axes and streams.


def test_the_input() -> None:
    stream = input_stream(("batch", "", "feature", "time"), (3, 1, 6, 9))
    assert stream.node == INPUT
    assert stream.axes == ((Axis("batch", 3),), (), (Axis("feature", 6),), (Axis("time", 9),))
    assert stream.shape == (3, 1, 6, 9)
    assert str(stream) == "[batch 3, 1, feature 6, time 9]"
    assert (stream.dim(-1), stream.feature_dim()) == (3, 2)
    assert [stream.is_time(dim) for dim in (0, 2, -1)] == [False, False, True]
    assert [stream.is_batch(dim) for dim in (0, 1, 2)] == [True, True, False]


def test_axes_of_one_dimension() -> None:
    stream = start()
    assert stream.with_axis(-1, Axis("feature", 4)) == ((BATCHES,), (TIME,), (Axis("feature", 4),))
    assert stream.with_axis(-1, Axis("feature", 1)) == ((BATCHES,), (TIME,), ())
    assert stream.with_size(1, 5) == ((BATCHES,), (Axis("time", 5),), (FEATURES,))
    merged = operations.reshape(LayerGraph(SIZE), stream, (BATCH * FRAMES, SIZE))
    assert merged.axes == ((BATCHES, TIME), (FEATURES,))
    assert merged.with_size(1, 3) == ((BATCHES, TIME), (Axis("feature", 3),))


def test_padding_must_go_into_a_layer() -> None:
    assert start().unpadded().span == (0, 0)
    for padded in (
        operations.pad(start(), 1, 1, 0),
        operations.pad(start(), 2, 0, 1),
        operations.cut(LayerGraph(SIZE), start(), 1, slice(2, None)),
    ):
        assert padded.is_padded
        with pytest.raises(ImporterError, match="before convolutions and windows only"):
            padded.unpadded()


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0), (0, 2, 1), (1, 2, 0)])
def test_rearranging_undoes_any_order_for_any_number_of_frames(order: tuple[int, ...]) -> None:
    stream = operations.permute(start(), order)
    for frames in (FRAMES, 1, 40):
        x = torch.randn(BATCH, frames, SIZE)
        assert torch.equal(canonical(stream, x.permute(order)), x)


def test_rearranging_puts_windows_before_channels_before_bands() -> None:
    axes = (
        (Axis("feature", 3, 1),),
        (Axis("time", 4),),
        (Axis("feature", 2, 0), Axis("window", 5)),
    )
    x = torch.randn(3, 4, 10)
    expected = x.reshape(3, 4, 2, 5).permute(1, 3, 2, 0).reshape(1, 4, 30)
    assert torch.equal(canonical(Stream(INPUT, axes), x), expected)


# The graph of layers.


def test_layers_without_tensors_are_there_once(graph: LayerGraph) -> None:
    relu = layers.Activation("relu")
    assert graph.add(relu, INPUT) == graph.add(layers.Activation("relu"), INPUT)
    assert graph.add(layers.Activation("tanh"), INPUT) != graph.add(relu, INPUT)


def test_a_layer_whose_weights_are_those_of_an_earlier_one_is_that_layer(graph: LayerGraph) -> None:
    values = torch.randn(SIZE, SIZE)
    first = graph.add(layers.Linear(Dense(values)), INPUT)
    assert graph.add(layers.Linear(Dense(values)), INPUT) == first
    again = graph.add(layers.Linear(Dense(values.view(SIZE, SIZE))), first)
    assert graph.layer(again) is graph.layer(first)
    for other in (Dense(values.clone()), Dense(values[:, :SIZE].T)):
        assert graph.layer(graph.add(layers.Linear(other), INPUT)) is not graph.layer(first)
    with_bias = layers.Linear(Dense(values), torch.ones(SIZE))
    assert graph.layer(graph.add(with_bias, INPUT)) is not graph.layer(first)


def test_a_layer_that_does_not_fit_its_input_is_refused(graph: LayerGraph) -> None:
    with pytest.raises(ModelError, match="input size is 6, expected 5"):
        graph.add(layers.Linear(Dense(torch.randn(4, 5))), INPUT)


def test_flattening_undoes_what_unflatten_did(graph: LayerGraph) -> None:
    image = graph.add(layers.Unflatten(2), INPUT)
    assert graph.flatten(INPUT) == graph.flatten(image) == INPUT
    relu = graph.add(layers.Activation("relu"), image)
    assert isinstance(graph.layer(graph.flatten(relu)), layers.Flatten)
    assert graph.layer(INPUT) is None


def linear(rows: int, columns: int) -> layers.Linear:
    return layers.Linear(Dense(torch.randn(rows, columns)))


def test_names_are_those_of_the_places(graph: LayerGraph) -> None:
    def at(path: str, is_layer: bool, layer: Layer, source: str) -> str:
        graph.place = Place(path, is_layer)
        return graph.add(layer, source)

    cell = Cell(Dense(torch.randn(12, 5)), Dense(torch.randn(12, 3)))
    second = Cell(Dense(torch.randn(12, 3)), Dense(torch.randn(12, 3)))
    node = at("dense", True, linear(5, SIZE), INPUT)
    at("unused", True, linear(5, SIZE), INPUT)
    node = at("", False, layers.Activation("relu"), node)
    node = at("rnn", True, layers.Recurrent("lstm", cell), node)
    node = at("rnn", True, layers.Recurrent("lstm", second), node)
    node = at("rnn", True, layers.Recurrent("lstm", second), node)
    node = at("block", False, layers.Activation("tanh"), node)
    node = at("block.last", True, layers.ContextWindow(1, 0), node)
    node = at("block.last", True, linear(2, 6), node)
    node = at("block", False, layers.Activation("tanh"), node)
    assert [n.name for n in graph.model(node).nodes] == [
        *("dense", "relu", "rnn.0", "rnn.1", "rnn.2"),
        *("block.tanh", "block.last.context_window", "block.last", "block.tanh_2"),
    ]


def test_frames_with_channels_and_bands(graph: LayerGraph) -> None:
    one = operations.reshape(graph, start(), (BATCH, 1, FRAMES, SIZE))
    image = graph.image(one, 1, 3)
    assert graph.signals[image].shape == (1, SIZE)
    two = operations.reshape(graph, start(), (BATCH, FRAMES, 2, 3))
    assert graph.image(two, 2, 3) == two.node
    assert graph.signals[two.node].shape == (2, 3)
    turned = graph.image(two, 3, 2)
    assert graph.signals[turned].shape == (3, 2)
    x = values()
    found = Executor(graph.model(turned))(x)
    torch.testing.assert_close(found, x.unflatten(2, (2, 3)).transpose(2, 3))
    with pytest.raises(ImporterError, match=r"two dimensions of their own, found \[batch 2, time"):
        graph.image(two, 1, 2)


# Operators that move axes.


def test_permute_and_transpose(graph: LayerGraph) -> None:
    stream = operations.permute(start(), (2, 0, -2))
    assert stream.axes == ((FEATURES,), (BATCHES,), (TIME,))
    assert operations.transpose(stream, 0, -1).axes == ((TIME,), (BATCHES,), (FEATURES,))
    x = values()
    check(graph, stream, x, x.permute(2, 0, 1))


def test_a_dimension_of_one_may_come_and_go(graph: LayerGraph) -> None:
    stream = operations.reshape(graph, start(), (BATCH, 1, FRAMES, SIZE))
    assert stream.axes == ((BATCHES,), (), (TIME,), (FEATURES,))
    assert operations.select(graph, stream, 1, 0).axes == start().axes
    x = values()
    third = operations.select(graph, stream, -1, 3)
    assert third.axes == ((BATCHES,), (), (TIME,))
    torch.testing.assert_close(Executor(graph.model(third.node))(x), x[..., 3:4])
    with pytest.raises(ImporterError, match="takes one step out of dimension 2 of"):
        operations.select(graph, stream, -2, 1)


def test_reshape_splits_features_into_channels_and_bands(graph: LayerGraph) -> None:
    stream = operations.reshape(graph, start(), (BATCH, FRAMES, 2, 3))
    assert stream.axes[2:] == ((Axis("feature", 2, 0),), (Axis("feature", 3, 1),))
    assert kinds(graph) == ["Unflatten"]
    x = values()
    check(graph, stream, x, x.reshape(BATCH, FRAMES, 2, 3))
    flat = operations.reshape(graph, stream, (BATCH, FRAMES, SIZE))
    assert (flat.node, flat.axes) == (INPUT, start().axes)


def test_reshape_of_bands_before_channels_reorders_the_columns_of_a_weight(
    graph: LayerGraph,
) -> None:
    stream = operations.reshape(graph, start(), (BATCH, FRAMES, 2, 3))
    turned = operations.reshape(graph, operations.transpose(stream, 2, 3), (BATCH, FRAMES, SIZE))
    assert graph.flat(turned, -1) == (INPUT, (0, 2, 4, 1, 3, 5))
    x = values()
    assert kinds(graph) == ["Unflatten"]
    check(graph, graph.finalize(turned), x, x.unflatten(2, (2, 3)).transpose(2, 3).flatten(2))
    assert "Take" in kinds(graph)
    check(graph, turned, x, x.reshape(BATCH, FRAMES, 2, 3).transpose(2, 3).flatten(2))


def test_reshape_splits_time_into_stacks(graph: LayerGraph) -> None:
    stream = operations.reshape(graph, start(), (BATCH, 4, 3, SIZE))
    assert stream.axes[1:] == ((Axis("time", 4),), (Axis("window", 3),), (FEATURES,))
    assert kinds(graph) == ["FrameStacking"]
    x = values()
    check(graph, stream, x, x.reshape(BATCH, 4, 3, SIZE))
    flat = operations.reshape(graph, stream, (BATCH, 4, 3 * SIZE))
    assert flat.axes[2] == (Axis("feature", 3 * SIZE),)
    assert flat.window is None
    check(graph, flat, x, x.reshape(BATCH, 4, 3 * SIZE))


def test_stacks_may_drop_frames_at_the_end(graph: LayerGraph) -> None:
    stream = operations.cut(graph, start(), 1, slice(0, 10))
    assert stream.span == (0, -2)
    stacked = operations.reshape(graph, stream, (BATCH, 2, 5 * SIZE))
    x = values()
    check(graph, stacked, x, x[:, :10].reshape(BATCH, 2, 5 * SIZE))
    with pytest.raises(ImporterError, match="stacks 2 frames of padded or shifted frames"):
        operations.reshape(graph, stream, (BATCH, 5, 2 * SIZE))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((3, 8, SIZE), "which mixes axes"),
        ((BATCH, 8, 9), "which mixes axes"),
        ((BATCH * 4, 3, SIZE), ""),
        ((BATCH, FRAMES, 2, 3, 1), ""),
        ((1, BATCH * FRAMES * SIZE), ""),
    ],
)
def test_shapes(graph: LayerGraph, shape: tuple[int, ...], message: str) -> None:
    if message:
        with pytest.raises(ImporterError, match=message):
            operations.reshape(graph, start(), shape)
    else:
        assert operations.reshape(graph, start(), shape).shape == shape


def test_three_feature_axes_are_too_many(graph: LayerGraph) -> None:
    two = operations.reshape(graph, start(), (BATCH, FRAMES, 2, 3))
    wide = operations.reshape(graph, two, (BATCH, FRAMES, 2, 3, 1))
    assert wide.axes[2:] == ((Axis("feature", 2, 0),), (Axis("feature", 3, 1),), ())
    graph = LayerGraph(8)
    eight = input_stream(("batch", "time", "feature"), (BATCH, FRAMES, 8))
    four = operations.reshape(graph, eight, (BATCH, FRAMES, 2, 4))
    with pytest.raises(ImporterError, match="expected channels and bands at most"):
        operations.reshape(graph, four, (BATCH, FRAMES, 2, 2, 2))


def test_cut(graph: LayerGraph) -> None:
    same = start()
    assert operations.cut(graph, same, 2, slice(0, SIZE)) is same
    late = operations.cut(graph, same, 1, slice(2, -1))
    assert (late.span, late.shape) == ((2, -1), (BATCH, 9, SIZE))
    third = operations.cut(graph, same, -2, slice(None, None, 5))
    assert kinds(graph) == ["Subsample"]
    x = values()
    check(graph, third, x, x[:, ::5])
    middle = operations.cut(graph, same, 2, slice(1, 3))
    check(graph, middle, x, x[..., 1:3])
    image = operations.reshape(graph, same, (BATCH, FRAMES, 3, 2))
    check(graph, operations.cut(graph, image, 2, slice(1, 3)), x, x.unflatten(2, (3, 2))[:, :, 1:])
    check(graph, operations.cut(graph, same, 2, slice(0, 3, 2)), x, x[..., :3:2])
    check(graph, operations.cut(graph, image, 3, slice(0, 1)), x, x.unflatten(2, (3, 2))[..., :1])
    for part in (slice(1, None, 2), slice(2, -2, 3), slice(0, -3, 4)):
        check(graph, operations.cut(graph, same, 1, part), x, x[:, part])
    check(graph, graph.uncut(late), x, x[:, 2:-1])
    back = operations.flip(graph, same, [1])
    with pytest.raises(ImporterError, match="keeps frames 1:12:2, expected all or every n-th"):
        operations.cut(graph, back, 1, slice(1, None, 2))


def test_flip(graph: LayerGraph) -> None:
    back = operations.flip(graph, start(), [1])
    assert back.backwards
    assert back.becomes("next", back.axes).backwards
    assert not operations.flip(graph, back, [1]).backwards
    x = values()
    check(graph, operations.flip(graph, start(), [2]), x, x.flip(2))
    with pytest.raises(ImporterError, match=r"reverses dimensions \[1, 2\] .* or features alone"):
        operations.flip(graph, start(), [1, 2])


def test_pad(graph: LayerGraph) -> None:
    stream = operations.pad(operations.pad(start(), 1, 2, 0), -2, 0, 3)
    assert (stream.span, stream.shape) == ((-2, 3), (BATCH, FRAMES + 5, SIZE))
    assert operations.pad(stream, 0, 0, 0) is stream
    image = operations.reshape(graph, start(), (BATCH, FRAMES, 2, 3))
    assert operations.pad(image, -1, 1, 2).bands == (1, 2)
    for wrong in (
        lambda: operations.pad(image, 2, 1, 1),
        lambda: operations.pad(start(), 0, 1, 1),
        lambda: operations.pad(operations.pad(image, -1, 1, 1), -1, 1, 1),
    ):
        with pytest.raises(ImporterError, match="expected time or bands"):
            wrong()
    late = operations.cut(graph, start(), 1, slice(2, None))
    with pytest.raises(ImporterError, match="pads frames that were cut before"):
        operations.pad(late, 1, 1, 0)


# Windows.


def pad_frames(x: Tensor, before: int, after: int) -> Tensor:
    return torch.nn.functional.pad(x, (0, 0, before, after))


@pytest.mark.parametrize("flat", [True, False], ids=["frame by frame", "feature by feature"])
@pytest.mark.parametrize(
    ("padding", "step", "expected"),
    [
        ((3, 1), 1, ["ContextWindow"]),
        ((0, 4), 2, ["ContextWindow", "Subsample"]),
        ((0, 0), 3, ["FrameStacking"]),
    ],
)
def test_unfold(
    graph: LayerGraph, padding: tuple[int, int], step: int, expected: list[str], flat: bool
) -> None:
    stream = operations.unfold(graph, operations.pad(start(), 1, *padding), 1, 5, step)
    x = values()
    folded = pad_frames(x, *padding).unfold(1, 5, step)
    assert kinds(graph) == expected
    if flat:
        stream, folded = operations.transpose(stream, 2, 3), folded.transpose(2, 3)
    stream = operations.reshape(graph, stream, (BATCH, folded.shape[1], 5 * SIZE))
    assert (graph.columns(stream)[1] is None) == flat
    check(graph, stream, x, folded.reshape(stream.shape))


def test_windows_that_no_layer_makes(graph: LayerGraph) -> None:
    padded = operations.pad(start(), 1, 3, 2)
    with pytest.raises(ImporterError, match="around padding 3, 2, expected padding of 4 in all"):
        operations.unfold(graph, padded, 1, 5, 1)
    with pytest.raises(ImporterError, match="cuts windows out of dimension 2"):
        operations.unfold(graph, start(), 2, 5, 1)
    longer = operations.pad(start(), 1, 0, 2)
    late = [operations.cut(graph, longer, 1, slice(i, FRAMES + i)) for i in (1, 2)]
    with pytest.raises(ImporterError, match=r"frames 1 to 2 leaves the present frame \(0\) out"):
        operations.concatenate(graph, late, 2)


def shifts(graph: LayerGraph, padded: Stream) -> list[Stream]:
    return [operations.cut(graph, padded, 1, slice(i, FRAMES + i)) for i in range(4)]


@pytest.mark.parametrize("new", [True, False])
def test_shifted_copies_are_a_context_window(graph: LayerGraph, new: bool) -> None:
    parts = shifts(graph, operations.pad(start(), 1, 2, 1))
    x = values()
    copies = [pad_frames(x, 2, 1)[:, i : i + FRAMES] for i in range(4)]
    if new:
        stream, expected = operations.stack(graph, parts, -2), torch.stack(copies, -2)
    else:
        stream, expected = operations.concatenate(graph, parts, -1), torch.cat(copies, -1)
    assert kinds(graph) == ["ContextWindow"]
    window = graph.layer(stream.window or "")
    assert isinstance(window, layers.ContextWindow)
    assert (window.left, window.right) == (2, 1)
    check(graph, stream, x, expected)
    whole = graph.finalize(operations.reshape(graph, stream, (BATCH, FRAMES, 4 * SIZE)))
    assert whole.axes[2] == (Axis("feature", 4 * SIZE),)


def test_copies_that_are_no_context_window(graph: LayerGraph) -> None:
    parts = shifts(graph, operations.pad(start(), 1, 2, 1))
    with pytest.raises(ImporterError, match="expected one signal shifted by 1, 2, 3"):
        operations.stack(graph, parts[::2], 2)
    with pytest.raises(ImporterError, match="different layouts"):
        operations.stack(graph, [parts[0], operations.transpose(parts[1], 0, 2)], 2)


# Joins.


def test_zeros_around_a_stream_are_padding(graph: LayerGraph) -> None:
    stream = operations.concatenate(graph, [Zeros(2), start(), Zeros(1), Zeros(2)], 1)
    assert (stream.span, stream.shape) == ((-2, 3), (BATCH, FRAMES + 5, SIZE))
    with pytest.raises(ImporterError, match="only zeros can be put around one"):
        operations.concatenate(graph, [start(), start()], 1)
    x = values()
    check(graph, operations.concatenate(graph, [start(), Zeros(2)], 2), x, F.pad(x, (0, 2)))
    alone = start()
    assert operations.concatenate(graph, [alone], 1) is alone


def joined(graph: LayerGraph, *parts: Layer) -> tuple[list[Stream], Callable[[Tensor], Tensor]]:
    """A stream for each layer on the input, and the joined outputs of the layers."""
    nodes = [graph.add(part, INPUT) for part in parts]
    sizes = [graph.signals[node].size for node in nodes]
    base = start()
    streams = [
        base.becomes(node, base.with_axis(2, Axis("feature", size)))
        for node, size in zip(nodes, sizes, strict=True)
    ]

    def run(x: Tensor) -> Tensor:
        return torch.cat([Executor(graph.model(node))(x) for node in nodes], 2)

    return streams, run


def test_features_of_several_layers(graph: LayerGraph) -> None:
    streams, run = joined(graph, linear(3, SIZE), layers.Activation("relu"), linear(2, SIZE))
    stream = operations.concatenate(graph, streams, -1)
    assert stream.axes[2] == (Axis("feature", 11),)
    assert isinstance(graph.layer(stream.node), layers.Concat)
    x = values()
    check(graph, stream, x, run(x))
    turned = operations.transpose(streams[1], 0, 1)
    with pytest.raises(ImporterError, match="expected features of equal frames"):
        operations.concatenate(graph, [streams[0], turned], 2)


def cell(rows: int, hidden: int) -> Cell:
    return Cell(Dense(torch.randn(rows * hidden, SIZE)), Dense(torch.randn(rows * hidden, hidden)))


def test_both_directions_become_one_layer(graph: LayerGraph) -> None:
    ahead, back = layers.Recurrent("gru", cell(3, 4)), layers.Recurrent("gru", None, cell(3, 5))
    streams, run = joined(graph, ahead, back)
    stream = operations.concatenate(graph, streams, 2)
    both = graph.layer(stream.node)
    assert isinstance(both, layers.Recurrent)
    assert (both.forward, both.backward) == (ahead.forward, back.backward)
    x = values()
    check(graph, stream, x, run(x))
    streams, _ = joined(graph, ahead, layers.Recurrent("rnn_tanh", None, cell(1, 4)))
    other = operations.concatenate(graph, streams, 2)
    assert isinstance(graph.layer(other.node), layers.Concat)


@pytest.mark.parametrize("keep", [True, False])
def test_the_sum_of_both_directions(graph: LayerGraph, keep: bool) -> None:
    both = layers.Recurrent("lstm", cell(4, 5), cell(4, 5))
    (stream,), run = joined(graph, both)
    halves = operations.reshape(graph, stream, (BATCH, FRAMES, 2, 5))
    total = sum_directions(graph, halves, [-2], keep)
    x = values()
    check(graph, total, x, run(x).reshape(BATCH, FRAMES, 2, 5).sum(2, keepdim=keep))
    for wrong, dims in ((halves, [3]), (halves, []), (start(), [2])):
        with pytest.raises(ImporterError, match=r"sums over dimensions .* expected features"):
            sum_directions(graph, wrong, dims, keep)


def test_a_sum_over_halves_of_another_layer_is_refused(graph: LayerGraph) -> None:
    halves = operations.reshape(graph, start(), (BATCH, FRAMES, 2, 3))
    with pytest.raises(ImporterError, match="sums over dimensions"):
        sum_directions(graph, halves, [2], False)

"""What a model refuses, by the name of the layer, and the signals that it infers."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from small_models import chain, dense, linear, recurrent, speech_model
from torch import nn

from tinyvox.errors import ModelError
from tinyvox.executor import Executor
from tinyvox.model import (
    INPUT,
    Cell,
    Coded,
    Dense,
    Features,
    Layer,
    Model,
    Node,
    Product,
    Recurrent,
    Signal,
    SpeechCard,
    Table,
    layers,
)


def vectors(size: int, count: int) -> list[torch.Tensor]:
    return [torch.ones(size) for _ in range(count)]


def lstm(size: int, hidden: int) -> Cell:
    return Cell(dense(4 * hidden, size), dense(4 * hidden, hidden), torch.zeros(4 * hidden))


def gru(size: int, hidden: int) -> Cell:
    bias, bias_hn = torch.zeros(3 * hidden), torch.zeros(hidden)
    return Cell(dense(3 * hidden, size), dense(3 * hidden, hidden), bias, bias_hn)


# Signals.

INFERRED: list[tuple[Layer, Signal, Signal]] = [
    (layers.Linear(dense(7, 12), torch.zeros(7)), Signal((12,), 2), Signal((7,), 2)),
    (Recurrent("lstm", lstm(12, 5)), Signal((12,), 2), Signal((5,), 2)),
    (Recurrent("gru", gru(12, 5), gru(12, 3)), Signal((12,)), Signal((8,))),
    (Recurrent("rnn_tanh", None, Cell(dense(4, 12), dense(4, 4))), Signal((12,)), Signal((4,))),
    (layers.Conv1d(dense(6, 12), None, 3, 2, groups=3), Signal((12,), 2), Signal((6,), 4)),
    (
        layers.Conv2d(dense(5, 2 * 2 * 3), None, (2, 3), (3, 2), (0, 0, 1, 2)),
        Signal((2, 6), 2),
        Signal((5, 4), 6),
    ),
    (layers.BatchNorm(*vectors(12, 4)), Signal((12,), 2), Signal((12,), 2)),
    (layers.BatchNorm(*vectors(3, 4)), Signal((3, 4), 2), Signal((3, 4), 2)),
    (layers.LayerNorm(*vectors(12, 2)), Signal((12,), 2), Signal((12,), 2)),
    (layers.Activation("clipped_relu", 20.0), Signal((3, 4)), Signal((3, 4))),
    (layers.ContextWindow(2, 1), Signal((12,), 2), Signal((48,), 2)),
    (layers.FrameStacking(3, 2), Signal((12,), 2), Signal((36,), 4)),
    (layers.Subsample(3), Signal((3, 4), 2), Signal((3, 4), 6)),
    (layers.Slice(2, 7), Signal((12,), 2), Signal((5,), 2)),
    (layers.LayerNorm(*vectors(12, 2), kind="rms", groups=4), Signal((12,)), Signal((12,))),
    (layers.Unflatten(3), Signal((12,), 2), Signal((3, 4), 2)),
    (layers.Flatten(), Signal((3, 4), 2), Signal((12,), 2)),
    (layers.LogSoftmax(), Signal((12,), 2), Signal((12,), 2)),
]


@pytest.mark.parametrize(("layer", "given", "expected"), INFERRED)
def test_a_layer_infers_its_signal(layer: Layer, given: Signal, expected: Signal) -> None:
    assert layer.infer(given) == expected


def test_joins_infer_their_signals() -> None:
    assert layers.Add().infer(*[Signal((3, 4), 2)] * 3) == Signal((3, 4), 2)
    assert layers.Concat().infer(Signal((3,), 2), Signal((4,), 2)) == Signal((7,), 2)


def test_inferred_signals_are_those_of_the_outputs() -> None:
    image = (2, 9)
    model = chain(
        18,
        image=layers.Unflatten(2),
        conv=layers.Conv2d(dense(4, 12), None, (2, 3), (2, 3), (1, 0, 1, 1)),
        flat=layers.Flatten(),
        window=layers.ContextWindow(1, 1),
        stacking=layers.FrameStacking(2, 3),
        rnn=Recurrent("lstm", lstm(72, 5), lstm(72, 3)),
    )
    assert model.signals["image"].shape == image
    assert model.signals["rnn"] == Signal((8,), 6)
    found = Executor(model)(torch.randn(1, 600, 18))
    assert found.shape == (1, 100, 8)


# What layers refuse.

FLAT, IMAGE = Signal((12,)), Signal((3, 4))
REFUSED: list[tuple[Layer, Signal, str]] = [
    (layers.Linear(dense(7, 5)), FLAT, "input size is 12, expected 5"),
    (layers.Linear(dense(7, 12)), IMAGE, r"shape \(size,\), found \(3, 4\); add a Flatten"),
    (layers.Linear(dense(7, 12), torch.zeros(6)), FLAT, r"bias shape is \(6,\), expected \(7,\)"),
    (Recurrent("lstn", lstm(12, 5)), FLAT, "kind is 'lstn', expected one of lstm, gru, rnn_tanh"),
    (Recurrent("lstm"), FLAT, "has no cell, expected one forward, one backward, or both"),
    (Recurrent("lstm", lstm(11, 5)), FLAT, r"weight_ih shape is \(20, 11\), expected \(20, 12\)"),
    (Recurrent("lstm", gru(12, 5)), FLAT, r"weight_ih shape is \(15, 12\), expected \(20, 12\)"),
    (
        Recurrent("lstm", lstm(12, 5), lstm(11, 5)),
        FLAT,
        r"weight_ih shape is \(20, 11\), expected \(20, 12\)",
    ),
    (
        Recurrent("lstm", Cell(dense(20, 12), dense(16, 5))),
        FLAT,
        r"weight_hh shape is \(16, 5\), expected \(20, 5\)",
    ),
    (
        Recurrent("lstm", dataclasses.replace(lstm(12, 5), bias=torch.zeros(5))),
        FLAT,
        r"bias shape is \(5,\), expected \(20,\)",
    ),
    (
        Recurrent("lstm", dataclasses.replace(lstm(12, 5), bias_hn=torch.zeros(5))),
        FLAT,
        "kind of a cell with bias_hn is lstm, expected gru",
    ),
    (
        Recurrent("gru", dataclasses.replace(gru(12, 5), bias_hn=torch.zeros(4))),
        FLAT,
        r"bias_hn shape is \(4,\), expected \(5,\)",
    ),
    (Recurrent("lstm", lstm(12, 5)), IMAGE, "add a Flatten"),
    (layers.Conv1d(dense(6, 33), None, 3), FLAT, "input channels is 12, expected 11"),
    (layers.Conv1d(dense(6, 37), None, 3), FLAT, "weight columns"),
    (layers.Conv1d(dense(5, 18), None, 3, groups=2), FLAT, "output channels modulo groups is 1"),
    (layers.Conv1d(dense(6, 36), torch.zeros(5), 3), FLAT, r"bias shape is \(5,\), expected"),
    (layers.Conv1d(dense(6, 36), None, 3), IMAGE, "add a Flatten"),
    (layers.Conv2d(dense(5, 12), None, (2, 2)), FLAT, r"\(channels, bands\), found \(12,\)"),
    (layers.Conv2d(dense(5, 11), None, (2, 2)), IMAGE, "weight columns is 11, expected 12"),
    (layers.Conv2d(dense(5, 12), torch.zeros(4), (2, 2)), IMAGE, r"bias shape is \(4,\)"),
    (layers.Conv2d(dense(5, 15), None, (1, 5)), IMAGE, "a kernel of 5 bands does not fit 4 bands"),
    (
        layers.Conv2d(dense(5, 9), None, (1, 3), dilation=(1, 2)),
        IMAGE,
        "a kernel of 5 bands does not fit 4 bands",
    ),
    (layers.Conv2d(dense(5, 1), None, (1, 1), groups=3), IMAGE, "modulo groups is 2, expected 0"),
    (layers.Conv2d(dense(5, 3), None, (1, 1), dilation=(0, 1)), IMAGE, "dilation is 0, expected"),
    (layers.BatchNorm(*vectors(11, 4)), FLAT, r"mean shape is \(11,\), expected \(12,\)"),
    (layers.BatchNorm(*vectors(4, 4)), IMAGE, r"mean shape is \(4,\), expected \(3,\)"),
    (
        layers.BatchNorm(*vectors(12, 3), torch.ones(1)),
        FLAT,
        r"bias shape is \(1,\), expected \(12,\)",
    ),
    (layers.LayerNorm(torch.ones(12), torch.ones(4)), FLAT, r"bias shape is \(4,\), expected"),
    (layers.LayerNorm(*vectors(4, 2)), IMAGE, "add a Flatten"),
    (
        layers.LayerNorm(*vectors(12, 2), kind="l1"),
        FLAT,
        "kind is 'l1', expected one of layer, rms",
    ),
    (layers.LayerNorm(*vectors(12, 2), groups=5), FLAT, "12 does not divide into 5 groups"),
    (layers.Slice(3, 3), FLAT, "takes values 3 to 3 of 12"),
    (layers.Slice(3, 13), FLAT, "takes values 3 to 13 of 12"),
    (layers.Slice(-1, 3), FLAT, "takes values -1 to 3 of 12"),
    (layers.Slice(0, 2), IMAGE, "add a Flatten"),
    (layers.Activation("mash"), FLAT, "kind is 'mash', expected one of relu, clipped_relu, tanh"),
    (layers.Activation("clipped_relu"), FLAT, "clipped_relu has limit None; clipped_relu alone"),
    (layers.Activation("clipped_relu", 0.0), FLAT, "clipped_relu has limit 0.0"),
    (layers.Activation("clipped_relu", torch.nan), FLAT, "clipped_relu has limit nan"),
    (layers.Activation("relu", 1.0), FLAT, "relu has limit 1.0; clipped_relu alone needs one"),
    (
        layers.Activation("clipped_relu", None, torch.ones(3)),
        FLAT,
        r"limits shape is \(3,\), expected \(12,\)",
    ),
    (layers.Activation("clipped_relu", None, torch.zeros(12)), FLAT, "clipped_relu has limit 0.0"),
    (layers.Activation("clipped_relu", 1.0, torch.ones(12)), FLAT, "expected one of them"),
    (layers.Activation("tanh", None, torch.ones(12)), FLAT, "tanh has limit 1.0; clipped_relu"),
    (layers.ContextWindow(-1, 2), FLAT, "context is -1 left, 2 right, expected 0 or more"),
    (layers.ContextWindow(1, 1), IMAGE, "add a Flatten"),
    (layers.FrameStacking(0, 2), FLAT, "stacks 0 frames every 2, expected 1 or more"),
    (layers.FrameStacking(2, 0), FLAT, "stacks 2 frames every 0, expected 1 or more"),
    (layers.FrameStacking(2, 1), IMAGE, "add a Flatten"),
    (layers.Subsample(0), FLAT, "factor is 0, expected 1 or more"),
    (layers.Unflatten(5), FLAT, "size 12 does not divide into 5 channels"),
    (layers.Unflatten(0), FLAT, "size 12 does not divide into 0 channels"),
    (layers.Unflatten(3), IMAGE, "add a Flatten"),
    (layers.LogSoftmax(), IMAGE, "add a Flatten"),
]


@pytest.mark.parametrize(("layer", "given", "message"), REFUSED)
def test_a_layer_refuses_what_does_not_fit(layer: Layer, given: Signal, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        layer.infer(given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("layer", "given", "message"),
    [
        (layers.Add(), [FLAT], r"needs two or more inputs at one frame rate, found strides \[1\]"),
        (layers.Add(), [FLAT, IMAGE], r"takes inputs of one shape, found \[\(12,\), \(3, 4\)\]"),
        (layers.Add(), [FLAT, Signal((12,), 2)], r"one frame rate, found strides \[1, 2\]"),
        (layers.Add(), [], r"takes inputs of one shape, found \[\]"),
        (layers.Concat(), [FLAT], "needs two or more inputs"),
        (layers.Concat(), [FLAT, Signal((3,), 2)], r"one frame rate, found strides \[1, 2\]"),
        (layers.Concat(), [FLAT, IMAGE], "add a Flatten"),
        (layers.Flatten(), [IMAGE, IMAGE], r"takes 1 input\(s\), found 2"),
        (layers.Linear(dense(2, 12)), [], r"takes 1 input\(s\), found 0"),
    ],
)
def test_a_layer_refuses_inputs_that_do_not_join(
    layer: Layer, given: list[Signal], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        layer.infer(*given)


# What models refuse.


@pytest.mark.parametrize(("name", "reason"), [("second", "Linear"), ("third.one", "Linear")])
def test_an_error_names_the_layer_and_its_class(name: str, reason: str) -> None:
    nodes = (Node("first", linear(4, 6), (INPUT,)), Node(name, linear(3, 5), ("first",)))
    with pytest.raises(ModelError) as caught:
        Model(6, nodes)
    assert str(caught.value) == f"layer {name!r} ({reason}): input size is 4, expected 5"


@pytest.mark.parametrize("name", ["", INPUT, "first", "a/b"])
def test_a_name_is_used_once_and_not_reserved_or_empty(name: str) -> None:
    nodes = (Node("first", linear(4, 4), (INPUT,)), Node(name, linear(4, 4), ("first",)))
    with pytest.raises(ModelError, match=f"layer name '{name}' is used twice, reserved, empty"):
        Model(4, nodes)


@pytest.mark.parametrize("name", ["nowhere", "late", "self"])
def test_inputs_are_earlier_layers(name: str) -> None:
    nodes = (Node("self", linear(4, 4), (name,)), Node("late", linear(4, 4), (INPUT,)))
    with pytest.raises(ModelError, match=f"layer 'self': input '{name}' is no earlier layer"):
        Model(4, nodes)


def test_a_model_has_a_layer() -> None:
    with pytest.raises(ModelError, match="a model needs at least one layer, found none"):
        Model(4, ())


TABLE = Table(torch.tensor([0.0, 1.0]))
CODES = torch.zeros(3, 4, dtype=torch.uint8)
BAD = torch.tensor([[1.0, torch.nan], [1, 1]])
NAN_MODELS: dict[str, tuple[Layer, str]] = {
    "dense": (layers.Linear(Dense(torch.full((3, 4), torch.inf))), "weight"),
    "scale": (layers.Linear(Coded(CODES, TABLE, torch.tensor([1, torch.nan, 1]))), "weight"),
    "factor": (layers.Linear(Product(Product(dense(3, 2), Dense(BAD)), dense(2, 4))), "weight"),
    "bias": (layers.Linear(dense(3, 4), torch.tensor([1, -torch.inf, 1])), "bias"),
    "variance": (layers.BatchNorm(*vectors(4, 1), torch.full((4,), torch.nan), *vectors(4, 2)),
                 "variance"),
    "cell": (Recurrent("lstm", lstm(4, 3), dataclasses.replace(
        lstm(4, 3), weight_hh=Dense(torch.full((12, 3), torch.nan)))), "backward.weight_hh"),
    "cell's bias": (Recurrent("lstm", dataclasses.replace(
        lstm(4, 3), bias=torch.full((12,), torch.nan))), "forward.bias"),
}  # fmt: skip


@pytest.mark.parametrize(("layer", "tensor"), NAN_MODELS.values(), ids=NAN_MODELS)
def test_nan_and_infinity_are_named_with_their_tensor(layer: Layer, tensor: str) -> None:
    message = rf"layer 'bad' \(\w+\): {tensor} holds NaN or infinity; mend the source model"
    with pytest.raises(ModelError, match=message):
        chain(4, good=linear(4, 4), bad=layer)


# Cards.


def card(tokens: int, **changes: int) -> SpeechCard:
    features = Features(**{"coefficients": 10, **changes})
    names = tuple(chr(97 + i) for i in range(tokens))
    return SpeechCard(features=features, tokens=names, blank=tokens - 1)


def test_a_card_fits_the_features_and_the_tokens() -> None:
    model = speech_model()
    assert model.card is None
    assert model.with_card(card(7)).card == card(7)
    with pytest.raises(ModelError, match="describes 13 features a frame, but the model takes 10"):
        model.with_card(card(7, coefficients=13))
    with pytest.raises(ModelError, match=r"lists 6 tokens, but 'softmax' puts out \(7,\)"):
        model.with_card(card(6))


def test_an_output_that_is_an_image_has_no_tokens() -> None:
    with pytest.raises(ModelError, match=r"lists 7 tokens, but 'image' puts out \(7, 2\)"):
        chain(10, out=linear(14, 10), image=layers.Unflatten(7)).with_card(card(7))


# Names and new tensors.


def two_way_model() -> Model:
    torch.manual_seed(0)
    return chain(5, rnn=recurrent(nn.GRU(5, 3, bidirectional=True)), out=linear(2, 6))


def test_tensors_have_full_names_in_the_order_of_the_layers() -> None:
    model = two_way_model()
    assert [name for name, _ in model.matrices()] == [
        "rnn.forward.weight_ih",
        "rnn.forward.weight_hh",
        "rnn.backward.weight_ih",
        "rnn.backward.weight_hh",
        "out.weight",
    ]
    assert [name for name, _ in model.vectors()] == [
        "rnn.forward.bias",
        "rnn.forward.bias_hn",
        "rnn.backward.bias",
        "rnn.backward.bias_hn",
        "out.bias",
    ]


def test_parameters_are_weights_factors_and_biases() -> None:
    module = nn.GRU(5, 3, bidirectional=True)
    weights = sum(p.numel() for n, p in module.named_parameters() if n.startswith("weight"))
    model = two_way_model()
    assert model.count_parameters() == weights + 2 * (9 + 3) + 12 + 2
    factored = model.with_tensors({"out.weight": Product(dense(2, 1), dense(1, 6))})
    assert factored.count_parameters() == model.count_parameters() - 12 + 8


def test_the_original_count_is_that_of_the_provenance() -> None:
    model = two_way_model()
    assert model.original_parameters == model.count_parameters()
    assert model.with_provenance(original_parameters=12345).original_parameters == 12345


def test_with_tensors_replaces_those_named_and_shares_the_others() -> None:
    model = two_way_model()
    new = {"rnn.backward.weight_hh": dense(9, 3), "rnn.forward.bias": torch.ones(9)}
    changed = model.with_tensors(new)
    before = dict(model.matrices()) | dict(model.vectors())
    after = dict(changed.matrices()) | dict(changed.vectors())
    assert list(after) == list(before)
    for name, value in after.items():
        assert value is new.get(name, before[name])
    assert changed.node("out").layer is model.node("out").layer
    assert dict(model.matrices())["rnn.backward.weight_hh"] is before["rnn.backward.weight_hh"]


def test_with_tensors_gives_a_bias_to_a_layer_without_one() -> None:
    model = chain(4, out=layers.Linear(dense(3, 4)))
    assert list(model.vectors()) == []
    ((name, bias),) = model.with_tensors({"out.bias": torch.ones(3)}).vectors()
    assert name == "out.bias"
    assert torch.equal(bias, torch.ones(3))


def test_with_tensors_checks_the_new_model() -> None:
    model = two_way_model()
    with pytest.raises(ModelError, match=r"layer 'out' \(Linear\): input size is 6, expected 5"):
        model.with_tensors({"out.weight": dense(2, 5)})
    bad = Dense(torch.full((2, 6), torch.nan))
    with pytest.raises(ModelError, match=r"layer 'out' \(Linear\): weight holds NaN"):
        model.with_tensors({"out.weight": bad})


def test_layers_whose_names_begin_alike_are_told_apart() -> None:
    model = chain(4, dense=linear(4, 4), dense1=linear(4, 4), **{"dense.1": linear(4, 4)})
    new = dense(4, 4)
    for name in ("dense", "dense1", "dense.1"):
        changed = dict(model.with_tensors({f"{name}.weight": new}).matrices())
        assert [full for full, matrix in changed.items() if matrix is new] == [f"{name}.weight"]


def test_map_matrices_sees_every_matrix_once() -> None:
    seen: list[str] = []

    def halved(name: str, matrix: object) -> Dense:
        assert isinstance(matrix, Dense)
        seen.append(name)
        return Dense(matrix.values / 2)

    model = two_way_model()
    changed = dict(model.map_matrices(halved).matrices())
    assert seen == [name for name, _ in model.matrices()]
    for name, matrix in model.matrices():
        assert torch.equal(changed[name].decode(), matrix.decode() / 2)


def test_provenance_is_added_to_and_the_old_model_keeps_its_own() -> None:
    model = two_way_model().with_provenance(source="a", step=1)
    changed = model.with_provenance(step=2)
    assert changed.provenance == {"source": "a", "step": 2}
    assert model.provenance == {"source": "a", "step": 1}
    assert changed.nodes == model.nodes


def test_an_unknown_layer_is_named_with_those_that_there_are() -> None:
    model = two_way_model()
    assert model.node("out") is model.nodes[1]
    with pytest.raises(ModelError, match="no layer is called 'lstm'; there are rnn, out"):
        model.node("lstm")


def test_tensors_are_found_by_their_full_names() -> None:
    model = two_way_model()
    for name, matrix in model.matrices():
        assert model.matrix(name) is matrix
    for name, vector in model.vectors():
        assert model.vector(name) is vector
    assert list(model.tensors()) == [*model.matrices(), *model.vectors()]
    for name, tensor in model.tensors():
        assert model.has(name)
        assert model.tensor(name) is tensor
        assert model.owner(name) is model.node(name.split(".")[0])
    assert not model.has("rnn")


def test_an_unknown_tensor_is_named_with_those_that_there_are() -> None:
    lone = Model(3, (Node("out", layers.Linear(dense(2, 3), torch.zeros(2)), (INPUT,)),))
    both = r"there are out\.weight, out\.bias$"
    with pytest.raises(
        ModelError, match=r"no matrix is called 'out\.bias'; there are out\.weight$"
    ):
        lone.matrix("out.bias")
    with pytest.raises(ModelError, match=r"no vector is called 'out\.x'; there are out\.bias$"):
        lone.vector("out.x")
    with pytest.raises(ModelError, match=rf"no layer has a tensor 'weight'; {both}"):
        lone.tensor("weight")
    with pytest.raises(ModelError, match=rf"no layer has a tensor 'in\.weight'; {both}"):
        lone.owner("in.weight")
    bare = Model(3, (Node("out", layers.LogSoftmax(), (INPUT,)),))
    with pytest.raises(ModelError, match="no matrix is called 'a'; there are none"):
        bare.matrix("a")


def test_queries_are_those_of_the_changed_model() -> None:
    model = two_way_model()
    weight = model.matrix("out.weight")
    changed = model.with_tensors({"out.weight": dense(*weight.shape)})
    assert changed.matrix("out.weight") is not weight
    assert changed.owner("out.weight") is changed.node("out")
    assert model.matrix("out.weight") is weight


def test_models_layers_and_cells_are_frozen() -> None:
    model = two_way_model()
    layer = model.node("rnn").layer
    assert isinstance(layer, Recurrent)
    for value, field in ((model, "nodes"), (model.nodes[0], "name"), (layer, "forward"),
                         (layer.forward, "bias")):  # fmt: skip
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, field, None)


def test_two_tensors_of_one_name_are_refused() -> None:
    lstm = recurrent(nn.LSTM(4, 4))
    inner = linear(4, 4)
    nodes = (Node("a", lstm, (INPUT,)), Node("a.forward", inner, ("a",)))
    with pytest.raises(ModelError, match=r"two layers hold a tensor 'a\.forward\.bias'"):
        Model(4, nodes)

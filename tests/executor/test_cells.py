"""Cells that torch does not have: against loops written here, and against ONNX Runtime."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from runtime_models import VARIED
from small_models import chain, dense, features, linear, recurrent, run, what
from torch import Tensor, nn

from tinyvox.calibration import Batch, Statistics, gather
from tinyvox.errors import ModelError
from tinyvox.executor import Executor
from tinyvox.model import Cell, Dense, Model, Recurrent, Signal, groups, keep_units, layers
from tinyvox.passes import correct_biases
from tinyvox.passes.equalization import equalize
from tinyvox.passes.lowrank import factorize
from tinyvox.passes.lowrank.shared_projection import readers
from tinyvox.passes.pruning import prune
from tinyvox.passes.quantization import quantize
from tinyvox.recipe import EqualizeSettings, FactorizeSettings, PruneSettings, QuantizeSettings

HIDDEN = 17


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


GATES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "hardsigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "hard_sigmoid_keras": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
}
BENDS: dict[str | None, Callable[[np.ndarray], np.ndarray]] = {
    None: np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": GATES["sigmoid"],
    "identity": lambda x: x,
}


def numpy_of(value: object) -> np.ndarray:
    values = value if isinstance(value, Tensor) else value.decode()  # type: ignore[attr-defined]
    return values.numpy().astype(np.float64)


def by_loop(layer: Recurrent, x: np.ndarray) -> np.ndarray:
    """The outputs of a layer for one utterance, [frames, size], float64."""
    sides = []
    for side, cell in layer.cells().items():
        frames = x if side == "forward" else x[::-1]
        states = one_way(layer, cell, frames)
        sides.append(states if side == "forward" else states[::-1])
    return np.concatenate(sides, axis=1)


def one_way(layer: Recurrent, cell: Cell, frames: np.ndarray) -> np.ndarray:
    gate, bend = GATES[layer.gates], BENDS[layer.activation]
    w_ih, w_hh = numpy_of(cell.weight_ih), numpy_of(cell.weight_hh)
    bias = numpy_of(cell.bias)
    bias_hn = 0 if cell.bias_hn is None else numpy_of(cell.bias_hn)
    p_i, p_f, p_o = np.zeros((3, cell.hidden))
    if cell.peepholes is not None:
        p_i, p_f, p_o = numpy_of(cell.peepholes).reshape(3, -1)
    h, c, states = np.zeros(cell.size), np.zeros(cell.hidden), []
    for frame in frames.astype(np.float64):
        into = np.split(w_ih @ frame + bias, layers.GATES[layer.kind])
        back = np.split(w_hh @ h, layers.GATES[layer.kind])
        if layer.kind == "lstm":
            i = gate(into[0] + back[0] + p_i * c)
            f = gate(into[1] + back[1] + p_f * c)
            c = f * c + i * bend(into[2] + back[2])
            h = gate(into[3] + back[3] + p_o * c) * bend(c)
            h = h if cell.weight_hr is None else numpy_of(cell.weight_hr) @ h
        elif layer.kind == "rnn_tanh":
            h = bend(into[0] + back[0])
        else:
            r, z = gate(into[0] + back[0]), gate(into[1] + back[1])
            after = r * (back[2] + bias_hn)
            before = w_hh[2 * cell.hidden :] @ (r * h)
            n = bend(into[2] + (before if layer.kind == "gru_reset_before" else after))
            h = (1 - z) * n + z * h
        states.append(h)
    return np.stack(states)


@pytest.mark.parametrize("name", VARIED)
def test_a_cell_is_its_equations(name: str) -> None:
    layer = VARIED[name]()
    x = features(10, 200)
    found = run(chain(10, rnn=layer), x)
    for one, result in zip(x.numpy(), found.numpy(), strict=True):
        np.testing.assert_allclose(result, by_loop(layer, one), rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn_tanh"])
def test_the_loop_is_torch_for_the_cells_that_torch_has(kind: str) -> None:
    modules = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn_tanh": nn.RNN}
    layer = recurrent(modules[kind](10, HIDDEN, bidirectional=True))
    x = features(10, 100)
    found = run(chain(10, rnn=layer), x)
    np.testing.assert_allclose(found[0].numpy(), by_loop(layer, x[0].numpy()), atol=1e-5)


# ONNX Runtime. Its gates stand in the order i o f c, and z r h.


def by_onnx(operator: str, layer: Recurrent, x: Tensor, **attributes: object) -> np.ndarray:
    onnx, ort = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    cell = layer.forward
    assert cell is not None
    order = [0, 3, 1, 2] if operator == "LSTM" else [1, 0, 2]
    gates = len(order)

    def in_order(values: Tensor) -> np.ndarray:
        return values.unflatten(0, (gates, -1))[order].flatten(0, 1)[None].numpy()

    assert cell.bias is not None
    hidden_bias = torch.zeros_like(cell.bias)
    if cell.bias_hn is not None:
        hidden_bias[-cell.hidden :] = cell.bias_hn
    held = {
        "W": in_order(cell.weight_ih.decode()),
        "R": in_order(cell.weight_hh.decode()),
        "B": np.concatenate([in_order(cell.bias), in_order(hidden_bias)], axis=1),
    }
    inputs = ["x", "W", "R", "B"]
    if cell.peepholes is not None:  # in the order i o f
        parts = cell.peepholes.view(3, -1)[[0, 2, 1]]
        held["P"] = parts.flatten()[None].numpy()
        inputs += ["", "", "", "P"]
    helper = onnx.helper
    node = helper.make_node(operator, inputs, ["y"], hidden_size=cell.hidden, **attributes)
    shape = [x.shape[1], 1, x.shape[2]]
    graph = helper.make_graph(
        [node],
        "cell",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(v, name) for name, v in held.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)])
    model.ir_version = 8
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    outputs: np.ndarray = session.run(None, {"x": x.transpose(0, 1).numpy()})[0]
    return outputs[:, 0, 0]


HARD = {"gates": "hard_sigmoid_keras"}


@pytest.mark.parametrize("gates", ["sigmoid", "hard_sigmoid_keras"])
@pytest.mark.parametrize("activation", [None, "relu"])
def test_peepholes_are_those_of_onnx(gates: str, activation: str | None) -> None:
    rows = 4 * HIDDEN
    cell = Cell(dense(rows, 10), dense(rows, HIDDEN), torch.randn(rows),
                peepholes=torch.randn(3 * HIDDEN))  # fmt: skip
    layer = Recurrent("lstm", cell, gates=gates, activation=activation)
    bend = "Relu" if activation else "Tanh"
    functions = ["Sigmoid" if gates == "sigmoid" else "HardSigmoid", bend, bend]
    x = features(10, 200)[:1] / (20 if activation else 1)
    found = run(chain(10, rnn=layer), x)[0].numpy()
    expected = by_onnx("LSTM", layer, x, activations=functions)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("gates", ["sigmoid", "hard_sigmoid_keras"])
@pytest.mark.parametrize("kind", ["gru", "gru_reset_before"])
def test_both_grus_are_those_of_onnx(kind: str, gates: str) -> None:
    rows = 3 * HIDDEN
    bias_hn = torch.randn(HIDDEN) if kind == "gru" else None
    cell = Cell(dense(rows, 10), dense(rows, HIDDEN), torch.randn(rows), bias_hn)
    layer = Recurrent(kind, cell, gates=gates)
    x = features(10, 200)[:1]
    functions = ["Sigmoid" if gates == "sigmoid" else "HardSigmoid", "Tanh"]
    expected = by_onnx(
        "GRU", layer, x, activations=functions, linear_before_reset=int(kind == "gru")
    )
    found = run(chain(10, rnn=layer), x)[0].numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


# One cell has one description, and what does not fit is refused.


def test_what_the_kind_says_is_not_said_again() -> None:
    cell = Cell(dense(4, 3), dense(4, 4))
    for kind in ("lstm", "gru", "gru_reset_before", "rnn_tanh"):
        assert Recurrent(kind, cell, activation="tanh").activation is None
    same = Recurrent("rnn_tanh", cell, activation="relu")
    assert (same.kind, same.activation) == ("rnn_relu", None)


def cell_of(kind: str, **more: Tensor) -> Cell:
    rows = layers.GATES[kind] * 5
    return Cell(dense(rows, 12), dense(rows, 5), **more)


PEEPHOLES = torch.zeros(15)
REFUSED = [
    (Recurrent("lstm", cell_of("lstm"), gates="tanh"), "gates of lstm are 'tanh', expected one of"),
    (Recurrent("rnn_tanh", cell_of("rnn_tanh"), gates="hardsigmoid"), "only an LSTM or a GRU"),
    (Recurrent("gru", cell_of("gru"), activation="elu"), "activation of gru is 'elu', expected"),
    (Recurrent("rnn_relu", cell_of("rnn_relu"), activation="tanh"), "an rnn_relu takes none"),
    (
        Recurrent("gru", cell_of("gru", peepholes=PEEPHOLES)),
        "kind of a cell with peepholes is gru, expected lstm",
    ),
    (
        Recurrent("lstm", cell_of("lstm", peepholes=PEEPHOLES[:5])),
        r"peepholes shape is \(5,\), expected \(15,\)",
    ),
    (
        Recurrent("gru_reset_before", cell_of("gru", bias_hn=torch.zeros(5))),
        "kind of a cell with bias_hn is gru_reset_before, expected gru",
    ),
]


@pytest.mark.parametrize(("layer", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_does_not_fit_is_refused(layer: Recurrent, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        layer.infer(Signal((12,)))


# Batches, gradients, units.


@pytest.mark.parametrize("name", VARIED)
def test_an_utterance_gives_in_a_batch_what_it_gives_alone(name: str) -> None:
    executor = Executor(chain(10, rnn=VARIED[name]())).eval()
    x, lengths = features(10, 30), torch.tensor([30, 11])
    found, _ = executor.run(x[:2], lengths)
    for one, result, length in zip(x, found, lengths.tolist(), strict=False):
        alone = executor(one[None, :length])
        torch.testing.assert_close(result[:length], alone[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", VARIED)
def test_every_tensor_learns(name: str) -> None:
    executor = Executor(chain(10, rnn=VARIED[name]()))
    executor(features(10)).square().sum().backward()
    for parameter in executor.parameters():
        assert parameter.grad is not None
        assert parameter.grad.any()


@pytest.mark.parametrize("name", VARIED)
def test_removed_units_are_cut_from_every_tensor(name: str) -> None:
    """As many rows of each gate, and of the peepholes; nothing reads the units any more."""
    layer = VARIED[name]()
    model = chain(10, rnn=layer, out=linear(4, sum(c.size for c in layer.cells().values())))
    group = groups(model)[0]
    side = "forward" if group.name in ("rnn", "rnn.forward", "rnn.forward.units") else None
    assert side or name == "peepholes_projected"
    keep = torch.tensor([0, 2, 3])
    pruned = keep_units(model, {group.name: keep}).node("rnn").layer
    assert isinstance(pruned, Recurrent)
    before, after = layer.forward, pruned.forward
    assert before is not None
    assert after is not None
    gates = layers.GATES[layer.kind]
    rows = torch.cat([keep + gate * before.hidden for gate in range(gates)])
    assert torch.equal(after.weight_ih.decode(), before.weight_ih.decode()[rows])
    assert after.bias is not None
    assert before.bias is not None
    assert torch.equal(after.bias, before.bias[rows])
    if before.peepholes is not None:
        assert after.peepholes is not None
        kept = torch.cat([keep + gate * before.hidden for gate in range(3)])
        assert torch.equal(after.peepholes, before.peepholes[kept])


# Passes.


def speaking(kind: str = "gru_reset_before") -> Model:
    rows = layers.GATES[kind] * 24
    cell = Cell(dense(rows, 12), dense(rows, 24), torch.randn(rows))
    return chain(
        8,
        into=linear(12, 8),
        relu=layers.Activation("relu"),
        rnn=Recurrent(kind, cell),
        out=linear(5, 24),
        softmax=layers.LogSoftmax(),
    )


def batches() -> list[Batch]:
    return [Batch(features(8, 50, 3) + 0.5, torch.tensor([50, 41, 17]))]


def test_nothing_is_known_of_the_inputs_of_a_matrix_that_has_two_kinds_of_them() -> None:
    """The rows of the new gate have other inputs than the others, so statistics leave it out."""
    model = speaking()
    statistics = gather(model, batches(), fisher="outputs")
    assert set(statistics) == {"into.weight", "rnn.forward.weight_ih", "out.weight"}


def test_a_reset_before_the_matrix_goes_through_every_pass() -> None:
    model = speaking()
    statistics = gather(model, batches())
    x = features(8, 60)
    before = run(model, x)
    for outcome in (
        quantize(model, QuantizeSettings(bits=8), statistics),
        prune(model, PruneSettings(layers="rnn", keep=23), statistics),
        factorize(
            model, FactorizeSettings(layers="rnn", rank=12, shared_projection=True), statistics
        ),
        equalize(model, EqualizeSettings(), statistics),
    ):
        assert (run(outcome.model, x) - before).abs().mean() < 1


def test_sequential_fitting_leaves_that_matrix_as_it_is_and_says_so() -> None:
    model, heard = speaking(), batches()
    statistics = Statistics(gather(model, heard), model, lambda: heard)
    settings = QuantizeSettings(bits=8, method="kmeans", sequential=True)
    outcome = quantize(model, settings, statistics)
    assert "not fitted: its inputs are not known" in what(outcome, "rnn.forward.weight_hh")
    x = features(8, 60)
    assert (run(outcome.model, x) - run(model, x)).abs().mean() < 0.01


def test_such_a_cell_shares_no_projection_of_its_state() -> None:
    assert [found.recurrent for found in readers(speaking("gru"))] == ["rnn.forward.weight_hh"]
    assert not list(readers(speaking()))


def test_biases_correct_only_what_is_known_of_a_reset_before_the_matrix() -> None:
    """The mean of the hidden state says nothing of the rows of the new gate."""
    model = speaking()
    moved = model.matrix("rnn.forward.weight_hh").decode() + 0.1
    changed = model.with_tensors({"rnn.forward.weight_hh": Dense(moved)})
    corrected = correct_biases(model, changed).model
    shift = (
        dict(corrected.vectors())["rnn.forward.bias"] - dict(model.vectors())["rnn.forward.bias"]
    )
    assert shift[:48].any()
    assert not shift[48:].any()


def test_peepholes_stay_beside_corrected_biases() -> None:
    model = speaking("lstm")
    layer = model.node("rnn").layer
    assert isinstance(layer, Recurrent)
    assert layer.forward is not None
    forward = dataclasses.replace(layer.forward, peepholes=torch.randn(72))
    nodes = tuple(
        dataclasses.replace(n, layer=dataclasses.replace(layer, forward=forward))
        if n.name == "rnn" else n
        for n in model.nodes
    )  # fmt: skip
    model = dataclasses.replace(model, nodes=nodes)
    statistics = gather(model, batches(), fisher="outputs")
    assert "rnn.forward.weight_hh" in statistics
    quantized = quantize(model, QuantizeSettings(bits=8), statistics).model
    peepholes = dict(quantized.vectors())["rnn.forward.peepholes"]
    torch.testing.assert_close(peepholes, forward.peepholes, rtol=2**-10, atol=1e-6)
    x = features(8, 60)
    assert (run(quantized, x) - run(model, x)).abs().mean() < 0.1

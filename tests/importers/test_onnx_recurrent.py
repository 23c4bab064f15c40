"""ONNX's recurrent operators, in every form, against ONNX Runtime."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from onnx_graphs import FEATURES, Array, assert_parity, given, original, weights, write

from tinyvox.errors import ImporterError
from tinyvox.importers import load
from tinyvox.model import Recurrent

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
HIDDEN = 5


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)


def cell(kind: str, sides: int = 1, peepholes: bool = False) -> dict[str, Array]:
    rows = GATES[kind] * HIDDEN
    found = {
        "W": weights(sides, rows, FEATURES, seed=1),
        "R": weights(sides, rows, HIDDEN, seed=2),
        "B": weights(sides, 2 * rows, seed=3),
    }
    return found | ({"P": weights(sides, 3 * HIDDEN, seed=4)} if peepholes else {})


def layer(
    path: Path, kind: str, sides: int = 1, *, peepholes: bool = False, **settings: object
) -> Path:
    """A recurrent operator between the transposes that exporters write, all of its outputs joined
    as [batch, time, sides * hidden]."""
    held = cell(kind, sides, peepholes)
    inputs = ["t", *("W", "R", "B"), *(["", "", "", "P"] if peepholes else [])]
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        helper.make_node(kind, inputs, ["Y"], "rnn", hidden_size=HIDDEN, **settings),
        helper.make_node("Transpose", ["Y"], ["u"], perm=[2, 0, 1, 3]),
        helper.make_node("Reshape", ["u", "shape"], ["y"]),
    ]
    return write(path, nodes, held | {"shape": np.array([0, 0, -1])})


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("LSTM", {}),
        ("LSTM", {"peepholes": True}),
        ("GRU", {"linear_before_reset": 1}),
        ("GRU", {"linear_before_reset": 0}),
        ("RNN", {}),
    ],
)
def test_each_kind_in_each_direction(
    kind: str, settings: dict[str, object], direction: str, tmp_path: Path
) -> None:
    sides = 2 if direction == "bidirectional" else 1
    path = layer(tmp_path / "m.onnx", kind, sides, direction=direction, **settings)
    model = assert_parity(path, 7, 60)
    assert [node.name for node in model.nodes] == ["rnn"]
    assert model.original_parameters == sum(
        v.size for v in cell(kind, sides, "peepholes" in settings).values()
    )


@pytest.mark.parametrize(
    ("kind", "names", "settings"),
    [
        ("LSTM", ["HardSigmoid", "Tanh", "Tanh"], {}),
        (
            "LSTM",
            ["HardSigmoid", "Relu", "Relu"],
            {"activation_alpha": [1 / 6], "activation_beta": [0.5]},
        ),
        ("LSTM", ["Sigmoid", "Sigmoid", "Sigmoid"], {}),
        ("GRU", ["HardSigmoid", "Tanh"], {"linear_before_reset": 1}),
        ("GRU", ["HardSigmoid", "Relu"], {}),
        ("RNN", ["Relu"], {}),
        ("RNN", ["Sigmoid"], {}),
        (
            "LSTM",
            ["Sigmoid", "Affine", "Affine"],
            {"activation_alpha": [1.0, 1.0], "activation_beta": [0.0, 0.0]},
        ),
    ],
)
def test_other_functions(
    kind: str, names: list[str], settings: dict[str, object], tmp_path: Path
) -> None:
    path = layer(tmp_path / "m.onnx", kind, activations=names, **settings)
    assert_parity(path, tolerance=1e-5)


def ends(path: Path, kind: str, index: str, sides: int = 1) -> Path:
    """The final hidden states, as `index` writes them."""
    direction = "bidirectional" if sides == 2 else "forward"
    outputs = ["", "h"]
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        helper.make_node(
            kind, ["t", "W", "R", "B"], outputs, hidden_size=HIDDEN, direction=direction
        ),
    ]
    forms = {
        "squeeze": [helper.make_node("Squeeze", ["h", "zero"], ["y"])],
        "gather": [helper.make_node("Gather", ["h", "last"], ["y"], axis=0)],
        "both": [
            helper.make_node("Transpose", ["h"], ["s"], perm=[1, 0, 2]),
            helper.make_node("Reshape", ["s", "flat"], ["y"]),
        ],
        "split": [
            helper.make_node("Split", ["h"], ["a", "b"], axis=0),
            helper.make_node("Concat", ["b", "a"], ["c"], axis=2),
            helper.make_node("Squeeze", ["c", "zero"], ["y"]),
        ],
    }
    constants = {"zero": np.array([0]), "last": np.array(-1), "flat": np.array([1, -1])}
    return write(path, [*nodes, *forms[index]], cell(kind, sides) | constants, opset=13)


@pytest.mark.parametrize(
    ("index", "sides"), [("squeeze", 1), ("gather", 1), ("gather", 2), ("both", 2), ("split", 2)]
)
@pytest.mark.parametrize("kind", GATES)
def test_final_states(kind: str, index: str, sides: int, tmp_path: Path) -> None:
    assert_parity(ends(tmp_path / "m.onnx", kind, index, sides))


@pytest.mark.parametrize("sides", [1, 2])
@pytest.mark.parametrize("kind", GATES)
def test_batch_first(kind: str, sides: int, tmp_path: Path) -> None:
    """`layout` 1, which ONNX Runtime does not run, gives what `layout` 0 gives."""
    direction = "bidirectional" if sides == 2 else "forward"
    settings = {"hidden_size": HIDDEN, "direction": direction, "layout": 1}
    nodes = [
        helper.make_node(kind, ["x", "W", "R", "B"], ["Y", "h"], **settings),
        helper.make_node("Reshape", ["Y", "all"], ["y"]),
        helper.make_node("Reshape", ["h", "flat"], ["y"]),
    ]
    held = cell(kind, sides) | {"all": np.array([0, 0, -1]), "flat": np.array([1, -1])}
    features = torch.randn(1, 9, FEATURES)
    model = load(write(tmp_path / "all.onnx", nodes[:2], held))
    expected = original(layer(tmp_path / "m.onnx", kind, sides, direction=direction), features)
    assert float((given(model, features) - expected).abs().max()) <= 2e-6
    model = load(write(tmp_path / "last.onnx", nodes[::2], held))
    last = torch.cat([expected[:, -1, :HIDDEN], expected[:, 0, HIDDEN:]], -1)
    assert float((given(model, features)[:, 0] - last).abs().max()) <= 2e-6


def test_lengths_are_those_of_the_frames(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        helper.make_node("GRU", ["t", "W", "R", "B", "n"], ["Y"], hidden_size=HIDDEN),
        helper.make_node("Squeeze", ["Y", "one"], ["u"]),
        helper.make_node("Transpose", ["u"], ["y"], perm=[1, 0, 2]),
    ]
    lengths = helper.make_tensor_value_info("n", TensorProto.INT32, ["batch"])
    held = cell("GRU") | {"one": np.array([1])}
    model = load(write(tmp_path / "m.onnx", nodes, held, inputs=[lengths]))
    assert model.provenance["import_notes"] == [
        "input 'n' is taken to be the number of frames",
        "sequence_lens is left out: every utterance has all frames",
    ]
    held |= {"n": np.array([4], np.int32)}
    with pytest.raises(ImporterError, match=r"GRU \(node 'Y'\): sequence_lens is \[4\], expected"):
        load(write(tmp_path / "s.onnx", nodes, held))


@pytest.mark.parametrize("opset", [7, 9, 11, 14])
def test_older_operator_sets(opset: int, tmp_path: Path) -> None:
    """As an exporter of these days wrote it: axes as attributes."""
    inner = {"axes": [1]} if opset < 13 else {}
    extra = [] if opset < 13 else ["one"]
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        helper.make_node("LSTM", ["t", "W", "R", "B"], ["Y"], hidden_size=HIDDEN),
        helper.make_node("Squeeze", ["Y", *extra], ["u"], **inner),
        helper.make_node("Transpose", ["u"], ["v"], perm=[1, 0, 2]),
        helper.make_node("Softmax", ["v"], ["y"], axis=2),
    ]
    held = cell("LSTM") | ({"one": np.array([1])} if extra else {})
    assert_parity(write(tmp_path / "m.onnx", nodes, held, opset=opset))


def test_states_in_and_out(tmp_path: Path) -> None:
    """A frame a call: two LSTMs, their four states packed into one tensor, as TensorFlow does."""
    held = {f"{n}{i}": v for i in (1, 2) for n, v in cell("LSTM").items()}
    held |= {"W2": weights(1, 4 * HIDDEN, HIDDEN, seed=7)}
    numbers = {f"n{i}": np.array(i) for i in range(4)}
    nodes = [helper.make_node("Gather", ["s", f"n{i}"], [f"s{i}"], axis=0) for i in range(4)]
    nodes += [
        helper.make_node(
            "LSTM",
            ["x", "W1", "R1", "B1", "", "s0", "s1"],
            ["Y1", "h1", "c1"],
            "a",
            hidden_size=HIDDEN,
        ),
        helper.make_node("Squeeze", ["Y1", "one"], ["z"]),
        helper.make_node(
            "LSTM",
            ["z", "W2", "R2", "B2", "", "s2", "s3"],
            ["Y2", "h2", "c2"],
            "b",
            hidden_size=HIDDEN,
        ),
        helper.make_node("Squeeze", ["Y2", "one"], ["y"]),
    ]
    for i, state in enumerate(("h1", "c1", "h2", "c2")):
        nodes.append(helper.make_node("Unsqueeze", [state, "front"], [f"o{i}"]))
    orders = itertools.permutations(range(4))
    states = helper.make_tensor_value_info("s", TensorProto.FLOAT, [4, 1, 1, HIDDEN])
    for order in itertools.islice(orders, 0, 24, 7):
        last = helper.make_node("Concat", [f"o{i}" for i in order], ["r"], axis=0)
        path = write(
            tmp_path / "m.onnx",
            [*nodes, last],
            held | numbers | {"one": np.array([1]), "front": np.array([0])},
            shape=(1, 1, FEATURES),
            outputs=("r", "y"),
            inputs=[states],
        )
        if order == (0, 1, 2, 3):
            assert_streaming(path)
        else:
            with pytest.raises(
                ImporterError, match=r"takes states \(s\) and does not give them as"
            ):
                load(path)


def assert_streaming(path: Path, frames: int = 40) -> None:
    import onnxruntime as ort

    model = load(path)
    assert [type(node.layer) for node in model.nodes] == [Recurrent, Recurrent]
    session = ort.InferenceSession(path)
    x = torch.randn(1, frames, FEATURES)
    state, found = np.zeros((4, 1, 1, HIDDEN), np.float32), []
    for i in range(frames):
        state, y = session.run(None, {"x": x[:, i : i + 1].numpy(), "s": state})
        found.append(torch.from_numpy(y[0, 0]))
    assert float((given(model, x)[0] - torch.stack(found)).abs().max()) <= 2e-6


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clip": 1.0}, "clips what enters its gates"),
        ({"input_forget": 1}, "couples input and forget gate"),
        ({"direction": "both"}, "direction is 'both', expected one of forward, reverse"),
        ({"activations": ["Sigmoid", "Tanh", "Relu"]}, "has activations .* expected one of tanh"),
        ({"activations": ["Tanh", "Tanh", "Tanh"]}, "has tanh gates, expected sigmoid"),
        ({"activations": ["Sigmoid"]}, "has activations .* expected 3, the same each direction"),
        ({"direction": "bidirectional"}, r"W has shape \[1, 20, 6\], expected \[2, 20, 6\]"),
    ],
)
def test_what_is_refused(settings: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(ImporterError, match=rf"m\.onnx: LSTM \(node 'rnn'\): {message}"):
        load(layer(tmp_path / "m.onnx", "LSTM", **settings))


def test_original_gives_what_is_compared(tmp_path: Path) -> None:
    """The oracle runs, and does not give zeros."""
    path = layer(tmp_path / "m.onnx", "LSTM")
    assert float(original(path, torch.randn(1, 9, FEATURES)).std()) > 0.01

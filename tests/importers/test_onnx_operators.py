"""Single ONNX operators, and what exporters put around layers, against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import helper
from onnx_graphs import FEATURES, assert_parity, given, original, weights, write

from tinyvox.importers import load
from tinyvox.model import Recurrent, layers

node = helper.make_node
Nodes = Sequence[onnx.NodeProto]

HELD: dict[str, NDArray[np.generic]] = {
    "W": weights(FEATURES, FEATURES),
    "V": weights(FEATURES, 4),
    "b": weights(FEATURES),
    "c": weights(4),
    "d": weights(FEATURES),
    "slopes": np.abs(weights(FEATURES)),
    "low": np.array(-0.5, np.float32),
    "high": np.array(1.5, np.float32),
    "two": np.array(2, np.float32),
    "half": np.array(0.5, np.float32),
    "one": np.array(1, np.float32),
    "K": weights(5, FEATURES, 3),
    "K2": weights(5, FEATURES, 1, 3),
    "i0": np.array([0]),
    "i1": np.array([1]),
    "i2": np.array([2]),
    "i3": np.array([3]),
    "back": np.array([-1]),
    "far": np.array([-(1 << 62)]),
    "yes": np.array([[[True]]]),
    "sizes": np.array([2, 4]),
    "flat": np.array([0, -1, FEATURES]),
    "split": np.array([0, 0, 2, 3]),
    "pads": np.array([0, 2, 0, 0, 0, 0]),
    "shape1": np.array([1, 1, FEATURES]),
}


def before(*nodes: onnx.NodeProto) -> list[onnx.NodeProto]:
    """A dense layer, `z`, then these."""
    return [node("MatMul", ["x", "W"], ["m"]), node("Add", ["m", "b"], ["z"]), *nodes]


def along(*nodes: onnx.NodeProto) -> list[onnx.NodeProto]:
    """`z` with time in the last dimension, these to `v`, and back."""
    turned = node("Transpose", ["x"], ["z"], perm=[0, 2, 1])
    return [turned, *nodes, node("Transpose", ["v"], ["y"], perm=[0, 2, 1])]


ELEMENTWISE: dict[str, Nodes] = {
    **{
        kind: before(node(kind, ["z"], ["y"]))
        for kind in ("Relu", "LeakyRelu", "Elu", "Selu", "Celu", "Softplus", "Softsign", "Tanh")
    },
    **{
        kind: before(node(kind, ["z"], ["y"]))
        for kind in ("Sigmoid", "HardSigmoid", "HardSwish", "Mish", "Abs", "Neg", "Exp", "Softmax")
    },
    "LogSoftmax": before(node("LogSoftmax", ["z"], ["y"])),
    "Gelu": before(node("Gelu", ["z"], ["y"])),
    "Gelu tanh": before(node("Gelu", ["z"], ["y"], approximate="tanh")),
    "HardSigmoid of PyTorch": before(node("HardSigmoid", ["z"], ["y"], alpha=1 / 6)),
    "Clip": before(node("Clip", ["z", "low", "high"], ["y"])),
    "Clip above": before(node("Clip", ["z", "", "high"], ["y"])),
    "PRelu": before(node("PRelu", ["z", "slopes"], ["y"])),
    "Pow": before(node("Pow", ["z", "two"], ["y"])),
    "square root": before(node("Abs", ["z"], ["a"]), node("Pow", ["a", "half"], ["y"])),
    "logarithm": before(node("Exp", ["z"], ["a"]), node("Log", ["a"], ["y"])),
    "Min": before(node("Min", ["high", "z", "two"], ["y"])),
    "Max": before(node("Max", ["z", "low"], ["y"])),
    "Sum": before(node("Sum", ["z", "x", "b"], ["y"])),
    "Sub": before(node("Sub", ["one", "z"], ["y"])),
    "Div": before(node("Div", ["z", "two"], ["y"])),
    "Where": before(node("Where", ["yes", "z", "low"], ["y"])),
    "Dropout": before(node("Dropout", ["z"], ["y"])),
}

PLUMBING: dict[str, Nodes] = {
    "a part of the features": before(node("Slice", ["z", "i1", "i3", "i2"], ["y"])),
    "features by steps of a split": before(
        node("Split", ["z", "sizes"], ["p", "q"], axis=2), node("Concat", ["q", "p"], ["y"], axis=2)
    ),
    "features by places": before(node("Gather", ["z", "run"], ["y"], axis=2)),
    "channels and bands": before(
        node("Reshape", ["z", "split"], ["r"]),
        node("Slice", ["r", "i1", "i2", "i2"], ["s"]),
        node("Flatten", ["s"], ["f"], axis=2),
        node("Unsqueeze", ["f", "i0"], ["y"]),
    ),
    "the last frame": before(
        node("Slice", ["z", "back", "max", "i1"], ["l"]), node("Squeeze", ["l", "i1"], ["y"])
    ),
    "reversed twice": before(
        node("Slice", ["z", "back", "far", "i1", "back"], ["r"]),
        node("Relu", ["r"], ["t"]),
        node("Slice", ["t", "back", "far", "i1", "back"], ["y"]),
    ),
    "mean over time": before(node("ReduceMean", ["z"], ["y"], axes=[1], keepdims=0)),
    "largest over time": before(node("ReduceMax", ["z"], ["y"], axes=[1], keepdims=0)),
    "Expand": before(node("Expand", ["z", "shape1"], ["y"])),
    "a matrix from the left": along(node("MatMul", ["W", "z"], ["v"])),
    "Conv": along(node("Conv", ["z", "K"], ["v"], pads=[1, 1])),
    "a norm over time": along(node("InstanceNormalization", ["z", "b", "d"], ["v"])),
    "Conv after zeros": along(node("Conv", ["z", "K"], ["v"], pads=[2, 0])),
    "Conv, same": along(node("Conv", ["z", "K"], ["v"], auto_pad="SAME_UPPER")),
    "Conv, same before": along(node("Conv", ["z", "K"], ["v"], auto_pad="SAME_LOWER")),
    "Conv, dilated": along(node("Conv", ["z", "K"], ["v"], dilations=[2], pads=[4, 0])),
    "Conv of images of one row": along(
        node("Unsqueeze", ["z", "i2"], ["u"]),
        node("Conv", ["u", "K2"], ["w"], pads=[0, 1, 0, 1]),
        node("Squeeze", ["w", "i2"], ["v"]),
    ),
    "zeros before the frames": [
        node("Pad", ["x", "pads"], ["p"]),
        node("Transpose", ["p"], ["t"], perm=[0, 2, 1]),
        node("Conv", ["t", "K"], ["v"]),
        node("Transpose", ["v"], ["y"], perm=[0, 2, 1]),
    ],
    "Gemm of frames": [
        node("Squeeze", ["x", "i0"], ["s"]),
        node("Gemm", ["s", "V", "c"], ["y"], alpha=0.5, beta=2.0),
    ],
    "Gemm, turned": [
        node("Squeeze", ["x", "i0"], ["s"]),
        node("Gemm", ["s", "W"], ["y"], transB=1),
    ],
    "shapes that are computed": before(
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "i1"], ["t"]),
        node("Concat", ["t", "features"], ["u"], axis=0),
        node("Reshape", ["z", "u"], ["r"]),
        node("Unsqueeze", ["r", "i0"], ["y"]),
    ),
}
HELD |= {
    "run": np.array([2, 3, -2]),
    "max": np.array([(1 << 63) - 1]),
    "features": np.array([FEATURES]),
}


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)


def held(nodes: Nodes) -> dict[str, NDArray[np.generic]]:
    used = {name for each in nodes for name in each.input}
    return {name: value for name, value in HELD.items() if name in used}


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise(name: str, tmp_path: Path) -> None:
    nodes = ELEMENTWISE[name]
    path = write(tmp_path / "m.onnx", nodes, held(nodes), opset=20)
    assert_parity(path, tolerance=5e-6)


@pytest.mark.parametrize("name", PLUMBING)
def test_plumbing(name: str, tmp_path: Path) -> None:
    nodes = PLUMBING[name]
    path = write(tmp_path / "m.onnx", nodes, held(nodes), opset=17)
    assert_parity(path, 7, 22, tolerance=5e-6)


def test_softmax_of_older_sets_is_over_all_that_follows(tmp_path: Path) -> None:
    nodes = [
        node("Squeeze", ["x"], ["s"], axes=[0]),
        node("Gemm", ["s", "V", "c"], ["g"]),
        node("Softmax", ["g"], ["y"]),
    ]
    assert_parity(write(tmp_path / "m.onnx", nodes, held(nodes), opset=9))


def test_keras_by_tf2onnx(tmp_path: Path) -> None:
    """Bidirectional, as tf2onnx writes it: two operators, of which the second runs backward, and
    biases that are added to products."""
    nodes = [node("Transpose", ["x"], ["t"], perm=[1, 0, 2])]
    constants: dict[str, NDArray[np.generic]] = {"one": np.array([1])}
    for side, direction in (("f", "forward"), ("b", "reverse")):
        constants |= {
            f"W{side}": weights(1, 12, FEATURES, seed=ord(side)),
            f"R{side}": weights(1, 12, 3, seed=ord(side)),
            f"B{side}": weights(1, 24, seed=ord(side)),
        }
        names = ["t", *(f"{n}{side}" for n in "WRB")]
        nodes += [
            node("LSTM", names, [f"Y{side}"], f"lstm_{side}", hidden_size=3, direction=direction),
            node("Squeeze", [f"Y{side}", "one"], [f"s{side}"]),
            node("Transpose", [f"s{side}"], [f"o{side}"], perm=[1, 0, 2]),
        ]
    nodes += [
        node("Concat", ["of", "ob"], ["o"], axis=2),
        node("MatMul", ["o", "V"], ["m"], "dense"),
        node("Add", ["m", "c"], ["a"]),
        node("Softmax", ["a"], ["y"], axis=2),
    ]
    path = write(tmp_path / "m.onnx", nodes, constants | {"V": HELD["V"], "c": HELD["c"]})
    model = assert_parity(path)
    kinds = [type(each.layer) for each in model.nodes]
    assert kinds == [Recurrent, layers.Linear, layers.Softmax]
    assert [each.name for each in model.nodes][1] == "dense"


@pytest.mark.parametrize("after", [1, 3])
def test_reflected_features_and_a_spectrum_in_a_frame(after: int, tmp_path: Path) -> None:
    """A call takes the samples of one frame; `x` has frames in its first dimension."""
    basis = weights(4, 1, 3)
    nodes = [
        node("Pad", ["x", "ends"], ["p"], mode="reflect"),
        node("Unsqueeze", ["p", "i1"], ["u"]),
        node("Conv", ["u", "basis"], ["v"], strides=[2]),
        node("Relu", ["v"], ["r"]),
        node("Flatten", ["r"], ["y"]),
    ]
    constants = {"ends": np.array([0, 1, 0, after]), "basis": basis, "i1": HELD["i1"]}
    path = write(tmp_path / "m.onnx", nodes, constants, shape=("time", FEATURES))
    model, features = load(path), torch.randn(9, FEATURES)
    found = given(model, features[None])[0]
    assert float((found - original(path, features)).abs().max()) <= 1e-6

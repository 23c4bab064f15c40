"""ONNX files that are refused: each error names the operator and what it needs."""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnx_graphs import FEATURES, assert_parity, weights, write

from tinyvox.errors import ImporterError
from tinyvox.importers import bytes_on_disk, load, model_files

Nodes = Sequence[onnx.NodeProto]
node = helper.make_node
W = {"W": weights(FEATURES, 4)}


def refused(path: Path, *fragments: str) -> None:
    """An error in one line, with the name of the file and all of these in it."""
    with pytest.raises(ImporterError) as caught:
        load(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    for fragment in fragments:
        assert re.search(fragment, text), text


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([node("Sin", ["x"], ["y"], "s")], r"Sin \(node 's'\): is not supported"),
        ([node("Foo", ["x"], ["y"], "f", domain="mine")], "Foo .* is not supported of mine"),
        ([node("Loop", ["", "", "x"], ["y"], "l")], r"Loop \(node 'l'\): is a loop over operators"),
        ([node("Scan", ["x"], ["y"], num_scan_inputs=1)], r"Scan \(node 'y'\): is a loop over"),
        ([node("MatMul", ["x", "x"], ["y"], "a")], r"MatMul \(node 'a'\): torch cannot compute it"),
        (
            [
                node("Transpose", ["x"], ["t"], perm=[0, 2, 1]),
                node("MatMul", ["x", "t"], ["y"], "a"),
            ],
            r"MatMul \(node 'a'\): multiplies .*, expected a vector on one side",
        ),
        ([node("Identity", ["W"], ["y"])], "gives constants alone, expected a signal"),
        ([node("Relu", ["z"], ["y"])], "takes 'z', which nothing before it gives"),
        (
            [
                node("Relu", ["b"], ["a"]),
                node("Add", ["x", "a"], ["b"]),
                node("Relu", ["b"], ["y"]),
            ],
            "the graph has a circle, or its operators are not in order",
        ),
        (
            [node("Reshape", ["x", "shape"], ["y"], "r")],
            r"Reshape \(node 'r'\): .*(makes .* another|mixes axes)",
        ),
        ([node("Slice", ["x", "x", "x"], ["y"])], "its input 1 depends on the model's input"),
        ([node("Dropout", ["x", "", "yes"], ["y"])], "is in training mode"),
        ([node("QLinearMatMul", ["x"] * 8, ["y"])], "QLinearMatMul .* is not supported"),
    ],
)
def test_operators(nodes: Nodes, message: str, tmp_path: Path) -> None:
    held = W | {"shape": np.array([0, -1, 4]), "yes": np.array(True)}
    refused(write(tmp_path / "m.onnx", nodes, held), message)


def branch(name: str, kind: str) -> onnx.GraphProto:
    out = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
    return helper.make_graph([node(kind, ["x"], [name])], name, [], [out])


def test_a_branch_is_chosen_by_a_constant(tmp_path: Path) -> None:
    choice = {"then_branch": branch("a", "Sigmoid"), "else_branch": branch("b", "Tanh")}
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "two"], ["n"]),
        node("Equal", ["n", "six"], ["c"]),
        node("If", ["c"], ["y"], **choice),
    ]
    held = {"two": np.array(2), "six": np.array(FEATURES)}
    model = assert_parity(write(tmp_path / "m.onnx", nodes, held))
    assert [n.layer.kind for n in model.nodes] == ["sigmoid"]  # type: ignore[attr-defined]
    nodes = [
        node("ReduceMax", ["x"], ["m"], keepdims=0),
        node("Greater", ["m", "one"], ["c"]),
        nodes[-1],
    ]
    path = write(tmp_path / "s.onnx", nodes, {"one": np.array(1, np.float32)})
    refused(path, "If .*depends on the model's input, expected a constant condition")


def functions(*bodies: tuple[str, str]) -> bytes:
    """A model that calls `f`; each function calls another operator or function."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, "time", FEATURES])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    sets = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
    made = []
    for name, inner in bodies:
        domain = "mine" if inner.islower() else ""
        calls = [node(inner, ["a"], ["b"], domain=domain), node(inner, ["b"], ["c"], domain=domain)]
        made.append(helper.make_function("mine", name, ["a"], ["c"], calls, sets))
    graph = helper.make_graph([node("f", ["x"], ["y"], domain="mine")], "g", [x], [y])
    model = helper.make_model(graph, opset_imports=sets, functions=made, ir_version=8)
    return bytes(model.SerializeToString())


def test_functions_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(functions(("f", "g"), ("g", "Tanh")))
    model = assert_parity(path)
    assert [n.layer.kind for n in model.nodes] == ["tanh"] * 4  # type: ignore[attr-defined]
    path.write_bytes(functions(("f", "g"), ("g", "f")))
    refused(path, "more than 32 graphs or functions inside one another")
    names = "abcdefghijklmnopqrstuvw"
    chain = [("f", "ga")] + [(f"g{a}", f"g{b}") for a, b in itertools.pairwise(names)]
    path.write_bytes(functions(*chain, ("gw", "Tanh")))
    refused(path, "more than 131072 operators")


@pytest.mark.parametrize(
    "make",
    [
        lambda: [node("ConstantOfShape", ["huge"], ["c"])],
        lambda: [node("Expand", ["W", "large"], ["c"])],
        lambda: [node("Tile", ["W", "large"], ["c"])],
        lambda: [node("Range", ["zero", "end", "step"], ["c"])],
        lambda: [node("Expand", ["x", "large"], ["c"])],
        lambda: [node("Pad", ["x", "pads"], ["c"])],
        lambda: (
            [node("Concat", ["W"] * 2, ["a0"], axis=0)]
            + [node("Concat", [f"a{i}"] * 2, [f"a{i + 1}"], axis=0) for i in range(40)]
            + [node("Identity", ["a40"], ["c"])]
        ),
    ],
)
def test_small_files_that_ask_for_much(make: Callable[[], Nodes], tmp_path: Path) -> None:
    held: dict[str, NDArray[np.generic]] = W | {
        "huge": np.array([1 << 40]),
        "large": np.array([1 << 20, 1 << 12, 1, 1]),
        "pads": np.array([0, 0, 0, 0, 1 << 34, 0]),
        "zero": np.array(0),
        "end": np.array(1 << 40),
        "step": np.array(1),
    }
    nodes = [*make(), node("ReduceSum", ["c"], ["s"], keepdims=0), node("Add", ["x", "s"], ["y"])]
    refused(
        write(tmp_path / "m.onnx", nodes, held),
        "torch cannot compute it|its result is too large|is too",
    )


def external(tmp_path: Path, location: str, **place: str) -> Path:
    """A product whose weight lies in another file."""
    path = write(tmp_path / "m.onnx", [node("MatMul", ["x", "W"], ["y"])], W)
    model = onnx.ModelProto.FromString(path.read_bytes())
    (proto,) = model.graph.initializer
    proto.ClearField("raw_data")
    proto.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **place}.items():
        proto.external_data.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())
    return path


def test_weights_in_another_file(tmp_path: Path) -> None:
    data = W["W"].tobytes()
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "w.bin").write_bytes(b"12345678" + data)
    path = external(tmp_path, "inner/w.bin", offset="8", length=str(len(data)))
    (matrix,) = (matrix for _, matrix in load(path).matrices())
    assert torch.equal(matrix.decode(), torch.from_numpy(W["W"].T.copy()))
    assert model_files(path) == [path, tmp_path / "inner" / "w.bin"]
    assert bytes_on_disk(path) == path.stat().st_size + 8 + len(data)
    for place, message in (
        ({"offset": "8", "length": "4000"}, "bytes 8 to 4008 of w.bin, which has"),
        ({"offset": "-8"}, "bytes -8 to"),
        ({"offset": "x"}, "is no number"),
        ({"length": "8"}, "its values are missing|do not fit"),
    ):
        refused(external(tmp_path, "inner/w.bin", **place), message)


@pytest.mark.parametrize(
    "location", ["../w.bin", "/etc/hostname", "a/../../w.bin", "C:\\w.bin", "", "..\\w"]
)
def test_weights_outside_the_folder(location: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "w.bin").write_bytes(W["W"].tobytes())
    refused(external(folder, location), "expected a file in the folder of the model")


def test_weights_behind_a_link_and_missing_ones(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "w.bin").write_bytes(W["W"].tobytes())
    (folder / "w.bin").symlink_to(tmp_path / "w.bin")
    refused(external(folder, "w.bin"), "a link that leaves the model's folder")
    refused(external(folder, "v.bin"), "which is missing beside the model")


def test_huge_and_odd_tensors(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", [node("MatMul", ["x", "W"], ["y"])], W)
    for change, message in (
        ({"dims": [1 << 40, 1 << 40]}, "its values are missing"),
        ({"dims": [-1, 4]}, "its values are missing"),
        ({"dims": [FEATURES, 3]}, "its values do not fit"),
        ({"data_type": TensorProto.STRING}, "not supported, expected floats"),
        ({"data_type": 77}, "of type 77 .* not supported"),
    ):
        model = onnx.ModelProto.FromString(path.read_bytes())
        (proto,) = model.graph.initializer
        proto.dims[:] = change.get("dims", proto.dims)
        proto.data_type = change.get("data_type", proto.data_type)
        (tmp_path / "c.onnx").write_bytes(model.SerializeToString())
        refused(tmp_path / "c.onnx", message)


def test_inputs(tmp_path: Path) -> None:
    nodes = [node("MatMul", ["x", "W"], ["y"])]
    path = write(tmp_path / "m.onnx", nodes, W, shape=[1, 1 << 30, FEATURES])
    refused(path, "has shape .* expected smaller sizes")
    rnn = node("RNN", ["x", "R", "S"], ["y"], "r", layout=1)
    held = {"R": weights(1, 4, FEATURES), "S": weights(1, 4, 4)}
    many = write(tmp_path / "r.onnx", [rnn], held, shape=[1, 1 << 20, FEATURES])
    refused(many, r"RNN \(node 'r'\): runs over 1048576 frames, expected 16384 at most")
    tokens = helper.make_tensor_value_info("t", TensorProto.INT64, [1, "time"])
    model = onnx.ModelProto.FromString(path.read_bytes())
    model.graph.input[0].CopyFrom(tokens)
    path.write_bytes(model.SerializeToString())
    refused(path, "takes inputs t, expected one of floats that holds features, and no token ids")
    two = [node("Add", ["x", "z"], ["s"]), node("MatMul", ["s", "W"], ["y"])]
    second = helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, "time", FEATURES])
    refused(write(path, two, W, inputs=[second]), "needs inputs x, z, expected one with features")


def test_what_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    for content in (b"", b"\xff" * 100, b"hello, world"):
        path.write_bytes(content)
        refused(path, "is no ONNX model, or damaged|holds no graph of operators")


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "m.onnx", [node("MatMul", ["x", "W"], ["y"])], W)
    monkeypatch.setitem(sys.modules, "onnx", None)
    refused(path, r"takes the package onnx; pip install 'tinyvox\[onnx\]'")


def test_a_tensor_keeps_its_name(tmp_path: Path) -> None:
    held = {"encoder.dense.weight": W["W"]}
    path = write(tmp_path / "m.onnx", [node("MatMul", ["x", "encoder.dense.weight"], ["y"])], held)
    assert [name for name, _ in load(path).matrices()] == ["encoder.dense.weight"]

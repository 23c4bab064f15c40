"""The weights of ONNX graphs of others: which are found, what is computed with other ones."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from partly_ours import HEADS, HIDDEN, SIZE, array, attention, graph, in_branches, kinds, run

from tinyvox.errors import ImporterError
from tinyvox.exporters import find_weights, read_onnx, with_weights
from tinyvox.model import Dense, Matrix
from tinyvox.passes.lowrank import decompose, product
from tinyvox.quantizers import kmeans, omse

FRAMES = array(30, 1, SIZE, seed=9)
IMAGE = array(1, 24, 20, seed=9)


def finest(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with 8 bits a weight."""
    found = find_weights(proto)
    small, _ = with_weights(found, {w.name: omse(w.matrix.values, 8) for w in found.weights})
    onnx.checker.check_model(small)
    return small


def assert_near(small: onnx.ModelProto, proto: onnx.ModelProto, x: np.ndarray) -> None:
    expected = run(proto, x)
    assert np.linalg.norm(run(small, x) - expected) < 0.03 * np.linalg.norm(expected)


def test_the_weights_of_an_attention_model_are_found() -> None:
    found = find_weights(attention())
    shapes = {weight.name: weight.matrix.shape for weight in found.weights}
    assert shapes == {
        "lstm.w": (4 * HIDDEN, SIZE),
        "lstm.r": (4 * HIDDEN, HIDDEN),
        **{f"/attention/{name}": (HEADS, HIDDEN) for name in ("query", "key", "value")},
        "dense.w": (50, HEADS),
    }
    assert list(found.biases) == ["lstm.b"]  # that of the dense layer is too short
    reason = "is no weight of a recurrent, dense or convolution operator: Add reads it"
    assert found.left == {"places": reason}


def test_everything_else_stays_and_the_outputs_are_near() -> None:
    proto = attention()
    small = finest(proto)
    assert_near(small, proto, FRAMES)
    products = Counter({"MatMul": 5, "Gemm": 1})
    assert not Counter(kinds(proto)) - products - Counter(kinds(small))
    assert list(small.graph.input) == list(proto.graph.input)
    assert list(small.graph.output) == list(proto.graph.output)


def test_weights_of_branches_and_behind_other_operators() -> None:
    proto = in_branches()
    found = find_weights(proto)
    assert {w.name: w.operator for w in found.weights} == {
        "outer": "Conv", "inner": "Conv", "across": "MatMul",
    }  # fmt: skip
    small = finest(proto)
    for x in (IMAGE - 1, IMAGE + 1):
        assert_near(small, proto, x)


def product_graph(operator: str, weight: np.ndarray, bias: bool, **settings: float) -> tuple:
    arrays = {"w": weight, "b": array(64)} if bias else {"w": weight}
    node = helper.make_node(operator, ["x", *arrays], ["y"], **settings)
    return graph([node], arrays, ["frames", 48]), array(20, 48, seed=3)


@pytest.mark.parametrize(
    ("operator", "columns_first", "bias", "settings", "splits"),
    [
        ("MatMul", True, False, {}, True),
        ("Gemm", True, True, {}, True),
        ("Gemm", True, False, {}, True),
        ("Gemm", False, True, {"transB": 1}, True),
        ("Gemm", False, True, {"transB": 1, "alpha": 2.0, "beta": 0.5}, False),
    ],
)
def test_a_product_becomes_one_for_each_factor(
    operator: str, columns_first: bool, bias: bool, settings: dict[str, float], splits: bool
) -> None:
    weight = array(48, 64) if columns_first else array(64, 48)
    proto, x = product_graph(operator, weight, bias, **settings)
    found = find_weights(proto)
    (only,) = found.weights
    factors = product(decompose(only.matrix.values), 48)  # of full rank: nothing is lost
    small, forms = with_weights(found, {"w": factors})
    assert [form.name for form in forms][:2] == ["w.right", "w.left"][:: 1 if splits else -1]
    limit = 2**-12 if bias else 1e-5  # a bias is rounded to float16
    np.testing.assert_allclose(run(small, x), run(proto, x), rtol=0, atol=limit)
    assert ("Gemm" in kinds(small)) == (not splits)
    assert kinds(small).count("MatMul") == (2 if splits else 1)


def test_a_weight_that_two_operators_read_is_stored_once() -> None:
    node = helper.make_node
    nodes = [
        node("MatMul", ["x", "w"], ["a"]),
        node("MatMul", ["a", "w"], ["b"]),
        node("Add", ["b", "w"], ["y"]),
    ]
    proto = graph(nodes, {"w": array(48, 48)}, [48, 48])
    small = finest(proto)
    assert_near(small, proto, array(48, 48, seed=8))
    assert small.ByteSize() < 48 * 48 * 1.5


def test_constants_that_are_also_inputs_are_so_no_longer() -> None:
    """In files of version 3 every constant is."""
    arrays = {"w": array(48, 64)}
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    proto = graph(nodes, arrays, ["frames", 48], also_inputs=["w"])
    small = finest(proto)
    assert [entry.name for entry in small.graph.input] == ["x"]
    assert_near(small, proto, array(20, 48, seed=3))


def test_old_operators_are_enough() -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"])]
    proto = graph(nodes, {"w": array(32, 24, 3)}, [1, 24, "frames"], opset=11, rank=3)
    found = find_weights(proto)
    codes: dict[str, Matrix] = {"w": kmeans(found.weights[0].matrix.values, 5)}
    small, forms = with_weights(found, codes)
    onnx.checker.check_model(small)
    assert forms[0].form == "5-bit codes"
    decoded = {"w": Dense(codes["w"].decode())}
    exact, _ = with_weights(found, decoded)
    np.testing.assert_allclose(run(small, IMAGE), run(exact, IMAGE), rtol=0, atol=1e-5)


def test_names_of_the_graph_are_never_taken() -> None:
    node = helper.make_node
    nodes = [node("MatMul", ["x", "w"], ["tinyvox.0/1"]), node("Relu", ["tinyvox.0/1"], ["y"])]
    proto = graph(nodes, {"w": array(48, 64)}, ["frames", 48])
    assert_near(finest(proto), proto, array(20, 48, seed=3))


def test_what_cannot_be_compressed_is_named() -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["h"], to=onnx.TensorProto.FLOAT16),
        helper.make_node("MatMul", ["h", "half"], ["m"]),
        helper.make_node("Cast", ["m"], ["f"], to=onnx.TensorProto.FLOAT),
        helper.make_node("MatMul", ["f", "nan"], ["y"]),
    ]
    bad = array(64, 32)
    bad[3, 4] = np.nan
    arrays = {"half": array(48, 64).astype(np.float16), "nan": bad, "idle": array(40, 40)}
    left = find_weights(graph(nodes, arrays, ["frames", 48])).left
    assert left["half"] == "is float16, expected float"
    assert left["nan"] == "holds NaN or infinity"
    assert left["idle"].endswith("nothing reads it")


def test_the_cost_is_that_of_the_file() -> None:
    found = find_weights(attention())
    nothing, _ = with_weights(found, {})
    for weight in found.weights:
        matrix = kmeans(weight.matrix.values, 4)
        small, _ = with_weights(found, {weight.name: matrix})
        held = 4 * weight.matrix.values.numel() + 30  # and the head of the tensor
        assert abs(nothing.ByteSize() - held + weight.cost(matrix) - small.ByteSize()) < 100


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no ONNX file that can be read"),
        (b"nothing of the kind", "no ONNX file that can be read"),
        (attention().SerializeToString()[:-2000], "no ONNX file that can be read"),
        (attention().SerializeToString().replace(b"dense.w", b"dense\xff\xfe"), "is no UTF-8"),
    ],
)
def test_damaged_files_are_one_line(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(ImporterError, match=message) as error:
        read_onnx(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_a_tensor_that_does_not_hold_its_shape_is_named() -> None:
    proto = attention()
    (tensor,) = (t for t in proto.graph.initializer if t.name == "lstm.r")
    tensor.dims[1] = 10**12
    with pytest.raises(ImporterError, match=r"the tensor 'lstm.r' does not hold the values of its"):
        find_weights(proto)


def test_operators_that_are_too_old_are_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    onnx.save(graph(nodes, {"w": array(48, 64)}, ["f", 48], opset=9), tmp_path / "m.onnx")
    with pytest.raises(ImporterError, match="operators of version 9, expected 11 or later"):
        read_onnx(tmp_path / "m.onnx")

"""Frozen TensorFlow graphs: they give what TensorFlow gives, or are refused by name.

`make_fixtures.py` made the graphs and `expected.npz`; `arm_kws.npz` has what TensorFlow gives for
the keyword spotters that others trained.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from places import third_party
from tf_files import constant, graph, message, node, placeholder

from tinyvox.errors import FileError, ImporterError
from tinyvox.executor import Executor
from tinyvox.importers import load
from tinyvox.model import Model, Recurrent

FIXTURES = Path(__file__).parent / "fixtures"
LSTM, GRU, BEFORE = "lstm", "gru", "gru_reset_before"


def run(model: Model, features: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        found: np.ndarray = Executor(model)(torch.from_numpy(features)).numpy()
    return found


def cells(model: Model) -> list[str]:
    return [n.layer.kind for n in model.nodes if isinstance(n.layer, Recurrent)]


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("lstm", [LSTM]), ("gru", [BEFORE]), ("both_ways", [LSTM]), ("block_lstm", [LSTM]),
        ("lstm_blocks", [LSTM]), ("gru_blocks", [BEFORE]), ("convolution", []), ("dense", []),
        ("keras_lstm", [LSTM]), ("keras_gru", [GRU]), ("keras_gru_before", [BEFORE]),
        ("keras_rnn", ["rnn_tanh"]), ("keras_both", [LSTM]), ("keras_last", [GRU]),
        ("keras_conv", [GRU]),
    ],
)  # fmt: skip
def test_graphs_give_what_tensorflow_gives(name: str, kinds: list[str]) -> None:
    expected = np.load(FIXTURES / "expected.npz")
    model = load(FIXTURES / f"{name}.pb")
    assert cells(model) == kinds
    assert model.provenance == {"source": f"{name}.pb"}  # the number of frames is open
    wanted = expected[f"{name}_y"]
    found = run(model, expected[f"{name}_x"]).reshape(wanted.shape)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "kinds", "weights"),
    [
        ("LSTM_M", [LSTM], ["lstm.lstm", "W_o"]),
        ("GRU_M", [BEFORE], ["rnn.gru_reset_before", "W_o"]),
        ("CRNN_L", [BEFORE] * 2, None),
    ],
)
def test_keyword_spotters_give_what_tensorflow_gives(
    name: str, kinds: list[str], weights: list[str] | None
) -> None:
    model = load(third_party(f"arm-kws/{name}.pb"))
    expected = np.load(FIXTURES / "arm_kws.npz")
    assert cells(model) == kinds
    assert weights in (None, [n.name for n in model.nodes if n.layer.matrices()])
    assert model.provenance["exported_frames"] == 49
    found = run(model, expected["x"]).reshape(expected[name].shape)
    np.testing.assert_allclose(found, expected[name], atol=1e-5)


def test_peepholes_and_projection_of_a_loop() -> None:
    model = load(third_party("arm-kws/LSTM_M.pb"))
    (cell,) = model.nodes[0].layer.cells().values()
    assert (cell.size, cell.hidden) == (130, 280)
    assert cell.peepholes is not None


DENSE = (placeholder("x", -1, -1, 4), constant("w", np.eye(4, 3, dtype="f")))
FLAT = (
    placeholder("x", -1, 20),
    constant("shape", [-1, 5, 4]),
    node("frames", "Reshape", "x", "shape"),
)


def saved(folder: Path, *nodes: bytes) -> Path:
    path = folder / "model.pb"
    path.write_bytes(graph(*nodes))
    return path


def test_flat_features_that_become_frames_are_taken_as_frames(tmp_path: Path) -> None:
    w = constant("w", np.eye(4, 3, dtype="f")[None])
    model = load(saved(tmp_path, *FLAT, w, node("y", "BatchMatMulV2", "frames", "w")))
    assert model.input_size == 4


def test_reshapes_in_a_circle_end(tmp_path: Path) -> None:
    nodes = (
        placeholder("x", -1, 20),
        node("a", "Identity", "x", "b"),
        node("b", "Identity", "a"),
        node("y", "Tanh", "b"),
    )
    with pytest.raises(ImporterError, match="depends on itself"):
        load(saved(tmp_path, *nodes))


def test_a_graph_of_many_ends_is_tried_in_bounded_time(tmp_path: Path) -> None:
    ends = [node(f"y{i}", "Fft", "x") for i in range(5000)]
    with pytest.raises(ImporterError, match=r"Fft \(node 'y4999'\): is not supported"):
        load(saved(tmp_path, *DENSE, *ends))


def test_a_branch_that_is_not_taken_is_left_out(tmp_path: Path) -> None:
    nodes = (
        *DENSE,
        constant("zero", 0),
        constant("one", 1),
        node("less", "Less", "zero", "one"),
        node("switch", "Switch", "x", "less"),
        node("not", "Unsupported", "switch"),
        node("merge", "Merge", "not", "switch:1"),
        node("y", "BatchMatMulV2", "merge", "w"),
    )
    assert [type(n.layer).__name__ for n in load(saved(tmp_path, *nodes)).nodes] == ["Linear"]


def loop(*condition: bytes, body: tuple[bytes, ...] = (), last: str = "body") -> tuple[bytes, ...]:
    """A loop over one tensor."""
    frame = {"frame_name": message((2, "loop"))}
    return (
        *DENSE,
        node("enter", "Enter", "x", **frame),
        node("merge", "Merge", "enter", "next"),
        *condition,
        node("cond", "LoopCond", "less"),
        node("switch", "Switch", "merge", "cond"),
        *(body or (node("body", "Tanh", "switch:1"),)),
        node("next", "NextIteration", last),
        node("exit", "Exit", "switch"),
        node("y", "BatchMatMulV2", "exit", "w"),
    )


ALWAYS = (constant("zero", 0), constant("one", 1), node("less", "Less", "zero", "one"))


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ((), "holds no graph"),
        ((constant("w", [1.0]), node("y", "Identity", "w")), "has no output that depends on"),
        ((*DENSE, node("y", "Fft", "x")), r"Fft \(node 'y'\): is not supported"),
        ((*DENSE, node("y", "MatMul", "x", "v")), "needs the node 'v', which is not in the file"),
        ((*DENSE, node("a", "Add", "x", "b"), node("b", "Tanh", "a"), node("y", "Tanh", "a")),
         "depends on itself"),
        ((*DENSE, node("y", "Split", "x")), "has 1 inputs, expected more"),
        ((*DENSE, node("y", "Tanh", "x:3")), r"takes output 'x:3' of 1"),
        ((*DENSE, node("y", "Tanh", "x:z")), "names no output"),
        ((*DENSE, constant("s", [1 << 30]), constant("v", 1.0), node("f", "Fill", "s", "v"),
          node("y", "Add", "x", "f")), r"Fill \(node 'f'\): makes a tensor of shape"),
        ((*DENSE, placeholder("rate"), node("y", "Mul", "x", "rate")),
         "needs a value that is no features"),
        ((*DENSE, node("exit", "Exit", "switch"), node("switch", "Switch", "t", "t"),
          node("t", "Tanh", "x"), node("y", "Tanh", "exit")), "is in no loop"),
        ((*DENSE, node("enter", "Enter", "x"), node("y", "Tanh", "enter")), "begins no loop"),
        (loop(*ALWAYS), "needs more than 200000 operators, loops included"),
        (loop(node("less", "Tanh", "merge")), "as a signal says, expected a number of rounds"),
        ((*DENSE, node("y", "StatefulPartitionedCall", "x", f=message((10, message((1, "g")))))),
         "calls the function 'g', which is not in the file"),
        ((*DENSE, node("w2", "ImmutableConst", memory_region_name=message((2, "r"))),
          node("y", "BatchMatMulV2", "x", "w2")), "names the region 'r', which is not in the file"),
        ((*DENSE, placeholder("h", 1 << 42), node("y", "Add", "x", "h")), "which is too large"),
        ((*DENSE, node("v", "VarHandleOp"), node("y", "MatMul", "x", "v")), "is a variable.*freez"),
        ((*DENSE, node("y", "TensorArrayReadV3", "x", "x", "x")), "no array of tensors"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_name(
    nodes: tuple[bytes, ...], said: str, tmp_path: Path
) -> None:
    path = saved(tmp_path, *nodes)
    with pytest.raises(ImporterError, match=said) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_loops_that_wait_for_each_other_are_damaged(tmp_path: Path) -> None:
    nodes = list(loop(*ALWAYS))
    nodes[2] = node("enter", "Enter", "sum", frame_name=message((2, "loop")))
    nodes.append(node("sum", "Add", "x", "exit"))
    with pytest.raises(ImporterError, match="depend on each other"):
        load(saved(tmp_path, *nodes))


def test_functions_that_call_themselves_end(tmp_path: Path) -> None:
    call = {"f": message((10, message((1, "g"))))}
    signature = message((1, "g"), (2, message((1, "a"))), (3, message((1, "r"))))
    inner = node("again", "PartitionedCall", "a", **call)
    result = message((1, "r"), (2, "again:output:0"))
    function = message((1, signature), (3, inner), (4, result))
    path = saved(tmp_path, *DENSE, node("y", "PartitionedCall", "x", **call))
    path.write_bytes(path.read_bytes() + message((2, message((1, function)))))
    with pytest.raises(ImporterError, match="more than 16 loops or functions within each other"):
        load(path)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x0a\xff\xff\x01", "field 1 has 32767 bytes, of which 0 are left"),
        (b"\x80" * 11, "a number of more than ten bytes"),
        (b"\x0b\x01", "field 1 has wire type 3"),
        (b"\x08", "ends inside a number"),
        (b"\x08\x01", "field 1 is a number, expected bytes"),
    ],
)
def test_bytes_that_are_no_message(data: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "m.pb").write_bytes(data)
    with pytest.raises(ImporterError, match=f"damaged.*{said}"):
        load(tmp_path / "m.pb")


def test_saved_models_are_told_from_graphs(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(message((1, 1), (2, message((2, graph(*DENSE))))))
    with pytest.raises(ImporterError, match=r"is a SavedModel.*freeze it"):
        load(tmp_path / "saved_model.pb")
    with pytest.raises(FileError, match="is a SavedModel"):
        load(tmp_path)


def test_a_memory_mapped_graph_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "m.pbmm").write_bytes(bytes(100) + b"\xff" * 8)
    with pytest.raises(ImporterError, match="damaged"):
        load(tmp_path / "m.pbmm")

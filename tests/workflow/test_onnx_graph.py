"""`tinyvox compress model.onnx -o small.onnx`: bytes, distances, what is said, what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from partly_ours import SIZE, array, attention, graph, run
from typer.testing import CliRunner

from tinyvox import cli
from tinyvox.errors import FileError, ImporterError, ModelError, RecipeError
from tinyvox.importers import load
from tinyvox.workflow import compress_onnx
from tinyvox.workflow.graph_choices import Choice, choose

SHARED = Path(__file__).resolve().parents[3] / "shared" / "models"
GENUINE = {"dtln/model_1.onnx": 5, "silero/silero_vad_16k_op15.onnx": 7}
"""Files of others, and how many weights each has; those of silero's LSTM are read in branches."""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    onnx.save(attention(), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


@pytest.mark.parametrize("ratio", [1.5, 2.0, 2.5])
def test_the_ratio_of_the_files_is_reached(source: Path, ratio: float) -> None:
    out = source.with_name("small.onnx")
    facts = compress_onnx(source, out, ratio=ratio)
    assert facts["file_bytes"] == out.stat().st_size
    assert facts["original_bytes"] == source.stat().st_size
    assert ratio <= facts["ratio"] == pytest.approx(source.stat().st_size / out.stat().st_size)
    assert facts["tvx_bytes"] < facts["file_bytes"]
    x = array(64, 1, SIZE)
    one, other = (run(onnx.load(path), x) for path in (source, out))
    assert np.linalg.norm(one - other) < 0.3 * np.linalg.norm(one)
    assert 0 < facts["distances"]["y"] < 0.3


@pytest.mark.skipif(not SHARED.exists(), reason="they do not lie beside the project")
@pytest.mark.parametrize("name", list(GENUINE))
def test_genuine_files_come_out_four_times_smaller(name: str, tmp_path: Path) -> None:
    facts = compress_onnx(SHARED / name, tmp_path / "small.onnx", ratio=4)
    assert facts["ratio"] >= 4
    assert len(facts["errors"]) == GENUINE[name]
    assert max(facts["errors"].values()) < 0.005
    assert facts["left"] == []
    assert max(facts["distances"].values()) < 0.25


def test_more_bytes_move_the_weights_less(source: Path) -> None:
    errors = []
    for size in (18_000, 24_000, 30_000):
        facts = compress_onnx(source, source.with_name("small.onnx"), size=size)
        assert 0.8 * size < facts["file_bytes"] <= size
        errors.append(sum(facts["errors"].values()))
    assert errors[0] > 2 * errors[1] > 4 * errors[2] > 0


def test_values_beside_the_graph_count_and_come_into_the_file(tmp_path: Path) -> None:
    source, out = tmp_path / "model.onnx", tmp_path / "small.onnx"
    onnx.save(attention(), source, save_as_external_data=True, size_threshold=0, location="data")
    assert source.stat().st_size < 10_000 < (tmp_path / "data").stat().st_size
    facts = compress_onnx(source, out, ratio=2)
    assert facts["original_bytes"] > (tmp_path / "data").stat().st_size
    (tmp_path / "data").unlink()
    x = array(64, 1, SIZE)
    expected = run(attention(), x)
    assert np.linalg.norm(run(onnx.load(out), x) - expected) < 0.3 * np.linalg.norm(expected)
    with pytest.raises(ImporterError, match="no ONNX file that can be read"):
        compress_onnx(source, out, ratio=2)


def test_what_is_too_small_says_how_small_it_gets(source: Path) -> None:
    out = source.with_name("small.onnx")
    with pytest.raises(RecipeError, match=r"are too few: the smallest file takes [\d,]+, of"):
        compress_onnx(source, out, ratio=50)
    assert not out.exists()


def test_weights_that_share_their_codes_get_as_small_as_is_said(tmp_path: Path) -> None:
    node, weight = helper.make_node, array(64, 64)
    nodes = [node("MatMul", ["x", "w"], ["m"]), node("Relu", ["m"], ["r"])]
    nodes += [node("MatMul", ["r", "t"], ["n"]), node("Transpose", ["t"], ["tt"], perm=[1, 0])]
    nodes += [node("MatMul", ["n", "w"], ["o"]), node("MatMul", ["o", "tt"], ["y"])]
    tied = graph(nodes, {"w": weight, "t": np.ascontiguousarray(weight.T)}, ["frames", 64])
    onnx.save(tied, tmp_path / "m.onnx")
    with pytest.raises(RecipeError, match=r"the smallest file takes ([\d,]+), of") as caught:
        compress_onnx(tmp_path / "m.onnx", tmp_path / "s.onnx", size=100)
    found = re.search(r"takes ([\d,]+), of", str(caught.value))
    assert found is not None
    least = int(found[1].replace(",", ""))
    for size in (least, least + 300, 2 * least):
        facts = compress_onnx(tmp_path / "m.onnx", tmp_path / "s.onnx", size=size)
        assert least <= facts["file_bytes"] <= size


def test_what_tinyvox_wrote_is_known_when_it_comes_back(source: Path) -> None:
    small = source.with_name("small.onnx")
    onnx.save(graph([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": array(64, 64)},
                    ["frames", 64]), source)  # fmt: skip
    compress_onnx(source, small, size=3000)
    expected = "was written by tinyvox compress; use the .onnx file that it was made from"
    with pytest.raises(ImporterError, match=expected):
        load(small)


def test_a_recipe_names_the_weights(source: Path) -> None:
    recipe = source.with_name("r.yaml")
    recipe.write_text(
        "steps:\n"
        "  - factorize: {layers: 'dense.w', rank: 10}\n"
        "  - quantize: {layers: ['lstm*', 'attention.key', 'dense.w'], method: kmeans, bits: 4}\n"
    )
    facts = compress_onnx(source, source.with_name("small.onnx"), recipe=recipe)
    forms = {row["name"]: row["form"] for row in facts["tensors"]}
    assert forms == {
        **dict.fromkeys(["lstm.w", "lstm.r", "/attention/key"], "4-bit codes"),
        **dict.fromkeys(["dense.w.left", "dense.w.right"], "4-bit codes"),
        "lstm.b": "float16",
    }
    left = {row["name"]: row["reason"] for row in facts["left"]}
    assert set(left) == {"places", "/attention/query", "/attention/value"}
    assert left["/attention/query"] == "no step takes it"


def test_steps_that_need_layers_are_refused(source: Path) -> None:
    recipe = source.with_name("r.yaml")
    recipe.write_text("steps:\n  - prune: {keep: 0.5}\n  - quantize: {bits: 4}\n")
    expected = "step 1 is prune, expected one of factorize, sparsify, quantize"
    with pytest.raises(RecipeError, match=expected):
        compress_onnx(source, source.with_name("small.onnx"), recipe=recipe)


def test_wrong_requests_are_one_line(source: Path) -> None:
    out = source.with_name("small.onnx")
    with pytest.raises(FileError, match="is an input, and would be overwritten"):
        compress_onnx(source, source, ratio=2)
    with pytest.raises(FileError, match=r"only an \.onnx file is compressed to one"):
        compress_onnx(source.with_name("model.tvx"), out, ratio=2)
    with pytest.raises(FileError, match=r"none\.onnx: cannot be read"):
        compress_onnx(source.with_name("none.onnx"), out, ratio=2)
    with pytest.raises(RecipeError, match="ratio"):
        compress_onnx(source, out, ratio=-1)
    source.write_bytes(source.read_bytes()[:-1000])
    with pytest.raises(ImporterError, match="no ONNX file that can be read"):
        compress_onnx(source, out, ratio=2)
    onnx.save(graph([helper.make_node("Relu", ["x"], ["y"])], {}, [3]), source)
    with pytest.raises(ModelError, match="has no weights"):
        compress_onnx(source, out, ratio=2)
    assert not out.exists()


def test_why_there_is_nothing_to_compress(tmp_path: Path) -> None:
    path, node = tmp_path / "m.onnx", helper.make_node
    arrays = {"w": np.ones((64, 64), np.int8), "s": np.float32(0.1)}
    nodes = [node("DequantizeLinear", ["w", "s"], ["f"]), node("MatMul", ["x", "f"], ["y"])]
    onnx.save(graph(nodes, arrays, ["frames", 64]), path)
    expected = "w is quantized already: DequantizeLinear reads its int8 codes"
    with pytest.raises(ModelError, match=expected):
        compress_onnx(path, tmp_path / "s.onnx", ratio=2)
    product = [node("MatMul", ["x", "w"], ["y"])]
    onnx.save(graph(product, {"w": array(8, 9)}, ["frames", 8]), path)
    with pytest.raises(ModelError, match="has weights of 72 values at most"):
        compress_onnx(path, tmp_path / "s.onnx", ratio=2)
    onnx.save(graph(product, {"w": array(64, 64).astype(np.float16)}, ["frames", 64]), path)
    with pytest.raises(ModelError, match="w is float16, expected float"):
        compress_onnx(path, tmp_path / "s.onnx", ratio=2)


def test_outputs_that_cannot_be_compared_are_said_so(tmp_path: Path) -> None:
    node = helper.make_node
    nodes = [node("MatMul", ["x", "w"], ["m"]), node("Unknown", ["m"], ["y"], domain="elsewhere")]
    proto = graph(nodes, {"w": array(48, 64)}, ["frames", 48])
    proto.opset_import.append(helper.make_opsetid("elsewhere", 1))
    onnx.save(proto, tmp_path / "m.onnx")
    facts = compress_onnx(tmp_path / "m.onnx", tmp_path / "s.onnx", ratio=2)
    assert "distances" not in facts
    assert facts["not_compared"].startswith("ONNX Runtime does not open it")


def test_the_command_prints_a_table_or_json(source: Path) -> None:
    out = source.with_name("small.onnx")
    command = ["compress", str(source), "-o", str(out), "--ratio", "2"]
    shown = CliRunner().invoke(cli.app, command, catch_exceptions=False)
    assert shown.exit_code == 0
    said = " ".join(shown.stdout.split())
    assert f"{out.stat().st_size:,} bytes on disk" in said
    assert "left as it is: places is no weight" in said
    assert "output y:" in said
    facts = json.loads(CliRunner().invoke(cli.app, [*command, "--json"]).stdout)
    assert set(facts) == {
        "file", "file_bytes", "original_bytes", "ratio", "tvx_bytes", "tensors", "errors", "left",
        "distances",
    }  # fmt: skip


@pytest.mark.parametrize(
    "options", [[], ["--ratio", "2", "--size", "9"], ["--ratio", "2", "--data", "x.jsonl"]]
)
def test_wrong_usage_is_exit_status_2(source: Path, options: list[str]) -> None:
    command = ["compress", str(source), "-o", str(source.with_name("s.onnx")), *options]
    assert CliRunner().invoke(cli.app, command).exit_code == 2


def test_the_step_that_removes_most_error_for_its_bytes_comes_first() -> None:
    matrix = None
    options = {
        "a": [Choice(matrix, 10, 1.0), Choice(matrix, 20, 0.2), Choice(matrix, 40, 0.1)],  # type: ignore[arg-type]
        "b": [Choice(matrix, 10, 0.5), Choice(matrix, 30, 0.1)],  # type: ignore[arg-type]
    }
    bytes_of = {
        budget: [each.bytes for each in (choose(options, budget) or {}).values()]
        for budget in (19, 20, 29, 30, 49, 50, 69, 70)
    }
    assert bytes_of == {
        19: [], 20: [10, 10], 29: [10, 10], 30: [20, 10], 49: [20, 10], 50: [20, 30], 69: [20, 30],
        70: [40, 30],
    }  # fmt: skip

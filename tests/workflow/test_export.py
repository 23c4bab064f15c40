"""`tinyvox export` and `tv.export`: which file, what is said of it, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from small_models import features, run, speech_model
from typer.testing import CliRunner

import tinyvox as tv
from tinyvox import cli
from tinyvox.errors import FileError, ImporterError, ModelError, RecipeError
from tinyvox.formats import tvx
from tinyvox.importers import load
from tinyvox.model import card_path, load_card, save_card
from tinyvox.quantizers import kmeans

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A quantized model in a .tvx file."""
    model = speech_model().map_matrices(lambda _, matrix: kmeans(matrix.decode(), 3))
    tvx.save(model, tmp_path / "small.tvx")
    return tmp_path / "small.tvx"


@pytest.mark.parametrize("suffix", [".onnx", ".safetensors", ".pt2", ".ONNX"])
def test_the_command_says_the_bytes_and_the_form_of_every_tensor(small: Path, suffix: str) -> None:
    out = small.with_suffix(suffix)
    arguments = ["export", str(small), "-o", str(out), "--json"]
    result = CliRunner().invoke(cli.app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    facts = json.loads(result.stdout)
    assert set(facts) == {"file", "file_bytes", "tvx_bytes", "tensors", "notes"}
    assert facts["file"] == str(out)
    assert facts["file_bytes"] == out.stat().st_size
    assert facts["tvx_bytes"] == small.stat().st_size
    assert {row["name"] for row in facts["tensors"]} == {name for name, _ in load(small).tensors()}
    assert 0 < sum(row["bytes"] for row in facts["tensors"]) <= facts["file_bytes"]


def test_people_see_a_table(small: Path) -> None:
    out = small.with_suffix(".onnx")
    result = CliRunner().invoke(cli.app, ["export", str(small), "-o", str(out)])
    assert "lstm.forward.weight_hh" in result.stdout
    assert "3-bit codes" in result.stdout
    assert f"{out.stat().st_size:,} bytes on disk" in result.stdout


def test_an_onnx_file_of_codes_says_where_it_came_from(small: Path) -> None:
    tv.export(small, small.with_suffix(".onnx"))
    with pytest.raises(ImporterError, match=r"was written by tinyvox export; use the \.tvx file"):
        load(small.with_suffix(".onnx"))


def test_a_program_with_recurrent_layers_says_what_it_runs_for(small: Path) -> None:
    out = small.with_suffix(".pt2")
    result = CliRunner().invoke(cli.app, ["export", str(small), "-o", str(out)])
    assert "note: PyTorch runs this file for [1, 8, 10] alone" in result.stdout
    x = features(10, 8, batch=1)
    outputs = torch.export.load(out).module()(x)
    torch.testing.assert_close(outputs, run(load(small), x), rtol=0, atol=1e-5)
    assert tv.export(small, small.with_suffix(".onnx"))["notes"] == []


def test_a_program_comes_back_with_its_card(tmp_path: Path) -> None:
    source = ROOT / "models" / "commands" / "commands-100x.tvx"
    tv.export(source, tmp_path / "m.pt2")
    again = load(tmp_path / "m.pt2")
    assert card_path(tmp_path / "m.pt2").exists()
    assert again.card == load(source).card
    x = features(again.input_size, 40)
    torch.testing.assert_close(run(again, x), run(load(source), x), rtol=0, atol=1e-4)


def test_a_model_in_memory_is_written_too(tmp_path: Path) -> None:
    facts = tv.export(speech_model(), tmp_path / "m.onnx")
    assert facts["tvx_bytes"] == tvx.size(speech_model())
    assert all(row["form"] == "float32" for row in facts["tensors"])


def test_wrong_requests_are_one_line_before_any_work(small: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    expected = "found .bin, expected a name with .onnx or .safetensors or .pt2"
    with pytest.raises(FileError, match=expected):
        tv.export(small, tmp_path / "m.bin")
    with pytest.raises(FileError, match="there is no folder"):
        tv.export(small, tmp_path / "none" / "m.onnx")
    with pytest.raises(FileError, match="no such file"):
        tv.export(tmp_path / "none.tvx", tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="model is of type LSTM, expected"):
        tv.export(torch.nn.LSTM(3, 3), tmp_path / "m.onnx")  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="output is None, expected a path"):
        tv.export(small, None)  # type: ignore[arg-type]
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("suffix", [".pt2", ".onnx"])
def test_the_card_of_another_model_does_not_come_to_lie_beside(suffix: str, tmp_path: Path) -> None:
    out, source = tmp_path / f"m{suffix}", ROOT / "models" / "commands" / "commands-100x.tvx"
    card = load(source).card
    assert card is not None
    save_card(card, card_path(out))
    with pytest.raises(FileError, match=r"m\.speech\.yaml: is not the speech card of this model"):
        tv.export(speech_model(), out)
    assert not out.exists()
    tv.export(source, out)
    assert load_card(card_path(out)) == card


def test_an_input_is_not_overwritten(tmp_path: Path) -> None:
    tv.export(speech_model(), tmp_path / "m.pt2")
    content = (tmp_path / "m.pt2").read_bytes()
    with pytest.raises(FileError, match="is an input, and would be overwritten"):
        tv.export(tmp_path / "m.pt2", tmp_path / "m.pt2")
    assert (tmp_path / "m.pt2").read_bytes() == content

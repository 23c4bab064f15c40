"""`compress --lossless`: no weight changes; and quantized originals in the other ways."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from places import ROOT

import tinyvox as tv
from tinyvox.errors import RecipeError
from tinyvox.formats import tvx
from tinyvox.model import Coded, Model
from tinyvox.recipe import QuantizeRule, QuantizeSettings, Recipe
from tinyvox.speech import Source
from tinyvox.training import Architecture, TrainConfig, deepspeech

FIXTURES = ROOT / "tests" / "importers" / "tflite" / "fixtures"
QUANTIZED, FLOAT = FIXTURES / "lstm_int8.tflite", FIXTURES / "lstm.tflite"

EIGHT_BITS = Recipe.of(QuantizeSettings(bits=8, method="symmetric"))
CARD = TrainConfig(data=(Source(manifest=Path("x")),), output=Path("y")).card()


def _values(model: Model) -> dict[str, torch.Tensor]:
    matrices = {name: matrix.decode() for name, matrix in model.matrices()}
    return {**matrices, **dict(model.vectors())}


@pytest.mark.parametrize("path", [QUANTIZED, FLOAT], ids=lambda path: path.stem)
def test_every_weight_is_the_same_to_the_last_bit(path: Path, tmp_path: Path) -> None:
    before = _values(tv.load(path))
    result = tv.compress(path, lossless=True)
    result.save(tmp_path / "m.tvx")
    after = _values(tv.load(tmp_path / "m.tvx"))
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert result.recipe is None


def test_what_is_said_of_quantized_and_of_float_originals() -> None:
    notes = [note.what for note in tv.compress(QUANTIZED, lossless=True).notes]
    assert notes[:2] == ["no weight was changed", "the codes of the original are kept"]
    assert "float32 in the original" in notes[2]  # one matrix is too small to be quantized
    notes = [note.what for note in tv.compress(FLOAT, lossless=True).notes]
    assert "the codes of the original are kept" not in notes
    assert len(notes) == 1 + 3


@pytest.mark.filterwarnings("ignore:JUDGED ON RANDOM")
def test_other_ways_work_on_the_values(tmp_path: Path) -> None:
    recipe = Recipe.of(QuantizeSettings(bits=4, method="kmeans"))
    result = tv.compress(QUANTIZED, recipe)
    assert result.notes[0].what == "the original is quantized; its values are compressed"
    assert all(isinstance(matrix, Coded) for _, matrix in result.model.matrices())
    assert max(matrix.bits for _, matrix in result.model.matrices()) == 4
    result.save(tmp_path / "m.tvx")
    assert tv.load(tmp_path / "m.tvx").provenance["quantized"] is False


@pytest.mark.filterwarnings("ignore:JUDGED ON RANDOM")
def test_a_recipe_codes_anew_what_it_names_of_our_own_files() -> None:
    eight = tv.compress(FLOAT, EIGHT_BITS).model
    before = {name: m for name, m in eight.matrices() if isinstance(m, Coded)}
    first = next(iter(before))
    rule = QuantizeRule(layers=(first,), bits=3, method="kmeans")
    result = tv.compress(eight, Recipe.of(QuantizeSettings(rules=(rule,))))
    assert result.notes[0].what == "the original is quantized; its values are compressed"
    after = {name: m for name, m in result.model.matrices() if isinstance(m, Coded)}
    assert after.pop(first).bits == 3
    assert len(after) > 0
    assert all(torch.equal(m.codes, before[name].codes) for name, m in after.items())


def test_a_plan_goes_below_the_codes_of_our_own_files() -> None:
    eight = tv.compress(deepspeech(Architecture(width=64, context=2), CARD, 0), EIGHT_BITS).model
    small = tv.compress(eight, ratio=16, effort="fast").model
    assert tvx.size(small) <= 4 * eight.original_parameters / 16


@pytest.mark.parametrize(
    "options", [{"ratio": 4}, {"recipe": Recipe.of(QuantizeSettings(bits=4))}, {"finetune": "x"}]
)
def test_lossless_goes_with_no_other_way(options: dict[str, object]) -> None:
    with pytest.raises(RecipeError, match="lossless"):
        tv.compress(QUANTIZED, lossless=True, **options)  # type: ignore[arg-type]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tinyvox.cli.compress import compress

    compress(QUANTIZED, tmp_path / "m.tvx", lossless=True, as_json=True)
    facts = json.loads(capsys.readouterr().out)
    assert facts["quantized"] is True
    assert facts["file_bytes"] == (tmp_path / "m.tvx").stat().st_size
    assert facts["file_bytes"] < QUANTIZED.stat().st_size

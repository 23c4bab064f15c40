"""Tensors written as .safetensors: the lines in the docs decode them to the same values."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from codings import CODINGS, coded
from runtime_models import build, models
from safetensors import safe_open
from shared_models import joined
from small_models import speech_model

from tinyvox.errors import FileError
from tinyvox.exporters import export_safetensors
from tinyvox.importers import load
from tinyvox.model import Model, card_text
from tinyvox.quantizers import kmeans

ROOT = Path(__file__).resolve().parents[2]


def documented() -> str:
    """The code in the docs that decodes a matrix."""
    text = (ROOT / "docs" / "how-to" / "export.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(import numpy as np\n.*?)```", text, re.DOTALL)
    return str(code)


def assert_same_values(model: Model, path: Path) -> dict[str, str]:
    """The file has every tensor of the model. Returns its metadata."""
    forms = export_safetensors(model, path)
    with safe_open(path, "np") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata: dict[str, str] = file.metadata()
    assert sum(form.bytes for form in forms) == sum(array.nbytes for array in tensors.values())
    scope: dict[str, object] = {}
    exec(documented(), scope)
    decode, shared = scope["matrix"], json.loads(metadata["shared"])
    assert callable(decode)
    for name, matrix in model.matrices():
        values = decode(tensors, name, shared)
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, matrix.decode().numpy(), rtol=1e-6, atol=1e-6)
    for name, vector in model.vectors():
        np.testing.assert_array_equal(tensors[name], vector.numpy())
    return metadata


@models
def test_every_layer(name: str, tmp_path: Path) -> None:
    model = build(name)
    metadata = assert_same_values(model, tmp_path / "m.safetensors")
    found = [(layer["name"], layer["layer"]) for layer in json.loads(metadata["layers"])]
    assert found == [(node.name, type(node.layer).__name__) for node in model.nodes]


@pytest.mark.parametrize("coding", list(CODINGS))
def test_every_codebook(coding: str, tmp_path: Path) -> None:
    assert_same_values(coded(speech_model(), CODINGS[coding]), tmp_path / "m.safetensors")


def test_shared_factors_are_stored_once(tmp_path: Path) -> None:
    model = coded(joined(), lambda values: kmeans(values, 3))
    metadata = assert_same_values(model, tmp_path / "m.safetensors")
    users = sum(len(names) - 1 for names in model.shared_factors().values())
    assert len(json.loads(metadata["shared"])) == users > 0


def test_the_card_is_in_the_metadata(tmp_path: Path) -> None:
    model = load(ROOT / "models" / "commands" / "commands-60x.tvx")
    assert model.card is not None
    metadata = assert_same_values(model, tmp_path / "m.safetensors")
    assert metadata["speech_card"] == card_text(model.card)
    assert metadata["input_size"] == str(model.input_size)
    assert (metadata["format"], metadata["version"]) == ("tinyvox", "1")


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tinyvox.exporters.packages.find_spec", lambda name: None)
    with pytest.raises(FileError, match=r"pip install 'tinyvox\[safetensors\]'$"):
        export_safetensors(speech_model(), tmp_path / "m.safetensors")
    assert not list(tmp_path.iterdir())

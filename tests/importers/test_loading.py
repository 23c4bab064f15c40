"""One `load` for every model file, and the speech card that the model gets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import helper
from onnx_graphs import write
from safetensors.torch import save_file

from tinyvox.errors import FileError, ImporterError, ModelError
from tinyvox.exporters import export_pt2
from tinyvox.formats import tvx
from tinyvox.importers import IMPORTERS, load
from tinyvox.model import (
    INPUT,
    Dense,
    Features,
    Model,
    Node,
    SpeechCard,
    card_path,
    layers,
    save_card,
)

CARD = SpeechCard(features=Features(coefficients=6), tokens=("a", "b", ""), blank=2)
OTHER = CARD.model_copy(update={"tokens": ("x", "y", "")})


def model(card: SpeechCard | None = None) -> Model:
    torch.manual_seed(0)
    return Model(6, (Node("last", layers.Linear(Dense(torch.randn(3, 6))), (INPUT,)),), card)


SUFFIXES = (".tvx", ".pt2", ".onnx", ".npz", ".safetensors")
"""The kinds of files that are easily written here."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The same model in several formats, without a card."""
    export_pt2(model(), tmp_path / "model.pt2")
    product = helper.make_node("MatMul", ["x", "last.weight"], ["y"], "last")
    write(tmp_path / "model.onnx", [product], {"last.weight": weight().T.numpy()})
    tvx.save(model(), tmp_path / "model.tvx")
    np.savez(tmp_path / "model.npz", W=weight().numpy())
    save_file({"W": weight()}, tmp_path / "model.safetensors")
    named = "input: 6\nlayers:\n  - {name: last, linear: {weight: W}}\n"
    for name in ("model", "MODEL"):
        (tmp_path / f"{name}.layers.yaml").write_text(named)
    return tmp_path


def test_every_suffix_in_lower_and_upper_case(folder: Path) -> None:
    assert set(SUFFIXES) < set(IMPORTERS)
    for suffix in SUFFIXES:
        path = folder / f"model{suffix}"
        upper = path.rename(folder / f"MODEL{suffix.upper()}")
        for name in (upper, str(upper)):
            found = load(name)
            assert found.card is None
            assert torch.equal(dict(found.matrices())["last.weight"].decode(), weight())


def weight() -> torch.Tensor:
    return dict(model().matrices())["last.weight"].decode()


def test_the_card_beside_a_foreign_file(folder: Path) -> None:
    save_card(CARD, card_path(folder / "model.pt2"))
    assert load(folder / "model.pt2").card == CARD
    assert load(folder / "model.tvx").card is None


def test_a_given_card_comes_before_all_others(folder: Path) -> None:
    save_card(CARD, card_path(folder / "model.pt2"))
    save_card(OTHER, folder / "other.yaml")
    tvx.save(model(CARD), folder / "model.tvx")
    assert load(folder / "model.tvx").card == CARD
    for suffix in SUFFIXES:
        path = folder / f"model{suffix}"
        for card in (OTHER, folder / "other.yaml", str(folder / "other.yaml")):
            assert load(path, card).card == OTHER


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_card_that_does_not_fit_is_refused_with_the_file(folder: Path, suffix: str) -> None:
    small = CARD.model_copy(update={"tokens": ("a", ""), "blank": 1})
    with pytest.raises(ModelError, match=rf"model\{suffix}: the speech card lists 2 tokens"):
        load(folder / f"model{suffix}", small)


def test_a_wrong_card_is_found_before_the_model_is_read(folder: Path) -> None:
    (folder / "model.tvx").write_bytes(b"damaged")
    with pytest.raises(FileError, match=r"none\.yaml: cannot be read"):
        load(folder / "model.tvx", folder / "none.yaml")


def test_what_is_no_model_file_is_one_clear_line(folder: Path) -> None:
    with pytest.raises(FileError, match=r"none\.pt2: no such file; check the path"):
        load(folder / "none.pt2")
    with pytest.raises(FileError, match=r"is a folder, expected a model file, \.tvx or \.pt2"):
        load(folder)
    for name, found in (("model.txt", r"files \.txt"), ("model", "files without a suffix")):
        (folder / name).write_bytes(b"something else")
        with pytest.raises(ImporterError, match=f"{name}: tinyvox does not read {found}, expected"):
            load(folder / name)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="there is no such device here")
def test_a_device_is_no_model() -> None:
    with pytest.raises(FileError, match="/dev/zero: is a device, expected a model file"):
        load("/dev/zero")

"""A model written as ONNX: ONNX Runtime computes what the model computes, from few bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import yaml
from codings import CODINGS, coded
from hypothesis import given
from hypothesis import strategies as st
from runtime_models import build, by_torch, inputs_of, models
from shared_models import joined
from small_models import chain, linear, speech_model

from tinyvox.errors import FileError
from tinyvox.exporters import Form, export_onnx, onnx_model
from tinyvox.exporters.onnx.packing import Packed, pack
from tinyvox.importers import load
from tinyvox.model import Coded, Grid, Linear, Model, Table, layers
from tinyvox.quantizers import kmeans, symmetric

ROOT = Path(__file__).resolve().parents[2]


def session(model: Model) -> onnxruntime.InferenceSession:
    proto, _ = onnx_model(model)
    onnx.checker.check_model(proto)
    return onnxruntime.InferenceSession(proto.SerializeToString())


def by_onnx(opened: onnxruntime.InferenceSession, features: np.ndarray) -> np.ndarray:
    result: np.ndarray = opened.run(None, {"input": features[None]})[0][0]
    return result


def assert_equal(model: Model, *frames: int) -> None:
    opened = session(model)
    for count in frames:
        x = inputs_of(model, count, count)
        np.testing.assert_allclose(by_onnx(opened, x), by_torch(model, x), rtol=0, atol=1e-4)


@models
def test_every_layer_computes_what_torch_computes(name: str) -> None:
    assert_equal(build(name), 37, 150)


@models
def test_every_layer_takes_quantized_matrices(name: str) -> None:
    assert_equal(coded(build(name), lambda values: kmeans(values, 3)), 41)


@pytest.mark.parametrize("coding", list(CODINGS))
def test_every_codebook_is_exact(coding: str) -> None:
    assert_equal(coded(speech_model(), CODINGS[coding]), 33)


@pytest.mark.parametrize("name", ["60x", "100x"])
def test_the_bundled_models_are_small_and_keep_their_card(name: str, tmp_path: Path) -> None:
    model = load(ROOT / "models" / "commands" / f"commands-{name}.tvx")
    assert model.card is not None
    forms = export_onnx(model, tmp_path / "m.onnx")
    opened = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    for frames in (1, 200):
        x = inputs_of(model, frames)
        np.testing.assert_allclose(by_onnx(opened, x), by_torch(model, x), rtol=0, atol=1e-4)
    card = yaml.safe_load(opened.get_modelmeta().custom_metadata_map["speech_card"])
    assert card == model.card.model_dump(mode="json")
    codes = sum(leaf.shape[0] * leaf.shape[1] for _, leaf in model.leaves())
    size = (tmp_path / "m.onnx").stat().st_size
    assert sum(form.bytes for form in forms) < size < codes / 2
    assert not [form for form in forms if "float" in form.form and ".bias" not in form.name]


def test_the_same_model_gives_the_same_bytes() -> None:
    one, other = (onnx_model(coded(speech_model(), lambda v: kmeans(v, 3)))[0] for _ in range(2))
    assert one.SerializeToString() == other.SerializeToString()


def test_the_output_says_its_shape() -> None:
    proto, _ = onnx_model(build("conv2d"))
    dims = proto.graph.output[0].type.tensor_type.shape.dim
    assert [d.dim_value or d.dim_param for d in dims] == [1, "output_frames", 25]
    proto, _ = onnx_model(build("reduce_mean"))
    assert proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value == 1


def one_matrix(matrix: Coded) -> tuple[Model, Form]:
    model = chain(matrix.shape[1], out=Linear(matrix))
    return model, onnx_model(model)[1][0]


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_an_even_grid_stays_packed_in_memory(bits: int) -> None:
    torch.manual_seed(0)
    model, form = one_matrix(symmetric(torch.rand(40, 500) - 0.5, bits))
    assert form.form == f"MatMulNBits, {bits} bits"
    assert form.bytes == 40 * 2 * (256 * bits // 8 + 4)
    assert_equal(model, 20)


def test_zeros_that_differ_between_rows_stay_packed() -> None:
    torch.manual_seed(0)
    codes = torch.randint(0, 16, (40, 512), dtype=torch.uint8)
    matrix = Coded(codes, Grid(16, torch.randint(0, 16, (40,))), torch.rand(40) / 100)
    model, form = one_matrix(matrix)
    assert form.form == "MatMulNBits, 4 bits"
    assert_equal(model, 20)


def test_rare_codes_stand_apart() -> None:
    codes = torch.randint(100, 104, (64, 512), dtype=torch.uint8)
    codes[5, 7], codes[63, 511], codes[0, 0] = 0, 255, 17
    matrix = Coded(codes, Table(torch.linspace(-1, 1, 256)), torch.ones(64))
    model, form = one_matrix(matrix)
    assert form.form == "2-bit codes, 0.4% apart"  # with those that no gap is wider than a byte
    assert form.bytes < 64 * 512 * 2.1 / 8 + 4 * 256 + 200
    assert_equal(model, 20)


def test_a_shared_factor_is_stored_once() -> None:
    model = coded(joined(), lambda v: kmeans(v, 4))
    names = [form.name for form in onnx_model(model)[1]]
    assert len(names) == len(set(names))
    rights = [name for name in names if name.endswith(".right")]
    assert len(rights) == len({id(m.right) for _, m in model.matrices() if hasattr(m, "right")})
    assert_equal(model, 30)


def unpacked(packed: Packed) -> list[int]:
    """The codes of a matrix, one after the other, by another way than that of the file."""
    codes = np.zeros(packed.count, np.int64)
    left = packed.bits
    for width, piece in packed.pieces:
        left -= width
        bits = np.unpackbits(piece, bitorder="little").reshape(-1, width)[: packed.count]
        codes |= (bits * (1 << np.arange(width))).sum(1) << left
    found = [int(code) + packed.start for code in codes]
    place = -1
    for gap, code in zip(packed.gaps, packed.apart, strict=True):
        place += int(gap)
        found[place] = int(code)
    return found


@given(
    st.lists(st.integers(0, 255), min_size=1, max_size=50),
    st.lists(st.integers(60, 66), max_size=3000),
)
def test_packed_codes_are_the_codes(rare: list[int], many: list[int]) -> None:
    codes = np.array([*rare[:1], *many, *rare[1:], *many[:700]], np.uint8)
    packed = pack(codes)
    assert unpacked(packed) == codes.tolist()
    assert packed.nbytes <= -(-codes.size // 8) * 8 + 3


def test_codes_that_are_all_equal_take_no_bits() -> None:
    packed = pack(np.full((30, 40), 7, np.uint8))
    assert (packed.bits, packed.nbytes) == (0, 0)
    matrix = Coded(
        torch.full((30, 40), 7, dtype=torch.uint8), Grid(16, torch.tensor([3])), torch.rand(30)
    )
    assert_equal(chain(10, conv=layers.Conv1d(matrix, None, 4), out=linear(3, 30)), 9)


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tinyvox.exporters.packages.find_spec", lambda name: None)
    with pytest.raises(FileError, match=r"needs 'onnx'; pip install 'tinyvox\[onnx\]'$"):
        export_onnx(speech_model(), tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_what_protocol_buffers_cannot_hold_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tinyvox.exporters.onnx.export.MOST_BYTES", 1000)
    with pytest.raises(FileError, match=r"would take 25,\d+ bytes, expected 1,000 at most"):
        export_onnx(speech_model(), tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())

"""Quantized ONNX models: weights come in as the values that they stand for."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnx_graphs import FEATURES, assert_parity, export, given, original, weights, write
from onnxruntime.quantization import QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.calibrate import CalibrationDataReader
from torch import Tensor, nn

from tinyvox.importers import load
from tinyvox.model import Coded, Model


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)
    logging.getLogger().setLevel(logging.ERROR)


class Speech(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(FEATURES, 8)
        self.conv = nn.Conv1d(8, 8, 3, padding=1)
        self.lstm = nn.LSTM(8, 12, batch_first=True, bidirectional=True)
        self.out = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(torch.relu(self.dense(x)).transpose(1, 2)).transpose(1, 2)
        y: Tensor = self.out(self.lstm(x)[0])
        return y


def levels(model: Model) -> dict[str, int]:
    """The most values that a row of each matrix has, or the whole matrix, whichever is less."""
    found = {}
    for name, matrix in model.matrices():
        values = matrix.decode()
        whole = len(values.unique())
        found[name] = min(whole, max(len(row.unique()) for row in values))
    return found


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("kind", [QuantType.QInt8, QuantType.QUInt8])
def test_dynamically_quantized(kind: QuantType, per_channel: bool, tmp_path: Path) -> None:
    """As ONNX Runtime quantizes: its outputs differ by the rounding of signals alone."""
    path = export(Speech(), tmp_path / "float.onnx")
    quantize_dynamic(path, tmp_path / "m.onnx", per_channel=per_channel, weight_type=kind)
    kinds = {node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node}
    assert {"DynamicQuantizeLSTM", "MatMulInteger", "ConvInteger"} <= kinds
    model, before = load(tmp_path / "m.onnx"), load(path)
    assert model.provenance["import_notes"] == [
        "the rounding of signals to integers is left out: signals are float32"
    ]
    assert [n.name for n in model.nodes if n.layer.matrices()] == [
        n.name for n in before.nodes if n.layer.matrices()
    ]
    assert model.original_parameters == pytest.approx(before.original_parameters, rel=0.02)
    zero_points = per_channel and kind == QuantType.QUInt8  # each row has its own
    assert zero_points or all(isinstance(matrix, Coded) for _, matrix in model.matrices())
    for (name, one), (_, two) in zip(model.matrices(), before.matrices(), strict=True):
        step = 2 * two.decode().abs().max() / 254
        assert float((one.decode() - two.decode()).abs().max()) <= step * 0.51 + 1e-7, name
    features = torch.randn(1, 30, FEATURES)
    found, expected = given(model, features), original(tmp_path / "m.onnx", features)
    rounding = float((found - expected).abs().max())
    assert rounding <= float((given(before, features) - expected).abs().max())
    assert rounding <= 0.02


class Calibration(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self) -> None:
        self.left = [
            {"x": np.random.default_rng(i).standard_normal((1, 9, FEATURES)).astype(np.float32)}
            for i in range(4)
        ]

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return self.left.pop() if self.left else None


@pytest.mark.parametrize("per_channel", [False, True])
def test_quantized_and_dequantized(per_channel: bool, tmp_path: Path) -> None:
    """Pairs of QuantizeLinear and DequantizeLinear around weights and signals."""
    path = export(Speech(), tmp_path / "float.onnx")
    quantize_static(
        path,
        tmp_path / "m.onnx",
        Calibration(),
        quant_format=QuantFormat.QDQ,
        per_channel=per_channel,
    )
    model, before = load(tmp_path / "m.onnx"), load(path)
    found = levels(model)
    assert found["dense.weight"] <= 256 >= found["out.weight"]
    features = torch.randn(1, 30, FEATURES)
    assert float((given(model, features) - given(before, features)).abs().max()) <= 0.05


def packed(bits: int, block: int, points: bool) -> tuple[dict[str, NDArray[np.generic]], Tensor]:
    """Random codes of a 5 x FEATURES * 4 matrix in bytes, and the values that they stand for."""
    rows, columns = 5, FEATURES * 4
    generator = np.random.default_rng(bits)
    blocks = -(-columns // block)
    codes = generator.integers(0, 1 << bits, (rows, blocks, block))
    scales = weights(rows * blocks, seed=3)
    zero = (
        generator.integers(0, 1 << bits, (rows, blocks))
        if points
        else np.full((rows, blocks), 1 << (bits - 1))
    )
    values = (codes - zero[..., None]) * scales.reshape(rows, blocks, 1)
    each = 8 // bits

    def pack(numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        spare = -numbers.shape[-1] % each
        numbers = np.pad(numbers, [(0, 0)] * (numbers.ndim - 1) + [(0, spare)])
        parts = numbers.reshape(*numbers.shape[:-1], -1, each) << (np.arange(each) * bits)
        return parts.sum(-1).astype(np.uint8)

    held: dict[str, NDArray[np.generic]] = {"B": pack(codes), "scales": scales}
    if points:
        held["points"] = pack(zero).reshape(-1)
    return held, torch.from_numpy(values.reshape(rows, -1)[:, :columns].astype(np.float32))


@pytest.mark.parametrize("points", [False, True])
@pytest.mark.parametrize("bits", [4, 8])
def test_codes_of_a_few_bits(bits: int, points: bool, tmp_path: Path) -> None:
    held, values = packed(bits, 16, points)
    names = ["x", "B", "scales", *(["points"] if points else [])]
    settings = {"K": FEATURES * 4, "N": 5, "bits": bits, "block_size": 16}
    node = helper.make_node("MatMulNBits", names, ["y"], "out", domain="com.microsoft", **settings)
    path = write(tmp_path / "m.onnx", [node], held, shape=(1, "time", FEATURES * 4))
    model = assert_parity(path, tolerance=1e-4)
    assert torch.equal(dict(model.matrices())["out.weight"].decode(), values)


@pytest.mark.parametrize(
    "scales", [np.float32(0.1), np.array([0.1, 0.2, 0.3], np.float32), weights(2, 3)]
)
def test_scales_of_a_tensor_a_column_and_blocks(
    scales: NDArray[np.float32], tmp_path: Path
) -> None:
    codes = np.random.default_rng(0).integers(-128, 128, (FEATURES, 3)).astype(np.int8)
    settings = {"axis": 0, "block_size": 3} if scales.ndim == 2 else {"axis": 1}
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s"], ["w"], **settings),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    held = {"q": codes, "s": np.asarray(scales)}
    assert_parity(write(tmp_path / "m.onnx", nodes, held, opset=21), tolerance=2e-4)


def test_half_precision_becomes_float32(tmp_path: Path) -> None:
    half = weights(FEATURES, 3).astype(np.float16)
    nodes = [
        helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16),
        helper.make_node("MatMul", ["h", "w"], ["m"]),
        helper.make_node("Cast", ["m"], ["y"], to=TensorProto.FLOAT),
    ]
    path = write(tmp_path / "m.onnx", nodes, {"w": half})
    (matrix,) = (matrix for _, matrix in load(path).matrices())
    assert torch.equal(matrix.decode(), torch.from_numpy(half.T.astype(np.float32)))

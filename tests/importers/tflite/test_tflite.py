"""TensorFlow Lite files against TensorFlow's own interpreter (`make_fixtures.py`)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from places import third_party

import tinyvox as tv
from tinyvox.executor import Executor
from tinyvox.model import Coded, LogSoftmax, Model, Recurrent

FIXTURES = Path(__file__).parent / "fixtures"
FILES = sorted(FIXTURES.glob("*.tflite"))
ROUNDED = 0.1
"""TensorFlow rounds the activations too where weights have 8 bits."""


def _outputs(model: Model, features: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return Executor(model)(torch.from_numpy(features)).numpy()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_outputs_are_those_of_the_interpreter(path: Path) -> None:
    stored = np.load(path.with_suffix(".npz"))
    model = tv.load(path)
    expected = stored["output"].reshape(1, -1, model.signals[model.output].size)
    tolerance = ROUNDED if path.stem.endswith("_int8") else 1e-5
    np.testing.assert_allclose(_outputs(model, stored["input"]), expected, atol=tolerance)


@pytest.mark.runtime
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_saved_file_runs_as_the_executor(path: Path, tmp_path: Path) -> None:
    stored = np.load(path.with_suffix(".npz"))
    model = tv.load(path)
    tv.save(model, tmp_path / "m.tvx")
    found = tv.open(tmp_path / "m.tvx").run(stored["input"][0])
    # Activations have 8 bits beside coded weights.
    coded = any(isinstance(matrix, Coded) for _, matrix in model.matrices())
    expected = _outputs(model, stored["input"])[0]
    np.testing.assert_allclose(found, expected, atol=0.1 if coded else 1e-4)


KINDS = {
    "lstm": ["lstm"],
    "two_lstm": ["lstm", "lstm"],
    "bilstm": ["lstm"],
    "gru": ["gru"],
    "gru_before": ["gru_reset_before"],
    "rnn": ["rnn_tanh"],
    "unrolled_stack": ["lstm", "gru_reset_before", "rnn_tanh"],
}


@pytest.mark.parametrize("name", KINDS)
def test_loops_and_unrolled_steps_are_layers(name: str) -> None:
    model = tv.load(FIXTURES / f"{name}.tflite")
    layers = [node.layer for node in model.nodes]
    assert [layer.kind for layer in layers if isinstance(layer, Recurrent)] == KINDS[name]


@pytest.mark.parametrize("name", ["lstm_int8", "gru_int8", "conv_int8", "unrolled_lstm_int8"])
def test_codes_stay_codes(name: str) -> None:
    """Every matrix that the file holds in 8 bits; smaller ones are float32 in the file."""
    model = tv.load(FIXTURES / f"{name}.tflite")
    for matrix_name, matrix in model.matrices():
        large = matrix.shape[0] * matrix.shape[1] >= 1024
        assert isinstance(matrix, Coded) == large, matrix_name
    assert model.provenance["quantized"] is True


def test_half_precision_weights_are_exact() -> None:
    model = tv.load(FIXTURES / "lstm_float16.tflite")
    for _, matrix in model.matrices():
        values = matrix.decode()
        assert torch.equal(values.half().float(), values)


def test_deepspeech_with_its_card_and_codes() -> None:
    model = tv.load(third_party("armspeech/model.tflite"))
    assert all(isinstance(matrix, Coded) for _, matrix in model.matrices())
    assert model.card is not None
    assert model.card.features.high_hz == 8000
    assert len(model.card.tokens) == 41
    assert "".join(model.card.tokens[:4]) == " աբգ"
    assert isinstance(model.nodes[-1].layer, LogSoftmax)
    assert model.count_parameters() == 47_249_449


@pytest.mark.parametrize("name", ["model_1.tflite", "model_quant_1.tflite"])
def test_states_become_the_layers_own(name: str) -> None:
    """The states of the two LSTMs come in and go out of the file's graph, frame by frame."""
    model = tv.load(third_party(f"dtln/{name}"))
    layers = [node.layer for node in model.nodes]
    assert [layer.kind for layer in layers if isinstance(layer, Recurrent)] == ["lstm", "lstm"]
    assert model.input_size == model.signals[model.output].size == 257

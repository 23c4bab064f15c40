"""Files of named tensors with the YAML beside them, against torch and plain NumPy."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from places import third_party
from safetensors.torch import load_file, save_file
from torch import nn

import tinyvox as tv
from tinyvox.errors import TinyvoxError
from tinyvox.executor import Executor
from tinyvox.model import Model

G2P = """
input: 29
layers:
  - {name: embedding, embedding: {weight: enc_emb}}
  - name: encoder
    gru: {weight_ih: enc_w_ih, weight_hh: enc_w_hh, bias_ih: enc_b_ih, bias_hh: enc_b_hh}
"""
SILERO = """
input: 576
layers:
  - {name: mirrored, reflect: {after: 64}}
  - {name: samples, unflatten: {count: 1}}
  - {name: stft, conv2d: {weight: stft_conv.weight, stride: [1, 128]}}
  - {name: spectrum, flatten: }
  - {name: real, slice: {start: 0, stop: 516}, inputs: [spectrum]}
  - {name: imaginary, slice: {start: 516, stop: 1032}, inputs: [spectrum]}
  - {name: real2, multiply: , inputs: [real, real]}
  - {name: imaginary2, multiply: , inputs: [imaginary, imaginary]}
  - {name: power, add: , inputs: [real2, imaginary2]}
  - {name: magnitude, activation: {kind: sqrt}}
  - {unflatten: {count: 129}}
  - {conv2d: {weight: conv1.weight, bias: conv1.bias, padding: [0, 0, 1, 1]}}
  - {activation: {kind: relu}}
  - {conv2d: {weight: conv2.weight, bias: conv2.bias, stride: [1, 2], padding: [0, 0, 1, 1]}}
  - {activation: {kind: relu}}
  - {conv2d: {weight: conv3.weight, bias: conv3.bias, stride: [1, 2], padding: [0, 0, 1, 1]}}
  - {activation: {kind: relu}}
  - {conv2d: {weight: conv4.weight, bias: conv4.bias, padding: [0, 0, 1, 1]}}
  - {activation: {kind: relu}}
  - {flatten: }
  - lstm:
      weight_ih: lstm_cell.weight_ih
      weight_hh: lstm_cell.weight_hh
      bias_ih: lstm_cell.bias_ih
      bias_hh: lstm_cell.bias_hh
  - {activation: {kind: relu}}
  - {linear: {weight: final_conv.weight, bias: final_conv.bias}}
  - {activation: {kind: sigmoid}}
"""


def _beside(folder: Path, source: Path, text: str) -> Model:
    (folder / source.name).write_bytes(source.read_bytes())
    (folder / f"{source.stem}.layers.yaml").write_text(text)
    return tv.load(folder / source.name)


def _run(model: Model, features: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return Executor(model)(torch.from_numpy(features)[None]).numpy()[0]


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def test_the_encoder_of_g2p(tmp_path: Path) -> None:
    source = third_party("g2p/checkpoint20.npz")
    model, held = _beside(tmp_path, source, G2P), np.load(source)
    tokens = np.random.default_rng(0).integers(0, 29, 40)
    state, expected = np.zeros(256, np.float32), []
    for token in tokens:  # the encoder's own formula, step by step
        by_input = held["enc_w_ih"] @ held["enc_emb"][token] + held["enc_b_ih"]
        by_state = held["enc_w_hh"] @ state + held["enc_b_hh"]
        r, z = _sigmoid(by_input[:512] + by_state[:512]).reshape(2, 256)
        new = np.tanh(by_input[512:] + r * by_state[512:])
        state = z * state + (1 - z) * new
        expected.append(state)
    found = _run(model, np.eye(29, dtype=np.float32)[tokens])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert "dec_emb" in model.provenance["import_notes"][0]


def _silero(held: dict[str, torch.Tensor], rows: torch.Tensor) -> torch.Tensor:
    """The network as its authors wrote it, chunk by chunk."""
    cell = nn.LSTMCell(128, 128)
    cell.load_state_dict({k.removeprefix("lstm_cell."): v for k, v in held.items() if "cell" in k})
    state, found = None, []
    for row in rows:
        padded = F.pad(row[None, None], (0, 64), mode="reflect")
        real, imaginary = F.conv1d(padded, held["stft_conv.weight"], stride=128).chunk(2, dim=1)
        x = (real**2 + imaginary**2).sqrt()
        for i, stride in enumerate((1, 2, 2, 1), start=1):
            weight, bias = held[f"conv{i}.weight"], held[f"conv{i}.bias"]
            x = F.conv1d(x, weight, bias, stride=stride, padding=1).relu()
        state = cell(x.squeeze(2), state)
        h = state[0].relu()[..., None]
        found.append(F.conv1d(h, held["final_conv.weight"], held["final_conv.bias"]).sigmoid())
    return torch.cat(found).flatten()


def test_silero_chunk_by_chunk(tmp_path: Path) -> None:
    source = third_party("silero/silero_vad_16k.safetensors")
    model = _beside(tmp_path, source, SILERO)
    rows = torch.randn(12, 576) * 0.1
    with torch.no_grad():
        expected = _silero(load_file(source), rows)
    np.testing.assert_allclose(_run(model, rows.numpy())[:, 0], expected, atol=1e-5)


@pytest.mark.parametrize("order", ["ifgo", "ifco", "ofig"])
def test_the_order_of_gates(order: str, tmp_path: Path) -> None:
    lstm = nn.LSTM(4, 3, batch_first=True)
    gates = {letter: slice(3 * i, 3 * i + 3) for i, letter in enumerate("ifgo")}
    rows = np.concatenate([np.arange(12)[gates[g.replace("c", "g")]] for g in order])
    held = {name: value.detach().numpy()[rows] for name, value in lstm.named_parameters()}
    np.savez(tmp_path / "m.npz", W=held["weight_ih_l0"].T, U=held["weight_hh_l0"].T,
             b=held["bias_ih_l0"] + held["bias_hh_l0"])  # fmt: skip
    cell = f"{{weight_ih: W, weight_hh: U, bias: b, transpose: true, gates: {order}}}"
    (tmp_path / "m.layers.yaml").write_text(f"input: 4\nlayers:\n  - lstm: {cell}\n")
    features = torch.randn(1, 9, 4)
    with torch.no_grad():
        expected = lstm(features)[0][0].numpy()
    np.testing.assert_allclose(
        _run(tv.load(tmp_path / "m.npz"), features[0].numpy()), expected, atol=1e-6
    )


REFUSED = {
    "input: 4\nlayers:\n  - linear: {weight: nothing}\n": "layer 1 .linear.: no tensor is called",
    "input: 5\nlayers:\n  - linear: {weight: W}\n": "input size is 5, expected 4",
    "input: 4\nlayers:\n  - lineal: {weight: W}\n": "unknown key .lineal.",
    "input: 4\nlayers:\n  - {linear: {weight: W}, inputs: [x]}\n": "input 'x' is no layer above",
    "input: 4\nlayers:\n  - lstm: {weight_ih: W, weight_hh: W, gates: abc}\n": "the letters",
    "input: 4\nlayers: []\n": "at least 1",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_does_not_fit_is_one_line(text: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", W=np.ones((8, 4), np.float32))
    (tmp_path / "m.layers.yaml").write_text(text)
    with pytest.raises(TinyvoxError, match=REFUSED[text]) as caught:
        tv.load(tmp_path / "m.npz")
    assert "\n" not in str(caught.value)


def test_a_pickle_inside_is_not_executed(tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", W=np.array([{"a": 1}], dtype=object))
    (tmp_path / "m.layers.yaml").write_text("input: 4\nlayers:\n  - linear: {weight: W}\n")
    with pytest.raises(TinyvoxError, match=r"layer 1 .*'W' holds objects, expected floats"):
        tv.load(tmp_path / "m.npz")


ONE = "input: 4\nlayers:\n  - linear: {weight: W}\n"


def test_only_what_layers_use_is_read(tmp_path: Path) -> None:
    others = {"a": np.array([{}], dtype=object), "b": np.array(["x"]), "c": np.ones(3, np.int64)}
    np.savez(tmp_path / "m.npz", W=np.ones((8, 4)), **others)
    (tmp_path / "m.layers.yaml").write_text(ONE)
    model = tv.load(tmp_path / "m.npz")
    assert torch.equal(dict(model.matrices())["linear.weight"].decode(), torch.ones(8, 4))
    assert model.provenance["import_notes"] == ["tensors that no layer uses: a, b, c"]


def test_a_shape_of_many_numbers_is_cut(tmp_path: Path) -> None:
    header = {"descr": "<f4", "fortran_order": False, "shape": (7,) * 300}
    declared = io.BytesIO()
    np.lib.format.write_array_header_1_0(declared, header)
    with zipfile.ZipFile(tmp_path / "m.npz", "w") as archive:
        archive.writestr("W.npy", declared.getvalue())
    (tmp_path / "m.layers.yaml").write_text(ONE)
    expected = re.escape(f"'W' of shape [{'7, ' * 8}...] brings")
    with pytest.raises(TinyvoxError, match=expected):
        tv.load(tmp_path / "m.npz")


KINDS = {
    "complex numbers": np.ones((8, 4), np.complex64),
    "text": np.full((8, 4), "x"),
    "int8 values": np.ones((8, 4), np.int8),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_holds_no_floats_is_named(kind: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", W=KINDS[kind])
    (tmp_path / "m.layers.yaml").write_text(ONE)
    with pytest.raises(TinyvoxError, match=f"'W' holds {kind}, expected floats"):
        tv.load(tmp_path / "m.npz")


def test_whole_numbers_in_other_files_are_named_too(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    (tmp_path / "m.layers.yaml").write_text(ONE)
    save_file({"W": torch.ones(8, 4, dtype=torch.int8)}, tmp_path / "m.safetensors")
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["W"] = np.ones((8, 4), np.int8)
    for suffix in (".safetensors", ".h5"):
        with pytest.raises(TinyvoxError, match=r"'W' holds .*int8 values, expected floats"):
            tv.load(tmp_path / f"m{suffix}")


def test_a_few_bytes_do_not_unpack_to_many(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "m.npz", W=np.zeros((2000, 4000), np.float32), x=np.ones(2))
    (tmp_path / "m.layers.yaml").write_text(ONE)
    with pytest.raises(TinyvoxError, match=r"'W' of shape .2000, 4000. .* more than 16 times"):
        tv.load(tmp_path / "m.npz")
    (tmp_path / "m.layers.yaml").write_text(ONE.replace("W", "nothing"))
    with pytest.raises(TinyvoxError, match="no tensor is called 'nothing'; there are W, x"):
        tv.load(tmp_path / "m.npz")


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_without_the_yaml_the_message_says_what_to_write(suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"m{suffix}").write_bytes(b"")
    with pytest.raises(TinyvoxError, match=r"write m\.layers\.yaml beside it"):
        tv.load(tmp_path / f"m{suffix}")


DTLN = """
input: 257
layers:
  - {name: magnitude, activation: {kind: log}}
  - name: normalized
    layer_norm:
      weight: instant_layer_normalization/instant_layer_normalization/gamma:0
      bias: instant_layer_normalization/instant_layer_normalization/beta:0
      eps: 1.0e-7
  - name: lstm1
    lstm:
      weight_ih: lstm/lstm/lstm_cell/kernel:0
      weight_hh: lstm/lstm/lstm_cell/recurrent_kernel:0
      bias: lstm/lstm/lstm_cell/bias:0
      transpose: true
      gates: ifco
  - name: lstm2
    lstm:
      weight_ih: lstm_1/lstm_1/lstm_cell_1/kernel:0
      weight_hh: lstm_1/lstm_1/lstm_cell_1/recurrent_kernel:0
      bias: lstm_1/lstm_1/lstm_cell_1/bias:0
      transpose: true
      gates: ifco
  - {name: dense, linear: {weight: dense/dense/kernel:0, bias: dense/dense/bias:0, transpose: true}}
  - {name: mask, activation: {kind: sigmoid}}
"""


def test_the_first_core_of_dtln_from_weights_alone(tmp_path: Path) -> None:
    source = third_party("dtln/DTLN_norm_500h.h5")
    h5py = pytest.importorskip("h5py")
    held: dict[str, np.ndarray] = {}
    with h5py.File(source) as file:
        file.visititems(lambda n, o: held.update({n: o[()]} if hasattr(o, "shape") else {}))
    model = _beside(tmp_path, source, DTLN)
    magnitudes = np.abs(np.random.default_rng(0).normal(0, 1, (50, 257))).astype(np.float32) + 1e-3
    x = np.log(magnitudes)
    x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-7)
    norm = "instant_layer_normalization/instant_layer_normalization/"
    x = x * held[norm + "gamma:0"] + held[norm + "beta:0"]
    for layer in ("lstm/lstm/lstm_cell", "lstm_1/lstm_1/lstm_cell_1"):
        x = _keras_lstm(
            x, *(held[f"{layer}/{k}:0"] for k in ("kernel", "recurrent_kernel", "bias"))
        )
    expected = _sigmoid(x @ held["dense/dense/kernel:0"] + held["dense/dense/bias:0"])
    np.testing.assert_allclose(_run(model, magnitudes), expected, atol=1e-5)


def _keras_lstm(
    x: np.ndarray, kernel: np.ndarray, by_state: np.ndarray, bias: np.ndarray
) -> np.ndarray:
    h = c = np.zeros(len(by_state))
    found = []
    for row in x @ kernel + bias:
        i, f, new, o = (row + h @ by_state).reshape(4, -1)
        c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(new)
        h = _sigmoid(o) * np.tanh(c)
        found.append(h)
    return np.array(found)

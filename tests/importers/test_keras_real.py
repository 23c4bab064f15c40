"""Keras models that others trained, against NumPy programs that read the files by themselves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from places import ROOT
from runtime_models import by_torch, open_model

from tinyvox.errors import ImporterError
from tinyvox.importers import load

MODELS = ROOT.parent / "shared" / "models"
FRAMES = 200

Arrays = dict[str, np.ndarray]


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def hard_sigmoid(x: np.ndarray) -> np.ndarray:
    return np.clip(0.2 * x + 0.5, 0, 1)


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


Function = Callable[[np.ndarray], np.ndarray]


def gru(x: np.ndarray, w: Arrays, gate: Function, activation: Function) -> np.ndarray:
    kernel, inner, bias = w["kernel"], w["recurrent_kernel"], w["bias"]
    units = len(inner)
    h, found = np.zeros(units), []
    for frame in x @ kernel + bias:
        zr = gate(frame[: 2 * units] + h @ inner[:, : 2 * units])
        z, r = zr[:units], zr[units:]
        h = z * h + (1 - z) * activation(frame[2 * units :] + (r * h) @ inner[:, 2 * units :])
        found.append(h)
    return np.array(found)


def lstm(x: np.ndarray, w: Arrays, gate: Function) -> np.ndarray:
    inner = w["recurrent_kernel"]
    h = c = np.zeros(len(inner))
    found = []
    for frame in x @ w["kernel"] + w["bias"]:
        i, f, g, o = np.split(frame + h @ inner, 4)
        c = gate(f) * c + gate(i) * np.tanh(g)
        h = gate(o) * np.tanh(c)
        found.append(h)
    return np.array(found)


def simple_rnn(x: np.ndarray, w: Arrays, activation: Function) -> np.ndarray:
    h, found = np.zeros(len(w["bias"])), []
    for frame in x @ w["kernel"] + w["bias"]:
        h = activation(frame + h @ w["recurrent_kernel"])
        found.append(h)
    return np.array(found)


def batch_norm(x: np.ndarray, w: Arrays) -> np.ndarray:
    return (x - w["moving_mean"]) / np.sqrt(w["moving_variance"] + 1e-3) * w["gamma"] + w["beta"]


def dense(x: np.ndarray, w: Arrays) -> np.ndarray:
    return x @ w["kernel"] + w["bias"]


def conv(x: np.ndarray, w: Arrays, stride: int) -> np.ndarray:
    size = len(w["kernel"])
    starts = range(0, len(x) - size + 1, stride)
    return np.array([np.tensordot(x[s : s + size], w["kernel"], 2) for s in starts]) + w["bias"]


class File:
    """The arrays of each layer, in float64."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __getitem__(self, layer: str) -> Arrays:
        return self.below(layer, "")

    def below(self, layer: str, part: str) -> Arrays:
        with h5py.File(self.path) as file:
            group = file["model_weights"][layer]
            names = [name.decode() for name in group.attrs["weight_names"]]
            return {
                name.split("/")[-1].split(":")[0]: np.array(group[name], np.float64)
                for name in names
                if part in name
            }


def adroit_1(f: File, x: np.ndarray) -> np.ndarray:
    y = batch_norm(gru(x, f["rnn"], hard_sigmoid, relu), f["simp_rnn"])
    return softmax(dense(y, f["time_distributed_1"]))


def adroit_2(f: File, x: np.ndarray) -> np.ndarray:
    y = batch_norm(relu(conv(x, f["conv1d"], 2)), f["bn_conv_1d"])
    y = batch_norm(simple_rnn(y, f["rnn"], relu), f["simp_rnn"])
    return softmax(dense(y, f["time_distributed_2"]))


def librispeech_5(f: File, x: np.ndarray) -> np.ndarray:
    for rnn, norm in (("rnn_0", "batch_normalization_3"), ("rnn_1", "batch_normalization_4")):
        x = batch_norm(gru(x, f[rnn], hard_sigmoid, np.tanh), f[norm])
    return softmax(dense(x, f["time_distributed_3"]))


def librispeech_8(f: File, x: np.ndarray) -> np.ndarray:
    for i in (5, 6):
        sides = [f.below(f"bidirectional_{i}", part) for part in ("forward", "backward")]
        ahead = lstm(x, sides[0], hard_sigmoid)
        back = lstm(x[::-1], sides[1], hard_sigmoid)[::-1]
        x = batch_norm(np.hstack([ahead, back]), f[f"batch_normalization_{i}"])
    return softmax(dense(x, f["time_distributed_3"]))


@pytest.mark.parametrize(
    ("name", "program"),
    [
        ("vui-ctc/adroit_model_1.h5", adroit_1),
        ("vui-ctc/adroit_model_2.h5", adroit_2),
        ("librispeech-ctc-keras/model_5.h5", librispeech_5),
        ("librispeech-ctc-keras/model_8.h5", librispeech_8),
    ],
)
def test_outputs(
    name: str, program: Callable[[File, np.ndarray], np.ndarray], tmp_path: Path
) -> None:
    if not (MODELS / name).exists():
        pytest.skip("the shared models are not here")
    model = load(MODELS / name)
    x = np.random.default_rng(0).normal(size=(FRAMES, model.input_size)).astype(np.float32)
    expected = np.log(program(File(MODELS / name), x.astype(np.float64)))
    for found in (by_torch(model, x), open_model(model, tmp_path).run(x)):
        assert np.abs(np.log(found) - expected).max() < 1e-4
    assert "ctc (Lambda)" in model.provenance["import_notes"][0]


def test_weights_alone() -> None:
    path = MODELS / "dtln" / "DTLN_norm_500h.h5"
    if not path.exists():
        pytest.skip("the shared models are not here")
    with pytest.raises(
        ImporterError, match=r"500h\.h5: holds weights alone, of 22 layers \(input_1"
    ):
        load(path)

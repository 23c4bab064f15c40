"""Keras models give what Keras gives: files of Keras 1, 2 and 3, in torch and in the runtime."""

from __future__ import annotations

from pathlib import Path

import h5py
import keras_files
import numpy as np
import pytest
from runtime_models import by_torch, open_model

from tinyvox.importers import load
from tinyvox.model import Model, layers

NAMES = keras_files.names()


def features(name: str, x: np.ndarray) -> np.ndarray:
    """The input as tinyvox takes it, [frames, size]: of one with bands, channels come first."""
    if name.startswith("conv2d_channels"):
        x = x.transpose(1, 2, 0)
    return np.ascontiguousarray(x.reshape(len(x), -1))


def test_there_are_models_of_every_kind() -> None:
    models = {name.split(".")[0] for name in NAMES}
    assert len(models) >= 24
    for version in ("2", "3"):
        assert {n.split(".")[0] for n in NAMES if f".{version}." in n} >= models - {"cudnn"}


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_those_of_keras(name: str, tmp_path: Path) -> None:
    model = load(keras_files.unpacked(name, tmp_path))
    session = open_model(model, tmp_path)
    for given, expected in keras_files.outputs(name):
        x, y = features(name, given), np.atleast_2d(expected)
        np.testing.assert_allclose(by_torch(model, x), y, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(session.run(x), y, rtol=1e-5, atol=1e-5)


def nodes(name: str, folder: Path) -> dict[str, layers.Layer]:
    return {node.name: node.layer for node in imported(name, folder).nodes}


def imported(name: str, folder: Path) -> Model:
    return load(keras_files.unpacked(name, folder))


@pytest.mark.parametrize("suffix", ["2.h5", "2.keras", "3.h5", "3.keras"])
def test_layers_have_the_names_of_the_source(suffix: str, tmp_path: Path) -> None:
    names = list(nodes(f"nested.{suffix}", tmp_path))
    assert names[:3] == ["dense_2", "middle.frozen.0", "middle.inner.dense.0"]
    assert nodes(f"training.{suffix}", tmp_path).keys() == {"lstm", "dense"}


@pytest.mark.parametrize("suffix", ["2.h5", "3.keras"])
def test_both_directions_are_one_layer(suffix: str, tmp_path: Path) -> None:
    found = nodes(f"bidirectional.{suffix}", tmp_path).values()
    both = [layer for layer in found if isinstance(layer, layers.Recurrent) and layer.backward]
    assert sum(layer.forward is not None for layer in both) == 4


@pytest.mark.parametrize("suffix", ["2.h5", "2.keras", "3.h5", "3.keras"])
def test_a_layer_that_is_used_twice_is_stored_once(suffix: str, tmp_path: Path) -> None:
    model = imported(f"nested.{suffix}", tmp_path)
    assert len(model.nodes) == 14
    assert len(list(model.holders())) < len(model.nodes)
    # Two dense layers of 5 x 5 and one of 4 x 5 outside and inside, the norm, both LSTMs.
    assert model.provenance["original_parameters"] == 3 * 30 + 25 + 10 + 2 * 64


@pytest.mark.parametrize("suffix", ["2.h5", "2.keras", "3.h5", "3.keras"])
def test_what_is_left_out_is_said(suffix: str, tmp_path: Path) -> None:
    notes = " ".join(imported(f"training.{suffix}", tmp_path).provenance["import_notes"])
    for kind in ("GaussianNoise", "Dropout", "SpatialDropout1D", "ActivityRegularization"):
        assert f"({kind}): is used in training only" in notes
    assert "(Masking): padded frames are not masked" in notes
    notes = " ".join(imported(f"ctc.{suffix}", tmp_path).provenance["import_notes"])
    assert "ctc (Lambda): a part of training, left out" in notes
    assert "the_labels, input_length, label_length" in notes
    assert "zero state" in " ".join(
        imported(f"stateful.{suffix}", tmp_path).provenance["import_notes"]
    )


def test_provenance_without_notes(tmp_path: Path) -> None:
    model = imported("dense.3.keras", tmp_path)
    assert model.provenance == {
        "source": "dense.3.keras",
        "original_parameters": 5 * 6 + 6 + 6 * 4 + 4 * 3 + 3,
    }


def test_a_stride_that_begins_elsewhere_for_other_lengths_is_said(tmp_path: Path) -> None:
    notes = imported("conv1d_strided.3.keras", tmp_path).provenance["import_notes"]
    assert len(notes) == 2
    assert "conv1d (Conv1D): padding 'same' with a stride of 2 begins at another frame" in notes[0]
    assert "those that are 1 more than a multiple of 2" in notes[0]
    assert "those that are 0 more than a multiple of 3" in notes[1]


@pytest.mark.parametrize("key", ["batch_input_shape", "build_input_shape", "input_dim"])
def test_a_sequential_model_without_an_input_layer(key: str, tmp_path: Path) -> None:
    """Its shape stands in the first layer, or in the model."""
    model = keras_files.sequential(keras_files.dense())
    config = model["config"]
    del config["layers"][0]
    holder = config if key == "build_input_shape" else config["layers"][0]["config"]
    holder[key] = 5 if key == "input_dim" else [None, None, 5]
    weights = {"l0": keras_files.dense_weights()}
    found = load(keras_files.write_h5(tmp_path / "m.h5", model, weights))
    assert (found.input_size, found.nodes[0].name) == (5, "l0")


def test_kernels_of_theano_are_turned_round(tmp_path: Path) -> None:
    kernel = np.arange(30, dtype=np.float32).reshape(3, 5, 2)
    layer = ("Conv1D", {"filters": 2, "kernel_size": [3], "use_bias": False})
    path = tmp_path / "m.h5"
    found = {}
    for backend in ("tensorflow", "theano"):
        keras_files.write_h5(path, keras_files.sequential(layer), {"l0": {"kernel:0": kernel}})
        with h5py.File(path, "r+") as file:
            file.attrs["backend"] = backend
        found[backend] = dict(load(path).matrices())["l0.weight"].decode().reshape(2, 5, 3)
    np.testing.assert_array_equal(found["tensorflow"], kernel.transpose(2, 1, 0))
    np.testing.assert_array_equal(found["theano"], kernel[::-1].transpose(2, 1, 0))


# Keras 1


def of_keras_1(folder: Path) -> tuple[Path, Path]:
    """The same model as Keras 1 writes it and as Keras 2 does."""
    rng = np.random.default_rng(0)

    def values(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32) * 0.5

    conv, lstm, gru = (values(3, 5, 4), values(4)), gates("i c f o", 4, 3), gates("z r h", 3, 2)
    shared = {"activation": "tanh", "return_sequences": True}
    old = [
        ("Convolution1D", {"nb_filter": 4, "filter_length": 3, "border_mode": "same",
                           "subsample_length": 1, "bias": True, "activation": "relu"}),
        ("LSTM", {"output_dim": 3, "inner_activation": "hard_sigmoid", **shared}),
        ("GRU", {"output_dim": 2, "inner_activation": "sigmoid", **shared}),
        ("TimeDistributedDense", {"output_dim": 3, "activation": "softmax"}),
    ]  # fmt: skip
    new = [
        ("Conv1D", {"filters": 4, "kernel_size": [3], "padding": "same", "activation": "relu"}),
        ("LSTM", {"units": 3, "recurrent_activation": "hard_sigmoid", **shared}),
        ("GRU", {"units": 2, "recurrent_activation": "sigmoid", **shared}),
        ("Dense", {"units": 3, "activation": "softmax"}),
    ]
    dense = {"l3_W": values(2, 3), "l3_b": values(3)}
    old_weights = {
        "l0": {"l0_W": conv[0][:, None], "l0_b": conv[1]},
        "l1": old_arrays("l1", lstm),
        "l2": old_arrays("l2", gru),
        "l3": dense,
    }
    new_weights = {
        "l0": {"kernel:0": conv[0], "bias:0": conv[1]},
        "l1": new_arrays(lstm, "i f c o"),
        "l2": new_arrays(gru, "z r h"),
        "l3": dict(zip(("kernel:0", "bias:0"), dense.values(), strict=True)),
    }
    config = keras_files.sequential(*old)
    config["config"] = config["config"]["layers"][1:]
    config["config"][0]["config"]["batch_input_shape"] = [None, None, 5]
    one = keras_files.write_h5(folder / "old.h5", config, old_weights, version=None)
    two = keras_files.write_h5(folder / "new.h5", keras_files.sequential(*new), new_weights)
    return one, two


Gates = dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]


def gates(names: str, inputs: int, units: int) -> Gates:
    """W, U and b of each gate, in the order of Keras 1."""
    rng = np.random.default_rng(units)
    shapes = ((inputs, units), (units, units), (units,))
    return {
        name: tuple(rng.normal(size=shape).astype(np.float32) for shape in shapes)
        for name in names.split()
    }


def old_arrays(layer: str, values: Gates) -> dict[str, np.ndarray]:
    return {
        f"{layer}_{kind}_{gate}": array
        for gate, arrays in values.items()
        for kind, array in zip("WUb", arrays, strict=True)
    }


def new_arrays(values: Gates, order: str) -> dict[str, np.ndarray]:
    parts = zip(*(values[gate] for gate in order.split()), strict=True)
    names = ("kernel:0", "recurrent_kernel:0", "bias:0")
    return dict(zip(names, (np.concatenate(part, axis=-1) for part in parts), strict=True))


def test_keras_1(tmp_path: Path) -> None:
    old, new = (load(path) for path in of_keras_1(tmp_path))
    x = np.random.default_rng(1).normal(size=(23, 5)).astype(np.float32)
    np.testing.assert_array_equal(by_torch(old, x), by_torch(new, x))
    assert old.provenance["original_parameters"] == new.provenance["original_parameters"]

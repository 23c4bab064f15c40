"""Keras files that cannot be imported: one line that says what was found and what to do."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import h5py
import keras_files
import numpy as np
import pytest
from keras_files import dense, dense_weights, sequential, write_h5

from tinyvox.errors import ImporterError
from tinyvox.importers import load
from tinyvox.importers.hdf5 import contents

WEIGHTS = {"l0": dense_weights()}


def refused(path: Path, message: str) -> None:
    """The file is refused in one line, with its name."""
    with pytest.raises(ImporterError) as caught:
        load(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    assert re.search(message, text), text


def test_the_smallest_file_is_imported(tmp_path: Path) -> None:
    model = load(write_h5(tmp_path / "m.h5", sequential(dense()), WEIGHTS))
    assert [node.name for node in model.nodes] == ["l0"]
    assert load(write_h5(tmp_path / "m.hdf5", sequential(dense()), WEIGHTS)).input_size == 5


# What the file is


def test_weights_alone(tmp_path: Path) -> None:
    path = tmp_path / "weights.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"lstm", b"dense"]
        file.create_group("lstm")
    refused(path, r"holds weights alone, of 2 layers \(lstm, dense\.\.\.\).*model\.load_weights")
    with h5py.File(path, "w") as file:
        file.create_group("layers/dense/vars")
    refused(path, r"holds weights alone \(save_weights\).*model\.save\('NAME\.keras'\)")


def test_a_file_without_one_of_its_halves(tmp_path: Path) -> None:
    refused(write_h5(tmp_path / "a.h5", None, WEIGHTS), "has weights, but no model_config")
    refused(write_h5(tmp_path / "b.h5", sequential(dense()), None), "but no weights")
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["data"] = np.zeros(3)
    refused(tmp_path / "c.h5", "is an HDF5 file, but no model that Keras saved")


def test_files_of_other_kinds(tmp_path: Path) -> None:
    for name in ("m.h5", "m.keras", "m.hdf5"):
        (tmp_path / name).write_bytes(b"something else entirely")
        refused(tmp_path / name, "the HDF5 file cannot be read")
        (tmp_path / name).write_bytes(b"")
        refused(tmp_path / name, "the HDF5 file cannot be read")
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        archive.writestr("something.txt", "")
    refused(tmp_path / "m.keras", r"zip file with \['something.txt'\], expected config.json")


def test_the_suffix_does_not_matter(tmp_path: Path) -> None:
    """A file is read by what it is."""
    one = keras_files.unpacked("dense.2.h5", tmp_path).rename(tmp_path / "one.keras")
    two = keras_files.unpacked("dense.3.keras", tmp_path).rename(tmp_path / "two.h5")
    assert load(one).input_size == load(two).input_size == 5
    other = one.rename(tmp_path / "one.bin")
    with pytest.raises(ImporterError, match=r"is an HDF5 file, as Keras saves models; give it the"):
        load(other)


@pytest.mark.parametrize("name", ["lstm.2.h5", "lstm.3.keras"])
def test_truncated_files(name: str, tmp_path: Path) -> None:
    held = keras_files.data(name)
    path = tmp_path / name
    for size in range(0, len(held) - 1, len(held) // 40):
        path.write_bytes(held[:size])
        with pytest.raises(ImporterError, match="cannot be read"):
            load(path)


def test_a_model_of_a_class_of_its_own(tmp_path: Path) -> None:
    model = {"class_name": "MyModel", "config": {"units": 3}}
    refused(write_h5(tmp_path / "m.h5", model, WEIGHTS), "model of the class MyModel, whose")


def test_without_h5py(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_h5(tmp_path / "m.h5", sequential(dense()), WEIGHTS)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    refused(path, r"the package h5py, which is not installed; pip install h5py, .*tinyvox\[keras\]")


def test_h5py_is_not_imported() -> None:
    """Only the process that reads a file needs it."""
    code = "import sys, tinyvox.importers.keras.assembly; sys.exit('h5py' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("program", "reason"),
    [("while True: pass", "takes too long"), ("import os; os.abort()", "fails")],
)
def test_a_file_on_which_libhdf5_hangs_or_crashes(
    program: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = tmp_path / "reader.py"
    reader.write_text(program)
    monkeypatch.setattr(contents, "_READER", reader)
    monkeypatch.setattr(contents, "_SECONDS", 0.2)
    path = write_h5(tmp_path / "m.h5", sequential(dense()), WEIGHTS)
    refused(path, f"the HDF5 file cannot be read, the file is damaged: reading it {reason}")


# Its JSON


def test_json_that_is_none(tmp_path: Path) -> None:
    for text in ("{", "", "[" * 100_000, "nonsense"):
        refused(write_h5(tmp_path / "m.h5", text, WEIGHTS), "model_config")
    refused(write_h5(tmp_path / "m.h5", "[]", WEIGHTS), r"model_config is \[\], expected an object")


def test_json_that_is_huge(tmp_path: Path) -> None:
    path = write_h5(tmp_path / "m.h5", "[" + "[]," * (3 << 20) + "1]", WEIGHTS)
    refused(path, "model_config has 9,437,187 bytes, expected 8,388,608 at most")


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (dense(units="3"), r"layer l0 \(Dense\): units is '3', expected a whole number"),
        (dense(units=-1), "units is -1, expected a whole number from 1"),
        (dense(units=10**12), "units is 1000000000000, expected a whole number"),
        (dense(units=None), "units is None"),
        (dense(activation="my_relu"), "the activation 'my_relu' is not supported, expected one of"),
        (
            dense(activation={"class_name": "function", "config": "Custom>clipped"}),
            "is a function of its own, whose formula is not in the file",
        ),
        (dense(use_bias="no"), "use_bias is 'no', expected true or false"),
        (("Embedding", {"input_dim": 3}), r"layer l0 \(Embedding\): Embedding is not supported"),
        (("Lambda", {"function": ["4wAAAA==", None]}), "holds Python code, which is never run"),
        (("Flatten", {}), "joins all frames .* into one"),
        (("RepeatVector", {"n": 3}), "RepeatVector is not supported"),
        (("Conv1D", {"filters": 3, "kernel_size": [3, 3]}), r"kernel_size is \[3, 3\], expected 1"),
        (("LSTM", {"units": 3, "activation": "elu"}), "the activation of its cells is 'elu'"),
        (("LSTM", {"units": 3, "recurrent_activation": "tanh"}), "its gates are 'tanh'"),
        (("Reshape", {"target_shape": [7, -1, -1]}), "does not fit the shape"),
        (("ReLU", {"threshold": 1.0}), "threshold 1.0; expected a limit alone"),
        (("ReLU", {"max_value": -1.0}), "clipped_relu"),
        (("Cropping1D", {"cropping": [1, 10**6]}), "cuts off 1 and 1000000 frames"),
        (("BatchNormalization", {"axis": 1}), "works on axis 1 of"),
        (("Bidirectional", {"layer": "LSTM"}), "layer is 'LSTM', expected an object"),
    ],
)
def test_layers(layer: tuple[str, dict[str, Any]], message: str, tmp_path: Path) -> None:
    refused(write_h5(tmp_path / "m.h5", sequential(layer), WEIGHTS), message)


def reversed_layer(tmp_path: Path) -> Path:
    settings = {"units": 3, "go_backwards": True, "return_sequences": True, "reset_after": False}
    arrays = {"kernel:0": (5, 9), "recurrent_kernel:0": (3, 9), "bias:0": (9,)}
    weights = {name: np.ones(shape, np.float32) for name, shape in arrays.items()}
    return write_h5(tmp_path / "m.h5", sequential(("GRU", settings)), {"l0": weights})


def test_reversed_output(tmp_path: Path) -> None:
    refused(reversed_layer(tmp_path), r"last frame first \(go_backwards\)")


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (None, r"input in has shape None, expected \[batch, frames, features\]"),
        ([None, None, None], "expected one free size after the batch"),
        ([None, None, 10**30], "a size of the input is 1000000000"),
        ([None, 2, 3, 4, 5], r"or \[batch, frames, bands, channels\]"),
        ("many", "has shape 'many'"),
    ],
)
def test_inputs(shape: object, message: str, tmp_path: Path) -> None:
    model = sequential(dense())
    model["config"]["layers"][0]["config"]["batch_input_shape"] = shape
    refused(write_h5(tmp_path / "m.h5", model, WEIGHTS), message)


def functional(*layers: tuple[str, str, dict[str, Any], list[str]], out: str) -> dict[str, Any]:
    """A Functional model of (name, class, settings, inputs)."""
    made = [
        {
            "name": name,
            "class_name": kind,
            "config": {"name": name, **config},
            "inbound_nodes": [[[each, 0, 0, {}] for each in inputs]] if inputs else [],
        }
        for name, kind, config, inputs in layers
    ]
    inputs = [[name, 0, 0] for name, kind, _, _ in layers if kind == "InputLayer"]
    config = {"layers": made, "input_layers": inputs, "output_layers": [[out, 0, 0]]}
    return {"class_name": "Model", "config": config}


FEATURES = ("x", "InputLayer", {"batch_input_shape": [None, None, 5]}, [])


def test_circles_and_names_that_no_layer_has(tmp_path: Path) -> None:
    circle = functional(
        FEATURES, ("l0", "Add", {}, ["x", "l1"]), ("l1", "Activation", {}, ["l0"]), out="l1"
    )
    refused(write_h5(tmp_path / "m.h5", circle, WEIGHTS), "runs in a circle at l1")
    wrong = functional(FEATURES, ("l0", "Activation", {}, ["other"]), out="l0")
    refused(write_h5(tmp_path / "m.h5", wrong, WEIGHTS), "names 'other', which is no layer")


def test_two_inputs(tmp_path: Path) -> None:
    other = ("y", *FEATURES[1:])
    model = functional(FEATURES, other, ("l0", "Add", {}, ["x", "y"]), out="l0")
    refused(write_h5(tmp_path / "m.h5", model, WEIGHTS), "takes inputs x, y; expected one")


def test_models_in_models_without_end(tmp_path: Path) -> None:
    """A small file can ask for any number of layers."""
    model = functional(FEATURES, ("l0", "Activation", {"activation": "tanh"}, ["x"]), out="l0")
    for level in range(40):
        name = f"a{level}"
        outer = functional(FEATURES, (name, "Model", model["config"], ["x"]), out=name)
        outer["config"]["layers"][1]["inbound_nodes"].append([[name, 0, 0, {}]])  # used twice
        outer["config"]["output_layers"] = [[name, 1, 0]]
        model = outer
    refused(write_h5(tmp_path / "m.h5", json.dumps(model), WEIGHTS), "uses more than 4000 layers")


def test_frames_that_double_without_end(tmp_path: Path) -> None:
    layers, last = [FEATURES], "x"
    for i in range(60):
        layers.append((f"c{i}", "Concatenate", {}, [last, last]))
        last = f"c{i}"
    layers.append(("n", "LayerNormalization", {"scale": False, "center": False}, [last]))
    refused(write_h5(tmp_path / "m.h5", functional(*layers, out="n"), WEIGHTS), "has frames of")


# Its arrays


def arrays_refused(folder: Path, kernel: object, message: str) -> None:
    weights = {"l0": {**dense_weights(), "kernel:0": np.asarray(kernel)}}
    refused(write_h5(folder / "m.h5", sequential(dense()), weights), message)


def test_arrays_that_do_not_fit(tmp_path: Path) -> None:
    arrays_refused(
        tmp_path,
        np.zeros((5, 4), np.float32),
        r"layer l0 \(Dense\): the kernel has shape \[5, 4\], expected \[5, 3\]",
    )
    arrays_refused(tmp_path, np.full((5, 3), np.nan, np.float32), "kernel:0 holds NaN or infinity")
    arrays_refused(tmp_path, np.full((5, 3), 1e300), "kernel:0 holds NaN or infinity")
    arrays_refused(tmp_path, np.zeros((5, 3), np.int8), "holds int8 values, expected floats")
    one = {"l0": {"kernel:0": dense_weights()["kernel:0"]}}
    refused(write_h5(tmp_path / "m.h5", sequential(dense()), one), "has no bias")
    more = {"l0": {**dense_weights(), "more:0": np.zeros(3)}}
    refused(
        write_h5(tmp_path / "m.h5", sequential(dense()), more), "holds 3 arrays of it, expected"
    )
    refused(write_h5(tmp_path / "m.h5", sequential(dense()), {"other": {}}), "has no kernel")


def test_padding_that_is_none(tmp_path: Path) -> None:
    layer = ("Conv1D", {"filters": 3, "kernel_size": 3, "padding": "full"})
    weights = {"l0": {"kernel:0": np.ones((3, 5, 3)), "bias:0": np.ones(3)}}
    refused(write_h5(tmp_path / "m.h5", sequential(layer), weights), "padding is 'full'")


def with_kernel(path: Path, put: Any) -> Path:
    """A file whose kernel is whatever `put(group)` writes as `kernel:0`."""
    write_h5(path, sequential(dense()), WEIGHTS)
    with h5py.File(path, "r+") as file:
        group = file["model_weights/l0"]
        del group["kernel:0"]
        put(group)
    return path


def test_links_are_not_followed(tmp_path: Path) -> None:
    write_h5(tmp_path / "other.h5", sequential(dense()), WEIGHTS)
    there = "/model_weights/l0/kernel:0"
    links = [h5py.ExternalLink(str(tmp_path / "other.h5"), there), h5py.SoftLink(there)]
    for link in links:
        path = with_kernel(tmp_path / "m.h5", lambda g, link=link: g.__setitem__("kernel:0", link))
        refused(path, "kernel:0 is a link to another place or file, which is not followed")


def test_arrays_in_other_files_are_not_read(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.write_bytes(bytes(60))

    def external(group: h5py.Group) -> None:
        group.create_dataset("kernel:0", (5, 3), np.float32, external=[(str(raw), 0, 60)])

    def virtual(group: h5py.Group) -> None:
        layout = h5py.VirtualLayout((5, 3), np.float32)
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "data", (5, 3))
        group.create_virtual_dataset("kernel:0", layout)

    for put in (external, virtual):
        refused(with_kernel(tmp_path / "m.h5", put), "lies in another file, which is not read")


def test_a_huge_array_that_takes_no_bytes(tmp_path: Path) -> None:
    """HDF5 can declare any shape with a fill value, or compress zeros to nothing."""
    huge = 1 << 23

    def declared(group: h5py.Group) -> None:
        group.create_dataset("kernel:0", (5, huge), np.float32, chunks=(5, 1024))

    path = with_kernel(tmp_path / "m.h5", declared)
    with h5py.File(path, "r+") as file:
        file.attrs["model_config"] = json.dumps(sequential(dense(units=huge)))
    refused(path, "more than 16 times the file's .* bytes")


def test_a_zip_file_that_unpacks_to_anything(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", json.dumps(sequential(dense())))
        archive.writestr("model.weights.h5", bytes(1 << 26))
    refused(path, r"model\.weights\.h5 unpacks to more than")


def test_groups_that_hold_themselves(tmp_path: Path) -> None:
    path = write_h5(tmp_path / "m.h5", sequential(dense()), WEIGHTS)
    with h5py.File(path, "r+") as file:
        group = file["model_weights/l0"]
        group["again"] = group
        names = [b"again/again/again/kernel:0", b"again/bias:0"]
        group.attrs["weight_names"] = names
    refused(path, "again/again/again/kernel:0 is missing")


def test_no_code_of_a_lambda_is_run(tmp_path: Path) -> None:
    """The code that Keras would unmarshal and run is left alone, whatever it is."""
    code = {"class_name": "__lambda__", "config": {"code": "4wAAAAAAAAAA", "defaults": None}}
    layer = ("Lambda", {"function": code, "module": "os", "function_type": "lambda"})
    refused(write_h5(tmp_path / "m.h5", sequential(layer), WEIGHTS), "never run")
    assert not any(name in sys.modules for name in ("keras", "tensorflow", "tf_keras"))

"""The models that Keras saved, in fixtures.zip, and files made by hand."""

from __future__ import annotations

import functools
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from places import ROOT

FIXTURES = ROOT / "tests" / "importers" / "keras" / "fixtures.zip"
SUFFIXES = (".h5", ".keras")


def names() -> list[str]:
    """The model files: `lstm.2.h5` is that of Keras 2."""
    with zipfile.ZipFile(FIXTURES) as archive:
        return sorted(name for name in archive.namelist() if name.endswith(SUFFIXES))


@functools.cache
def data(name: str) -> bytes:
    with zipfile.ZipFile(FIXTURES) as archive:
        return archive.read(name)


def unpacked(name: str, folder: Path) -> Path:
    """A model file in a folder."""
    path = folder / name
    path.write_bytes(data(name))
    return path


def outputs(name: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """What the model of this file takes and what Keras computes of it, [frames, ...] each."""
    arrays = np.load(io.BytesIO(data(f"{name.rsplit('.', 1)[0]}.npz")))
    return [(arrays[f"x{end}"], arrays[f"y{end}"]) for end in ("", "_long") if f"x{end}" in arrays]


def sequential(*layers: tuple[str, dict[str, Any]], size: int = 5) -> dict[str, Any]:
    """The JSON of a Sequential model of Keras 2, of (class, settings); layers are `l0`, `l1`..."""
    shape = [None, None, size]
    first = {"class_name": "InputLayer", "config": _named("in", batch_input_shape=shape)}
    rest = [
        {"class_name": kind, "config": {"name": f"l{i}", **config}}
        for i, (kind, config) in enumerate(layers)
    ]
    return {"class_name": "Sequential", "config": {"name": "model", "layers": [first, *rest]}}


def _named(name: str, **config: Any) -> dict[str, Any]:
    return {"name": name, **config}


def write_keras(path: Path, model: dict[str, Any], arrays: dict[str, np.ndarray]) -> Path:
    """A zip file as Keras 3 writes it; `arrays` by their paths, such as `layers/dense/vars/0`."""
    weights = io.BytesIO()
    with h5py.File(weights, "w") as file:
        for name, values in arrays.items():
            file[name] = values
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(model))
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.15.0"}))
        archive.writestr("model.weights.h5", weights.getvalue())
    return path


def dense(units: int = 3, **config: Any) -> tuple[str, dict[str, Any]]:
    return "Dense", {"units": units, "activation": "linear", **config}


def write_h5(
    path: Path,
    model: dict[str, Any] | str | None,
    weights: dict[str, dict[str, np.ndarray]] | None,
    version: str | None = "2.15.0",
) -> Path:
    """An HDF5 file as Keras 1 and 2 write it; `weights` by the names of layer and array."""
    with h5py.File(path, "w") as file:
        if model is not None:
            file.attrs["model_config"] = model if isinstance(model, str) else json.dumps(model)
        if version is not None:
            file.attrs["keras_version"] = version
        for layer, arrays in (weights or {}).items():
            group = file.require_group("model_weights").create_group(layer)
            group.attrs["weight_names"] = [name.encode() for name in arrays]
            for name, values in arrays.items():
                group[name] = values
    return path


def dense_weights(inputs: int = 5, units: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(inputs, units)).astype(np.float32)
    return {"kernel:0": kernel, "bias:0": rng.normal(size=units).astype(np.float32)}


def edited_json(name: str, path: Path, change: Callable[[Any], Any]) -> Path:
    """The model file with its JSON changed."""
    if name.endswith(".keras"):
        with zipfile.ZipFile(io.BytesIO(data(name))) as old, zipfile.ZipFile(path, "w") as new:
            for part in old.namelist():
                held = old.read(part)
                if part == "config.json":
                    held = json.dumps(change(json.loads(held))).encode()
                new.writestr(part, held)
        return path
    path.write_bytes(data(name))
    with h5py.File(path, "r+") as file:
        text = json.dumps(change(json.loads(file.attrs["model_config"])))
        del file.attrs["model_config"]
        file.attrs["model_config"] = text
    return path

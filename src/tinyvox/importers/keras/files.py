"""What Keras saved: an HDF5 file with JSON in an attribute, or a zip file of both."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py

from tinyvox.errors import ImporterError
from tinyvox.importers.keras.hdf5 import Hdf5, reading
from tinyvox.importers.keras.settings import Settings, parsed, shown
from tinyvox.importers.keras.stored import LegacyModel, TreeWeights, Weights
from tinyvox.importers.keras.topology import MODELS

_LARGEST_JSON = 1 << 26
_EXPANSION = 16
_SAVE = "build the model in Keras, model.load_weights(FILE), model.save('NAME.keras')"


@dataclass(frozen=True)
class Saved:
    """A model in a file: its class, its settings (a list in old files), and its weights."""

    kind: str
    config: Settings | list[object]
    weights: Weights
    version: int
    backend: str = "tensorflow"


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Saved]:
    """The model in a file, by what the file is and not by its suffix. Raises ImporterError."""
    with path.open("rb") as file:
        start = file.read(4)
    with _zipped(path) if start == b"PK\x03\x04" else _plain(path) as saved:
        yield saved


@contextlib.contextmanager
def _hdf5(source: Path | io.BytesIO, size: int) -> Iterator[Hdf5]:
    what = "model.weights.h5 in it" if isinstance(source, io.BytesIO) else "the HDF5 file"
    with reading(what):
        file = h5py.File(source, "r", locking=False)
    try:
        yield Hdf5(file, size)
    finally:
        with reading(what):
            file.close()


@contextlib.contextmanager
def _plain(path: Path) -> Iterator[Saved]:
    """The model in an HDF5 file."""
    with _hdf5(path, path.stat().st_size) as hdf5:
        file = hdf5.root
        text = hdf5.attribute(file, "model_config")
        group = hdf5.group(file, "model_weights")
        if not isinstance(text, str) or group is None:
            raise ImporterError(_what_else(hdf5))
        given = hdf5.attribute(file, "keras_version") or hdf5.attribute(group, "keras_version")
        saved = _saved(parsed(text, "model_config"), LegacyModel(hdf5, group), given or "1")
        backend = hdf5.attribute(file, "backend") or hdf5.attribute(group, "backend")
        yield dataclasses.replace(saved, backend=str(backend or saved.backend))


@contextlib.contextmanager
def _zipped(path: Path) -> Iterator[Saved]:
    """The model in a zip file of Keras 3, or of Keras 2.12 and later."""
    with reading("the zip file"), zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if "config.json" not in names or "model.weights.h5" not in names:
            raise ImporterError(
                f"is a zip file with {shown(names[:3])}, expected config.json and "
                "model.weights.h5; save the model with model.save('NAME.keras')"
            )
        config = parsed(_read(archive, "config.json", _LARGEST_JSON), "config.json")
        metadata = Settings({})
        if "metadata.json" in names:
            metadata = parsed(_read(archive, "metadata.json", _LARGEST_JSON), "metadata.json")
        weights = _read(archive, "model.weights.h5", path.stat().st_size * _EXPANSION)
    with _hdf5(io.BytesIO(weights), len(weights)) as hdf5:
        version = metadata.text("keras_version", "3")
        yield _saved(config, TreeWeights(hdf5, hdf5.root), version)


def _read(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """A part of a zip file, of at most so many bytes: a few can unpack to any number."""
    with archive.open(name) as file:
        found = file.read(most + 1)
    if len(found) > most:
        raise ImporterError(f"{name} unpacks to more than {most:,} bytes; the file is damaged")
    return found


def _saved(model: Settings, weights: Weights, version: object) -> Saved:
    kind = model.text("class_name")
    config = model.get("config")
    number = re.match(r"\d+", version) if isinstance(version, str) else None
    if number is None:
        raise ImporterError(f"keras_version is {shown(version)}, expected a number")
    if isinstance(config, dict):
        config = Settings(config)
        if kind not in MODELS and "layers" not in config:
            raise ImporterError(
                f"is a model of the class {kind}, whose computation is not in the file; build it "
                "as keras.Sequential or keras.Model(inputs, outputs), copy the weights, save it"
            )
    elif not isinstance(config, list):
        raise ImporterError(f"the model's config is {shown(config)}, expected its layers")
    return Saved(kind, config, weights, int(number[0]))


def _what_else(hdf5: Hdf5) -> str:
    """What an HDF5 file is that holds no whole model, and what to do."""
    layers = hdf5.names(hdf5.root, "layer_names")
    if hdf5.attribute(hdf5.root, "model_config") is not None:
        return "has the model's JSON, but no weights (model_weights); save the whole model again"
    group = hdf5.group(hdf5.root, "model_weights")
    if group is not None:
        return f"has weights, but no model_config: the computation is not in the file; {_SAVE}"
    if layers:
        count, some = len(layers), ", ".join(layers[:4])
        return (
            f"holds weights alone, of {count} layers ({some}...), and not what they compute; "
            f"{_SAVE}; for a part of a model, save keras.Model(INPUT, OUTPUT) of that part"
        )
    if hdf5.group(hdf5.root, "layers") is not None or hdf5.group(hdf5.root, "vars") is not None:
        return f"holds weights alone (save_weights), and not what they compute; {_SAVE}"
    return "is an HDF5 file, but no model that Keras saved; expected model_config and weights"

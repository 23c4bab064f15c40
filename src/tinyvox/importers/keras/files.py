"""What Keras saved: an HDF5 file with JSON in an attribute, or a zip file of both."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tinyvox.errors import ImporterError
from tinyvox.importers.hdf5 import Contents, contents_of
from tinyvox.importers.keras.settings import LARGEST_JSON, Settings, parsed, shown
from tinyvox.importers.keras.stored import LegacyModel, TreeWeights, Weights
from tinyvox.importers.keras.topology import MODELS

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


def opened(path: Path) -> Saved:
    """The model in a file, by what the file is and not by its suffix. Raises ImporterError."""
    with path.open("rb") as file:
        start = file.read(4)
    return _zipped(path) if start == b"PK\x03\x04" else _plain(path)


def _plain(path: Path) -> Saved:
    """The model in an HDF5 file."""
    contents = contents_of(path, "the HDF5 file")
    text = contents.attribute("", "model_config")
    if not isinstance(text, str) or not contents.is_group("/model_weights"):
        raise ImporterError(_what_else(contents))
    version, backend = (
        contents.attribute("", key) or contents.attribute("/model_weights", key)
        for key in ("keras_version", "backend")
    )
    saved = _saved(parsed(text, "model_config"), LegacyModel(contents), version or "1")
    return dataclasses.replace(saved, backend=str(backend or saved.backend))


def _zipped(path: Path) -> Saved:
    """The model in a zip file of Keras 3, or of Keras 2.12 and later."""
    with _unzipping(), zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as folder:
        names = archive.namelist()
        if "config.json" not in names or "model.weights.h5" not in names:
            raise ImporterError(
                f"is a zip file with {shown(names[:3])}, expected config.json and "
                "model.weights.h5; save the model with model.save('NAME.keras')"
            )
        config = parsed(_read(archive, "config.json", LARGEST_JSON), "config.json")
        metadata = Settings({})
        if "metadata.json" in names:
            metadata = parsed(_read(archive, "metadata.json", LARGEST_JSON), "metadata.json")
        weights = Path(folder, "model.weights.h5")
        most = path.stat().st_size * _EXPANSION
        weights.write_bytes(_read(archive, "model.weights.h5", most))
        contents = contents_of(weights, "model.weights.h5 in it")
    return _saved(config, TreeWeights(contents), metadata.text("keras_version", "3"))


@contextlib.contextmanager
def _unzipping() -> Iterator[None]:
    """Errors of a damaged zip file as ImporterError."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, ValueError) as error:
        raise ImporterError(
            f"the zip file cannot be read, it is damaged: {error}; save the model again"
        ) from error


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


def _what_else(contents: Contents) -> str:
    """What an HDF5 file is that holds no whole model, and what to do."""
    if contents.attribute("", "model_config") is not None:
        return "has the model's JSON, but no weights (model_weights); save the whole model again"
    if contents.is_group("/model_weights"):
        return f"has weights, but no model_config: the computation is not in the file; {_SAVE}"
    layers = contents.names("", "layer_names")
    if layers:
        return (
            f"holds weights alone, of {len(layers)} layers ({', '.join(layers[:4])}...), and not "
            f"what they compute; {_SAVE}; for a part of a model, save keras.Model(INPUT, OUTPUT) "
            "of that part; or say what they are in NAME.layers.yaml beside it"
        )
    if contents.is_group("/layers") or contents.is_group("/vars"):
        return f"holds weights alone (save_weights), and not what they compute; {_SAVE}"
    return "is an HDF5 file, but no model that Keras saved; expected model_config and weights"

"""Keras files with changed bytes and changed JSON: imported, or refused in one line.

`TINYVOX_EXAMPLES=10000` draws so many of each kind.
"""

from __future__ import annotations

import copy
import functools
import io
import json
import random
import resource
import tempfile
import zipfile
from pathlib import Path
from typing import Any
from unittest import mock

import keras_files
import pytest
from examples import examples
from hypothesis import example, given
from hypothesis import strategies as st

from tinyvox.errors import TinyvoxError
from tinyvox.importers import load
from tinyvox.importers.hdf5 import Contents, contents
from tinyvox.importers.keras import files

NAMES = keras_files.names()
MEMORY = 500 * 1024  # KiB above what the process had before
ODD = (
    None, True, -1, 0, 1, 3, 10**9, 10**30, 0.5, float("nan"), float("inf"), "", "x", "linear",
    "LSTM", "Model", "Sequential", "Functional", "TimeDistributed", [], [1], [None], {},
    {"config": {}}, [["features", 0, 0]], {"class_name": "Dense", "config": {"units": 3}},
)  # fmt: skip


def check(path: Path) -> None:
    """The file gives a model, or an error in one line, and takes no more memory than it should."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    message = ""
    try:
        assert load(path).nodes
    except TinyvoxError as error:
        message = str(error)
    assert not message or message.startswith(f"{path}: "), message
    assert "\n" not in message
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEMORY


def with_bytes_changed(data: bytes, rng: random.Random) -> bytes:
    """Bytes set, swapped, cut out or doubled, a few at a time."""
    held = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        at = rng.randrange(len(held))
        what = rng.randrange(5)
        if what == 0:
            held[at] = rng.randrange(256)
        elif what == 1:
            held[at] ^= 1 << rng.randrange(8)
        elif what == 2:
            held[at : at + 8] = rng.choice((b"\xff" * 8, bytes(8), rng.randbytes(8)))
        elif what == 3:
            del held[at : at + rng.randrange(1, 64)]
        else:
            held[at:at] = held[at : at + rng.randrange(1, 64)]
        held = held or bytearray(1)
    return bytes(held)


def with_weights_changed(data: bytes, rng: random.Random) -> bytes:
    """A `.keras` file in which the bytes of a part are changed, and its checksum is right."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        changed = rng.choice(old.namelist())
        for part in old.namelist():
            held = old.read(part)
            new.writestr(part, with_bytes_changed(held, rng) if part == changed else held)
    return out.getvalue()


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where every value in a JSON document stands."""
    found = [path] if path else []
    inside: Any = value.items() if isinstance(value, dict) else ()
    for key, each in enumerate(value) if isinstance(value, list) else inside:
        found += places(each, (*path, key))
    return found


def with_value_changed(document: Any, rng: random.Random) -> Any:
    """Values replaced by odd ones or by each other, or left out."""
    document = copy.deepcopy(document)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        all_places = places(document)
        if not all_places:
            break
        *way, last = rng.choice(all_places)
        holder = at(document, way)
        if rng.random() < 0.2:
            del holder[last]
        elif rng.random() < 0.3:
            holder[last] = copy.deepcopy(at(document, rng.choice(all_places)))
        else:
            holder[last] = copy.deepcopy(rng.choice(ODD))
    return document


def at(document: Any, way: tuple[Any, ...] | list[Any]) -> Any:
    for key in way:
        document = document[key]
    return document


@examples(25)
@given(name=st.sampled_from(NAMES), seed=st.integers(0, 2**64))
def test_changed_bytes(name: str, seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    change = rng.choice((with_bytes_changed, with_weights_changed))
    if name.endswith(".h5"):
        change = with_bytes_changed
    path = tmp_path / f"changed{Path(name).suffix}"
    path.write_bytes(change(keras_files.data(name), rng))
    check(path)


@functools.cache
def contents_of(name: str) -> Contents:
    """What the HDF5 file of a model holds."""
    with tempfile.TemporaryDirectory() as folder:
        path = keras_files.unpacked(name, Path(folder))
        if name.endswith(".keras"):
            with zipfile.ZipFile(path) as archive:
                path = Path(archive.extract("model.weights.h5", folder))
        return contents.contents_of(path, name)


def with_model(held: Contents, model: str) -> Contents:
    """The same arrays with another model_config."""
    objects = copy.deepcopy(held._objects)
    objects[""]["attributes"]["model_config"] = model
    return Contents(objects, held._values)


@examples(300)
@given(name=st.sampled_from(NAMES), seed=st.integers(0, 2**64))
@example(name="gru.3.h5", seed=4038019)  # joins tensors of two and of three dimensions
def test_changed_json(name: str, seed: int, tmp_path: Path) -> None:
    """The arrays are read once for all: each file would take a process."""
    rng = random.Random(seed)
    path, held = tmp_path / f"changed{Path(name).suffix}", contents_of(name)
    if name.endswith(".keras"):
        keras_files.edited_json(name, path, lambda model: with_value_changed(model, rng))
    else:
        path.write_bytes(keras_files.data(name))
        model = json.loads(str(held.attribute("", "model_config")))
        held = with_model(held, json.dumps(with_value_changed(model, rng)))
    with mock.patch.object(files, "contents_of", return_value=held):
        check(path)


@pytest.mark.parametrize("name", ["lstm.2.h5", "lstm.3.keras"])
def test_unchanged_json_is_imported(name: str, tmp_path: Path) -> None:
    """The way in which files are changed does not break them by itself."""
    path = keras_files.edited_json(name, tmp_path / name, lambda held: json.loads(json.dumps(held)))
    assert load(path).nodes

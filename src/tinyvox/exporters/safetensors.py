"""A model's tensors as a `.safetensors` file: codes as codes, with what they stand for beside them.

`docs/how-to/export.md` says which tensors stand for a matrix, and has the lines that decode it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyvox.exporters.forms import Form, named_leaves
from tinyvox.exporters.packages import needs
from tinyvox.model import Binary, Coded, Dense, Grid, Model, Table, card_text
from tinyvox.storage import write_file

Array = npt.NDArray[Any]

VERSION = "1"
"""The version of the layout."""


def export_safetensors(model: Model, path: Path) -> Sequence[Form]:
    """Write every tensor of a model as `.safetensors`, and say how each stands there.

    The metadata has the layers and the speech card. A factor that several products share is stored
    once, under the first name. The file appears whole or not at all. Raises FileError where it
    cannot be written, or where the package safetensors is missing.
    """
    needs("safetensors", path)
    from safetensors.numpy import save

    shared: dict[str, str] = {}
    leaves = dict(named_leaves(model, shared))
    arrays = {n: a for name, leaf in leaves.items() for n, a in _arrays(name, leaf).items()}
    arrays |= {name: vector.numpy() for name, vector in model.vectors()}
    forms = [Form(name, _form(leaf), _bytes(name, leaf)) for name, leaf in leaves.items()]
    forms += [Form(name, "float32", arrays[name].nbytes) for name, _ in model.vectors()]
    packed = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    write_file(path, save(packed, _metadata(model, shared)))
    return forms


def _arrays(name: str, leaf: Dense | Coded) -> dict[str, Array]:
    """The tensors of the file that stand for a leaf."""
    if isinstance(leaf, Dense):
        return {name: leaf.values.numpy()}
    found = {"codes": leaf.codes, "scale": leaf.scale}
    book = leaf.codebook
    if isinstance(book, Grid):
        found["zero"] = book.zero
    elif isinstance(book, Binary):
        found["alphas"] = book.alphas
    else:
        found["centroids"] = book.centroids
        if book.centroids.ndim == 2:
            found["row_group"] = leaf.row_group_index
    small = {"zero": np.uint8, "row_group": np.uint8}
    return {
        f"{name}.{key}": value.numpy().astype(small.get(key, value.numpy().dtype))
        for key, value in found.items()
    }


def _bytes(name: str, leaf: Dense | Coded) -> int:
    return sum(array.nbytes for array in _arrays(name, leaf).values())


def _form(leaf: Dense | Coded) -> str:
    if isinstance(leaf, Dense):
        return "float32"
    kinds = {Grid: "grid", Table: "table", Binary: "binary codes"}
    return f"uint8 codes, {kinds[type(leaf.codebook)]} of {leaf.codebook.entries} levels"


def _metadata(model: Model, shared: dict[str, str]) -> dict[str, str]:
    layers = [
        {
            "name": n.name,
            "layer": type(n.layer).__name__,
            "inputs": n.inputs,
            "settings": {k: v for k, v in n.layer.settings().items() if v is not None},
        }
        for n in model.nodes
    ]
    facts = {"layers": layers, "shared": shared}
    metadata = {key: json.dumps(value) for key, value in facts.items()}
    metadata |= {"format": "tinyvox", "version": VERSION, "input_size": str(model.input_size)}
    return metadata if model.card is None else {**metadata, "speech_card": card_text(model.card)}

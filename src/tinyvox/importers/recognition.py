"""What a file is that is no model file of ours: by its first bytes, whatever its name."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

_EXPORT = (
    "build the module, load its weights, then tinyvox.from_torch(module.eval(), example), or "
    "torch.export.save(torch.export.export(module.eval(), (example,)), 'NAME.pt2')"
)


_HEADER = 30
"""Bytes before the name of the first part of a zip file."""


def recognized(path: Path) -> str | None:
    """What a file of another kind is, and what to do; None for an exported program or where it is
    not known."""
    with path.open("rb") as file:
        start = file.read(_HEADER + 512)
    zipped = start[:4] == b"PK\x03\x04" and b"/data.pkl" in start[_HEADER:]
    if zipped or start[:1] == b"\x80":
        if zipped and _has(path, "/constants.pkl"):
            return f"holds a TorchScript module, not an exported program; {_EXPORT}"
        return (
            "holds what torch.save wrote (a state dict, a checkpoint or a module), not an exported "
            f"program; {_EXPORT}"
        )
    if start[4:8] == b"TFL3":
        return "is a TensorFlow Lite model; give it the suffix .tflite"
    if start[:8] == b"\x89HDF\r\n\x1a\n":
        return "is an HDF5 file; a model that Keras saved has the suffix .h5 or .keras"
    if (
        re.fullmatch(r"\.data-\d+-of-\d+|\.meta", path.suffix)
        and path.with_suffix(".index").exists()
    ):
        return f"is a part of a checkpoint; give the path of {path.with_suffix('.index').name}"
    if start[:4] == b"\x89TVX":
        return "is a .tvx file; give it the suffix .tvx"
    return None


def recognized_folder(path: Path) -> str | None:
    """What a folder is that is none of ours, and what to do; None where it is not known."""
    if (path / "saved_model.pb").exists():
        return "is a SavedModel; save the model as .keras, or freeze its graph to a .pb file"
    indices = sorted(path.glob("*.index"))
    if indices:
        return f"holds checkpoints, but no file that names one; give the path of {indices[0].name}"
    return None


def is_program(path: Path) -> bool:
    """Whether a file is an exported program, whatever its name."""
    return zipfile.is_zipfile(path) and any(
        _has(path, part) for part in ("/archive_format", "serialized_exported_program.json")
    )


def _has(path: Path, ending: str) -> bool:
    """Whether a zip file has a part whose name ends so."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(f"/{name}".endswith(ending) for name in archive.namelist())
    except zipfile.BadZipFile:
        return False

"""What a file is that is no model file of ours: by its first bytes, whatever its name."""

from __future__ import annotations

import contextlib
import re
import zipfile
from pathlib import Path

from tinyvox.errors import ImporterError
from tinyvox.importers.wire import varint

_EXPORT = (
    "build the module, load its weights, then tinyvox.from_torch(module.eval(), example), or "
    "torch.export.save(torch.export.export(module.eval(), (example,)), 'NAME.pt2')"
)


_HEADER = 30
"""Bytes before the name of the first part of a zip file."""
_START = _HEADER + 512
"""Bytes at the beginning of a file that are looked at."""

_LANGUAGE_MODELS = (b"\x89TVL\r\n", b"mmap lm http://kheafield.com/code", b"\\data\\")
"""How language models begin: .tvlm, KenLM's binaries and scorers, ARPA."""

_TEXT = {
    rb"node\s*\{": "is a TensorFlow graph written as text; write it with "
    "tf.io.write_graph(graph, FOLDER, 'NAME.pb', as_text=False)",
    rb"ir_version\s*:": "is an ONNX model written as text; write it with onnx.save",
}
"""Files of protocol buffers as text, by how they begin."""


def recognized(path: Path) -> str | None:
    """What a file of another kind than its suffix says is, and what to do; None where it is not
    known, or the suffix is right."""
    with path.open("rb") as file:
        start = file.read(_START)
    return (
        _part_of_checkpoint(path)
        or _pickled(path, start)
        or _language_model(start)
        or _text(start)
        or _renamed(path, start)
    )


def _part_of_checkpoint(path: Path) -> str | None:
    part = re.fullmatch(r"\.data-\d+-of-\d+|\.meta", path.suffix)
    if part and path.with_suffix(".index").exists():
        return f"is a part of a checkpoint; give the path of {path.with_suffix('.index').name}"
    return None


def _pickled(path: Path, start: bytes) -> str | None:
    zipped = start[:4] == _ZIP and b"/data.pkl" in start[_HEADER:]
    if not zipped and not re.match(rb"\x80[\x01-\x05]", start):
        return None
    if zipped and _has(path, "/constants.pkl"):
        return (
            "holds a TorchScript module, not an exported program; "
            f"tinyvox.from_torch(torch.jit.load({path.name!r}), example) imports it"
        )
    return (
        "holds what torch.save wrote (a state dict, a checkpoint or a module), not an exported "
        f"program; {_EXPORT}"
    )


def _language_model(start: bytes) -> str | None:
    if not start.lstrip().startswith(_LANGUAGE_MODELS):
        return None
    return (
        "is a language model, expected an acoustic model; look at it with tinyvox lm inspect, "
        "use it with transcribe --lm or eval --lm"
    )


def _text(start: bytes) -> str | None:
    without_comments = re.sub(rb"\A(\s*#[^\n]*\n)*\s*", b"", start)
    return next((what for key, what in _TEXT.items() if re.match(key, without_comments)), None)


def _renamed(path: Path, start: bytes) -> str | None:
    """What a file of a kind that has an importer is, where its suffix is another's."""
    what, *suffixes = _kind(path, start)
    if not suffixes or path.suffix.lower() in suffixes:
        return None
    return f"is {what}; give it the suffix {' or '.join(suffixes)}"


def _kind(path: Path, start: bytes) -> tuple[str, ...]:
    """What a file is, and the suffixes for it; none where it is not known."""
    if start[4:8] == b"TFL3":
        return "a TensorFlow Lite model", ".tflite"
    if start[:8] == b"\x89HDF\r\n\x1a\n":
        return "an HDF5 file, as Keras saves models", ".h5", ".hdf5", ".keras"
    if start[:4] == b"\x89TVX":
        return "a .tvx file", ".tvx"
    if start[:4] == _ZIP:
        return _zipped_kind(path)
    if _is_onnx(start):
        return "an ONNX model", ".onnx"
    if _is_graph(start):
        return "a TensorFlow graph", ".pb", ".pbmm"
    return ("",)


def _zipped_kind(path: Path) -> tuple[str, ...]:
    if _is_program(path):
        return "an exported program", ".pt2"
    if _has(path, "/model.weights.h5"):
        return "a model that Keras saved", ".keras"
    return ("a file of NumPy arrays", ".npz") if _has(path, ".npy") else ("",)


def _is_onnx(start: bytes) -> bool:
    """Whether fields of an ONNX model begin a file: its version, texts on who wrote it, a graph."""
    place, seen = 0, False
    with contextlib.suppress(ImporterError):
        while place < len(start):
            key, place = varint(memoryview(start), place)
            size, place = varint(memoryview(start), place)
            if key == _GRAPH:
                return seen
            if key not in (*_NUMBERS, *_TEXTS):
                return False
            seen |= key == _VERSION
            place += size if key in _TEXTS else 0
    return False


_ZIP = b"PK\x03\x04"
_VERSION, _GRAPH = 1 << 3, 7 << 3 | 2
_NUMBERS = (_VERSION, 5 << 3)
_TEXTS = tuple(number << 3 | 2 for number in (2, 3, 4, 6, 8, 14))
"""Keys of the fields of ONNX's ModelProto: its format's version and the model's own; the producer
and its version, a domain, a text, versions of operators, metadata."""


def _is_graph(start: bytes) -> bool:
    """Whether a node of a TensorFlow graph begins a file: its name, then its operator."""
    name = rb"\n[\x01-\x7f]([A-Za-z0-9.][\w.\\/>-]*)\x12[\x01-\x7f][A-Z_]\w*"
    return re.match(rb"\n[\x80-\xff]*[\x00-\x7f]" + name, start) is not None


def recognized_folder(path: Path) -> str | None:
    """What a folder is that is none of ours, and what to do; None where it is not known."""
    if (path / "saved_model.pb").exists():
        return "is a SavedModel; save the model as .keras, or freeze its graph to a .pb file"
    indices = sorted(path.glob("*.index"))
    if indices:
        return f"holds checkpoints, but no file that names one; give the path of {indices[0].name}"
    return None


def _is_program(path: Path) -> bool:
    """Whether a file is an exported program, whatever its name."""
    return any(_has(path, part) for part in ("/archive_format", "serialized_exported_program.json"))


def _has(path: Path, ending: str) -> bool:
    """Whether a zip file has a part whose name ends so."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(f"/{name}".endswith(ending) for name in archive.namelist())
    except Exception:  # a damaged file raises many kinds
        return False

"""Any model file as a model, with its speech card."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tinyvox.errors import FileError, ImporterError, ModelError
from tinyvox.formats import tvx
from tinyvox.importers.keras import load_keras
from tinyvox.importers.onnx import data_files, load_onnx
from tinyvox.importers.recognition import recognized, recognized_folder
from tinyvox.importers.tensors import layers_path, load_tensors
from tinyvox.importers.tf_checkpoint import (
    BESIDE,
    checkpoint_files,
    is_checkpoint_folder,
    load_checkpoint,
)
from tinyvox.importers.tf_graph import load_graph
from tinyvox.importers.tflite import load_tflite
from tinyvox.importers.torch import load_pt2
from tinyvox.model import Model, SpeechCard, card_path, load_card


def _load_hdf5(path: Path) -> Model:
    """A model that Keras saved, or weights alone with the YAML that says what they are."""
    return load_tensors(path) if layers_path(path).exists() else load_keras(path)


IMPORTERS: dict[str, Callable[[Path], Model]] = {
    ".tvx": tvx.load,
    ".pt2": load_pt2,
    ".onnx": load_onnx,
    ".tflite": load_tflite,
    ".pb": load_graph,
    ".pbmm": load_graph,
    ".index": load_checkpoint,
    ".npz": load_tensors,
    ".safetensors": load_tensors,
    **dict.fromkeys((".h5", ".hdf5"), _load_hdf5),
    ".keras": load_keras,
}
"""The function that reads a file, by the file's suffix."""


def load(
    path: Path | str,
    card: SpeechCard | Path | str | None = None,
    max_memory: int | None = None,
) -> Model:
    """Read a model from a .tvx file, or import it from another tool's file.

    `card` is a speech card or the path of one. Without it, a .tvx file has its own card or none,
    and any other file has the card `NAME.speech.yaml` beside it or none. A .tvx file that holds
    more than `max_memory` bytes is refused; without it the limit is that of `tinyvox.open`. Raises
    FileError where a file is missing or damaged, ImporterError where it cannot be imported,
    ModelError where card and model do not fit, all with the file's name.
    """
    path = Path(path)
    importer = _importer(path)
    card = _card(path, card)
    try:
        model = tvx.load(path, max_memory) if importer is tvx.load else importer(path)
    except (FileError, ImporterError, ModelError) as error:
        if path.is_file() and (found := recognized(path)):
            raise ImporterError(f"{path}: {found}") from error
        raise
    try:
        return model if card is None else model.with_card(card)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error


def bytes_on_disk(path: Path) -> int:
    """The size of a model's file; where its weights lie in several, of all of them."""
    return sum(each.stat().st_size for each in _weight_files(path))


def model_files(path: Path) -> list[Path]:
    """The files that `load` reads: those with the weights, and what lies beside them for the model,
    such as its card. Raises as `load` does where some of them are missing."""
    found = _weight_files(path)
    if path.suffix.lower() == ".tvx":
        return found
    beside = [card_path(path), layers_path(path)]
    if _is_checkpoint(path):
        beside += [found[0].with_name(name) for name in BESIDE]
    return found + [each for each in beside if each.is_file()]


def _weight_files(path: Path) -> list[Path]:
    if _is_checkpoint(path):
        return checkpoint_files(path)
    return [path, *data_files(path)] if path.suffix.lower() == ".onnx" else [path]


def _is_checkpoint(path: Path) -> bool:
    return path.is_dir() or IMPORTERS.get(path.suffix.lower()) is load_checkpoint


def _card(path: Path, card: SpeechCard | Path | str | None) -> SpeechCard | None:
    """The card that a model gets besides the one in its file."""
    if isinstance(card, SpeechCard):
        return card
    if card is not None:
        return load_card(Path(card))
    beside = card_path(path)
    return load_card(beside) if path.suffix.lower() != ".tvx" and beside.exists() else None


def _importer(path: Path) -> Callable[[Path], Model]:
    """The function that reads this file. Raises FileError or ImporterError where there is none."""
    expected = f"expected a model file, {' or '.join(IMPORTERS)}"
    if path.is_dir() and is_checkpoint_folder(path):
        return load_checkpoint
    if path.is_dir():
        found = recognized_folder(path) or f"is a folder, {expected}"
        raise FileError(f"{path}: {found}")
    if path.is_char_device() or path.is_block_device():
        raise FileError(f"{path}: is a device, {expected}")
    if not path.exists():
        raise FileError(f"{path}: no such file; check the path")
    if path.suffix.lower() not in IMPORTERS:
        found = f"files {path.suffix}" if path.suffix else "files without a suffix"
        reason = f"tinyvox does not read {found}, {expected}"
        raise ImporterError(f"{path}: {recognized(path) or reason}")
    return IMPORTERS[path.suffix.lower()]

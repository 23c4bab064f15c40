"""Checkpoints of DeepSpeech and Coqui STT as models.

A checkpoint has no graph, only variables: the network is known by their names.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

import torch
from torch import Tensor

from tinyvox.errors import FileError, ImporterError, ModelError
from tinyvox.importers import deepspeech
from tinyvox.importers.tf_checkpoint.bundle import Bundle, read_bundle
from tinyvox.model import (
    INPUT,
    Activation,
    Cell,
    ContextWindow,
    Dense,
    Layer,
    Linear,
    LogSoftmax,
    Model,
    Node,
    Recurrent,
    SpeechCard,
)

CONTEXT = 9
"""Frames before and after the present one that the network sees."""
STATES = ("best_dev_checkpoint", "checkpoint")
"""Files of a folder that name a checkpoint, in the order in which the trainers choose."""
_DENSE = (1, 2, 3, 5, 6)
_CELLS = {
    "cudnn_lstm/rnn/multi_rnn_cell/cell_0/cudnn_compatible_lstm_cell": 0.0,
    "lstm_fused_cell": 1.0,
}
"""The names of the LSTM, and what the network adds to its forget gate."""
FLAGS, ALPHABET = BESIDE = "flags.txt", "alphabet.txt"
"""Files that may lie beside it: what it was trained with, its labels."""
_CLIP = 20.0
_NO_CARD = "no alphabet.txt lies beside the checkpoint, so the model has no speech card"
_IGNORED = re.compile(r"(.*/)?(Adam(_\d+)?|beta\d_power|global_step|learning_rate|epoch|\w*loss)")


def is_checkpoint_folder(path: Path) -> bool:
    """Whether a folder holds checkpoints, and a file that names one."""
    return any((path / name).is_file() for name in STATES)


def load_checkpoint(path: Path) -> Model:
    """Import a checkpoint of DeepSpeech or Coqui STT: its `.index` file, or its folder.

    An `alphabet.txt` beside it gives the speech card, with the settings of features that
    `flags.txt` names. Without it the model has no card. Raises FileError, ImporterError or
    ModelError with the file's name.
    """
    index = _named(path) if path.is_dir() else path
    try:
        bundle = read_bundle(index)
        flags = _flags(index.with_name(FLAGS))
        model = _network(bundle, flags.get("relu_clip", _CLIP))
        card = _card(index, model, flags)
    except ImporterError as error:
        raise ImporterError(f"{index}: {error}") from error
    except ModelError as error:
        raise ModelError(f"{index}: {error}") from error
    notes = {} if card else {"import_notes": [_NO_CARD]}
    model = model.with_provenance(source=index.name, **notes)
    return model if card is None else model.with_card(card)


def checkpoint_files(path: Path) -> list[Path]:
    """The files with the weights of a checkpoint, given as `load_checkpoint` takes it."""
    index = _named(path) if path.is_dir() else path
    return [index, *sorted(index.parent.glob(f"{glob.escape(index.stem)}.data-*-of-*"))]


def _named(folder: Path) -> Path:
    """The index that a folder of checkpoints names. Folders in the name are those of the machine
    on which it was written."""
    state = next(folder / name for name in STATES if (folder / name).is_file())
    found = re.match(r'model_checkpoint_path: "([^"\n]+)"', state.read_text("utf-8", "replace"))
    if found is None:
        raise FileError(f"{state}: names no checkpoint; give the path of the .index file")
    index = folder / f"{PureWindowsPath(found[1]).name}.index"
    if not index.is_file():
        raise FileError(f"{index}: no such file, though {state.name} names it; copy it there")
    return index


def _network(bundle: Bundle, clip: float) -> Model:
    """The network that DeepSpeech's variables belong to."""
    names = bundle.variables
    layers = [_names_of(number, names) for number in _DENSE]
    cell = next((name for name in _CELLS if f"{name}/kernel" in names), None)
    used = {name for pair in layers for name in pair}
    if cell is None or not used <= names.keys():
        raise ImporterError(f"is no checkpoint of DeepSpeech or Coqui STT; {_variables(names)}")
    used |= {f"{cell}/kernel", f"{cell}/bias"}
    unknown = [n for n in names if n not in used and not _IGNORED.fullmatch(n)]
    if unknown:
        raise ImporterError(f"has variables that are not understood: {', '.join(unknown[:5])}")
    one, two, three, five, six = (_linear(bundle, *pair) for pair in layers)
    relu = Activation("clipped_relu", clip)
    lstm = Recurrent("lstm", _cell(bundle, cell))
    return _chain(
        one.weight.shape[1],
        [
            ("layer_1", one), ("relu_1", relu), ("layer_2", two), ("relu_2", relu),
            ("layer_3", three), ("relu_3", relu), ("lstm", lstm), ("layer_5", five),
            ("relu_5", relu), ("layer_6", six), ("log_softmax", LogSoftmax()),
        ],
    )  # fmt: skip


def _names_of(number: int, names: Mapping[str, Any]) -> tuple[str, str]:
    """The variables of a layer; before version 0.5 they had short names."""
    old = f"h{number}", f"b{number}"
    return old if old[0] in names else (f"layer_{number}/weights", f"layer_{number}/bias")


def _variables(names: Mapping[str, Any]) -> str:
    shown = ", ".join(sorted(names)[:4]) or "none"
    return f"expected variables layer_1/weights and so on, found {shown}"


def _chain(width: int, layers: Sequence[tuple[str, Layer]]) -> Model:
    """These layers after a context window, whose width the first one has."""
    frames = 2 * CONTEXT + 1
    if width % frames:
        raise ImporterError(f"layer_1 takes {width} features, expected {frames} frames of some")
    nodes = [Node("context_window", ContextWindow(CONTEXT, CONTEXT), (INPUT,))]
    for name, layer in layers:
        nodes.append(Node(name, layer, (nodes[-1].name,)))
    return Model(width // frames, tuple(nodes))


def _linear(bundle: Bundle, weights: str, bias: str) -> Linear:
    return Linear(Dense(_matrix(bundle, weights).T.contiguous()), bundle.read(bias).float())


def _matrix(bundle: Bundle, name: str) -> Tensor:
    values = bundle.read(name).float()
    if values.ndim != 2:
        raise ImporterError(f"variable {name!r} has shape {list(values.shape)}, expected a matrix")
    return values


def _cell(bundle: Bundle, name: str) -> Cell:
    """The LSTM cell, whose gates are in the order i g f o."""
    kernel, bias = _matrix(bundle, f"{name}/kernel").T, bundle.read(f"{name}/bias").float()
    hidden = len(kernel) // 4
    if len(kernel) % 4 or bias.shape != kernel.shape[:1] or kernel.shape[1] <= hidden:
        raise ImporterError(f"{name!r} has weights {list(kernel.T.shape)}, expected an LSTM's")
    order = (0, 2, 1, 3)
    rows = torch.cat([torch.split(kernel, hidden)[i] for i in order])
    i, f, g, o = (torch.split(bias, hidden)[i] for i in order)
    return Cell(
        Dense(rows[:, :-hidden].contiguous()),
        Dense(rows[:, -hidden:].contiguous()),
        torch.cat([i, f + _CELLS[name], g, o]),
    )


def _flags(path: Path) -> dict[str, float]:
    """The settings of the trainer that say how features are computed: JSON or options."""
    if not path.is_file():
        return {}
    names = "audio_sample_rate|feature_win_len|feature_win_step|relu_clip"
    found = re.findall(rf'({names})"?\s*[=:]\s*(\d+(?:\.\d+)?)', path.read_text("utf-8", "replace"))
    return {name: float(value) for name, value in found}


def _card(index: Path, model: Model, flags: Mapping[str, float]) -> SpeechCard | None:
    """The speech card that `alphabet.txt` gives; None where there is none."""
    alphabet = index.with_name(ALPHABET)
    if not alphabet.is_file():
        return None
    labels, expected = deepspeech.labels_of_file(alphabet), model.signals[model.output].size - 1
    if len(labels) != expected:
        raise ImporterError(
            f"{alphabet.name} beside it has {len(labels)} labels, expected {expected}; put the one "
            "that it was trained with there"
        )
    numbers = {
        ours: int(flags[theirs])
        for theirs, ours in (
            ("audio_sample_rate", "metadata_sample_rate"),
            ("feature_win_len", "metadata_feature_win_len"),
            ("feature_win_step", "metadata_feature_win_step"),
        )
        if theirs in flags
    }
    return deepspeech.card_of(labels, numbers, {}, {"dct_coefficient_count": model.input_size})

"""What DeepSpeech and Coqui STT keep in their `.tflite` files beside the network."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from tinyvox.errors import ImporterError
from tinyvox.importers import deepspeech
from tinyvox.importers.tflite.file import FileTensor, Graph
from tinyvox.model import SpeechCard


def is_deepspeech(graph: Graph) -> bool:
    """Whether a file was exported by DeepSpeech 0.6 to 0.9, or by Coqui STT."""
    names = {graph.tensors[n].name for n in (*graph.inputs, *graph.outputs)}
    return {deepspeech.FEATURES, deepspeech.LOGITS} <= names


def card_of(graph: Graph) -> SpeechCard | None:
    """The speech card; None where the alphabet is bytes, which are no text one by one.

    Raises ImporterError where the file contradicts itself.
    """
    held = _metadata(graph)
    labels = _alphabet(held.get(deepspeech.ALPHABET))
    if labels is None:
        return None
    numbers = {
        name: int(tensor.data.reshape(-1)[0])
        for name, tensor in held.items()
        if isinstance(tensor.data, np.ndarray) and tensor.data.size == 1
    }
    settings = (_options(graph, operator) for operator in ("AudioSpectrogram", "Mfcc"))
    return deepspeech.card_of(labels, numbers, *settings)


def _metadata(graph: Graph) -> dict[str, FileTensor]:
    """The constants behind the outputs whose names begin with metadata."""
    found = {}
    for operation in graph.operations:
        name = graph.tensors[operation.outputs[0]].name if operation.outputs else ""
        if name.startswith("metadata_") and operation.inputs:
            found[name] = graph.tensors[operation.inputs[0]]
    constants = {t.name: t for t in graph.tensors if t.data is not None}
    return {**{k: v for k, v in constants.items() if k.startswith("metadata_")}, **found}


def _alphabet(tensor: FileTensor | None) -> tuple[str, ...] | None:
    """The labels; the tensor holds one string."""
    if tensor is None or not isinstance(tensor.data, bytes):
        return None
    try:
        count, start, end = struct.unpack_from("<iii", tensor.data)
    except struct.error as error:
        raise ImporterError(f"its alphabet is damaged ({error}); export it again") from error
    if count != 1:
        raise ImporterError(f"its alphabet is damaged ({count} strings); export it again")
    return deepspeech.labels_in(tensor.data[start:end])


def _options(graph: Graph, operator: str) -> dict[str, Any]:
    """The options of a custom operator, a map; empty where there is none."""
    from flatbuffers import flexbuffers

    for operation in graph.operations:
        if operation.name == operator:
            raw = operation.table.CustomOptionsAsNumpy()
            found = flexbuffers.Loads(bytes(raw)) if isinstance(raw, np.ndarray) else {}
            return found if isinstance(found, dict) else {}
    return {}

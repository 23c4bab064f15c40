"""What DeepSpeech and Coqui STT keep in their files beside the network: alphabet and features."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import ValidationError

from tinyvox.errors import ImporterError
from tinyvox.importers.tflite.file import FileTensor, Graph
from tinyvox.model import Features, SpeechCard

FEATURES, LOGITS = "input_node", "logits"
"""The names of the network's input and output."""
_BLANK = "<blank>"


def is_deepspeech(graph: Graph) -> bool:
    """Whether a file was exported by DeepSpeech 0.6 to 0.9, or by Coqui STT."""
    names = {graph.tensors[n].name for n in (*graph.inputs, *graph.outputs)}
    return {FEATURES, LOGITS} <= names


def card_of(graph: Graph) -> SpeechCard | None:
    """The speech card; None where the alphabet is bytes, which are no text one by one.

    Raises ImporterError where the file contradicts itself.
    """
    held = _metadata(graph)
    labels = _alphabet(held.get("metadata_alphabet"))
    if labels is None:
        return None
    rate = _number(held, "metadata_sample_rate", 16000)
    spectrogram, mfcc = _options(graph, "AudioSpectrogram"), _options(graph, "Mfcc")
    window, hop = (_milliseconds(held, key) for key in ("win_len", "win_step"))
    if spectrogram:
        window = 1000 * spectrogram.get("window_size", 512) / rate
        hop = 1000 * spectrogram.get("stride", 320) / rate
    try:
        features = Features(
            kind="deepspeech_mfcc",
            sample_rate=rate,
            window_ms=window,
            hop_ms=hop,
            bands=int(mfcc.get("filterbank_channel_count", 40)),
            coefficients=int(mfcc.get("dct_coefficient_count", 26)),
            low_hz=float(mfcc.get("lower_frequency_limit", 20)),
            high_hz=float(mfcc.get("upper_frequency_limit", rate / 2)),
        )
        return SpeechCard(features=features, tokens=(*labels, _BLANK), blank=len(labels))
    except ValidationError as error:
        said = error.errors()[0]
        raise ImporterError(f"its settings of features are refused: {said['msg']}") from error


def _metadata(graph: Graph) -> dict[str, FileTensor]:
    """The constants behind the outputs whose names begin with metadata."""
    found = {}
    for operation in graph.operations:
        name = graph.tensors[operation.outputs[0]].name if operation.outputs else ""
        if name.startswith("metadata_") and operation.inputs:
            found[name] = graph.tensors[operation.inputs[0]]
    constants = {t.name: t for t in graph.tensors if t.data is not None}
    return {**{k: v for k, v in constants.items() if k.startswith("metadata_")}, **found}


def _number(held: Mapping[str, FileTensor], name: str, otherwise: int) -> int:
    tensor = held.get(name)
    if tensor is None or not isinstance(tensor.data, np.ndarray) or tensor.data.size != 1:
        return otherwise
    return int(tensor.data.reshape(-1)[0])


def _milliseconds(held: Mapping[str, FileTensor], name: str) -> float:
    otherwise = {"win_len": 32, "win_step": 20}[name]
    return float(_number(held, f"metadata_feature_{name}", otherwise))


def _alphabet(tensor: FileTensor | None) -> tuple[str, ...] | None:
    """The labels: a count, then number, length and UTF-8 bytes of each, all whole numbers 16 bits
    wide. The tensor holds one string."""
    if tensor is None or not isinstance(tensor.data, bytes):
        return None
    try:
        count, start, end = struct.unpack_from("<iii", tensor.data)
        if count != 1:
            raise ValueError(f"{count} strings")
        return _labels(tensor.data[start:end])
    except (struct.error, ValueError) as error:
        raise ImporterError(f"its alphabet is damaged ({error}); export it again") from error


def _labels(text: bytes) -> tuple[str, ...] | None:
    (count,) = struct.unpack_from("<H", text)
    labels, place = {}, 2
    for _ in range(count):
        number, length = struct.unpack_from("<HH", text, place)
        labels[number] = text[place + 4 : place + 4 + length]
        place += 4 + length
    if sorted(labels) != list(range(count)):
        raise ValueError("labels are not numbered from 0")
    try:
        return tuple(labels[i].decode() for i in range(count))
    except UnicodeDecodeError:  # the alphabet of bytes
        return None


def _options(graph: Graph, operator: str) -> dict[str, Any]:
    """The options of a custom operator, a map; empty where there is none."""
    from flatbuffers import flexbuffers

    for operation in graph.operations:
        if operation.name == operator:
            raw = operation.table.CustomOptionsAsNumpy()
            found = flexbuffers.Loads(bytes(raw)) if isinstance(raw, np.ndarray) else {}
            return found if isinstance(found, dict) else {}
    return {}

"""What DeepSpeech and Coqui STT say of their networks beside the weights: alphabet and features."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tinyvox.errors import FileError, ImporterError
from tinyvox.model import Features, LogSoftmax, Model, Node, Softmax, SpeechCard

FEATURES, LOGITS = "input_node", "logits"
"""The names of the network's input and output."""
ALPHABET = "metadata_alphabet"
"""The name of the constant that holds the alphabet."""
_BLANK = "<blank>"


def card_of(
    labels: tuple[str, ...],
    numbers: Mapping[str, int],
    spectrogram: Mapping[str, Any],
    mfcc: Mapping[str, Any],
) -> SpeechCard:
    """The speech card. `numbers` are the constants whose names begin with metadata; `spectrogram`
    and `mfcc` the settings of the operators that compute the features; defaults are the exporters'.

    Raises ImporterError where they contradict each other.
    """
    rate = numbers.get("metadata_sample_rate", 16000)
    window: float = numbers.get("metadata_feature_win_len", 32)
    hop: float = numbers.get("metadata_feature_win_step", 20)
    if spectrogram and rate > 0:
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


def labels_in(text: bytes) -> tuple[str, ...] | None:
    """The labels of an alphabet as the exporters keep it: a count, then number, length and UTF-8
    bytes of each, all whole numbers 16 bits wide. None for the alphabet of bytes, which are no
    text one by one. Raises ImporterError where it is damaged."""
    try:
        (count,) = struct.unpack_from("<H", text)
        labels, place = {}, 2
        for _ in range(count):
            number, length = struct.unpack_from("<HH", text, place)
            labels[number] = text[place + 4 : place + 4 + length]
            place += 4 + length
        if sorted(labels) != list(range(count)):
            raise ValueError("labels are not numbered from 0")
    except (struct.error, ValueError) as error:
        raise ImporterError(f"its alphabet is damaged ({error}); export it again") from error
    try:
        return tuple(labels[i].decode() for i in range(count))
    except UnicodeDecodeError:
        return None


def labels_of_file(path: Path) -> tuple[str, ...]:
    r"""The labels of an `alphabet.txt`: one a line, `#` begins a remark, `\#` is the label #.

    Raises FileError where it cannot be read.
    """
    try:
        lines = path.read_text("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"{path}: cannot be read as UTF-8 text ({error})") from error
    labels = [line.rstrip("\r") for line in lines if not line.startswith("#")]
    return tuple("#" if label == "\\#" else label for label in labels if label)


def with_logarithm(model: Model) -> Model:
    """The model with the logarithm of its softmax, which a speech card speaks of."""
    last = model.nodes[-1]
    if not isinstance(last.layer, Softmax):
        return model
    node = Node(last.name, LogSoftmax(), last.inputs)
    return dataclasses.replace(model, nodes=(*model.nodes[:-1], node))

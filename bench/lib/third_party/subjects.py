"""The files, what speech they are tried on, and in which engine they run."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from lib.places import ROOT, SPEECH
from lib.third_party import features as front
from lib.third_party import judging
from lib.third_party.judging import Judge, Subjects
from tinyvox.model import Features
from tinyvox.runtime import extract_features
from tinyvox.speech import Utterance, read_manifest, read_utterance

Array = npt.NDArray[Any]
MODELS = ROOT.parent / "shared" / "models"
LETTERS = ("'", " ", *"abcdefghijklmnopqrstuvwxyz", "")
"""The characters of the Keras models; the last one is the blank."""
WORDS = {"yes": 2, "no": 3, "up": 4, "down": 5, "left": 6, "right": 7, "on": 8, "off": 9}
WORDS |= {"stop": 10, "go": 11}
"""The classes of the keyword spotters that the corpus has."""


@dataclass(frozen=True)
class Subject:
    """A file, and what it is tried on. `stepwise`: its engine takes one frame a call."""

    name: str
    file: str
    engine: str
    judge: Judge
    speech: Callable[[int], Subjects]
    settings: Mapping[str, str] = field(default_factory=dict)
    layers: str | None = None
    """The YAML of a file of named tensors."""
    stepwise: bool = False

    @property
    def path(self) -> Path:
        """Where the file lies."""
        return MODELS / self.file


def _utterances(manifest: str, count: int) -> list[Utterance]:
    return read_manifest(SPEECH / manifest)[:count]


def _audio(utterance: Utterance) -> Array:
    return read_utterance(utterance, front.RATE)


def _read_speech(extract: Callable[[Array], Array], count: int, like: int = 60) -> Subjects:
    """English sentences, normalized as the models' authors did, by other speech."""
    others = [extract(_audio(u)) for u in _utterances("librispeech/unlabelled.jsonl", like)]
    chosen = _utterances("librispeech/test-other.jsonl", count)
    found = front.normalized([extract(_audio(u)) for u in chosen], others)
    return Subjects(found, [u.text.lower() for u in chosen])


def spectrograms(count: int) -> Subjects:
    """For the models of vui-ctc."""
    return _read_speech(front.log_spectrogram, count)


def coefficients(count: int) -> Subjects:
    """For the models of librispeech-ctc-keras."""
    return _read_speech(front.speech_features_mfcc, count)


def noisy(count: int) -> Subjects:
    """Speech in white noise, 5 dB below it."""
    generator, found = np.random.default_rng(0), []
    for utterance in _utterances("librispeech/test-other.jsonl", count):
        audio = _audio(utterance)[: 6 * front.RATE]
        level = np.sqrt((audio**2).mean() / 10**0.5)
        noise = generator.standard_normal(len(audio)) * level
        found.append(front.magnitudes((audio + noise).astype(np.float32)))
    return Subjects(found, [None] * len(found))


def chunked(_: int) -> Subjects:
    """The recording that comes with the detector."""
    audio, rate = soundfile.read(MODELS / "silero" / "test.wav", dtype="float32")
    audio = audio if audio.ndim == 1 else audio.mean(1)
    audio = audio if rate == front.RATE else soxr.resample(audio, rate, front.RATE)
    return Subjects([front.chunks(audio[: 30 * front.RATE])], [None])


def keywords(coefficients: int, window_ms: float, hop_ms: float) -> Callable[[int], Subjects]:
    """One word in a second, by TensorFlow's MFCC."""
    settings = Features(
        window_ms=window_ms, hop_ms=hop_ms, coefficients=coefficients, high_hz=4000.0
    ).model_dump()

    def speech(count: int) -> Subjects:
        chosen = [u for u in read_manifest(SPEECH / "commands/test.jsonl") if u.text in WORDS]
        random.Random(0).shuffle(chosen)
        found = []
        for utterance in chosen[:count]:
            audio = _audio(utterance)[: front.RATE]
            padded = np.pad(audio, (0, front.RATE - len(audio)))
            found.append(extract_features(settings, padded))
        return Subjects(found, [WORDS[u.text] for u in chosen[:count]])

    return speech


def spelled(count: int) -> Subjects:
    """Words letter by letter, one-hot."""
    generator = np.random.default_rng(0)
    lengths = generator.integers(3, 12, count)
    found = [np.eye(29, dtype=np.float32)[generator.integers(0, 29, n)] for n in lengths]
    return Subjects(found, [None] * count)


G2P = """
input: 29
layers:
  - {name: embedding, embedding: {weight: enc_emb}}
  - name: encoder
    gru: {weight_ih: enc_w_ih, weight_hh: enc_w_hh, bias_ih: enc_b_ih, bias_hh: enc_b_hh}
"""


def _keras(name: str, file: str, speech: Callable[[int], Subjects]) -> Subject:
    judge = judging.characters(LETTERS, 28)
    return Subject(name, file, "keras_model", judge, speech, {"LAYER": "softmax"})


def _spotter(name: str, file: str, speech: Callable[[int], Subjects]) -> Subject:
    settings = {"INPUT": "Reshape:0", "OUTPUT": "labels_softmax:0", "FLAT": "1"}
    return Subject(name, file, "tensorflow_graph", judging.best_class, speech, settings)


SUBJECTS: Sequence[Subject] = (
    _keras("VUI GRU", "vui-ctc/adroit_model_1.h5", spectrograms),
    _keras("VUI conv + RNN", "vui-ctc/adroit_model_2.h5", spectrograms),
    _keras("LibriSpeech GRU", "librispeech-ctc-keras/model_5.h5", coefficients),
    _keras("LibriSpeech BiLSTM", "librispeech-ctc-keras/model_8.h5", coefficients),
    Subject("DTLN, TFLite", "dtln/model_1.tflite", "litert", judging.masked, noisy, stepwise=True),
    Subject("DTLN, ONNX", "dtln/model_1.onnx", "onnxruntime", judging.masked, noisy, stepwise=True),
    Subject(
        "silero VAD",
        "silero/silero_vad_16k_op15.onnx",
        "onnxruntime",
        judging.probability,
        chunked,
        {"sr": "16000"},
        stepwise=True,
    ),
    _spotter("ARM LSTM", "arm-kws/LSTM_M.pb", keywords(10, 40, 20)),
    _spotter("ARM GRU", "arm-kws/GRU_M.pb", keywords(10, 40, 20)),
    _spotter("ARM CRNN", "arm-kws/CRNN_L.pb", keywords(10, 40, 20)),
    Subject("g2p encoder", "g2p/checkpoint20.npz", "numpy", judging.encoding, spelled, {}, G2P),
)
"""All files but DeepSpeech's, which has a part of its own."""
